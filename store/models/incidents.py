"""Incidents of the cache from open to resolved, where they are told, and every message that tells of one."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, LargeBinary, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from store.models.base import Base, CreatedAt, PublicId, RowId, one_of
from store.models.repositories import Image, Repository
from store.types import EncryptedText

INCIDENT_STATES = ("open", "acknowledged", "muted", "accepted", "resolved")
ACTIVE_STATES = ("open", "acknowledged", "muted")
MESSAGE_KINDS = ("opened", "reopened", "resolved", "reminder", "digest", "test")
MESSAGE_STATES = ("new", "working", "sent", "failed", "canceled")
DIGESTS = ("none", "daily", "weekly")
_WAITING = text("state IN ('new', 'working')")


class DetectorState(Base):
    """What the detector remembers of one image: a compressed document that each build replaces."""

    __tablename__ = "detector_states"
    __table_args__ = (Index(None, "repository_id"),)

    image_id: Mapped[int] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"), primary_key=True)
    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"))
    document: Mapped[bytes] = mapped_column(LargeBinary)
    """JSON of `cachescope.watching.Watch`, packed with zstd."""
    updated_at: Mapped[CreatedAt]


class Incident(Base):
    """One lasting change for the worse, of one image; or of a fleet, when several repositories share its cause."""

    __tablename__ = "incidents"
    __table_args__ = (
        CheckConstraint(one_of("state", INCIDENT_STATES), name="state"),
        Index(None, "team_id", "state", "opened_at"),
        Index(None, "repository_id", "opened_at"),
        Index(None, "image_id", "kind"),
        Index(None, "parent_id"),
        Index(None, "team_id", "fleet_key"),
        Index(None, "owner_id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[RowId]
    team_id: Mapped[int] = mapped_column(ForeignKey("teams.id", ondelete="CASCADE"))
    repository_id: Mapped[int | None] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"))
    """None for an incident of a fleet."""
    image_id: Mapped[int | None] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("incidents.id", ondelete="SET NULL"))
    """The incident that tells of this one too: of the fleet, or of the first image of the repository."""
    fleet_key: Mapped[str | None]
    """What repositories may have in common: a base image, a pool of runners."""
    kind: Mapped[str]
    key: Mapped[str]
    metric: Mapped[str]
    cause: Mapped[str]
    state: Mapped[str] = mapped_column(default="open")
    instruction: Mapped[str | None]
    stage: Mapped[str | None]
    branch: Mapped[str] = mapped_column(default="")
    """Of the build at the change point."""
    is_default_branch: Mapped[bool] = mapped_column(default=True)
    commit_id: Mapped[str | None]
    actor: Mapped[str | None]
    """Who started the run of the first build with that commit."""
    since_build_id: Mapped[int | None]
    since_at: Mapped[datetime | None]
    found_build_id: Mapped[int | None]
    """The build at which it became sure."""
    victims: Mapped[list[Any]] = mapped_column(default=list)
    """[{"text", "seconds"}] of the instructions that run because of it."""
    evidence: Mapped[str]
    confidence: Mapped[str]
    seconds_per_build: Mapped[float] = mapped_column(default=0.0)
    builds_per_day: Mapped[float] = mapped_column(default=0.0)
    seconds_per_day: Mapped[float] = mapped_column(default=0.0)
    fixed_by: Mapped[str | None]
    resolved_build_id: Mapped[int | None]
    reopened: Mapped[int] = mapped_column(Integer, default=0)
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    muted_until: Mapped[datetime | None]
    """While muted: until when; None means until it is fixed."""
    created_at: Mapped[CreatedAt]
    opened_at: Mapped[datetime]
    """When the build ended at which it became sure."""
    resolved_at: Mapped[datetime | None]
    updated_at: Mapped[CreatedAt]

    repository: Mapped[Repository | None] = relationship(lazy="raise")
    image: Mapped[Image | None] = relationship(lazy="raise")


class IncidentEvent(Base):
    """One thing that happened to an incident, and who did it."""

    __tablename__ = "incident_events"
    __table_args__ = (Index(None, "incident_id"), Index(None, "user_id"))

    id: Mapped[RowId]
    incident_id: Mapped[int] = mapped_column(ForeignKey("incidents.id", ondelete="CASCADE"))
    at: Mapped[datetime]
    action: Mapped[str]
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    actor: Mapped[str | None]
    """The name of whoever did it; None for the detector."""
    build_id: Mapped[int | None]
    note: Mapped[str] = mapped_column(default="")


class Channel(Base):
    """Where a team is told: one address of one kind, such as a room of a chat or a mailbox."""

    __tablename__ = "channels"
    __table_args__ = (Index(None, "team_id"),)

    id: Mapped[PublicId]
    team_id: Mapped[int] = mapped_column(ForeignKey("teams.id", ondelete="CASCADE"))
    name: Mapped[str]
    kind: Mapped[str]
    config: Mapped[str] = mapped_column(EncryptedText)
    """JSON of the settings of its kind, encrypted: most hold a secret."""
    created_at: Mapped[CreatedAt]
    disabled_at: Mapped[datetime | None]


class AlertRule(Base):
    """What a channel is told, and when."""

    __tablename__ = "alert_rules"
    __table_args__ = (
        CheckConstraint(one_of("digest", DIGESTS), name="digest"),
        Index(None, "team_id"),
        Index(None, "channel_id"),
        Index(None, "repository_id"),
    )

    id: Mapped[RowId]
    team_id: Mapped[int] = mapped_column(ForeignKey("teams.id", ondelete="CASCADE"))
    channel_id: Mapped[str] = mapped_column(ForeignKey("channels.id", ondelete="CASCADE"))
    repository_id: Mapped[int | None] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"))
    """None for all repositories of the team."""
    min_seconds_per_day: Mapped[float] = mapped_column(default=300.0)
    kinds: Mapped[list[Any]] = mapped_column(default=list)
    """Kinds of incidents; empty for all."""
    only_default_branch: Mapped[bool] = mapped_column(default=False)
    quiet_from: Mapped[int | None] = mapped_column(Integer)
    quiet_to: Mapped[int | None] = mapped_column(Integer)
    """Minutes since midnight in the team's time zone: what comes between them waits until the end."""
    digest: Mapped[str] = mapped_column(default="none")
    tells_incidents: Mapped[bool] = mapped_column(default=True)
    reminds: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[CreatedAt]

    channel: Mapped[Channel] = relationship(lazy="raise")


