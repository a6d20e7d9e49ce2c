"""Signs of life: each process says every few seconds in the database that it is there."""

import os
import socket
import threading
from datetime import UTC, datetime

import structlog

from store.database import transaction
from store.queries import heartbeats

logger = structlog.get_logger(__name__)

EVERY_SECONDS = 5.0
SILENT_AFTER_SECONDS = 30.0
"""A process that has said nothing for so long counts as gone."""


def start(kind: str) -> threading.Event:
    """Begin to give signs of life in the background, until the event that is returned is set."""
    ended = threading.Event()
    process_id = f"{socket.gethostname()}:{os.getpid()}"
    started_at = datetime.now(UTC)

    def run() -> None:
        while True:
            try:
                with transaction() as session:
                    heartbeats.beat(session, process_id, kind, started_at, datetime.now(UTC))
            except Exception:  # the database is away: /readyz says so by itself
                logger.warning("heartbeat_failed", exc_info=True)
            if ended.wait(EVERY_SECONDS):
                return

    threading.Thread(target=run, name="heartbeat", daemon=True).start()
    return ended
