"""Webhook sources: each has its own address and its own secrets."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from store.models.base import Base, CreatedAt, PublicId
from store.types import EncryptedText


class Source(Base):
    """A CI provider that sends webhooks to `/hooks/{id}`."""

    __tablename__ = "sources"
    __table_args__ = (Index(None, "team_id"), Index(None, "repository_id"))

    id: Mapped[PublicId]
    team_id: Mapped[int] = mapped_column(ForeignKey("teams.id", ondelete="CASCADE"))
    repository_id: Mapped[int | None] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"))
    name: Mapped[str]
    provider: Mapped[str]
    secrets: Mapped[str] = mapped_column(EncryptedText)
    """JSON, encrypted: a list of {"secret", "ends_at"}; a rotated secret still works until its end."""
    created_at: Mapped[CreatedAt]
    disabled_at: Mapped[datetime | None]
