"""Deliveries by webhook: the requests behind them, which execution each is about, and how a source fares."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, cast

from sqlalchemy import Connection, Table, and_, bindparam, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from store.database import insert
from store.models import Build, BuildImage, Delivery, Repository
from store.models.sources import Hook
from store.types import utc_now

_ENDED = ("done", "ignored", "failed")
_PUSHED_WITHIN = timedelta(days=7)
_KEY = ("team_id", "kind", "idempotency_key")
_DELIVERIES, _HOOKS = cast("Table", Delivery.__table__), cast("Table", Hook.__table__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How a source has fared since a time."""

    last_at: datetime | None
    received: int
    failed: int
    waiting: int
    found: int
    """Executions of which no webhook came."""


@cache
def _statements(dialect: str) -> tuple[Any, Any, Any]:
    """Built once, as building them costs more than running them: at the door every millisecond counts."""
    insert_into = postgresql.insert if dialect == "postgresql" else sqlite.insert
    key = (Delivery.team_id, Delivery.kind, Delivery.idempotency_key)
    delivery = insert_into(_DELIVERIES).on_conflict_do_nothing(index_elements=list(key)).returning(_DELIVERIES.c.id)
    known = select(_DELIVERIES.c.id).where(*(column == bindparam(column.key) for column in key))
    return delivery, insert_into(_HOOKS), known


def insert_requests(
    connection: Connection, letters: Sequence[tuple[dict[str, Any], dict[str, Any]]]
) -> list[str | None]:
    """Insert deliveries with their requests; returns for each the id of the first one where its key was used before."""
    insert_delivery, insert_hook, known = _statements(connection.dialect.name)
    unique: dict[tuple[Any, ...], tuple[dict[str, Any], dict[str, Any]]] = {}
    for delivery, hook in letters:
        unique.setdefault(_key_of(delivery), (delivery, hook))
    inserted = set(connection.scalars(insert_delivery, [delivery for delivery, _ in unique.values()]))
    if new := [hook for delivery, hook in unique.values() if delivery["id"] in inserted]:
        connection.execute(insert_hook, new)
    return [
        None
        if delivery["id"] in inserted
        else str(connection.scalar(known, dict(zip(_KEY, _key_of(delivery), strict=True))))
        for delivery, _ in letters
    ]


