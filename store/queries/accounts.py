"""Users, browser sessions, one-time links and tokens.

Secrets come in as the SHA-256 of a random text of 256 bits or more: nobody can guess their way back from such a hash,
and equal hashes are found by an index instead of by comparing.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import uuid4

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.orm import Session

from store.models import Membership, SignInLink, Team, Token, User, UserSession


def count_users(session: Session) -> int:
    """How many people have an account; 0 means that the first owner has yet to come."""
    return session.scalar(select(func.count()).select_from(User)) or 0


def create_user(session: Session, *, email: str, name: str, password_hash: str | None) -> User:
    """Add a person; the address is kept in lower case."""
    user = User(email=email.strip().lower(), name=name.strip(), password_hash=password_hash)
    session.add(user)
    session.flush()
    return user


def find_user(session: Session, email: str) -> User | None:
    """The person with an e-mail address, in whatever case it is written."""
    return session.scalar(select(User).where(User.email == email.strip().lower()))


def load_memberships(session: Session, user_id: int) -> list[tuple[Team, str]]:
    """The teams of a person with the role in each, by name."""
    rows = session.execute(
        select(Team, Membership.role)
        .join(Membership, Membership.team_id == Team.id)
        .where(Membership.user_id == user_id)
        .order_by(Team.name, Team.id)
    )
    return [(team, role) for team, role in rows]


def find_team_by_slug(session: Session, slug: str) -> Team | None:
    """The team in an address."""
    return session.scalar(select(Team).where(Team.slug == slug))


def save_session(
    session: Session, *, token_hash: str, user_id: int, expires_at: datetime, address: str | None, user_agent: str | None
) -> UserSession:
    """Remember a browser that signed in."""
    browser = UserSession(
        token_hash=token_hash, user_id=user_id, expires_at=expires_at, address=address, user_agent=user_agent
    )
    session.add(browser)
    session.flush()
    return browser


def find_session(session: Session, token_hash: str, now: datetime) -> tuple[UserSession, User] | None:
    """The browser session of a cookie and its person, unless it has ended."""
    row = session.execute(
        select(UserSession, User)
        .join(User, User.id == UserSession.user_id)
        .where(UserSession.token_hash == token_hash, UserSession.expires_at > now)
    ).first()
    return None if row is None else (row[0], row[1])


def touch_session(session: Session, session_id: int, now: datetime) -> None:
    """Remember when a browser was last seen."""
    session.execute(update(UserSession).where(UserSession.id == session_id).values(last_seen_at=now))


def list_sessions(session: Session, user_id: int) -> Sequence[UserSession]:
    """The browsers in which a person is signed in, the last seen first."""
    return session.scalars(
        select(UserSession).where(UserSession.user_id == user_id).order_by(UserSession.last_seen_at.desc())
    ).all()


def end_session(session: Session, user_id: int, session_id: int) -> bool:
    """Sign one of a person's browsers out; False when it is none of theirs."""
    ended = session.execute(
        delete(UserSession).where(UserSession.id == session_id, UserSession.user_id == user_id)
    )
    return ended.rowcount > 0


def end_other_sessions(session: Session, user_id: int, kept_id: int | None) -> None:
    """Sign out all browsers of a person but one: what a changed password asks for."""
    session.execute(
        delete(UserSession).where(
            UserSession.user_id == user_id, UserSession.id != (kept_id if kept_id is not None else -1)
        )
    )


def delete_expired(session: Session, now: datetime) -> int:
    """Forget sessions and one-time links past their end; returns how many."""
    sessions = session.execute(delete(UserSession).where(UserSession.expires_at <= now))
    links = session.execute(delete(SignInLink).where(SignInLink.expires_at <= now))
    return sessions.rowcount + links.rowcount


def save_link(
    session: Session,
    *,
    token_hash: str,
    purpose: str,
    expires_at: datetime,
    team_id: int | None = None,
    email: str | None = None,
) -> SignInLink:
    """Remember a link that will work once."""
    link = SignInLink(token_hash=token_hash, purpose=purpose, expires_at=expires_at, team_id=team_id, email=email)
    session.add(link)
    session.flush()
    return link


def find_link(session: Session, token_hash: str, purpose: str, now: datetime) -> SignInLink | None:
    """A link that has neither been used nor ended, without using it."""
    return session.scalar(
        select(SignInLink).where(
            SignInLink.token_hash == token_hash,
            SignInLink.purpose == purpose,
            SignInLink.used_at.is_(None),
            SignInLink.expires_at > now,
        )
    )


def use_link(session: Session, token_hash: str, purpose: str, now: datetime) -> SignInLink | None:
    """Use a link up; None when it is unknown, used or ended. Of two requests at once only one gets it."""
    return session.scalar(
        update(SignInLink)
        .where(
            SignInLink.token_hash == token_hash,
            SignInLink.purpose == purpose,
            SignInLink.used_at.is_(None),
            SignInLink.expires_at > now,
        )
        .values(used_at=now)
        .returning(SignInLink)
        .execution_options(populate_existing=True)
    )


def save_token(
    session: Session,
    team_id: int,
    *,
    name: str,
    scope: str,
    token_hash: str,
    hint: str,
    repository_id: int | None = None,
    expires_at: datetime | None = None,
) -> Token:
    """Remember a token of a team, or of one of its repositories."""
    token = Token(
        id=str(uuid4()),
        team_id=team_id,
        repository_id=repository_id,
        name=name,
        scope=scope,
        token_hash=token_hash,
        hint=hint,
        expires_at=expires_at,
    )
    session.add(token)
    session.flush()
    return token


def find_token(session: Session, token_hash: str, now: datetime) -> Token | None:
    """The token with a hash, unless it was revoked or has ended."""
    return session.scalar(
        select(Token).where(
            Token.token_hash == token_hash,
            Token.revoked_at.is_(None),
            or_(Token.expires_at.is_(None), Token.expires_at > now),
        )
    )


def touch_token(session: Session, token_id: str, now: datetime) -> None:
    """Remember when a token was last used."""
    session.execute(update(Token).where(Token.id == token_id).values(last_used_at=now))


def list_tokens(session: Session, team_id: int) -> Sequence[Token]:
    """The tokens of a team that are not revoked, the newest first."""
    return session.scalars(
        select(Token)
        .where(Token.team_id == team_id, Token.revoked_at.is_(None))
        .order_by(Token.created_at.desc(), Token.id)
    ).all()


def revoke_token(session: Session, team_id: int, token_id: str, now: datetime) -> bool:
    """End a token at once; False when the team has no such token."""
    revoked = session.execute(
        update(Token)
        .where(Token.team_id == team_id, Token.id == token_id, Token.revoked_at.is_(None))
        .values(revoked_at=now)
    )
    return revoked.rowcount > 0
