"""Members, invitations and accounts over the API, and what `cachescope admin` does for whoever forgot a password."""

from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from fastapi import Request
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from cachescope.errors import ConflictError, NotFoundError
from service.actions import members, people
from service.actions.tokens import TokenForm, issue_token
from service.admin import command
from service.auth.forms import form_token
from service.auth.passwords import hash_password
from service.auth.permissions import Viewer
from service.auth.sessions import SESSION_COOKIE, open_session
from service.browsers import describe_browser
from service.settings import ServiceSettings
from store.database import reading, transaction
from store.models import Team
from store.queries import accounts, teams
from tests.factories import make_repository, make_team

PASSWORD = "correct horse battery"


def sign_in(client: httpx.Client, user_id: int) -> None:
    with transaction() as session:
        request = Request({"type": "http", "client": ("127.0.0.1", 1), "headers": [(b"user-agent", b"curl/8.0")]})
        cookie = open_session(session, user_id, request, ServiceSettings())
    own = Request({"type": "http", "headers": [(b"cookie", f"{SESSION_COOKIE}={cookie}".encode())]})
    client.cookies.set(SESSION_COOKIE, cookie)
    client.headers["x-form-token"] = form_token(own)


@pytest.fixture
def people_of(home: Path) -> SimpleNamespace:
    """A team with an owner and a viewer."""
    with transaction() as session:
        team = make_team(session)
        make_repository(session, "acme/api", team)
        ids = {}
        for name, role in (("ada", "owner"), ("bob", "viewer")):
            user = accounts.create_user(
                session, email=f"{name}@example.org", name=name.capitalize(), password_hash=hash_password(PASSWORD)
            )
            teams.add_member(session, team.id, user.id, role)
            ids[name] = user.id
        return SimpleNamespace(**ids, team_id=team.id)


@pytest.fixture
def browser(client: httpx.Client, people_of: SimpleNamespace) -> httpx.Client:
    """A browser in which the owner is signed in."""
    sign_in(client, people_of.ada)
    return client


def test_members_are_listed_changed_and_removed(browser: httpx.Client, people_of: SimpleNamespace) -> None:
    listed = browser.get("/api/v1/teams/acme/members").json()["members"]
    assert [(each["name"], each["role"]) for each in listed] == [("Ada", "owner"), ("Bob", "viewer")]
    address = f"/api/v1/teams/acme/members/{people_of.bob}"
    assert browser.patch(address, json={"role": "member"}).json()["role"] == "member"
    assert browser.patch(address, json={"role": "king"}).status_code == 422
    assert browser.delete(address).status_code == 204
    assert browser.delete(address).status_code == 404
    last = browser.delete(f"/api/v1/teams/acme/members/{people_of.ada}")
    assert (last.status_code, last.json()["type"]) == (409, "urn:cachescope:problem:conflict")


def test_a_viewer_leaves_and_removes_nobody(client: httpx.Client, people_of: SimpleNamespace) -> None:
    sign_in(client, people_of.bob)
    assert client.delete(f"/api/v1/teams/acme/members/{people_of.ada}").status_code == 403
    assert client.get("/api/v1/teams/acme/invitations").status_code == 403
    assert client.delete(f"/api/v1/teams/acme/members/{people_of.bob}").status_code == 204
    assert client.get("/api/v1/teams").json() == {"teams": []}


def test_an_invitation_over_the_api(browser: httpx.Client) -> None:
    made = browser.post("/api/v1/teams/acme/invitations", json={"email": "carol@example.org", "role": "viewer"})
    assert made.status_code == 201
    assert (made.json()["is_sent"], made.json()["invited_by"]) == (False, "Ada")
    assert "/invitations/" in made.json()["url"]
    again = browser.post("/api/v1/teams/acme/invitations", json={"email": "carol@example.org", "role": "member"})
    (listed,) = browser.get("/api/v1/teams/acme/invitations").json()["invitations"]
    assert (listed["id"], listed["role"]) == (again.json()["id"], "member"), "the newer one takes the older one's place"
    assert "url" not in listed
    assert browser.delete(f"/api/v1/teams/acme/invitations/{listed['id']}").status_code == 204
    assert browser.delete(f"/api/v1/teams/acme/invitations/{listed['id']}").status_code == 404


