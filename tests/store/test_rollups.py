"""Daily sums: the same after retries, re-reading and deletion as if they were counted from scratch."""

from datetime import date, timedelta
from threading import Event, Thread

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select

from cachescope.metrics import BuildRecord, Summary, summarize
from cachescope.model import CacheTransfer, Outcome
from store.database import make_engine, reading, transaction
from store.models import Break, Build, DailyBuilds, DailyImages, DailyInstructions, DirtyDay, Repository
from store.queries import builds, repositories, rollups
from tests.factories import MORNING, make_build, make_repository, make_step, make_team, minutes, save_build

DAY = MORNING.date()
ALL = ("default", "branch", "pull_request")
SUMMARY = tuple(Summary.__dataclass_fields__)


@pytest.fixture
def repository(session):
    return make_repository(session)


def rows(session, *tables):
    found = {}
    for table in tables or (DailyBuilds, DailyImages, DailyInstructions):
        found[table.__tablename__] = sorted(
            str(tuple(row)) for row in session.execute(select(*table.__table__.columns))
        )
    return found


def recompute_everything(session, repository):
    for table in (DailyBuilds, DailyImages, DailyInstructions, DirtyDay):
        session.execute(delete(table))
    rollups.mark_all_days(session, repository.id)
    rollups.recompute_dirty_days(session)


def save_some(session, repository):
    """Builds of two days, three branch classes, failed ones, hits of known and of unknown cost."""
    for number in range(12):
        steps = (
            make_step("COPY . .", seconds=1.25, cached=number % 3 == 0),
            make_step("RUN make", seconds=10.0 + number, cached=number % 4 == 1),
        )
        save_build(
            session,
            repository,
            make_build(
                *steps,
                outcome=(Outcome.SUCCEEDED, Outcome.SUCCEEDED, Outcome.FAILED)[number % 3],
                duration_seconds=20.0 + number,
                cache_imports=(CacheTransfer(ref="x", succeeded=True, seconds=0.25),),
            ),
            at=MORNING + timedelta(hours=5 * number),
            branch=("main", "main", "fix")[number % 3],
            pull_request="7" if number % 5 == 0 else None,
        )


def summary_of_builds(session, classes=ALL, first=DAY, last=DAY + timedelta(days=9)):
    """The library's own summary, from the builds themselves."""
    chosen = session.scalars(
        select(Build).where(Build.branch_class.in_(classes), Build.day.between(first, last)).order_by(Build.id)
    ).all()
    return summarize(
        BuildRecord(
            outcome=Outcome(build.outcome),
            hits=build.hits,
            misses=build.misses,
            unknown=build.unknown,
            seconds_spent=build.seconds_spent,
            seconds_avoided=build.seconds_avoided or 0.0,
            avoided_unknown=build.avoided_unknown,
            lost_seconds=build.lost_seconds or 0.0,
            rebuild_seconds=build.rebuild_seconds or 0.0,
            overhead_seconds=build.overhead_seconds,
        )
        for build in chosen
    )


@pytest.mark.parametrize("classes", [ALL, ("default",), ("branch", "pull_request")])
def test_the_sum_of_days_is_the_summary_of_their_builds(session, repository, classes):
    save_some(session, repository)
    rollups.recompute_dirty_days(session)
    period = rollups.load_period(session, repository.id, DAY, DAY + timedelta(days=9), branch_classes=classes)
    expected = summary_of_builds(session, classes)
    assert {name: getattr(period, name) for name in SUMMARY} == pytest.approx(
        {name: getattr(expected, name) for name in SUMMARY}, abs=5e-4
    )


def test_each_day_is_summed_for_itself(session, repository):
    save_some(session, repository)
    rollups.recompute_dirty_days(session)
    days = rollups.load_days(session, repository.id, DAY, DAY + timedelta(days=9), branch_classes=ALL)
    assert [day for day, _ in days] == [DAY, DAY + timedelta(days=1), DAY + timedelta(days=2)]
    for day, period in days:
        assert period.builds == summary_of_builds(session, ALL, day, day).builds


def test_only_the_default_branch_is_shown_unless_asked(session, repository):
    save_build(session, repository)
    save_build(session, repository, branch="fix")
    rollups.recompute_dirty_days(session)
    assert rollups.load_period(session, repository.id, DAY, DAY).builds == 1


