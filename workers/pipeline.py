"""What happens to a delivery, in order: unwrap the webhook, read the log, save its builds and be done."""

from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from random import uniform

import structlog

from cachescope.errors import CachescopeError, LeaseLostError
from cachescope.reading import read_builds
from integrations.ci._api import DeniedError, NotYetError, PausedError
from integrations.ci.base import Ignored
from integrations.http import UnreachableError
from store.database import reading, transaction
from store.logs import open_logs, read_log
from store.models.deliveries import Delivery
from store.models.repositories import Repository
from store.queries import deliveries, evidence, hooks, readings
from store.queries.deliveries import Claim
from workers.feedback import ask_for_feedback
from workers.gathering import gather
from workers.hooks import Noted, unwrap_hook
from workers.leases import kept_lease
from workers.settings import get_settings
from workers.tasks.detecting import watch_builds
from workers.tasks.measuring import request_built

logger = structlog.get_logger(__name__)

LONGEST_PAUSE = timedelta(hours=1)
NOT_YET_SECONDS = (5.0, 15.0, 45.0, 120.0, 300.0, 900.0)
"""The pauses before a log that is not there yet is asked for again; after the last one it is given up."""
PATIENCE = timedelta(hours=24)
"""For so long a CI system is asked again that does not answer, or refuses our credentials."""
LONGEST_OUTAGE_PAUSE = timedelta(minutes=10)
NO_BUILD = "This log holds no image build that we can read, so it has no page of its own."


@cache
def reader_version() -> str:
    """The version that reads logs here, kept with each delivery: `admin reread` finds those that an older one read."""
    try:
        return version("cachescope")
    except PackageNotFoundError:  # run from a folder that was never installed
        return "unreleased"


def work_off(held: Claim) -> None:
    """Bring one claimed delivery to its end; whatever goes wrong is written to it and never raised."""
    with structlog.contextvars.bound_contextvars(delivery_id=held.delivery_id, attempt=held.attempts):
        try:
            if held.attempts > get_settings().attempts:
                _fail(
                    held,
                    f"The worker stopped {held.attempts - 1} times while it read this log. "
                    "Try again, or send a shorter log.",
                )
                return
            with kept_lease(held, timedelta(seconds=get_settings().lease_seconds)):
                _read_and_save(held)
        except LeaseLostError:
            logger.warning("lease_lost")
        except (NotYetError, PausedError, UnreachableError, DeniedError) as error:
            _wait(held, error)
        except CachescopeError as error:  # ours: the same bytes would fail again
            _fail(held, str(error))
        except Exception as error:
            logger.exception("ingest_failed")
            _try_later(held, error)


def _read_and_save(held: Claim) -> None:
    with reading() as session:
        delivery = session.get_one(Delivery, held.delivery_id)
        scope = session.get(Repository, delivery.repository_id) if delivery.repository_id is not None else None
    if delivery.log_digest is None:
        unwrapped = unwrap_hook(delivery, scope)
        match unwrapped:
            case Ignored():
                _finish(held, "ignored", unwrapped.reason)
                return
            case Noted():
                _finish(held, "done", unwrapped.what)
                return
        with transaction() as session:
            delivery = unwrapped.save(session, held)
    if delivery.log_digest is None or delivery.repository_id is None:
        raise CachescopeError("This delivery has no log to read.")
    log = read_builds(read_log(open_logs(), delivery.log_digest))
    found = gather(delivery, log) if log.builds else None
    # What was fetched only to find that nothing was built is forgotten; that it was looked at is not.
    is_of_no_use = not log.builds and delivery.kind == "hook"
    with transaction() as session:
        # First the fence: whoever lost the delivery stops here, and nobody else can take it until this commits.
        deliveries.finish(
            session,
            held,
            state="done",
            error=None if log.builds else NO_BUILD,
            finished_at=datetime.now(UTC),
            **({"log_digest": None} if is_of_no_use else {}),
        )
        delivery = session.get_one(Delivery, held.delivery_id, populate_existing=True)
        repository = session.get_one(Repository, delivery.repository_id)
        if found is not None:
            evidence.save_evidence(session, delivery.id, repository.id, found)
        saved = readings.save_reading(session, delivery, repository, log, read_with=reader_version())
        ask_for_feedback(session, repository, delivery)
        watch_builds(session, repository, saved)
        request_built(session, repository.team_id, saved)
    logger.info("ingested", builds=len(log.builds), lines=log.lines)


def _finish(held: Claim, state: str, reason: str) -> None:
    try:
        with transaction() as session:
            deliveries.finish(session, held, state=state, error=reason[:2000], finished_at=datetime.now(UTC))
    except LeaseLostError:
        logger.warning("lease_lost")


def _fail(held: Claim, reason: str) -> None:
    logger.warning("delivery_failed", reason=reason)
    _finish(held, "failed", reason)


def _wait(held: Claim, error: CachescopeError) -> None:
    """Put a delivery back until what it waits for may be there; this is no failed attempt of ours."""
    now = datetime.now(UTC)
    with reading() as session:
        delivery, hook = session.get_one(Delivery, held.delivery_id), hooks.find_hook(session, held.delivery_id)
    waited = now - delivery.received_at
    match error:
        case NotYetError():
            tries = hook.tries if hook is not None else 0
            pause = timedelta(seconds=NOT_YET_SECONDS[tries]) if tries < len(NOT_YET_SECONDS) else None
        case PausedError():
            pause = timedelta(seconds=60 if error.seconds is None else max(error.seconds, 1.0))
        case _:
            pause = min(LONGEST_OUTAGE_PAUSE, max(timedelta(seconds=5), waited / 4)) if waited < PATIENCE else None
    if pause is None:
        was_canceled = delivery.parameters.get("outcome") == "canceled"
        words = "It was asked for again and again." if not was_canceled else "The job was canceled, so none may exist."
        _finish(held, "failed", f"{error} {words}")
        return
    try:
        with transaction() as session:
            if isinstance(error, NotYetError):
                hooks.count_try(session, held.delivery_id)
            deliveries.finish(
                session,
                held,
                state="new",
                attempts=1,
                error=str(error)[:2000],
                next_at=now + pause * uniform(1.0, 1.2),  # noqa: S311 - spreads retries
            )
    except LeaseLostError:
        logger.warning("lease_lost")


def _try_later(held: Claim, error: Exception) -> None:
    """Put a delivery back with a pause that doubles at each attempt, or give it up after the last one."""
    reason = f"Reading this log failed: {type(error).__name__}: {error}"
    try:
        if held.attempts >= get_settings().attempts:
            _fail(held, f"{reason}. It was tried {held.attempts} times.")
            return
        pause = min(LONGEST_PAUSE, timedelta(seconds=get_settings().retry_seconds * 2 ** (held.attempts - 1)))
        with transaction() as session:
            deliveries.finish(
                session,
                held,
                state="new",
                error=reason[:2000],
                next_at=datetime.now(UTC) + pause * uniform(0.8, 1.2),  # noqa: S311 - to spread retries, not to guard anything
            )
    except LeaseLostError:
        logger.warning("lease_lost")
    except Exception:  # the database itself is away: the lease ends and the delivery is due again
        logger.exception("delivery_not_put_back")
