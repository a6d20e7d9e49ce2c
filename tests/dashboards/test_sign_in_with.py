"""Signing in at a provider: with a real one in a process of its own, and with one that lies."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import httpx
import pytest
from fastapi import FastAPI
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from playwright.sync_api import Browser
from sqlalchemy import func, select

from dashboards import app as pages
from service.actions.tokens import TokenForm, issue_token
from service.app import create_app
from service.auth.passwords import hash_password
from service.auth.providers import open_sign_in
from service.auth.sessions import SESSION_COOKIE
from service.auth.single_sign_on import COOKIE
from service.settings import ServiceSettings, SignInSettings
from store.database import reading, transaction
from store.models import AuditEvent, Identity, Membership, Team, User, UserSession
from store.queries import accounts, teams
from store.settings import get_settings as get_store_settings
from tests import serving
from tests.factories import make_team
from tests.providers import CLIENT, KEY, OTHER_KEY, SECRET, CrookedProvider, crooked_provider, real_provider

ADA = {"email": "ada@example.org", "email_verified": True, "name": "Ada Lovelace"}
ROLES = {"platform": ["acme:owner"], "staff": "acme:viewer", "tools": ["tools:member"]}


class Door:
    """The sign-in page of an installation, and a browser in front of it."""

    def __init__(self, app: FastAPI, url: str) -> None:
        self.app, self.url = app, url
        self.browser = httpx.Client(base_url=url, timeout=60, headers={"accept": "text/html"})

    def use(self, *providers: dict[str, Any], **settings: Any) -> None:
        """Configure providers, as the environment would at the start."""
        service = ServiceSettings(public_url=self.url)
        named = SignInSettings(providers=json.dumps(providers), **settings)
        self.app.state.settings, self.app.state.sign_in = service, open_sign_in(named, service)

    def begin(self, name: str = "company", **query: str) -> str:
        """Press the button; returns where it leads."""
        answer = self.browser.get(f"/sign-in/with/{name}", params=query)
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    def come_back(self, url: str) -> httpx.Response:
        """Follow the provider's answer."""
        assert url.startswith(self.url)
        return self.browser.get(url)

    @property
    def is_signed_in(self) -> bool:
        """Whether pages open."""
        return "/sign-in" not in self.browser.get("/").headers.get("location", "")


@pytest.fixture
def door(home: Path) -> Iterator[Door]:
    app = create_app(error_page=pages.error_page)
    app.include_router(pages.router)
    with serving.serve(app) as url:
        opened = Door(app, url)
        yield opened
        opened.browser.close()


def company(issuer: str, **more: Any) -> dict[str, Any]:
    return {
        "name": "company",
        "issuer": issuer,
        "client_id": CLIENT,
        "client_secret": SECRET,
        "networks": "127.0.0.0/8",
        **more,
    }


@pytest.fixture
def crook(door: Door) -> Iterator[CrookedProvider]:
    with crooked_provider(claims=dict(ADA)) as provider:
        door.use(company(provider.issuer))
        yield provider


def memberships() -> dict[str, str]:
    with reading() as session:
        rows = session.execute(select(Team.slug, Membership.role).join(Membership, Membership.team_id == Team.id))
        return {row.slug: row.role for row in rows}


def count(model: type) -> int:
    with reading() as session:
        return session.scalar(select(func.count()).select_from(model)) or 0


