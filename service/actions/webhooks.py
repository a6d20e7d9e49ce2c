"""Taking a webhook: verified, kept whole, and read by a worker unless it is plain that it tells of no log."""

import queue
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from integrations.ci import PROVIDERS
from integrations.ci.base import CIRun, HookRequest, Ignored, SignatureRefusedError, fold_headers
from integrations.feedback._events import names_pull_request
from store.logs import LogStore, WrittenLog, write_log
from store.queries import deliveries, hooks, logs, sources
from store.types import seal
from workers.hints import sender
from workers.hooks import pack_body
from workers.runs import write_run
from workers.settings import get_settings

KEPT_HEADERS = frozenset({"content-type", "user-agent", "webhook-id", "webhook-timestamp"})
"""What is kept of the headers: never a signature, never a token."""
REFUSED = "This webhook is not signed with a secret of this address. Check the secret and the clock of the sender."
KEPT_WITH_ROW = 256 * 1024
"""A body up to this size lies in the database, packed; a larger one with the logs. Larger ones are read by workers."""
_NOBODY = ("whsec_bm9ib2R5IGhhcyB0aGlzIHNlY3JldCwgaXQgZml0cyBub3RoaW5n",)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedHook:
    """A webhook whose signature holds."""

    source_id: str
    team_id: int
    repository_id: int | None
    provider: str
    delivery_id: str
    headers: dict[str, str]
    event: CIRun | Ignored | None = None
    """What it tells, where that was read at the door; None leaves it to a worker."""


@dataclass(frozen=True, slots=True)
class KnownSource:
    """What the door needs to know of a source."""

    id: str
    team_id: int
    repository_id: int | None
    provider: str
    scheme: str | None
    writes: bool
    """Whether results may be written to its CI system."""
    secrets: tuple[tuple[str, datetime | None], ...]
    """Each with its end."""


class KnownSources:
    """The sources that have lately sent something, for a moment each: their rows need not be read for every webhook.

    What this process changes is forgotten at once, what another one changes after two seconds.
    """

    def __init__(self, seconds: float = 2.0) -> None:
        self._seconds = seconds
        self._kept: dict[str, tuple[float, KnownSource]] = {}

    def peek(self, source_id: str) -> KnownSource | None:
        """A source that was looked up a moment ago."""
        until, found = self._kept.get(source_id, (0.0, None))
        return found if until > time.monotonic() else None

    def load(self, session: Session, source_id: str) -> KnownSource | None:
        """Look a source up; one that is switched off is none."""
        source = sources.find_source(session, source_id)
        if source is None or source.disabled_at is not None:
            return None
        found = KnownSource(
            id=source.id,
            team_id=source.team_id,
            repository_id=source.repository_id,
            provider=source.provider,
            scheme=source.scheme,
            writes=source.write_credentials is not None,
            secrets=sources.all_secrets(source),
        )
        if len(self._kept) > 1000:
            self._kept.clear()
        self._kept[source_id] = time.monotonic() + self._seconds, found
        return found

    def forget(self, source_id: str) -> None:
        """Look it up again the next time."""
        self._kept.pop(source_id, None)


known_sources = KnownSources()
"""Those of this process."""


def verify_hook(source: KnownSource | None, headers: Mapping[str, str], body: bytes) -> VerifiedHook:
    """Check a webhook against the secrets of its source.

    An unknown source takes as long and answers the same as a wrong signature. Raises SignatureRefusedError.
    """
    provider = PROVIDERS[source.provider if source else "generic"]
    request = HookRequest(headers=fold_headers(headers.items()), body=body)
    now = datetime.now(UTC)
    secrets = [secret for secret, ends_at in source.secrets if ends_at is None or ends_at > now] if source else []
    delivery_id = provider.verify(request, secrets or _NOBODY, time.time(), source.scheme if source else None)
    if source is None or not secrets:
        raise SignatureRefusedError(REFUSED)
    return VerifiedHook(
        source_id=source.id,
        team_id=source.team_id,
        repository_id=source.repository_id,
        provider=source.provider,
        delivery_id=delivery_id,
        headers={
            name: value[:300]
            for name, value in request.headers.items()
            if name in KEPT_HEADERS or name in provider.event_headers
        },
        event=_read(source, request),
    )


def _read(source: KnownSource, request: HookRequest) -> CIRun | Ignored | None:
    """Read a small event at once: nine of ten tell of no log, and no worker need look at those.

    Whatever goes wrong here is left to a worker, which says so where it can be seen: no event is lost by a bug of ours.
    """
    provider = PROVIDERS[source.provider]
    if provider.carries_log or len(request.body) > KEPT_WITH_ROW:
        return None
    try:
        event = provider.read_event(request, 0)
    except Exception:  # noqa: BLE001 - a worker reads it again, and tells
        return None
    # A pull request tells of no log, and is told what it will do to the cache where that may be written.
    is_told = isinstance(event, Ignored) and source.writes and names_pull_request(request.body)
    return None if is_told else event


@dataclass(frozen=True, slots=True)
class Letter:
    """The rows of a webhook, ready to be written."""

    delivery: dict[str, Any]
    hook: dict[str, Any]
    kept: WrittenLog | None = None
    """Where its body lies, if it is a large one."""


