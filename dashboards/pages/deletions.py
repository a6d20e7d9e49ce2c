"""Deleting a team, a repository or a build: what would go, and the name to type before it does."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from cachescope.errors import InvalidValueError, NotFoundError
from dashboards.context import FormDep, Page, PageDep
from dashboards.pages.build import find_build
from dashboards.rendering import query
from dashboards.theme import plural
from service.actions import deletions
from service.dependencies import RepositoryDep, TeamDep
from store.models import Build, Repository, Team

router = APIRouter(include_in_schema=False)


@router.get("/teams/{slug}/delete", response_class=HTMLResponse)
def ask_for_team(page: PageDep, team: TeamDep) -> Response:
    """Ask before a team is deleted."""
    return _ask_for_team(page, team)


@router.post("/teams/{slug}/delete")
def delete_team(form: FormDep, page: PageDep, team: TeamDep) -> Response:
    """Delete a team."""
    try:
        deletions.delete_team(page.session, page.viewer, team, form.get("name", ""))
    except InvalidValueError as error:
        return _ask_for_team(page, team, str(error))
    return RedirectResponse("/", 303)


def _ask_for_team(page: Page, team: Team, message: str = "") -> Response:
    page.viewer.require(team.id, "owner", "delete the team")
    held = deletions.count_holding(page.session, team)
    return _ask(
        page,
        team,
        sentence=f"Delete the team {team.name} with everything that it holds?",
        goes=[
            f"{plural(held.repositories, 'repository', 'repositories')} with {plural(held.builds, 'build')}",
            "their logs, figures over time, alerts and recommendations",
            "its tokens, sources, channels and rules: jobs that send logs are refused from then on",
            "its audit log",
        ],
        stays="The accounts of its members stay.",
        name=team.slug,
        what="the address of the team",
        back=f"/teams/{team.slug}/data",
        crumbs=[("Settings", f"/teams/{team.slug}/settings"), ("Delete", None)],
        section="settings",
        message=message,
    )


@router.get("/teams/{slug}/repositories/{repository_id}/delete", response_class=HTMLResponse)
def ask_for_repository(page: PageDep, team: TeamDep, repository: RepositoryDep) -> Response:
    """Ask before a repository is deleted."""
    return _ask_for_repository(page, team, repository)


@router.post("/teams/{slug}/repositories/{repository_id}/delete")
def delete_repository(form: FormDep, page: PageDep, team: TeamDep, repository: RepositoryDep) -> Response:
    """Delete a repository."""
    _of_team(team, repository)
    try:
        deletions.delete_repository(page.session, page.viewer, team, repository, form.get("name", ""))
    except InvalidValueError as error:
        return _ask_for_repository(page, team, repository, str(error))
    return RedirectResponse(f"/teams/{team.slug}/data{query({'done': 'repository-deleted'})}", 303)


def _ask_for_repository(page: Page, team: Team, repository: Repository, message: str = "") -> Response:
    _of_team(team, repository)
    page.viewer.require(team.id, "owner", "delete repositories")
    held = deletions.count_holding(page.session, team, repository)
    url = f"/teams/{team.slug}/repositories/{repository.id}"
    return _ask(
        page,
        team,
        sentence=f"Delete the repository {repository.name} with everything that was sent for it?",
        goes=[
            f"{plural(held.builds, 'build')}, with logs, steps and figures over time",
            "its images, alerts and recommendations; its own tokens and sources are refused from then on",
        ],
        stays="A log that is sent for it later makes it anew, empty.",
        name=repository.name,
        what="the name of the repository",
        back=url,
        crumbs=[("Repositories", f"/teams/{team.slug}/repositories"), (repository.name, url), ("Delete", None)],
        section="repositories",
        message=message,
    )


@router.get("/builds/{build_id}/delete", response_class=HTMLResponse)
def ask_for_build(page: PageDep, build_id: int) -> Response:
    """Ask before a build is deleted."""
    return _ask_for_build(page, find_build(page, build_id))


@router.post("/builds/{build_id}/delete")
def delete_build(form: FormDep, page: PageDep, build_id: int) -> Response:
    """Delete the log of a build with all its builds."""
    build = find_build(page, build_id)
    repository = build.repository
    team = page.team_of(repository)
    try:
        deletions.delete_build(page.session, page.viewer, team, build, form.get("name", ""))
    except InvalidValueError as error:
        return _ask_for_build(page, build, str(error))
    return RedirectResponse(f"/teams/{team.slug}/repositories/{repository.id}", 303)


def _ask_for_build(page: Page, build: Build, message: str = "") -> Response:
    repository = build.repository
    team = page.team_of(repository)
    page.viewer.require(team.id, "owner", "delete builds")
    others = len(deletions.list_together(page.session, build)) - 1
    url = f"/teams/{team.slug}/repositories/{repository.id}"
    return _ask(
        page,
        team,
        sentence=f"Delete build {build.id} with its log?",
        goes=[
            "its raw log, where no other delivery has the same, and what was sent with it",
            "its steps and breaks; the figures of its day are worked out again without it",
            *([f"{plural(others, 'other build')} of the same log"] if others else []),
        ],
        stays="Later builds that were compared with it keep what was found.",
        name=str(build.id),
        what="the number of the build",
        back=f"/builds/{build.id}",
        crumbs=[(repository.name, url), (f"Build {build.id}", f"/builds/{build.id}"), ("Delete", None)],
        section="repositories",
        message=message,
    )


def _ask(page: Page, team: Team, *, message: str, **context: Any) -> Response:
    return page.show("delete.html", team, status=422 if message else 200, message=message, **context)


def _of_team(team: Team, repository: Repository) -> None:
    if repository.team_id != team.id:
        raise NotFoundError(f"There is no repository {repository.id} in {team.name}, or you may not see it.")
