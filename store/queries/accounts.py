"""People, their teams and sessions, the tokens that machines use, and links that work once."""

from collections.abc import Sequence
from datetime import datetime
from uuid import uuid4

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.orm import Session

from store.models.accounts import Membership, SignInLink, Team, Token, User, UserSession


def count_users(session: Session) -> int:
    """How many people have an account; none at the first start."""
    return session.scalar(select(func.count()).select_from(User)) or 0


def find_user_by_email(session: Session, email: str) -> User | None:
    """The account of an address, however its letters are written."""
    return session.scalar(select(User).where(User.email == email.strip().lower()))


def create_user(session: Session, *, email: str, name: str, password_hash: str | None) -> User:
    """Add a person; the address is kept in lower case."""
    user = User(email=email.strip().lower(), name=name, password_hash=password_hash)
    session.add(user)
    session.flush()
    return user


def load_memberships(session: Session, user_id: int) -> Sequence[tuple[Team, str]]:
    """The teams of a person with their role in each, by name."""
    statement = (
        select(Team, Membership.role)
        .join(Membership, Membership.team_id == Team.id)
        .where(Membership.user_id == user_id)
        .order_by(Team.name, Team.id)
    )
    return [(team, role) for team, role in session.execute(statement)]


def load_members(session: Session, team_id: int) -> Sequence[tuple[User, str]]:
    """The people of a team with their roles, by name."""
    statement = (
        select(User, Membership.role)
        .join(Membership, Membership.user_id == User.id)
        .where(Membership.team_id == team_id)
        .order_by(User.name, User.id)
    )
    return [(user, role) for user, role in session.execute(statement)]


def find_team_by_slug(session: Session, slug: str) -> Team | None:
    """The team of an address; whoever calls this checks that the viewer belongs to it."""
    return session.scalar(select(Team).where(Team.slug == slug, Team.deleted_at.is_(None)))


def find_session(session: Session, token_hash: str, now: datetime) -> tuple[UserSession, User] | None:
    """A session that has not ended, with its user."""
    row = session.execute(
        select(UserSession, User)
        .join(User, User.id == UserSession.user_id)
        .where(UserSession.token_hash == token_hash, UserSession.expires_at > now)
    ).one_or_none()
    return (row[0], row[1]) if row else None


def touch_session(session: Session, session_id: int, now: datetime) -> None:
    """Remember when a session was last used."""
    session.execute(update(UserSession).where(UserSession.id == session_id).values(last_seen_at=now))


def delete_session(session: Session, token_hash: str) -> None:
    """End one session."""
    session.execute(delete(UserSession).where(UserSession.token_hash == token_hash))


def delete_expired(session: Session, now: datetime) -> None:
    """Forget sessions and links that have ended by themselves."""
    session.execute(delete(UserSession).where(UserSession.expires_at <= now))
    session.execute(delete(SignInLink).where(SignInLink.expires_at <= now))


def save_link(
    session: Session,
    *,
    token_hash: str,
    purpose: str,
    expires_at: datetime,
    team_id: int | None = None,
    email: str | None = None,
    user_id: int | None = None,
    role: str | None = None,
    created_by_id: int | None = None,
) -> SignInLink:
    """Remember a link that will work once."""
    link = SignInLink(
        token_hash=token_hash,
        purpose=purpose,
        expires_at=expires_at,
        team_id=team_id,
        email=email,
        user_id=user_id,
        role=role,
        created_by_id=created_by_id,
    )
    session.add(link)
    session.flush()
    return link


def claim_link(session: Session, token_hash: str, purpose: str, now: datetime) -> SignInLink | None:
    """Use up a one-time link: of two people who open it at once, one gets it. None when it is unknown, used or old."""
    link_id = session.scalar(
        update(SignInLink)
        .where(
            SignInLink.token_hash == token_hash,
            SignInLink.purpose == purpose,
            SignInLink.used_at.is_(None),
            SignInLink.expires_at > now,
        )
        .values(used_at=now)
        .returning(SignInLink.id)
    )
    return session.get(SignInLink, link_id) if link_id is not None else None


def find_link(session: Session, token_hash: str, purpose: str, now: datetime) -> SignInLink | None:
    """A link that still works, left as it is."""
    return session.scalar(
        select(SignInLink).where(
            SignInLink.token_hash == token_hash,
            SignInLink.purpose == purpose,
            SignInLink.used_at.is_(None),
            SignInLink.expires_at > now,
        )
    )


def list_invitations(session: Session, team_id: int, now: datetime) -> Sequence[tuple[SignInLink, str | None]]:
    """The invitations of a team that can still be accepted with the name of who made each, newest first."""
    statement = (
        select(SignInLink, User.name)
        .outerjoin(User, User.id == SignInLink.created_by_id)
        .where(
            SignInLink.team_id == team_id,
            SignInLink.purpose == "invitation",
            SignInLink.used_at.is_(None),
            SignInLink.expires_at > now,
        )
        .order_by(SignInLink.created_at.desc(), SignInLink.id.desc())
    )
    return [(link, name) for link, name in session.execute(statement)]


