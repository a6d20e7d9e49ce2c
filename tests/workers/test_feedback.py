"""From a saved build to the comment and the check at its forge, and from a pull request to its forecast."""

import shutil
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import func, select, update

from cachescope.surroundings import Surroundings
from store.database import reading, transaction
from store.models import Delivery, FeedbackPost, FeedbackTask, Repository, Source, StoredRecommendation
from store.models.image_sizes import ImageSize
from store.queries import feedback as rows
from store.queries import readings
from store.queries.evidence import save_evidence
from store.queries.image_sizes import get_or_create_sized_image
from store.queries.runs import RunFacts
from store.queries.sources import save_credentials
from tests.factories import make_build, make_delivery, make_reading, make_repository, make_step, make_team, minutes
from tests.forge.feedback import OUR_ID, add_comment, bodies, open_pull_request
from tests.forge.serving import forge
from tests.forge.state import Forge
from tests.forge.state import Repository as Remote
from workers import feedback
from workers.tasks.feedback import forget_old, tell_forges, tell_overdue

ONE, TWO, THREE = "1" * 40, "2" * 40, "3" * 40
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DOCKERFILE = "FROM node:20\nCOPY package.json .\nRUN npm ci\nCOPY . .\nRUN npm run build\n"


@pytest.fixture(scope="module")
def served() -> Iterator[Forge]:
    with forge() as made:
        yield made


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty SQLite database: what differs on PostgreSQL is the queries', which have tests of their own."""
    shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "cachescope.db")
    return f"sqlite:///{tmp_path / 'cachescope.db'}"


