"""Sends the messages that are due, one after the other, each at least once.

A claim in the database decides who sends. A sender that is killed before it could write that a message arrived leaves a
lease behind; when that ends the message is sent once more under the same delivery id, which receivers may drop.
"""

import json
from datetime import UTC, datetime, timedelta
from random import uniform

import structlog

from cachescope.errors import CachescopeError
from integrations.channels import CHANNELS
from integrations.channels.base import Context, Notice, PostponedError, Receipt, RefusedError
from integrations.settings import get_settings
from store.database import reading, transaction
from store.models import Channel, Message
from store.queries import messages
from store.queries.messages import MessageClaim
from workers.app import app

logger = structlog.get_logger(__name__)

ATTEMPTS = 10
"""With pauses of 5 s, doubled each time up to an hour, the last try comes about an hour and a half after the first."""
FIRST_PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(hours=1)
MOST_IN_A_ROW = 50


@app.task(name="notify")
def notify() -> None:
    """Send what is due."""
    for _ in range(MOST_IN_A_ROW):
        if not send_next():
            return
    hand_on()


def hand_on() -> None:
    """Wake a sender; without a queue the scheduler is one."""
    try:
        notify.apply_async(retry=False)
    except Exception as error:  # noqa: BLE001 - whatever a broker raises: the hint is lost, and that is all
        logger.warning("queue_unreachable", error=str(error)[:300])


def send_overdue() -> None:
    """Send what no worker has come for."""
    while send_next(timedelta(seconds=1)):
        pass


def send_next(overdue: timedelta = timedelta(0)) -> bool:
    """Send the message that has been due longest; False when none is."""
    now = datetime.now(UTC)
    with reading() as session:
        if not messages.count_due(session, now - overdue):
            return False
    with transaction() as session:
        held = messages.claim_next_due(session, now, timedelta(seconds=get_settings().lease_seconds), overdue)
    if held is None:
        return False
    with structlog.contextvars.bound_contextvars(message_id=held.message_id, attempt=held.attempts):
        _send(held)
    return True


def _send(held: MessageClaim) -> None:
    fault = ""
    try:
        receipt = _deliver(held)
    except RefusedError as error:
        _give_up(held, str(error))
    except PostponedError as error:
        _try_later(held, str(error), error.after_seconds)
    except CachescopeError as error:
        _give_up(held, str(error))
    except Exception as error:  # noqa: BLE001 - whatever a library raises: the message is tried again
        fault = type(error).__name__
    else:
        values = {"state": "sent", "answer": receipt.answer[:500], "sent_at": datetime.now(UTC)}
        with transaction() as session:
            if not messages.finish(session, held, receipt=receipt.reference, **values):
                logger.warning("lease_lost")
                return
        logger.info("message_sent")
    if fault:
        # Its name alone, and no longer while it is handled: its text may hold the address, which is a secret.
        logger.error("sending_failed", error=fault)
        _try_later(held, f"Sending failed: {fault}.", None)


def _deliver(held: MessageClaim) -> Receipt:
    with reading() as session:
        message = session.get_one(Message, held.message_id)
        channel = session.get_one(Channel, message.channel_id)
        notice = Notice.from_document(message.notice)
        former = (
            messages.find_receipt(session, channel.id, message.incident_id) if message.incident_id is not None else None
        )
        config = channel.config
    if channel.disabled_at is not None:
        raise RefusedError("The channel was switched off.")
    if held.attempts > ATTEMPTS:
        raise RefusedError("The sender died each time it tried to send this message.")
    kind = CHANNELS.get(channel.kind)
    if kind is None:
        raise RefusedError(f'This version knows no channels of the kind "{channel.kind[:40]}".')
    settings = get_settings()
    context = Context(reach=settings.reach, mail=settings.mail, timestamp=datetime.now(UTC).timestamp(), former=former)
    return kind.send(kind.Config.model_validate(json.loads(config)), notice, context)


def _give_up(held: MessageClaim, reason: str) -> None:
    logger.warning("message_failed", reason=reason)
    with transaction() as session:
        messages.finish(session, held, state="failed", answer=reason[:500])


def _try_later(held: MessageClaim, reason: str, after_seconds: float | None) -> None:
    if held.attempts >= ATTEMPTS:
        _give_up(held, f"{reason} It was tried {held.attempts} times.")
        return
    pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (held.attempts - 1)) * uniform(0.8, 1.2)  # noqa: S311 - to spread retries
    if after_seconds is not None:
        pause = max(pause, min(LONGEST_PAUSE, timedelta(seconds=after_seconds)))
    logger.info("message_postponed", reason=reason)
    with transaction() as session:
        messages.finish(session, held, state="new", answer=reason[:500], next_at=datetime.now(UTC) + pause)
