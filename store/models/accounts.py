"""Teams, the people in them, and the secrets they sign in and send logs with."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, false, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from store.models.base import Base, CreatedAt, PublicId, RowId, one_of
from store.types import EncryptedText

ROLES = ("owner", "member", "viewer")
TOKEN_SCOPES = ("upload", "read")
LETTER_STATES = ("new", "working", "sent", "failed")
_WAITING = text("state IN ('new', 'working')")


class Team(Base):
    """Who owns repositories: the border of every query."""

    __tablename__ = "teams"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[RowId]
    slug: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    is_demo: Mapped[bool] = mapped_column(default=False)
    time_zone: Mapped[str] = mapped_column(default="UTC")
    created_at: Mapped[CreatedAt]
    deleted_at: Mapped[datetime | None]
    """Since then nobody belongs to it; workers delete what it holds, and at last this row."""


class User(Base):
    """A person who signs in; `email` is kept in lower case."""

    __tablename__ = "users"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[RowId]
    email: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    password_hash: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    is_administrator: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Looks after the installation: sees its users, teams, queue and storage, and nothing of teams they are not in."""


class Membership(Base):
    """A person's role in a team."""

    __tablename__ = "memberships"
    __table_args__ = (CheckConstraint(one_of("role", ROLES), name="role"), Index(None, "user_id"))

    team_id: Mapped[int] = mapped_column(ForeignKey("teams.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    role: Mapped[str]

    team: Mapped[Team] = relationship(lazy="raise")
    user: Mapped[User] = relationship(lazy="raise")


class SignInLink(Base):
    """A link that works once: the first owner's, an invitation's, a forgotten password's, a new e-mail address's."""

    __tablename__ = "sign_in_links"
    __table_args__ = (Index(None, "team_id"), Index(None, "user_id"), Index(None, "created_by_id"))

    id: Mapped[RowId]
    token_hash: Mapped[str] = mapped_column(unique=True)
    purpose: Mapped[str]
    team_id: Mapped[int | None] = mapped_column(ForeignKey("teams.id", ondelete="CASCADE"))
    email: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    """Whose password or address it changes; None for an account that is still to be made."""
    role: Mapped[str | None]
    """What an invitation makes of whoever accepts it."""
    created_by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    """Who invites."""


class Letter(Base):
    """An e-mail to a person: written with what it tells of, sent later, emptied once it was sent."""

    __tablename__ = "letters"
    __table_args__ = (
        CheckConstraint(one_of("state", LETTER_STATES), name="state"),
        Index(None, "team_id"),
        Index(None, "user_id"),
        Index("ix_letters_due", "next_at", postgresql_where=_WAITING, sqlite_where=_WAITING),
    )

    id: Mapped[PublicId]
    kind: Mapped[str]
    """invitation, password, email or notice."""
    team_id: Mapped[int | None] = mapped_column(ForeignKey("teams.id", ondelete="CASCADE"))
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    recipient: Mapped[str]
    notice: Mapped[str] = mapped_column(EncryptedText)
    """What it says, as JSON; it may hold a link that signs in, so it is unreadable in the database."""
    state: Mapped[str] = mapped_column(default="new")
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    fence: Mapped[int] = mapped_column(Integer, default=0)
    next_at: Mapped[CreatedAt]
    answer: Mapped[str | None]
    """What the mail server said last, or why it could not be reached."""
    created_at: Mapped[CreatedAt]


class UserSession(Base):
    """A browser that is signed in."""

    __tablename__ = "sessions"
    __table_args__ = (Index(None, "user_id"), Index(None, "expires_at"))

    id: Mapped[RowId]
    token_hash: Mapped[str] = mapped_column(unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    created_at: Mapped[CreatedAt]
    last_seen_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime]
    address: Mapped[str | None]
    user_agent: Mapped[str | None]

    user: Mapped[User] = relationship(lazy="raise")


class Token(Base):
    """A bearer token of a team, or of one of its repositories; only its hash is kept."""

    __tablename__ = "tokens"
    __table_args__ = (
        CheckConstraint(one_of("scope", TOKEN_SCOPES), name="scope"),
        Index(None, "team_id"),
        Index(None, "repository_id"),
        Index(None, "created_by_id"),
    )

    id: Mapped[PublicId]
    team_id: Mapped[int] = mapped_column(ForeignKey("teams.id", ondelete="CASCADE"))
    repository_id: Mapped[int | None] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"))
    name: Mapped[str]
    scope: Mapped[str]
    token_hash: Mapped[str] = mapped_column(unique=True)
    hint: Mapped[str]
    """The last four characters, to tell tokens apart."""
    created_at: Mapped[CreatedAt]
    last_used_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    created_by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    """Who made it; None for tokens that the server made itself."""