def write_letter(hook: VerifiedHook, body: bytes, store: LogStore) -> Letter:
    """Make the rows of a verified webhook; the body of a large one is stored with the logs, encrypted."""
    now = datetime.now(UTC)
    delivery_id = deliveries.make_id()
    is_large = len(body) > KEPT_WITH_ROW
    kept = write_log(store, [seal(body)]) if is_large else None
    event = hook.event
    is_ignored = isinstance(event, Ignored)
    run = event if isinstance(event, CIRun) and event.log is None else None
    return Letter(
        delivery={
            "id": delivery_id,
            "team_id": hook.team_id,
            "repository_id": hook.repository_id,
            "source_id": hook.source_id,
            "kind": "hook",
            "idempotency_key": f"{hook.source_id}:{hook.delivery_id}",
            "parameters": {"provider": hook.provider},
            "body_digest": kept.digest if kept is not None else None,
            "redactions": 0,
            "warnings": [],
            "state": "ignored" if is_ignored else "new",
            "attempts": 0,
            "fence": 0,
            "next_at": now + timedelta(seconds=get_settings().hint_grace_seconds),
            "error": event.reason if isinstance(event, Ignored) else None,
            "received_at": now,
            "finished_at": now if is_ignored else None,
        },
        hook={
            "delivery_id": delivery_id,
            "source_id": hook.source_id,
            "subject": run.subject if run is not None else None,
            "headers": hook.headers,
            "body": None if is_large else pack_body(body),
            "body_bytes": len(body),
            "run": write_run(run) if run is not None else None,
            "is_found": False,
            "tries": 0,
        },
        kept=kept,
    )


class Door:
    """Writes webhooks, as many as have come meanwhile in one transaction: a commit costs the same for one and for ten.

    A thread of its own writes; whoever sent a webhook is answered when it has been committed, and never before.
    """

    def __init__(self, most_at_once: int = 50) -> None:
        self._most_at_once = most_at_once
        self._waiting: queue.SimpleQueue[tuple[Engine, Letter, Future[str | None]]] = queue.SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def submit(self, engine: Engine, letter: Letter) -> "Future[str | None]":
        """Hand a webhook over; the future gives the id of the delivery that the same webhook made before, else None."""
        answer: Future[str | None] = Future()
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="door", daemon=True)
                self._thread.start()
        self._waiting.put((engine, letter, answer))
        return answer

    def _run(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < self._most_at_once and not self._waiting.empty():
                batch.append(self._waiting.get())
            for engine in dict.fromkeys(engine for engine, _, _ in batch):
                self._write(engine, [(letter, answer) for own, letter, answer in batch if own is engine])

    def _write(self, engine: Engine, batch: "list[tuple[Letter, Future[str | None]]]") -> None:
        try:
            with engine.begin() as connection:
                for letter, _ in batch:
                    if letter.kept is not None:
                        logs.save_log(Session(connection), letter.kept)
                written = hooks.insert_requests(connection, [(letter.delivery, letter.hook) for letter, _ in batch])
        except Exception as error:  # noqa: BLE001 - whoever waits gets it
            if len(batch) > 1:  # it may be the fault of one of them
                for one in batch:
                    self._write(engine, [one])
                return
            _answer(batch[0][1], error)
            return
        for (letter, answer), repeated in zip(batch, written, strict=True):
            _answer(answer, repeated)
            if repeated is None and letter.delivery["state"] == "new":
                sender.send(letter.delivery["id"])


def _answer(future: "Future[str | None]", result: str | Exception | None) -> None:
    """Tell whoever waits; a sender that hung up waits no more."""
    if not future.set_running_or_notify_cancel():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)


door = Door()
"""That of this process."""


class Refusals:
    """Counts the requests that were refused, and only those: who is refused again and again waits for a minute.

    What is counted is told to the database every few seconds, so that a flood of wrong signatures costs no writes.
    """

    def __init__(self, most: int = 300, seconds: float = 60.0, tell_every: float = 2.0) -> None:
        self._most, self._seconds, self._tell_every = most, seconds, tell_every
        self._lock = threading.Lock()
        self._counted: dict[tuple[str, str], tuple[float, int]] = {}
        self._untold: dict[str, int] = {}
        self._told_at: dict[str, float] = {}

    def pause_of(self, source_id: str, address: str, now: float) -> int | None:
        """For how many seconds a sender is not listened to; None when it is."""
        with self._lock:
            began, count = self._counted.get((source_id, address), (now, 0))
        left = began + self._seconds - now
        return max(1, round(left)) if count >= self._most and left > 0 else None

    def count(self, source_id: str, address: str, now: float, *, is_known: bool) -> int:
        """Count a refused request; returns how many of its source are to be told to the database now."""
        with self._lock:
            if len(self._counted) > 10_000:
                self._counted.clear()
            place = (source_id, address)
            began, count = self._counted.get(place, (now, 0))
            self._counted[place] = (now, 1) if now - began > self._seconds else (began, count + 1)
            if not is_known:
                return 0
            self._untold[source_id] = self._untold.get(source_id, 0) + 1
            if now - self._told_at.get(source_id, -self._tell_every) < self._tell_every:
                return 0
            self._told_at[source_id] = now
            return self._untold.pop(source_id)
