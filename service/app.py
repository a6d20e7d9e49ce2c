"""The web application: JSON API, webhooks, health; whoever draws pages adds them to it."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fastapi import FastAPI
from sqlalchemy import Engine

from service import errors
from service.api import (
    account,
    audit,
    badges,
    builds,
    channels,
    comparisons,
    deletions,
    deliveries,
    exports,
    health,
    images,
    incidents,
    members,
    recommendations,
    repositories,
    retention,
    teams,
    uploads,
    webhooks,
)
from service.auth.providers import SignIn, open_sign_in
from service.auth.throttle import Throttle
from service.borders import Borders
from service.doorkeeper import Doorkeeper
from service.metrics import Metrics
from service.requests import BodyLimit, RequestLog
from service.settings import ServiceSettings, get_settings, get_sign_in_settings
from store.logs import LogStore
from workers.logs import configure_logging

DESCRIPTION = """Build-cache analytics for container images.

Send a log with `POST /api/v1/uploads` and an upload token; read everything else with a read token or a session.
Errors are problem documents (RFC 9457) whose `detail` says in one sentence what to do.
The words and the formula of every figure stand in the glossary.
"""


def create_app(
    settings: ServiceSettings | None = None,
    *,
    engine: Engine | None = None,
    logs: LogStore | None = None,
    sign_in: SignIn | None = None,
    error_page: errors.ErrorPage | None = None,
    on_start: Sequence[Callable[[], object]] = (),
) -> FastAPI:
    """Make the application; engine and log store are those of the settings unless they are given.

    `on_start` is called once the server starts, and not when the application is only imported.
    """
    configure_logging()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        for function in on_start:
            function()
        yield

    app = FastAPI(
        title="Cachescope",
        version=_version(),
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # Swagger's page loads its script from another host
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
    )
    app.state.settings = settings or get_settings()
    app.state.sign_in = sign_in or open_sign_in(get_sign_in_settings(), app.state.settings)
    app.state.engine = engine
    app.state.logs = logs
    app.state.metrics = Metrics()
    app.state.throttle = Throttle()
    app.add_middleware(BodyLimit)
    app.add_middleware(RequestLog, metrics=app.state.metrics)
    app.add_middleware(Doorkeeper, throttle=app.state.throttle, metrics=app.state.metrics)
    app.add_middleware(Borders, settings=app.state.settings)
    errors.install(app, error_page)
    for module in (
        uploads,
        deliveries,
        teams,
        members,
        account,
        repositories,
        exports,
        images,
        builds,
        comparisons,
        recommendations,
        incidents,
        channels,
        deletions,
        retention,
        audit,
        webhooks,
        badges,
        health,
    ):
        app.include_router(module.router)
    _complete_openapi(app)
    return app


def _complete_openapi(app: FastAPI) -> None:
    """Describe problems as what they are: FastAPI would describe a 422 in its own words, which we never send."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        document: dict[str, Any] = generate()
        schemas = document["components"]["schemas"]
        schemas["ProblemDocument"] = errors.ProblemDocument.model_json_schema()
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        for path in document["paths"].values():
            for operation in path.values():
                if "HTTPValidationError" in str(operation["responses"].get("422", "")):
                    operation["responses"]["422"] = errors.responses(422)[422]
                # What is answered before any route is asked: another kind of token, a body that cannot be read.
                common = [429, 403] if "401" in operation["responses"] else [429]
                common += [400, 413] if "requestBody" in operation else []
                for status in common:
                    operation["responses"].setdefault(str(status), errors.responses(status)[status])
        app.openapi_schema = document
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to change the document


def _version() -> str:
    try:
        return version("cachescope")
    except PackageNotFoundError:
        return "0"
