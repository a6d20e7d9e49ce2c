"""`POST /api/v1/uploads`: a log comes in as the body of a request and is on disk before the answer goes out."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import structlog
from anyio import to_thread
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel

from cachescope.errors import CachescopeError, TooLargeError, UnsupportedInputError
from service.actions.uploads import Upload, accept_upload, prepare_upload
from service.api.models import DeliveryAnswer, to_delivery
from service.dependencies import BEARER_SCHEME, base_url, bearer_of, engine_of, logs_of, metrics_of, settings_of
from service.errors import responses
from store.database import reading, transaction
from workers.parts import PartsReceiver, read_boundary
from workers.receiving import LogReceiver, ReceivedLog
from workers.unpacking import read_encoding

router = APIRouter(prefix="/api/v1", tags=["uploads"])
logger = structlog.get_logger(__name__)

PIECE = 1 << 20
Receiver = LogReceiver | PartsReceiver


class UploadAnswer(BaseModel):
    """The delivery that an upload made."""

    delivery: DeliveryAnswer


def _described(text: str, **schema: Any) -> Any:
    return Query(description=text, json_schema_extra=schema)


def upload_parameters(
    *,
    repository: Annotated[
        str | None, _described("Name of the repository; may be left out with a token of one repository.", maxLength=200)
    ] = None,
    commit: Annotated[str | None, _described("Commit id.", pattern="^[0-9a-fA-F]{7,64}$")] = None,
    branch: Annotated[str | None, _described("Branch that was built.", maxLength=255)] = None,
    base_branch: Annotated[
        str | None, _described("Branch that this one was forked from, such as a pull request's target.", maxLength=255)
    ] = None,
    default_branch: Annotated[
        str | None, _described("The repository's default branch, for its first log.", maxLength=255)
    ] = None,
    pull_request: Annotated[str | None, _described("Number of the pull request.", pattern="^[1-9][0-9]*$")] = None,
    job: Annotated[str | None, _described("Name or id of the CI job.", maxLength=200)] = None,
    attempt: Annotated[str | None, _described("Which try of the job, from 1.", pattern="^[1-9][0-9]*$")] = None,
    runner: Annotated[str | None, _described("Machine that built.", maxLength=200)] = None,
    started_at: Annotated[
        str | None,
        _described("When the job began, with its zone; used where the log tells no time.", format="date-time"),
    ] = None,
    actor: Annotated[str | None, _described("Who or what started the job.", maxLength=200)] = None,
    image: Annotated[str | None, _described("Name of the image, where the log does not tell.", maxLength=300)] = None,
    dockerfile: Annotated[str | None, _described("Path of the Dockerfile.", maxLength=500)] = None,
    outcome: Annotated[
        str | None, _described("How the job ended, as CI says.", enum=["succeeded", "failed", "canceled"])
    ] = None,
    ci: Annotated[str | None, _described("CI system, such as github-actions.", pattern="^[a-z0-9][a-z0-9-]*$")] = None,
    run_url: Annotated[str | None, _described("Address of the CI run.", format="uri", maxLength=2000)] = None,
    idempotency_key: Annotated[
        str | None,
        _described("A repeated request with the same key gets the first answer again.", maxLength=200),
    ] = None,
) -> None:
    """What may be said about a log; checked in `workers.parameters`, described here."""


@router.post(
    "/uploads",
    status_code=202,
    summary="Send a build log",
    responses=responses(401, 403, 409, 413, 415, 422, 503),
    dependencies=[Depends(upload_parameters), Depends(BEARER_SCHEME)],
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "The log as the builder or the CI job printed it; Content-Encoding may be gzip or zstd. "
            "At most 256 MiB after decompression. As multipart/form-data the log comes with what tells why its build "
            "missed the cache: `evidence` as `cachescope push --evidence` sends it, or just the Dockerfile.",
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["log"],
                        "properties": {
                            "log": {"type": "string", "format": "binary"},
                            "evidence": {"type": "string", "contentMediaType": "application/json"},
                            "dockerfile": {"type": "string"},
                            "dockerignore": {"type": "string"},
                        },
                    }
                },
                "text/plain": {"schema": {"type": "string"}, "example": "#1 [internal] load build definition …"},
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            },
        }
    },
)
async def upload(request: Request, response: Response) -> UploadAnswer:
    """Accept a log: it and its delivery are stored before this answers, and read by a worker afterwards."""
    metrics = metrics_of(request)
    try:
        answer, is_new = await _take(request)
    except CachescopeError:
        metrics.uploads.labels("refused").inc()
        raise
    metrics.uploads.labels("accepted" if is_new else "repeated").inc()
    if is_new:
        metrics.upload_bytes.inc(answer.log_bytes or 0)
        metrics.redactions.inc(answer.redactions)
    else:
        response.headers["Idempotent-Replayed"] = "true"
    response.headers["Location"] = answer.url
    structlog.contextvars.bind_contextvars(delivery_id=answer.id)
    return UploadAnswer(delivery=answer)


async def _take(request: Request) -> tuple[DeliveryAnswer, bool]:
    encoding = read_encoding(request.headers.get("content-encoding"))
    boundary = read_boundary(request.headers.get("content-type"))
    if boundary is not None and encoding != "identity":
        raise UnsupportedInputError("A body of parts is not taken compressed: compress the part `log` alone.")
    cap = settings_of(request).max_log_bytes
    _refuse_length(request, cap)
    prepared = await to_thread.run_sync(_prepare, request)
    # A short log, which most are, goes through one trip to a thread; a long one through one for each mebibyte.
    kept = bytearray()
    opened = partial(_open, request, boundary, encoding)
    receiver: Receiver | None = None
    try:
        async for chunk in request.stream():
            kept += chunk
            if len(kept) >= PIECE:
                receiver = await to_thread.run_sync(_feed, opened, receiver, bytes(kept))
                kept.clear()
        return await to_thread.run_sync(_finish, request, opened, receiver, bytes(kept), prepared)
    except BaseException as error:
        if receiver is not None:
            receiver.__exit__(type(error), error, None)
        raise


def _refuse_length(request: Request, cap: int) -> None:
    length = request.headers.get("content-length", "")
    if length.isdigit() and len(length) < 20 and int(length) > cap:
        raise TooLargeError(f"The body is larger than {cap / (1 << 20):,.0f} MiB. Send the part that holds the build.")


def _prepare(request: Request) -> Upload:
    query: dict[str, object] = dict(request.query_params)
    with reading(engine_of(request)) as session:
        return prepare_upload(session, bearer_of(request), query)


def _open(request: Request, boundary: bytes | None, encoding: str) -> Receiver:
    logs, cap = logs_of(request), settings_of(request).max_log_bytes
    if boundary is None:
        return LogReceiver(logs, encoding=encoding, cap_bytes=cap)
    return PartsReceiver(logs, boundary=boundary, cap_bytes=cap)


def _feed(opened: Callable[[], Receiver], receiver: Receiver | None, chunk: bytes) -> Receiver:
    receiver = receiver or opened()
    try:
        receiver.feed(chunk)
    except BaseException as error:
        receiver.__exit__(type(error), error, None)
        raise
    return receiver


def _finish(
    request: Request, opened: Callable[[], Receiver], receiver: Receiver | None, rest: bytes, prepared: Upload
) -> tuple[DeliveryAnswer, bool]:
    receiver = _feed(opened, receiver, rest)
    with receiver:
        received: ReceivedLog = receiver.finish()
        surroundings = receiver.surroundings() if isinstance(receiver, PartsReceiver) else None
    with transaction(engine_of(request)) as session:
        delivery, is_new = accept_upload(session, prepared, received, surroundings)
        answer = to_delivery(delivery, [], base_url(request))
    return answer, is_new