def changed(url: str, **given: str) -> str:
    """An address with other parameters."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query=urlencode(dict(parse_qsl(parts.query)) | given)))


# -- A real provider --------------------------------------------------------------------------------------------------


def test_the_first_sign_in_makes_an_account_with_the_roles_of_its_groups(door: Door, tmp_path: Path) -> None:
    with real_provider(tmp_path) as provider:
        door.use(company(provider.issuer, groups=ROLES))
        provider.set_user("u1", **ADA, groups=["staff", "platform", "tennis"])
        answer = door.come_back(provider.sign_in(door.begin(next="/teams/acme/alerts"), "u1"))
        assert (answer.status_code, answer.headers["location"]) == (303, "/teams/acme/alerts")
        assert door.is_signed_in
    assert memberships() == {"acme": "owner"}
    with reading() as session:
        (user,) = session.scalars(select(User)).all()
        (identity,) = session.scalars(select(Identity)).all()
    assert (user.email, user.name, user.password_hash) == ("ada@example.org", "Ada Lovelace", None)
    assert (identity.issuer, identity.subject) == (provider.issuer, "u1")


def test_changed_groups_change_roles_at_the_next_sign_in(door: Door, tmp_path: Path) -> None:
    with real_provider(tmp_path) as provider:
        door.use(company(provider.issuer, groups=ROLES))
        for groups, roles in (
            (["platform", "tools"], {"acme": "owner", "tools": "member"}),
            (["staff"], {"acme": "viewer"}),
            (["tools"], {"tools": "member"}),
        ):
            provider.set_user("u1", **ADA, groups=groups)
            assert door.come_back(provider.sign_in(door.begin(), "u1")).status_code == 303
            assert memberships() == roles
        provider.set_user("u1", **ADA, groups=["tennis"])
        answer = door.come_back(provider.sign_in(door.begin(), "u1"))
    assert answer.status_code == 401
    assert "None of your groups" in answer.text
    assert memberships() == {}
    assert count(User) == 1


def test_a_nonce_of_another_attempt_is_refused(door: Door, tmp_path: Path) -> None:
    with real_provider(tmp_path) as provider:
        door.use(company(provider.issuer))
        provider.set_user("u1", **ADA)
        answer = door.come_back(provider.sign_in(changed(door.begin(), nonce="of-another-attempt"), "u1"))
    assert answer.status_code == 401
    assert count(User) == 0


def test_a_code_leads_to_one_session(door: Door, tmp_path: Path) -> None:
    with real_provider(tmp_path) as provider:
        door.use(company(provider.issuer))
        provider.set_user("u1", **ADA)
        way_there = door.begin()
        cookie = door.browser.cookies[COOKIE]
        way_back = provider.sign_in(way_there, "u1")
        assert door.come_back(way_back).status_code == 303
        door.browser.cookies.set(COOKIE, cookie)
        assert door.come_back(way_back).status_code == 401
    assert count(UserSession) == 1


def test_a_token_that_has_ended_is_refused(door: Door, tmp_path: Path) -> None:
    with real_provider(tmp_path, token_seconds=-120) as provider:
        door.use(company(provider.issuer))
        provider.set_user("u1", **ADA)
        assert door.come_back(provider.sign_in(door.begin(), "u1")).status_code == 401
    assert count(User) == 0


def test_a_provider_that_is_down_is_said_to_be_and_passwords_still_work(door: Door, tmp_path: Path) -> None:
    with real_provider(tmp_path) as provider:
        door.use(company(provider.issuer, label="The Company"))
        provider.set_user("u1", **ADA)
        way_back = provider.sign_in(door.begin(), "u1")
    answer = door.come_back(way_back)
    assert answer.status_code == 401
    assert "The Company does not answer" in answer.text
    door.use(company(provider.issuer, label="The Company"))  # a server that has just started knows nothing of it
    answer = door.browser.get("/sign-in/with/company")
    assert answer.status_code == 502
    assert "The Company does not answer" in answer.text
    assert 'type="password"' in answer.text


def test_signing_out_leads_on_to_the_provider(door: Door, tmp_path: Path) -> None:
    with real_provider(tmp_path) as provider:
        door.use(company(provider.issuer, everybody=["acme:viewer"]))
        provider.set_user("u1", **ADA)
        door.come_back(provider.sign_in(door.begin(), "u1"))
        page = door.browser.get("/teams/acme", follow_redirects=True).text
        form = {"form_token": page.partition('name="form_token" value="')[2].partition('"')[0]}
        answer = door.browser.post("/sign-out", data=form)
        target = answer.text.partition('content="0; url=')[2].partition('"')[0].replace("&amp;", "&")
        assert target.startswith(f"{provider.issuer}/oauth2/end_session?")
        given = dict(parse_qsl(urlsplit(target).query))
        assert given["post_logout_redirect_uri"] == f"{door.url}/sign-in"
        assert given["id_token_hint"].count(".") == 2
        assert httpx.get(target).status_code == 200
    assert not door.is_signed_in
    assert count(UserSession) == 0


# -- A provider that lies ---------------------------------------------------------------------------------------------


def unsigned(claims: dict[str, Any]) -> str:
    return jwt.encode({"alg": "RS256", "kid": "first"}, claims, KEY).rpartition(".")[0] + "."


def none(claims: dict[str, Any]) -> str:
    head, _, rest = jwt.encode({"alg": "HS256"}, claims, OctKey.import_key("x" * 32)).partition(".")
    return f"eyJhbGciOiJub25lIn0.{rest.partition('.')[0]}." if head else ""


def with_public_key(claims: dict[str, Any]) -> str:
    return jwt.encode({"alg": "HS256", "kid": "first"}, claims, OctKey.import_key(KEY.as_pem(private=False)))


def with_our_secret(claims: dict[str, Any]) -> str:
    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(SECRET))


def with_other_key(claims: dict[str, Any]) -> str:
    return jwt.encode({"alg": "RS256", "kid": "first"}, claims, OTHER_KEY)


def with_own_key(claims: dict[str, Any]) -> str:
    own = RSAKey.import_key(OTHER_KEY.as_dict(private=True))
    return jwt.encode({"alg": "RS256", "kid": "first", "jwk": own.as_dict(private=False)}, claims, own)


LIES: dict[str, Callable[[], dict[str, Any]]] = {
    "another issuer": lambda: {"iss": "https://elsewhere.example"},
    "no issuer": lambda: {"iss": ...},
    "for another client": lambda: {"aud": "somebody-else"},
    "for others": lambda: {"aud": ["somebody", "else"]},
    "given to another client": lambda: {"aud": [CLIENT, "other"], "azp": "other"},
    "for several, given to nobody": lambda: {"aud": [CLIENT, "other"]},
    "ended": lambda: {"exp": int(time.time()) - 61},
    "without an end": lambda: {"exp": ...},
    "ends never": lambda: {"exp": "never"},
    "made in the future": lambda: {"iat": int(time.time()) + 120},
    "without a beginning": lambda: {"iat": ...},
    "not valid yet": lambda: {"nbf": int(time.time()) + 120},
    "another nonce": lambda: {"nonce": "x"},
    "no nonce": lambda: {"nonce": ...},
    "about nobody": lambda: {"sub": ...},
    "about something": lambda: {"sub": 7},
    "about a novel": lambda: {"sub": "x" * 256},
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_token_with_a_wrong_claim_lets_nobody_in(door: Door, crook: CrookedProvider, lie: Callable[[], Any]) -> None:
    crook.claims |= lie()
    assert door.come_back(crook.sign_in(door.begin())).status_code == 401
    assert not door.is_signed_in
    assert count(User) == 0


@pytest.mark.parametrize("sign", [unsigned, none, with_public_key, with_our_secret, with_other_key, with_own_key])
def test_a_token_that_the_provider_did_not_sign_lets_nobody_in(
    door: Door, crook: CrookedProvider, sign: Callable[[dict[str, Any]], str]
) -> None:
    crook.sign = sign
    assert door.come_back(crook.sign_in(door.begin())).status_code == 401
    assert count(User) == 0


@pytest.mark.parametrize("token", [None, 7, "", "a.b", "a.b.c", "x" * 70_000])
def test_something_that_is_no_token_lets_nobody_in(door: Door, crook: CrookedProvider, token: Any) -> None:
    crook.sign = lambda _: token
    assert door.come_back(crook.sign_in(door.begin())).status_code == 401


def test_clocks_may_differ_by_a_minute(door: Door, crook: CrookedProvider) -> None:
    now = int(time.time())
    crook.claims |= {"iat": now + 45, "exp": now - 15}
    assert door.come_back(crook.sign_in(door.begin())).status_code == 303


def test_an_algorithm_that_is_not_allowed_is_refused_though_the_signature_is_right(
    door: Door, crook: CrookedProvider
) -> None:
    door.use(company(crook.issuer, algorithms=["ES256"]))
    assert door.come_back(crook.sign_in(door.begin())).status_code == 401


def test_a_new_key_of_the_provider_is_found(door: Door, crook: CrookedProvider) -> None:
    assert door.come_back(crook.sign_in(door.begin())).status_code == 303
    door.app.state.sign_in.providers["company"].provider._kept.keys_at -= 60
    new = RSAKey.generate_key(2048, {"kid": "second", "use": "sig"})
    crook.keys.append(new)
    crook.sign = lambda claims: jwt.encode({"alg": "RS256", "kid": "second"}, claims, new)
    assert door.come_back(crook.sign_in(door.begin())).status_code == 303


def test_forged_keys_do_not_make_us_ask_again_and_again(door: Door, crook: CrookedProvider) -> None:
    crook.sign = lambda claims: jwt.encode({"alg": "RS256", "kid": "unheard of"}, claims, OTHER_KEY)
    for _ in range(3):
        assert door.come_back(crook.sign_in(door.begin())).status_code == 401
    assert crook.asked.count("/jwks") == 1
    assert crook.asked.count("/.well-known/openid-configuration") == 1


def test_a_state_leads_to_one_session_though_the_provider_takes_codes_again(door: Door, crook: CrookedProvider) -> None:
    crook.takes_codes_again = True
    way_there = door.begin()
    cookie = door.browser.cookies[COOKIE]
    way_back = crook.sign_in(way_there)
    assert door.come_back(way_back).status_code == 303
    door.browser.cookies.set(COOKIE, cookie)
    answer = door.come_back(way_back)
    assert answer.status_code == 401
    assert "used already" in answer.text
    assert count(UserSession) == 1


def test_answers_that_prove_nothing_are_passed_on_to_the_provider_only_so_often(
    door: Door, crook: CrookedProvider, browser_of_ada: httpx.Client
) -> None:
    way_there = door.begin()
    cookie = door.browser.cookies[COOKIE]
    for _ in range(40):
        door.browser.cookies.set(COOKIE, cookie)
        answer = door.come_back(changed(crook.sign_in(way_there), code="guessed"))
        assert answer.status_code == 401
    assert "Too many sign-ins from here failed" in answer.text
    assert crook.asked.count("/token") <= 32
    # Who has signed in with this browser before is let through.
    door.browser = browser_of_ada
    assert door.come_back(crook.sign_in(door.begin())).status_code == 303


@pytest.fixture
def browser_of_ada(door: Door, crook: CrookedProvider) -> Iterator[httpx.Client]:
    """A browser in which somebody has signed in before; in front of the door stands a stranger's."""
    door.come_back(crook.sign_in(door.begin()))
    used = door.browser
    with httpx.Client(base_url=door.url, timeout=60, headers={"accept": "text/html"}) as stranger:
        door.browser = stranger
        yield used


