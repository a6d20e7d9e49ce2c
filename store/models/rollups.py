"""Daily sums, recomputed from the builds of a day: pages read these, so that their cost does not grow with history.

`daily_builds` counts whole builds of a repository, `daily_images` the parts of them that belong to one image: a build
of two images is one build in the first and one in each of the two rows of the second. The columns are the same.
"""

from datetime import date
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from store.models.base import Base, CreatedAt

Histogram = JSON(none_as_null=True)
"""Plain JSON in PostgreSQL too: it is only ever read whole, and JSONB would be written out as text each time."""


class DailyFigures:
    """The columns of a day's sums: hits, misses and seconds are of builds that did not fail, lost time is of all."""

    builds: Mapped[int] = mapped_column(default=0)
    """All of them, whatever their outcome."""
    failed: Mapped[int] = mapped_column(default=0)
    """Those that did not succeed."""
    hits: Mapped[int] = mapped_column(default=0)
    misses: Mapped[int] = mapped_column(default=0)
    unknown: Mapped[int] = mapped_column(default=0)
    seconds_spent: Mapped[float | None]
    """None where no miss is timed, so that a sum over days is None only where all of them are."""
    seconds_avoided: Mapped[float] = mapped_column(default=0.0)
    avoided_unknown: Mapped[int] = mapped_column(default=0)
    lost_seconds: Mapped[float] = mapped_column(default=0.0)
    """Miss cost of unexpected breaks."""
    rebuild_seconds: Mapped[float] = mapped_column(default=0.0)
    """Miss cost of expected breaks."""
    unexplained_seconds: Mapped[float] = mapped_column(default=0.0)
    """Miss cost of breaks of which nobody could say whether they were to be expected."""
    overhead_seconds: Mapped[float] = mapped_column(default=0.0)
    duration_sum: Mapped[float] = mapped_column(default=0.0)
    duration_count: Mapped[int] = mapped_column(default=0)
    hit_rates: Mapped[dict[str, Any]] = mapped_column(Histogram, default=dict)
    """Histogram of the hit rates of builds: thousandths → number of builds."""
    durations: Mapped[dict[str, Any]] = mapped_column(Histogram, default=dict)
    """Histogram of durations in steps of two percent; `store.queries.histograms.duration_of_bin` gives the seconds."""
    last_build_id: Mapped[int | None]


class DailyBuilds(DailyFigures, Base):
    """A day of a repository in one branch class."""

    __tablename__ = "daily_builds"
    __table_args__ = ({"sqlite_with_rowid": False},)

    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    branch_class: Mapped[str] = mapped_column(primary_key=True)


class DailyImages(DailyFigures, Base):
    """A day of one image in one branch class."""

    __tablename__ = "daily_images"
    __table_args__ = (Index(None, "repository_id", "day"), {"sqlite_with_rowid": False})

    image_id: Mapped[int] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    branch_class: Mapped[str] = mapped_column(primary_key=True)
    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"))


class DailyInstructions(Base):
    """A day of one instruction in one branch class."""

    __tablename__ = "daily_instructions"
    __table_args__ = (Index(None, "instruction_id", "day"), {"sqlite_with_rowid": False})

    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    instruction_id: Mapped[int] = mapped_column(ForeignKey("instructions.id", ondelete="CASCADE"), primary_key=True)
    branch_class: Mapped[str] = mapped_column(primary_key=True)
    hits: Mapped[int] = mapped_column(default=0)
    misses: Mapped[int] = mapped_column(default=0)
    breaks: Mapped[int] = mapped_column(default=0)
    seconds_spent: Mapped[float] = mapped_column(default=0.0)
    lost_seconds: Mapped[float] = mapped_column(default=0.0)
    rebuild_seconds: Mapped[float] = mapped_column(default=0.0)
    unexplained_seconds: Mapped[float] = mapped_column(default=0.0)
    causes: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Cause → number of breaks."""


class DirtyDay(Base):
    """A day of a repository whose sums are out of date; written in the transaction that changed its builds."""

    __tablename__ = "dirty_days"
    __table_args__ = ({"sqlite_with_rowid": False},)

    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    marked_at: Mapped[CreatedAt]