@pytest.fixture(params=["github"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which forge it is; tests of what all have in common name the others too."""
    return request.param


@pytest.fixture
def at(served: Forge, kind: str, home: Any, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A repository here and at its forge, and a source that may write there."""
    monkeypatch.setenv("CACHESCOPE_WORKER_NETWORKS", "127.0.0.0/8")
    monkeypatch.setenv("CACHESCOPE_WEB_PUBLIC_URL", "https://cache.example.org")
    feedback.get_settings.cache_clear()
    remote = Remote(
        name="acme/api",
        id=5,
        commits={
            ONE: {"Dockerfile": DOCKERFILE, "package.json": "1", "src/a.ts": "1"},
            TWO: {"Dockerfile": DOCKERFILE, "package.json": "2", "src/a.ts": "1"},
            THREE: {"Dockerfile": DOCKERFILE, "package.json": "2", "src/a.ts": "2"},
        },
    )
    served.repositories = {"acme/api": remote}
    served.is_down, served.limit, served.page_size = False, None, 30
    served.requests.clear()
    open_pull_request(remote, 12, TWO)
    with transaction() as session:
        team = make_team(session)
        repository = make_repository(session, team=team)
        source = Source(
            id="a-source",
            team_id=team.id,
            name="Forge",
            provider=kind,
            secrets="[]",
            base_url=served.url,
            networks="127.0.0.0/8",
        )
        session.add(source)
        session.flush()
        save_credentials(session, source, "write", {"token": served.write_token})
    ci = "github-actions" if kind == "github" else kind
    return SimpleNamespace(forge=served, remote=remote, ci=ci, repository_id=repository.id, source_id=source.id)


def warm(**seconds: float) -> Any:
    """A build of the Dockerfile; a line with seconds ran, any other came from cache."""
    lines = {"package": "COPY package.json .", "ci": "RUN npm ci", "all": "COPY . .", "build": "RUN npm run build"}
    return make_build(
        *(
            make_step(text, cached=name not in seconds, seconds=seconds.get(name), stage=None)
            for name, text in lines.items()
        )
    )


COLD = {"package": 0.1, "ci": 90.0, "all": 1.0, "build": 30.0}


def push(at: SimpleNamespace, build: Any, commit: str = TWO, minute: float = 0, **facts: Any) -> str:
    """Save the build of a commit as the worker does, with what is to be told of it; returns the delivery."""
    given = {"branch": "feature", "commit_id": commit, "pull_request": "12", "provider": at.ci} | facts
    with transaction() as session:
        repository = session.get_one(Repository, at.repository_id)
        delivery = make_delivery(session, repository, received_at=NOW + minutes(minute))
        readings.save_reading(session, delivery, repository, make_reading(build), RunFacts(**given))
        feedback.ask_for_feedback(session, repository, delivery)
        return delivery.id


def on_main(at: SimpleNamespace, build: Any, commit: str = ONE, minute: float = -60) -> str:
    return push(at, build, commit, minute, branch="main", pull_request=None)


def tell() -> None:
    """Work off all that is due, and what was put off for a moment."""
    with transaction() as session:
        session.execute(update(FeedbackTask).where(FeedbackTask.state == "new").values(next_at=datetime.now(UTC)))
    tell_forges()


def task(key: str) -> FeedbackTask:
    with reading() as session:
        return session.scalars(select(FeedbackTask).where(FeedbackTask.key == key)).one()


def writes(at: SimpleNamespace) -> int:
    """How many requests changed something at the forge."""
    return sum(asked.method != "GET" for asked in at.forge.requests)


def choose(at: SimpleNamespace, **values: Any) -> None:
    with transaction() as session:
        rows.save_policy(session, at.repository_id, NOW, **values)


EVERY_FORGE = pytest.mark.parametrize("kind", ["github", "gitlab", "gitea", "forgejo"], indirect=True)


@EVERY_FORGE
def test_a_pull_request_hears_of_its_build_and_of_the_next_one_in_the_same_comment(at: SimpleNamespace) -> None:
    on_main(at, warm(**COLD), minute=-120)
    on_main(at, warm())
    first = push(at, warm(**COLD))
    tell()
    assert (task(first).state, task(first).error) == ("done", None)
    (comment,) = bodies(at.remote, 12)
    assert "Cache broke at `COPY package.json .`" in comment
    assert "Cost 2 min 01 s in 4 steps." in comment
    assert "against the baseline's 100 %" in comment
    assert "(https://cache.example.org/builds/3)" in comment
    push(at, warm(all=1.0, build=30.0), THREE, minute=5)
    open_pull_request(at.remote, 12, THREE)
    tell()
    (comment,) = bodies(at.remote, 12)
    assert "Cache broke at `COPY . .`" in comment
    assert [told["state"] for told in at.remote.written["statuses"] if told["sha"] == THREE] == ["success"]


@EVERY_FORGE
def test_telling_the_same_again_asks_for_nothing_and_writes_nothing(at: SimpleNamespace) -> None:
    on_main(at, warm(**COLD))
    key = push(at, warm(**COLD))
    tell()
    before = writes(at)
    with transaction() as session:
        delivery = session.get_one(Delivery, key)
        feedback.ask_for_feedback(session, session.get_one(Repository, at.repository_id), delivery)
    tell()
    assert task(key).state == "done"
    assert writes(at) == before
    assert len(bodies(at.remote, 12)) == 1


def test_a_build_that_says_nothing_new_gets_a_check_and_no_comment(at: SimpleNamespace) -> None:
    on_main(at, warm(**COLD))
    key = push(at, warm())
    tell()
    assert bodies(at.remote, 12) == []
    assert task(key).error == "There was nothing worth a comment."
    assert [told["sha"] for told in at.remote.written["statuses"]] == [ONE, TWO]


def test_when_all_is_well_again_the_comment_says_so(at: SimpleNamespace) -> None:
    on_main(at, warm(**COLD))
    push(at, warm(**COLD))
    tell()
    push(at, warm(), minute=5)
    tell()
    (comment,) = bodies(at.remote, 12)
    assert "Every cacheable step, 4 of 4, came from cache." in comment


def test_the_pull_request_is_found_by_the_commit_where_ci_named_none(at: SimpleNamespace) -> None:
    on_main(at, warm(**COLD))
    push(at, warm(**COLD), pull_request=None)
    tell()
    assert len(bodies(at.remote, 12)) == 1


def test_a_commit_without_a_pull_request_gets_a_status_only(at: SimpleNamespace) -> None:
    key = push(at, warm(**COLD), THREE, pull_request=None)
    tell()
    assert task(key).error == "No pull request is open for this commit."
    assert at.remote.written["statuses"]
    assert bodies(at.remote, 12) == []


def test_a_closed_pull_request_is_left_alone(at: SimpleNamespace) -> None:
    open_pull_request(at.remote, 12, TWO, state="closed")
    key = push(at, warm(**COLD))
    tell()
    assert task(key).error == "Pull request 12 is not open any more."
    assert bodies(at.remote, 12) == []


def test_an_older_build_that_ends_later_does_not_take_the_comment(at: SimpleNamespace) -> None:
    push(at, warm(**COLD), THREE, minute=5)
    tell()
    before = bodies(at.remote, 12)
    key = push(at, warm(), TWO, minute=0)
    tell()
    assert task(key).error == "A newer build of this pull request has been told of."
    assert bodies(at.remote, 12) == before


def test_each_image_has_its_own_comment_and_status(at: SimpleNamespace) -> None:
    both = make_build(
        make_step("RUN make", seconds=20.0, target="api"), make_step("RUN build", seconds=30.0, target="web")
    )
    on_main(
        at,
        make_build(make_step("RUN make", cached=True, target="api"), make_step("RUN build", cached=True, target="web")),
    )
    push(at, both)
    tell()
    assert len(bodies(at.remote, 12)) == 2
    names = {told["context"] for told in at.remote.written["statuses"] if told["sha"] == TWO}
    assert names == {"cachescope/api", "cachescope/web"}


def test_two_platforms_of_one_image_are_told_apart(at: SimpleNamespace) -> None:
    def both(**seconds: Any) -> Any:
        return make_build(
            *(make_step("RUN make", platform=name, **seconds) for name in ("linux/amd64", "linux/arm64")),
        )

    push(at, both(cached=True), ONE, -60, branch="main", pull_request=None, image="api")
    push(at, both(seconds=20.0), image="api")
    tell()
    starts = sorted(body.splitlines()[2] for body in bodies(at.remote, 12))
    assert starts == [f"**Cachescope** · `api {name}` · `2222222…2222`" for name in ("linux/amd64", "linux/arm64")]
    names = {told["context"] for told in at.remote.written["statuses"]}
    assert names == {"cachescope/api linux/amd64", "cachescope/api linux/arm64"}


def test_the_policy_of_the_repository_decides(at: SimpleNamespace) -> None:
    choose(at, mode="fail", threshold=0.9, measure="hit_rate", comments=False)
    on_main(at, warm(**COLD))
    push(at, warm(ci=90.0, all=1.0, build=30.0))
    tell()
    told = at.remote.written["statuses"]
    assert [(each["sha"], each["state"]) for each in told] == [(ONE, "success"), (TWO, "failure")]
    assert told[1]["description"] == "Hit rate 25 %, below 90 %"
    assert bodies(at.remote, 12) == []


def test_a_fork_never_fails(at: SimpleNamespace) -> None:
    choose(at, mode="fail", threshold=0.9)
    open_pull_request(at.remote, 12, TWO, fork=True)
    on_main(at, warm(**COLD))
    push(at, warm(**COLD))
    tell()
    assert at.remote.written["statuses"][-1]["state"] == "success"


def test_with_everything_off_nothing_is_written_down(at: SimpleNamespace) -> None:
    choose(at, mode="off", comments=False)
    push(at, warm(**COLD))
    with reading() as session:
        assert session.scalar(select(func.count()).select_from(FeedbackTask)) == 0


def test_the_first_recommendation_stands_in_the_comment(at: SimpleNamespace) -> None:
    on_main(at, warm(**COLD))
    push(at, warm(**COLD))
    with transaction() as session:
        image_id = session.scalars(select(rows.Image.id)).one()
        for name, saving in (("a", 3.0), ("b", 80.0)):
            session.add(
                StoredRecommendation(
                    repository_id=at.repository_id,
                    image_id=image_id,
                    name=name,
                    key=name,
                    title=f"Do {name}",
                    why="",
                    patch="--- a\n+++ b\n",
                    order_safe=True,
                    saving_seconds=saving,
                    builds=9,
                )
            )
    tell()
    assert "First thing to change: `Do b`, saves about 1 min 20 s a build." in bodies(at.remote, 12)[0]


def weigh(at: SimpleNamespace, build_id: int, compressed: int, platform: str = "linux/amd64") -> None:
    """Save what the image of a build weighs, as a measurement does."""
    with transaction() as session:
        repository = session.get_one(Repository, at.repository_id)
        sized = get_or_create_sized_image(session, repository, "ghcr.io/acme/api")
        session.add(
            ImageSize(
                sized_image_id=sized.id,
                repository_id=repository.id,
                platform=platform,
                version_key=f"{build_id} {platform}",
                build_id=build_id,
                compressed_bytes=compressed,
                released_at=NOW,
            )
        )
        session.flush()
        feedback.ask_again(session, build_id)


def test_a_size_that_is_measured_later_comes_into_the_comment(at: SimpleNamespace) -> None:
    on_main(at, warm(**COLD))
    weigh(at, 1, 100_000_000)
    push(at, warm(**COLD))
    tell()
    assert "compressed" not in bodies(at.remote, 12)[0]
    weigh(at, 2, 130_000_000, "linux/arm64")
    weigh(at, 2, 140_000_000)
    tell()
    (comment,) = bodies(at.remote, 12)
    assert "- Image 140 MB compressed, +40 MB" in comment


def test_a_grown_image_alone_is_worth_a_comment(at: SimpleNamespace) -> None:
    on_main(at, warm(**COLD))
    weigh(at, 1, 100_000_000)
    push(at, warm())
    tell()
    assert bodies(at.remote, 12) == []
    weigh(at, 2, 140_000_000)
    tell()
    assert "+40 MB" in bodies(at.remote, 12)[0]


def test_a_measured_build_that_nobody_was_told_of_stays_untold(at: SimpleNamespace) -> None:
    push(at, warm(**COLD), commit_id=None)
    weigh(at, 1, 100_000_000)
    with reading() as session:
        assert rows.load_latest_tasks(session, at.repository_id) == []


def test_a_forge_that_is_down_is_told_later_and_once(at: SimpleNamespace) -> None:
    at.forge.is_down = True
    on_main(at, warm(**COLD))
    key = push(at, warm(**COLD))
    for _ in range(5):
        tell()
    with reading() as session:
        waiting = session.scalars(select(FeedbackTask)).all()
    assert {each.state for each in waiting} == {"new"}
    assert sum(each.attempts for each in waiting) == 5
    assert any("503" in (each.error or "") for each in waiting)
    at.forge.is_down = False
    tell()
    assert task(key).state == "done"
    assert len(bodies(at.remote, 12)) == 1


def test_a_forge_that_is_away_is_asked_by_one_task_at_a_time(at: SimpleNamespace) -> None:
    at.forge.is_down = True
    for number in range(4):
        push(at, warm(**COLD), str(number) * 40, minute=number)
    tell()
    assert len(at.forge.requests) == 1
    with reading() as session:
        waits = [each.next_at - datetime.now(UTC) for each in session.scalars(select(FeedbackTask))]
    assert timedelta(0) < min(waits)
    assert max(waits) < timedelta(seconds=65)


def test_a_rate_limit_is_waited_for_by_everything_of_the_source(at: SimpleNamespace) -> None:
    at.forge.limit, at.forge.reset_seconds = 0, 500
    keys = [push(at, warm(**COLD), str(number) * 40, minute=number) for number in range(2)]
    tell_forges()
    for key in keys:
        assert timedelta(seconds=480) < task(key).next_at - datetime.now(UTC) < timedelta(seconds=620)
    assert len(at.forge.requests) == 1


def test_what_cannot_be_told_for_a_day_is_given_up_and_can_be_asked_for_again(at: SimpleNamespace) -> None:
    at.forge.is_down = True
    key = push(at, warm(**COLD))
    with transaction() as session:
        session.execute(update(FeedbackTask).values(created_at=datetime.now(UTC) - timedelta(hours=25)))
    tell()
    assert (task(key).state, task(key).attempts) == ("failed", 1)
    assert "It was tried 1 times in a day." in task(key).error
    at.forge.is_down = False
    with transaction() as session:
        assert rows.requeue(session, at.repository_id, task(key).id, datetime.now(UTC))
        assert not rows.requeue(session, at.repository_id + 1, task(key).id, datetime.now(UTC))
    tell()
    assert task(key).state == "done"


def test_credentials_that_may_not_write_end_a_task_with_a_sentence(at: SimpleNamespace) -> None:
    with transaction() as session:
        save_credentials(session, session.get_one(Source, at.source_id), "write", {"token": at.forge.token})
    key = push(at, warm(**COLD))
    tell()
    assert task(key).state == "failed"
    assert "Give them the right to write" in task(key).error


def test_a_token_that_may_comment_only_comments_and_says_what_it_may_not(at: SimpleNamespace) -> None:
    on_main(at, warm(**COLD))
    key = push(at, warm(**COLD))
    at.forge.forbidden = "/statuses/"
    tell()
    at.forge.forbidden = ""
    assert len(bodies(at.remote, 12)) == 1
    assert (task(key).state, "403 to POST /repos/acme/api/statuses/" in task(key).error) == ("failed", True)


def test_a_network_that_the_server_does_not_allow_is_not_reached(
    at: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHESCOPE_WORKER_NETWORKS", "10.0.0.0/8")
    feedback.get_settings.cache_clear()
    key = push(at, warm(**COLD))
    tell()
    assert task(key).state == "failed"
    assert "not on the public internet" in task(key).error
    assert at.forge.requests == []


def test_a_source_that_was_switched_off_tells_nothing(at: SimpleNamespace) -> None:
    key = push(at, warm(**COLD))
    with transaction() as session:
        session.get_one(Source, at.source_id).disabled_at = NOW
    tell()
    assert "is switched off" in task(key).error
    assert at.forge.requests == []


def test_a_comment_that_was_written_but_not_remembered_is_found_again(at: SimpleNamespace) -> None:
    on_main(at, warm(**COLD))
    push(at, warm(**COLD))
    tell()
    with transaction() as session:
        session.query(FeedbackPost).delete()
    push(at, warm(all=1.0, build=30.0), minute=5)
    tell()
    assert len(bodies(at.remote, 12)) == 1


def test_a_comment_that_somebody_deleted_is_written_anew_only_with_a_reason(at: SimpleNamespace) -> None:
    on_main(at, warm(**COLD))
    push(at, warm(**COLD))
    tell()
    at.remote.written["comments"].clear()
    push(at, warm(), minute=5)
    tell()
    assert bodies(at.remote, 12) == []
    push(at, warm(all=2.0, build=30.0), minute=6)
    tell()
    assert len(bodies(at.remote, 12)) == 1


def test_a_foreign_comment_with_our_marker_is_never_edited(at: SimpleNamespace) -> None:
    on_main(at, warm(**COLD))
    push(at, warm(**COLD))
    tell()
    forged = bodies(at.remote, 12)[0].replace("Cachescope", "Mallory")
    at.remote.written["comments"].clear()
    add_comment(at.remote, 12, forged, author=OUR_ID + 1)
    with transaction() as session:
        session.query(FeedbackPost).delete()
    push(at, warm(all=2.0, build=30.0), minute=5)
    tell()
    assert bodies(at.remote, 12)[0] == forged
    assert len(bodies(at.remote, 12)) == 2


def test_two_workers_write_one_comment(at: SimpleNamespace) -> None:
    on_main(at, warm(**COLD))
    for number in range(6):
        push(at, warm(ci=90.0 + number, build=30.0), minute=number)
    with transaction() as session:
        session.execute(update(FeedbackTask).values(next_at=NOW))
    threads = [threading.Thread(target=tell_overdue) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tell()
    assert len(bodies(at.remote, 12)) == 1
    with reading() as session:
        assert set(session.scalars(select(FeedbackTask.state))) == {"done"}


def test_the_scheduler_leaves_to_the_workers_what_has_just_come(at: SimpleNamespace) -> None:
    key = push(at, warm(**COLD))
    tell_overdue()
    assert task(key).attempts == 0


def test_what_was_told_long_ago_is_forgotten_and_its_comment_still_known(at: SimpleNamespace) -> None:
    on_main(at, warm(**COLD))
    push(at, warm(**COLD))
    tell()
    with transaction() as session:
        session.execute(update(FeedbackTask).values(finished_at=NOW - timedelta(days=400)))
    forget_old()
    with reading() as session:
        assert session.scalars(select(FeedbackTask)).all() == []
        assert session.scalars(select(FeedbackPost)).all()


def test_hostile_names_stay_texts_on_their_way_to_the_forge(at: SimpleNamespace) -> None:
    evil = "RUN echo `@octocat` <img src=x> #12 https://evil.example"
    image = "`@acme/everyone` <b>"
    push(at, make_build(make_step(evil, cached=True)), ONE, -9, image=image, branch="main", pull_request=None)
    push(at, make_build(make_step(evil, seconds=30.0)), image=image, branch="@all/#1")
    tell()
    (comment,) = bodies(at.remote, 12)
    assert "`RUN echo ˋ@octocatˋ <img src=x> #12 https://evil.example`" in comment
    assert at.remote.written["statuses"][-1]["context"] == "cachescope/acme/everyone- -b"


def test_a_build_by_another_ci_is_told_of_where_only_one_source_can_write(at: SimpleNamespace) -> None:
    push(at, warm(**COLD), provider="jenkins")
    with reading() as session:
        assert session.scalars(select(FeedbackTask.source_id)).all() == [at.source_id]


def test_where_several_could_write_none_is_guessed_and_one_can_be_chosen(at: SimpleNamespace) -> None:
    with transaction() as session:
        first = session.get_one(Source, at.source_id)
        second = Source(id="b-source", team_id=first.team_id, name="GitLab", provider="gitlab", secrets="[]")
        session.add(second)
        session.flush()
        save_credentials(session, second, "write", {"token": "t"})
    push(at, warm(**COLD), provider="jenkins")
    with reading() as session:
        assert session.scalars(select(FeedbackTask)).all() == []
    choose(at, source_id="b-source")
    push(at, warm(**COLD), provider="jenkins")
    with reading() as session:
        assert session.scalars(select(FeedbackTask.source_id)).all() == ["b-source"]
        session.rollback()
    with transaction() as session:
        session.get_one(Source, "b-source").disabled_at = NOW
    push(at, warm(**COLD), minute=9)
    with reading() as session:
        assert session.scalar(select(func.count()).select_from(FeedbackTask)) == 1


def test_nobody_is_told_of_a_build_without_a_commit_or_of_the_demo(at: SimpleNamespace) -> None:
    push(at, warm(**COLD), commit_id=None)
    with transaction() as session:
        session.get_one(Repository, at.repository_id)
        session.get_one(feedback.Team, 1).is_demo = True
    push(at, warm(**COLD))
    with reading() as session:
        assert session.scalars(select(FeedbackTask)).all() == []


def open_event(at: SimpleNamespace, number: int = 12) -> None:
    with transaction() as session:
        repository, source = session.get_one(Repository, at.repository_id), session.get_one(Source, at.source_id)
        feedback.ask_for_forecast(session, repository, source, number)


def build_lately(at: SimpleNamespace) -> str:
    """Build main now, so that a forecast knows the image and what its lines take; returns the delivery."""
    return on_main(at, warm(**COLD), minute=(datetime.now(UTC) - NOW) / timedelta(minutes=1) - 60)


@EVERY_FORGE
def test_a_pull_request_hears_what_it_will_bust_before_it_is_built(at: SimpleNamespace) -> None:
    build_lately(at)
    open_event(at)
    tell()
    assert (task("12").state, task("12").error) == ("done", None)
    (comment,) = bodies(at.remote, 12)
    assert "Before the build: this change will make the cache miss. It usually takes 2 min 01 s." in comment
    assert "`COPY package.json .` and 3 steps below it: `package.json` changed" in comment


def test_the_build_takes_the_place_of_the_forecast(at: SimpleNamespace) -> None:
    build_lately(at)
    open_event(at)
    tell()
    push(at, warm(), minute=(datetime.now(UTC) - NOW) / timedelta(minutes=1))
    tell()
    (comment,) = bodies(at.remote, 12)
    assert "Every cacheable step" in comment
    open_event(at)
    tell()
    assert bodies(at.remote, 12) == [comment]
    assert "this commit has been built" in task("12").error


def test_a_change_that_busts_nothing_dear_is_not_worth_a_forecast(at: SimpleNamespace) -> None:
    build_lately(at)
    at.remote.commits[TWO] = at.remote.commits[ONE] | {".dockerignore": "docs\n.dockerignore\n", "docs/a.md": "1"}
    open_event(at)
    tell()
    assert bodies(at.remote, 12) == []
    assert "bust nothing" in task("12").error


def test_a_later_push_makes_a_new_forecast(at: SimpleNamespace) -> None:
    build_lately(at)
    open_event(at)
    tell()
    open_pull_request(at.remote, 12, THREE)
    open_event(at)
    tell()
    (comment,) = bodies(at.remote, 12)
    assert "`COPY . .` and 1 step below it: `src/a.ts` changed; usually 31 s" in comment


@pytest.mark.parametrize("values", [{"preflight": False}, {"comments": False}])
def test_forecasts_can_be_switched_off(at: SimpleNamespace, values: dict[str, bool]) -> None:
    choose(at, **values)
    open_event(at)
    with reading() as session:
        assert session.scalars(select(FeedbackTask)).all() == []


def move_to_folder(at: SimpleNamespace) -> None:
    """The Dockerfile lies in a folder of its own, and the root has another one of the same name."""
    for commit, files in at.remote.commits.items():
        at.remote.commits[commit] = {f"web/{path}": text for path, text in files.items()} | {
            "Dockerfile": "FROM python:3\nCOPY . .\nRUN pip install .\n"
        }


def test_another_dockerfile_of_the_same_name_is_not_taken_for_the_image_s(at: SimpleNamespace) -> None:
    build_lately(at)
    move_to_folder(at)
    open_event(at)
    tell()
    assert bodies(at.remote, 12) == []


def test_where_the_build_told_its_context_the_dockerfile_is_found_there(at: SimpleNamespace) -> None:
    key = build_lately(at)
    with transaction() as session:
        save_evidence(session, key, at.repository_id, Surroundings(context="web", dockerfile_path="Dockerfile"))
    move_to_folder(at)
    open_event(at)
    tell()
    assert "`web/package.json` changed" in bodies(at.remote, 12)[0]


def test_a_pull_request_that_is_gone_gets_no_forecast(at: SimpleNamespace) -> None:
    open_event(at, 13)
    tell()
    assert "not open any more" in task("13").error


def test_an_edited_dockerfile_busts_the_edited_line(at: SimpleNamespace) -> None:
    build_lately(at)
    at.remote.commits["main"] = at.remote.commits[ONE]
    at.remote.commits[TWO] = at.remote.commits[ONE] | {"Dockerfile": DOCKERFILE.replace("COPY . .", "COPY src src")}
    at.remote.written["pulls"][0]["base_commit"] = ONE
    open_event(at)
    tell()
    assert "`RUN npm ci`" not in bodies(at.remote, 12)[0]
    assert "- `COPY src src` and 1 step below it: the line itself changed" in bodies(at.remote, 12)[0]
