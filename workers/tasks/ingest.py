"""Reads what was delivered: the deliveries that a hint names, then whatever else is due.

A hint may come twice, late or never. The claim in the database decides who works, so that none of these matters.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import structlog

from store.database import transaction
from store.queries import deliveries
from store.queries.deliveries import Claim
from workers import pipeline
from workers.app import app
from workers.settings import get_settings

logger = structlog.get_logger(__name__)

MOST_IN_A_ROW = 50
"""After so many the rest is left to the next hint, so that a worker that is told to stop can."""


@app.task(name="ingest")
def ingest(*delivery_ids: str) -> None:
    """Read some deliveries and then what is due; without an id only the latter."""
    for count, held in enumerate(_claims(delivery_ids), start=1):
        pipeline.work_off(held)
        if count == MOST_IN_A_ROW:
            hand_on()
            return


def hand_on() -> None:
    """Wake a worker for the rest; without a queue the scheduler does."""
    try:
        ingest.apply_async(retry=False)
    except Exception as error:  # noqa: BLE001 - whatever a broker raises: the hint is lost, and that is all
        logger.warning("queue_unreachable", error=str(error)[:300])


def _claims(delivery_ids: tuple[str, ...]) -> Iterator[Claim]:
    lease = timedelta(seconds=get_settings().lease_seconds)
    for delivery_id in delivery_ids:
        with transaction() as session:
            held = deliveries.claim(session, delivery_id, datetime.now(UTC), lease)
        if held:
            yield held
    while held := claim_next(lease):
        yield held


def claim_next(lease: timedelta, overdue: timedelta = timedelta(0)) -> Claim | None:
    """Take what has been due longest, or has been due for a while; None when there is nothing."""
    now = datetime.now(UTC)
    with transaction() as session:
        return deliveries.claim_next_due(session, now, lease, overdue)
