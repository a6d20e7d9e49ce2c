"""Taking a webhook: verified as it is stored, kept whole, read by a worker."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from integrations.ci import PROVIDERS
from integrations.ci.base import HookRequest, SignatureRefusedError, fold_headers
from store.database import after_commit
from store.logs import LogStore, WrittenLog, write_log
from store.models.sources import Source
from store.queries import deliveries, logs, sources
from store.types import seal
from workers.hints import sender
from workers.settings import get_settings

KEPT_HEADERS = frozenset({"content-type", "user-agent", "webhook-id", "webhook-timestamp"})
"""What is kept of the headers: never a signature, never a token."""
REFUSED = "This webhook is not signed with a secret of this address. Check the secret and the clock of the sender."
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
    delivery_id = provider.verify(request, secrets or _NOBODY, time.time())
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
    )


def find_repeated(session: Session, hook: VerifiedHook) -> str | None:
    """Return the id of the delivery that this webhook already made."""
    found = deliveries.find_by_key(session, hook.team_id, "hook", _key(hook))
    return found.id if found else None


def keep_body(store: LogStore, body: bytes) -> WrittenLog:
    """Store the body of a webhook, encrypted: it may hold what a log must never show, until a worker has read it."""
    return write_log(store, [seal(body)])


def accept_hook(session: Session, hook: VerifiedHook, body: WrittenLog) -> tuple[str, bool]:
    """Write the delivery of a verified webhook; returns its id and whether it is new."""
    now = datetime.now(UTC)
    delivery_id = deliveries.make_id()
    logs.save_log(session, body)
    is_new = deliveries.insert(
        session,
        {
            "id": delivery_id,
            "team_id": hook.team_id,
            "repository_id": hook.repository_id,
            "source_id": hook.source_id,
            "kind": "hook",
            "idempotency_key": _key(hook),
            "parameters": {"provider": hook.provider, "headers": hook.headers},
            "body_digest": body.digest,
            "received_at": now,
            "next_at": now + timedelta(seconds=get_settings().hint_grace_seconds),
        },
    )
    if not is_new:
        return find_repeated(session, hook) or delivery_id, False
    after_commit(session, lambda: sender.send(delivery_id))
    return delivery_id, True


def _key(hook: VerifiedHook) -> str:
    return f"{hook.source_id}:{hook.delivery_id}"
