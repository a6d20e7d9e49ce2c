"""Webhook sources."""

import json
from collections.abc import Sequence
from datetime import datetime
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.models import Source


def create_source(
    session: Session, team_id: int, *, name: str, provider: str, secret: str, repository_id: int | None = None
) -> Source:
    """Add a source with its first secret."""
    source = Source(
        id=str(uuid4()),
        team_id=team_id,
        repository_id=repository_id,
        name=name,
        provider=provider,
        secrets=json.dumps([{"secret": secret, "ends_at": None}]),
    )
    session.add(source)
    session.flush()
    return source


def find_source(session: Session, source_id: str) -> Source | None:
    """The source in a webhook's address, switched off or not; whoever calls still has to check the signature."""
    return session.get(Source, source_id)


def find_team_source(session: Session, team_id: int, source_id: str) -> Source | None:
    """A source of a team."""
    return session.scalar(select(Source).where(Source.id == source_id, Source.team_id == team_id))


def list_sources(session: Session, team_id: int) -> Sequence[Source]:
    """The sources of a team by name."""
    return session.scalars(select(Source).where(Source.team_id == team_id).order_by(Source.name, Source.id)).all()


def secrets_at(source: Source, now: datetime) -> list[str]:
    """The secrets that a signature may be made with at a time, the newest first."""
    return [
        kept["secret"]
        for kept in json.loads(source.secrets)
        if kept["ends_at"] is None or datetime.fromisoformat(kept["ends_at"]) > now
    ]


def rotate_secret(session: Session, source: Source, secret: str, former_until: datetime) -> None:
    """Give a source a new secret; those before it work until a time."""
    kept = [
        {"secret": former["secret"], "ends_at": former["ends_at"] or former_until.isoformat()}
        for former in json.loads(source.secrets)
    ]
    source.secrets = json.dumps([{"secret": secret, "ends_at": None}, *kept][:3])
    session.flush()


def disable_source(session: Session, source: Source, now: datetime | None) -> None:
    """Switch a source off, or on again with None."""
    source.disabled_at = now
    session.flush()


def delete_source(session: Session, source: Source) -> None:
    """Delete a source; what it delivered stays."""
    session.delete(source)
    session.flush()
