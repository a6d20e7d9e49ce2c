"""Feeds the builds of a log to the detector of their images, and brings the incidents in line with what it finds.

Runs inside the transaction that saves the builds: a build is never stored without having been watched, and a worker
that dies leaves neither. What is to be told becomes messages in that transaction too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy.orm import Session

from cachescope.expectations import ObservedBuild
from cachescope.model import Build as ReadBuild
from cachescope.observing import observe_build
from cachescope.watching import Watch
from store.database import reading, transaction
from store.models import Build, Repository, Run
from store.queries import builds, incidents
from store.queries.incidents import Change
from workers import telling

logger = structlog.get_logger(__name__)

HISTORY = timedelta(days=30)


def watch_again(session: Session, build_id: int) -> None:
    """Watch a build once more now that the size of its image is known."""
    build = session.get(Build, build_id)
    repository = session.get(Repository, build.repository_id) if build is not None else None
    if repository is not None:
        watch_builds(session, repository, [build_id])


def watch_builds(session: Session, repository: Repository, build_ids: Sequence[int]) -> None:
    """Watch builds that were saved just now; a fault here is logged and costs no build."""
    try:
        with session.begin_nested():
            incidents.lock(session, repository.id)
            changes = [
                change
                for build_id in build_ids
                for change in _watch(session, repository, session.get_one(Build, build_id))
            ]
            telling.tell(session, changes)
    except Exception:
        logger.exception("detecting_failed", repository_id=repository.id)
        return
    for change in changes:
        if change.what == "unchanged":
            continue
        logger.info("incident", incident_id=change.incident.id, kind=change.incident.kind, what=change.what)


def _watch(session: Session, repository: Repository, build: Build) -> list[Change]:
    changes: list[Change] = []
    for image_id, observed in _observe_images(session, repository, build):
        changes += _watch_image(session, repository, build, image_id, observed)
    return changes


def _observe_images(
    session: Session, repository: Repository, build: Build, only: int | None = None
) -> Iterator[tuple[int, ObservedBuild]]:
    """Yield what the detector sees of each image of a build, or of one of them."""
    rows = builds.load_steps(session, build.id)
    members: dict[int, list[int]] = {}
    for position, (step, _) in enumerate(rows):
        if step.image_id is not None and only in {None, step.image_id}:
            members.setdefault(step.image_id, []).append(position)
    if not members:
        return
    read = builds.read_build(build, rows)
    run = session.get_one(Run, build.run_id)
    # Which of several images was measured cannot be told by what the log prints.
    is_alone = len({step.image_id for step, _ in rows if step.image_id is not None}) == 1
    size_bytes = incidents.find_size(session, build.id) if is_alone else None
    for image_id, positions in sorted(members.items()):
        observed = _observe(repository, build, read, run, positions)
        if observed is not None:
            yield image_id, replace(observed, size_bytes=size_bytes)


def _observe(
    repository: Repository, build: Build, read: ReadBuild, run: Run, positions: Sequence[int]
) -> ObservedBuild | None:
    return observe_build(
        read,
        build_id=str(build.id),
        repository=repository.name,
        at=ended_at(build).timestamp(),
        branch=build.branch or repository.default_branch,
        is_default_branch=build.branch_class == "default",
        commit=build.commit_id,
        runner=build.runner,
        is_bot=run.is_bot,
        positions=frozenset(positions),
    )


def _watch_image(
    session: Session, repository: Repository, build: Build, image_id: int, observed: ObservedBuild
) -> list[Change]:
    watch = incidents.load_watch(session, image_id) or replay(session, repository, image_id, build)
    if not watch.take(observed):
        return []
    incidents.save_watch(session, repository.id, image_id, watch)
    return incidents.bring_in_line(session, repository, image_id, watch, build)


def replay(session: Session, repository: Repository, image_id: int, before: Build) -> Watch:
    """Make the detector's memory of an image from its stored builds of the last 30 days: the same as they once made."""
    watch = Watch()
    for build in incidents.list_history(session, image_id, before, before.started_at - HISTORY):
        for _, observed in _observe_images(session, repository, build, image_id):
            watch.take(observed)
    return watch


def ended_at(build: Build) -> datetime:
    """When a build was complete, as far as anybody told."""
    return build.finished_at or build.started_at


def keep_incidents() -> None:
    """Do what the clock asks for: end what was muted until now, remind, send digests."""
    now = datetime.now(UTC)
    with reading() as session:
        is_quiet = not incidents.load_muted_past(session, now, 1)
    if not is_quiet:
        with transaction() as session:
            for incident in incidents.load_muted_past(session, now):
                incident.state, incident.muted_until = "open", None
                incidents.add_event(session, incident, "unmuted", at=now, note="Its time was over.")
    telling.remind(now - timedelta(days=7), now)
    telling.write_digests(now)
