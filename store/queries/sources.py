"""Webhook sources: their secrets, their credentials, and how they fare."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import uuid4

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from store.models import Source

MOST_SECRETS = 5
_LONGEST_REASON = 500


def create_source(
    session: Session,
    team_id: int,
    *,
    name: str,
    provider: str,
    secret: str,
    repository_id: int | None = None,
    scheme: str | None = None,
    base_url: str = "",
    networks: str = "",
) -> Source:
    """Add a source with its first secret."""
    source = Source(
        id=str(uuid4()),
        team_id=team_id,
        repository_id=repository_id,
        name=name,
        provider=provider,
        secrets=json.dumps([{"secret": secret, "ends_at": None}]),
        scheme=scheme,
        base_url=base_url,
        networks=networks,
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


def all_secrets(source: Source) -> tuple[tuple[str, datetime | None], ...]:
    """The secrets of a source, the newest first, each with its end."""
    return tuple(
        (kept["secret"], None if kept["ends_at"] is None else datetime.fromisoformat(kept["ends_at"]))
        for kept in json.loads(source.secrets)
    )


def secrets_at(source: Source, now: datetime) -> list[str]:
    """The secrets that a signature may be made with at a time, the newest first."""
    return [secret for secret, ends_at in all_secrets(source) if ends_at is None or ends_at > now]


def rotate_secret(session: Session, source: Source, secret: str, former_until: datetime) -> None:
    """Give a source a new secret; those before it work until a time."""
    kept = [
        {"secret": former["secret"], "ends_at": former["ends_at"] or former_until.isoformat()}
        for former in json.loads(source.secrets)
    ]
    source.secrets = json.dumps([{"secret": secret, "ends_at": None}, *kept][:MOST_SECRETS])
    session.flush()


def disable_source(session: Session, source: Source, now: datetime | None) -> None:
    """Switch a source off, or on again with None."""
    source.disabled_at = now
    session.flush()


def delete_source(session: Session, source: Source) -> None:
    """Delete a source; what it delivered stays."""
    session.delete(source)
    session.flush()


def load_credentials(source: Source, purpose: str = "read") -> dict[str, str]:
    """What a source asks its CI system with, by field; `purpose` is read or write. Empty where nothing was given."""
    kept = source.read_credentials if purpose == "read" else source.write_credentials
    return dict(json.loads(kept)) if kept else {}


def save_credentials(session: Session, source: Source, purpose: str, credentials: Mapping[str, str]) -> None:
    """Replace the credentials of a source; none are forgotten as a whole."""
    kept = json.dumps(dict(credentials)) if credentials else None
    if purpose == "read":
        source.read_credentials = kept
    else:
        source.write_credentials = kept
    source.problem, source.problem_at, source.resume_at = None, None, None
    session.flush()


def leave_alone(session: Session, source_id: str, until: datetime) -> None:
    """Ask nothing of the CI system before a time."""
    session.execute(
        update(Source)
        .where(Source.id == source_id, or_(Source.resume_at.is_(None), Source.resume_at < until))
        .values(resume_at=until)
        .execution_options(synchronize_session=False)
    )


def note_problem(session: Session, source_id: str, problem: str | None, now: datetime) -> None:
    """Keep why the last request to a CI system failed; None says that it went well."""
    changed = Source.problem.is_not(None) if problem is None else Source.id == source_id
    session.execute(
        update(Source)
        .where(Source.id == source_id, changed)
        .values(problem=problem and problem[:_LONGEST_REASON], problem_at=None if problem is None else now)
        .execution_options(synchronize_session=False)
    )


def count_refused(session: Session, source_id: str, count: int, reason: str, now: datetime) -> None:
    """Add refused requests, of which the last was refused for a reason."""
    session.execute(
        update(Source)
        .where(Source.id == source_id)
        .values(refused=Source.refused + count, refused_at=now, refused_reason=reason[:_LONGEST_REASON])
        .execution_options(synchronize_session=False)
    )


def claim_to_ask(session: Session, providers: Sequence[str], now: datetime, every: timedelta) -> Source | None:
    """Take the source that has waited longest to be asked for its recent runs; None when each was asked lately."""
    due = or_(Source.asked_at.is_(None), Source.asked_at <= now - every)
    is_free = or_(Source.resume_at.is_(None), Source.resume_at <= now)
    waiting = (
        select(Source.id)
        .where(Source.provider.in_(providers), Source.disabled_at.is_(None), due, is_free)
        .order_by(Source.asked_at.asc().nulls_first(), Source.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    taken = session.scalar(
        update(Source)
        .where(Source.id == waiting.scalar_subquery(), due)
        .values(asked_at=now)
        .returning(Source.id)
        .execution_options(synchronize_session=False)
    )
    return session.get(Source, taken, populate_existing=True) if taken else None


def note_asked(session: Session, source_id: str, until: datetime) -> None:
    """Keep that everything which ended before a time has been seen."""
    session.execute(
        update(Source)
        .where(Source.id == source_id)
        .values(asked_until=until)
        .execution_options(synchronize_session=False)
    )
