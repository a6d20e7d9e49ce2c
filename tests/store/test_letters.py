"""The outbox of letters and what is asked about people and their links, on both databases."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from store.models import Letter, UserSession
from store.queries import accounts, letters, teams
from store.queries.letters import LetterClaim
from store.settings import get_settings
from tests.factories import make_team

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
LEASE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def secret_key(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the letters say is encrypted with this."""
    monkeypatch.setenv("CACHESCOPE_SECRET_KEY", "a key for tests alone that has 32 characters or more")
    get_settings.cache_clear()
    yield
    monkeypatch.undo()
    get_settings.cache_clear()


def write(session: Session, letter_id: str = "a", at: datetime = NOW) -> None:
    letters.write(
        session, letter_id=letter_id, kind="password", recipient="ada@example.org", notice='{"url": "x"}', next_at=at
    )


def make_user(session: Session, name: str = "ada") -> int:
    return accounts.create_user(session, email=f"{name}@example.org", name=name, password_hash=None).id


def test_letters_go_out_in_turn_each_to_one_sender(session: Session) -> None:
    write(session, "later", NOW + timedelta(hours=1))
    write(session, "second", NOW - timedelta(seconds=1))
    write(session, "first", NOW - timedelta(seconds=2))
    assert letters.count_due(session, NOW) == 2
    assert letters.claim_next_due(session, NOW, LEASE) == LetterClaim("first", 1, 1)
    assert letters.claim_next_due(session, NOW, LEASE) == LetterClaim("second", 1, 1)
    assert letters.claim_next_due(session, NOW, LEASE) is None


def test_a_sender_that_dies_lets_go_and_says_no_more(session: Session) -> None:
    write(session)
    dead = letters.claim_next_due(session, NOW, LEASE)
    again = letters.claim_next_due(session, NOW + LEASE, LEASE)
    assert dead is not None
    assert again == LetterClaim("a", 2, 2)
    assert not letters.finish(session, dead, state="sent", answer="taken")
    assert letters.finish(session, again, state="sent", answer="taken")


def test_what_a_letter_says_is_unreadable_and_gone_once_it_was_sent(session: Session) -> None:
    write(session)
    stored = session.execute(text("SELECT notice FROM letters")).scalar_one()
    assert "url" not in stored
    held = letters.claim_next_due(session, NOW, LEASE)
    assert held is not None
    assert letters.finish(session, held, state="new", answer="later", next_at=NOW)
    session.expire_all()
    assert session.get_one(Letter, "a").notice == '{"url": "x"}'
    held = letters.claim_next_due(session, NOW, LEASE)
    assert held is not None
    letters.finish(session, held, state="failed", answer="never")
    session.expire_all()
    assert session.get_one(Letter, "a").notice == letters.SENT


def test_old_letters_are_forgotten(session: Session) -> None:
    write(session)
    letters.delete_old(session, datetime.now(UTC) + timedelta(seconds=1))
    assert session.get(Letter, "a") is None


def test_a_team_takes_its_letters_and_invitations_along(session: Session) -> None:
    team, user_id = make_team(session), make_user(session)
    letters.write(session, letter_id="a", kind="invitation", recipient="x@y", notice="{}", next_at=NOW, team_id=team.id)
    accounts.save_link(
        session,
        token_hash="h",
        purpose="invitation",
        expires_at=NOW + LEASE,
        team_id=team.id,
        role="member",
        created_by_id=user_id,
    )
    assert len(accounts.list_invitations(session, team.id, NOW)) == 1
    session.delete(team)
    session.flush()
    session.expire_all()
    assert session.get(Letter, "a") is None
    assert accounts.find_link(session, "h", "invitation", NOW) is None


def test_links_of_a_person_are_counted_and_deleted_by_purpose(session: Session) -> None:
    user_id = make_user(session)
    for purpose in ("password", "password", "email"):
        number = accounts.count_links_since(session, user_id, purpose, NOW - timedelta(days=9999))
        accounts.save_link(
            session, token_hash=f"{purpose}{number}", purpose=purpose, expires_at=NOW + LEASE, user_id=user_id
        )
    assert accounts.count_links_since(session, user_id, "password", NOW - timedelta(days=9999)) == 2
    accounts.delete_links_of(session, user_id, "password")
    assert accounts.find_link(session, "password0", "password", NOW) is None
    assert accounts.find_link(session, "email0", "email", NOW) is not None


def test_sessions_of_one_person_end_and_those_of_others_do_not(session: Session) -> None:
    ids = [make_user(session, name) for name in ("ada", "bob")]
    for number, user_id in enumerate((*ids, ids[0])):
        session.add(UserSession(token_hash=str(number), user_id=user_id, expires_at=NOW + LEASE))
    session.flush()
    first, last = sorted(each.id for each in accounts.load_sessions(session, ids[0], NOW))
    assert not accounts.delete_session_of(session, ids[1], first)
    assert accounts.delete_sessions(session, ids[0], kept_id=last) == 1
    assert accounts.delete_session_of(session, ids[0], last)
    assert accounts.delete_sessions(session, ids[0]) == 0
    assert len(accounts.load_sessions(session, ids[1], NOW)) == 1
    assert accounts.load_sessions(session, ids[1], NOW + 2 * LEASE) == []


def test_owners_are_counted(session: Session) -> None:
    team, user_id = make_team(session), make_user(session)
    teams.add_member(session, team.id, user_id, "owner")
    assert list(teams.lock_owners(session, team.id)) == [user_id]
    assert teams.count_owned(session, user_id) == 1
    assert teams.find_role(session, team.id, user_id) == "owner"
    assert teams.find_role(session, team.id, user_id + 1) is None
