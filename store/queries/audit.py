"""The audit log: newest first in pages for people, oldest first as a stream for files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import Engine, Select, select
from sqlalchemy.orm import Session

from store.database import reading
from store.models import AuditEvent

PAGE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which events are asked for; what is None or empty filters nothing."""

    team_id: int | None = None
    is_of_installation: bool = False
    """Only what concerns no single team."""
    action: str = ""
    """An action such as `token.made`, or what it is done to, such as `token`."""
    actor: str = ""
    first: date | None = None
    last: date | None = None


def load_events(
    session: Session, wanted: AuditFilter, *, before: int | None = None, limit: int = 50
) -> Sequence[AuditEvent]:
    """A page of events, newest first: the latest ones, or those before an event."""
    statement = _select(wanted).order_by(AuditEvent.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(AuditEvent.id < before)
    return session.scalars(statement).all()


def read_events(engine: Engine, wanted: AuditFilter) -> Iterator[Sequence[AuditEvent]]:
    """Yield pages of events, oldest first; a page is one short transaction."""
    after = 0
    while True:
        with reading(engine) as session:
            page = session.scalars(
                _select(wanted).where(AuditEvent.id > after).order_by(AuditEvent.id).limit(PAGE)
            ).all()
        if not page:
            return
        yield page
        after = page[-1].id


def _select(wanted: AuditFilter) -> Select[Any]:
    statement = select(AuditEvent)
    if wanted.team_id is not None:
        statement = statement.where(AuditEvent.team_id == wanted.team_id)
    if wanted.is_of_installation:
        statement = statement.where(AuditEvent.team_id.is_(None))
    if wanted.action:
        is_group = "." not in wanted.action
        statement = statement.where(
            AuditEvent.action.startswith(f"{wanted.action}.", autoescape=True)
            if is_group
            else AuditEvent.action == wanted.action
        )
    if wanted.actor:
        statement = statement.where(AuditEvent.actor == wanted.actor)
    if wanted.first is not None:
        statement = statement.where(AuditEvent.at >= datetime.combine(wanted.first, time(), UTC))
    if wanted.last is not None:
        statement = statement.where(AuditEvent.at < datetime.combine(wanted.last, time(), UTC) + timedelta(days=1))
    return statement