def test_signing_out_works_though_the_key_of_the_id_token_is_gone(
    door: Door, crook: CrookedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    door.use(company(crook.issuer, everybody=["acme:viewer"]))
    door.come_back(crook.sign_in(door.begin()))
    page = door.browser.get("/account").text
    monkeypatch.setenv("CACHESCOPE_SECRET_KEY", "quite another key that has 32 characters or more")
    get_store_settings.cache_clear()
    form = {"form_token": page.partition('name="form_token" value="')[2].partition('"')[0]}
    assert door.browser.post("/sign-out", data=form).status_code == 303
    assert count(UserSession) == 0


@pytest.mark.parametrize("state", ["", "x" * 43])
def test_an_answer_with_another_state_is_refused(door: Door, crook: CrookedProvider, state: str) -> None:
    assert door.come_back(changed(crook.sign_in(door.begin()), state=state)).status_code == 401
    assert "/token" not in crook.asked


def test_an_answer_in_another_browser_is_refused(door: Door, crook: CrookedProvider) -> None:
    way_back = crook.sign_in(door.begin())
    assert httpx.get(way_back, headers={"accept": "text/html"}).status_code == 401
    assert "/token" not in crook.asked


def test_a_cookie_of_ours_that_was_sealed_too_long_ago_is_refused(
    door: Door, crook: CrookedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    way_back = crook.sign_in(door.begin())
    monkeypatch.setattr("service.auth.single_sign_on.WAY_SECONDS", -1)
    assert door.come_back(way_back).status_code == 401


def test_a_cookie_that_is_not_ours_is_refused(door: Door, crook: CrookedProvider) -> None:
    way_back = crook.sign_in(door.begin())
    door.browser.cookies.set(COOKIE, "gAAAA" * 20)
    assert door.come_back(way_back).status_code == 401


def test_the_answer_of_one_provider_is_not_taken_for_that_of_another(door: Door, crook: CrookedProvider) -> None:
    door.use(company(crook.issuer), company(crook.issuer, name="other"))
    way_back = crook.sign_in(door.begin("company"))
    assert door.come_back(way_back.replace("/with/company/", "/with/other/")).status_code == 401


def test_an_answer_that_names_another_issuer_is_refused(door: Door, crook: CrookedProvider) -> None:
    answer = door.come_back(changed(crook.sign_in(door.begin()), iss="https://elsewhere.example"))
    assert answer.status_code == 401
    assert "/token" not in crook.asked
    assert door.come_back(changed(crook.sign_in(door.begin()), iss=crook.issuer)).status_code == 303


def test_a_person_who_says_no_over_there_is_led_back(door: Door, crook: CrookedProvider) -> None:
    answer = door.come_back(changed(crook.sign_in(door.begin()), error="access_denied<script>"))
    assert answer.status_code == 401
    assert "did not sign you in" in answer.text
    assert "<script>" not in answer.text.partition("<body>")[2]


def test_the_secret_of_pkce_is_needed(door: Door, crook: CrookedProvider) -> None:
    way_there = changed(door.begin(), code_challenge="of-somebody-else")
    assert door.come_back(crook.sign_in(way_there)).status_code == 401


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://elsewhere.example"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": "data:text/html,x"},
        {"authorization_endpoint": None},
    ],
    ids=str,
)
def test_a_description_that_cannot_be_right_leads_nowhere(
    door: Door, crook: CrookedProvider, metadata: dict[str, Any]
) -> None:
    crook.metadata = metadata
    assert door.browser.get("/sign-in/with/company").status_code == 502


