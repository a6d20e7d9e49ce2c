"""Accounts, browser sessions, one-time links, tokens and signs of life."""

from datetime import UTC, datetime, timedelta

import pytest

from store.database import reading, transaction
from store.models import UserSession
from store.queries import accounts, heartbeats
from tests.factories import make_team

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def user(session):
    return accounts.create_user(session, email=" Ada@Example.org", name="Ada", password_hash=None)


def make_browser(session, user, token_hash="h1", ends_in=HOUR, seen=NOW):
    browser = UserSession(token_hash=token_hash, user_id=user.id, expires_at=NOW + ends_in, last_seen_at=seen)
    session.add(browser)
    session.flush()
    return browser


def make_link(session, purpose="setup", ends_in=HOUR):
    accounts.save_link(session, token_hash="h1", purpose=purpose, expires_at=NOW + ends_in)


def make_token(session, team, token_hash="h1", **values):
    return accounts.save_token(
        session, team.id, name="CI", scope="upload", token_hash=token_hash, hint="abcd", **values
    )


def test_an_account_is_found_however_its_address_is_written(session, user):
    assert (accounts.count_users(session), user.email, user.name) == (1, "ada@example.org", "Ada")
    assert accounts.find_user_by_email(session, " Ada@Example.org ") is user
    assert accounts.find_user_by_email(session, "ada@example.com") is None


def test_a_team_is_found_by_its_slug(session):
    team = make_team(session)
    assert accounts.find_team_by_slug(session, "acme") is team
    assert accounts.find_team_by_slug(session, "other") is None


def test_a_session_ends(session, user):
    browser = make_browser(session, user)
    assert accounts.find_session(session, "h1", NOW) == (browser, user)
    assert accounts.find_session(session, "h1", NOW + HOUR) is None
    assert accounts.find_session(session, "h2", NOW) is None


def test_ended_sessions_are_forgotten(session, user):
    make_browser(session, user, "old", ends_in=-HOUR)
    make_browser(session, user, "new")
    accounts.delete_expired(session, NOW)
    assert [browser.token_hash for browser in accounts.load_sessions(session, user.id)] == ["new"]


def test_browsers_are_listed_the_last_seen_first(session, user):
    browsers = [
        make_browser(session, user, name, seen=NOW + offset)
        for name, offset in (("a", -HOUR), ("b", HOUR), ("c", 0 * HOUR))
    ]
    assert [browser.token_hash for browser in accounts.load_sessions(session, user.id)] == ["b", "c", "a"]
    accounts.touch_session(session, browsers[0].id, NOW + 2 * HOUR)
    session.expire_all()
    assert accounts.load_sessions(session, user.id)[0].token_hash == "a"


def test_signing_out_ends_one_browser_and_a_new_password_all_others(session, user):
    for name in ("a", "b", "c"):
        make_browser(session, user, name)
    accounts.delete_session(session, "c")
    accounts.delete_other_sessions(session, user.id, "a")
    assert [browser.token_hash for browser in accounts.load_sessions(session, user.id)] == ["a"]


def test_a_link_works_once(session):
    make_link(session)
    assert accounts.find_link(session, "h1", "setup", NOW) is not None
    assert accounts.claim_link(session, "h1", "setup", NOW) is not None
    assert accounts.claim_link(session, "h1", "setup", NOW) is None
    assert accounts.find_link(session, "h1", "setup", NOW) is None


@pytest.mark.parametrize(
    ("token_hash", "purpose", "at"), [("h2", "setup", NOW), ("h1", "reset", NOW), ("h1", "setup", NOW + HOUR)]
)
def test_an_unknown_or_late_link_does_not_work(session, token_hash, purpose, at):
    make_link(session)
    assert accounts.claim_link(session, token_hash, purpose, at) is None


def test_a_token_works_until_its_end_or_until_it_is_revoked(session):
    team = make_team(session)
    token = make_token(session, team, expires_at=NOW + HOUR)
    assert accounts.find_token(session, "h1", NOW) is token
    assert accounts.find_token(session, "h1", NOW + HOUR) is None
    assert accounts.revoke_token(session, team.id, token.id, NOW)
    assert not accounts.revoke_token(session, team.id, token.id, NOW)
    assert accounts.find_token(session, "h1", NOW) is None
    assert list(accounts.list_tokens(session, team.id)) == []


def test_a_token_of_another_team_is_not_revoked(session):
    team, other = make_team(session), make_team(session, "other")
    token = make_token(session, team)
    assert not accounts.revoke_token(session, other.id, token.id, NOW)
    assert list(accounts.list_tokens(session, team.id)) == [token]
    assert list(accounts.list_tokens(session, other.id)) == []


def test_the_last_use_of_a_token_is_kept(session):
    token = make_token(session, make_team(session))
    accounts.touch_token(session, token.id, NOW)
    session.refresh(token)
    assert token.last_used_at == NOW


def test_a_process_is_alive_until_it_has_been_silent_for_a_day(engine):
    for at in (NOW, NOW + HOUR):
        with transaction(engine) as session:
            heartbeats.beat(session, "host-1", "worker", NOW, at)
    with transaction(engine) as session:
        heartbeats.beat(session, "host-2", "scheduler", NOW, NOW)
    with reading(engine) as session:
        assert heartbeats.last_seen(session) == {"worker": NOW + HOUR, "scheduler": NOW}
    with transaction(engine) as session:
        heartbeats.beat(session, "host-1", "worker", NOW, NOW + 25 * HOUR)
        heartbeats.forget(session, "host-1")
    with reading(engine) as session:
        assert heartbeats.last_seen(session) == {}
