"""Measures images at their registries: what was pushed, built or is due by its schedule, each at least once.

The row in the database is the truth. A worker that dies leaves a lease behind; what a registry cannot answer now is
tried again with growing pauses, and what no other time would mend ends as failed with one sentence.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import uniform

import structlog
from sqlalchemy.orm import Session

from cachescope.errors import CachescopeError
from integrations.ci.base import PushedImage
from integrations.http import read_networks
from integrations.images import IMAGES
from integrations.images.base import Credentials, MeasuringError, Options
from store.database import after_commit, reading, transaction
from store.models import Build, Measuring, SizedImage
from store.queries import image_sizes, measurings
from store.queries.measurings import MeasuringClaim
from workers.app import app
from workers.feedback import ask_again
from workers.tasks.budgeting import watch_budgets
from workers.tasks.detecting import watch_again

logger = structlog.get_logger(__name__)

ATTEMPTS = 8
"""With pauses of 5 s, doubled each time up to an hour, the last try comes about ten minutes after the first."""
FIRST_PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(hours=1)
LEASE = timedelta(minutes=5)
MOST_IN_A_ROW = 50


@app.task(name="measure")
def measure() -> None:
    """Measure what is due."""
    for _ in range(MOST_IN_A_ROW):
        if not measure_next():
            return
    hint()


def hint() -> None:
    """Wake a worker; without a queue the scheduler is one."""
    try:
        measure.apply_async(retry=False)
    except Exception as error:  # noqa: BLE001 - whatever a broker raises: the hint is lost, and that is all
        logger.warning("queue_unreachable", error=str(error)[:300])


def measure_overdue() -> None:
    """Ask for what the schedules want, and measure what no worker has come for."""
    now = datetime.now(UTC)
    with transaction() as session:
        asked = measurings.request_scheduled(session, now)
    if asked:
        hint()
    while measure_next(timedelta(seconds=1)):
        pass


def measure_next(overdue: timedelta = timedelta(0)) -> bool:
    """Measure what has been due longest; False when nothing is."""
    now = datetime.now(UTC)
    with reading() as session:
        if not measurings.is_any_due(session, now - overdue):
            return False
    with transaction() as session:
        held = measurings.claim_next(session, now - overdue, LEASE + overdue)
    if held is None:
        return False
    with structlog.contextvars.bound_contextvars(measuring_id=held.measuring_id, attempt=held.attempts):
        _work_off(held)
    return True


def _work_off(held: MeasuringClaim) -> None:
    try:
        _measure(held)
    except MeasuringError as error:
        if error.again:
            _try_later(held, str(error), error.pause_seconds)
        else:
            _give_up(held, str(error))
    except CachescopeError as error:
        _give_up(held, str(error))
    except Exception as error:
        logger.exception("measuring_failed")
        _try_later(held, f"Measuring failed: {type(error).__name__}: {str(error)[:300]}", None)


def _measure(held: MeasuringClaim) -> None:
    with reading() as session:
        measuring = session.get_one(Measuring, held.measuring_id)
        sized = session.get_one(SizedImage, measuring.sized_image_id)
        wanted, tag, build_id, seen_at = measuring.wanted, measuring.tag, measuring.build_id, measuring.created_at
    mark = "@" if wanted.startswith("sha256:") else ":"
    credentials = Credentials(user=sized.user, password=sized.password or "") if sized.user else None
    options = Options(insecure=sized.insecure, credentials=credentials, networks=read_networks(sized.networks))
    found = IMAGES["oci_registry"].measure(f"{sized.name}{mark}{wanted}", options)
    tag = tag or (wanted if mark == ":" else None)
    reference = f"{sized.name}:{tag}" if tag else found.image.reference
    with transaction() as session:
        sized = session.get_one(SizedImage, sized.id)
        image = replace(found.image, reference=reference)
        release = image_sizes.release_of(session, sized.team_id, image, tag=tag, seen_at=seen_at)
        if build_id is not None and release.build_id is None and (build := session.get(Build, build_id)):
            release = replace(release, build_id=build.id, commit_id=build.commit_id, branch=build.branch)
        image_sizes.save_measured(session, sized, image, way="registry", release=release)
        if release.build_id is not None:
            ask_again(session, release.build_id)
            watch_again(session, release.build_id)
        watch_budgets(session, sized)
        warnings = " ".join(image.warnings)[:2000] or None
        if not measurings.finish(session, held, "done", datetime.now(UTC), error=warnings):
            logger.warning("lease_lost")
    logger.info("measured", platforms=len(found.image.platforms))


def _give_up(held: MeasuringClaim, reason: str) -> None:
    logger.warning("measuring_given_up", reason=reason)
    with transaction() as session:
        measurings.finish(session, held, "failed", datetime.now(UTC), error=reason[:2000])


def _try_later(held: MeasuringClaim, reason: str, pause_seconds: float | None) -> None:
    if held.attempts >= ATTEMPTS:
        _give_up(held, f"{reason} It was tried {held.attempts} times.")
        return
    pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (held.attempts - 1)) * uniform(0.8, 1.2)  # noqa: S311 - spreads retries
    pause = max(pause, timedelta(seconds=pause_seconds or 0))
    with transaction() as session:
        measurings.put_back(session, held, datetime.now(UTC) + pause, reason[:2000])


def request_pushed(session: Session, team_id: int, images: Iterable[PushedImage]) -> int:
    """Ask for what a registry says was pushed, where the team follows it there; returns how many images."""
    asked = 0
    for pushed in images:
        wanted = pushed.digest or pushed.tag
        if pushed.name is None or wanted is None:
            continue
        for sized in image_sizes.find_registry_images(session, team_id, pushed.name):
            now = datetime.now(UTC)
            asked += 1
            measurings.request_measuring(session, sized, wanted, "push", now, tag=pushed.tag)
    if asked:
        after_commit(session, hint)
    return asked


def request_built(session: Session, team_id: int, build_ids: Sequence[int]) -> int:
    """Ask for the images that builds say they pushed, where the team follows them at a registry."""
    asked = 0
    for build_id in build_ids:
        build = session.get_one(Build, build_id)
        for image in build.images:
            for tag in image.get("tags") or [] if isinstance(image, dict) else []:
                name = image_sizes.image_name(str(tag))
                for sized in image_sizes.find_registry_images(session, team_id, name):
                    wanted = str(tag).removeprefix(f"{name}:") if ":" in str(tag)[len(name) :] else "latest"
                    now = datetime.now(UTC)
                    measurings.request_measuring(session, sized, wanted, "build", now, tag=wanted, build_id=build_id)
                    asked += 1
    if asked:
        after_commit(session, hint)
    return asked
