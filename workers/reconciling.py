"""Asking CI systems for what they did not tell: GitHub, Gitea and Buildbot send a webhook once and never again.

Every few minutes each source is asked for the runs that ended lately; those that no webhook told of become deliveries
like any other. An outage of ours, however long, so costs nothing that the CI system still knows.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import islice

import structlog

from cachescope.errors import CachescopeError
from integrations.ci.base import CIRun
from store.database import after_commit, reading, transaction
from store.models import Repository
from store.models.sources import Source
from store.queries import deliveries, hooks, sources
from workers.asking import asking, reader_of
from workers.hints import sender
from workers.runs import write_run

logger = structlog.get_logger(__name__)

PROVIDERS = ("buildbot", "forgejo", "gitea", "github")
"""Those that never send a webhook again by themselves."""
EVERY = timedelta(minutes=5)
OVERLAP = timedelta(minutes=30)
"""What ended shortly before the last question is asked for again: lists lag behind."""
FIRST = timedelta(hours=3)
LONGEST = timedelta(days=3)
GRACE = timedelta(minutes=2)
"""What ended just now is left to its webhook, which may be on its way."""
MOST = 500
_RECENT = timedelta(days=90)


def reconcile_next(grace: timedelta = GRACE) -> str | None:
    """Ask the source that has waited longest; returns its id, or None when each was asked lately."""
    now = datetime.now(UTC)
    with transaction() as session:
        source = sources.claim_to_ask(session, PROVIDERS, now, EVERY)
        if source is None:
            return None
        repositories = set(hooks.list_repositories(session, source.id, now - _RECENT))
        if source.repository_id is not None:
            repositories.add(session.get_one(Repository, source.repository_id).name)
    reader = reader_of(source)
    if reader is None:
        return source.id
    since = max((source.asked_until or now - FIRST) - OVERLAP, now - LONGEST)
    try:
        with asking(source, reader) as api:
            found = list(islice(reader.list_finished(api, sorted(repositories), since), MOST))
    except CachescopeError as error:
        logger.warning("not_reconciled", source_id=source.id, reason=str(error))
        return source.id
    missed = save_missed(source, [run for run in found if _is_settled(run, now - grace)], now)
    with transaction() as session:
        sources.note_asked(session, source.id, now - grace)
    logger.info("reconciled", source_id=source.id, found=len(found), missed=missed)
    return source.id


def save_missed(source: Source, runs: Iterable[CIRun], now: datetime) -> int:
    """Make deliveries of the runs that no webhook told of; says how many there were."""
    wanted = {run.subject: run for run in runs if run.subject is not None}
    with reading() as session:
        known = hooks.known_subjects(session, source.id, list(wanted))
    missed = 0
    for subject, run in wanted.items():
        if subject in known:
            continue
        delivery_id = deliveries.make_id()
        with transaction() as session:
            is_new = deliveries.insert(
                session,
                {
                    "id": delivery_id,
                    "team_id": source.team_id,
                    "repository_id": source.repository_id,
                    "source_id": source.id,
                    "kind": "hook",
                    "idempotency_key": f"{source.id}:found {subject}",
                    "parameters": {"provider": source.provider},
                    "received_at": now,
                    "next_at": now,
                },
            )
            if is_new:
                hooks.insert_hook(
                    session,
                    {
                        "delivery_id": delivery_id,
                        "source_id": source.id,
                        "subject": subject,
                        "headers": {},
                        "body": None,
                        "body_bytes": 0,
                        "run": write_run(run),
                        "is_found": True,
                        "tries": 0,
                    },
                )
                after_commit(session, lambda: sender.send(None))
        missed += is_new
    return missed


def _is_settled(run: CIRun, before: datetime) -> bool:
    return run.finished_at is None or run.finished_at <= before
