"""Which raw logs exist, and which of them nobody refers to any more."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import Session

from store.database import insert
from store.logs import LogStore, WrittenLog
from store.models import Delivery, StoredLog


def save_log(session: Session, log: WrittenLog) -> None:
    """Note a log that was written, before the delivery that refers to it; the same log twice is one row."""
    values = {"digest": log.digest, "unpacked_bytes": log.unpacked_bytes, "stored_bytes": log.stored_bytes}
    session.execute(insert(session, StoredLog).values(values).on_conflict_do_nothing())


def list_unreferenced(session: Session, before: datetime, limit: int = 100) -> Sequence[str]:
    """The digests of logs stored before a time to which no delivery refers."""
    return session.scalars(
        select(StoredLog.digest)
        .where(StoredLog.created_at < before, *_without_delivery())
        .order_by(StoredLog.created_at)
        .limit(limit)
    ).all()


def delete_unreferenced(session: Session, logs: LogStore, digest: str, before: datetime) -> bool:
    """Delete a log to which no delivery refers; False when one does, or when it was written again after `before`.

    The row goes first and stays locked until the transaction ends: a delivery of the same log that arrives meanwhile
    waits for it, and has given the file a new time before that.
    """
    with session.begin_nested() as attempt:
        deleted = session.execute(
            delete(StoredLog)
            .where(StoredLog.digest == digest, StoredLog.created_at < before, *_without_delivery())
            .returning(StoredLog.digest)
            .execution_options(synchronize_session=False)
        ).first()
        if deleted is None:
            return False
        if not logs.delete(digest, before):
            attempt.rollback()
            return False
    return True


def _without_delivery() -> tuple[ColumnElement[bool], ...]:
    return tuple(
        ~select(Delivery.id).where(column == StoredLog.digest).exists()
        for column in (Delivery.log_digest, Delivery.body_digest)
    )