def test_a_private_address_is_called_only_where_the_settings_open_it(door: Door, crook: CrookedProvider) -> None:
    door.use(company(crook.issuer, networks="10.0.0.0/8"))
    assert door.browser.get("/sign-in/with/company").status_code == 502
    assert crook.asked == []


def test_a_profile_of_somebody_else_is_refused(door: Door, crook: CrookedProvider) -> None:
    crook.claims = {}
    crook.profile = {"sub": "2", **ADA}
    assert door.come_back(crook.sign_in(door.begin())).status_code == 401
    crook.profile = {"sub": "1", **ADA}
    assert door.come_back(crook.sign_in(door.begin())).status_code == 303


# -- Accounts and roles -----------------------------------------------------------------------------------------------


def make_ada(role: str = "member", password: str | None = None) -> int:
    with transaction() as session:
        team = make_team(session, "acme")
        hashed = hash_password(password) if password else None
        user = accounts.create_user(session, email="Ada@example.org", name="Ada", password_hash=hashed)
        teams.add_member(session, team.id, user.id, role)
        return user.id


@pytest.mark.parametrize("verified", [False, None, "false", 1, "yes", ...])
def test_an_address_that_is_not_verified_opens_no_account(door: Door, crook: CrookedProvider, verified: Any) -> None:
    make_ada()
    crook.claims["email_verified"] = verified
    for email in ("ada@example.org", "eve@example.org"):
        crook.claims["email"] = email
        answer = door.come_back(crook.sign_in(door.begin()))
        assert answer.status_code == 401
        assert "has not verified" in answer.text
    assert (count(User), count(Identity)) == (1, 0)


