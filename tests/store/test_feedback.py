"""What is to be told waits until it is told, once, and one repository at a time."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from cachescope.feedback import Mode, Policy, SizeChange
from cachescope.surroundings import Surroundings
from store.database import transaction
from store.models import FeedbackPolicy, FeedbackPost, FeedbackTask, Image, Repository, Source
from store.models.image_sizes import ImageSize
from store.queries import feedback, repositories, teams
from store.queries.evidence import save_evidence
from store.queries.image_sizes import get_or_create_sized_image
from store.queries.repositories import delete_repository
from tests.factories import MORNING, make_build, make_repository, make_step, make_team, save_build

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
LEASE = timedelta(minutes=5)


def make_source(session: Session, team_id: int, source_id: str = "s", **values: object) -> Source:
    given = {"name": source_id, "provider": "github", "secrets": "[]", "write_credentials": "{}"}
    source = Source(id=source_id, team_id=team_id, **given | values)
    session.add(source)
    session.flush()
    return source


@pytest.fixture
def repository(session: Session, home: object) -> Repository:
    found = make_repository(session)
    make_source(session, found.team_id)
    return found


def enqueue(session: Session, repository_id: int, key: str = "d", at: datetime = NOW) -> None:
    feedback.enqueue(
        session, repository_id=repository_id, source_id="s", kind="build", key=key, parameters={"commit": "1"}, now=at
    )


def count(session: Session, table: type) -> int:
    return session.scalar(select(func.count()).select_from(table)) or 0


def test_a_repository_that_chose_nothing_has_the_defaults(session: Session, repository: Repository) -> None:
    assert feedback.read_policy(feedback.find_policy(session, repository.id)) == Policy()


def test_a_choice_is_kept_and_what_is_not_named_stays(session: Session, repository: Repository) -> None:
    feedback.save_policy(session, repository.id, NOW, mode="fail", threshold=0.7)
    feedback.save_policy(session, repository.id, NOW, comments=False)
    kept = feedback.read_policy(feedback.find_policy(session, repository.id))
    assert kept == Policy(mode=Mode.FAIL, threshold=0.7, comments=False)


def test_a_badge_token_opens_its_repository_and_no_other(session: Session, repository: Repository) -> None:
    feedback.save_policy(session, repository.id, NOW, badge_token="abc")
    assert feedback.find_badge_repository(session, "abc") is repository
    assert feedback.find_badge_repository(session, "ab") is None
    assert feedback.find_badge_repository(session, "") is None


def test_the_same_reason_twice_is_one_task_that_begins_anew(session: Session, repository: Repository) -> None:
    enqueue(session, repository.id)
    held = feedback.claim_next_due(session, NOW, LEASE)
    enqueue(session, repository.id)
    assert count(session, FeedbackTask) == 1
    assert not feedback.finish(session, held, state="done"), "what was held is out of date"
    again = feedback.claim_next_due(session, NOW, LEASE)
    assert (again.task_id, again.attempts) == (held.task_id, 1)
    assert feedback.finish(session, again, state="done", finished_at=NOW)
    assert feedback.claim_next_due(session, NOW + timedelta(days=1), LEASE) is None


def test_a_task_that_was_put_off_is_not_due_before(session: Session, repository: Repository) -> None:
    enqueue(session, repository.id)
    held = feedback.claim_next_due(session, NOW, LEASE)
    feedback.finish(session, held, state="new", next_at=NOW + timedelta(hours=1))
    assert feedback.claim_next_due(session, NOW + timedelta(minutes=59), LEASE) is None
    assert feedback.claim_next_due(session, NOW + timedelta(minutes=61), LEASE).attempts == 2


def test_one_repository_is_worked_for_by_one_at_a_time(session: Session, repository: Repository) -> None:
    other = repositories.get_or_create_repository(session, repository.team_id, "acme/web")
    enqueue(session, repository.id, "a")
    enqueue(session, repository.id, "b", NOW + timedelta(seconds=1))
    enqueue(session, other.id, "c", NOW + timedelta(seconds=2))
    later = NOW + timedelta(seconds=3)
    keys = []
    while held := feedback.claim_next_due(session, later, LEASE):
        keys.append(session.get_one(FeedbackTask, held.task_id).key)
    assert keys == ["a", "c"]


def test_a_worker_that_died_is_waited_for_no_longer_than_its_lease(session: Session, repository: Repository) -> None:
    enqueue(session, repository.id)
    dead = feedback.claim_next_due(session, NOW, LEASE)
    assert feedback.claim_next_due(session, NOW + LEASE - timedelta(seconds=1), LEASE) is None
    alive = feedback.claim_next_due(session, NOW + LEASE + timedelta(seconds=1), LEASE)
    assert alive.attempts == 2
    assert not feedback.finish(session, dead, state="done")


def test_workers_that_come_at_once_take_one_task_of_a_repository(engine: Engine, home: object) -> None:
    with transaction(engine) as session:
        repository = make_repository(session)
        make_source(session, repository.team_id)
        for key in "abcdef":
            enqueue(session, repository.id, key)
    claims = []
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait()
        with transaction(engine) as session:
            claims.append(feedback.claim_next_due(session, datetime.now(UTC), LEASE))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([claim for claim in claims if claim]) == 1


def test_only_sources_that_may_write_count_the_repository_s_own_first(session: Session, repository: Repository) -> None:
    team_id = repository.team_id
    make_source(session, team_id, "own", repository_id=repository.id)
    make_source(session, team_id, "reads", write_credentials=None)
    make_source(session, team_id, "off", disabled_at=NOW)
    make_source(session, team_id, "ci", provider="jenkins")
    make_source(session, make_team(session, "other").id, "theirs")
    web = repositories.get_or_create_repository(session, team_id, "acme/web")
    make_source(session, team_id, "web", repository_id=web.id)
    found = feedback.list_writing_sources(session, team_id, repository.id, ["github", "gitlab"])
    assert [source.id for source in found] == ["own", "s"]


def test_a_post_is_written_down_once_and_changed(session: Session, repository: Repository) -> None:
    save_build(session, repository)
    image = session.scalars(select(Image)).one()
    for digest in ("a", "b"):
        feedback.save_post(
            session,
            image_id=image.id,
            kind="comment",
            subject="12",
            repository_id=repository.id,
            remote_id="9",
            digest=digest,
            posted_at=NOW,
        )
    assert feedback.find_post(session, image.id, "comment", "12").digest == "b"
    assert feedback.find_post(session, image.id, "comment", "13") is None
    assert count(session, FeedbackPost) == 1


def test_what_ended_long_ago_is_forgotten(session: Session, repository: Repository) -> None:
    enqueue(session, repository.id, "old")
    enqueue(session, repository.id, "waits")
    held = feedback.claim_next_due(session, NOW, LEASE)
    feedback.finish(session, held, state="done", finished_at=NOW - timedelta(days=40))
    feedback.delete_old(session, NOW - timedelta(days=30))
    session.flush()
    assert session.scalars(select(FeedbackTask.key)).all() == ["waits"]


def test_everything_goes_with_its_repository_and_its_team(session: Session, repository: Repository) -> None:
    save_build(session, repository)
    image = session.scalars(select(Image)).one()
    enqueue(session, repository.id)
    feedback.save_policy(session, repository.id, NOW, mode="off")
    feedback.save_post(
        session, image_id=image.id, kind="comment", subject="1", repository_id=repository.id, digest="d", posted_at=NOW
    )
    team = session.get_one(feedback.Source, "s").team_id
    delete_repository(session, repository)
    assert [count(session, table) for table in (FeedbackTask, FeedbackPolicy, FeedbackPost)] == [0, 0, 0]
    teams.delete_team(session, session.get_one(teams.Team, team))


def test_a_source_that_goes_takes_its_tasks_and_leaves_the_policy(session: Session, repository: Repository) -> None:
    enqueue(session, repository.id)
    feedback.save_policy(session, repository.id, NOW, source_id="s")
    session.delete(session.get_one(Source, "s"))
    session.flush()
    session.expire_all()
    assert count(session, FeedbackTask) == 0
    assert feedback.find_policy(session, repository.id).source_id is None


def test_images_of_the_same_name_are_told_apart_by_their_platform(session: Session, repository: Repository) -> None:
    for platform in ("linux/amd64", "linux/arm64"):
        save_build(session, repository, make_build(make_step("RUN make", platform=platform)), image="api")
    save_build(session, repository, image="web")
    found = {image.name: feedback.has_namesakes(session, image) for image in session.scalars(select(Image))}
    assert found["web"] is False
    assert len(feedback.list_recent_images(session, repository.id, NOW - timedelta(days=30))) == 3
    assert len(feedback.list_recent_images(session, repository.id, NOW)) == 0


def weigh(session: Session, repository: Repository, build_id: int, compressed: int | None, **values: object) -> None:
    sized = get_or_create_sized_image(session, repository, "ghcr.io/acme/api")
    given = {"platform": "linux/amd64", "version_key": str(build_id), "released_at": NOW + timedelta(minutes=build_id)}
    session.add(
        ImageSize(
            sized_image_id=sized.id,
            repository_id=repository.id,
            build_id=build_id,
            compressed_bytes=compressed,
            **given | values,
        )
    )
    session.flush()


def test_an_image_is_told_with_its_baseline_its_breaks_its_size_and_its_advice(
    session: Session, repository: Repository
) -> None:
    steps = [make_step("COPY . .", seconds=1.0), make_step("RUN make", seconds=9.0)]
    (before,) = save_build(session, repository, make_build(*steps), commit_id="1" * 40)
    (after,) = save_build(
        session, repository, make_build(*steps), at=MORNING + timedelta(minutes=5), commit_id="2" * 40
    )
    weigh(session, repository, before, 100)
    weigh(session, repository, after, 140)
    weigh(session, repository, after, None, platform="linux/arm64")
    delivery_id = session.get_one(feedback.Build, after).delivery_id
    (shown,) = feedback.load_images_of_delivery(session, delivery_id)
    assert (shown.build.id, shown.before.build_id) == (after, before)
    assert feedback.is_latest_of_pull_request(session, shown)
    assert [row.text for row in feedback.load_breaks_of_image(session, after, shown.image.id)] == ["COPY . ."]
    assert feedback.find_size(session, shown) == SizeChange(compressed_bytes=140, before_bytes=100)
    assert feedback.find_latest_size(session, repository.id) == 140
    assert feedback.load_costs(session, shown.image.id)["RUN make"] == 9.0
    assert feedback.is_built(session, shown.image.id, "2" * 40)
    assert not feedback.is_built(session, shown.image.id, "3" * 40)
    assert feedback.find_first_recommendation(session, shown.image.id) is None
    assert feedback.find_place(session, shown.image.id) is None
    save_evidence(session, delivery_id, repository.id, Surroundings(context="web"))
    assert feedback.find_place(session, shown.image.id).context == "web"


def test_an_older_build_is_not_the_latest_of_its_branch(session: Session, repository: Repository) -> None:
    (first,) = save_build(session, repository, branch="topic", pull_request="12")
    save_build(session, repository, at=MORNING + timedelta(minutes=5), branch="topic", pull_request="12")
    delivery_id = session.get_one(feedback.Build, first).delivery_id
    assert not feedback.is_latest_of_pull_request(session, feedback.load_images_of_delivery(session, delivery_id)[0])


def test_everything_of_a_source_waits_when_its_forge_is_away(session: Session, repository: Repository) -> None:
    for key in "ab":
        enqueue(session, repository.id, key)
    feedback.put_off_source(session, "s", NOW + timedelta(minutes=1))
    assert feedback.claim_next_due(session, NOW + timedelta(seconds=59), LEASE) is None
    assert feedback.claim_next_due(session, NOW + timedelta(seconds=61), LEASE) is not None
    assert feedback.was_asked_for(session, repository.id, "a")
    assert not feedback.was_asked_for(session, repository.id, "c")
