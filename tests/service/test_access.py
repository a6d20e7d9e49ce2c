"""Who may see and do what: the one-time link, passwords, sessions, forms, tokens, and the walls between teams."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from fastapi import Request, Response
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from cachescope.errors import (
    CredentialsRefusedError,
    ForbiddenError,
    InvalidValueError,
    NotFoundError,
    SignInRequiredError,
)
from service.actions import accounts as actions
from service.actions import sources as source_actions
from service.actions import tokens as token_actions
from service.actions.accounts import OwnerForm
from service.actions.tokens import TokenForm
from service.app import create_app
from service.auth.forms import FORM_COOKIE, check_form, form_token, remember_visitor
from service.auth.permissions import Viewer
from service.auth.sessions import SESSION_COOKIE, open_session, set_session_cookie
from service.auth.tokens import hash_token
from service.settings import ServiceSettings
from store.database import reading, transaction
from store.models import Membership, Source, Team, Token, UserSession
from store.queries import accounts, repositories
from tests import serving
from tests.factories import make_delivery, make_repository, make_team, save_build

PASSWORD = "correct horse battery"
FORM = OwnerForm(name="Ada Lovelace", email="Ada@Example.org", password=PASSWORD, team="Acme & Söhne")


def link_token(session: Session) -> str:
    return actions.create_setup_link(session).removeprefix("/setup/")


# -- the first account -------------------------------------------------------------------------------------------------


def test_the_one_time_link_makes_an_owner_with_a_team(session: Session) -> None:
    token = link_token(session)
    assert actions.is_setup_link_valid(session, token)
    user, team = actions.set_up_owner(session, token, FORM)
    assert (user.email, team.slug) == ("ada@example.org", "acme-sohne")
    assert session.get_one(Membership, (team.id, user.id)).role == "owner"
    assert PASSWORD not in str(user.password_hash)
    assert user.password_hash.startswith("$argon2id$")


def test_the_link_works_once(session: Session) -> None:
    token = link_token(session)
    actions.set_up_owner(session, token, FORM)
    assert not actions.is_setup_link_valid(session, token)
    again = OwnerForm(name="Eve", email="eve@example.org", password=PASSWORD, team="Evil")
    with pytest.raises(CredentialsRefusedError, match="admin owner-link"):
        actions.set_up_owner(session, token, again)
    assert accounts.find_user_by_email(session, "eve@example.org") is None


def test_an_old_link_works_no_more(session: Session) -> None:
    token = actions.create_setup_link(session, hours=0).removeprefix("/setup/")
    assert not actions.is_setup_link_valid(session, token)


def test_the_owner_finds_the_team_that_waits_without_one(session: Session) -> None:
    waiting = actions.create_team(session, "My team")
    form = OwnerForm(name="Ada", email="ada@example.org", password=PASSWORD, team="My team")
    assert actions.set_up_owner(session, link_token(session), form)[1].id == waiting.id


def test_the_owner_takes_over_the_only_team_without_one_under_another_name(session: Session) -> None:
    waiting = actions.create_team(session, "My team")
    assert actions.waiting_team(session) == waiting
    team = actions.set_up_owner(session, link_token(session), FORM)[1]
    assert (team.id, team.name, team.slug) == (waiting.id, FORM.team, "my-team")
    assert actions.waiting_team(session) is None


def test_of_several_teams_without_an_owner_none_is_taken_over_by_another_name(session: Session) -> None:
    waiting = {actions.create_team(session, name).id for name in ("One", "Two")}
    make_team(session, "demo").is_demo = True
    assert actions.waiting_team(session) is None
    assert actions.set_up_owner(session, link_token(session), FORM)[1].id not in waiting


def test_a_team_with_an_owner_is_nobody_elses(session: Session) -> None:
    first = actions.set_up_owner(session, link_token(session), FORM)[1]
    form = OwnerForm(name="Bob", email="bob@example.org", password=PASSWORD, team=FORM.team)
    second = actions.set_up_owner(session, link_token(session), form)[1]
    assert second.id != first.id
    assert second.slug == "acme-sohne-2"


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", " "), ("name", "x" * 101), ("email", "ada"), ("email", "a b@c"), ("password", "short"), ("team", "\x00")],
)
def test_a_field_that_cannot_be_taken_is_named_and_the_link_stays_good(
    session: Session, field: str, value: str
) -> None:
    token = link_token(session)
    fields = {name: getattr(FORM, name) for name in ("name", "email", "password", "team")}
    with pytest.raises(InvalidValueError) as refused:
        actions.set_up_owner(session, token, OwnerForm(**fields | {field: value}))
    assert refused.value.field == field
    assert actions.is_setup_link_valid(session, token)


def test_a_password_opens_its_account_alone(session: Session) -> None:
    user, _ = actions.set_up_owner(session, link_token(session), FORM)
    session.commit()
    assert actions.sign_in(session, " ADA@example.org ", PASSWORD).id == user.id
    for email, password in (("ada@example.org", "wrong"), ("eve@example.org", PASSWORD), ("", "")):
        with pytest.raises(CredentialsRefusedError) as refused:
            actions.sign_in(session, email, password)
        assert str(refused.value) == "This e-mail address and this password do not belong together."


# -- sessions and forms ------------------------------------------------------------------------------------------------


@pytest.fixture
def owner(home: Path) -> SimpleNamespace:
    """An owner of a team who is signed in, with the cookie of the browser."""
    with transaction() as session:
        user, team = actions.set_up_owner(session, link_token(session), FORM)
        request = Request({"type": "http", "client": ("127.0.0.1", 1), "headers": [(b"user-agent", b"test")]})
        cookie = open_session(session, user.id, request, ServiceSettings())
        repository = make_repository(session, "acme/api", team)
        (build_id,) = save_build(session, repository)
        delivery = make_delivery(session, repository, state="failed", error="no", idempotency_key="2")
        source, _ = source_actions.create_source(
            session, Viewer(name="Ada", roles={team.id: "owner"}), team, source_actions.SourceForm(name="Jenkins")
        )
        token, text = token_actions.issue_token(session, team, TokenForm(name="reader", scope="read"))
        return SimpleNamespace(
            cookie=cookie,
            user_id=user.id,
            team=team.slug,
            team_id=team.id,
            repository_id=repository.id,
            build_id=build_id,
            delivery_id=delivery.id,
            source_id=source.id,
            token_id=token.id,
            token=text,
        )


def form_token_of(cookie: str) -> str:
    request = Request({"type": "http", "headers": [(b"cookie", f"{SESSION_COOKIE}={cookie}".encode())]})
    return form_token(request)


@pytest.fixture
def browser(client: httpx.Client, owner: SimpleNamespace) -> httpx.Client:
    """A browser in which the owner is signed in, and which sends forms from our own pages."""
    client.cookies.set(SESSION_COOKIE, owner.cookie)
    client.headers["x-form-token"] = form_token_of(owner.cookie)
    return client


def test_a_session_shows_its_teams(browser: httpx.Client, owner: SimpleNamespace) -> None:
    (team,) = browser.get("/api/v1/teams").json()["teams"]
    assert (team["slug"], team["role"]) == (owner.team, "owner")


def test_the_cookie_is_kept_as_a_hash(browser: httpx.Client, owner: SimpleNamespace) -> None:
    with reading() as session:
        kept = session.scalars(select(UserSession)).one()
    assert kept.token_hash == hash_token(owner.cookie) != owner.cookie


def test_a_session_ends(browser: httpx.Client, owner: SimpleNamespace) -> None:
    with transaction() as session:
        session.execute(update(UserSession).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    assert browser.get("/api/v1/teams").status_code == 401


def test_the_last_use_of_a_session_is_remembered_now_and_then(browser: httpx.Client, owner: SimpleNamespace) -> None:
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    with transaction() as session:
        session.execute(update(UserSession).values(last_seen_at=long_ago))
    browser.get("/api/v1/teams")
    with reading() as session:
        assert session.scalars(select(UserSession.last_seen_at)).one() > long_ago


def test_many_requests_at_once_do_not_wait_for_a_second_connection_each(
    browser: httpx.Client, owner: SimpleNamespace
) -> None:
    with transaction() as session:
        session.execute(update(UserSession).values(last_seen_at=datetime.now(UTC) - timedelta(hours=1)))
    began = time.monotonic()
    with ThreadPoolExecutor(30) as pool:
        statuses = list(pool.map(lambda _: browser.get("/api/v1/teams").status_code, range(30)))
    assert statuses == [200] * 30
    assert time.monotonic() - began < 20, "somebody waited for the pool to give up"


@pytest.mark.parametrize(("scheme", "is_secure"), [("https", True), ("http", False)])
def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(scheme: str, is_secure: bool) -> None:
    response = Response()
    set_session_cookie(response, "text", ServiceSettings(), is_https=scheme == "https")
    cookie = response.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert ("Secure" in cookie) is is_secure


def test_a_change_needs_the_token_of_our_own_page(browser: httpx.Client, owner: SimpleNamespace) -> None:
    del browser.headers["x-form-token"]
    answer = browser.post(f"/api/v1/teams/{owner.team}/tokens", json={"name": "x"})
    assert answer.status_code == 403
    assert "other site" in answer.json()["detail"] or "another site" in answer.json()["detail"]
    wrong = {"x-form-token": form_token_of("another session")}
    assert browser.post(f"/api/v1/teams/{owner.team}/tokens", json={"name": "x"}, headers=wrong).status_code == 403


@pytest.mark.parametrize("header", [{"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}])
def test_a_change_from_another_site_is_refused(
    browser: httpx.Client, owner: SimpleNamespace, header: dict[str, str]
) -> None:
    answer = browser.post(f"/api/v1/teams/{owner.team}/tokens", json={"name": "x"}, headers=header)
    assert answer.status_code == 403


def test_a_visitor_gets_a_form_token_of_their_own() -> None:
    empty = Request({"type": "http", "headers": []})
    token, response = form_token(empty), Response()
    remember_visitor(empty, response, is_https=False)
    cookie = re.search(rf"{FORM_COOKIE}=([^;]+)", response.headers["set-cookie"])[1]
    later = Request({"type": "http", "headers": [(b"cookie", f"{FORM_COOKIE}={cookie}".encode())]})
    check_form(later, token)
    for wrong in (None, "", "é", token[:-1]):
        with pytest.raises(ForbiddenError):
            check_form(later, wrong)
    with pytest.raises(ForbiddenError):
        check_form(empty, token)


def test_a_browser_is_led_to_the_sign_in_page(home: Path) -> None:
    app = create_app()

    @app.get("/secret")
    def secret() -> None:
        raise SignInRequiredError("Sign in.")

    with serving.serve(app) as url:
        answer = httpx.get(f"{url}/secret?page=2", headers={"accept": "text/html"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=%2Fsecret%3Fpage%3D2")
        assert httpx.get(f"{url}/secret").status_code == 401


# -- tokens and sources ------------------------------------------------------------------------------------------------


def test_a_token_is_shown_once_and_kept_as_a_hash(browser: httpx.Client, owner: SimpleNamespace) -> None:
    made = browser.post(f"/api/v1/teams/{owner.team}/tokens", json={"name": "CI", "scope": "upload"})
    assert made.status_code == 201
    text = made.json()["token"]
    listed = browser.get(f"/api/v1/teams/{owner.team}/tokens")
    assert text not in listed.text
    assert listed.json()["tokens"][0]["hint"] == text[-4:]
    with reading() as session:
        kept = session.get_one(Token, made.json()["id"])
    assert kept.token_hash == hash_token(text)
    assert browser.post("/api/v1/uploads?repository=a", content=b"log", headers=bearer(text)).status_code == 202


def test_a_revoked_token_is_refused_at_once(browser: httpx.Client, owner: SimpleNamespace) -> None:
    assert browser.delete(f"/api/v1/teams/{owner.team}/tokens/{owner.token_id}").status_code == 204
    browser.cookies.clear()
    assert browser.get("/api/v1/teams", headers=bearer(owner.token)).status_code == 401
    assert browser.get("/api/v1/teams").status_code == 401


def test_a_token_past_its_end_is_refused(client: httpx.Client, owner: SimpleNamespace) -> None:
    with transaction() as session:
        session.execute(update(Token).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    assert client.get("/api/v1/teams", headers=bearer(owner.token)).status_code == 401


def test_the_last_use_of_a_token_is_remembered(client: httpx.Client, owner: SimpleNamespace) -> None:
    client.get("/api/v1/teams", headers=bearer(owner.token))
    with reading() as session:
        assert session.get_one(Token, owner.token_id).last_used_at is not None


@pytest.mark.parametrize(
    "asked",
    [
        {"name": ""},
        {"name": "x", "scope": "root"},
        {"name": "x", "repository_id": 99},
        {"name": "x", "expires_at": "2020-01-01T00:00:00Z"},
        {"name": "x", "expires_at": "2999-01-01T00:00:00"},
    ],
    ids=str,
)
def test_a_token_nobody_could_use_is_not_made(
    browser: httpx.Client, owner: SimpleNamespace, asked: dict[str, object]
) -> None:
    answer = browser.post(f"/api/v1/teams/{owner.team}/tokens", json=asked)
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"].endswith(".")


def test_a_read_token_changes_nothing(client: httpx.Client, owner: SimpleNamespace) -> None:
    answer = client.post(f"/api/v1/teams/{owner.team}/tokens", json={"name": "x"}, headers=bearer(owner.token))
    assert answer.status_code == 403
    assert "Sign in" in answer.json()["detail"]


@pytest.mark.parametrize("header", ["Basic YTpi", "Bearer", "Bearer  "])
def test_a_header_that_is_no_bearer_token_is_refused(client: httpx.Client, owner: SimpleNamespace, header: str) -> None:
    answer = client.get("/api/v1/teams", headers={"authorization": header.strip() or "x"})
    assert answer.status_code == 401
    assert "Bearer <token>" in answer.json()["detail"]


def test_a_source_is_made_changed_and_switched_off(browser: httpx.Client, owner: SimpleNamespace) -> None:
    made = browser.post(f"/api/v1/teams/{owner.team}/sources", json={"name": "CI"}).json()
    assert made["secret"].startswith("whsec_")
    assert made["url"].endswith(f"/hooks/{made['id']}")
    with reading() as session:
        kept = session.connection().exec_driver_sql("SELECT secrets FROM sources ORDER BY created_at DESC").first()[0]
    assert made["secret"] not in kept
    changed = browser.post(f"/api/v1/teams/{owner.team}/sources/{made['id']}/secret").json()
    assert changed["secret"] != made["secret"]
    listed = browser.get(f"/api/v1/teams/{owner.team}/sources")
    assert made["secret"] not in listed.text
    assert changed["secret"] not in listed.text
    assert browser.delete(f"/api/v1/teams/{owner.team}/sources/{made['id']}").status_code == 204
    with reading() as session:
        assert session.get_one(Source, made["id"]).disabled_at is not None


def test_a_source_of_an_unknown_provider_is_not_made(browser: httpx.Client, owner: SimpleNamespace) -> None:
    answer = browser.post(f"/api/v1/teams/{owner.team}/sources", json={"name": "CI", "provider": "hudson"})
    assert answer.status_code == 422
    assert "hudson" in answer.json()["detail"]
    assert "generic" in answer.json()["detail"]


def test_a_source_is_offered_for_every_ci_system(browser: httpx.Client, owner: SimpleNamespace) -> None:
    for provider in source_actions.list_providers():
        answer = browser.post(f"/api/v1/teams/{owner.team}/sources", json={"name": "CI", "provider": provider})
        assert answer.status_code == 201, provider
        assert len(answer.json()["secret"]) >= 32


def test_a_viewer_reads_and_changes_nothing(session: Session) -> None:
    team = make_team(session)
    viewer = Viewer(name="Bob", roles={team.id: "viewer"})
    for act in (
        lambda: token_actions.create_token(session, viewer, team, TokenForm(name="x")),
        lambda: token_actions.revoke_token(session, viewer, team, "x"),
        lambda: token_actions.list_tokens(session, viewer, team),
        lambda: source_actions.create_source(session, viewer, team, source_actions.SourceForm(name="x")),
        lambda: source_actions.rotate_secret(session, viewer, team, "x"),
        lambda: source_actions.disable_source(session, viewer, team, "x"),
    ):
        with pytest.raises(ForbiddenError):
            act()


def test_nobody_outside_a_team_learns_that_it_exists(session: Session) -> None:
    team = make_team(session)
    stranger = Viewer(name="Eve", roles={})
    with pytest.raises(NotFoundError):
        token_actions.list_tokens(session, stranger, team)


# -- the walls between teams -------------------------------------------------------------------------------------------


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


OF_REPOSITORY = (
    "/api/v1/repositories/{repository_id}",
    "/api/v1/builds/{build_id}",
    "/api/v1/deliveries/{delivery_id}",
)


def test_a_token_of_one_repository_sees_nothing_else_of_its_team(client: httpx.Client, owner: SimpleNamespace) -> None:
    with transaction() as session:
        team = session.get_one(Team, owner.team_id)
        other = repositories.get_or_create_repository(session, team.id, "acme/shop")
        form = TokenForm(name="shop", scope="read", repository_id=other.id)
        text = token_actions.issue_token(session, team, form)[1]
    for pattern in OF_REPOSITORY:
        assert client.get(pattern.format(**vars(owner)), headers=bearer(text)).status_code == 404, pattern
    listed = client.get("/api/v1/repositories", headers=bearer(text)).json()["repositories"]
    assert [each["name"] for each in listed] == ["acme/shop"]
    overview = client.get(f"/api/v1/teams/{owner.team}/overview", headers=bearer(text)).json()
    assert [each["name"] for each in overview["repositories"]] == ["acme/shop"]
    assert client.get(f"/api/v1/teams/{owner.team}/deliveries", headers=bearer(text)).json()["deliveries"] == []


def test_an_upload_token_asks_for_its_own_deliveries_only(client: httpx.Client, owner: SimpleNamespace) -> None:
    with transaction() as session:
        mine = token_actions.issue_token(session, session.get_one(Team, owner.team_id), TokenForm(name="CI"))[1]
        theirs = token_actions.issue_token(session, make_team(session, "other"), TokenForm(name="CI"))[1]
    address = f"/api/v1/deliveries/{owner.delivery_id}"
    assert client.get(address, headers=bearer(mine)).json()["state"] == "failed"
    assert client.get(address, headers=bearer(theirs)).status_code == 404
    assert client.get("/api/v1/teams", headers=bearer(mine)).status_code == 403


def test_a_failed_delivery_is_tried_again(browser: httpx.Client, owner: SimpleNamespace) -> None:
    answer = browser.post(f"/api/v1/deliveries/{owner.delivery_id}/retry")
    assert answer.status_code == 409  # nothing of it was kept
    assert "Send it again" in answer.json()["detail"]
