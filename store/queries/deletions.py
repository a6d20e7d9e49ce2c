"""Deleting teams and repositories: hidden at once, emptied in small transactions, so that nobody waits for a large one.

A team that is to go loses its members, tokens, sources and channels, and with them everything by which anybody could
still see it. A repository that is to go moves into a team of its own, which is deleted like any other. Workers call
`delete_some` until nothing is left.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Table, delete, func, select, tuple_, update
from sqlalchemy.orm import Session

from store.models import (
    AdviceTurn,
    AlertRule,
    Base,
    Break,
    Build,
    BuildEvidence,
    BuildImage,
    Channel,
    Delivery,
    FeedbackPolicy,
    FeedbackTask,
    Incident,
    IncidentEvent,
    Membership,
    Message,
    Repository,
    Retention,
    Run,
    SignInLink,
    SizedImage,
    Source,
    Step,
    StoredLog,
    Team,
    Token,
)
from store.models.sources import Hook
from store.queries.builds import delete_builds

BUILDS = 100
"""Builds that one call deletes at most, with their steps."""
ROWS = 2_000
"""Rows of any other table."""
_OPEN = ("new", "working")
_BY_BUILD = {"steps", "breaks", "build_images", "builds", "deliveries", "repositories"}
"""Tables that are emptied in an order of their own."""


@dataclass(slots=True)
class Emptied:
    """What one call has deleted."""

    rows: int = 0
    digests: dict[str, datetime] = field(default_factory=dict)
    """Digests of raw logs whose delivery is gone, with a time after which they were not written for it again."""
    is_done: bool = False


def hide_team(session: Session, team: Team, now: datetime) -> None:
    """Take a team from everybody's sight and stop its work; `delete_some` does the rest."""
    repositories = select(Repository.id).where(Repository.team_id == team.id)
    team.slug = f"~{team.id}"  # no name of a team becomes such a slug: another one may have the former
    team.name, team.is_demo, team.deleted_at = "deleted", False, now
    table: Any
    for table in (Membership, SignInLink, AlertRule):
        session.execute(_bulk(delete(table).where(table.team_id == team.id)))
    for table, column in ((Token, "revoked_at"), (Source, "disabled_at"), (Channel, "disabled_at")):
        session.execute(
            _bulk(update(table).where(table.team_id == team.id, getattr(table, column).is_(None)).values({column: now}))
        )
    _stop_work(session, repositories, Delivery.team_id == team.id)
    session.flush()


def hide_repository(session: Session, repository: Repository, now: datetime) -> Team:
    """Move a repository out of its team into one that is deleted, which is returned."""
    former, chosen = repository.team_id, select(Repository.id).where(Repository.id == repository.id)
    grave = Team(slug=f"~repository-{repository.id}", name="deleted", deleted_at=now)
    session.add(grave)
    session.flush()
    repository.team_id = grave.id
    repository.name = str(repository.id)
    told = select(Incident.id).where(Incident.repository_id == repository.id)
    session.execute(_bulk(delete(Message).where(Message.incident_id.in_(told))))
    fleets = session.scalars(
        select(Incident.parent_id).where(Incident.repository_id == repository.id, Incident.parent_id.is_not(None))
    ).all()
    table: Any
    for table in (AlertRule, Retention):
        session.execute(_bulk(delete(table).where(table.repository_id == repository.id)))
    for table in (Token, Source, SizedImage, Incident):
        session.execute(_bulk(update(table).where(table.repository_id == repository.id).values(team_id=grave.id)))
    for table, column in ((Token, "revoked_at"), (Source, "disabled_at")):
        session.execute(
            _bulk(
                update(table)
                .where(table.repository_id == repository.id, getattr(table, column).is_(None))
                .values({column: now})
            )
        )
    # An incident of a fleet of which no member is left.
    kept = select(Incident.parent_id).where(Incident.parent_id.in_(fleets), Incident.team_id == former)
    session.execute(
        _bulk(
            delete(Incident).where(Incident.id.in_(fleets), Incident.repository_id.is_(None), Incident.id.not_in(kept))
        )
    )
    _stop_work(session, chosen, Delivery.repository_id == repository.id)
    session.flush()
    return grave


def _stop_work(session: Session, repositories: Any, deliveries: ColumnElement[bool]) -> None:
    # The higher fence takes the delivery from the worker that holds it.
    session.execute(
        _bulk(
            update(Delivery)
            .where(deliveries, Delivery.state.in_(_OPEN))
            .values(state="ignored", fence=Delivery.fence + 1, lease_until=None)
        )
    )
    session.execute(
        _bulk(delete(FeedbackTask).where(FeedbackTask.repository_id.in_(repositories), FeedbackTask.state.in_(_OPEN)))
    )
    for table, values in (
        (FeedbackPolicy, {"badge_token": None}),
        (AdviceTurn, {"due_at": None}),
        (SizedImage, {"next_at": None, "every_minutes": None}),
    ):
        session.execute(_bulk(update(table).where(table.repository_id.in_(repositories)).values(values)))


def list_hidden(session: Session, limit: int = 100) -> Sequence[int]:
    """The teams that are being deleted, those that wait longest first."""
    return session.scalars(
        select(Team.id).where(Team.deleted_at.is_not(None)).order_by(Team.deleted_at, Team.id).limit(limit)
    ).all()


