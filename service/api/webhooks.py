"""`POST /hooks/{source_id}`: a signed webhook is verified, stored and answered; a worker reads it."""

import asyncio
import re
import time

import structlog
from anyio import to_thread
from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, Field

from cachescope.errors import CachescopeError, TooLargeError, UnsupportedInputError
from integrations.ci.base import SignatureRefusedError
from service.actions.webhooks import (
    KEPT_WITH_ROW,
    REFUSED,
    KnownSource,
    Letter,
    Refusals,
    door,
    known_sources,
    verify_hook,
    write_letter,
)
from service.dependencies import engine_of, logs_of, metrics_of, settings_of
from service.errors import responses
from store.database import reading, transaction
from store.queries import sources
from store.types import utc_now

router = APIRouter(tags=["webhooks"])
logger = structlog.get_logger(__name__)

refusals = Refusals()
"""Those of this process."""
_JSON = re.compile(r"application/(?:[a-z0-9.+_-]{1,100}\+)?json\Z")


class HookAnswer(BaseModel):
    """What a webhook became."""

    delivery: str = Field(examples=["019aa1b2-3c4d-7e5f-8a9b-0c1d2e3f4a5b"])
    repeated: bool = Field(description="True when a webhook with the same id was taken before.")


@router.post(
    "/hooks/{source_id}",
    status_code=202,
    summary="Send a signed webhook",
    responses=responses(401, 413, 415, 429, 503),
    openapi_extra={
        "parameters": [
            {"name": name, "in": "header", "required": True, "schema": {"type": "string"}}
            for name in ("webhook-id", "webhook-timestamp", "webhook-signature")
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["type", "data"],
                        "properties": {
                            "type": {"type": "string", "example": "build.log"},
                            "timestamp": {"type": "string", "format": "date-time"},
                            "data": {"type": "object"},
                        },
                    },
                    "example": {
                        "type": "build.log",
                        "timestamp": "2026-11-20T10:11:12Z",
                        "data": {"repository": "acme/shop", "branch": "main", "log": "#1 [internal] load …"},
                    },
                }
            },
        },
    },
)
async def receive_hook(request: Request, source_id: str) -> HookAnswer:
    """Accept a webhook. Events that carry no build log are accepted too, and shown as ignored."""
    metrics = metrics_of(request)
    try:
        _refuse_flood(request, source_id)
        _refuse_type(request.headers.get("content-type", ""))
        body = await _read_body(request, settings_of(request).max_hook_bytes)
        answer = await _take(request, source_id, body)
    except CachescopeError:
        metrics.hooks.labels("refused").inc()
        raise
    metrics.hooks.labels("repeated" if answer.repeated else "accepted").inc()
    structlog.contextvars.bind_contextvars(delivery_id=answer.delivery)
    return answer


def _refuse_flood(request: Request, source_id: str) -> None:
    """Listen no more for a while to an address whose requests have been refused again and again."""
    pause = refusals.pause_of(source_id[:64], _address(request), time.monotonic())
    if pause is not None:
        raise HTTPException(
            429,
            "Too many requests from here were refused. Check the secret, and try again in a minute.",
            {"Retry-After": str(pause)},
        )


def _address(request: Request) -> str:
    return request.client.host if request.client is not None else ""


def _refuse_type(header: str) -> None:
    if not _JSON.match(header.partition(";")[0].strip().lower()):
        raise UnsupportedInputError(
            f'The Content-Type "{header[:80]}" is not taken. '
            "Choose JSON (application/json) where the webhook is set up."
        )


async def _read_body(request: Request, cap: int) -> bytes:
    too_large = TooLargeError(
        f"The webhook is larger than {cap / (1 << 20):,.0f} MiB. Send large logs to POST /api/v1/uploads."
    )
    length = request.headers.get("content-length", "")
    if length.isdigit() and (len(length) > 18 or int(length) > cap):
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > cap:
            raise too_large
    return bytes(body)


async def _take(request: Request, source_id: str, body: bytes) -> HookAnswer:
    source = known_sources.peek(source_id)
    if source is None:
        source = await to_thread.run_sync(_find, request, source_id)
    try:
        if len(body) <= KEPT_WITH_ROW:
            letter = _check(request, source, body)  # less than a millisecond: a thread would cost as much
        else:
            letter = await to_thread.run_sync(_check, request, source, body)
    except SignatureRefusedError as error:
        metrics_of(request).bad_signatures.labels(source.id if source else "unknown").inc()
        logger.warning("hook_refused", source_id=source_id[:40], reason=str(error))
        to_tell = refusals.count(source_id[:64], _address(request), time.monotonic(), is_known=source is not None)
        if to_tell and source is not None:
            await to_thread.run_sync(_tell_refused, request, source.id, to_tell, str(error))
        # What exactly is wrong helps the owner, who reads it on the page of the source; a stranger learns nothing.
        raise SignatureRefusedError(REFUSED) from error
    repeated = await asyncio.wrap_future(door.submit(engine_of(request), letter))
    return HookAnswer(delivery=repeated or letter.delivery["id"], repeated=repeated is not None)


def _find(request: Request, source_id: str) -> KnownSource | None:
    with reading(engine_of(request)) as session:
        return known_sources.load(session, source_id)


def _check(request: Request, source: KnownSource | None, body: bytes) -> Letter:
    return write_letter(verify_hook(source, request.headers, body), body, logs_of(request))


def _tell_refused(request: Request, source_id: str, count: int, reason: str) -> None:
    with transaction(engine_of(request)) as session:
        sources.count_refused(session, source_id, count, reason, utc_now())
