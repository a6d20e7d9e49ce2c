"""Fill a team named Demo from real logs, their dates moved up to today; `--remove` takes it away again."""

import logging
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import make_url, select
from sqlalchemy.orm import Session

from cachescope.errors import SettingsError
from cachescope.surroundings import FileMark, Surroundings
from service.demo.archive import FIRST_DAY, DemoBuild, read_archive
from service.local import adopt_local_settings
from store import migrations
from store.database import get_engine, transaction
from store.logs import open_logs
from store.models import Team, User
from store.queries import deliveries, evidence, logs, repositories, teams
from store.settings import get_settings
from workers import pipeline
from workers.logs import configure_logging
from workers.parameters import read_parameters
from workers.receiving import receive_log
from workers.schedule import roll_up_dirty_days
from workers.tasks.advising import advise_due

SLUG, NAME = "demo", "Demo"
CAP_BYTES = 64 * 1024 * 1024
_LEASE = timedelta(minutes=5)
_STAMP = re.compile(rb"^(\d{4})-(\d\d)-(\d\d)(?=T\d\d:)", re.MULTILINE)


def command(
    remove: Annotated[bool, typer.Option("--remove", help="Delete the team and everything in it.")] = False,
) -> None:
    """Fill a team named Demo from real logs, their dates moved up to today, for everybody who has an account here."""
    adopt_local_settings()
    configure_logging(logging.WARNING)
    refuse_without_database()
    if remove:
        print("The team Demo is gone." if remove_demo() else "There is no team Demo here.")
        return
    count = fill_demo(datetime.now(UTC))
    if count:
        print(f"The team Demo holds {count} new builds. `cachescope demo --remove` takes it away.")
    else:
        print("The team Demo is there already. `cachescope demo --remove` takes it away.")


def refuse_without_database() -> None:
    """Raise SettingsError where no server has made its tables: a demo that nobody serves helps nobody."""
    url = make_url(get_settings().resolved_database_url)
    is_missing = url.get_backend_name() == "sqlite" and not Path(url.database or "").exists()
    if is_missing or not migrations.is_current(get_engine()):
        raise SettingsError(
            f"{url.render_as_string()} is no database that this version of Cachescope serves. Start the server first, "
            "then call this where `up` runs, or with its CACHESCOPE_DATA or CACHESCOPE_DATABASE_URL."
        )


def fill_demo(now: datetime, archive: Sequence[DemoBuild] | None = None) -> int:
    """Put every log through what an upload goes through, in the order of time; returns how many were new.

    The newest build lies within the last day. What an earlier call has stored stays as it is.
    """
    archive = list(read_archive()) if archive is None else archive
    first_day = (now - archive[-1].offset).replace(hour=0, minute=0, second=0, microsecond=0)
    with transaction() as session:
        team = teams.find_demo(session) or teams.create_team(session, slug=free_slug(session), name=NAME, is_demo=True)
        for user_id in session.scalars(select(User.id)):
            teams.add_member(session, team.id, user_id, "viewer")
        team_id = team.id
    count = sum(read_one(team_id, f"demo-{number:04}", build, first_day) for number, build in enumerate(archive, 1))
    roll_up_dirty_days()
    advise_due()
    return count


def read_one(team_id: int, key: str, build: DemoBuild, first_day: datetime) -> bool:
    """Accept one log and read it at once; tells whether it was new."""
    moment = first_day + build.offset
    received = receive_log(open_logs(), b"".join(moved(build.log.encode(), first_day)), cap_bytes=CAP_BYTES)
    delivery_id = deliveries.make_id()
    said = {
        "repository": build.repository,
        "commit": build.commit,
        "branch": build.branch,
        "default_branch": "main",
        "pull_request": build.pull_request,
        "job": build.job,
        "runner": build.runner,
        "image": build.image,
        "dockerfile": "Dockerfile",
        "outcome": build.outcome,
    }
    with transaction() as session:
        logs.save_log(session, received.written)
        repository = repositories.get_or_create_repository(session, team_id, build.repository, default_branch="main")
        deliveries.insert(
            session,
            {
                "id": delivery_id,
                "team_id": team_id,
                "repository_id": repository.id,
                "kind": "demo",
                "idempotency_key": key,
                "parameters": read_parameters(said),
                "log_digest": received.written.digest,
                "log_bytes": received.written.unpacked_bytes,
                "redactions": received.redactions,
                "received_at": moment,
                # Read here and in order. Whoever else is free may take it only if this program dies.
                "next_at": datetime.now(UTC) + _LEASE,
            },
        )
        delivery = deliveries.find_by_key(session, team_id, "demo", key)
        if delivery is not None and delivery.id == delivery_id:
            evidence.save_evidence(session, delivery_id, repository.id, surroundings(build))
        held = deliveries.claim(session, delivery.id, datetime.now(UTC), _LEASE) if delivery else None
    if held is None:
        return False
    pipeline.work_off(held)
    return True


def surroundings(build: DemoBuild) -> Surroundings:
    """Return what a CI provider would tell about a commit and how it was built."""
    return Surroundings(
        dockerfiles={"": build.dockerfile},
        dockerfile_path="Dockerfile",
        dockerignore=build.dockerignore,
        command=build.command,
        files={path: FileMark(digest, 0) for path, digest in build.files.items()},
    )


def moved(log: bytes, first_day: datetime) -> Iterator[bytes]:
    """Yield a log with the dates of its stamps moved to where its first day now lies; times of day stay."""
    end = 0
    for match in _STAMP.finditer(log):
        year, month, day = map(int, match.groups())
        date = first_day + (datetime(year, month, day, tzinfo=UTC) - FIRST_DAY)
        yield log[end : match.start()] + date.strftime("%Y-%m-%d").encode()
        end = match.end()
    yield log[end:]


def free_slug(session: Session) -> str:
    """Return `demo`, or the like where a team of one's own has that slug."""
    taken = set(session.scalars(select(Team.slug).where(Team.slug.startswith(SLUG))))
    return next(slug for slug in (SLUG, *(f"{SLUG}-{number}" for number in range(2, 10_000))) if slug not in taken)


def remove_demo() -> bool:
    """Delete the demo team with everything it owns; tells whether there was one.

    Its raw logs go with the next round of the scheduler's housekeeping.
    """
    with transaction() as session:
        team = teams.find_demo(session)
        if team is None:
            return False
        teams.delete_team(session, team)
    return True
