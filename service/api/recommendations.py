"""Recommendations as JSON: what to change, what it would save, and what it saved."""

from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from service.dependencies import OPENAPI_SECURITY, RepositoryDep, SessionDep, TeamDep, ViewerDep, base_url
from service.errors import responses
from store.models import StoredRecommendation
from store.queries import recommendations as rows

router = APIRouter(prefix="/api/v1", tags=["recommendations"], dependencies=OPENAPI_SECURITY)


class EffectAnswer(BaseModel):
    """What builds spent on misses before and after an edit."""

    builds_before: int
    builds_after: int
    seconds_before: float | None = Field(description="Mean of a build; null where no build is timed.")
    seconds_after: float | None


class RecommendationAnswer(BaseModel):
    """One proposal for one image."""

    id: int
    page: str
    name: str = Field(description="Kind of proposal.", examples=["copy-before-install"])
    title: str
    why: str
    evidence: list[str]
    patch: str | None = Field(description="Applies with `git apply` from the root of the build context.")
    order_safe: bool = Field(description="Whether the image provably stays the same; else check by a build.")
    repository_id: int
    image_id: int
    saving_seconds_per_build: float | None = Field(description="Predicted; null where it saves no time.")
    interval: tuple[float, float] | None
    builds_per_week: float | None
    builds: int = Field(description="How many builds the prediction stands on.")
    state: Literal["open", "dismissed", "applied"]
    changed_at: datetime
    applied_build_id: int | None
    effect: EffectAnswer | None = Field(description="Measured, once it was applied.")


class RecommendationsAnswer(BaseModel):
    """Recommendations, most saved a week first."""

    recommendations: list[RecommendationAnswer]


@router.get("/teams/{slug}/recommendations", summary="Recommendations of a team", responses=responses(401, 404))
def of_team(request: Request, session: SessionDep, viewer: ViewerDep, team: TeamDep) -> RecommendationsAnswer:
    """List what to change in the repositories of a team."""
    found = rows.load_recommendations(session, team.id, repository_id=viewer.repository_id)
    return RecommendationsAnswer(recommendations=[_answer(request, session, row) for row in found])


@router.get(
    "/repositories/{repository_id}/recommendations",
    summary="Recommendations of a repository",
    responses=responses(401, 404),
)
def of_repository(request: Request, session: SessionDep, repository: RepositoryDep) -> RecommendationsAnswer:
    """List what to change in a repository."""
    found = rows.load_recommendations(session, repository.team_id, repository_id=repository.id)
    return RecommendationsAnswer(recommendations=[_answer(request, session, row) for row in found])


def _answer(request: Request, session: Session, row: StoredRecommendation) -> RecommendationAnswer:
    effect = rows.measure_effect(session, row) if row.state == "applied" else None
    low, high = row.saving_low, row.saving_high
    return RecommendationAnswer(
        id=row.id,
        page=f"{base_url(request)}/recommendations/{row.id}",
        name=row.name.replace("_", "-"),
        title=row.title,
        why=row.why,
        evidence=[str(sentence) for sentence in row.evidence],
        patch=row.patch,
        order_safe=row.order_safe,
        repository_id=row.repository_id,
        image_id=row.image_id,
        saving_seconds_per_build=row.saving_seconds,
        interval=(low, high) if low is not None and high is not None else None,
        builds_per_week=row.builds_per_week,
        builds=row.builds,
        state=row.state,
        changed_at=row.changed_at,
        applied_build_id=row.applied_build_id,
        effect=EffectAnswer(
            builds_before=effect.builds_before,
            builds_after=effect.builds_after,
            seconds_before=effect.seconds_before,
            seconds_after=effect.seconds_after,
        )
        if effect is not None
        else None,
    )
