"""The scheduler process, `python -m workers.schedule`: what runs when, without the queue.

It needs nothing but the database, so it is the safety net under everything else: it wakes the workers when deliveries
are overdue, and reads these deliveries itself where no worker comes, one at a time. It replaces Celery's beat, which
can only speak through the broker. Two schedulers at once do no harm.
"""

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from store.database import reading, transaction
from store.logs import FolderStore, open_logs
from store.queries import accounts, deliveries, hooks, logs, rollups
from workers import heartbeats, pipeline
from workers.hints import sender
from workers.logs import configure_logging
from workers.reconciling import reconcile_next
from workers.settings import get_settings
from workers.tasks.advising import advise_due
from workers.tasks.deleting import delete_hidden
from workers.tasks.detecting import keep_incidents
from workers.tasks.feedback import forget_old, tell_overdue
from workers.tasks.forgetting import forget_expired
from workers.tasks.ingest import claim_next
from workers.tasks.mailing import forget_letters, send_letters
from workers.tasks.measuring import measure_overdue
from workers.tasks.notifying import send_overdue

logger = structlog.get_logger(__name__)

LEFT_BEHIND = timedelta(hours=2)
"""How old a raw log must be before it counts as belonging to nobody: its delivery may be about to be committed."""
BODIES_KEPT = timedelta(days=3)
"""For so long the bodies of webhooks are kept, to be looked at and read again."""
_PATIENCE = timedelta(seconds=0.5)
"""For so long after a delivery became due the scheduler leaves it to the workers."""


@dataclass(slots=True)
class Sweeper:
    """Wakes the workers while something is overdue: a few hints at a time, and ever more seldom if nothing helps."""

    pause_seconds: float = 0.0
    next_at: float = 0.0

    def sweep(self) -> None:
        """Look once."""
        most = get_settings().hints_per_sweep
        with reading() as session:
            due = deliveries.count_due(session, datetime.now(UTC), most)
        if not due:
            self.pause_seconds = 0.0
            return
        if time.monotonic() < self.next_at:
            return
        for _ in range(due):
            sender.send(None)
        self.pause_seconds = min(15.0, max(1.0, self.pause_seconds * 2))
        self.next_at = time.monotonic() + self.pause_seconds


def roll_up_dirty_days() -> None:
    """Recompute the daily sums of every day whose builds changed: each day once, however many builds it got."""
    with reading() as session:
        days = rollups.list_dirty_days(session)
    for repository_id, day in days:
        with transaction() as session:
            rollups.recompute_day(session, repository_id, day)


def read_overdue() -> None:
    """Read what no worker has come for."""
    lease = timedelta(seconds=get_settings().lease_seconds)
    while held := claim_next(lease, _PATIENCE):
        pipeline.work_off(held)


def reconcile() -> None:
    """Ask each CI system that tells of a run only once for what it may have told in vain."""
    while reconcile_next():
        pass


def keep_house() -> None:
    """Forget what has ended: sessions, links, and raw logs that belong to no delivery."""
    now = datetime.now(UTC)
    with transaction() as session:
        accounts.delete_expired(session, now)
    with transaction() as session:
        hooks.forget_bodies(session, now - BODIES_KEPT)
    store = open_logs()
    if isinstance(store, FolderStore):
        store.delete_left_behind(now - LEFT_BEHIND)
    has_deleted = True
    while has_deleted:
        with reading() as session:
            digests = logs.list_unreferenced(session, now - LEFT_BEHIND)
        has_deleted = False
        for digest in digests:
            with transaction() as session:
                has_deleted |= logs.delete_unreferenced(session, store, digest, now - LEFT_BEHIND)


def repeat(ended: threading.Event, seconds: float, function: Callable[[], object]) -> threading.Thread:
    """Call a function again and again in a thread of its own; what it raises is logged and tried again later."""

    def run() -> None:
        pause = seconds
        while not ended.wait(pause):
            try:
                function()
                pause = seconds
            except Exception:
                logger.exception("scheduled_work_failed", work=getattr(function, "__name__", "sweep"))
                pause = min(30.0, max(1.0, pause * 2))

    thread = threading.Thread(target=run, name=getattr(function, "__name__", "sweep"), daemon=True)
    thread.start()
    return thread


def main() -> None:
    """Run until SIGTERM or SIGINT; work that has begun is finished first."""
    configure_logging()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    beating = heartbeats.start("scheduler")
    threads = [
        repeat(ended, 0.5, Sweeper().sweep),
        repeat(ended, 0.25, roll_up_dirty_days),
        repeat(ended, 0.5, read_overdue),
        repeat(ended, 10.0, reconcile),
        repeat(ended, 0.5, send_overdue),
        repeat(ended, 0.5, send_letters),
        repeat(ended, 3600.0, forget_letters),
        repeat(ended, 60.0, keep_incidents),
        repeat(ended, 1.0, tell_overdue),
        repeat(ended, 3600.0, forget_old),
        repeat(ended, 2.0, advise_due),
        repeat(ended, 0.5, measure_overdue),
        repeat(ended, 600.0, keep_house),
        repeat(ended, 1.0, delete_hidden),
        repeat(ended, 900.0, forget_expired),
    ]
    logger.info("scheduler_ready")
    ended.wait()
    beating.set()
    for thread in threads:
        thread.join(timeout=20)


if __name__ == "__main__":
    main()
