"""Saving what was read from a log."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Thread

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from cachescope import model
from cachescope.comparing import Evidence
from cachescope.metrics import update_reference
from cachescope.model import (
    BaseImage,
    BuiltImage,
    CacheTransfer,
    Outcome,
    StepKind,
    StepStatus,
)
from store.database import make_engine, reading, transaction
from store.models import (
    Base,
    Break,
    Build,
    BuildImage,
    Delivery,
    DirtyDay,
    Image,
    Instruction,
    Repository,
    Run,
    Step,
    StepText,
)
from store.queries import builds, readings, rollups
from store.queries.runs import RunFacts
from tests.factories import (
    MORNING,
    make_build,
    make_delivery,
    make_reading,
    make_repository,
    make_step,
    make_team,
    minutes,
    save_build,
)

FACTS = RunFacts(branch="main", commit_id="3f9c2ab", runner="ci-7", url="https://ci/1", provider="gitlab", job="build")


@pytest.fixture
def repository(session):
    return make_repository(session)


def load(session, build_id):
    session.expire_all()
    return session.get_one(Build, build_id)


def steps_of(session, build_id):
    return session.scalars(
        select(Step).where(Step.build_id == build_id).order_by(Step.position).execution_options(populate_existing=True)
    ).all()


def test_a_build_is_read_back_as_the_log_told_it(session, repository):
    build = make_build(
        make_step("[internal] load build definition from Dockerfile", kind=StepKind.INTERNAL, instruction=None),
        make_step("FROM node:20", digest="sha256:aa", transferred_bytes=5),
        make_step(
            "COPY . .", stage="build", platform="linux/amd64", digest="sha256:bb", inputs=("sha256:aa", "sha256:zz")
        ),
        make_step("RUN make", status=StepStatus.FAILED, error="exit code: 1", output_lines=7, started_seconds=0.5),
        builder="buildkit",
        started_at=MORNING.timestamp(),
        error="failed to solve",
        outcome=Outcome.FAILED,
        context_bytes=123,
        images=(BuiltImage(digest="sha256:cc", tags=("acme/api:1",), target=None),),
        cache_imports=(CacheTransfer(ref="acme/api:cache", succeeded=True, seconds=0.4),),
        base_images=(BaseImage(reference="node:20", digest="sha256:dd"),),
        warnings=("JSONArgsRecommended",),
        line=3,
    )
    (build_id,) = save_build(session, repository, build)
    read = builds.load_build(session, load(session, build_id))
    inputs = [step.inputs for step in read.steps]
    assert inputs == [(), (), ("sha256:aa", ""), ()]
    assert replace(read, steps=tuple(replace(step, inputs=()) for step in read.steps)) == replace(
        build, steps=tuple(replace(step, inputs=()) for step in build.steps)
    )


def test_a_build_keeps_what_its_run_said(session, repository):
    (build_id,) = save_build(
        session, repository, **{name: getattr(FACTS, name) for name in ("commit_id", "runner", "url")}
    )
    build = load(session, build_id)
    run = session.get_one(Run, build.run_id)
    assert (build.commit_id, build.runner, build.branch, run.url) == ("3f9c2ab", "ci-7", "main", "https://ci/1")


def test_figures_are_those_of_the_library(session, repository):
    (build_id,) = save_build(
        session,
        repository,
        make_build(
            make_step("COPY a .", cached=True), make_step("RUN one", seconds=4.0), make_step("RUN two", cached=None)
        ),
    )
    build = load(session, build_id)
    assert (build.cacheable, build.hits, build.misses, build.unknown, build.seconds_spent) == (3, 1, 1, 1, 4.0)
    assert (build.seconds_avoided, build.avoided_unknown) == (None, 1)


def test_a_hit_is_worth_what_its_instruction_cost_before(session, repository):
    save_build(session, repository, make_build(make_step("RUN make", seconds=10.0)))
    save_build(session, repository, make_build(make_step("RUN make", seconds=20.0)), at=MORNING + minutes(1))
    (hit,) = save_build(session, repository, make_build(make_step("RUN make", cached=True)), at=MORNING + minutes(2))
    assert load(session, hit).seconds_avoided == update_reference(10.0, 20.0) == 14.0
    assert [step.reference_seconds for step in steps_of(session, hit)] == [14.0]


def test_a_failed_execution_says_nothing_about_the_cost(session, repository):
    save_build(session, repository, make_build(make_step("RUN make", seconds=1.0, status=StepStatus.FAILED)))
    assert session.scalars(select(Instruction.reference_seconds)).all() == [None]


def test_the_baseline_is_the_latest_success_of_the_image_on_the_branch(session, repository):
    (old,) = save_build(session, repository, at=MORNING)
    (good,) = save_build(session, repository, at=MORNING + minutes(1))
    save_build(session, repository, make_build(outcome=Outcome.FAILED), at=MORNING + minutes(2))
    save_build(session, repository, at=MORNING + minutes(3), branch="feature")
    save_build(session, repository, at=MORNING + minutes(3), image="other")
    save_build(session, repository, at=MORNING + minutes(9))
    (build_id,) = save_build(session, repository, at=MORNING + minutes(4))
    assert load(session, build_id).baseline_build_id == good
    assert load(session, good).baseline_build_id == old


def test_a_new_branch_is_compared_with_what_it_was_forked_from(session, repository):
    save_build(session, repository, at=MORNING)
    (release,) = save_build(session, repository, at=MORNING + minutes(1), branch="release")
    save_build(session, repository, at=MORNING + minutes(2))
    (build_id,) = save_build(
        session, repository, at=MORNING + minutes(3), branch="fix", pull_request="7", base_branch="release"
    )
    assert load(session, build_id).baseline_build_id == release


def test_a_new_branch_of_unknown_origin_is_compared_with_the_default_branch(session, repository):
    (main,) = save_build(session, repository, at=MORNING)
    save_build(session, repository, at=MORNING + minutes(1), branch="other")
    (build_id,) = save_build(session, repository, at=MORNING + minutes(2), branch="fix")
    assert load(session, build_id).baseline_build_id == main


def test_the_main_branch_of_a_fork_is_no_baseline_of_ours(session, repository):
    (ours,) = save_build(session, repository, at=MORNING)
    save_build(session, repository, at=MORNING + minutes(1), branch="main", pull_request="7")
    (build_id,) = save_build(session, repository, at=MORNING + minutes(2))
    assert load(session, build_id).baseline_build_id == ours


def test_the_first_build_of_an_image_has_no_baseline_and_breaks_as_such(session, repository):
    (build_id,) = save_build(session, repository)
    build = load(session, build_id)
    found = session.scalars(select(Break).where(Break.build_id == build_id)).all()
    assert build.baseline_build_id is None
    assert [(b.position, b.cause) for b in found] == [(0, "first_build")]


def test_a_break_and_its_cascade_are_marked_on_the_steps(session, repository):
    save_build(session, repository)
    (build_id,) = save_build(
        session,
        repository,
        make_build(make_step("COPY . .", seconds=1.0), make_step("RUN make", seconds=10.0)),
        at=MORNING + minutes(1),
    )
    steps = steps_of(session, build_id)
    build = load(session, build_id)
    (found,) = session.scalars(select(Break).where(Break.build_id == build_id)).all()
    assert [(step.is_break, step.break_position) for step in steps] == [(True, None), (False, 0)]
    assert {(step.cause, step.expected) for step in steps} == {(found.cause, found.expected)}
    assert (found.cascade, found.cost_seconds, found.own_seconds) == ([1], 11.0, 1.0)
    assert (found.instruction_id, found.image_id) == (steps[0].instruction_id, steps[0].image_id)
    assert build.headline_break["instruction"] == "COPY . ."
    assert build.headline_break["cost_seconds"] == 11.0


def test_a_fully_warm_build_breaks_nowhere(session, repository):
    save_build(session, repository)
    (build_id,) = save_build(
        session,
        repository,
        make_build(make_step("COPY . .", cached=True), make_step("RUN make", cached=True)),
        at=MORNING + minutes(1),
    )
    build = load(session, build_id)
    assert (build.headline_break, build.lost_seconds, build.rebuild_seconds) == (None, 0.0, 0.0)


@pytest.mark.parametrize(
    ("facts", "branch_class"),
    [
        ({"branch": "main"}, "default"),
        ({"branch": None}, "default"),
        ({"branch": "fix"}, "branch"),
        ({"branch": "main", "pull_request": "7"}, "pull_request"),
    ],
)
def test_builds_are_sorted_into_branch_classes(session, repository, facts, branch_class):
    (build_id,) = save_build(session, repository, **facts)
    assert load(session, build_id).branch_class == branch_class


def test_the_first_build_on_a_usual_name_tells_the_default_branch(session, repository):
    save_build(session, repository, branch="fix")
    save_build(session, repository, branch="master")
    assert session.get_one(Repository, repository.id).default_branch == "master"
    save_build(session, repository, branch="trunk")
    assert session.get_one(Repository, repository.id).default_branch == "master"


def test_what_ci_says_about_the_default_branch_is_believed(session, repository):
    (build_id,) = save_build(session, repository, branch="develop")
    save_build(session, repository, branch="fix", default_branch="develop")
    assert load(session, build_id).branch_class == "default"


@pytest.mark.parametrize(
    ("printed", "run_started_at", "expected"),
    [
        (MORNING - minutes(5), MORNING - minutes(9), (MORNING - minutes(5), "log")),
        (None, MORNING - minutes(9), (MORNING - minutes(9), "run")),
        (None, None, (MORNING, "delivery")),
        (datetime(1970, 1, 2, tzinfo=UTC), None, (MORNING, "delivery")),
        (MORNING + timedelta(days=400), MORNING - minutes(9), (MORNING - minutes(9), "run")),
    ],
)
def test_a_build_starts_when_the_log_else_the_run_else_the_delivery_says(
    session, repository, printed, run_started_at, expected
):
    build = make_build(started_at=printed.timestamp() if printed else None, duration_seconds=60.0)
    (build_id,) = save_build(session, repository, build, started_at=run_started_at)
    stored = load(session, build_id)
    assert (stored.started_at, stored.started_from) == expected
    assert stored.finished_at == stored.started_at + minutes(1)
    assert stored.day == stored.started_at.date()


def test_a_start_that_the_log_did_not_print_is_not_read_back_from_it(session, repository):
    (build_id,) = save_build(session, repository, make_build(started_at=None))
    assert builds.load_build(session, load(session, build_id)).started_at is None


def test_ci_says_how_a_log_ended_that_just_stops(session, repository):
    cut, whole = make_build(outcome=Outcome.INCOMPLETE), make_build(outcome=Outcome.SUCCEEDED)
    ids = save_build(session, repository, cut, whole, outcome="canceled")
    assert [load(session, build_id).outcome for build_id in ids] == ["canceled", "succeeded"]


def images_of(session):
    return {(image.dockerfile, image.target, image.platform, image.name) for image in session.scalars(select(Image))}


def test_an_image_is_named_by_what_ci_says(session, repository):
    save_build(session, repository, image="api", dockerfile="./services/api/Dockerfile")
    assert images_of(session) == {("services/api/Dockerfile", "", "", "api")}


def test_an_image_is_told_apart_by_the_file_that_buildkit_loads(session, repository):
    for file in ("Dockerfile", "web.Dockerfile"):
        text = f"[internal] load build definition from {file}"
        save_build(
            session,
            repository,
            make_build(make_step(text, kind=StepKind.INTERNAL, instruction=None), make_step("RUN a")),
        )
    assert images_of(session) == {("Dockerfile", "", "", "acme/api"), ("web.Dockerfile", "", "", "web.Dockerfile")}


def test_each_target_and_platform_is_an_image_with_its_own_figures(session, repository):
    steps = [
        make_step("RUN a", target="web", platform="linux/amd64", seconds=3.0),
        make_step("RUN a", target="web", platform="linux/arm64", cached=True),
        make_step("RUN b", target="api", platform="linux/amd64", seconds=5.0),
    ]
    built = (BuiltImage(digest="sha256:aa", tags=("web:1",), target="web"), BuiltImage(tags=("api:1",), target="api"))
    (build_id,) = save_build(session, repository, make_build(*steps, images=built))
    figures = {
        (row.image.target, row.image.platform): (row.hits, row.misses, row.seconds_spent, row.tags)
        for row in builds.load_images_of_build(session, build_id)
    }
    assert figures == {
        ("web", "linux/amd64"): (0, 1, 3.0, ["web:1"]),
        ("web", "linux/arm64"): (1, 0, 0.0, ["web:1"]),
        ("api", "linux/amd64"): (0, 1, 5.0, ["api:1"]),
    }
    build = load(session, build_id)
    assert (build.hits, build.misses, build.seconds_spent) == (1, 2, 8.0)


def test_a_bake_file_whose_targets_load_different_dockerfiles_gives_each_its_own(session, repository):
    def load_definition(target, file):
        return make_step(
            f"[{target} internal] load build definition from {file}",
            kind=StepKind.INTERNAL,
            instruction=None,
            target=target,
        )

    one = [load_definition("web", "web.Dockerfile"), load_definition("api", "api.Dockerfile")]
    work = [make_step("RUN a", target="web"), make_step("RUN b", target="api")]
    save_build(session, repository, make_build(*one, *work))
    save_build(session, repository, make_build(*reversed(one), *work), at=MORNING + minutes(1))
    assert images_of(session) == {("web.Dockerfile", "web", "", "web"), ("api.Dockerfile", "api", "", "api")}


def test_builds_of_one_log_are_told_apart_by_their_tags(session, repository):
    ids = save_build(
        session,
        repository,
        make_build(make_step("RUN a"), images=(BuiltImage(tags=("registry:5000/acme/web:1",)),)),
        make_build(make_step("RUN b"), images=(BuiltImage(tags=("acme/api@sha256:aa",)),)),
    )
    assert [load(session, build_id).position for build_id in ids] == [0, 1]
    assert images_of(session) == {("", "web", "", "web"), ("", "api", "", "api")}


def test_a_build_without_instructions_has_no_image(session, repository):
    error = make_build(
        make_step("[internal] load build definition", kind=StepKind.INTERNAL, instruction=None), outcome=Outcome.FAILED
    )
    (build_id,) = save_build(session, repository, error)
    assert builds.load_images_of_build(session, build_id) == []


def test_a_text_is_stored_once_for_a_repository(session, repository):
    for number in range(3):
        save_build(session, repository, at=MORNING + minutes(number))
    assert session.scalar(select(func.count()).select_from(StepText)) == 2
    assert session.scalar(select(func.count()).select_from(Instruction)) == 2


def test_two_runs_are_one_only_where_ci_gave_their_address(session, repository):
    ids = [
        save_build(session, repository, job="build", url=url)[0] for url in ("https://ci/1", "https://ci/1", None, None)
    ]
    runs = [load(session, build_id).run_id for build_id in ids]
    assert runs[0] == runs[1]
    assert len(set(runs)) == 3


def test_a_run_learns_what_an_earlier_delivery_did_not_say(session, repository):
    save_build(session, repository, url="https://ci/1")
    (build_id,) = save_build(session, repository, url="https://ci/1", actor="renovate[bot]", commit_id="3f9c2ab")
    run = session.get_one(Run, load(session, build_id).run_id)
    assert (run.actor, run.commit_id) == ("renovate[bot]", "3f9c2ab")


def test_the_delivery_says_what_was_read(session, repository):
    delivery = make_delivery(session, repository)
    reading = make_reading(make_build(), wrapper="gitlab", lines=812, warnings=("cut",))
    readings.save_reading(session, delivery, repository, reading, FACTS, read_with="0.1.0")
    session.expire(delivery)
    assert (delivery.wrapper, delivery.lines, delivery.warnings, delivery.read_with) == (
        "gitlab",
        812,
        ["cut"],
        "0.1.0",
    )


def test_a_log_without_a_build_saves_none(session, repository):
    delivery = make_delivery(session, repository)
    assert readings.save_reading(session, delivery, repository, make_reading(), FACTS) == []
    assert session.scalars(select(Run)).all() == []


def test_a_delivery_of_another_team_is_refused(session, repository):
    stranger = make_repository(session, "other", make_team(session, "other"))
    with pytest.raises(ValueError, match="different teams"):
        readings.save_reading(session, make_delivery(session, stranger), repository, make_reading(make_build()), FACTS)


def test_numbers_that_no_build_can_have_are_left_out(session, repository):
    build = make_build(
        make_step("RUN a", number=10**18, line=10**12, seconds=float("inf")),
        context_bytes=10**30,
        duration_seconds=1e300,
    )
    (build_id,) = save_build(session, repository, build)
    stored = load(session, build_id)
    (step,) = steps_of(session, build_id)
    assert (stored.context_bytes, stored.duration_seconds, step.number, step.duration_seconds) == (
        None,
        None,
        None,
        None,
    )


def test_hostile_text_is_saved(session, repository):
    nasty = "RUN \0\ud800 " + "x" * 100_000
    build = make_build(make_step(nasty, error="\0", stage="\ud800"), error="\0", warnings=("\0\udfff",))
    (build_id,) = save_build(session, repository, build, branch="b\0", runner="\ud800")
    assert steps_of(session, build_id)[0].error == "�"


NAMES = st.none() | st.text(st.characters(codec=None), max_size=12)
NUMBERS = st.none() | st.integers(-(2**70), 2**70)
SECONDS = st.none() | st.floats(allow_nan=True, allow_infinity=True)
STEPS = st.builds(
    model.Step,
    kind=st.sampled_from(StepKind),
    text=st.text(st.characters(codec=None), max_size=20) | st.sampled_from(["RUN a", "FROM b", "COPY --from=0 a b"]),
    status=st.sampled_from(StepStatus),
    cached=st.sampled_from([None, True, False]),
    cacheable=st.booleans(),
    number=NUMBERS,
    target=NAMES,
    stage=NAMES,
    platform=st.sampled_from([None, "linux/amd64", "linux/arm64"]),
    index=NUMBERS,
    total=NUMBERS,
    instruction=st.sampled_from([None, "RUN", "FROM", "COPY"]),
    started_seconds=SECONDS,
    duration_seconds=SECONDS,
    digest=NAMES,
    error=NAMES,
    output_lines=st.integers(0, 2**40),
    line=NUMBERS,
    inputs=st.lists(st.text(max_size=3), max_size=3).map(tuple),
    transferred_bytes=NUMBERS,
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    found=st.lists(
        st.builds(
            make_build,
            *[STEPS] * 4,
            outcome=st.sampled_from(Outcome),
            error=NAMES,
            started_at=SECONDS,
            duration_seconds=SECONDS,
            context_bytes=NUMBERS,
        ),
        max_size=3,
    ),
    branch=NAMES,
)
def test_whatever_a_parser_finds_is_saved_and_summed_up(session, repository, found, branch):
    delivery = make_delivery(session, repository)
    for _ in range(2):
        ids = readings.save_reading(session, delivery, repository, make_reading(*found), RunFacts(branch=branch))
        assert [len(steps_of(session, build_id)) for build_id in ids] == [len(build.steps) for build in found]
    rollups.recompute_dirty_days(session)
    assert rollups.list_dirty_days(session) == []


def test_the_parameters_of_a_delivery_tell_the_facts_of_its_run():
    parameters = {
        "ci": "gitlab",
        "job": "build",
        "attempt": 2,
        "run_url": "https://ci/1",
        "commit": "3f9c2ab",
        "branch": "fix",
        "base_branch": "main",
        "pull_request": 7,
        "runner": "ci-7",
        "image": "api",
        "dockerfile": "Dockerfile",
        "outcome": "failed",
        "default_branch": "main",
        "started_at": "2026-11-20T09:00:00+01:00",
    }
    assert RunFacts.from_parameters(parameters) == RunFacts(
        provider="gitlab",
        job="build",
        attempt=2,
        url="https://ci/1",
        commit_id="3f9c2ab",
        branch="fix",
        base_branch="main",
        pull_request="7",
        runner="ci-7",
        image="api",
        dockerfile="Dockerfile",
        outcome="failed",
        default_branch="main",
        started_at=MORNING,
    )


@pytest.mark.parametrize("value", [None, "", "yesterday", "2026-11-20T09:00:00", 12])
def test_a_start_without_a_zone_is_as_good_as_not_told(value):
    assert RunFacts.from_parameters({"started_at": value}) == RunFacts()


# Reading again


def dump(session):
    """Every row of every table but the marks of days and times of creation."""
    session.flush()
    rows = {}
    for table in Base.metadata.sorted_tables:
        if table.name in ("dirty_days", "deliveries"):
            continue
        columns = [column for column in table.columns if column.name not in ("created_at", "marked_at")]
        rows[table.name] = sorted(str(tuple(row)) for row in session.execute(select(*columns)))
    return rows


def read_again(session, repository, build_id, *found, **facts):
    delivery = session.get_one(Delivery, load(session, build_id).delivery_id)
    return readings.save_reading(
        session, delivery, repository, make_reading(*found), RunFacts(**{"branch": "main"} | facts)
    )


def test_reading_a_log_again_changes_nothing(session, repository):
    made = [
        make_build(make_step("COPY . .", seconds=1.5), make_step("RUN make", seconds=seconds))
        for seconds in (10, 30, 5)
    ]
    ids = [save_build(session, repository, build, at=MORNING + minutes(at))[0] for at, build in enumerate(made)]
    rollups.recompute_dirty_days(session)
    before = dump(session)
    for build_id, build in zip(ids, made, strict=True):
        assert read_again(session, repository, build_id, build) == [build_id]
    rollups.recompute_dirty_days(session)
    assert dump(session) == before


def test_a_better_reading_replaces_the_build_in_place(session, repository):
    (build_id,) = save_build(session, repository, make_build(make_step("RUN mkae")))
    (again,) = read_again(session, repository, build_id, make_build(make_step("COPY . ."), make_step("RUN make")))
    session.expire_all()
    assert again == build_id
    assert [text for _, text in builds.load_steps(session, build_id)] == ["COPY . .", "RUN make"]


def test_builds_that_a_second_reading_does_not_find_are_deleted(session, repository):
    first, second = save_build(session, repository, make_build(), make_build())
    (follower,) = save_build(session, repository, at=MORNING + minutes(5))
    assert load(session, follower).baseline_build_id == second
    assert read_again(session, repository, first, make_build()) == [first]
    assert load(session, follower).baseline_build_id is None
    assert session.get(Build, second) is None


def test_builds_that_a_second_reading_finds_are_added(session, repository):
    (first,) = save_build(session, repository)
    ids = read_again(session, repository, first, make_build(), make_build())
    assert ids[0] == first
    assert [load(session, build_id).position for build_id in ids] == [0, 1]


def test_a_second_reading_without_builds_takes_them_away(session, repository):
    (build_id,) = save_build(session, repository)
    assert read_again(session, repository, build_id) == []
    rollups.recompute_dirty_days(session)
    left = Counter(
        {table: session.scalar(select(func.count()).select_from(table)) for table in (Build, Step, Break, BuildImage)}
    )
    assert left.total() == 0
    assert session.scalars(select(Instruction.reference_seconds)).all() == [None, None]


def test_days_before_and_after_a_second_reading_are_marked(session, repository):
    (build_id,) = save_build(session, repository, make_build(started_at=(MORNING - timedelta(days=3)).timestamp()))
    rollups.recompute_dirty_days(session)
    read_again(session, repository, build_id, make_build(started_at=(MORNING - timedelta(days=1)).timestamp()))
    marked = session.scalars(select(DirtyDay.day).order_by(DirtyDay.day)).all()
    assert marked == [(MORNING - timedelta(days=days)).date() for days in (3, 1)]


def test_the_reference_cost_does_not_count_an_execution_twice(session, repository):
    (build_id,) = save_build(session, repository, make_build(make_step("RUN make", seconds=10.0)))
    save_build(session, repository, make_build(make_step("RUN make", seconds=20.0)), at=MORNING + minutes(1))
    read_again(session, repository, build_id, make_build(make_step("RUN make", seconds=30.0)))
    (instruction,) = session.scalars(select(Instruction).execution_options(populate_existing=True)).all()
    assert (instruction.reference_seconds, instruction.executions) == (update_reference(30.0, 20.0), 2)


def test_more_evidence_changes_the_cause(session, repository):
    save_build(session, repository)
    (build_id,) = save_build(session, repository, at=MORNING + minutes(1))
    build = load(session, build_id)
    rollups.recompute_dirty_days(session)
    readings.compare_again(
        session,
        build,
        Evidence(command_before=("docker", "build", "."), command_after=("docker", "build", "--no-cache", ".")),
    )
    found = session.scalars(select(Break).where(Break.build_id == build_id)).all()
    assert {b.cause for b in found} == {"no_cache_requested"}
    assert {step.cause for step in steps_of(session, build_id)} == {"no_cache_requested"}
    assert load(session, build_id).headline_break["cause"] == "no_cache_requested"
    assert session.scalars(select(DirtyDay.day)).all() == [MORNING.date()]


def test_logs_of_one_repository_that_are_saved_at_once_share_instructions(engine):
    with transaction(engine) as session:
        repository_id = make_repository(session).id
    errors = []

    def save(number: int) -> None:
        own = make_engine(engine.url)
        try:
            for at in range(5):
                with transaction(own) as session:
                    repository = session.get_one(Repository, repository_id)
                    save_build(session, repository, at=MORNING + minutes(number * 10 + at))
        except Exception as error:  # noqa: BLE001 - handed to the test
            errors.append(error)
        own.dispose()

    threads = [Thread(target=save, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with reading(engine) as session:
        instructions = session.execute(select(Instruction.text, Instruction.executions)).all()
        assert sorted(map(tuple, instructions)) == [("COPY . .", 20), ("RUN make", 20)]
        assert session.scalar(select(func.count()).select_from(Build)) == 20
