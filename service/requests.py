"""Around every request: an id, one line in the log, its time in the metrics, and a limit to its body.

Written as plain ASGI so that bodies stream through untouched.
"""

import re
import time
import uuid

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import auditing
from service.errors import problem_response, to_problem
from service.metrics import Metrics

logger = structlog.get_logger("service.requests")

LARGEST_FORM = 1 << 20
"""In bytes; the largest form or JSON document that anybody has a reason to send."""
STREAMED = ("/api/v1/uploads", "/hooks/")

_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


class BodyLimit:
    """Refuse large bodies before anybody reads them into memory; uploads and webhooks count for themselves."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"].startswith(STREAMED):
            await self.app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or len(announced) > 18 or int(announced) > LARGEST_FORM:
            await problem_response(Request(scope), to_problem(HTTPException(413)))(scope, receive, send)
            return
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > LARGEST_FORM:
                raise HTTPException(413)
            return message

        await self.app(scope, counted, send)


class RequestLog:
    """Give each request an id (its own, if it brings a sensible one) and say how it was answered."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        request_id = given if _GIVEN_ID.match(given) else uuid.uuid4().hex
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        auditing.address.set(scope["client"][0] if scope.get("client") else None)
        began = time.perf_counter()
        status = 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        try:
            await self.app(scope, receive, answer)
        finally:
            # The route's pattern, never the path: addresses of one-time links are secrets, and paths are endless.
            route = getattr(scope.get("route"), "path", "unknown")
            seconds = time.perf_counter() - began
            method = (
                scope["method"] if scope["method"] in {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"} else "other"
            )
            self.metrics.requests.labels(method, route, f"{status // 100}xx").observe(seconds)
            if route not in {"/healthz", "/readyz", "/metrics"}:
                logger.info("request", method=method, route=route, status=status, milliseconds=round(seconds * 1000, 1))
