"""The outbox of messages: inserted with what they tell of, claimed by one sender at a time, ended by the last to claim.

It works as that of the deliveries does: a row is due when its `next_at` has passed, each claim raises `fence`, and what
a sender writes at the end is refused when the number is no longer its own. A sender that dies leaves a lease that ends,
after which the message is sent again under the same id.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, joinedload

from store.database import insert
from store.models import Message
from store.queries.deliveries import make_id

WAITING = ("new", "working")


@dataclass(frozen=True, slots=True)
class MessageClaim:
    """A sender's hold on a message."""

    message_id: str
    fence: int
    attempts: int
    """This one included."""


def write(
    session: Session,
    *,
    team_id: int,
    channel_id: str,
    kind: str,
    dedupe_key: str,
    notice: dict[str, Any],
    next_at: datetime,
    incident_id: int | None = None,
    message_id: str | None = None,
) -> str | None:
    """Put a message into the outbox unless one with its key is there for the channel; returns its id when it is new."""
    statement = (
        insert(session, Message)
        .values(
            id=message_id or make_id(),
            team_id=team_id,
            channel_id=channel_id,
            incident_id=incident_id,
            kind=kind,
            dedupe_key=dedupe_key,
            notice=notice,
            next_at=next_at,
        )
        .on_conflict_do_nothing(index_elements=["channel_id", "dedupe_key"])
        .returning(Message.id)
    )
    found: str | None = session.scalar(statement)
    return found


def claim_next_due(
    session: Session, now: datetime, lease: timedelta, overdue: timedelta = timedelta(0)
) -> MessageClaim | None:
    """Take the message that has been due longest; None when nothing is due, or nothing for as long as `overdue`."""
    due = (
        select(Message.id)
        .where(Message.state.in_(WAITING), Message.next_at <= now - overdue)
        .order_by(Message.next_at, Message.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = session.execute(
        update(Message)
        .where(Message.id == due.scalar_subquery(), Message.state.in_(WAITING), Message.next_at <= now)
        .values(
            state="working",
            attempts=Message.attempts + 1,
            fence=Message.fence + 1,
            lease_until=now + lease,
            next_at=now + lease,
        )
        .returning(Message.id, Message.fence, Message.attempts),
        execution_options={"synchronize_session": False},
    ).one_or_none()
    return MessageClaim(*row) if row else None


def finish(session: Session, held: MessageClaim, **values: Any) -> bool:
    """Write how a try ended; False when another sender has claimed the message since."""
    return (
        session.scalar(
            update(Message)
            .where(Message.id == held.message_id, Message.fence == held.fence, Message.state == "working")
            .values(lease_until=None, **values)
            .returning(Message.id),
            execution_options={"synchronize_session": False},
        )
        is not None
    )


def cancel_unsent(session: Session, incident_ids: Sequence[int]) -> list[str]:
    """Take back messages about incidents that nobody has begun to send; returns the channels they were meant for."""
    return list(
        session.scalars(
            update(Message)
            .where(Message.incident_id.in_(incident_ids), Message.state == "new", Message.attempts == 0)
            .values(state="canceled")
            .returning(Message.channel_id),
            execution_options={"synchronize_session": False},
        )
    )


def requeue(session: Session, message_id: str, now: datetime) -> bool:
    """Put a failed message back to the start."""
    return (
        session.scalar(
            update(Message)
            .where(Message.id == message_id, Message.state == "failed")
            .values(state="new", attempts=0, next_at=now, answer=None)
            .returning(Message.id),
            execution_options={"synchronize_session": False},
        )
        is not None
    )


def list_told_channels(session: Session, incident_id: int) -> list[str]:
    """The channels that were or will be told that an incident was opened."""
    return list(
        session.scalars(
            select(Message.channel_id)
            .where(
                Message.incident_id == incident_id,
                Message.kind.in_(("opened", "reopened")),
                Message.state.in_(("new", "working", "sent")),
            )
            .distinct()
            .order_by(Message.channel_id)
        )
    )


def find_receipt(session: Session, channel_id: str, incident_id: int) -> dict[str, Any] | None:
    """What the first message about an incident left behind in a channel."""
    return session.scalar(
        select(Message.receipt)
        .where(Message.channel_id == channel_id, Message.incident_id == incident_id, Message.receipt.is_not(None))
        .order_by(Message.id)
        .limit(1)
    )


def list_of_incident(session: Session, incident_id: int) -> Sequence[Message]:
    """The messages about an incident with their channels, oldest first."""
    return session.scalars(
        select(Message)
        .where(Message.incident_id == incident_id)
        .options(joinedload(Message.channel))
        .order_by(Message.id)
    ).all()


def list_latest(session: Session, team_id: int, limit: int = 30) -> Sequence[Message]:
    """The latest messages of a team with their channels, newest first."""
    return session.scalars(
        select(Message)
        .where(Message.team_id == team_id)
        .options(joinedload(Message.channel))
        .order_by(Message.created_at.desc(), Message.id.desc())
        .limit(limit)
    ).all()


def find_message(session: Session, team_id: int, message_id: str) -> Message | None:
    """A message of a team."""
    return session.scalar(select(Message).where(Message.id == message_id, Message.team_id == team_id))


def count_due(session: Session, now: datetime) -> int:
    """How many messages are due."""
    return session.scalar(select(func.count()).where(Message.state.in_(WAITING), Message.next_at <= now)) or 0
