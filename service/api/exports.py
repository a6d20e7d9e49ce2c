"""Exports: all builds or steps of a repository as CSV or Parquet, streamed."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session

from service import parquet
from service.auditing import note
from service.auth.permissions import Viewer
from service.dependencies import OPENAPI_SECURITY, RepositoryDep, SessionDep, ViewerDep, afterwards, engine_of
from service.errors import responses
from service.parquet import Kind
from store.models import Repository
from store.queries import exports

router = APIRouter(prefix="/api/v1/repositories", tags=["repositories"], dependencies=OPENAPI_SECURITY)

First = Annotated[date | None, Query(alias="from", description="First day, in the team's time zone.")]
Last = Annotated[date | None, Query(alias="to", description="Last day.")]
CSV: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/csv": {"schema": {"type": "string"}}}, "description": "One row a line, a header first."}
}
PARQUET: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}}},
        "description": "A Parquet file; its columns are those of the CSV.",
    }
}
_KINDS = {
    bool: Kind.BOOLEAN,
    int: Kind.INTEGER,
    float: Kind.NUMBER,
    str: Kind.TEXT,
    date: Kind.DATE,
    datetime: Kind.TIMESTAMP,
}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins with one of these is a formula to a spreadsheet."""


@router.get(
    "/{repository_id}/builds.csv",
    summary="All builds as CSV",
    response_class=StreamingResponse,
    responses=responses(401, 404, 422) | CSV,
)
def export_builds(
    *,
    request: Request,
    session: SessionDep,
    viewer: ViewerDep,
    repository: RepositoryDep,
    first: First = None,
    last: Last = None,
) -> StreamingResponse:
    """Export the builds of a repository, oldest first, with their figures and their runs."""
    _note(session, viewer, repository, "builds as CSV")
    pages = exports.read_builds(engine_of(request), repository.id, first, last)
    return stream_csv(list(exports.BUILD_TYPES), pages, f"builds-{repository.id}.csv")


@router.get(
    "/{repository_id}/steps.csv",
    summary="All steps as CSV",
    response_class=StreamingResponse,
    responses=responses(401, 404, 422) | CSV,
)
def export_steps(
    *,
    request: Request,
    session: SessionDep,
    viewer: ViewerDep,
    repository: RepositoryDep,
    first: First = None,
    last: Last = None,
) -> StreamingResponse:
    """Export the steps of a repository's builds, oldest build first, with their cause where they broke the cache."""
    _note(session, viewer, repository, "steps as CSV")
    pages = exports.read_steps(engine_of(request), repository.id, first, last)
    return stream_csv(list(exports.STEP_TYPES), pages, f"steps-{repository.id}.csv")


@router.get(
    "/{repository_id}/builds.parquet",
    summary="All builds as Parquet",
    response_class=StreamingResponse,
    responses=responses(401, 404, 422) | PARQUET,
)
def export_builds_as_parquet(
    *,
    request: Request,
    session: SessionDep,
    viewer: ViewerDep,
    repository: RepositoryDep,
    first: First = None,
    last: Last = None,
) -> StreamingResponse:
    """Export what `builds.csv` exports as a Parquet file, with types."""
    _note(session, viewer, repository, "builds as Parquet")
    pages = exports.read_builds(engine_of(request), repository.id, first, last)
    return stream_parquet(exports.BUILD_TYPES, pages, f"builds-{repository.id}.parquet")


@router.get(
    "/{repository_id}/steps.parquet",
    summary="All steps as Parquet",
    response_class=StreamingResponse,
    responses=responses(401, 404, 422) | PARQUET,
)
def export_steps_as_parquet(
    *,
    request: Request,
    session: SessionDep,
    viewer: ViewerDep,
    repository: RepositoryDep,
    first: First = None,
    last: Last = None,
) -> StreamingResponse:
    """Export what `steps.csv` exports as a Parquet file, with types."""
    _note(session, viewer, repository, "steps as Parquet")
    pages = exports.read_steps(engine_of(request), repository.id, first, last)
    return stream_parquet(exports.STEP_TYPES, pages, f"steps-{repository.id}.parquet")


def _note(session: Session, viewer: Viewer, repository: Repository, what: str) -> None:
    team_id, name = repository.team_id, repository.name
    afterwards(session, lambda writing: note(writing, viewer, "exported", team_id=team_id, target=name, what=what))


def stream_csv(header: Sequence[str], pages: Iterable[list[tuple[Any, ...]]], name: str) -> StreamingResponse:
    """Answer with a CSV file, page by page as they are read."""
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(_lines(header, pages), media_type="text/csv; charset=utf-8", headers=headers)


def stream_parquet(
    types: Mapping[str, type[Any]], pages: Iterable[list[tuple[Any, ...]]], name: str
) -> StreamingResponse:
    """Answer with a Parquet file, page by page as they are read."""
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    written = parquet.write([(column, _KINDS[kind]) for column, kind in types.items()], pages)
    return StreamingResponse(written, media_type="application/vnd.apache.parquet", headers=headers)


def _lines(header: Sequence[str], pages: Iterable[list[tuple[Any, ...]]]) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")  # RFC 4180
    writer.writerow(header)
    for page in pages:
        writer.writerows([_cell(value) for value in row] for row in page)
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return "'" + value if value.startswith(_FORMULA) else value
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, datetime) else value