def test_a_verified_address_opens_the_account_that_has_it_and_its_password_ends(
    door: Door, crook: CrookedProvider
) -> None:
    user_id = make_ada(password="correct horse battery")
    crook.claims["email"] = "ADA@example.org"
    assert door.come_back(crook.sign_in(door.begin())).status_code == 303
    with reading() as session:
        (identity,) = session.scalars(select(Identity)).all()
        assert identity.user_id == user_id
        assert session.get_one(User, user_id).password_hash is None
    assert memberships() == {"acme": "member"}


def test_an_identity_stays_itself_when_its_address_changes(door: Door, crook: CrookedProvider) -> None:
    door.come_back(crook.sign_in(door.begin()))
    crook.claims |= {"email": "lovelace@example.org", "email_verified": False}
    assert door.come_back(crook.sign_in(door.begin())).status_code == 303
    assert (count(User), count(Identity)) == (1, 1)


def test_an_address_that_was_given_to_somebody_else_opens_nothing(door: Door, crook: CrookedProvider) -> None:
    door.come_back(crook.sign_in(door.begin()))
    crook.claims["sub"] = "2"
    answer = door.come_back(crook.sign_in(door.begin()))
    assert answer.status_code == 401
    assert "belongs to somebody else" in answer.text


@pytest.mark.parametrize("vouched", [True, False])
def test_an_address_that_somebody_wrote_down_themselves_opens_their_account_to_nobody(
    door: Door, crook: CrookedProvider, vouched: bool
) -> None:
    with crooked_provider(claims={**ADA, "email": "eve@example.org"}) as second:
        door.use(company(crook.issuer), company(second.issuer, name="second"))
        door.come_back(second.sign_in(door.begin("second")))
        with transaction() as session:
            session.scalars(select(User)).one().email = "ada@example.org"
        second.claims |= {"email": "ada@example.org", "email_verified": vouched}
        door.come_back(second.sign_in(door.begin("second")))
        answer = door.come_back(crook.sign_in(door.begin()))
        assert answer.status_code == (303 if vouched else 401)
    assert count(Identity) == (2 if vouched else 1)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"create_accounts": False}, "no account for ada@example.org"),
        ({"domains": ["acme.example"]}, "Only addresses of acme.example"),
        ({"groups": {"staff": "acme:viewer"}}, "None of your groups"),
    ],
    ids=str,
)
def test_settings_say_who_gets_in(door: Door, crook: CrookedProvider, settings: dict[str, Any], says: str) -> None:
    door.use(company(crook.issuer, **settings))
    answer = door.come_back(crook.sign_in(door.begin()))
    assert answer.status_code == 401
    assert says in answer.text
    assert count(User) == 0


