"""Which workers and schedulers are alive."""

from datetime import datetime

from sqlalchemy import CheckConstraint
from sqlalchemy.orm import Mapped

from store.models.base import Base, PublicId, one_of

PROCESS_KINDS = ("worker", "scheduler")


class Heartbeat(Base):
    """The last sign of life of one process; rows of processes that ended are swept away."""

    __tablename__ = "heartbeats"
    __table_args__ = (CheckConstraint(one_of("kind", PROCESS_KINDS), name="kind"),)

    id: Mapped[PublicId]
    """Host and process id."""
    kind: Mapped[str]
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]
