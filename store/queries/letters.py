"""The outbox of e-mails to people: inserted with what they tell of, claimed by one sender at a time."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from store.models import Letter

WAITING = ("new", "working")
SENT = "{}"
"""What is left of what a letter said once it has been sent: its link is nobody's business any more."""


@dataclass(frozen=True, slots=True)
class LetterClaim:
    """A sender's hold on a letter."""

    letter_id: str
    fence: int
    attempts: int
    """This one included."""


def write(
    session: Session,
    *,
    letter_id: str,
    kind: str,
    recipient: str,
    notice: str,
    next_at: datetime,
    team_id: int | None = None,
    user_id: int | None = None,
) -> None:
    """Put a letter into the outbox."""
    session.add(
        Letter(
            id=letter_id,
            kind=kind,
            recipient=recipient,
            notice=notice,
            next_at=next_at,
            team_id=team_id,
            user_id=user_id,
        )
    )
    session.flush()


def count_due(session: Session, now: datetime) -> int:
    """How many letters are due."""
    return session.scalar(select(func.count()).where(Letter.state.in_(WAITING), Letter.next_at <= now)) or 0


def claim_next_due(session: Session, now: datetime, lease: timedelta) -> LetterClaim | None:
    """Take the letter that has been due longest; None when nothing is due. A sender that dies lets it go in the end."""
    due = (
        select(Letter.id)
        .where(Letter.state.in_(WAITING), Letter.next_at <= now)
        .order_by(Letter.next_at, Letter.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = session.execute(
        update(Letter)
        .where(Letter.id == due.scalar_subquery(), Letter.state.in_(WAITING), Letter.next_at <= now)
        .values(state="working", attempts=Letter.attempts + 1, fence=Letter.fence + 1, next_at=now + lease)
        .returning(Letter.id, Letter.fence, Letter.attempts),
        execution_options={"synchronize_session": False},
    ).one_or_none()
    return LetterClaim(*row) if row else None


def finish(session: Session, held: LetterClaim, *, state: str, answer: str, next_at: datetime | None = None) -> bool:
    """Write how a try ended; False when another sender has claimed the letter since. What was said is kept no longer
    than it may be sent again.
    """
    values = {"state": state, "answer": answer} | ({"next_at": next_at} if next_at else {"notice": SENT})
    return (
        session.scalar(
            update(Letter)
            .where(Letter.id == held.letter_id, Letter.fence == held.fence, Letter.state == "working")
            .values(**values)
            .returning(Letter.id),
            execution_options={"synchronize_session": False},
        )
        is not None
    )


def delete_old(session: Session, before: datetime) -> None:
    """Forget letters that were written before a moment."""
    session.execute(delete(Letter).where(Letter.created_at < before))