def test_accounts_of_passwords_can_be_kept_apart(door: Door, crook: CrookedProvider) -> None:
    make_ada()
    door.use(company(crook.issuer, link_accounts=False))
    assert door.come_back(crook.sign_in(door.begin())).status_code == 401
    assert count(Identity) == 0


def test_what_an_owner_gave_by_hand_stays_when_groups_go(door: Door, crook: CrookedProvider) -> None:
    make_ada("member")
    door.use(company(crook.issuer, groups=ROLES, admit="all"))
    for groups, roles in (
        (["platform", "tools"], {"acme": "owner", "tools": "member"}),
        (["staff"], {"acme": "member"}),
        ([], {"acme": "member"}),
    ):
        crook.claims["groups"] = groups
        assert door.come_back(crook.sign_in(door.begin())).status_code == 303
        assert memberships() == roles


def test_a_role_that_an_owner_changed_by_hand_counts_as_given_by_hand(door: Door, crook: CrookedProvider) -> None:
    door.use(company(crook.issuer, groups=ROLES, admit="all"))
    crook.claims["groups"] = ["staff"]
    door.come_back(crook.sign_in(door.begin()))
    with transaction() as session:
        session.scalars(select(Membership)).one().role = "owner"
    door.come_back(crook.sign_in(door.begin()))
    assert memberships() == {"acme": "owner"}
    crook.claims["groups"] = []
    door.come_back(crook.sign_in(door.begin()))
    assert memberships() == {"acme": "owner"}


def test_groups_of_two_providers_add_up(door: Door, crook: CrookedProvider) -> None:
    with crooked_provider(claims=dict(ADA)) as second:
        door.use(
            company(crook.issuer, groups=ROLES, admit="all"),
            company(second.issuer, name="second", groups={"boss": "acme:owner"}, admit="all"),
        )
        crook.claims["groups"], second.claims["groups"] = ["staff"], ["boss"]
        door.come_back(crook.sign_in(door.begin()))
        door.come_back(second.sign_in(door.begin("second")))
        assert memberships() == {"acme": "owner"}
        second.claims["groups"] = []
        door.come_back(second.sign_in(door.begin("second")))
        assert memberships() == {"acme": "viewer"}
    assert (count(User), count(Identity)) == (1, 2)


