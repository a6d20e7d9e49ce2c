"""Runs the fake forge: `with forge() as forge:` serves its API and its store of logs on two ports of loopback.

Each module of this folder that has `add_routes(app, forge)` adds its part of the API; nothing else needs to be told.
"""

import importlib
import pkgutil
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from tests.forge.state import Asked, Forge
from tests.serving import serve

Next = Callable[[Request], Awaitable[Response]]


@contextmanager
def forge(**state: object) -> Iterator[Forge]:
    """Serve a forge with the given state until the block ends."""
    made = Forge(**state)
    with ExitStack() as open_servers:
        made.url = open_servers.enter_context(serve(api(made)))
        made.blob_url = open_servers.enter_context(serve(blobs(made)))
        yield made


def api(forge: Forge) -> FastAPI:
    """The API of every kind of forge, each at the path where its own documentation has it."""
    app = FastAPI()

    @app.middleware("http")
    async def guard(request: Request, call_next: Next) -> Response:
        if request.scope["path"].startswith("/api/v3/"):  # GitHub Enterprise Server has GitHub's API there
            request.scope["path"] = request.scope["path"].removeprefix("/api/v3")
        body = await request.body()
        # GitHub Enterprise Server has all of it under a path of its own.
        request.scope["path"] = request.scope["path"].removeprefix("/api/v3")
        answer = _refused(forge, request) or await call_next(request)
        forge.requests.append(_asked(request, answer.status_code, body))
        return answer

    folder = Path(__file__).parent
    for module in sorted(found.name for found in pkgutil.iter_modules([str(folder)])):
        loaded = importlib.import_module(f"tests.forge.{module}")
        if hasattr(loaded, "add_routes"):
            loaded.add_routes(app, forge)
    return app


def blobs(forge: Forge) -> FastAPI:
    """The store of logs, an origin of its own: whoever sends credentials is refused, as Azure's does."""
    app = FastAPI()

    @app.get("/{name:path}")
    def blob(request: Request, name: str) -> Response:
        answer = Response(forge.blobs.get(name, b""), media_type="text/plain")
        if "authorization" in request.headers or "private-token" in request.headers:
            answer = Response("<Error><Code>InvalidAuthenticationInfo</Code></Error>", 400, media_type="text/xml")
        elif name not in forge.blobs:
            answer = Response("<Error><Code>BlobNotFound</Code></Error>", 404, media_type="text/xml")
        forge.blob_requests.append(_asked(request, answer.status_code, b""))
        return answer

    return app


def _asked(request: Request, status: int, body: bytes) -> Asked:
    return Asked(request.method, request.url.path, request.url.query, dict(request.headers), status, body)


def _refused(forge: Forge, request: Request) -> Response | None:
    if forge.is_down:
        return Response("upstream is down", 503)
    if forge.forbidden and forge.forbidden in request.url.path and request.method != "GET":
        return JSONResponse({"message": forge.forbidden_because}, 403)
    if forge.limit is not None:
        with forge.lock:
            left = forge.limit
            forge.limit = max(0, left - 1)
        if left <= 0:
            headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(time.time()) + forge.reset_seconds)}
            return JSONResponse({"message": "API rate limit exceeded"}, 403, headers=headers)
    return None
