"""CI executions."""

from datetime import datetime

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from store.models.base import Base, RowId


class Run(Base):
    """One CI execution (job, attempt), which may hold several builds."""

    __tablename__ = "runs"
    __table_args__ = (UniqueConstraint("repository_id", "key"),)

    id: Mapped[RowId]
    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"))
    key: Mapped[str]
    """Hash of provider, address, job and attempt; of the delivery where CI gave no address."""
    provider: Mapped[str | None]
    job: Mapped[str | None]
    attempt: Mapped[int] = mapped_column(default=1)
    url: Mapped[str | None]
    commit_id: Mapped[str | None]
    branch: Mapped[str | None]
    pull_request: Mapped[str | None]
    runner: Mapped[str | None]
    actor: Mapped[str | None]
    is_bot: Mapped[bool] = mapped_column(default=False)
    started_at: Mapped[datetime | None]
