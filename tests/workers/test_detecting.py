"""Builds become incidents, whatever the order in which they arrive, and incidents become messages."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from cachescope.model import BaseImage, Outcome, Step
from store.models import (
    AlertRule,
    Build,
    DetectorState,
    ImageSize,
    Incident,
    IncidentEvent,
    Message,
    Repository,
    SizedImage,
)
from store.queries import channels, incidents
from store.settings import get_settings as get_store_settings
from tests.factories import make_build, make_repository, make_step, make_team, save_build
from workers import telling
from workers.tasks import detecting

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(autouse=True)
def secret_key(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Channels keep their settings encrypted."""
    monkeypatch.setenv("CACHESCOPE_SECRET_KEY", "a key for tests alone that has 32 characters or more")
    get_store_settings.cache_clear()
    yield
    get_store_settings.cache_clear()


@dataclass(frozen=True)
class Told:
    """One build of a story: when it ended, on which commit, and whether the order of its Dockerfile was broken."""

    at: datetime
    commit: str
    steps: tuple[Step, ...]
    branch: str = "main"
    runner: str = "ci-1"
    digest: str | None = None


def good(changed: bool = True, **values: Any) -> tuple[Step, ...]:
    """A build of a well ordered Dockerfile: the code changed, the dependencies did not."""
    return (
        make_step("FROM node:20", cached=True),
        make_step("COPY package.json .", cached=True),
        make_step("RUN npm ci", cached=values.get("npm", True), seconds=None if values.get("npm", True) else 60.0),
        make_step("COPY . .", cached=not changed, seconds=0.2 if changed else None),
        make_step("RUN npm run build", cached=not changed, seconds=20.0 if changed else None),
    )


def broken() -> tuple[Step, ...]:
    """The same with `COPY . .` above the step that installs."""
    return (
        make_step("FROM node:20", cached=True),
        make_step("COPY . .", seconds=0.2),
        make_step("RUN npm ci", seconds=60.0),
        make_step("RUN npm run build", seconds=20.0),
    )


def story(fixed: bool = True, began: datetime | None = None) -> list[Told]:
    """Twenty good builds, six with the order broken at commit `bad`, six that follow its repair at commit `fix`."""
    start = began or NOW - timedelta(hours=20)
    plans = [("c", good(npm=number > 0)) for number in range(20)]
    plans += [("bad", broken())] + [("b", broken())] * 5
    if fixed:
        plans += [("fix", good(npm=False))] + [("d", good())] * 5
    return [
        Told(start + timedelta(minutes=10 * number), commit if len(commit) > 1 else f"{commit}{number}", steps)
        for number, (commit, steps) in enumerate(plans)
    ]


def take(session: Session, repository: Repository, told: Told, **facts: Any) -> int:
    """Save one build as the worker does and watch it."""
    build = make_build(
        *told.steps, started_at=told.at.timestamp() - 30, duration_seconds=30.0,
        base_images=(BaseImage(reference="node:20", digest=told.digest),),
    )  # fmt: skip
    given = {"branch": told.branch, "commit_id": told.commit, "runner": told.runner, "actor": "Ada"} | facts
    saved = save_build(session, repository, build, at=told.at, **given)
    detecting.watch_builds(session, repository, saved)
    return saved[0]


def play(session: Session, repository: Repository, builds: Sequence[Told], **facts: Any) -> None:
    for told in builds:
        take(session, repository, told, **facts)


def active(session: Session) -> list[tuple[Any, ...]]:
    """What the open incidents say, without the numbers that the order of arrival gives."""
    rows = session.scalars(select(Incident).where(Incident.state != "resolved").order_by(Incident.kind, Incident.key))
    return [
        (row.kind, row.key, row.cause, row.instruction, row.commit_id, row.opened_at, row.since_at, row.state)
        for row in rows
    ]


def make_channel(session: Session, team_id: int, **rule: Any) -> AlertRule:
    channel = channels.create_channel(
        session, team_id, name="room", kind="slack", config={"url": "https://x.example/a"}
    )
    made = AlertRule(team_id=team_id, channel_id=channel.id, **{"min_seconds_per_day": 0.0} | rule)
    session.add(made)
    session.flush()
    return made


def sent(session: Session) -> list[tuple[str, str]]:
    rows = session.scalars(select(Message).where(Message.state != "canceled").order_by(Message.created_at, Message.id))
    return [(row.kind, row.notice["title"]) for row in rows]


