"""What the overview of a team shows: every repository with its figures, all from the daily sums."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from store.models import Build, DailyBuilds, Repository
from store.queries.rollups import DEFAULT_CLASSES, Period, add_up, select_days


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryOverview:
    """One line of the overview."""

    repository: Repository
    period: Period
    previous: Period
    """Of as many days before the period."""
    efficiency_by_day: tuple[tuple[date, float | None], ...]
    """Of the days with a build, oldest first; None where a day's efficiency is not known."""
    last_build: Build | None
    """Whatever its branch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamOverview:
    """A team over a period."""

    period: Period
    previous: Period
    repositories: tuple[RepositoryOverview, ...]
    """By seconds lost, then by name."""


def load_overview(
    session: Session,
    team_id: int,
    first: date,
    last: date,
    *,
    branch_classes: Sequence[str] = DEFAULT_CLASSES,
    repository_id: int | None = None,
) -> TeamOverview:
    """Add up the days of every repository of a team, or of one; both days are included."""
    statement = select(Repository).where(Repository.team_id == team_id)
    if repository_id is not None:
        statement = statement.where(Repository.id == repository_id)
    repositories = session.scalars(statement.order_by(Repository.name, Repository.id)).all()
    ids = [repository.id for repository in repositories]
    before = first - (last - first) - timedelta(days=1)
    rows: dict[int, list[Row[Any]]] = defaultdict(list)
    for row in session.execute(
        select_days(DailyBuilds, before, last, branch_classes).where(DailyBuilds.repository_id.in_(ids))
    ):
        rows[row.repository_id].append(row)
    last_builds = _load_last_builds(session, ids)
    lines = [
        _overview(repository, rows[repository.id], first, last_builds.get(repository.id)) for repository in repositories
    ]
    every = [row for of_repository in rows.values() for row in of_repository]
    return TeamOverview(
        period=add_up(row for row in every if row.day >= first),
        previous=add_up(row for row in every if row.day < first),
        repositories=tuple(sorted(lines, key=lambda line: (-line.period.lost_seconds, line.repository.name))),
    )


def _overview(
    repository: Repository, rows: Sequence[Row[Any]], first: date, last_build: Build | None
) -> RepositoryOverview:
    by_day: dict[date, list[Row[Any]]] = {}
    for row in rows:
        if row.day >= first:
            by_day.setdefault(row.day, []).append(row)
    return RepositoryOverview(
        repository=repository,
        period=add_up(row for row in rows if row.day >= first),
        previous=add_up(row for row in rows if row.day < first),
        efficiency_by_day=tuple((day, add_up(of_day).cache_efficiency) for day, of_day in by_day.items()),
        last_build=last_build,
    )


def _load_last_builds(session: Session, repository_ids: Sequence[int]) -> dict[int, Build]:
    newest = (
        select(Build.id)
        .where(Build.repository_id == Repository.id)
        .order_by(Build.started_at.desc(), Build.id.desc())
        .limit(1)
        .correlate(Repository)
        .scalar_subquery()
    )
    build_ids = session.scalars(select(newest).select_from(Repository).where(Repository.id.in_(repository_ids))).all()
    builds = session.scalars(select(Build).where(Build.id.in_([i for i in build_ids if i is not None])))
    return {build.repository_id: build for build in builds}
