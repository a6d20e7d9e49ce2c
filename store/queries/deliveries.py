"""The outbox: deliveries are inserted once, claimed by one worker at a time, and finished only by the last to claim.

A row is due when its `next_at` has passed: for a new one that is the moment when waiting for the queue has lasted long
enough, after a failed attempt the end of its pause, and while somebody works on it the end of the lease. Each claim
raises `fence`; whatever a worker writes at the end is refused when the number is no longer its own.
"""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Insert, and_, func, or_, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from cachescope.errors import LeaseLostError
from store.models.deliveries import Delivery
from store.models.repositories import Repository

WAITING = ("new", "working")


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's hold on a delivery: the number that it must still have at the end."""

    delivery_id: str
    fence: int
    attempts: int
    """This one included."""


def make_id(at: float | None = None, noise: int | None = None) -> str:
    """Make a UUID of version 7: ids grow with time, so that new rows lie side by side in the index."""
    milliseconds = int((time.time() if at is None else at) * 1000)
    noise = secrets.randbits(74) if noise is None else noise
    value = (milliseconds & (1 << 48) - 1) << 80 | 7 << 76 | (noise >> 62) << 64 | 2 << 62 | noise & (1 << 62) - 1
    return str(UUID(int=value))


def insert(session: Session, values: dict[str, Any]) -> bool:
    """Insert a delivery unless its key was used before; says whether it is new.

    `values` holds columns by name, at least id, team_id, kind, idempotency_key.
    """
    dialect = session.get_bind().dialect.name
    build = postgresql.insert if dialect == "postgresql" else sqlite.insert
    statement: Insert = (
        build(Delivery)
        .values(**values)
        .on_conflict_do_nothing(index_elements=["team_id", "kind", "idempotency_key"])
        .returning(Delivery.id)
    )
    return session.scalar(statement) is not None


def find_by_key(session: Session, team_id: int, kind: str, idempotency_key: str) -> Delivery | None:
    """The delivery that a key was first used for."""
    return session.scalar(
        select(Delivery).where(
            Delivery.team_id == team_id, Delivery.kind == kind, Delivery.idempotency_key == idempotency_key
        )
    )


def claim(session: Session, delivery_id: str, now: datetime, lease: timedelta) -> Claim | None:
    """Take one delivery that somebody pointed at; None when it is done, paused or in other hands."""
    is_free = or_(
        and_(Delivery.state == "new", Delivery.attempts == 0),
        and_(Delivery.state.in_(WAITING), Delivery.next_at <= now),
    )
    statement = update(Delivery).where(Delivery.id == delivery_id, is_free)
    return _take(session, statement, now, lease)


def claim_next_due(
    session: Session, now: datetime, lease: timedelta, overdue: timedelta = timedelta(0)
) -> Claim | None:
    """Take the delivery that has been due longest; None when nothing is due, or nothing for as long as `overdue`."""
    due = (
        select(Delivery.id)
        .where(Delivery.state.in_(WAITING), Delivery.next_at <= now - overdue)
        .order_by(Delivery.next_at, Delivery.id)
        .limit(1)
        .with_for_update(skip_locked=True)  # SQLite has one writer and knows no such clause
    )
    statement = update(Delivery).where(
        Delivery.id == due.scalar_subquery(), Delivery.state.in_(WAITING), Delivery.next_at <= now
    )
    return _take(session, statement, now, lease)


def _take(session: Session, statement: Any, now: datetime, lease: timedelta) -> Claim | None:
    row = session.execute(
        statement.values(
            state="working",
            attempts=Delivery.attempts + 1,
            fence=Delivery.fence + 1,
            lease_until=now + lease,
            next_at=now + lease,
        ).returning(Delivery.id, Delivery.fence, Delivery.attempts),
        execution_options={"synchronize_session": False},
    ).one_or_none()
    return Claim(*row) if row else None


def extend_lease(session: Session, held: Claim, until: datetime) -> bool:
    """Keep a delivery for longer; False when it has passed into other hands."""
    return _update(session, held, lease_until=until, next_at=until)


def finish(session: Session, held: Claim, **values: Any) -> None:
    """Write how a delivery ended, in the transaction of its effects.

    Raises LeaseLostError when another worker has claimed it since.
    """
    if not _update(session, held, lease_until=None, **values):
        raise LeaseLostError(f"Delivery {held.delivery_id} was taken over by another worker.")


def amend(session: Session, held: Claim, **values: Any) -> None:
    """Write what a worker learnt about the delivery that it holds; raises LeaseLostError when it holds it no more."""
    if not _update(session, held, **values):
        raise LeaseLostError(f"Delivery {held.delivery_id} was taken over by another worker.")


