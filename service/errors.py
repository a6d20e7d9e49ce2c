"""Every exception as an answer: one table from exception to problem JSON (RFC 9457).

A browser gets the same problem as a page, drawn by whoever draws the pages (`create_app(error_page=…)`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from pydantic import BaseModel, Field
from sqlalchemy.exc import DataError, OperationalError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from cachescope.errors import (
    AccessError,
    CachescopeError,
    ConflictError,
    CredentialsRefusedError,
    ForbiddenError,
    InvalidValueError,
    NotFoundError,
    SignInRequiredError,
    TooLargeError,
    TooManyAttemptsError,
    UnknownNameError,
    UnreadableInputError,
    UnsupportedInputError,
)

logger = structlog.get_logger(__name__)

PROBLEM_JSON = "application/problem+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What went wrong, in the words of RFC 9457."""

    status: int
    code: str
    title: str
    detail: str
    field: str | None = None
    headers: dict[str, str] | None = None


class ProblemDocument(BaseModel):
    """A problem as JSON: `detail` is one sentence that says what to do."""

    type: str = Field(examples=["urn:cachescope:problem:not-found"])
    title: str = Field(examples=["Not found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["There is no build 7 here, or you may not see it."])
    instance: str | None = Field(default=None, examples=["/api/v1/builds/7"])
    field: str | None = Field(default=None, description="The parameter or field that cannot be taken.")
    request_id: str | None = Field(default=None, description="The id under which the log of the server tells more.")


BEARER = {"WWW-Authenticate": 'Bearer realm="cachescope"'}

TABLE: tuple[tuple[type[Exception], int, str, str], ...] = (
    (TooLargeError, 413, "too-large", "Too large"),
    (UnsupportedInputError, 415, "unsupported-content", "Unsupported content"),
    (UnreadableInputError, 422, "unreadable-body", "Unreadable body"),
    (InvalidValueError, 422, "invalid-value", "Invalid value"),
    (UnknownNameError, 422, "unknown-name", "Unknown name"),
    (NotFoundError, 404, "not-found", "Not found"),
    (ConflictError, 409, "conflict", "Conflict"),
    (SignInRequiredError, 401, "sign-in-required", "Sign-in required"),
    (CredentialsRefusedError, 401, "credentials-refused", "Credentials refused"),
    (TooManyAttemptsError, 429, "too-many-requests", "Too many requests"),
    (ForbiddenError, 403, "forbidden", "Forbidden"),
    (AccessError, 403, "forbidden", "Forbidden"),
    (CachescopeError, 400, "bad-request", "Bad request"),
)
"""From exception to status, code and title; the first class that fits counts."""


def to_problem(error: Exception) -> Problem:
    """Say what an exception means to whoever asked; anything unforeseen is a 500 that tells nothing of the inside."""
    for kind, status, code, title in TABLE:
        if isinstance(error, kind):
            return Problem(
                status=status,
                code=code,
                title=title,
                detail=str(error),
                field=getattr(error, "field", None),
                headers=_headers_of(error, status),
            )
    match error:
        case RequestValidationError():
            first = error.errors()[0]
            place = first["loc"]
            name = ".".join(str(part) for part in place[1:]) or str(place[0])
            detail = f"The {place[0]} parameter {name} cannot be taken: {first['msg']}."
            return Problem(status=422, code="invalid-value", title="Invalid value", detail=detail, field=name)
        case HTTPException():
            title = HTTPStatus(error.status_code).phrase.capitalize()
            details = {
                404: "There is nothing at this address.",
                405: "This address does not take this method.",
                413: "The body is larger than this address takes. Logs go to POST /api/v1/uploads.",
            }
            detail = details.get(error.status_code, str(error.detail))
            return Problem(
                status=error.status_code,
                code=title.lower().replace(" ", "-"),
                title=title,
                detail=detail,
                headers=dict(error.headers or {}),
            )
        case ClientDisconnect():  # nobody reads this answer; the log of requests shows it
            detail = "The sender hung up before the whole body had come. Send it again."
            return Problem(status=400, code="hung-up", title="Hung up", detail=detail)
        case OverflowError() | DataError():  # how SQLite and PostgreSQL refuse numbers beyond 64 bits
            detail = "A number in this request is larger than any that is stored. Check the ids."
            return Problem(status=422, code="invalid-value", title="Invalid value", detail=detail)
        case OperationalError():
            detail = "The database does not answer. Try again in a moment; nothing was stored."
            return Problem(
                status=503, code="unavailable", title="Unavailable", detail=detail, headers={"Retry-After": "5"}
            )
    detail = "Something went wrong here. The server's log tells more under this request's id."
    return Problem(status=500, code="internal", title="Internal error", detail=detail)


def _headers_of(error: Exception, status: int) -> dict[str, str] | None:
    if isinstance(error, TooManyAttemptsError):
        return {"Retry-After": str(error.retry_after_seconds)}
    return BEARER if status == HTTPStatus.UNAUTHORIZED else None


ErrorPage = Callable[[Request, Problem], Response]


def problem_response(request: Request, problem: Problem) -> Response:
    """Render a problem as JSON."""
    document: dict[str, Any] = {
        "type": f"urn:cachescope:problem:{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": request.url.path,
        "request_id": structlog.contextvars.get_contextvars().get("request_id"),
    }
    if problem.field:
        document["field"] = problem.field
    return JSONResponse(document, problem.status, headers=problem.headers, media_type=PROBLEM_JSON)


def wants_page(request: Request) -> bool:
    """Whether a person with a browser is asking."""
    is_api = request.url.path.startswith(("/api/", "/hooks/", "/healthz", "/readyz", "/metrics"))
    return not is_api and "text/html" in request.headers.get("accept", "")


def install(app: FastAPI, error_page: ErrorPage | None) -> None:
    """Answer every exception of the application with a problem."""

    async def answer(request: Request, error: Exception) -> Response:
        problem = to_problem(error)
        if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            logger.error("request_failed", exc_info=error)
        if not wants_page(request):
            return problem_response(request, problem)
        if isinstance(error, SignInRequiredError):
            target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"/sign-in?next={quote(target, safe='')}", 303)
        return error_page(request, problem) if error_page else problem_response(request, problem)

    foreseen = (CachescopeError, RequestValidationError, HTTPException, ClientDisconnect)
    for kind in (*foreseen, OverflowError, DataError, OperationalError, Exception):
        app.add_exception_handler(kind, answer)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the problems of a route for the OpenAPI document."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
        }
        for status in statuses
    }
