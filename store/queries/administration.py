"""The whole installation in figures: people, teams with what they store, the queue, and what failed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from store.models import (
    Delivery,
    FeedbackTask,
    Heartbeat,
    Measuring,
    Membership,
    Message,
    Repository,
    StoredLog,
    Team,
    User,
    UserSession,
)

MOST = 500
"""Rows of one list, at most."""
_WAITING = ("new", "working")


@dataclass(frozen=True, slots=True)
class TeamLine:
    """A team with what it holds."""

    id: int
    slug: str
    name: str
    members: int
    repositories: int
    deliveries: int
    log_bytes: int
    """As stored; a log that two teams sent counts for both."""
    last_at: datetime | None


@dataclass(frozen=True, slots=True)
class PersonLine:
    """A person with an account."""

    id: int
    email: str
    name: str
    is_administrator: bool
    teams: int
    seen_at: datetime | None


@dataclass(frozen=True, slots=True)
class FailedLine:
    """A delivery that failed, with its team."""

    id: str
    team: str
    kind: str
    attempts: int
    error: str | None
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """What the installation takes up."""

    database_bytes: int
    logs: int
    log_bytes: int
    unpacked_bytes: int


def list_teams(session: Session) -> list[TeamLine]:
    """All teams, those that store most first."""
    members = dict(session.execute(select(Membership.team_id, func.count()).group_by(Membership.team_id)).all())
    repositories = dict(session.execute(select(Repository.team_id, func.count()).group_by(Repository.team_id)).all())
    received = {
        team_id: (count, last_at)
        for team_id, count, last_at in session.execute(
            select(Delivery.team_id, func.count(), func.max(Delivery.received_at)).group_by(Delivery.team_id)
        )
    }
    own = select(Delivery.team_id, Delivery.log_digest).where(Delivery.log_digest.is_not(None)).distinct().subquery()
    stored: dict[int, int] = dict(
        session.execute(
            select(own.c.team_id, func.sum(StoredLog.stored_bytes))
            .join(StoredLog, StoredLog.digest == own.c.log_digest)
            .group_by(own.c.team_id)
        ).all()
    )
    lines = [
        TeamLine(
            *(team.id, team.slug, team.name, members.get(team.id, 0), repositories.get(team.id, 0)),
            *(received.get(team.id, (0, None))[0], int(stored.get(team.id) or 0), received.get(team.id, (0, None))[1]),
        )
        for team in session.scalars(select(Team).where(Team.deleted_at.is_(None)))
    ]
    return sorted(lines, key=lambda line: (-line.log_bytes, line.slug))[:MOST]


def list_people(session: Session) -> list[PersonLine]:
    """All people by address, with when a browser of theirs was last seen."""
    seen = select(func.max(UserSession.last_seen_at)).where(UserSession.user_id == User.id).scalar_subquery()
    teams = select(func.count()).where(Membership.user_id == User.id).scalar_subquery()
    columns = (User.id, User.email, User.name, User.is_administrator, teams, seen)
    return [PersonLine(*row) for row in session.execute(select(*columns).order_by(User.email).limit(MOST))]


def count_administrators(session: Session) -> int:
    """How many people look after the installation."""
    return session.scalar(select(func.count()).select_from(User).where(User.is_administrator)) or 0


def load_storage(session: Session) -> Storage:
    """How large the database is, and the raw logs beside it."""
    if session.get_bind().dialect.name == "sqlite":
        size = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
    else:
        size = "SELECT pg_database_size(current_database())"
    count, stored, unpacked = session.execute(
        select(func.count(), func.sum(StoredLog.stored_bytes), func.sum(StoredLog.unpacked_bytes))
    ).one()
    return Storage(
        database_bytes=int(session.scalar(text(size)) or 0),
        logs=count,
        log_bytes=int(stored or 0),
        unpacked_bytes=int(unpacked or 0),
    )


def count_waiting(session: Session) -> Mapping[str, int]:
    """What waits for workers, by what it is."""
    counted = {
        name: session.scalar(select(func.count()).select_from(table).where(table.state.in_(_WAITING))) or 0
        for name, table in (
            ("logs to read", Delivery),
            ("images to measure", Measuring),
            ("messages to send", Message),
            ("forges to tell", FeedbackTask),
        )
    }
    hidden = session.scalar(select(func.count()).select_from(Team).where(Team.deleted_at.is_not(None))) or 0
    return counted | {"teams and repositories to delete": hidden}


def list_processes(session: Session) -> Sequence[Heartbeat]:
    """The workers and schedulers that gave a sign of life within a day, the latest first."""
    return session.scalars(select(Heartbeat).order_by(Heartbeat.seen_at.desc(), Heartbeat.id)).all()


def list_failed(session: Session, limit: int = 50) -> list[FailedLine]:
    """The latest deliveries that failed, of all teams."""
    columns = (Delivery.id, Team.slug, Delivery.kind, Delivery.attempts, Delivery.error, Delivery.received_at)
    statement = (
        select(*columns)
        .join(Team, Team.id == Delivery.team_id)
        .where(Delivery.state == "failed", Team.deleted_at.is_(None))
        .order_by(Delivery.received_at.desc(), Delivery.id.desc())
        .limit(limit)
    )
    return [FailedLine(*row) for row in session.execute(statement)]