def test_a_broken_order_opens_an_incident_that_names_commit_and_instruction(session: Session) -> None:
    repository = make_repository(session)
    builds = story(fixed=False)
    play(session, repository, builds)
    incident = session.scalars(select(Incident)).one()
    assert (incident.kind, incident.cause, incident.state) == ("order", "order_bust", "open")
    assert (incident.instruction, incident.commit_id, incident.actor) == ("COPY . .", "bad", "Ada")
    assert incident.victims[0] == {"text": "RUN npm ci", "seconds": 60.0}
    assert incident.opened_at <= builds[20 + 5].at
    assert incident.seconds_per_day > 60


def test_it_resolves_with_the_fixing_commit(session: Session) -> None:
    repository = make_repository(session)
    play(session, repository, story())
    incident = session.scalars(select(Incident)).one()
    assert incident.state == "resolved"
    assert incident.fixed_by is not None
    assert incident.fixed_by.startswith(("fix", "d"))
    actions = [event.action for event in incidents.list_events(session, incident.id)]
    assert actions == ["opened", "resolved"]


def test_reading_a_log_again_tells_nothing_new(session: Session) -> None:
    repository = make_repository(session)
    builds = story(fixed=False)
    play(session, repository, builds)
    before = active(session)
    for build in session.scalars(select(Build)).all():
        detecting.watch_builds(session, repository, [build.id])
    assert active(session) == before
    assert len(session.scalars(select(IncidentEvent)).all()) == 1


@pytest.mark.parametrize(("seed", "fixed"), [(1, False), (2, True)])
def test_builds_that_arrive_shuffled_by_an_hour_give_the_same_open_incidents(
    session: Session, seed: int, fixed: bool
) -> None:
    team = make_team(session)
    builds = story(fixed)
    play(session, make_repository(session, "in-order", team), builds)
    in_order = active(session)
    for row in session.scalars(select(Incident)).all():
        session.delete(row)
    session.flush()
    late = random.Random(seed)
    arrivals = sorted(builds, key=lambda told: told.at + timedelta(minutes=late.uniform(0, 60)))
    assert arrivals != builds
    play(session, make_repository(session, "shuffled", team), arrivals)
    assert active(session) == in_order
    assert bool(in_order) is not fixed


def test_replaying_thirty_days_gives_the_same_incidents(session: Session) -> None:
    team = make_team(session)
    builds = [
        told
        for day in (0, 28)
        for told in story(began=NOW - timedelta(days=30 - day))
    ]  # fmt: skip

    def all_of(repository: Repository) -> list[tuple[Any, ...]]:
        rows = session.scalars(select(Incident).where(Incident.repository_id == repository.id).order_by(Incident.id))
        return [
            (row.kind, row.key, row.commit_id, row.opened_at, row.resolved_at, row.fixed_by, row.reopened, row.state)
            for row in rows
        ]

    first, second = make_repository(session, "first", team), make_repository(session, "second", team)
    play(session, first, builds)
    play(session, second, builds)
    assert all_of(first)
    assert all_of(first) == all_of(second)


def test_an_image_that_grew_is_told_once_it_has_been_measured(session: Session) -> None:
    repository = make_repository(session)
    sized = SizedImage(team_id=repository.team_id, repository_id=repository.id, name="acme/api")
    session.add(sized)
    session.flush()
    for number, told in enumerate(story(fixed=False)[:20]):
        build_id = take(session, repository, told)
        session.add(
            ImageSize(
                sized_image_id=sized.id,
                repository_id=repository.id,
                platform="linux/amd64",
                version_key=str(number),
                build_id=build_id,
                compressed_bytes=100_000_000 if number < 16 else 160_000_000,
                released_at=told.at,
            )
        )
        session.flush()
        detecting.watch_again(session, build_id)
    incident = session.scalars(select(Incident)).one()
    assert (incident.kind, incident.metric, incident.commit_id) == ("size", "size", "c16")
    assert "60 MB" in incident.evidence
    detecting.watch_again(session, 10_000)


def test_a_memory_that_cannot_be_read_is_made_from_the_stored_builds(session: Session) -> None:
    repository = make_repository(session)
    builds = story()
    play(session, repository, builds[:26])
    before = active(session)
    session.scalars(select(DetectorState)).one().document = b"of a version to come"
    play(session, repository, builds[26:])
    incident = session.scalars(select(Incident)).one()
    assert len(before) == 1
    assert incident.state == "resolved"
    assert incident.fixed_by is not None
    assert [event.action for event in incidents.list_events(session, incident.id)] == ["opened", "resolved"]


def test_a_late_build_that_changes_the_story_withdraws_the_incident(session: Session) -> None:
    repository = make_repository(session)
    make_channel(session, repository.team_id)
    play(session, repository, story(fixed=False))
    incident = session.scalars(select(Incident)).one()
    watch = incidents.load_watch(session, incident.image_id or 0)
    assert watch is not None
    # What the detector sees no longer: as if late builds had shown that all was well.
    watch.head.detector.series.incidents.clear()
    build = session.get_one(Build, incident.found_build_id)
    changes = incidents.bring_in_line(session, repository, incident.image_id or 0, watch, build)
    telling.tell(session, changes)
    assert [change.what for change in changes] == ["withdrawn"]
    assert incident.state == "resolved"
    assert sent(session) == []


