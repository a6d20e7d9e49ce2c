"""Teams, the people in them, and the secrets they sign in and send logs with."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column, relationship

from store.models.base import Base, CreatedAt, PublicId, RowId, one_of

ROLES = ("owner", "member", "viewer")
TOKEN_SCOPES = ("upload", "read")


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


class User(Base):
    """A person who signs in; `email` is kept in lower case."""

    __tablename__ = "users"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[RowId]
    email: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    password_hash: Mapped[str | None]
    created_at: Mapped[CreatedAt]


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
    """A link that works once: the first owner's, an invitation's, a forgotten password's."""

    __tablename__ = "sign_in_links"
    __table_args__ = (Index(None, "team_id"),)

    id: Mapped[RowId]
    token_hash: Mapped[str] = mapped_column(unique=True)
    purpose: Mapped[str]
    team_id: Mapped[int | None] = mapped_column(ForeignKey("teams.id", ondelete="CASCADE"))
    email: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


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
