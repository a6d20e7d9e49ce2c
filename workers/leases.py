"""Holding a delivery: its lease is prolonged as long as the worker lives, and no longer."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import structlog

from store.database import transaction
from store.queries import deliveries
from store.queries.deliveries import Claim

logger = structlog.get_logger(__name__)


@contextmanager
def kept_lease(held: Claim, lease: timedelta) -> Iterator[None]:
    """Prolong the lease of a delivery in the background while the block runs.

    A worker that is stopped for longer than its lease loses the delivery to another one; what it writes afterwards is
    refused by its fence number, so nothing here needs to interrupt it.
    """
    ended = threading.Event()

    def prolong() -> None:
        while not ended.wait(lease.total_seconds() / 3):
            try:
                with transaction() as session:
                    if not deliveries.extend_lease(session, held, datetime.now(UTC) + lease):
                        return
            except Exception:  # a database that is away for a moment: the lease lasts for two more tries
                logger.warning("lease_not_prolonged", exc_info=True)

    keeper = threading.Thread(target=prolong, name="lease", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join()
