"""Messages leave the outbox: at least once, under one id, and what fails is tried again and then shown."""

import base64
import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from standardwebhooks.webhooks import Webhook

from benchmarks import chaos_messages
from integrations.channels import CHANNELS
from integrations.channels.base import Receipt
from store.database import make_engine, reading, transaction
from store.models import AlertRule, Channel, Incident, IncidentEvent, Message, Team
from store.queries import channels, messages
from tests import serving
from tests.factories import make_team
from tests.integrations.test_channels import receiving
from workers import routing, telling
from workers.logs import configure_logging
from workers.tasks import detecting, notifying

SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes....").decode()
NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(autouse=True)
def here(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The settings of a server whose channels may reach this machine."""
    monkeypatch.setenv("CACHESCOPE_ALERT_NETWORKS", "127.0.0.0/8")
    return home


def add_channel(url: str, kind: str = "webhook", **rule: Any) -> str:
    config = {"url": url} | ({"secret": SECRET} if kind == "webhook" else {})
    with transaction() as session:
        team = session.scalar(select(Team)) or make_team(session)
        channel = channels.create_channel(session, team.id, name="there", kind=kind, config=config)
        session.add(AlertRule(team_id=team.id, channel_id=channel.id, **{"min_seconds_per_day": 0.0} | rule))
        return channel.id


def add_incident(**values: Any) -> int:
    given = {
        "kind": "order", "key": "k", "metric": "cache", "cause": "order_bust", "instruction": "COPY . .",
        "evidence": "seen", "confidence": "certain", "seconds_per_build": 60.0, "builds_per_day": 40.0,
        "seconds_per_day": 2400.0, "opened_at": NOW,
    }  # fmt: skip
    with transaction() as session:
        incident = Incident(team_id=session.scalars(select(Team.id)).one(), **given | values)
        session.add(incident)
        session.flush()
        return incident.id


def open_incident(**values: Any) -> int:
    incident_id = add_incident(**values)
    with transaction() as session:
        telling.tell_opened(session, session.get_one(Incident, incident_id), NOW)
    return incident_id


def states() -> list[tuple[str, str, int]]:
    with reading() as session:
        rows = session.scalars(select(Message).order_by(Message.id))
        return [(row.kind, row.state, row.attempts) for row in rows]


def make_due() -> None:
    with transaction() as session:
        for message in session.scalars(select(Message)):
            message.next_at = datetime.now(UTC) - timedelta(seconds=2)


def test_a_message_is_sent_once_and_verifies_with_an_independent_implementation() -> None:
    with receiving() as (url, came):
        add_channel(url)
        open_incident()
        notifying.notify()
        notifying.notify()
    assert states() == [("opened", "sent", 1)]
    ((_, headers, body),) = came
    said = Webhook(SECRET).verify(body, headers)
    assert said["type"] == "incident.opened"
    assert said["data"]["instruction"] == "COPY . ."
    with reading() as session:
        assert headers["webhook-id"] == session.scalars(select(Message.id)).one()


def test_what_fails_for_now_is_tried_again_under_the_same_id() -> None:
    with receiving((503, {"Retry-After": "30"}, b""), (200, {}, b"")) as (url, came):
        add_channel(url)
        open_incident()
        notifying.notify()
        assert states() == [("opened", "new", 1)]
        with reading() as session:
            message = session.scalars(select(Message)).one()
            assert message.next_at > datetime.now(UTC) + timedelta(seconds=25)
            assert message.answer == "127.0.0.1 answered 503."
        notifying.notify()
        assert len(came) == 1
        make_due()
        notifying.send_overdue()
    assert states() == [("opened", "sent", 2)]
    assert came[0][1]["webhook-id"] == came[1][1]["webhook-id"]


def test_what_is_refused_is_shown_as_failed() -> None:
    with receiving((410, {}, b"gone")) as (url, _):
        add_channel(url)
        open_incident()
        notifying.notify()
    assert states() == [("opened", "failed", 1)]


@pytest.mark.parametrize("answer", [(200, {}, b"ok"), (404, {}, b"no"), (503, {}, b"")])
def test_no_log_shows_the_address_of_a_channel(
    answer: tuple[int, dict[str, str], bytes], monkeypatch: pytest.MonkeyPatch, caplog: Any, capsys: Any
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", list(root.handlers))
    configure_logging()
    with receiving(answer) as (url, came), caplog.at_level("DEBUG"):
        add_channel(f"{url}/services/T0/B0/a-secret-in-the-path", "slack")
        open_incident()
        notifying.notify()
    told = capsys.readouterr()
    assert len(came) == 1
    assert "message_" in caplog.text + told.out + told.err
    assert "a-secret-in-the-path" not in caplog.text + told.out + told.err


def test_what_fails_ten_times_is_given_up() -> None:
    with receiving(*[(500, {}, b"")] * 12) as (url, _):
        add_channel(url)
        open_incident()
        for _ in range(12):
            make_due()
            notifying.notify()
    assert states() == [("opened", "failed", notifying.ATTEMPTS)]


def test_a_sender_that_died_leaves_the_message_to_another() -> None:
    with receiving() as (url, came):
        add_channel(url)
        open_incident()
        with transaction() as session:
            held = messages.claim_next_due(session, datetime.now(UTC), timedelta(seconds=60))
        assert held is not None
        notifying.notify()
        assert came == [], "it is in other hands"
        make_due()
        notifying.notify()
        with transaction() as session:
            assert not messages.finish(session, held, state="failed"), "the one that lost it may not write"
    assert states() == [("opened", "sent", 2)]


def test_a_fault_of_a_channel_is_tried_again_and_tells_nothing_secret(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    def send(*_: Any) -> Receipt:
        raise RuntimeError("https://hooks.example.org/a-secret-in-the-path")

    monkeypatch.setattr(type(CHANNELS["slack"]), "send", send)
    add_channel("https://hooks.example.org/a-secret-in-the-path", "slack")
    open_incident()
    notifying.notify()
    assert states() == [("opened", "new", 1)]
    told = capsys.readouterr()
    assert "a-secret-in-the-path" not in caplog.text + told.out + told.err
    with reading() as session:
        assert session.scalars(select(Message.answer)).one() == "Sending failed: RuntimeError."


def test_a_channel_that_is_off_or_unknown_is_told_nothing() -> None:
    channel_id = add_channel("https://hooks.example.org/x", "slack")
    open_incident()
    with transaction() as session:
        session.get_one(Channel, channel_id).kind = "pigeon"
    notifying.notify()
    assert states() == [("opened", "failed", 1)]
    open_incident()
    with transaction() as session:
        session.get_one(Channel, channel_id).disabled_at = NOW
    notifying.notify()
    assert [state for _, state, _ in states()] == ["failed", "failed"]


def test_a_reminder_comes_once() -> None:
    with receiving() as (url, came):
        add_channel(url)
        incident_id = open_incident()
        notifying.notify()
        for _ in range(3):
            telling.remind(NOW + timedelta(minutes=1), datetime.now(UTC))
            notifying.notify()
    assert [json.loads(body)["type"] for _, _, body in came] == ["incident.opened", "incident.reminder"]
    assert json.loads(came[1][2])["data"]["incident"] == incident_id


def test_what_was_taken_up_is_not_reminded_of() -> None:
    with receiving() as (url, _):
        add_channel(url)
        incident_id = open_incident()
        notifying.notify()
    with transaction() as session:
        session.get_one(Incident, incident_id).state = "acknowledged"
    telling.remind(NOW + timedelta(minutes=1), datetime.now(UTC))
    assert len(states()) == 1


def test_what_is_muted_until_a_time_is_open_again_afterwards() -> None:
    add_channel("https://a.example/x")
    muted = add_incident(state="muted", muted_until=NOW - timedelta(minutes=1))
    for_good = add_incident(state="muted")
    detecting.keep_incidents()
    with reading() as session:
        assert session.get_one(Incident, muted).state == "open"
        assert session.get_one(Incident, for_good).state == "muted"
        assert [event.action for event in session.scalars(select(IncidentEvent))] == ["unmuted"]


@pytest.mark.parametrize(
    ("at", "goes"),
    [("12:00", "12:00"), ("21:59", "21:59"), ("22:00", "07:00"), ("03:00", "07:00"), ("07:00", "07:00")],
)
def test_messages_of_quiet_hours_wait_for_their_end(at: str, goes: str) -> None:
    rule = AlertRule(quiet_from=22 * 60, quiet_to=7 * 60)
    local = datetime.fromisoformat(f"2026-11-23T{at}:00+01:00")
    found = routing.after_quiet_hours(rule, "Europe/Berlin", local.astimezone(UTC))
    shown = found.astimezone(local.tzinfo)
    assert f"{shown:%H:%M}" == goes
    assert timedelta(0) <= shown - local <= timedelta(hours=9)


def test_rules_choose_by_repository_kind_branch_and_loss() -> None:
    incident = Incident(
        repository_id=1, kind="order", metric="cache", is_default_branch=False, seconds_per_day=600.0
    )  # fmt: skip
    given = {"tells_incidents": True, "kinds": [], "only_default_branch": False, "min_seconds_per_day": 300.0}
    assert routing.is_told(AlertRule(**given), incident)
    for change in (
        {"tells_incidents": False},
        {"repository_id": 2},
        {"kinds": ["size"]},
        {"only_default_branch": True},
        {"min_seconds_per_day": 601.0},
    ):
        assert not routing.is_told(AlertRule(**given | change), incident), change


@pytest.mark.parametrize(
    ("digest", "at", "due"),
    [
        ("none", "2026-11-23T09:00", None),
        ("daily", "2026-11-23T06:30", None),
        ("daily", "2026-11-23T07:30", ("2026-11-23", 1)),
        ("weekly", "2026-11-23T07:30", ("2026-W48", 7)),
        ("weekly", "2026-11-24T07:30", None),
    ],
)
def test_digests_are_due_in_the_morning_of_the_team(digest: str, at: str, due: tuple[str, int] | None) -> None:
    found = routing.digest_due(AlertRule(digest=digest), "Europe/Berlin", datetime.fromisoformat(f"{at}+00:00"))
    assert found == due


def test_a_digest_is_written_once_and_says_what_to_do_first() -> None:
    with receiving() as (url, came):
        add_channel(url, digest="daily", tells_incidents=False, created_at=NOW - timedelta(days=3))
        open_incident()
        morning = NOW.replace(hour=9)
        for _ in range(2):
            telling.write_digests(morning)
        notifying.send_overdue()
        make_due()
        notifying.notify()
    assert states() == [("digest", "sent", 1)]
    said = json.loads(came[0][2])
    assert said["type"] == "digest"
    assert any("runs in nearly every build" in line for line in said["data"]["lines"])


def test_rows_go_with_their_team() -> None:
    add_channel("https://a.example/x")
    open_incident()
    with transaction() as session:
        session.delete(session.scalars(select(Team)).one())
    for table in (Incident, Message, Channel, AlertRule):
        with reading() as session:
            assert session.scalars(select(table)).all() == []


@pytest.mark.slow
def test_no_message_is_lost_or_taken_twice_while_everything_is_killed(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "chaos"
    folder.mkdir()
    is_sqlite = database_url.startswith("sqlite")
    installation = chaos_messages.make_installation(folder, database_url, redis_folder=None if is_sqlite else folder)
    for name, value in chaos_messages.here(installation).items():
        monkeypatch.setenv(name, value)
    serving.forget_settings()
    engine = make_engine(database_url)
    outcome = chaos_messages.run(installation, engine, alerts=100, seconds=12, pause=(0.3, 1.5))
    engine.dispose()
    assert outcome.kills.total() > 3
    assert outcome.taken == 100
    assert outcome.faults == []
