"""Sends the e-mails that people get about their accounts: invitations, links that change a password or an address.

A claim in the database decides who sends; what fails is tried again for about an hour. It works as the outbox of
alerts does, but belongs to no channel.
"""

import json
from datetime import UTC, datetime, timedelta
from random import uniform

import structlog

from cachescope.errors import CachescopeError
from integrations.channels.base import Context, Notice, PostponedError
from integrations.channels.email import CHANNEL, EmailConfig
from integrations.settings import get_settings
from store.database import reading, transaction
from store.models import Letter
from store.queries import letters
from store.queries.letters import LetterClaim
from workers.app import app

logger = structlog.get_logger(__name__)

ATTEMPTS = 8
FIRST_PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(minutes=30)
MOST_IN_A_ROW = 50
KEPT = timedelta(days=7)
"""For so long it is known to whom a letter went."""


@app.task(name="mail")
def mail() -> None:
    """Send what is due."""
    for _ in range(MOST_IN_A_ROW):
        if not send_next():
            return
    hand_on()


def hand_on() -> None:
    """Wake a sender; without a queue the scheduler is one."""
    try:
        mail.apply_async(retry=False)
    except Exception as error:  # noqa: BLE001 - whatever a broker raises: the hint is lost, and that is all
        logger.warning("queue_unreachable", error=str(error)[:300])


def send_letters() -> None:
    """Send what no worker has come for."""
    while send_next(timedelta(seconds=1)):
        pass


def forget_letters() -> None:
    """Forget what was sent long ago."""
    with transaction() as session:
        letters.delete_old(session, datetime.now(UTC) - KEPT)


def send_next(overdue: timedelta = timedelta(0)) -> bool:
    """Send the letter that has been due longest; False when none is."""
    now = datetime.now(UTC)
    with reading() as session:
        if not letters.count_due(session, now - overdue):
            return False
    with transaction() as session:
        held = letters.claim_next_due(session, now, timedelta(seconds=get_settings().lease_seconds))
    if held is None:
        return False
    with structlog.contextvars.bound_contextvars(letter_id=held.letter_id, attempt=held.attempts):
        _send(held)
    return True


def _send(held: LetterClaim) -> None:
    try:
        answer = _deliver(held)
    except PostponedError as error:
        _try_later(held, str(error))
    except CachescopeError as error:
        _finish(held, "failed", str(error))
    except Exception as error:  # noqa: BLE001 - whatever a library raises: the letter is tried again
        # Its name alone: its text may hold the letter, which may hold a link that signs in.
        _try_later(held, f"Sending failed: {type(error).__name__}.")
    else:
        _finish(held, "sent", answer)


def _deliver(held: LetterClaim) -> str:
    with reading() as session:
        letter = session.get_one(Letter, held.letter_id)
        recipient, notice = letter.recipient, Notice.from_document(json.loads(letter.notice))
    context = Context(mail=get_settings().mail, timestamp=datetime.now(UTC).timestamp())
    return CHANNEL.send(EmailConfig(to=recipient), notice, context).answer


def _try_later(held: LetterClaim, reason: str) -> None:
    if held.attempts >= ATTEMPTS:
        _finish(held, "failed", f"{reason} It was tried {held.attempts} times.")
        return
    pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (held.attempts - 1)) * uniform(0.8, 1.2)  # noqa: S311 - to spread retries
    _finish(held, "new", reason, datetime.now(UTC) + pause)


def _finish(held: LetterClaim, state: str, answer: str, next_at: datetime | None = None) -> None:
    (logger.info if state == "sent" else logger.warning)("letter", state=state, answer=answer[:300])
    with transaction() as session:
        letters.finish(session, held, state=state, answer=answer[:500], next_at=next_at)
