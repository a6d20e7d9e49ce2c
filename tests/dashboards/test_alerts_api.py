"""The same decisions, channels and rules as JSON, with the session of a browser."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from store.database import reading, transaction
from store.models import Incident, Message
from tests.dashboards.conftest import Site
from tests.dashboards.test_alerts import Fill, state
from tests.factories import make_repository
from tests.workers.test_detecting import play, story

SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes....").decode()
HOOK = {"url": "https://hooks.example.org/a-secret-in-the-path", "secret": SECRET}


@pytest.fixture
def api(site: Site) -> httpx.Client:
    """A client that may change things: with the token that our own pages send."""
    page = site.client.get("/teams/acme/settings", headers={"Accept": "text/html"}).text
    site.client.headers["x-form-token"] = page.partition('name="form_token" value="')[2].partition('"')[0]
    return site.client


@pytest.fixture
def broken(fill: Fill) -> int:
    """An open alert of acme/api."""
    fill(lambda session, team: play(session, make_repository(session, "acme/api", team), story(fixed=False)))
    with reading() as session:
        return session.scalars(select(Incident.id)).one()


def add(api: httpx.Client, **body: Any) -> str:
    made = api.post("/api/v1/teams/acme/channels", json={"name": "hook", "kind": "webhook", "config": HOOK} | body)
    assert made.status_code == 201, made.text
    return made.json()["id"]


def test_decisions_are_taken_and_undone(api: httpx.Client, broken: int) -> None:
    path = f"/api/v1/incidents/{broken}"
    for action, becomes in (("acknowledge", "acknowledged"), ("release", "open"), ("accept", "accepted")):
        answer = api.post(f"{path}/{action}", json={"note": "because"})
        assert answer.status_code == 200, answer.text
        assert answer.json()["state"] == becomes
    assert [event["note"] for event in answer.json()["events"]][1:] == ["because"] * 3
    assert api.post(f"{path}/refuse").json()["state"] == "open"
    until = datetime.now(UTC) + timedelta(days=2)
    assert api.post(f"{path}/mute", json={"until": until.isoformat()}).json()["state"] == "muted"
    assert api.post(f"{path}/mute").status_code == 409
    assert api.post(f"{path}/unmute").json()["state"] == "open"
    late = {"until": (until + timedelta(days=900)).isoformat()}
    assert api.post(f"{path}/mute", json=late).status_code == 422
    assert api.post(f"{path}/explode").status_code == 422
    assert api.get("/api/v1/incidents/999").status_code == 404
    assert api.get("/api/v1/teams/acme/incidents", params={"state": "resolved"}).json() == {"incidents": []}


def test_closing_by_hand_tells_those_who_were_told(api: httpx.Client, fill: Fill) -> None:
    add(api)
    fill(lambda session, team: play(session, make_repository(session, "acme/api", team), story(fixed=False)))
    with transaction() as session:
        message = session.scalars(select(Message)).one()
        message.state = "sent"
        incident_id = message.incident_id or 0
    api.post(f"/api/v1/incidents/{incident_id}/resolve")
    assert state(incident_id) == "resolved"
    listed = api.get("/api/v1/teams/acme/channels").json()["messages"]
    assert [row["kind"] for row in listed] == ["resolved", "opened"]


@pytest.mark.parametrize("action", ["mute", "accept"])
def test_what_nobody_wants_to_hear_of_is_not_sent_any_more(api: httpx.Client, fill: Fill, action: str) -> None:
    add(api)
    fill(lambda session, team: play(session, make_repository(session, "acme/api", team), story(fixed=False)))
    with reading() as session:
        incident_id = session.scalars(select(Message.incident_id)).one()
    assert api.post(f"/api/v1/incidents/{incident_id}/{action}").status_code == 200
    (message,) = api.get("/api/v1/teams/acme/channels").json()["messages"]
    assert message["state"] == "canceled"


def test_channels_are_added_tried_and_deleted(api: httpx.Client) -> None:
    channel = add(api)
    listed = api.get("/api/v1/teams/acme/channels").text
    assert "a-secret-in-the-path" not in listed
    assert SECRET not in listed
    assert api.post(f"/api/v1/teams/acme/channels/{channel}/test").status_code == 202
    assert api.delete(f"/api/v1/teams/acme/channels/{channel}").status_code == 204
    assert api.delete(f"/api/v1/teams/acme/channels/{channel}").status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "pigeon"},
        {"name": ""},
        {"config": {}},
        {"config": HOOK | {"secret": "short"}},
        {"config": HOOK | {"url": "ftp://a.example"}},
        {"kind": "apprise", "config": {"url": "json://169.254.169.254"}},
    ],
)
def test_a_channel_that_cannot_work_is_refused_without_its_secret(api: httpx.Client, body: dict[str, Any]) -> None:
    answer = api.post("/api/v1/teams/acme/channels", json={"name": "hook", "kind": "webhook", "config": HOOK} | body)
    assert answer.status_code == 422
    assert "a-secret-in-the-path" not in answer.text


def test_rules_are_tried_added_and_deleted(api: httpx.Client, broken: int) -> None:
    rule = {
        "channel_id": add(api),
        "min_seconds_per_day": 0,
        "kinds": ["order"],
        "quiet_from": "22:00",
        "quiet_to": "07:00",
    }
    tried = api.post("/api/v1/teams/acme/rules/preview", json=rule)
    assert [(each["incident_id"], each["kind"]) for each in tried.json()["messages"]] == [(broken, "opened")]
    made = api.post("/api/v1/teams/acme/rules", json=rule).json()
    assert (made["quiet_from"], made["kinds"]) == ("22:00", ["order"])
    assert len(api.get("/api/v1/teams/acme/channels").json()["rules"]) == 2
    assert api.delete(f"/api/v1/teams/acme/rules/{made['id']}").status_code == 204
    assert api.delete(f"/api/v1/teams/acme/rules/{made['id']}").status_code == 404
    for wrong in ({"kinds": ["weather"]}, {"quiet_to": ""}, {"quiet_from": "25:00"}, {"repository_id": 999}):
        assert api.post("/api/v1/teams/acme/rules", json=rule | wrong).status_code == 422, wrong
    assert api.post("/api/v1/teams/acme/rules", json=rule | {"channel_id": "x"}).status_code == 404
