"""Whether the service lives, whether it can work, and its figures for Prometheus."""

import socket
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import urlsplit

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field

from service.dependencies import engine_of, metrics_of
from store.database import reading
from store.queries import deliveries, heartbeats
from workers.heartbeats import SILENT_AFTER_SECONDS
from workers.settings import get_settings

router = APIRouter(tags=["health"])
logger = structlog.get_logger(__name__)

Part = Literal["ok", "missing", "failing"]


class Readiness(BaseModel):
    """Whether each part that the service needs is there."""

    status: Literal["ready", "degraded", "unready"] = Field(
        description="degraded: logs are accepted and kept, but some part that reads them is missing."
    )
    database: Part
    queue: Part = Field(description="Without it logs are still read, by the scheduler and more slowly.")
    worker: Part
    scheduler: Part
    waiting: int = Field(description="Deliveries that are overdue for a worker, counted up to 1000.")


@router.get("/healthz", summary="Is the process alive", response_class=PlainTextResponse)
def healthz() -> str:
    """Answer, without looking at anything else."""
    return "ok\n"


@router.get("/readyz", summary="Can the service do its work", responses={503: {"model": Readiness}})
def readyz(request: Request, response: Response) -> Readiness:
    """Look at the database, the queue and the signs of life of workers and scheduler; 503 unless all are there."""
    now = datetime.now(UTC)
    queue: Part = "ok" if is_queue_reachable() else "failing"
    try:
        with reading(engine_of(request)) as session:
            seen = heartbeats.last_seen(session)
            waiting = deliveries.count_due(session, now, 1000)
    except Exception:  # whatever the driver raises: the answer is that it does not answer
        logger.warning("database_unreachable", exc_info=True)
        response.status_code = 503
        return Readiness(
            status="unready", database="failing", queue=queue, worker="missing", scheduler="missing", waiting=0
        )
    alive = {kind for kind, at in seen.items() if (now - at).total_seconds() < SILENT_AFTER_SECONDS}
    parts: dict[str, Part] = {kind: "ok" if kind in alive else "missing" for kind in ("worker", "scheduler")}
    is_ready = queue == "ok" and all(part == "ok" for part in parts.values())
    response.status_code = 200 if is_ready else 503
    return Readiness(
        status="ready" if is_ready else "degraded",
        database="ok",
        queue=queue,
        worker=parts["worker"],
        scheduler=parts["scheduler"],
        waiting=waiting,
    )


@router.get("/metrics", summary="Figures for Prometheus", response_class=PlainTextResponse)
def metrics(request: Request) -> Response:
    """Counters of this process and the state of the database, in Prometheus' text format."""
    with reading(engine_of(request)) as session:
        return Response(metrics_of(request).render(session), media_type=CONTENT_TYPE_LATEST)


def is_queue_reachable() -> bool:
    """Whether somebody listens where the queue is; a folder is always there."""
    url = get_settings().redis_url
    if not url:
        return True
    try:
        parts = urlsplit(url)
        if "socket" in parts.scheme or parts.scheme == "unix":
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(0.5)
                probe.connect(parts.path)
        else:
            with socket.create_connection((parts.hostname or "localhost", parts.port or 6379), timeout=0.5):
                pass
    except (OSError, ValueError):
        return False
    return True