def delete_some(session: Session, team_id: int, *, builds: int = BUILDS, rows: int = ROWS) -> Emptied:
    """Delete a part of a hidden team, small enough for one transaction; call it until it says that it is done."""
    team = session.scalar(select(Team).where(Team.id == team_id, Team.deleted_at.is_not(None)).with_for_update())
    if team is None:
        return Emptied(is_done=True)
    repository_id = session.scalar(select(Repository.id).where(Repository.team_id == team_id).limit(1))
    if repository_id is not None:
        return _empty_repository(session, repository_id, builds, rows)
    emptied = delete_deliveries(session, Delivery.team_id == team_id, rows)
    if not emptied.rows:
        emptied.rows = _delete_rows(session, "team_id", team_id, rows)
    if not emptied.rows:
        session.delete(team)
        session.flush()
        emptied.rows, emptied.is_done = 1, True
    return emptied


def _empty_repository(session: Session, repository_id: int, builds: int, rows: int) -> Emptied:
    if deleted := delete_build_rows(session, Build.repository_id == repository_id, builds):
        return Emptied(rows=deleted)
    emptied = delete_deliveries(session, Delivery.repository_id == repository_id, rows)
    if not emptied.rows:
        emptied.rows = _delete_rows(session, "repository_id", repository_id, rows)
    if not emptied.rows:
        emptied.rows = _rows_of(session, delete(Repository).where(Repository.id == repository_id))
    return emptied


def delete_build_rows(session: Session, chosen: ColumnElement[bool], limit: int) -> int:
    """Delete some builds with their steps, images and breaks, oldest first, and leave all sums as they are."""
    found = session.execute(
        select(Build.id, Build.run_id).where(chosen).order_by(Build.day, Build.id).limit(limit)
    ).all()
    if not found:
        return 0
    ids, runs = [row.id for row in found], {row.run_id for row in found}
    deleted = sum(
        _rows_of(session, delete(table).where(table.build_id.in_(ids))) for table in (Step, Break, BuildImage)
    )
    deleted += _rows_of(session, delete(Build).where(Build.id.in_(ids)))
    return deleted + _delete_empty_runs(session, runs)


def _delete_empty_runs(session: Session, runs: set[int]) -> int:
    used = select(Build.id).where(Build.run_id == Run.id).exists()
    return _rows_of(session, delete(Run).where(Run.id.in_(runs), ~used))


def delete_deliveries(session: Session, chosen: ColumnElement[bool], limit: int) -> Emptied:
    """Delete some deliveries with what came with them, and say which raw logs they referred to."""
    emptied, ids = describe_logs(session, chosen, limit)
    if ids:
        for table in (Hook, BuildEvidence):
            emptied.rows += _rows_of(session, delete(table).where(table.delivery_id.in_(ids)))
        emptied.rows += _rows_of(session, delete(Delivery).where(Delivery.id.in_(ids)))
    return emptied


def describe_logs(session: Session, chosen: ColumnElement[bool], limit: int) -> tuple[Emptied, list[str]]:
    """The raw logs of some deliveries, each with a time after which it was not written for them, and their ids."""
    ended_at = func.coalesce(Delivery.finished_at, Delivery.received_at)
    columns = (Delivery.id, Delivery.log_digest, Delivery.body_digest, ended_at)
    found = session.execute(select(*columns).where(chosen).limit(limit)).all()
    emptied = Emptied()
    for _, log, body, at in found:
        for digest in filter(None, (log, body)):
            emptied.digests[digest] = max(at, emptied.digests.get(digest, at))
    stored = select(StoredLog.digest, StoredLog.created_at).where(StoredLog.digest.in_(list(emptied.digests)))
    for digest, created_at in session.execute(stored):
        emptied.digests[digest] = max(created_at, emptied.digests[digest]) + timedelta(seconds=1)
    return emptied, [row[0] for row in found]


def _delete_rows(session: Session, column: str, value: int, limit: int) -> int:
    """Delete some rows of the first table that has any of a repository or team; tables that refer to others first."""
    for table in reversed(Base.metadata.sorted_tables):
        if column in table.columns and table.name not in _BY_BUILD:
            deleted = _delete_chunk(session, table, table.columns[column] == value, limit)
            if deleted:
                return deleted
    return 0


def _delete_chunk(session: Session, table: Table, chosen: ColumnElement[bool], limit: int) -> int:
    keys = tuple(table.primary_key.columns)
    key = keys[0] if len(keys) == 1 else tuple_(*keys)
    return _rows_of(session, delete(table).where(key.in_(select(*keys).where(chosen).limit(limit))))


def delete_delivery(session: Session, delivery: Delivery) -> Emptied:
    """Delete one log with all builds that it holds, and mark their days to be summed up again."""
    builds = session.scalars(select(Build).where(Build.delivery_id == delivery.id)).all()
    ids, runs = [build.id for build in builds], {build.run_id for build in builds}
    for column in (Incident.since_build_id, Incident.found_build_id, Incident.resolved_build_id):
        session.execute(_bulk(update(Incident).where(column.in_(ids)).values({column.key: None})))
    told = select(Incident.id).where(Incident.repository_id == delivery.repository_id)
    session.execute(
        _bulk(
            update(IncidentEvent)
            .where(IncidentEvent.incident_id.in_(told), IncidentEvent.build_id.in_(ids))
            .values(build_id=None)
        )
    )
    delete_builds(session, builds)
    session.flush()
    _delete_empty_runs(session, runs)
    return delete_deliveries(session, Delivery.id == delivery.id, 1)


def _rows_of(session: Session, statement: Any) -> int:
    return int(session.connection().execute(statement).rowcount)


def _bulk(statement: Any) -> Any:
    return statement.execution_options(synchronize_session=False)
