"""Deleting what somebody decided to delete: in small transactions with pauses between, so that others can write."""

import time

import structlog

from store.database import reading, shorten_journal, tidied, transaction
from store.logs import LogStore, open_logs
from store.queries import deletions, logs
from store.queries.deletions import Emptied

logger = structlog.get_logger(__name__)

TURN_SECONDS = 5.0
"""For so long one call works on; what is left then waits for the next."""


def delete_hidden(turn_seconds: float = TURN_SECONDS) -> bool:
    """Go on deleting teams and repositories; tells whether anything is left to delete."""
    with reading() as session:
        waiting = deletions.list_hidden(session)
    until = time.monotonic() + turn_seconds
    for team_id in waiting:
        while True:
            began = time.monotonic()
            with transaction() as session, tidied(session):
                emptied = deletions.delete_some(session, team_id)
            forget_logs(emptied)
            if emptied.is_done:
                shorten_journal()
                logger.info("team_deleted", team_id=team_id)
                break
            if time.monotonic() > until:
                return True
            # SQLite lets nobody else write meanwhile, and tells nobody whose turn it is.
            time.sleep(min(0.5, time.monotonic() - began))
    return False


def forget_logs(emptied: Emptied, store: LogStore | None = None) -> None:
    """Delete the raw logs of deliveries that are gone, where nobody else refers to them or has just sent them again."""
    for digest, before in emptied.digests.items():
        with transaction() as session:
            logs.delete_unreferenced(session, store or open_logs(), digest, before)
