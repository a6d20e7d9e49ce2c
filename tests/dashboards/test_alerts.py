"""The pages of alerts: what they say, what can be done on them, and what they make of hostile names."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from service.auth.sessions import SESSION_COOKIE
from store.database import reading, transaction
from store.models import AlertRule, Channel, Incident, IncidentEvent, Message, Team
from store.queries import messages
from tests.dashboards.conftest import Site, add_reader
from tests.factories import make_repository
from tests.workers.test_detecting import play, story, take

Fill = Callable[[Callable[[Session, Team], object]], None]
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
TOKEN = "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5"


@pytest.fixture
def broken(fill: Fill) -> int:
    """An open alert of acme/api; returns its number."""
    fill(lambda session, team: play(session, make_repository(session, "acme/api", team), story(fixed=False)))
    with reading() as session:
        return session.scalars(select(Incident.id)).one()


def state(incident_id: int) -> str:
    with reading() as session:
        return session.get_one(Incident, incident_id).state


def test_a_team_without_alerts_is_told_so(site: Site) -> None:
    assert "No alert is open." in site.text("/teams/acme/alerts")
    assert "Nobody is told yet" in site.text("/teams/acme/channels")


def test_the_list_says_what_each_alert_costs(site: Site, broken: int) -> None:
    page = site.text("/teams/acme/alerts")
    assert "RUN npm ci runs in nearly every build, below COPY . . since bad by Ada" in page
    assert f'href="/alerts/{broken}"' in page
    assert "nobody" in page
    assert "No alert is resolved." in site.text("/teams/acme/alerts", state="resolved")


def test_an_alert_names_commit_instruction_price_and_what_to_do(site: Site, broken: int) -> None:
    page = site.text(f"/alerts/{broken}")
    for text in ("COPY . .", "RUN npm ci", "bad", "Ada", "per build", "a day", "Put the COPY below", "change point"):
        assert text.lower() in page.lower()
    assert "Builds before and after" in page
    assert "No message was written" in page


def test_its_chart_has_both_levels_and_the_change_point(site: Site, broken: int) -> None:
    drawn = site.client.get(f"/alerts/{broken}/chart", headers={"Accept": "application/json"}).json()
    assert [trace["name"] for trace in drawn["figure"]["data"]] == ["before", "since the change"]
    kinds = [shape["type"] for shape in drawn["figure"]["layout"]["shapes"]]
    assert kinds == ["rect", "line", "rect", "line", "line"]
    assert "20 s per build before, 1 min 20 s per build since the change" in drawn["summary"].replace("\u00a0", " ")
    assert "since" in site.text(f"/alerts/{broken}/chart", part="table")


@pytest.mark.parametrize(
    ("action", "until", "becomes", "undo"),
    [
        ("acknowledge", "", "acknowledged", "release"),
        ("mute", "week", "muted", "unmute"),
        ("mute", "fixed", "muted", "unmute"),
        ("accept", "", "accepted", "refuse"),
        ("resolve", "", "resolved", "reopen"),
    ],
)
def test_each_decision_can_be_undone_and_is_written_down(
    site: Site, broken: int, *, action: str, until: str, becomes: str, undo: str
) -> None:
    path = f"/alerts/{broken}"
    answer = site.post(f"{path}/{action}", page=path, until=until)
    assert (answer.status_code, answer.headers["location"]) == (303, f"{path}?done={action}")
    assert state(broken) == becomes
    page = site.text(path, done=action)
    assert f'action="{path}/{undo}"' in page
    assert "<bdi>Ada Lovelace</bdi>" in page
    assert site.post(f"{path}/{undo}", page=path).status_code == 303
    assert state(broken) == "open"


def test_what_is_accepted_is_not_told_again(site: Site, fill: Fill, broken: int) -> None:
    site.post(f"/alerts/{broken}/accept", page=f"/alerts/{broken}")
    later = story(fixed=False, began=datetime.now(UTC) + timedelta(minutes=1))[20:]
    fill(lambda session, team: play(session, make_repository(session, "acme/api", team), later))
    with reading() as session:
        assert [row.state for row in session.scalars(select(Incident))] == ["accepted"]


def test_what_was_closed_too_early_opens_again(site: Site, fill: Fill, broken: int) -> None:
    site.post(f"/alerts/{broken}/resolve", page=f"/alerts/{broken}")
    later = story(fixed=False, began=datetime.now(UTC) + timedelta(minutes=1))[20:]
    fill(lambda session, team: play(session, make_repository(session, "acme/api", team), later))
    assert state(broken) == "open"
    with reading() as session:
        actions = list(session.scalars(select(IncidentEvent.action).order_by(IncidentEvent.id)))
    assert actions == ["opened", "closed", "reopened"]


def test_a_decision_that_makes_no_sense_now_is_refused(site: Site, broken: int) -> None:
    assert site.post(f"/alerts/{broken}/reopen", page=f"/alerts/{broken}").status_code == 409
    assert site.post(f"/alerts/{broken}/explode", page=f"/alerts/{broken}").status_code == 422
    assert site.post(f"/alerts/{broken}/mute", page=f"/alerts/{broken}", until="never").status_code == 422


def test_a_viewer_sees_alerts_and_decides_nothing(site: Site, broken: int) -> None:
    with transaction() as session:
        add_reader(session, session.get_one(Team, site.team_id), "viewer", cookie="another")
    site.client.cookies.set(SESSION_COOKIE, "another")
    assert "/acknowledge" not in site.text(f"/alerts/{broken}")
    assert site.post(f"/alerts/{broken}/acknowledge", page=f"/alerts/{broken}").status_code == 403
    assert site.get("/teams/acme/channels").status_code == 403
    assert state(broken) == "open"


def test_alerts_of_another_team_do_not_exist(site: Site, broken: int) -> None:
    with transaction() as session:
        other = Team(slug="other", name="Other")
        session.add(other)
        session.flush()
        session.get_one(Incident, broken).team_id = other.id
    assert site.get(f"/alerts/{broken}").status_code == 404
    assert site.post(f"/alerts/{broken}/accept", page="/teams/acme/alerts").status_code in {403, 404}


def add_channel(site: Site) -> str:
    url = "https://hooks.slack.com/services/T000/B000/a-secret-in-the-path"
    made = site.post("/teams/acme/channels", name="builds", kind="slack", **{"config-url": url})
    assert made.headers["location"] == "/teams/acme/channels?done=made"
    with reading() as session:
        return session.scalars(select(Channel.id)).one()


def test_a_channel_is_added_tried_switched_off_and_deleted(site: Site) -> None:
    channel = add_channel(site)
    page = site.text("/teams/acme/channels")
    assert "builds" in page
    assert "a-secret-in-the-path" not in page
    path = f"/teams/acme/channels/{channel}"
    assert site.post(f"{path}/test", page="/teams/acme/channels").status_code == 303
    with reading() as session:
        message = session.scalars(select(Message)).one()
        assert (message.kind, message.state) == ("test", "new")
        assert json.loads(session.get_one(Channel, channel).config)["url"].startswith("https://hooks")
    assert "Cachescope reaches builds" in site.text("/teams/acme/channels")
    site.post(f"{path}/off", page="/teams/acme/channels")
    assert site.post(f"{path}/test", page="/teams/acme/channels").status_code == 409
    site.post(f"{path}/on", page="/teams/acme/channels")
    site.post(f"{path}/delete", page="/teams/acme/channels")
    with reading() as session:
        assert session.scalars(select(AlertRule)).all() == []
        assert session.scalars(select(Message)).all() == []


def test_a_channel_that_cannot_work_says_why(site: Site) -> None:
    answer = site.post("/teams/acme/channels", name="hook", kind="webhook", **{"config-url": "https://a.example/x"})
    assert answer.status_code == 422
    assert "Secret" in answer.text


def test_a_failed_message_is_shown_and_can_be_sent_again(site: Site) -> None:
    channel = add_channel(site)
    site.post(f"/teams/acme/channels/{channel}/test", page="/teams/acme/channels")
    with transaction() as session:
        message = session.scalars(select(Message)).one()
        message.state, message.answer = "failed", f"hooks.slack.com answered 404: {EVIL}"
        message_id = message.id
    page = site.text("/teams/acme/channels")
    assert "answered 404" in page
    assert EVIL not in page
    again = f"/teams/acme/channels/messages/{message_id}/retry"
    assert site.post(again, page="/teams/acme/channels").status_code == 303
    with reading() as session:
        assert messages.count_due(session, datetime.now(UTC)) == 1


def test_a_rule_is_tried_on_the_past_and_saved(site: Site, broken: int) -> None:
    channel = add_channel(site)
    rule = {"channel_id": channel, "min_seconds_per_day": "60", "digest": "weekly"}
    page = site.text("/teams/acme/channels", preview=1, **rule)
    assert "This setting would have sent 1 message over the last 30 days" in page
    assert "RUN npm ci runs in nearly every build" in page
    dear = site.text("/teams/acme/channels", preview=1, **rule | {"min_seconds_per_day": "9999999"})
    assert "would have sent 0 messages" in dear
    other = site.text("/teams/acme/channels", preview=1, **rule, **{"kind-size": 1})
    assert "would have sent 0 messages" in other
    saved = site.post(
        "/teams/acme/channels/rules", page="/teams/acme/channels", quiet_from="22:00", quiet_to="07:00", **rule
    )
    assert saved.status_code == 303
    assert "quiet from 22:00 to 07:00" in site.text("/teams/acme/channels")
    wrong = site.post(
        "/teams/acme/channels/rules", page="/teams/acme/channels", quiet_from="26:00", quiet_to="7", **rule
    )
    assert wrong.status_code == 422


def test_no_page_of_alerting_shows_a_secret_or_unescaped_text(site: Site, fill: Fill) -> None:
    def save(session: Session, team: Team) -> None:
        repository = make_repository(session, f"acme/{EVIL}", team)
        for told in story(fixed=False):
            take(session, repository, told, actor=f"{EVIL} {TOKEN}", branch="main")

    channel = add_channel(site)
    with transaction() as session:
        session.scalars(select(AlertRule)).one().min_seconds_per_day = 0.0
    fill(save)
    with reading() as session:
        incident = session.scalars(select(Incident)).one()
        notice = session.scalars(select(Message)).one().notice
    assert TOKEN not in json.dumps(notice)
    paths = ["/teams/acme/alerts", f"/alerts/{incident.id}", "/teams/acme/channels", f"/alerts/{incident.id}/chart"]
    paths += [f"/teams/acme/channels?preview=1&channel_id={channel}&min_seconds_per_day=0"]
    for path in paths:
        page = site.text(path)
        assert "<script>alert" not in page, path
        assert "<img src=x" not in page, path
        assert TOKEN not in page, path
    for path in (f"/api/v1/incidents/{incident.id}", "/api/v1/teams/acme/incidents", "/api/v1/teams/acme/channels"):
        answer = site.client.get(path)
        assert answer.status_code == 200, answer.text
        assert TOKEN not in answer.text
        assert "a-secret-in-the-path" not in answer.text


def test_the_same_is_there_as_json(site: Site, broken: int) -> None:
    listed = site.client.get("/api/v1/teams/acme/incidents").json()["incidents"]
    assert [(row["id"], row["kind"], row["commit"]) for row in listed] == [(broken, "order", "bad")]
    shown = site.client.get(f"/api/v1/incidents/{broken}").json()
    assert [event["action"] for event in shown["events"]] == ["opened"]
    assert shown["victims"][0] == {"text": "RUN npm ci", "seconds": 60.0}
