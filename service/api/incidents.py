"""Incidents as JSON: listed, looked at, decided on."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from service.actions import incidents as actions
from service.dependencies import OPENAPI_SECURITY, SessionDep, TeamDep, ViewerDep, base_url
from service.errors import responses
from store.models import Incident
from store.queries import incidents as rows

router = APIRouter(prefix="/api/v1", tags=["incidents"], dependencies=OPENAPI_SECURITY)

State = Literal["active", "all", "open", "acknowledged", "muted", "accepted", "resolved"]
Action = Literal["acknowledge", "release", "mute", "unmute", "accept", "refuse", "resolve", "reopen"]


class Victim(BaseModel):
    """An instruction that runs because of an incident."""

    text: str
    seconds: float | None = Field(description="What it costs when it runs; null where that is not known.")


class IncidentAnswer(BaseModel):
    """One lasting change for the worse."""

    id: int
    url: str
    page: str
    title: str = Field(
        examples=["acme/api: RUN npm ci runs in nearly every build, below COPY . . since 3f9c2ab by Ada"]
    )
    price: str
    advice: str
    state: Literal["open", "acknowledged", "muted", "accepted", "resolved"]
    kind: str
    metric: str
    cause: str
    repository_id: int | None = Field(description="null for an incident of several repositories.")
    image_id: int | None
    parent_id: int | None
    instruction: str | None
    commit: str | None
    actor: str | None
    branch: str
    since_build_id: int | None
    since_at: datetime | None
    found_build_id: int | None
    resolved_build_id: int | None
    fixed_by: str | None
    victims: list[Victim]
    evidence: str
    confidence: str
    seconds_per_build: float
    builds_per_day: float
    seconds_per_day: float
    reopened: int
    muted_until: datetime | None
    opened_at: datetime
    resolved_at: datetime | None


class EventAnswer(BaseModel):
    """One thing that happened to an incident."""

    at: datetime
    action: str
    actor: str | None = Field(description="null for the detector.")
    build_id: int | None
    note: str


class IncidentDetail(IncidentAnswer):
    """One incident with its history and what it tells of besides itself."""

    events: list[EventAnswer]
    children: list[IncidentAnswer]


class IncidentsAnswer(BaseModel):
    """Incidents: active ones dearest first, others newest first."""

    incidents: list[IncidentAnswer]


class DecisionBody(BaseModel):
    """What is to become of an incident."""

    until: datetime | None = Field(default=None, description="For mute: until when; without it until it is fixed.")
    note: str = Field(default="", max_length=500)


def _answer(request: Request, session: Session, incident: Incident) -> IncidentAnswer:
    words = actions.in_words(session, incident)
    base = base_url(request)
    return IncidentAnswer(
        id=incident.id,
        url=f"{base}/api/v1/incidents/{incident.id}",
        page=f"{base}/alerts/{incident.id}",
        title=words.title,
        price=words.price,
        advice=words.advice,
        state=incident.state,
        kind=incident.kind.replace("_", "-"),
        metric=incident.metric,
        cause=incident.cause,
        repository_id=incident.repository_id,
        image_id=incident.image_id,
        parent_id=incident.parent_id,
        instruction=words.instruction,
        commit=words.commit,
        actor=words.actor,
        branch=incident.branch,
        since_build_id=incident.since_build_id,
        since_at=incident.since_at,
        found_build_id=incident.found_build_id,
        resolved_build_id=incident.resolved_build_id,
        fixed_by=words.fixed_by,
        victims=[
            Victim(text=text, seconds=victim.get("seconds"))
            for text, victim in zip(words.victims, incident.victims, strict=True)
        ],
        evidence=words.evidence,
        confidence=incident.confidence,
        seconds_per_build=incident.seconds_per_build,
        builds_per_day=incident.builds_per_day,
        seconds_per_day=incident.seconds_per_day,
        reopened=incident.reopened,
        muted_until=incident.muted_until,
        opened_at=incident.opened_at,
        resolved_at=incident.resolved_at,
    )


def _detail(request: Request, session: Session, incident: Incident) -> IncidentDetail:
    return IncidentDetail(
        **_answer(request, session, incident).model_dump(),
        events=[
            EventAnswer(at=event.at, action=event.action, actor=event.actor, build_id=event.build_id, note=event.note)
            for event in rows.list_events(session, incident.id)
        ],
        children=[_answer(request, session, child) for child in rows.load_children(session, incident.id)],
    )


@router.get("/teams/{slug}/incidents", summary="Incidents of a team", responses=responses(401, 404, 422))
def list_incidents(
    *,
    request: Request,
    session: SessionDep,
    viewer: ViewerDep,
    team: TeamDep,
    state: State = "active",
    repository: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None,
    before: Annotated[
        int | None, Query(ge=1, le=2**63 - 1, description="Id of the last one of the page above.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> IncidentsAnswer:
    """List the incidents that stand for themselves."""
    found = actions.list_incidents(
        session, viewer, team, state=state, repository_id=repository, before=before, limit=limit
    )
    return IncidentsAnswer(incidents=[_answer(request, session, incident) for incident in found])


@router.get("/incidents/{incident_id}", summary="One incident", responses=responses(401, 404, 422))
def get_incident(request: Request, incident_id: int, session: SessionDep, viewer: ViewerDep) -> IncidentDetail:
    """Show one incident with its history."""
    return _detail(request, session, actions.find_incident(session, viewer, incident_id))


@router.post(
    "/incidents/{incident_id}/{action}", summary="Decide on an incident", responses=responses(401, 403, 404, 409, 422)
)
def decide(
    *,
    request: Request,
    incident_id: int,
    action: Action,
    session: SessionDep,
    viewer: ViewerDep,
    body: DecisionBody | None = None,
) -> IncidentDetail:
    """Take an incident up, mute, accept, close or reopen it; each of these can be undone."""
    wanted = body or DecisionBody()
    decision = actions.Decision(action=action, muted_until=wanted.until, note=wanted.note)
    return _detail(request, session, actions.decide(session, viewer, incident_id, decision))
