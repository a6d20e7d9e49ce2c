"""Taking a webhook: verified, kept whole, and read by a worker unless it is plain that it tells of no log."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy.orm import Session

from integrations.ci import PROVIDERS
from integrations.ci.base import CIRun, HookRequest, Ignored, SignatureRefusedError, fold_headers
from integrations.feedback._events import names_pull_request
from store.database import after_commit
from store.logs import LogStore, WrittenLog, write_log
from store.models.sources import Source
from store.queries import deliveries, hooks, logs, sources
from store.types import seal
from workers.hints import sender
from workers.hooks import pack_body
from workers.runs import write_run
from workers.settings import get_settings

logger = structlog.get_logger(__name__)

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


def find_hook_source(session: Session, source_id: str) -> tuple[Source | None, list[str]]:
    """Return the source of an address with the secrets that work now; a source that is switched off is none."""
    source = sources.find_source(session, source_id)
    if source is None or source.disabled_at is not None:
        return None, []
    return source, sources.secrets_at(source, datetime.now(UTC))


def verify_hook(source: Source | None, secrets: list[str], headers: Mapping[str, str], body: bytes) -> VerifiedHook:
    """Check a webhook against the secrets of its source.

    An unknown source takes as long and answers the same as a wrong signature. Raises SignatureRefusedError.
    """
    provider = PROVIDERS[source.provider if source else "generic"]
    request = HookRequest(headers=fold_headers(headers.items()), body=body)
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
            if name in KEPT_HEADERS | provider.event_headers
        },
        event=_read(source, request),
    )


def _read(source: Source, request: HookRequest) -> CIRun | Ignored | None:
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
    is_told = isinstance(event, Ignored) and source.write_credentials and names_pull_request(request.body)
    return None if is_told else event


def find_repeated(session: Session, hook: VerifiedHook) -> str | None:
    """Return the id of the delivery that this webhook already made."""
    found = deliveries.find_by_key(session, hook.team_id, "hook", _key(hook))
    return found.id if found else None


def keep_body(store: LogStore, body: bytes) -> WrittenLog | None:
    """Store the body of a large webhook with the logs, encrypted; None for one that is kept in the database."""
    return write_log(store, [seal(body)]) if len(body) > KEPT_WITH_ROW else None


def accept_hook(session: Session, hook: VerifiedHook, body: bytes, kept: WrittenLog | None) -> tuple[str, bool]:
    """Write the delivery of a verified webhook; returns its id and whether it is new."""
    now = datetime.now(UTC)
    delivery_id = deliveries.make_id()
    if kept is not None:
        logs.save_log(session, kept)
    event = hook.event
    ignored = {"state": "ignored", "error": event.reason, "finished_at": now} if isinstance(event, Ignored) else {}
    is_new = deliveries.insert(
        session,
        {
            "id": delivery_id,
            "team_id": hook.team_id,
            "repository_id": hook.repository_id,
            "source_id": hook.source_id,
            "kind": "hook",
            "idempotency_key": _key(hook),
            "parameters": {"provider": hook.provider},
            "body_digest": kept.digest if kept is not None else None,
            "received_at": now,
            "next_at": now + timedelta(seconds=get_settings().hint_grace_seconds),
            **ignored,
        },
    )
    if not is_new:
        return find_repeated(session, hook) or delivery_id, False
    run = event if isinstance(event, CIRun) and event.log is None else None
    hooks.insert_hook(
        session,
        {
            "delivery_id": delivery_id,
            "source_id": hook.source_id,
            "subject": run.subject if run is not None else None,
            "headers": hook.headers,
            "body": pack_body(body) if kept is None else None,
            "body_bytes": len(body),
            "run": write_run(run) if run is not None else None,
            "is_found": False,
            "tries": 0,
        },
    )
    if not ignored:
        after_commit(session, lambda: sender.send(delivery_id))
    return delivery_id, True


def _key(hook: VerifiedHook) -> str:
    return f"{hook.source_id}:{hook.delivery_id}"


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
