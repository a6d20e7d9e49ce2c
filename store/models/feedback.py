"""What a repository wants to be told at its forge, what is still to be told, and what was."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from store.models.base import Base, CreatedAt, RowId, one_of

MODES = ("off", "inform", "fail")
MEASURES = ("efficiency", "hit_rate")
TASK_KINDS = ("build", "pull_request")
TASK_STATES = ("new", "working", "done", "failed")
POST_KINDS = ("comment", "check", "status")
_OPEN = text("state IN ('new', 'working')")


class FeedbackPolicy(Base):
    """What one repository is told; one without a row is told what the defaults say."""

    __tablename__ = "feedback_policies"
    __table_args__ = (
        CheckConstraint(one_of("mode", MODES), name="mode"),
        CheckConstraint(one_of("measure", MEASURES), name="measure"),
        Index(None, "source_id"),
    )

    repository_id: Mapped[int] = mapped_column(
        ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    source_id: Mapped[str | None] = mapped_column(ForeignKey("sources.id", ondelete="SET NULL"))
    """Whose forge and credentials are used; None takes the source that a build came from, or the only one that fits."""
    comments: Mapped[bool] = mapped_column(default=True)
    preflight: Mapped[bool] = mapped_column(default=True)
    mode: Mapped[str] = mapped_column(default="inform")
    measure: Mapped[str] = mapped_column(default="efficiency")
    threshold: Mapped[float] = mapped_column(default=0.5)
    least_seconds: Mapped[float] = mapped_column(default=1.0)
    badge_token: Mapped[str | None] = mapped_column(unique=True)
    """What stands in the address of the badges; None while there are none. It opens three figures and nothing else."""
    updated_at: Mapped[CreatedAt]


class FeedbackTask(Base):
    """Something to tell a forge: written in the transaction that learnt it, so that a forge that is away loses nothing.

    Works as a delivery does: `next_at` says when it is due, and `fence` grows with every claim and every new reason.
    """

    __tablename__ = "feedback_tasks"
    __table_args__ = (
        UniqueConstraint("repository_id", "kind", "key"),
        CheckConstraint(one_of("kind", TASK_KINDS), name="kind"),
        CheckConstraint(one_of("state", TASK_STATES), name="state"),
        Index(None, "source_id"),
        Index("ix_feedback_tasks_due", "next_at", postgresql_where=_OPEN, sqlite_where=_OPEN),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[RowId]
    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"))
    source_id: Mapped[str] = mapped_column(ForeignKey("sources.id", ondelete="CASCADE"))
    kind: Mapped[str]
    key: Mapped[str]
    """The delivery whose builds are told of; the number of the pull request."""
    parameters: Mapped[dict[str, Any]] = mapped_column(default=dict)
    state: Mapped[str] = mapped_column(default="new")
    attempts: Mapped[int] = mapped_column(default=0)
    fence: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[CreatedAt]
    error: Mapped[str | None]
    """Why it failed or waits; of one that is done, why there was nothing to say."""
    created_at: Mapped[CreatedAt]
    finished_at: Mapped[datetime | None]


class FeedbackPost(Base):
    """A comment, check run or status of ours at a forge: it is edited where it stands."""

    __tablename__ = "feedback_posts"
    __table_args__ = (
        UniqueConstraint("image_id", "kind", "subject"),
        CheckConstraint(one_of("kind", POST_KINDS), name="kind"),
        Index(None, "repository_id", "posted_at"),
        Index(None, "build_id"),
    )

    id: Mapped[RowId]
    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"))
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"))
    kind: Mapped[str]
    subject: Mapped[str]
    """The number of the pull request, or the commit."""
    build_id: Mapped[int | None] = mapped_column(ForeignKey("builds.id", ondelete="SET NULL"))
    """The build that it tells of; None for a forecast."""
    remote_id: Mapped[str | None]
    """Its id at the forge; None for a status, which has none that could be edited."""
    digest: Mapped[str]
    """Of what it says: what has not changed is not sent again."""
    posted_at: Mapped[CreatedAt]