def test_a_team_over_the_api(browser: httpx.Client) -> None:
    made = browser.post("/api/v1/teams", json={"name": "Shop"})
    assert (made.status_code, made.json()["slug"], made.json()["role"]) == (201, "shop", "owner")
    assert browser.post("/api/v1/teams", json={"name": "\t"}).status_code == 422


def test_nobody_owns_teams_without_end(
    browser: httpx.Client, people_of: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "MOST_TEAMS", 1)
    assert browser.post("/api/v1/teams", json={"name": "Shop"}).status_code == 409


def test_an_account_and_its_browsers_over_the_api(browser: httpx.Client, people_of: SimpleNamespace) -> None:
    account = browser.get("/api/v1/account").json()
    assert (account["user_id"], account["email"], account["has_password"]) == (people_of.ada, "ada@example.org", True)
    made = browser.post("/api/v1/teams/acme/tokens", json={"name": "laptop", "scope": "read"}).json()
    assert [(each["name"], each["team"]) for each in browser.get("/api/v1/account").json()["tokens"]] == [
        ("laptop", "acme")
    ]
    (session,) = browser.get("/api/v1/account/sessions").json()["sessions"]
    assert (session["browser"], session["address"], session["is_this"]) == ("Curl", "127.0.0.1", True)
    bearer = {"authorization": f"Bearer {made['token']}"}
    with httpx.Client(base_url=browser.base_url) as reader:
        assert reader.get("/api/v1/account", headers=bearer).status_code == 403
        assert reader.get("/api/v1/teams/acme/members", headers=bearer).status_code == 200
    assert browser.delete(f"/api/v1/account/sessions/{session['id']}").status_code == 204
    assert browser.get("/api/v1/account").status_code == 401


def test_a_token_of_one_repository_does_not_see_who_belongs_to_the_team(
    client: httpx.Client, people_of: SimpleNamespace
) -> None:
    with transaction() as session:
        form = TokenForm(name="one", scope="read", repository_id=1)
        _, text = issue_token(session, session.get_one(Team, people_of.team_id), form)
    answer = client.get("/api/v1/teams/acme/members", headers={"authorization": f"Bearer {text}"})
    assert answer.status_code == 403


def test_the_last_of_two_owners_stays_however_they_go(session: Session) -> None:
    team = make_team(session)
    ids = [accounts.create_user(session, email=f"{n}@example.org", name=n, password_hash=None).id for n in "ab"]
    for each in ids:
        teams.add_member(session, team.id, each, "owner")
    first, second = (Viewer(name=str(each), roles={team.id: "owner"}, user_id=each) for each in ids)
    members.change_role(session, first, team, ids[1], "viewer")
    with pytest.raises(ConflictError, match="last owner"):
        members.change_role(session, second, team, ids[0], "member")


def test_a_link_for_a_forgotten_password_is_printed(home: Path, people_of: SimpleNamespace) -> None:
    done = CliRunner().invoke(command, ["reset-link", "ADA@example.org"], catch_exceptions=False)
    token = done.output.strip().removeprefix("/reset/")
    with reading() as session:
        assert people.find_reset(session, token).email == "ada@example.org"
    with transaction() as session, pytest.raises(NotFoundError, match="nobody@example"):
        people.make_reset_link(session, "nobody@example.org")


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (None, "An unknown browser"),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/142.0.0.0 Safari/537.36",
            "Chrome on Windows",
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Mobile/15E148 Safari/604.1",
            "Safari on iPhone",
        ),
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0", "Edge on Windows"),
        ("something on Linux", "A browser on Linux"),
        ("python-httpx/0.28", "A Python program"),
    ],
    ids=str,
)
def test_a_browser_is_named_in_two_words(header: str | None, said: str) -> None:
    assert describe_browser(header) == said
