"""What the overview of a team shows: every repository with its figures, all from the daily sums."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import chain

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.models import Build, DailyBuilds, Repository
from store.queries.rollups import DEFAULT_CLASSES, DayRow, Period, add_up, add_up_efficiency, select_days, select_sums


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryOverview:
    """One line of the overview."""

    repository: Repository
    period: Period
    previous: Period
    """Of as many days before the period; without medians."""
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
    rows: dict[int, list[DayRow]] = defaultdict(list)
    for row in session.execute(
        select_days(DailyBuilds, first, last, branch_classes).where(DailyBuilds.repository_id.in_(ids))
    ):
        rows[row[0]].append(row)
    sums_before = session.execute(
        select_sums(before, first - timedelta(days=1), branch_classes).where(DailyBuilds.repository_id.in_(ids))
    ).all()
    previous = {row[0]: add_up([row]) for row in sums_before}
    last_builds = _load_last_builds(session, ids)
    lines = [
        RepositoryOverview(
            repository=repository,
            period=add_up(rows[repository.id]),
            previous=previous.get(repository.id) or add_up([]),
            efficiency_by_day=_efficiency_by_day(rows[repository.id]),
            last_build=last_builds.get(repository.id),
        )
        for repository in repositories
    ]
    return TeamOverview(
        period=lines[0].period if len(lines) == 1 else add_up(chain.from_iterable(rows.values())),
        previous=add_up(sums_before),
        repositories=tuple(sorted(lines, key=lambda line: (-line.period.lost_seconds, line.repository.name))),
    )


def _efficiency_by_day(rows: Sequence[DayRow]) -> tuple[tuple[date, float | None], ...]:
    by_day: dict[date, list[DayRow]] = {}
    for row in rows:
        by_day.setdefault(row[1], []).append(row)
    return tuple((day, add_up_efficiency(of_day)) for day, of_day in by_day.items())


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
