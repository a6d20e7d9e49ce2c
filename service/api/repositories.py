"""Repositories: their images, what broke their cache, and their figures by day."""

from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from service.api.teams import BranchClass, Figures, RangeDep, to_figures
from service.dependencies import OPENAPI_SECURITY, RepositoryDep, SessionDep, ViewerDep
from service.errors import responses
from store.models.repositories import Repository
from store.queries import breaks, repositories, rollups, teams

router = APIRouter(prefix="/api/v1/repositories", tags=["repositories"], dependencies=OPENAPI_SECURITY)

Classes = Annotated[list[BranchClass] | None, Query(description="The default branch unless named.")]


class RepositoryAnswer(BaseModel):
    """One repository."""

    id: int
    team: str = Field(description="Slug of its team.", examples=["acme"])
    name: str = Field(examples=["acme/shop"])
    default_branch: str
    url: str | None
    created_at: datetime


class RepositoriesAnswer(BaseModel):
    """The repositories that whoever asks may see, by team and name."""

    repositories: list[RepositoryAnswer]


class ImageAnswer(BaseModel):
    """One thing that a repository builds."""

    id: int
    name: str
    dockerfile: str
    target: str
    platform: str


class RepositoryDetails(RepositoryAnswer):
    """One repository with its images."""

    images: list[ImageAnswer]


class RankedBreakAnswer(BaseModel):
    """An instruction that broke the cache, and what that cost."""

    instruction_id: int
    image_id: int
    image: str
    stage: str
    keyword: str
    text: str
    breaks: int
    lost_seconds: float = Field(description="Cost of its unexpected breaks and their cascades.")
    rebuild_seconds: float = Field(description="Cost of its expected ones.")
    unexplained_seconds: float
    hits: int
    misses: int
    causes: dict[str, int] = Field(description="Cause → number of breaks.")
    last_day: date


class BreaksAnswer(BaseModel):
    """Instructions by the time that they cost."""

    from_day: date
    to_day: date
    breaks: list[RankedBreakAnswer]


class DayAnswer(BaseModel):
    """One day."""

    day: date
    figures: Figures


class DaysAnswer(BaseModel):
    """A repository or one of its images over a period; days without a build are left out."""

    from_day: date
    to_day: date
    figures: Figures
    days: list[DayAnswer]


@router.get("", summary="Your repositories", responses=responses(401))
def list_repositories(session: SessionDep, viewer: ViewerDep) -> RepositoriesAnswer:
    """List every repository that whoever asks may see."""
    return RepositoriesAnswer(
        repositories=[
            _describe(repository, team.slug)
            for team in teams.list_teams(session, viewer.team_ids)
            for repository in repositories.list_repositories(session, team.id)
            if viewer.may_see(team.id, repository.id)
        ]
    )


@router.get("/{repository_id}", summary="One repository", responses=responses(401, 404))
def get_repository(session: SessionDep, viewer: ViewerDep, repository: RepositoryDep) -> RepositoryDetails:
    """Describe a repository and what it builds."""
    (team,) = teams.list_teams(session, [repository.team_id])
    images = [
        ImageAnswer(
            id=image.id, name=image.name, dockerfile=image.dockerfile, target=image.target, platform=image.platform
        )
        for image in repositories.list_images(session, repository.id)
    ]
    return RepositoryDetails(**_describe(repository, team.slug).model_dump(), images=images)


@router.get("/{repository_id}/breaks", summary="What broke the cache", responses=responses(401, 404, 422))
def list_breaks(
    *,
    session: SessionDep,
    repository: RepositoryDep,
    days: RangeDep,
    image: Annotated[int | None, Query(ge=1, lt=1 << 62, description="Id of an image.")] = None,
    branch_class: Classes = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> BreaksAnswer:
    """Rank the instructions that busted the cache by the time that they cost."""
    found = breaks.load_ranked_breaks(
        session,
        repository.team_id,
        days.first,
        days.last,
        repository_id=repository.id,
        image_id=image,
        branch_classes=branch_class or ["default"],
        limit=limit,
    )
    return BreaksAnswer(
        from_day=days.first,
        to_day=days.last,
        breaks=[
            RankedBreakAnswer(
                instruction_id=line.instruction_id,
                image_id=line.image_id,
                image=line.image_name,
                stage=line.stage,
                keyword=line.keyword,
                text=line.text,
                breaks=line.breaks,
                lost_seconds=line.lost_seconds,
                rebuild_seconds=line.rebuild_seconds,
                unexplained_seconds=line.unexplained_seconds,
                hits=line.hits,
                misses=line.misses,
                causes=dict(line.causes),
                last_day=line.last_day,
            )
            for line in found
        ],
    )


@router.get("/{repository_id}/days", summary="Figures by day", responses=responses(401, 404, 422))
def list_days(
    *,
    session: SessionDep,
    repository: RepositoryDep,
    days: RangeDep,
    image: Annotated[int | None, Query(ge=1, lt=1 << 62, description="Id of an image.")] = None,
    branch_class: Classes = None,
) -> DaysAnswer:
    """Give the figures of a period and of each of its days that had a build."""
    classes = branch_class or ["default"]
    whole = rollups.load_period(session, repository.id, days.first, days.last, branch_classes=classes, image_id=image)
    by_day = rollups.load_days(session, repository.id, days.first, days.last, branch_classes=classes, image_id=image)
    return DaysAnswer(
        from_day=days.first,
        to_day=days.last,
        figures=to_figures(whole),
        days=[DayAnswer(day=day, figures=to_figures(period)) for day, period in by_day],
    )


def _describe(repository: Repository, team: str) -> RepositoryAnswer:
    return RepositoryAnswer(
        id=repository.id,
        team=team,
        name=repository.name,
        default_branch=repository.default_branch,
        url=repository.url,
        created_at=repository.created_at,
    )
