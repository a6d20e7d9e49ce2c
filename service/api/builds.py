"""Builds: what a log said, what the comparison found, and the log itself."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from cachescope.cli.document import build_document
from cachescope.errors import InvalidValueError, NotFoundError
from cachescope.metrics import efficiency, hit_rate
from service.auth.permissions import Viewer
from service.dependencies import OPENAPI_SECURITY, RepositoryDep, SessionDep, ViewerDep, base_url, logs_of
from service.errors import responses
from store.logs import read_log
from store.models.builds import Break, Build
from store.models.deliveries import Delivery
from store.queries import breaks as break_rows
from store.queries import builds as build_rows
from store.queries.builds import BuildFilter, BuildKey

router = APIRouter(prefix="/api/v1", tags=["builds"], dependencies=OPENAPI_SECURITY)

Outcome = Literal["succeeded", "failed", "canceled", "incomplete"]


class BuildFigures(BaseModel):
    """The figures of one build; null means that nobody knows."""

    cacheable: int
    hits: int
    misses: int
    unknown: int
    hit_rate: float | None
    seconds_spent: float | None


class BuildSummary(BaseModel):
    """A build in a list."""

    id: int
    url: str
    page: str
    repository_id: int
    delivery_id: str
    started_at: datetime = Field(description="From the log, else from the CI run, else the time of arrival.")
    duration_seconds: float | None
    outcome: Outcome
    builder: str | None
    format: str
    branch: str = Field(description="Empty where nobody told.")
    branch_class: Literal["default", "branch", "pull_request"]
    commit: str | None
    pull_request: str | None
    job: str | None
    attempt: int
    runner: str | None
    run_url: str | None
    figures: BuildFigures
    seconds_avoided: float | None
    cache_efficiency: float | None
    headline_break: dict[str, Any] | None = Field(
        description="The costliest break: position, instruction, cause, cost."
    )


class BuildsAnswer(BaseModel):
    """A page of builds, newest first."""

    builds: list[BuildSummary]
    next: str | None = Field(description="Address of the next page; null on the last one.")


class BreakAnswer(BaseModel):
    """A step that busted the cache."""

    position: int = Field(description="Of its step in `steps`, from 0.")
    cause: str
    confidence: str | None
    expected: bool | None
    cost_seconds: float | None = Field(description="Of the break and its cascade.")
    own_seconds: float | None
    cascade: list[int] = Field(description="Positions of the steps that missed only because of it.")
    files: list[Any]
    evidence: list[Any]


class BuildDocument(BaseModel):
    """A build: an element of `builds` of `cachescope analyze --json`, with the ids of what it belongs to."""

    model_config = ConfigDict(extra="allow")

    id: int
    url: str
    page: str
    repository_id: int
    delivery_id: str
    received_at: datetime
    branch: str
    branch_class: Literal["default", "branch", "pull_request"]
    commit: str | None
    pull_request: str | None
    job: str | None
    attempt: int
    runner: str | None
    run_url: str | None
    baseline_build_id: int | None
    seconds_avoided: float | None
    avoided_unknown: int
    cache_efficiency: float | None
    overhead_seconds: float | None
    breaks: list[BreakAnswer]
    builder: str | None
    format: str
    outcome: Outcome
    error: str | None
    started_at: str | None
    duration_seconds: float | None
    context_bytes: int | None
    images: list[dict[str, Any]]
    cache_imports: list[dict[str, Any]]
    cache_exports: list[dict[str, Any]]
    steps: list[dict[str, Any]] = Field(description="In the order in which the builder announced them.")
    figures: BuildFigures


def find_build(session: SessionDep, viewer: Viewer, build_id: int) -> Build:
    """Return a build that the viewer may see; raises NotFoundError otherwise."""
    build = build_rows.find_build(session, viewer.team_ids, build_id) if 0 < build_id < 1 << 62 else None
    if build is None or not viewer.may_see(build.repository.team_id, build.repository_id):
        raise NotFoundError(f"There is no build {build_id} here, or you may not see it.")
    return build


@router.get(
    "/repositories/{repository_id}/builds", summary="Builds of a repository", responses=responses(401, 404, 422)
)
def list_builds(
    *,
    request: Request,
    session: SessionDep,
    repository: RepositoryDep,
    branch: Annotated[str | None, Query(max_length=255)] = None,
    image: Annotated[int | None, Query(ge=1, lt=1 << 62, description="Id of an image.")] = None,
    outcome: Outcome | None = None,
    first: Annotated[date | None, Query(alias="from", description="First day, in UTC.")] = None,
    last: Annotated[date | None, Query(alias="to", description="Last day, in UTC, included.")] = None,
    before: Annotated[str | None, Query(max_length=60, description="Key from the address in `next`.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> BuildsAnswer:
    """List builds, newest first, one page at a time."""
    chosen = BuildFilter(
        branch=branch,
        image_id=image,
        outcome=outcome,
        first=_midnight(first) if first else None,
        last=_midnight(last) + timedelta(days=1) if last else None,
    )
    found = build_rows.load_builds(session, repository.id, chosen, before=read_key(before), limit=limit + 1)
    shown = found[:limit]
    next_url = None
    if len(found) > limit:
        next_url = next_page(request, build_rows.key_of(shown[-1]))
    return BuildsAnswer(builds=[summarize(request, build) for build in shown], next=next_url)


@router.get("/builds/{build_id}", summary="One build", responses=responses(401, 404))
def get_build(request: Request, build_id: int, session: SessionDep, viewer: ViewerDep) -> BuildDocument:
    """Describe a build with its steps, its figures and what broke its cache."""
    build = find_build(session, viewer, build_id)
    document = build_document(build_rows.load_build(session, build))
    links = _links(request, build) | {
        "received_at": build.received_at,
        "baseline_build_id": build.baseline_build_id,
        "seconds_avoided": build.seconds_avoided,
        "avoided_unknown": build.avoided_unknown,
        "cache_efficiency": _efficiency(build),
        "overhead_seconds": build.overhead_seconds,
        "breaks": [_describe_break(found) for found in break_rows.load_breaks(session, build.id)],
    }
    return BuildDocument.model_validate(links | document)


@router.get(
    "/builds/{build_id}/log",
    summary="The raw log",
    response_class=PlainTextResponse,
    responses={**responses(401, 404), 304: {"description": "Not modified"}},
)
def get_log(request: Request, build_id: int, session: SessionDep, viewer: ViewerDep) -> Response:
    """Send the whole log from which a build was read, without the secrets that were in it."""
    build = find_build(session, viewer, build_id)
    delivery = session.get(Delivery, build.delivery_id)
    if delivery is None or delivery.log_digest is None:
        raise NotFoundError("The log of this build is no longer kept.")
    headers = {
        "ETag": f'"{delivery.log_digest}"',
        "Cache-Control": "private, no-cache",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    if headers["ETag"] in [
        tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")
    ]:
        return Response(status_code=304, headers=headers)
    pieces = read_log(logs_of(request), delivery.log_digest)
    first = next(pieces, b"")  # a log that is gone is a 404, not a broken answer

    def body() -> Any:
        yield first
        yield from pieces

    return StreamingResponse(body(), media_type="text/plain; charset=utf-8", headers=headers)


def next_page(request: Request, key: BuildKey) -> str:
    """Return the address at which a list goes on after a build."""
    url = request.url.include_query_params(before=f"{int(key[0].timestamp() * 1_000_000)}-{key[1]}")
    return f"{base_url(request)}{url.path}?{url.query}"


def read_key(text: str | None) -> BuildKey | None:
    """Read a place in a list; raises InvalidValueError for what is none."""
    if not text:
        return None
    micros, _, build_id = text.partition("-")
    if not (micros.isascii() and micros.isdigit() and build_id.isascii() and build_id.isdigit() and len(text) <= 36):
        raise InvalidValueError("before", f'"{text}" is no place in a list: use the address that `next` gave.')
    try:
        return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=int(micros)), min(int(build_id), 1 << 62)
    except OverflowError:
        raise InvalidValueError(
            "before", f'"{text}" is no place in a list: use the address that `next` gave.'
        ) from None


def _midnight(day: date) -> datetime:
    if not 1970 <= day.year <= 9000:
        raise InvalidValueError("from", "Days lie between 1970 and 9000.")
    return datetime.combine(day, time.min, UTC)


def _links(request: Request, build: Build) -> dict[str, Any]:
    base, run = base_url(request), build.run
    return {
        "id": build.id,
        "url": f"{base}/api/v1/builds/{build.id}",
        "page": f"{base}/builds/{build.id}",
        "repository_id": build.repository_id,
        "delivery_id": build.delivery_id,
        "branch": build.branch,
        "branch_class": build.branch_class,
        "commit": build.commit_id,
        "pull_request": run.pull_request,
        "job": run.job,
        "attempt": run.attempt,
        "runner": build.runner,
        "run_url": run.url,
    }


def summarize(request: Request, build: Build) -> BuildSummary:
    """Describe a build as it stands in lists."""
    names = ("started_at", "duration_seconds", "outcome", "builder", "format", "seconds_avoided", "headline_break")
    figures = {name: getattr(build, name) for name in ("cacheable", "hits", "misses", "unknown", "seconds_spent")}
    return BuildSummary.model_validate(
        _links(request, build)
        | {name: getattr(build, name) for name in names}
        | {
            "figures": figures | {"hit_rate": hit_rate(build.hits, build.misses)},
            "cache_efficiency": _efficiency(build),
        }
    )


def _efficiency(build: Build) -> float | None:
    return efficiency(
        hits=build.hits,
        misses=build.misses,
        seconds_avoided=build.seconds_avoided,
        seconds_spent=build.seconds_spent,
    )


def _describe_break(found: Break) -> BreakAnswer:
    names = BreakAnswer.model_fields
    return BreakAnswer.model_validate({name: getattr(found, name) for name in names})
