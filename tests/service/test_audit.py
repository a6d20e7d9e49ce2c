"""The audit log: what people do is noted with who, when and from where, and stays as it was written."""

import csv
import io
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Request
from sqlalchemy import select, update
from sqlalchemy.exc import DBAPIError

from asgi import app
from service import auditing
from service.actions import accounts as account_actions
from service.actions import channels, members, sources, tokens
from service.actions.accounts import OwnerForm
from service.actions.channels import RuleForm
from service.actions.sources import SourceForm
from service.actions.tokens import TokenForm
from service.auditing import ACTIONS, note
from service.auth.forms import form_token
from service.auth.permissions import Viewer
from service.auth.sessions import SESSION_COOKIE, open_session
from service.settings import ServiceSettings
from store.database import reading, transaction
from store.models import AuditEvent, Team, User
from store.queries import accounts, audit, teams
from store.queries.audit import AuditFilter
from tests import serving
from tests.factories import make_repository, make_team, save_build

ADA = "ada@example.org"


@pytest.fixture
def team_id(home: Path) -> int:
    """A team with an owner and a repository."""
    with transaction() as session:
        team = make_team(session)
        user = accounts.create_user(session, email=ADA, name="Ada", password_hash=None)
        teams.add_member(session, team.id, user.id, "owner")
        save_build(session, make_repository(session, "acme/api", team))
        return team.id


def act(team_id: int, what: Callable[[Any, Viewer, Team], object]) -> None:
    with transaction() as session:
        what(
            session, Viewer(name="Ada", email=ADA, user_id=1, roles={team_id: "owner"}), session.get_one(Team, team_id)
        )


def events(**filters: Any) -> list[AuditEvent]:
    with reading() as session:
        return list(session.scalars(select(AuditEvent).filter_by(**filters).order_by(AuditEvent.id)))


on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@on_sqlite
def test_what_is_made_changed_and_ended_is_noted_without_its_secret(team_id: int) -> None:
    secrets: list[str] = []

    def tokens_and_sources(session: Any, viewer: Viewer, team: Team) -> None:
        token, words = tokens.create_token(session, viewer, team, TokenForm(name="CI"))
        tokens.revoke_token(session, viewer, team, token.id)
        source, secret = sources.create_source(session, viewer, team, SourceForm(name="Hooks", provider="github"))
        credentials = {"token": "ghp_0123456789abcdef0123"}
        sources.set_credentials(session, viewer, team, source.id, "read", credentials)
        secrets.extend([words, secret, sources.rotate_secret(session, viewer, team, source.id), credentials["token"]])
        sources.disable_source(session, viewer, team, source.id)

    def places_and_people(session: Any, viewer: Viewer, team: Team) -> None:
        config = {"url": "https://hooks.example.org/T0/secret"}
        secrets.append(config["url"])
        channel = channels.create_channel(session, viewer, team, name="Builds", kind="discord", config=config)
        rule = channels.save_rule(session, viewer, team, RuleForm(channel_id=channel.id))
        channels.delete_rule(session, viewer, team, rule.id)
        channels.delete_channel(session, viewer, team, channel.id)
        other = accounts.create_user(session, email="bob@example.org", name="Bob", password_hash=None)
        teams.add_member(session, team.id, other.id, "viewer")
        members.change_role(session, viewer, team, other.id, "member")
        members.remove_member(session, viewer, team, other.id)

    act(team_id, tokens_and_sources)
    act(team_id, places_and_people)
    found = events(team_id=team_id)
    assert [event.action for event in found] == [
        *("token.made", "token.revoked", "source.made", "source.changed", "source.changed", "source.disabled"),
        *("channel.made", "rule.saved", "rule.deleted", "channel.deleted", "member.changed", "member.removed"),
    ]
    assert {event.actor for event in found} == {ADA}
    assert [event.target for event in found[-2:]] == ["bob@example.org"] * 2
    written = " ".join(f"{event.target} {event.details}" for event in found)
    assert not [secret for secret in secrets if secret in written]


def test_what_is_noted_cannot_be_changed(team_id: int) -> None:
    act(team_id, lambda session, viewer, team: note(session, viewer, "team.changed", team_id=team.id))
    with pytest.raises(DBAPIError, match="never changed"), transaction() as session:
        session.execute(update(AuditEvent).values(actor="nobody"))
    assert [event.actor for event in events()] == [ADA]


def test_what_fails_is_not_noted(team_id: int) -> None:
    def fail(session: Any, viewer: Viewer, team: Team) -> None:
        note(session, viewer, "team.changed", team_id=team.id)
        raise LookupError

    with pytest.raises(LookupError):
        act(team_id, fail)
    assert events() == []


def test_nothing_unknown_is_noted(team_id: int) -> None:
    with pytest.raises(ValueError, match=r"no 'x\.y'"):
        act(team_id, lambda session, viewer, team: note(session, viewer, "x.y"))


def test_every_action_in_the_code_has_its_words() -> None:
    root = Path(auditing.__file__).parent.parent
    paths = [path for folder in ("service", "dashboards") for path in (root / folder).rglob("*.py")]
    code = "".join(path.read_text() for path in paths if path != Path(auditing.__file__))
    assert {name for name in ACTIONS if f'"{name}"' not in code} == set()


@on_sqlite
def test_the_first_owner_looks_after_the_installation_and_the_second_does_not(home: Path) -> None:
    for number in (1, 2):
        with transaction() as session:
            path = account_actions.create_setup_link(session)
        with transaction() as session:
            form = OwnerForm(
                name="Ada", email=f"{number}@example.org", password="a long password", team=f"Team {number}"
            )
            account_actions.set_up_owner(session, path.removeprefix("/setup/"), form)
    with reading() as session:
        assert session.scalars(select(User.is_administrator).order_by(User.id)).all() == [True, False]
    assert [event.target for event in events(action="team.set-up")] == ["Team 1", "Team 2"]