def test_groups_are_found_deep_in_the_token_or_in_the_profile(door: Door, crook: CrookedProvider) -> None:
    door.use(company(crook.issuer, groups=ROLES, groups_claim="realm_access.roles"))
    crook.claims["realm_access"] = {"roles": ["staff", 7, None]}
    assert door.come_back(crook.sign_in(door.begin())).status_code == 303
    assert memberships() == {"acme": "viewer"}
    del crook.claims["realm_access"]
    crook.profile = {"sub": "1", "realm_access": {"roles": ["platform"]}}
    door.use(company(crook.issuer, groups=ROLES, groups_claim="realm_access.roles"))
    assert door.come_back(crook.sign_in(door.begin())).status_code == 303
    assert memberships() == {"acme": "owner"}


def test_a_session_of_a_provider_ends_when_the_settings_say(door: Door, crook: CrookedProvider) -> None:
    door.use(company(crook.issuer), session_hours=2)
    door.come_back(crook.sign_in(door.begin()))
    with reading() as session:
        (opened,) = session.scalars(select(UserSession)).all()
    assert opened.expires_at <= datetime.now(UTC) + timedelta(hours=2)


def test_whoever_used_the_browser_before_is_signed_out(door: Door, crook: CrookedProvider) -> None:
    door.come_back(crook.sign_in(door.begin()))
    former = door.browser.cookies[SESSION_COOKIE]
    crook.claims |= {"sub": "2", "email": "eve@example.org"}
    door.come_back(crook.sign_in(door.begin()))
    assert door.browser.cookies[SESSION_COOKIE] != former
    assert count(UserSession) == 1


@pytest.mark.parametrize(
    "there",
    [
        "https://elsewhere.example",
        "//elsewhere.example",
        "/\\elsewhere.example",
        "\\\\elsewhere",
        "javascript:alert(1)",
    ],
)
def test_signing_in_leads_to_no_other_host(door: Door, crook: CrookedProvider, there: str) -> None:
    answer = door.come_back(crook.sign_in(door.begin(next=there)))
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_passwords_can_be_switched_off(door: Door, crook: CrookedProvider) -> None:
    make_ada(password="correct horse battery")
    door.use(company(crook.issuer, label="Acme & Sons"), passwords=False)
    page = door.browser.get("/sign-in").text
    assert 'type="password"' not in page
    assert "Acme &amp; Sons" in page
    door.use(company(crook.issuer))
    page = door.browser.get("/sign-in").text
    token = page.partition('name="form_token" value="')[2].partition('"')[0]
    door.use(company(crook.issuer), passwords=False)
    fields = {"form_token": token, "email": "ada@example.org", "password": "correct horse battery"}
    assert door.browser.post("/sign-in", data=fields).status_code == 403
    assert not door.is_signed_in


def test_an_unknown_provider_is_not_found(door: Door) -> None:
    assert door.browser.get("/sign-in/with/nobody").status_code == 404
    assert door.browser.get("/sign-in/with/nobody/back").status_code == 404


def test_what_groups_change_is_noted_and_ends_what_somebody_could_read_with(door: Door, crook: CrookedProvider) -> None:
    door.use(company(crook.issuer, groups=ROLES, admit="all"))
    texts = []
    for groups in (["platform"], []):
        crook.claims["groups"] = groups
        door.come_back(crook.sign_in(door.begin()))
        with transaction() as session:
            team, user = session.scalars(select(Team)).one(), session.scalars(select(User)).one()
            forms = [TokenForm(name=scope, scope=scope) for scope in ("read", "upload") if groups]
            texts += [issue_token(session, team, form, created_by_id=user.id)[1] for form in forms]
            events = session.scalars(select(AuditEvent).where(AuditEvent.team_id == team.id).order_by(AuditEvent.id))
            said = [(event.action, event.details.get("role")) for event in events if event.action.startswith("member")]
    assert said == [("member.joined", "owner"), ("member.removed", None)]
    read, send = ({"authorization": f"Bearer {text}"} for text in texts)
    assert httpx.get(f"{door.url}/api/v1/teams", headers=read).status_code == 401
    assert httpx.get(f"{door.url}/api/v1/teams", headers=send).status_code == 403


