"""Deleting builds, repositories and teams: the address names what goes, and `name` repeats it."""

from typing import Annotated

from fastapi import APIRouter, Query

from service.actions import deletions
from service.api.builds import find_build
from service.dependencies import OPENAPI_SECURITY, RepositoryDep, SessionDep, TeamDep, ViewerDep
from service.errors import responses
from store.models import Team

router = APIRouter(prefix="/api/v1", tags=["deletions"], dependencies=OPENAPI_SECURITY)

Typed = Annotated[str, Query(max_length=250, description="What shall go, once more: slug, name or number.")]


@router.delete("/teams/{slug}", status_code=202, summary="Delete a team", responses=responses(401, 403, 404, 422))
def delete_team(session: SessionDep, viewer: ViewerDep, team: TeamDep, name: Typed = "") -> None:
    """Take a team from everybody's sight; workers delete everything that it holds."""
    deletions.delete_team(session, viewer, team, name)


@router.delete(
    "/repositories/{repository_id}",
    status_code=202,
    summary="Delete a repository",
    responses=responses(401, 403, 404, 422),
)
def delete_repository(session: SessionDep, viewer: ViewerDep, repository: RepositoryDep, name: Typed = "") -> None:
    """Take a repository from everybody's sight; workers delete everything that it holds."""
    team = session.get_one(Team, repository.team_id)
    deletions.delete_repository(session, viewer, team, repository, name)


@router.delete("/builds/{build_id}", status_code=204, summary="Delete a build", responses=responses(401, 403, 404, 422))
def delete_build(session: SessionDep, viewer: ViewerDep, build_id: int, name: Typed = "") -> None:
    """Delete the log of a build with all builds that it holds; the sums of their days follow."""
    build = find_build(session, viewer, build_id)
    deletions.delete_build(session, viewer, session.get_one(Team, build.repository.team_id), build, name)