@pytest.fixture
def owner(team_id: int) -> Any:
    """The browser of the team's owner on the whole application."""
    with serving.serve(app) as url:
        with transaction() as session:
            request = Request({"type": "http", "client": ("192.0.2.7", 1), "headers": []})
            cookie = open_session(session, 1, request, ServiceSettings())
        with_cookie = Request({"type": "http", "headers": [(b"cookie", f"{SESSION_COOKIE}={cookie}".encode())]})
        headers = {"x-form-token": form_token(with_cookie)}
        with httpx.Client(base_url=url, cookies={SESSION_COOKIE: cookie}, headers=headers, timeout=60) as client:
            yield client


@on_sqlite
def test_signing_in_is_noted_in_the_persons_teams(owner: httpx.Client, team_id: int) -> None:
    (event,) = events(action="session.opened")
    assert (event.actor, event.team_id) == (ADA, team_id)


@on_sqlite
def test_requests_are_noted_with_their_address(owner: httpx.Client) -> None:
    assert owner.post("/api/v1/teams/acme/tokens", json={"name": "CI"}).status_code == 201
    (event,) = events(action="token.made")
    assert event.address == "127.0.0.1"
    assert event.user_id == 1


@on_sqlite
def test_exports_are_noted(owner: httpx.Client) -> None:
    for path in ("repositories/1/builds.csv", "repositories/1/steps.csv", "teams/acme/audit.csv"):
        assert owner.get(f"/api/v1/{path}").status_code == 200
    noted = serving.wait_for(lambda: (found := events(action="exported"))[2:] and found, "the third note")
    assert [event.target for event in noted] == ["acme/api", "acme/api", "audit log"]


@on_sqlite
def test_owners_page_and_filter(owner: httpx.Client, team_id: int) -> None:
    for number in range(5):
        act(
            team_id,
            lambda session, viewer, team, n=number: note(session, viewer, "token.made", team_id=team.id, target=str(n)),
        )
    first = owner.get("/api/v1/teams/acme/audit?limit=4&action=token").json()
    assert [event["target"] for event in first["events"]] == ["4", "3", "2", "1"]
    rest = owner.get(f"/api/v1/teams/acme/audit?limit=4&action=token.made&before={first['next']}").json()
    assert ([event["target"] for event in rest["events"]], rest["next"]) == (["0"], None)
    assert len(owner.get("/api/v1/teams/acme/audit?actor=nobody").json()["events"]) == 0
    today = datetime.now(UTC).date()
    assert len(owner.get(f"/api/v1/teams/acme/audit?from={today}&to={today}").json()["events"]) >= 5
    assert owner.get("/api/v1/teams/acme/audit?from=2001-01-01&to=2001-01-02").json()["events"] == []


@on_sqlite
def test_the_page_says_who_did_what(owner: httpx.Client, team_id: int) -> None:
    act(team_id, lambda session, viewer, team: tokens.create_token(session, viewer, team, TokenForm(name="<b>CI</b>")))
    page = owner.get("/teams/acme/audit", headers={"accept": "text/html"}).text
    assert "made a token" in page
    assert "&lt;b&gt;CI&lt;/b&gt;" in page
    assert ADA in page
    for number in range(60):
        act(
            team_id,
            lambda session, viewer, team, n=number: note(
                session, viewer, "rule.saved", team_id=team.id, target=f"rule {n}"
            ),
        )
    page = owner.get("/teams/acme/audit?action=rule.saved", headers={"accept": "text/html"}).text
    older = re.search(r'href="(\?[^"]*before=\d+)"', page)[1].replace("&amp;", "&")
    assert "rule 59" in page
    assert "rule 0" in owner.get(f"/teams/acme/audit{older}", headers={"accept": "text/html"}).text
    empty = owner.get("/teams/acme/audit?actor=nobody&from=x", headers={"accept": "text/html"}).text
    assert "No event fits." in empty


@on_sqlite
def test_the_csv_holds_all_and_is_harmless_to_a_spreadsheet(
    owner: httpx.Client, team_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "PAGE", 2)
    for _ in range(3):
        act(team_id, lambda session, viewer, team: note(session, viewer, "token.made", team_id=team.id, target="=1+1"))
    rows = list(csv.DictReader(io.StringIO(owner.get("/api/v1/teams/acme/audit.csv?action=token").text, newline="")))
    assert [(row["target"], row["actor"], row["team"]) for row in rows] == [("'=1+1", ADA, "acme")] * 3


@on_sqlite
@pytest.mark.parametrize("role", ["member", "viewer"])
def test_only_owners_read_it(owner: httpx.Client, team_id: int, role: str) -> None:
    with transaction() as session:
        teams.add_member(session, team_id, 1, role)
    for path in ("/api/v1/teams/acme/audit", "/api/v1/teams/acme/audit.csv", "/teams/acme/audit"):
        assert owner.get(path).status_code == 403


@on_sqlite
def test_a_team_sees_nothing_of_another(owner: httpx.Client, team_id: int) -> None:
    with transaction() as session:
        other = make_team(session, "other")
        note(session, None, "admin.command", team_id=other.id, target="theirs")
        note(session, None, "admin.command", target="everybody's")
    assert "theirs" not in owner.get("/api/v1/teams/acme/audit").text
    assert "everybody" not in owner.get("/api/v1/teams/acme/audit.csv").text
    with reading() as session:
        assert len(audit.load_events(session, AuditFilter(action="admin.command"))) == 2
