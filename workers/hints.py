"""Hints to the workers: "there is something to do". They never wait, never fail and may be lost.

A thread of its own talks to the queue, so that a request is answered as fast with a dead broker as with a living one.
"""

import queue
import threading
import time
from collections.abc import Iterator

import structlog

from workers.tasks.ingest import ingest

logger = structlog.get_logger(__name__)

_MOST_AT_ONCE = 16
_PAUSE_SECONDS = 2.0
"""After a hint that could not be sent, the next ones are dropped for so long: the scheduler finds the deliveries."""


class HintSender:
    """Sends hints in the order in which they come, and drops what it cannot send."""

    def __init__(self, most_waiting: int = 1000) -> None:
        self._waiting: queue.Queue[str | None] = queue.Queue(most_waiting)
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._silent_until = 0.0

    def send(self, delivery_id: str | None) -> None:
        """Point the workers to a delivery, or with None to whatever is due; returns at once."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="hints", daemon=True)
                self._thread.start()
        try:
            self._waiting.put_nowait(delivery_id)
        except queue.Full:
            logger.warning("hint_dropped", delivery_id=delivery_id)

    def _others(self) -> Iterator[str | None]:
        """Take what came while the last hint was sent: under load one message points to several deliveries."""
        for _ in range(_MOST_AT_ONCE - 1):
            try:
                yield self._waiting.get_nowait()
            except queue.Empty:
                return

    def _run(self) -> None:
        while True:
            waiting = [self._waiting.get(), *self._others()]
            if time.monotonic() < self._silent_until:
                continue
            try:
                if ids := tuple(each for each in waiting if each is not None):
                    ingest.apply_async(ids, retry=False)
                for _ in range(len(waiting) - len(ids)):
                    ingest.apply_async(retry=False)
            except Exception as error:  # noqa: BLE001 - whatever a broker raises: the hint is lost, and that is all
                self._silent_until = time.monotonic() + _PAUSE_SECONDS
                logger.warning("queue_unreachable", error=str(error)[:300])


sender = HintSender()
"""The one of this process."""
