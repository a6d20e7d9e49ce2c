"""Looking after the installation: by administrators on a page, and at the server's terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from cachescope.errors import ConflictError, NotFoundError
from service.auditing import note
from service.auth.permissions import Viewer
from service.settings import ServiceSettings
from store.database import after_commit
from store.models import AuditEvent, Delivery, Heartbeat, User
from store.queries import administration, audit, deliveries
from store.queries.administration import FailedLine, PersonLine, Storage, TeamLine
from store.queries.audit import AuditFilter
from workers.heartbeats import SILENT_AFTER_SECONDS
from workers.hints import sender
from workers.settings import get_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What an administrator sees at a glance."""

    teams: Sequence[TeamLine]
    people: Sequence[PersonLine]
    storage: Storage
    states: Mapping[str, int]
    """State of deliveries → how many."""
    waiting: Mapping[str, int]
    oldest_at: datetime | None
    """When the delivery arrived that has waited longest."""
    processes: Sequence[Heartbeat]
    failed: Sequence[FailedLine]
    limits: Sequence[tuple[str, str]]
    events: Sequence[AuditEvent]


def require(viewer: Viewer) -> None:
    """Raise NotFoundError for whoever does not look after the installation: for them there is no such page."""
    if not viewer.is_administrator:
        raise NotFoundError("There is nothing at this address.")


def load(session: Session, viewer: Viewer, settings: ServiceSettings) -> Installation:
    """Everything that the page of administrators shows."""
    require(viewer)
    return Installation(
        teams=administration.list_teams(session),
        people=administration.list_people(session),
        storage=administration.load_storage(session),
        states=deliveries.count_by_state(session),
        waiting=administration.count_waiting(session),
        oldest_at=deliveries.find_oldest_waiting(session),
        processes=administration.list_processes(session),
        failed=administration.list_failed(session),
        limits=list_limits(settings),
        events=audit.load_events(session, AuditFilter(is_of_installation=True), limit=30),
    )


def is_alive(process: Heartbeat, now: datetime) -> bool:
    """Whether a process has given a sign of life lately."""
    return (now - process.seen_at).total_seconds() <= SILENT_AFTER_SECONDS


def list_limits(settings: ServiceSettings) -> list[tuple[str, str]]:
    """The limits that hold, by the names of their settings."""
    worker = get_settings()
    numbers = {
        "CACHESCOPE_WEB_MAX_LOG_BYTES": settings.max_log_bytes,
        "CACHESCOPE_WEB_MAX_HOOK_BYTES": settings.max_hook_bytes,
        "CACHESCOPE_WEB_SESSION_DAYS": settings.session_days,
        "CACHESCOPE_WEB_TOKEN_REQUESTS_PER_MINUTE": settings.token_requests_per_minute,
        "CACHESCOPE_WEB_ADDRESS_REQUESTS_PER_MINUTE": settings.address_requests_per_minute,
        "CACHESCOPE_WORKER_ATTEMPTS": worker.attempts,
        "CACHESCOPE_WORKER_LEASE_SECONDS": worker.lease_seconds,
    }
    return [(name, f"{value:,.0f}") for name, value in numbers.items()]


def retry_delivery(session: Session, viewer: Viewer, delivery_id: str) -> None:
    """Let the workers try a failed delivery of any team again."""
    require(viewer)
    delivery = session.get(Delivery, delivery_id)
    if delivery is None:
        raise NotFoundError(f"There is no delivery {delivery_id[:40]}.")
    if not deliveries.requeue(session, delivery.id, datetime.now(UTC), "failed"):
        raise ConflictError(f"This delivery is {delivery.state}: only a failed one can be tried again.")
    note(session, viewer, "delivery.retried", team_id=delivery.team_id, target=delivery_id)
    after_commit(session, lambda: sender.send(delivery_id))


def appoint(session: Session, viewer: Viewer | None, user: User | None, *, is_administrator: bool) -> None:
    """Let a person look after the installation, or no longer; somebody always does. None stands for the terminal."""
    if viewer is not None:
        require(viewer)
    if user is None:
        raise NotFoundError("There is no such account.")
    if user.is_administrator == is_administrator:
        return
    if not is_administrator and administration.count_administrators(session) == 1:
        raise ConflictError(f"{user.email} alone looks after the installation. Appoint somebody else first.")
    user.is_administrator = is_administrator
    note(session, viewer, "administrator.changed", target=user.email, is_administrator=is_administrator)
