"""What was sent to us, and the raw logs: the outbox that no accepted log can fall out of."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from store.models.base import Base, CreatedAt, PublicId, one_of

DELIVERY_KINDS = ("upload", "hook", "demo")
DELIVERY_STATES = ("new", "working", "done", "ignored", "failed")
_OPEN = text("state IN ('new', 'working')")


class StoredLog(Base):
    """A raw log in the folder or bucket, by the SHA-256 of its redacted bytes; several deliveries may share it."""

    __tablename__ = "logs"

    digest: Mapped[PublicId]
    unpacked_bytes: Mapped[int]
    stored_bytes: Mapped[int]
    created_at: Mapped[CreatedAt]


class Delivery(Base):
    """One upload or webhook: committed before it is answered, worked off later, kept to be read again."""

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("team_id", "kind", "idempotency_key"),
        CheckConstraint(one_of("kind", DELIVERY_KINDS), name="kind"),
        CheckConstraint(one_of("state", DELIVERY_STATES), name="state"),
        Index(None, "repository_id", "received_at"),
        Index(None, "source_id"),
        Index(None, "token_id"),
        Index(None, "log_digest"),
        Index(None, "body_digest"),
        Index("ix_deliveries_team_received", "team_id", "received_at"),
        # What workers and the sweeper look for: a few rows, however many deliveries there have ever been.
        Index("ix_deliveries_due", "next_at", postgresql_where=_OPEN, sqlite_where=_OPEN),
    )

    id: Mapped[PublicId]
    team_id: Mapped[int] = mapped_column(ForeignKey("teams.id", ondelete="CASCADE"))
    repository_id: Mapped[int | None] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"))
    source_id: Mapped[str | None] = mapped_column(ForeignKey("sources.id", ondelete="SET NULL"))
    token_id: Mapped[str | None] = mapped_column(ForeignKey("tokens.id", ondelete="SET NULL"))
    kind: Mapped[str]
    idempotency_key: Mapped[str]
    parameters: Mapped[dict[str, Any]] = mapped_column(default=dict)
    log_digest: Mapped[str | None] = mapped_column(ForeignKey("logs.digest"))
    log_bytes: Mapped[int | None]
    body_digest: Mapped[str | None] = mapped_column(ForeignKey("logs.digest"))
    """A webhook's body as it came, where it is kept until it has been worked off."""
    redactions: Mapped[int] = mapped_column(default=0)
    wrapper: Mapped[str | None]
    """What the reading found around the log, its number of lines and what it could not understand."""
    lines: Mapped[int | None]
    warnings: Mapped[list[Any]] = mapped_column(default=list)
    read_with: Mapped[str | None]
    """The version that read it last."""
    state: Mapped[str] = mapped_column(default="new")
    attempts: Mapped[int] = mapped_column(default=0)
    fence: Mapped[int] = mapped_column(default=0)
    """Grows with every claim: a worker whose lease ran out finds that its number is no longer the present one."""
    next_at: Mapped[CreatedAt]
    """Not worked off before; while somebody works on it, when their lease ends."""
    lease_until: Mapped[datetime | None]
    error: Mapped[str | None]
    received_at: Mapped[CreatedAt]
    finished_at: Mapped[datetime | None]