def _update(session: Session, held: Claim, **values: Any) -> bool:
    return (
        session.scalar(
            update(Delivery)
            .where(Delivery.id == held.delivery_id, Delivery.fence == held.fence, Delivery.state == "working")
            .values(**values)
            .returning(Delivery.id),
            execution_options={"synchronize_session": False},
        )
        is not None
    )


def requeue(session: Session, delivery_id: str, now: datetime, *states: str) -> bool:
    """Put a finished delivery back to the start, if it is in one of these states."""
    return (
        session.scalar(
            update(Delivery)
            .where(Delivery.id == delivery_id, Delivery.state.in_(states))
            .values(state="new", attempts=0, next_at=now, lease_until=None, error=None, finished_at=None)
            .returning(Delivery.id),
            execution_options={"synchronize_session": False},
        )
        is not None
    )


def requeue_many(
    session: Session,
    now: datetime,
    states: Sequence[str],
    *,
    not_read_with: str | None = None,
    team_id: int | None = None,
    repository_id: int | None = None,
    after: str = "",
    limit: int = 200,
) -> list[str]:
    """Put the next finished deliveries whose log or body is kept back to the start; returns their ids, oldest first.

    Leaves those that a version of the reader has read to the end; without one all are taken. `after` is the last id
    of the call before.
    """
    statement = select(Delivery.id).where(
        Delivery.state.in_(states),
        Delivery.id > after,
        or_(Delivery.log_digest.is_not(None), Delivery.body_digest.is_not(None)),
    )
    if not_read_with is not None:
        statement = statement.where(Delivery.read_with.is_distinct_from(not_read_with))
    if team_id is not None:
        statement = statement.where(Delivery.team_id == team_id)
    if repository_id is not None:
        statement = statement.where(Delivery.repository_id == repository_id)
    ids = list(session.scalars(statement.order_by(Delivery.id).limit(limit)))
    for delivery_id in ids:
        requeue(session, delivery_id, now, *states)
    return ids


def count_due(session: Session, now: datetime, limit: int) -> int:
    """How many deliveries are due, counted up to a limit."""
    due = select(Delivery.id).where(Delivery.state.in_(WAITING), Delivery.next_at <= now).limit(limit).subquery()
    return session.scalar(select(func.count()).select_from(due)) or 0


def count_by_state(session: Session) -> dict[str, int]:
    """How many deliveries there are in each state."""
    counted = dict(session.execute(select(Delivery.state, func.count()).group_by(Delivery.state)).all())
    return {state: counted.get(state, 0) for state in ("new", "working", "done", "ignored", "failed")}


def find_oldest_waiting(session: Session) -> datetime | None:
    """When the delivery arrived that has waited longest."""
    return session.scalar(select(func.min(Delivery.received_at)).where(Delivery.state.in_(WAITING)))


def load_waiting_seconds(session: Session, since: datetime, limit: int) -> list[float]:
    """Seconds from arrival to the end, of the newest finished deliveries."""
    rows = session.execute(
        select(Delivery.received_at, Delivery.finished_at)
        .where(Delivery.id >= make_id(since.timestamp(), noise=0), Delivery.finished_at.is_not(None))
        .order_by(Delivery.id.desc())
        .limit(limit)
    )
    return [(finished_at - received_at).total_seconds() for received_at, finished_at in rows if finished_at]


def load_latest(
    session: Session,
    team_id: int,
    *,
    repository_id: int | None = None,
    state: str | None = None,
    before: tuple[datetime, str] | None = None,
    limit: int = 50,
) -> Sequence[Delivery]:
    """A page of a team's deliveries, newest first; `before` is (received_at, id) of the last one of the page above."""
    statement = select(Delivery).where(Delivery.team_id == team_id, ~is_hidden())
    if repository_id is not None:
        statement = statement.where(Delivery.repository_id == repository_id)
    if state is not None:
        statement = statement.where(Delivery.state == state)
    if before is not None:
        key = (Delivery.received_at, Delivery.id)
        statement = statement.where(tuple_(*key) < tuple_(*before, types=[column.type for column in key]))
    return session.scalars(statement.order_by(Delivery.received_at.desc(), Delivery.id.desc()).limit(limit)).all()


def is_hidden() -> ColumnElement[bool]:
    """Whether the repository of a delivery has left its team: it is being deleted."""
    elsewhere = select(Repository.id).where(
        Repository.id == Delivery.repository_id, Repository.team_id != Delivery.team_id
    )
    return elsewhere.correlate(Delivery).exists()


def is_visible(session: Session, delivery: Delivery) -> bool:
    """Whether nobody has deleted the repository of a delivery."""
    return session.scalar(select(Delivery.id).where(Delivery.id == delivery.id, is_hidden())) is None