def _key_of(delivery: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(delivery[name] for name in _KEY)


def insert_hook(session: Session, values: dict[str, Any]) -> None:
    """Keep the request of a delivery that was just inserted."""
    session.execute(insert(session, Hook).values(**values))


def find_hook(session: Session, delivery_id: str) -> Hook | None:
    """The request of a delivery."""
    return session.get(Hook, delivery_id)


def save_run(session: Session, delivery_id: str, subject: str | None, run: dict[str, Any]) -> None:
    """Keep what a request was found to tell of."""
    session.execute(
        update(Hook)
        .where(Hook.delivery_id == delivery_id)
        .values(subject=subject, run=run)
        .execution_options(synchronize_session=False)
    )


def forget_body(session: Session, delivery_id: str) -> None:
    """Forget a request's body, once what it carried is stored without its secrets."""
    session.execute(
        update(Hook)
        .where(Hook.delivery_id == delivery_id)
        .values(body=None)
        .execution_options(synchronize_session=False)
    )


def count_try(session: Session, delivery_id: str) -> None:
    """Count that a log was asked for and was not there."""
    session.execute(
        update(Hook)
        .where(Hook.delivery_id == delivery_id)
        .values(tries=Hook.tries + 1)
        .execution_options(synchronize_session=False)
    )


def find_same(session: Session, source_id: str, subject: str, delivery_id: str) -> str | None:
    """Another delivery of the same execution that has been worked off, or that came earlier and will be."""
    return session.scalar(
        select(Hook.delivery_id)
        .join(Delivery, Delivery.id == Hook.delivery_id)
        .where(
            Hook.source_id == source_id,
            Hook.subject == subject,
            Hook.delivery_id != delivery_id,
            or_(Delivery.state == "done", and_(Delivery.state != "failed", Hook.delivery_id < delivery_id)),
        )
        .limit(1)
    )


def known_subjects(session: Session, source_id: str, subjects: Sequence[str]) -> set[str]:
    """Which of some executions a source has told of."""
    rows = session.scalars(select(Hook.subject).where(Hook.source_id == source_id, Hook.subject.in_(subjects)))
    return {subject for subject in rows if subject is not None}


def list_repositories(session: Session, source_id: str, since: datetime, limit: int = 50) -> Sequence[str]:
    """The names of the repositories that a source has lately told of."""
    return session.scalars(
        select(Repository.name)
        .join(Delivery, Delivery.repository_id == Repository.id)
        .where(Delivery.source_id == source_id, Delivery.received_at >= since)
        .group_by(Repository.name)
        .order_by(func.max(Delivery.received_at).desc())
        .limit(limit)
    ).all()


def list_latest(session: Session, source_id: str, limit: int = 30) -> Sequence[tuple[Delivery, Hook]]:
    """The latest deliveries of a source with their requests, newest first."""
    rows = session.execute(
        select(Delivery, Hook)
        .join(Hook, Hook.delivery_id == Delivery.id)
        .where(Delivery.source_id == source_id)
        .order_by(Delivery.id.desc())
        .limit(limit)
    )
    return [(delivery, hook) for delivery, hook in rows]


def load_health(session: Session, source_id: str, since: datetime) -> Health:
    """How a source has fared since a time; its last delivery counts however old it is."""
    of_source = Delivery.source_id == source_id
    lately = and_(of_source, Delivery.received_at >= since)
    states = dict(session.execute(select(Delivery.state, func.count()).where(lately).group_by(Delivery.state)).all())
    found = session.scalar(
        select(func.count())
        .select_from(Delivery)
        .join(Hook, Hook.delivery_id == Delivery.id)
        .where(lately, Hook.is_found.is_(True))
    )
    return Health(
        last_at=session.scalar(select(func.max(Delivery.received_at)).where(of_source)),
        received=sum(states.values()),
        failed=states.get("failed", 0),
        waiting=states.get("new", 0) + states.get("working", 0),
        found=found or 0,
    )


def forget_bodies(session: Session, before: datetime, limit: int = 500) -> int:
    """Forget the bodies of requests that came before a time and have been worked off; says how many there were."""
    ids = session.scalars(
        select(Hook.delivery_id)
        .join(Delivery, Delivery.id == Hook.delivery_id)
        .where(
            Delivery.received_at < before,
            Delivery.state.in_(_ENDED),
            or_(Hook.body.is_not(None), Delivery.body_digest.is_not(None)),
        )
        .limit(limit)
    ).all()
    if ids:
        session.execute(
            update(Hook).where(Hook.delivery_id.in_(ids)).values(body=None).execution_options(synchronize_session=False)
        )
        session.execute(
            update(Delivery)
            .where(Delivery.id.in_(ids))
            .values(body_digest=None)
            .execution_options(synchronize_session=False)
        )
    return len(ids)


def find_last_commit(session: Session, repository_id: int, branches: Sequence[str], before: datetime) -> str | None:
    """The commit of the latest successful build on the first of some branches that has one."""
    for branch in branches:
        found = session.scalar(
            select(Build.commit_id)
            .where(
                Build.repository_id == repository_id,
                Build.branch == branch,
                Build.outcome == "succeeded",
                Build.commit_id.is_not(None),
                Build.started_at < before,
            )
            .order_by(Build.started_at.desc(), Build.id.desc())
            .limit(1)
        )
        if found is not None:
            return found
    return None


def link_push(session: Session, team_id: int, digest: str | None, name: str | None, tag: str | None) -> list[int]:
    """Note under which name an image was pushed with the builds of the last week that made it; returns their ids."""
    if digest is None:
        return []
    rows = session.scalars(
        select(BuildImage)
        .join(Repository, Repository.id == BuildImage.repository_id)
        .where(
            Repository.team_id == team_id,
            BuildImage.digest == digest,
            BuildImage.started_at >= utc_now() - _PUSHED_WITHIN,
        )
        .limit(20)
    ).all()
    pushed = f"{name}:{tag}" if name and tag else None
    for row in rows:
        if pushed is not None and pushed not in row.tags:
            row.tags = [*row.tags, pushed]
    return [row.build_id for row in rows]
