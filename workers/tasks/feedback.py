"""Tells forges what is to be told: comments, checks, statuses and forecasts.

The rows in the database are the truth and the task a hint, as with deliveries; the scheduler finds what a lost hint
left behind.
"""

from datetime import UTC, datetime, timedelta

import structlog

from store.database import transaction
from store.queries import feedback as rows
from workers import feedback
from workers.app import app

logger = structlog.get_logger(__name__)

KEPT = timedelta(days=30)
_PATIENCE = timedelta(seconds=3)
MOST_IN_A_ROW = 20
"""After so many the rest is left to the next hint, so that logs do not wait for a slow forge."""


@app.task(name="feedback")
def tell_forges() -> None:
    """Work off what is due."""
    for _ in range(MOST_IN_A_ROW):
        held = feedback.claim_next()
        if held is None:
            return
        feedback.work_off(held)
    hand_on()


def tell_overdue() -> None:
    """Work off what no worker has come for, from a thread of the scheduler."""
    while held := feedback.claim_next(_PATIENCE):
        feedback.work_off(held)


def forget_old() -> None:
    """Forget what was told long ago; what stands at the forge stays known."""
    with transaction() as session:
        rows.delete_old(session, datetime.now(UTC) - KEPT)


def hand_on() -> None:
    """Wake a worker; without a queue the scheduler finds the rows."""
    try:
        tell_forges.apply_async(retry=False)
    except Exception as error:  # noqa: BLE001 - whatever a broker raises: the hint is lost, and that is all
        logger.warning("queue_unreachable", error=str(error)[:300])