def delete_invitation(session: Session, team_id: int, link_id: int) -> bool:
    """Take an invitation of a team back; False when there is none that could still be accepted."""
    deleted = session.scalar(
        delete(SignInLink)
        .where(
            SignInLink.id == link_id,
            SignInLink.team_id == team_id,
            SignInLink.purpose == "invitation",
            SignInLink.used_at.is_(None),
        )
        .returning(SignInLink.id)
    )
    return deleted is not None


def delete_invitations_by(session: Session, team_id: int, user_id: int) -> None:
    """Take back what a person invited to a team."""
    session.execute(
        delete(SignInLink).where(
            SignInLink.team_id == team_id,
            SignInLink.created_by_id == user_id,
            SignInLink.purpose == "invitation",
            SignInLink.used_at.is_(None),
        )
    )


def delete_links_of(session: Session, user_id: int, *purposes: str) -> None:
    """Let a person's links of some purposes work no more."""
    session.execute(delete(SignInLink).where(SignInLink.user_id == user_id, SignInLink.purpose.in_(purposes)))


def count_links_since(session: Session, user_id: int, purpose: str, since: datetime) -> int:
    """How many links of a purpose were made for a person since a moment."""
    statement = select(func.count()).where(
        SignInLink.user_id == user_id, SignInLink.purpose == purpose, SignInLink.created_at >= since
    )
    return session.scalar(statement) or 0


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
    created_by_id: int | None = None,
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
        created_by_id=created_by_id,
    )
    session.add(token)
    session.flush()
    return token


def find_token(session: Session, token_hash: str, now: datetime) -> Token | None:
    """A bearer token that is neither revoked nor past its end."""
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
    """The tokens of a team that still work, newest first."""
    return session.scalars(
        select(Token).where(Token.team_id == team_id, Token.revoked_at.is_(None)).order_by(Token.created_at.desc())
    ).all()


def list_tokens_made_by(session: Session, user_id: int) -> Sequence[tuple[Token, Team]]:
    """The working tokens that a person made, in all their teams, with the team of each, newest first."""
    statement = (
        select(Token, Team)
        .join(Team, Team.id == Token.team_id)
        .where(Token.created_by_id == user_id, Token.revoked_at.is_(None))
        .order_by(Token.created_at.desc())
    )
    return [(token, team) for token, team in session.execute(statement)]


def revoke_tokens_made_by(session: Session, team_id: int, user_id: int, now: datetime) -> int:
    """End what a person could read a team with; tokens that only send are left to the jobs that use them."""
    revoked = session.scalars(
        update(Token)
        .where(
            Token.team_id == team_id,
            Token.created_by_id == user_id,
            Token.scope != "upload",
            Token.revoked_at.is_(None),
        )
        .values(revoked_at=now)
        .returning(Token.id)
    ).all()
    return len(revoked)


def revoke_token(session: Session, team_id: int, token_id: str, now: datetime) -> bool:
    """End a token of a team; False when the team has no such working token."""
    revoked = session.scalar(
        update(Token)
        .where(Token.id == token_id, Token.team_id == team_id, Token.revoked_at.is_(None))
        .values(revoked_at=now)
        .returning(Token.id)
    )
    return revoked is not None


def load_sessions(session: Session, user_id: int, now: datetime | None = None) -> Sequence[UserSession]:
    """The browsers in which a person is signed in, the last seen first; with `now` only those that have not ended."""
    found = select(UserSession).where(UserSession.user_id == user_id).order_by(UserSession.last_seen_at.desc())
    return session.scalars(found.where(UserSession.expires_at > now) if now else found).all()


def delete_session_of(session: Session, user_id: int, session_id: int) -> bool:
    """End one session of a person; False when they have no such session."""
    deleted = session.scalar(
        delete(UserSession)
        .where(UserSession.id == session_id, UserSession.user_id == user_id)
        .returning(UserSession.id)
    )
    return deleted is not None


def delete_sessions(session: Session, user_id: int, kept_id: int | None = None) -> int:
    """End all sessions of a person, or all but one; returns how many there were."""
    ended = delete(UserSession).where(UserSession.user_id == user_id).returning(UserSession.id)
    return len(session.scalars(ended.where(UserSession.id != kept_id) if kept_id is not None else ended).all())


def delete_other_sessions(session: Session, user_id: int, kept_hash: str) -> None:
    """End all sessions of a person but one: what a changed password asks for."""
    session.execute(delete(UserSession).where(UserSession.user_id == user_id, UserSession.token_hash != kept_hash))