@pytest.mark.browser
def test_the_way_there_back_and_out_works_in_a_browser(door: Door, crook: CrookedProvider, browser: Browser) -> None:
    door.use(company(crook.issuer, everybody=["acme:viewer"]))
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{door.url}/sign-in?next=/account")
    page.get_by_role("link", name="Sign in with Company").click()
    page.wait_for_url(f"{crook.issuer}/authorize**")
    page.goto(crook.sign_in(page.url))
    assert page.url == f"{door.url}/account"
    assert "Company signs you in as ada@example.org" in page.locator("main").inner_text()
    page.get_by_role("button", name="Sign out", exact=True).first.click()
    page.wait_for_url(f"{crook.issuer}/end**")
    page.goto(f"{door.url}/account")
    assert page.url.startswith(f"{door.url}/sign-in")
    context.close()


# -- GitHub -----------------------------------------------------------------------------------------------------------


GITHUB = {
    "/api/v3/user": {"id": 583231, "login": "ada", "name": None},
    "/api/v3/user/emails": [
        {"email": "old@example.org", "primary": False, "verified": True},
        {"email": "ada@example.org", "primary": True, "verified": True},
    ],
    "/api/v3/user/orgs": [{"login": "acme"}],
    "/api/v3/user/teams": [{"slug": "platform", "organization": {"login": "acme"}}],
}


@pytest.fixture
def github(door: Door) -> Iterator[CrookedProvider]:
    with crooked_provider(github=json.loads(json.dumps(GITHUB))) as provider:
        given = company("", name="github", kind="github", base_url=provider.issuer)
        del given["issuer"]
        door.use(given | {"groups": {"acme": "acme:viewer", "acme/platform": "acme:owner"}})
        yield provider


def test_github_tells_who_somebody_is_by_its_api(door: Door, github: CrookedProvider) -> None:
    way_there = door.begin("github")
    assert "read:org" in dict(parse_qsl(urlsplit(way_there).query))["scope"]
    assert door.come_back(github.sign_in(way_there)).status_code == 303
    assert memberships() == {"acme": "owner"}
    with reading() as session:
        (identity,) = session.scalars(select(Identity)).all()
    assert (identity.issuer, identity.subject, identity.email) == (github.issuer, "583231", "ada@example.org")


@pytest.mark.parametrize(
    ("path", "answer", "says"),
    [
        ("/api/v3/user/emails", [{"email": "ada@example.org", "primary": True, "verified": False}], "has not verified"),
        ("/api/v3/user/emails", [], "does not tell your e-mail address"),
        ("/api/v3/user", {"login": "ada"}, "does not prove who you are"),
        ("/api/v3/user", [], "does not prove who you are"),
    ],
    ids=str,
)
def test_what_github_does_not_vouch_for_lets_nobody_in(
    door: Door, github: CrookedProvider, path: str, answer: Any, says: str
) -> None:
    github.github[path] = answer
    page = door.come_back(github.sign_in(door.begin("github")))
    assert page.status_code == 401
    assert says in page.text
    assert count(User) == 0


def test_members_of_no_known_organisation_stay_out(door: Door, github: CrookedProvider) -> None:
    github.github |= {"/api/v3/user/orgs": [{"login": "other"}], "/api/v3/user/teams": []}
    assert door.come_back(github.sign_in(door.begin("github"))).status_code == 401


def test_a_login_that_somebody_else_took_over_is_somebody_else(door: Door, github: CrookedProvider) -> None:
    door.come_back(github.sign_in(door.begin("github")))
    github.github["/api/v3/user"] = {"id": 9, "login": "ada", "name": "Eve"}
    github.github["/api/v3/user/emails"] = [{"email": "eve@example.org", "primary": True, "verified": True}]
    door.come_back(github.sign_in(door.begin("github")))
    assert (count(User), count(Identity)) == (2, 2)


@pytest.mark.parametrize(("status", "code"), [(500, "does not answer"), (429, "does not answer"), (403, "not prove")])
def test_troubles_of_a_provider_are_told_apart(door: Door, github: CrookedProvider, status: int, code: str) -> None:
    way_back = github.sign_in(door.begin("github"))
    github.status = status
    assert code in door.come_back(way_back).text


def test_the_cookie_of_the_way_is_out_of_reach_of_scripts(door: Door, crook: CrookedProvider) -> None:
    door.begin()
    (cookie,) = [cookie for cookie in door.browser.cookies.jar if cookie.name == COOKIE]
    assert cookie.path == "/sign-in/with/"
    assert cookie.has_nonstandard_attr("HttpOnly")
    assert cookie.get_nonstandard_attr("SameSite") == "lax"