class Message(Base):
    """One message to one channel: written with what it tells of, sent later, kept to be shown."""

    __tablename__ = "messages"
    __table_args__ = (
        UniqueConstraint("channel_id", "dedupe_key"),
        CheckConstraint(one_of("kind", MESSAGE_KINDS), name="kind"),
        CheckConstraint(one_of("state", MESSAGE_STATES), name="state"),
        Index(None, "incident_id"),
        Index(None, "team_id", "created_at"),
        Index("ix_messages_due", "next_at", postgresql_where=_WAITING, sqlite_where=_WAITING),
    )

    id: Mapped[PublicId]
    """Also the delivery id that receivers see: the same at every try."""
    team_id: Mapped[int] = mapped_column(ForeignKey("teams.id", ondelete="CASCADE"))
    channel_id: Mapped[str] = mapped_column(ForeignKey("channels.id", ondelete="CASCADE"))
    incident_id: Mapped[int | None] = mapped_column(ForeignKey("incidents.id", ondelete="CASCADE"))
    kind: Mapped[str]
    dedupe_key: Mapped[str]
    notice: Mapped[dict[str, Any]]
    """What it says, as `integrations.channels.base.Notice` writes itself."""
    state: Mapped[str] = mapped_column(default="new")
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    fence: Mapped[int] = mapped_column(Integer, default=0)
    next_at: Mapped[CreatedAt]
    lease_until: Mapped[datetime | None]
    answer: Mapped[str | None]
    """What the receiver said last, or why it could not be reached."""
    receipt: Mapped[dict[str, Any] | None]
    """What a later message about the same incident needs to refer to this one."""
    created_at: Mapped[CreatedAt]
    sent_at: Mapped[datetime | None]

    channel: Mapped[Channel] = relationship(lazy="raise")
