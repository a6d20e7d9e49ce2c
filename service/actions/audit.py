"""Reading the audit log: of a team by its owners, of the installation by whoever looks after it."""

import json
from collections.abc import Iterator, Sequence

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from service.auth.permissions import Viewer
from store.models import AuditEvent, Team
from store.queries import audit
from store.queries.audit import AuditFilter

COLUMNS = ("id", "at", "team", "action", "actor", "address", "target", "details")


def load_events(
    session: Session, viewer: Viewer, team: Team, wanted: AuditFilter, *, before: int | None = None, limit: int = 50
) -> Sequence[AuditEvent]:
    """A page of what was done in a team, newest first."""
    require(viewer, team)
    return audit.load_events(session, wanted, before=before, limit=min(limit, 200))


def require(viewer: Viewer, team: Team) -> None:
    """Raise ForbiddenError unless the viewer may read the audit log of a team."""
    viewer.require(team.id, "owner", "read the audit log")


def read_rows(engine: Engine, wanted: AuditFilter, team: str) -> Iterator[list[tuple[object, ...]]]:
    """Yield pages of rows of `COLUMNS`, oldest first."""
    for page in audit.read_events(engine, wanted):
        yield [
            (
                *(event.id, event.at, team, event.action, event.actor, event.address or ""),
                *(event.target, json.dumps(event.details, ensure_ascii=False, sort_keys=True)),
            )
            for event in page
        ]


def describe(event: AuditEvent) -> str:
    """The details of an event as people read them."""
    return ", ".join(
        f"{name.replace('_', ' ')}: {'none' if value is None else value}" for name, value in event.details.items()
    )