def test_failed_builds_count_for_lost_time_only(session, repository):
    save_build(session, repository, make_build(outcome=Outcome.FAILED))
    for found in session.scalars(select(Break)):
        found.expected = False
    rollups.recompute_dirty_days(session)
    period = rollups.load_period(session, repository.id, DAY, DAY)
    assert (period.builds, period.failed, period.misses, period.hit_rate) == (1, 1, 0, None)
    assert period.lost_seconds == 11.0


def test_the_cost_of_a_break_goes_where_its_expectation_says(session, repository):
    for _ in range(3):
        save_build(session, repository)
    session.execute(delete(Break))
    for number, (expected, cost) in enumerate([(True, 1.0), (False, 2.0), (None, 4.0)], 1):
        build_id = session.scalars(select(Build.id).order_by(Build.id)).all()[number - 1]
        session.add(
            Break(
                build_id=build_id,
                position=0,
                repository_id=repository.id,
                day=DAY,
                branch_class="default",
                cause="unknown",
                expected=expected,
                cost_seconds=cost,
            )
        )
    session.flush()
    rollups.recompute_dirty_days(session)
    period = rollups.load_period(session, repository.id, DAY, DAY)
    assert (period.rebuild_seconds, period.lost_seconds, period.unexplained_seconds) == (1.0, 2.0, 4.0)


def test_misses_that_no_log_times_leave_the_time_spent_unknown(session, repository):
    save_build(session, repository, make_build(make_step("RUN make", duration_seconds=None)))
    save_build(session, repository, make_build(make_step("RUN make", cached=True)), at=MORNING + timedelta(days=1))
    rollups.recompute_dirty_days(session)
    period = rollups.load_period(session, repository.id, DAY, DAY + timedelta(days=1))
    assert (period.misses, period.seconds_spent, period.cache_efficiency) == (1, None, None)


def test_a_period_without_builds_says_so(session, repository):
    period = rollups.load_period(session, repository.id, DAY, DAY)
    assert (period.builds, period.hit_rate, period.hit_rate_median, period.duration_median) == (0, None, None, None)
    assert period.last_build_id is None


def test_a_build_of_two_images_is_one_build_and_one_in_each_image(session, repository):
    save_build(
        session,
        repository,
        make_build(make_step("RUN a", target="web", seconds=3.0), make_step("RUN b", target="api", seconds=5.0)),
    )
    rollups.recompute_dirty_days(session)
    images = {image.target: image.id for image in repositories.list_images(session, repository.id)}
    whole = rollups.load_period(session, repository.id, DAY, DAY)
    parts = {
        target: rollups.load_period(session, repository.id, DAY, DAY, image_id=image_id)
        for target, image_id in images.items()
    }
    assert (whole.builds, whole.misses, whole.seconds_spent) == (1, 2, 8.0)
    assert {target: (part.builds, part.seconds_spent) for target, part in parts.items()} == {
        "web": (1, 3.0),
        "api": (1, 5.0),
    }


def test_medians_of_durations_are_exact_to_one_percent(session, repository):
    for number, seconds in enumerate([3.0, 62.0, 4000.0]):
        save_build(session, repository, make_build(duration_seconds=seconds), at=MORNING + minutes(number))
    rollups.recompute_dirty_days(session)
    period = rollups.load_period(session, repository.id, DAY, DAY)
    assert period.duration_median == pytest.approx(62.0, rel=0.011)
    assert period.duration_count == 3


def test_recomputing_everything_from_scratch_changes_nothing(session, repository):
    save_some(session, repository)
    rollups.recompute_dirty_days(session)
    before = rows(session)
    recompute_everything(session, repository)
    assert rows(session) == before


def test_a_day_that_is_not_marked_is_left_alone(session, repository):
    assert rollups.recompute_day(session, repository.id, DAY) is False


def test_a_day_is_recomputed_once_for_all_its_marks(session, repository):
    save_build(session, repository)
    save_build(session, repository)
    assert rollups.list_dirty_days(session) == [(repository.id, DAY)]
    assert rollups.recompute_dirty_days(session) == 1
    assert rollups.list_dirty_days(session) == []


