"""Hints to the workers: "there is something to do". They never wait, never fail and may be lost.

A thread of its own talks to the queue, so that a request is answered as fast with a dead broker as with a living one.
"""

import queue
import threading
import time

import structlog

from workers.tasks.ingest import ingest

logger = structlog.get_logger(__name__)

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

    def _run(self) -> None:
        while True:
            delivery_id = self._waiting.get()
            if time.monotonic() < self._silent_until:
                continue
            try:
                ingest.apply_async((delivery_id,), retry=False, ignore_result=True)
            except Exception as error:  # noqa: BLE001 - whatever a broker raises: the hint is lost, and that is all
                self._silent_until = time.monotonic() + _PAUSE_SECONDS
                logger.warning("queue_unreachable", error=str(error)[:300])


sender = HintSender()
"""The one of this process."""
