"""Who people are at other providers of sign-in, and what their groups there gave them here."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from store.models.accounts import ROLES
from store.models.base import Base, CreatedAt, PublicId, RowId, one_of
from store.types import EncryptedText


class Identity(Base):
    """A person at a provider: issuer and subject never come to mean somebody else, addresses may."""

    __tablename__ = "identities"
    __table_args__ = (UniqueConstraint("issuer", "subject"), Index(None, "user_id"), {"sqlite_autoincrement": True})

    id: Mapped[RowId]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    issuer: Mapped[str]
    subject: Mapped[str]
    email: Mapped[str]
    """The address that the provider told at the last sign-in."""
    created_at: Mapped[CreatedAt]
    last_used_at: Mapped[CreatedAt]


class GroupRole(Base):
    """The role in a team that the groups of an identity give, until a sign-in shows that they no longer do."""

    __tablename__ = "group_roles"
    __table_args__ = (
        CheckConstraint(one_of("role", ROLES), name="role"),
        CheckConstraint(one_of("hand_role", ROLES), name="hand_role"),
        Index(None, "team_id"),
    )

    identity_id: Mapped[int] = mapped_column(ForeignKey("identities.id", ondelete="CASCADE"), primary_key=True)
    team_id: Mapped[int] = mapped_column(ForeignKey("teams.id", ondelete="CASCADE"), primary_key=True)
    role: Mapped[str]
    hand_role: Mapped[str | None]
    """The role that an owner gave by hand: it stays when the groups go."""


class SessionIdentity(Base):
    """By which identity a browser was signed in, for signing out there too."""

    __tablename__ = "session_identities"
    __table_args__ = (Index(None, "identity_id"),)

    session_id: Mapped[int] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True)
    identity_id: Mapped[int] = mapped_column(ForeignKey("identities.id", ondelete="CASCADE"))
    provider: Mapped[str]
    """Its name in the settings at that time."""
    id_token: Mapped[str | None] = mapped_column(EncryptedText)


class UsedState(Base):
    """A way to a provider and back that has led to a session: it leads to no second one."""

    __tablename__ = "used_states"
    __table_args__ = (Index(None, "expires_at"),)

    state_hash: Mapped[PublicId]
    expires_at: Mapped[datetime]
