"""Builds, their images and steps, and the steps that busted the cache."""

from datetime import date, datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from store.models.base import Base, CreatedAt, RowId, one_of
from store.models.repositories import Image, Repository
from store.models.runs import Run

BRANCH_CLASSES = ("default", "branch", "pull_request")
CLOCKS = ("log", "run", "delivery")
OUTCOMES = ("succeeded", "failed", "canceled", "incomplete")


class Build(Base):
    """One solve of one log, with the figures that `cachescope.metrics` gave it."""

    __tablename__ = "builds"
    __table_args__ = (
        UniqueConstraint("delivery_id", "position"),
        CheckConstraint(one_of("outcome", OUTCOMES), name="outcome"),
        CheckConstraint(one_of("branch_class", BRANCH_CLASSES), name="branch_class"),
        CheckConstraint(one_of("started_from", CLOCKS), name="started_from"),
        # The builds list pages by key: newest first, then by id, under each of its filters.
        Index("ix_builds_newest", "repository_id", "started_at", "id"),
        Index("ix_builds_newest_of_branch", "repository_id", "branch", "started_at", "id"),
        Index("ix_builds_newest_of_outcome", "repository_id", "outcome", "started_at", "id"),
        Index(None, "repository_id", "day"),
        Index(None, "run_id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[RowId]
    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"))
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    delivery_id: Mapped[str] = mapped_column(ForeignKey("deliveries.id", ondelete="CASCADE"))
    position: Mapped[int]
    """In its log, from 0."""
    line: Mapped[int | None]
    builder: Mapped[str | None]
    format: Mapped[str]
    outcome: Mapped[str]
    error: Mapped[str | None]
    started_at: Mapped[datetime]
    started_from: Mapped[str]
    """Who told the start: the log, the run, or only the arrival of the delivery."""
    finished_at: Mapped[datetime | None]
    duration_seconds: Mapped[float | None]
    day: Mapped[date]
    """Of started_at, in UTC."""
    branch: Mapped[str] = mapped_column(default="")
    """Empty where nobody told."""
    branch_class: Mapped[str]
    commit_id: Mapped[str | None]
    runner: Mapped[str | None]
    context_bytes: Mapped[int | None]
    cacheable: Mapped[int] = mapped_column(default=0)
    hits: Mapped[int] = mapped_column(default=0)
    misses: Mapped[int] = mapped_column(default=0)
    unknown: Mapped[int] = mapped_column(default=0)
    seconds_spent: Mapped[float | None]
    seconds_avoided: Mapped[float | None]
    avoided_unknown: Mapped[int] = mapped_column(default=0)
    """Hits whose instruction was never seen to run."""
    overhead_seconds: Mapped[float | None]
    reachable_efficiency: Mapped[float | None]
    wall_saved_seconds: Mapped[float | None]
    lost_seconds: Mapped[float | None]
    """Miss cost of its unexpected breaks; None before it has been compared."""
    rebuild_seconds: Mapped[float | None]
    """Miss cost of its expected breaks."""
    baseline_build_id: Mapped[int | None]
    images: Mapped[list[Any]] = mapped_column(default=list)
    """As printed: what the JSON contract calls `images`; the rows of `build_images` carry figures."""
    base_images: Mapped[list[Any]] = mapped_column(default=list)
    """[{"reference", "digest", "platform"}] of every FROM whose image the log names."""
    cache_imports: Mapped[list[Any]] = mapped_column(default=list)
    cache_exports: Mapped[list[Any]] = mapped_column(default=list)
    warnings: Mapped[list[Any]] = mapped_column(default=list)
    headline_break: Mapped[dict[str, Any] | None]
    """{"position", "instruction", "cause", "cost_seconds"} of the costliest break, for lists."""
    received_at: Mapped[CreatedAt]

    run: Mapped[Run] = relationship(lazy="raise")
    repository: Mapped[Repository] = relationship(lazy="raise")


class BuildImage(Base):
    """One image of a build, with the figures of the steps of its target."""

    __tablename__ = "build_images"
    __table_args__ = (
        Index("ix_build_images_newest", "image_id", "started_at", "build_id"),
        # Also for the baseline of a build: the latest successful one of the same image on a branch.
        Index("ix_build_images_newest_of_branch", "image_id", "branch", "started_at", "build_id"),
    )

    build_id: Mapped[int] = mapped_column(ForeignKey("builds.id", ondelete="CASCADE"), primary_key=True)
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"), primary_key=True)
    repository_id: Mapped[int]
    digest: Mapped[str | None]
    tags: Mapped[list[Any]] = mapped_column(default=list)
    cacheable: Mapped[int] = mapped_column(default=0)
    hits: Mapped[int] = mapped_column(default=0)
    misses: Mapped[int] = mapped_column(default=0)
    unknown: Mapped[int] = mapped_column(default=0)
    seconds_spent: Mapped[float | None]
    seconds_avoided: Mapped[float | None]
    avoided_unknown: Mapped[int] = mapped_column(default=0)
    duration_seconds: Mapped[float | None]
    branch: Mapped[str] = mapped_column(default="")
    """Branch, outcome and start of the build once more: baselines and filtered lists are read from one table."""
    branch_class: Mapped[str]
    outcome: Mapped[str]
    started_at: Mapped[datetime]

    image: Mapped[Image] = relationship(lazy="raise")


class Step(Base):
    """One line of work that the builder logged.

    Its only foreign key is the build: there are fifteen of these a build, each further key would be checked for every
    one, and what it points to is deleted only after the builds of the repository.
    """

    __tablename__ = "steps"
    __table_args__ = (
        # The executions of an instruction, from which its reference cost can be worked out again.
        Index(
            "ix_steps_executions",
            "instruction_id",
            "build_id",
            postgresql_where=text("cached = false"),
            sqlite_where=text("cached = 0"),
        ),
        {"sqlite_with_rowid": False},
    )

    build_id: Mapped[int] = mapped_column(ForeignKey("builds.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    """In the build, from 0."""
    repository_id: Mapped[int]
    image_id: Mapped[int | None]
    instruction_id: Mapped[int | None]
    text_id: Mapped[int]
    number: Mapped[int | None] = mapped_column(Integer)
    kind: Mapped[str]
    target: Mapped[str | None]
    stage: Mapped[str | None]
    platform: Mapped[str | None]
    idx: Mapped[int | None] = mapped_column(Integer)
    total: Mapped[int | None] = mapped_column(Integer)
    instruction: Mapped[str | None]
    status: Mapped[str]
    cached: Mapped[bool | None]
    cacheable: Mapped[bool]
    started_seconds: Mapped[float | None]
    duration_seconds: Mapped[float | None]
    digest: Mapped[str | None]
    error: Mapped[str | None]
    output_lines: Mapped[int] = mapped_column(Integer, default=0)
    transferred_bytes: Mapped[int | None]
    line: Mapped[int | None] = mapped_column(Integer)
    inputs: Mapped[list[Any] | None]
    """Positions of the steps it stands on, -1 for one that is no step; only where the log tells."""
    reference_seconds: Mapped[float | None]
    """The instruction's reference cost before this build."""
    is_break: Mapped[bool] = mapped_column(default=False)
    break_position: Mapped[int | None] = mapped_column(Integer)
    """In a cascade: the break that made this step miss."""
    cause: Mapped[str | None]
    expected: Mapped[bool | None]


class Break(Base):
    """The first miss on a chain of steps, with what it cost and why it happened."""

    __tablename__ = "breaks"
    __table_args__ = (
        Index(None, "repository_id", "day"),
        Index(None, "image_id"),
        Index(None, "instruction_id", "day"),
    )

    build_id: Mapped[int] = mapped_column(ForeignKey("builds.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Of its step."""
    repository_id: Mapped[int]
    image_id: Mapped[int | None] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"))
    instruction_id: Mapped[int | None] = mapped_column(ForeignKey("instructions.id", ondelete="CASCADE"))
    day: Mapped[date]
    branch_class: Mapped[str]
    cause: Mapped[str]
    confidence: Mapped[str | None]
    """certain, likely or unknown."""
    expected: Mapped[bool | None]
    cost_seconds: Mapped[float | None]
    """Of the break and its cascade."""
    own_seconds: Mapped[float | None]
    cascade: Mapped[list[Any]] = mapped_column(default=list)
    """Positions of the steps that missed only because of it."""
    files: Mapped[list[Any]] = mapped_column(default=list)
    evidence: Mapped[list[Any]] = mapped_column(default=list)
    possible: Mapped[list[Any]] = mapped_column(default=list)
    """The causes that the evidence leaves, where there are several."""