def test_deleted_builds_leave_nothing_in_the_sums(session, repository):
    save_build(session, repository)
    rollups.recompute_dirty_days(session)
    builds.delete_builds(session, session.scalars(select(Build)).all())
    rollups.recompute_dirty_days(session)
    assert set(map(tuple, rows(session).values())) == {()}


def test_days_of_deleted_builds_are_found_when_everything_is_recomputed(session, repository):
    save_build(session, repository)
    rollups.recompute_dirty_days(session)
    session.execute(delete(Build))
    rollups.mark_all_days(session, repository.id)
    rollups.recompute_dirty_days(session)
    assert rows(session)["daily_builds"] == []


def test_another_repository_is_not_in_the_sums(session, repository):
    other = repositories.get_or_create_repository(session, repository.team_id, "other")
    save_build(session, other)
    rollups.recompute_dirty_days(session)
    assert rollups.load_period(session, repository.id, DAY, DAY).builds == 0


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.booleans()), min_size=1, max_size=8), st.randoms())
def test_sums_do_not_depend_on_the_order_of_arrival(sqlite_template, tmp_path_factory, made, random):
    """The same builds in another order, with some days recomputed in between."""
    found = []
    for shuffle in (False, True):
        path = tmp_path_factory.mktemp("order") / "cachescope.db"
        path.write_bytes(sqlite_template.read_bytes())
        engine = make_engine(f"sqlite:///{path}")
        order = list(enumerate(made))
        if shuffle:
            random.shuffle(order)
        with transaction(engine) as session:
            repository = make_repository(session)
            for number, (day, cached, good) in order:
                save_build(
                    session,
                    repository,
                    make_build(
                        make_step("RUN make", cached=cached, seconds=None if cached else 0.1 + number),
                        outcome=Outcome.SUCCEEDED if good else Outcome.FAILED,
                    ),
                    at=MORNING + timedelta(days=day, minutes=number),
                )
                if number % 3 == 0:
                    rollups.recompute_dirty_days(session)
            rollups.recompute_dirty_days(session)
            columns = (
                "day",
                "builds",
                "failed",
                "hits",
                "misses",
                "seconds_spent",
                "duration_sum",
                "hit_rates",
                "durations",
            )
            found.append(
                sorted(str(tuple(row)) for row in session.execute(select(*(getattr(DailyBuilds, c) for c in columns))))
            )
        engine.dispose()
    assert found[0] == found[1]


@pytest.mark.postgresql
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_build_that_arrives_while_its_day_is_recomputed_is_not_forgotten(engine):
    with transaction(engine) as session:
        repository_id = make_repository(session).id
        save_build(session, session.get_one(Repository, repository_id))
    arrived = Event()

    def arrive() -> None:
        with transaction(engine) as session:
            save_build(session, session.get_one(Repository, repository_id), at=MORNING + minutes(1))
        arrived.set()

    with transaction(engine) as session:
        assert rollups.recompute_day(session, repository_id, DAY)
        thread = Thread(target=arrive)
        thread.start()
        # It can save everything but the mark of the day, which this transaction holds.
        assert not arrived.wait(0.3)
    thread.join()
    with transaction(engine) as session:
        assert rollups.recompute_dirty_days(session) == 1
    with reading(engine) as session:
        assert rollups.load_period(session, repository_id, DAY, DAY).builds == 2


def test_a_mark_is_not_lost_when_its_transaction_is_rolled_back(engine):
    with transaction(engine) as session:
        repository_id = make_repository(session).id
        save_build(session, session.get_one(Repository, repository_id))

    def fail() -> None:
        with transaction(engine) as session:
            rollups.recompute_day(session, repository_id, DAY)
            raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        fail()
    with reading(engine) as session:
        assert rollups.list_dirty_days(session) == [(repository_id, DAY)]


def test_marks_are_worked_off_in_the_order_in_which_they_were_set(session):
    team = make_team(session)
    first, second = (repositories.get_or_create_repository(session, team.id, name) for name in ("one", "two"))
    rollups.mark_dirty(session, second.id, [DAY])
    rollups.mark_dirty(session, first.id, [DAY, date(2026, 1, 1)])
    assert rollups.list_dirty_days(session)[0] == (second.id, DAY)
    assert len(rollups.list_dirty_days(session, limit=2)) == 2
