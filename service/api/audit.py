"""The audit log of a team, as JSON and as CSV."""

from datetime import date, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from service.actions import audit
from service.api.exports import CSV, stream_csv
from service.auditing import note
from service.dependencies import OPENAPI_SECURITY, SessionDep, TeamDep, ViewerDep, afterwards, engine_of
from service.errors import responses
from store.models import AuditEvent
from store.queries.audit import AuditFilter

router = APIRouter(prefix="/api/v1/teams", tags=["audit"], dependencies=OPENAPI_SECURITY)


class AuditEventAnswer(BaseModel):
    """One thing that somebody did."""

    id: int
    at: datetime
    action: str = Field(examples=["token.made"])
    actor: str = Field(description="Who did it, as they were called then.")
    address: str | None = Field(description="The network address that the request came from.")
    target: str
    details: dict[str, Any]


class AuditAnswer(BaseModel):
    """A page of the audit log, newest first."""

    events: list[AuditEventAnswer]
    next: int | None = Field(description="What `before` takes for the next page; null on the last one.")


def get_filter(
    team: TeamDep,
    action: Annotated[str, Query(max_length=60, description="An action, or its first word, such as token.")] = "",
    actor: Annotated[str, Query(max_length=300)] = "",
    first: Annotated[date | None, Query(alias="from", description="First day, in UTC.")] = None,
    last: Annotated[date | None, Query(alias="to", description="Last day, in UTC, included.")] = None,
) -> AuditFilter:
    """Read which events are asked for."""
    last = last if last is None or last.year < 9999 else None
    return AuditFilter(team_id=team.id, action=action, actor=actor, first=first, last=last)


FilterDep = Annotated[AuditFilter, Depends(get_filter)]


@router.get("/{slug}/audit", summary="Who did what", responses=responses(401, 403, 404, 422))
def list_events(
    *,
    session: SessionDep,
    viewer: ViewerDep,
    team: TeamDep,
    wanted: FilterDep,
    before: Annotated[int | None, Query(ge=1, lt=1 << 62, description="`next` of the page above.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> AuditAnswer:
    """List what was done in a team, newest first; for its owners."""
    found = audit.load_events(session, viewer, team, wanted, before=before, limit=limit)
    return AuditAnswer(
        events=[_to_answer(event) for event in found], next=found[-1].id if len(found) == limit else None
    )


@router.get(
    "/{slug}/audit.csv",
    summary="The audit log as CSV",
    response_class=StreamingResponse,
    responses=responses(401, 403, 404, 422) | CSV,
)
def export_events(
    request: Request, session: SessionDep, viewer: ViewerDep, team: TeamDep, wanted: FilterDep
) -> StreamingResponse:
    """Export the audit log of a team, oldest first; for its owners."""
    audit.require(viewer, team)
    team_id, slug = team.id, team.slug
    afterwards(session, lambda writing: note(writing, viewer, "exported", team_id=team_id, target="audit log"))
    return stream_csv(audit.COLUMNS, audit.read_rows(engine_of(request), wanted, slug), f"audit-{slug}.csv")


def _to_answer(event: AuditEvent) -> AuditEventAnswer:
    names = ("id", "at", "action", "actor", "address", "target", "details")
    return AuditEventAnswer(**{name: getattr(event, name) for name in names})
