"""What images weigh: where they are measured, each version that was measured, and its layers."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from store.models.base import Base, CreatedAt, PublicId, RowId, one_of
from store.types import EncryptedText

MEASURING_REASONS = ("push", "build", "schedule", "asked")
MEASURING_STATES = ("new", "working", "done", "failed")
_OPEN = text("state IN ('new', 'working')")


class SizedImage(Base):
    """An image whose size is followed: `ghcr.io/acme/api`, whatever its tags, as one repository's builds make it."""

    __tablename__ = "sized_images"
    __table_args__ = (UniqueConstraint("repository_id", "name"), Index(None, "team_id"))

    id: Mapped[RowId]
    team_id: Mapped[int] = mapped_column(ForeignKey("teams.id", ondelete="CASCADE"))
    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"))
    name: Mapped[str]
    """Registry and path without tag, in the words of whoever measured it first."""
    from_registry: Mapped[bool] = mapped_column(default=False)
    """Whether workers may ask the registry for it."""
    insecure: Mapped[bool] = mapped_column(default=False)
    networks: Mapped[str] = mapped_column(default="")
    user: Mapped[str | None]
    password: Mapped[str | None] = mapped_column(EncryptedText)
    tag: Mapped[str] = mapped_column(default="latest")
    """What the schedule measures."""
    every_minutes: Mapped[int | None]
    next_at: Mapped[datetime | None]
    """When the schedule is due again."""
    budget_bytes: Mapped[int | None]
    """Compressed, of the largest platform."""
    budget_growth: Mapped[float | None]
    """As a share of the version before."""
    budget_pull_request_bytes: Mapped[int | None]
    """What one pull request may add, compressed."""
    created_at: Mapped[CreatedAt]


class Measuring(Base):
    """One image to be measured by a worker: committed first, claimed under a lease, retried where that helps."""

    __tablename__ = "measurings"
    __table_args__ = (
        CheckConstraint(one_of("reason", MEASURING_REASONS), name="reason"),
        CheckConstraint(one_of("state", MEASURING_STATES), name="state"),
        Index(None, "sized_image_id", "created_at"),
        Index("ix_measurings_due", "next_at", postgresql_where=_OPEN, sqlite_where=_OPEN),
        # A push that is told twice is measured once.
        Index(
            "uq_measurings_open", "sized_image_id", "wanted", unique=True, postgresql_where=_OPEN, sqlite_where=_OPEN
        ),
    )

    id: Mapped[PublicId]
    sized_image_id: Mapped[int] = mapped_column(ForeignKey("sized_images.id", ondelete="CASCADE"))
    wanted: Mapped[str]
    """A tag or a digest."""
    tag: Mapped[str | None]
    """The tag that was pushed where a digest is wanted."""
    reason: Mapped[str]
    build_id: Mapped[int | None] = mapped_column(ForeignKey("builds.id", ondelete="SET NULL"), index=True)
    state: Mapped[str] = mapped_column(default="new")
    attempts: Mapped[int] = mapped_column(default=0)
    fence: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[CreatedAt]
    error: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    finished_at: Mapped[datetime | None]


class ImageSize(Base):
    """One version of one platform of an image, as far as it has been measured."""

    __tablename__ = "image_sizes"
    __table_args__ = (
        UniqueConstraint("sized_image_id", "platform", "version_key"),
        Index(None, "repository_id", "released_at"),
        Index("ix_image_sizes_newest", "sized_image_id", "platform", "released_at", "id"),
        Index(None, "build_id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[RowId]
    sized_image_id: Mapped[int] = mapped_column(ForeignKey("sized_images.id", ondelete="CASCADE"))
    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"))
    platform: Mapped[str]
    version_key: Mapped[str]
    """The digest of its configuration; where nobody tells it, that of its layers."""
    tag: Mapped[str | None]
    digest: Mapped[str | None]
    """Of the index or manifest that a tag led to."""
    manifest_digest: Mapped[str | None]
    build_id: Mapped[int | None] = mapped_column(ForeignKey("builds.id", ondelete="SET NULL"))
    commit_id: Mapped[str | None]
    branch: Mapped[str] = mapped_column(default="")
    branch_class: Mapped[str] = mapped_column(default="default")
    pull_request: Mapped[str | None]
    base_image: Mapped[str | None]
    compressed_bytes: Mapped[int | None]
    unpacked_bytes: Mapped[int | None]
    own_compressed_bytes: Mapped[int | None]
    own_unpacked_bytes: Mapped[int | None]
    layer_count: Mapped[int] = mapped_column(default=0)
    ways: Mapped[list[Any]] = mapped_column(default=list)
    """By which ways it was measured: engine, registry, archive, files."""
    contents: Mapped[dict[str, Any] | None]
    """What lies in its layers, where they were read."""
    released_at: Mapped[datetime]
    """When this version was first seen; versions are in this order."""
    measured_at: Mapped[CreatedAt]


class ImageLayer(Base):
    """One layer of a version, from 0 at the bottom."""

    __tablename__ = "image_layers"
    __table_args__ = (
        Index(None, "repository_id", "diff_id"),
        {"sqlite_with_rowid": False},
    )

    image_size_id: Mapped[int] = mapped_column(ForeignKey("image_sizes.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    repository_id: Mapped[int]
    digest: Mapped[str | None]
    diff_id: Mapped[str | None]
    instruction: Mapped[str | None]
    step_position: Mapped[int | None]
    """The step of the build that made it."""
    compressed_bytes: Mapped[int | None]
    unpacked_bytes: Mapped[int | None]
    base: Mapped[bool | None]
