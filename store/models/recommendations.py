"""What to change in the Dockerfile of an image, what that would save, and what became of it."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from store.models.base import Base, CreatedAt, RowId, one_of
from store.models.repositories import Image

RECOMMENDATION_STATES = ("open", "dismissed", "applied", "gone")


class AdviceTurn(Base):
    """When the history of an image is to be looked through again."""

    __tablename__ = "advice_turns"
    __table_args__ = (Index(None, "repository_id"), Index(None, "due_at"))

    image_id: Mapped[int] = mapped_column(
        ForeignKey("images.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"))
    due_at: Mapped[datetime | None]
    """None while nothing has happened since the last time."""
    computed_at: Mapped[datetime | None]
    builds: Mapped[int] = mapped_column(default=0)
    """How many builds it was looked at with."""


class StoredRecommendation(Base):
    """One proposal for one image."""

    __tablename__ = "recommendations"
    __table_args__ = (
        UniqueConstraint("image_id", "name", "key"),
        CheckConstraint(one_of("state", RECOMMENDATION_STATES), name="state"),
        Index(None, "repository_id", "state"),
    )

    id: Mapped[RowId]
    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"))
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"))
    name: Mapped[str]
    """The module of `cachescope.recommendations` that makes it."""
    key: Mapped[str]
    """Of its title: one module may propose several edits."""
    title: Mapped[str]
    why: Mapped[str]
    evidence: Mapped[list[Any]] = mapped_column(default=list)
    patch: Mapped[str | None]
    order_safe: Mapped[bool]
    saving_seconds: Mapped[float | None]
    """Per build; None where it saves no time."""
    saving_low: Mapped[float | None]
    saving_high: Mapped[float | None]
    builds_per_week: Mapped[float | None]
    builds: Mapped[int]
    """How many builds the prediction stands on."""
    state: Mapped[str] = mapped_column(default="open")
    created_at: Mapped[CreatedAt]
    changed_at: Mapped[CreatedAt]
    """When its state changed last."""
    applied_build_id: Mapped[int | None]
    """The first build whose Dockerfile holds the edit."""

    image: Mapped[Image] = relationship(lazy="raise")
