"""Signs of life of workers and schedulers."""

from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from store.models.heartbeats import Heartbeat

_FORGOTTEN_AFTER = timedelta(days=1)


def beat(session: Session, process_id: str, kind: str, started_at: datetime, now: datetime) -> None:
    """Say that a process is alive, and forget those that have been silent for a day."""
    session.merge(Heartbeat(id=process_id, kind=kind, started_at=started_at, seen_at=now))
    session.execute(delete(Heartbeat).where(Heartbeat.seen_at < now - _FORGOTTEN_AFTER))


def forget(session: Session, process_id: str) -> None:
    """Take a process that ends in good order off the list."""
    session.execute(delete(Heartbeat).where(Heartbeat.id == process_id))


def last_seen(session: Session) -> dict[str, datetime]:
    """The latest sign of life of each kind of process."""
    statement = select(Heartbeat.kind, func.max(Heartbeat.seen_at)).group_by(Heartbeat.kind)
    return dict(session.execute(statement).all())