def test_builds_that_did_not_succeed_say_nothing(session: Session) -> None:
    repository = make_repository(session)
    failed = make_build(*broken(), outcome=Outcome.FAILED, started_at=NOW.timestamp())
    detecting.watch_builds(session, repository, save_build(session, repository, failed))
    assert session.scalars(select(Incident)).all() == []


def test_one_incident_makes_one_message_at_its_start_and_one_at_its_end(session: Session) -> None:
    repository = make_repository(session)
    make_channel(session, repository.team_id)
    builds = story()
    play(session, repository, builds[:26])
    opened = session.scalars(select(Message)).one()
    assert opened.notice["title"] == "acme/api: RUN npm ci runs in nearly every build, below COPY . . since bad by Ada"
    opened.state = "sent"
    session.flush()
    play(session, repository, builds[26:])
    assert [kind for kind, _ in sent(session)] == ["opened", "resolved"]
    assert sent(session)[1][1].startswith("acme/api: RUN npm ci comes from cache again, fixed by ")


def test_what_is_over_before_it_was_sent_is_not_sent(session: Session) -> None:
    repository = make_repository(session)
    make_channel(session, repository.team_id)
    play(session, repository, story())
    assert sent(session) == []


def test_what_costs_little_waits_for_the_digest(session: Session) -> None:
    repository = make_repository(session)
    make_channel(session, repository.team_id, min_seconds_per_day=1e6)
    play(session, repository, story(fixed=False))
    assert sent(session) == []


def test_a_history_that_is_sent_later_makes_no_messages(session: Session) -> None:
    repository = make_repository(session)
    make_channel(session, repository.team_id)
    play(session, repository, story(fixed=False, began=NOW - timedelta(days=20)))
    assert len(active(session)) == 1
    assert sent(session) == []


def test_several_images_of_a_repository_are_told_once(session: Session) -> None:
    repository = make_repository(session)
    make_channel(session, repository.team_id)
    builds = story(fixed=False)
    for told in builds:
        take(session, repository, told, image="web")
        take(session, repository, told, image="worker")
    first, second = session.scalars(select(Incident).order_by(Incident.id)).all()
    assert second.parent_id == first.id
    assert [kind for kind, _ in sent(session)] == ["opened"]


def bases(number: int, digest: int) -> Told:
    """A build whose base has a new digest now and then."""
    at = NOW - timedelta(hours=30) + timedelta(hours=3 * number)
    return Told(at, f"c{number}", good(changed=False), digest=f"sha256:{digest:064x}")


def test_one_restless_base_in_many_repositories_is_one_message(session: Session) -> None:
    team = make_team(session)
    make_channel(session, team.id)
    repositories = [make_repository(session, f"acme/{name}", team) for name in ("a", "b", "c", "d")]
    for number in range(10):
        for repository in repositories:
            take(session, repository, bases(number, number))
    rows = session.scalars(select(Incident).order_by(Incident.id)).all()
    fleet = next(row for row in rows if row.repository_id is None)
    assert {row.parent_id for row in rows if row.repository_id is not None} == {fleet.id}
    ((kind, title),) = sent(session)
    assert kind == "opened"
    assert title == "3 repositories: FROM node:20 moves again and again, and everything above it is built anew"


def test_a_fleet_is_told_once_that_it_is_over(session: Session) -> None:
    team = make_team(session)
    make_channel(session, team.id)
    repositories = [make_repository(session, f"acme/{name}", team) for name in ("a", "b", "c")]
    for number in range(10):
        for repository in repositories:
            take(session, repository, bases(number, number))
    for message in session.scalars(select(Message).where(Message.state == "new")):
        message.state = "sent"
    session.flush()
    for repository in repositories[:2]:
        take(session, repository, bases(45, 9))
    assert [kind for kind, _ in sent(session)] == ["opened"]
    take(session, repositories[2], bases(45, 9))
    assert [kind for kind, _ in sent(session)] == ["opened", "resolved"]
    assert {row.state for row in session.scalars(select(Incident))} == {"resolved"}


def test_a_fault_of_the_detector_costs_no_build(
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    repository = make_repository(session)
    saved = save_build(session, repository)
    monkeypatch.setattr(incidents, "load_watch", lambda *_: 1 / 0)
    detecting.watch_builds(session, repository, saved)
    assert session.get(Build, saved[0]) is not None
    assert "detecting_failed" in "".join(capsys.readouterr()) + caplog.text
