"""Images to be measured by workers: asked for once while they wait, claimed under a lease, retried where that helps."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from store.database import insert
from store.models import Measuring, SizedImage
from store.queries.deliveries import make_id

WAITING = ("new", "working")


@dataclass(frozen=True, slots=True)
class MeasuringClaim:
    """A worker's hold on a measuring."""

    measuring_id: str
    fence: int
    attempts: int


def request_measuring(
    session: Session,
    sized: SizedImage,
    wanted: str,
    reason: str,
    now: datetime,
    *,
    tag: str | None = None,
    build_id: int | None = None,
) -> str | None:
    """Ask for an image to be measured; returns the id, None where the same already waits."""
    measuring_id = make_id()
    found: str | None = session.scalar(
        insert(session, Measuring)
        .values(
            id=measuring_id,
            sized_image_id=sized.id,
            wanted=wanted[:300],
            tag=tag[:300] if tag else None,
            reason=reason,
            build_id=build_id,
            next_at=now,
            created_at=now,
        )
        .on_conflict_do_nothing()
        .returning(Measuring.id)
    )
    return found


def request_scheduled(session: Session, now: datetime) -> int:
    """Ask for every image whose schedule is due; returns how many."""
    due = session.scalars(
        select(SizedImage)
        .where(SizedImage.every_minutes.is_not(None), SizedImage.from_registry.is_(True))
        .where(or_(SizedImage.next_at.is_(None), SizedImage.next_at <= now))
        .limit(100)
        .with_for_update(skip_locked=True)
    ).all()
    for sized in due:
        request_measuring(session, sized, sized.tag, "schedule", now, tag=sized.tag)
        sized.next_at = now + timedelta(minutes=sized.every_minutes or 60)
    return len(due)


def is_any_due(session: Session, now: datetime) -> bool:
    """Whether anything waits; a look costs no lock."""
    due = select(Measuring.id).where(Measuring.state.in_(WAITING), Measuring.next_at <= now).limit(1)
    return session.scalar(due) is not None


def claim_next(session: Session, now: datetime, lease: timedelta) -> MeasuringClaim | None:
    """Take what has been due longest; None when nothing is."""
    due = (
        select(Measuring.id)
        .where(Measuring.state.in_(WAITING), Measuring.next_at <= now)
        .order_by(Measuring.next_at, Measuring.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = session.execute(
        update(Measuring)
        .where(Measuring.id == due.scalar_subquery(), Measuring.state.in_(WAITING), Measuring.next_at <= now)
        .values(state="working", attempts=Measuring.attempts + 1, fence=Measuring.fence + 1, next_at=now + lease)
        .returning(Measuring.id, Measuring.fence, Measuring.attempts),
        execution_options={"synchronize_session": False},
    ).one_or_none()
    return MeasuringClaim(*row) if row else None


def finish(session: Session, held: MeasuringClaim, state: str, now: datetime, *, error: str | None = None) -> bool:
    """Write how a measuring ended; False when another worker has taken it since."""
    return _update(session, held, state=state, error=error, finished_at=now)


def put_back(session: Session, held: MeasuringClaim, next_at: datetime, error: str) -> bool:
    """Try a measuring again later; False when another worker has taken it since."""
    return _update(session, held, state="new", error=error, next_at=next_at)


def _update(session: Session, held: MeasuringClaim, **values: object) -> bool:
    return (
        session.scalar(
            update(Measuring)
            .where(Measuring.id == held.measuring_id, Measuring.fence == held.fence, Measuring.state == "working")
            .values(**values)
            .returning(Measuring.id),
            execution_options={"synchronize_session": False},
        )
        is not None
    )


def list_measurings(session: Session, sized_image_id: int, limit: int = 10) -> Sequence[Measuring]:
    """The latest measurings of an image, newest first."""
    return session.scalars(
        select(Measuring)
        .where(Measuring.sized_image_id == sized_image_id)
        .order_by(Measuring.created_at.desc(), Measuring.id.desc())
        .limit(limit)
    ).all()
