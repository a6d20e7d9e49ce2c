"""Deleting logs with their builds, repositories and teams: by owners, who type the name of what shall go."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from cachescope.errors import InvalidValueError
from service.auditing import note
from service.auth.permissions import Viewer
from store.database import after_commit, tidied
from store.models import Build, Delivery, Repository, Team
from store.queries import deletions
from store.queries.deletions import Emptied
from workers.tasks.deleting import forget_logs


@dataclass(frozen=True, slots=True)
class Holding:
    """What would go."""

    repositories: int
    builds: int


def count_holding(session: Session, team: Team, repository: Repository | None = None) -> Holding:
    """How much a team, or one repository of it, holds."""
    chosen = select(Repository.id).where(Repository.team_id == team.id)
    if repository is not None:
        chosen = chosen.where(Repository.id == repository.id)
    ids = session.scalars(chosen).all()
    builds = session.scalar(select(func.count()).select_from(Build).where(Build.repository_id.in_(ids)))
    return Holding(len(ids), builds or 0)


def delete_team(session: Session, viewer: Viewer | None, team: Team, typed: str) -> None:
    """Delete a team with everything it owns: it is out of sight at once, workers delete what it held."""
    _require(viewer, team, "delete the team")
    _check_typed(typed, team.slug, "the team's address")
    held = count_holding(session, team)
    # Nothing of the team may stay, so that only numbers tell of it.
    note(session, viewer, "team.deleted", repositories=held.repositories, builds=held.builds)
    deletions.hide_team(session, team, datetime.now(UTC))


def delete_repository(session: Session, viewer: Viewer | None, team: Team, repository: Repository, typed: str) -> None:
    """Delete a repository with its builds: it is out of sight at once, workers delete what it held."""
    _require(viewer, team, "delete repositories")
    _check_typed(typed, repository.name, "the repository's name")
    held = count_holding(session, team, repository)
    note(session, viewer, "repository.deleted", team_id=team.id, target=repository.name, builds=held.builds)
    deletions.hide_repository(session, repository, datetime.now(UTC))


def list_together(session: Session, build: Build) -> list[int]:
    """The builds of the log that a build was read from: they go together."""
    return list(
        session.scalars(select(Build.id).where(Build.delivery_id == build.delivery_id).order_by(Build.position))
    )


def delete_build(session: Session, viewer: Viewer | None, team: Team, build: Build, typed: str) -> int:
    """Delete the log of a build with all builds that it holds; returns how many. The sums of their days follow."""
    _require(viewer, team, "delete builds")
    _check_typed(typed, str(build.id), "the number of the build")
    together = list_together(session, build)
    repository = session.get_one(Repository, build.repository_id)
    note(
        session, viewer, "build.deleted", team_id=team.id, target=f"{repository.name} #{build.id}", builds=len(together)
    )
    session.flush()
    with tidied(session):
        emptied: Emptied = deletions.delete_delivery(session, session.get_one(Delivery, build.delivery_id))
    after_commit(session, lambda: forget_logs(emptied))
    return len(together)


def _require(viewer: Viewer | None, team: Team, doing: str) -> None:
    if viewer is not None:
        viewer.require(team.id, "owner", doing)


def _check_typed(typed: str, name: str, what: str) -> None:
    if typed.strip() != name:
        raise InvalidValueError(
            "name", f'To delete it, type {what}, "{name}"; "{typed.strip()[:60]}" is something else.'
        )
