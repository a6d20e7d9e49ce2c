"""A queue of files for machines without Redis: Celery's filesystem transport, made safe against a kill at any moment.

kombu's own channel writes a message in place and reads whatever it finds, so that a reader may see half a message, and
its table of exchanges is unreadable for ever when its writer died halfway. Here a message is written beside the queue
and renamed into it, and a file that cannot be read is dropped: it was only a hint, the database knows what is due.
"""

import os
import uuid
from pathlib import Path
from queue import Empty
from time import time_ns
from typing import Any

import orjson
from kombu.transport import filesystem

LONGEST = 500
"""More hints than this tell the workers nothing new, and every look into the folder would cost more."""


class Channel(filesystem.Channel):
    """Messages as files `<time>_<id>.<queue>.msg` in one folder, oldest first."""

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        """Keep no table of exchanges: a task goes to the queue of its name."""

    def get_table(self, exchange: str) -> list[Any]:
        """Return the one queue that a direct exchange of the same name has."""
        return [filesystem.exchange_queue_t(exchange, "", exchange)]

    def _put(self, queue: Any, payload: Any, **kwargs: Any) -> None:  # type: ignore[override]  # kombu names it thus
        folder = Path(self.data_folder_out)
        folder.mkdir(parents=True, exist_ok=True)  # it may be deleted at any time
        name = f"{time_ns():020d}_{uuid.uuid4().hex}.{queue}.msg"
        draft = folder / f".{name}"
        draft.write_bytes(orjson.dumps(payload))
        draft.rename(folder / name)

    def _get(self, queue: Any, timeout: Any = None) -> Any:
        folder = Path(self.data_folder_in)
        waiting = self._waiting(queue)
        for name in waiting[LONGEST:]:
            (folder / name).unlink(missing_ok=True)
        for name in waiting[:LONGEST]:
            taken = folder / f".{name}.taken"
            try:
                (folder / name).rename(taken)
            except FileNotFoundError:
                continue  # another worker was faster
            try:
                return orjson.loads(taken.read_bytes())
            except ValueError:
                continue  # no message: whoever waits for it is found in the database
            finally:
                taken.unlink(missing_ok=True)
        raise Empty

    def _size(self, queue: Any) -> int:
        return len(self._waiting(queue))

    def _purge(self, queue: Any) -> int:
        waiting = self._waiting(queue)
        for name in waiting:
            (Path(self.data_folder_in) / name).unlink(missing_ok=True)
        return len(waiting)

    def _waiting(self, queue: str) -> list[str]:
        """The names of the messages of a queue, oldest first."""
        try:
            # Names only: a Path for each would cost more than all the rest.
            names = os.listdir(self.data_folder_in)  # noqa: PTH208
        except FileNotFoundError:
            return []
        return sorted(name for name in names if name.endswith(f".{queue}.msg") and not name.startswith("."))


class Transport(filesystem.Transport):
    """What `broker_transport` names."""

    Channel = Channel
