"""How long data is kept: the rules of teams and repositories, and forgetting what is older, a part at a time.

The sums of days stay. Before the first build or step of a day goes, the day is summed up for the last time, and
`builds_from` and `steps_from` of the repository say from which day on sums may still be worked out from rows.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from store.models import Build, BuildImage, Delivery, DirtyDay, Incident, Repository, Retention, Step, Team
from store.models.incidents import ACTIVE_STATES
from store.queries.deletions import BUILDS, ROWS, Emptied, delete_build_rows, delete_deliveries, describe_logs
from store.queries.rollups import recompute_day
from store.types import utc_now

_ENDED = ("done", "ignored", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Days:
    """For how many days raw logs, steps and builds are kept; None keeps them for ever."""

    log_days: int | None = None
    step_days: int | None = None
    build_days: int | None = None

    @property
    def keeps_all(self) -> bool:
        """Whether nothing is ever forgotten."""
        return self.log_days is None and self.step_days is None and self.build_days is None


KEEP_ALL = Days()


def load_rules(session: Session, team_id: int) -> tuple[Days, dict[int, Days]]:
    """What holds for a team, and for those of its repositories that have a rule of their own."""
    found = {
        row.repository_id: Days(log_days=row.log_days, step_days=row.step_days, build_days=row.build_days)
        for row in session.scalars(select(Retention).where(Retention.team_id == team_id))
    }
    own = {repository_id: days for repository_id, days in found.items() if repository_id is not None}
    return found.get(None, KEEP_ALL), own


def save_rule(session: Session, team_id: int, repository_id: int | None, days: Days | None) -> None:
    """Let a rule hold for a team or for one of its repositories; None takes that of a repository away."""
    is_same = Retention.repository_id.is_(None) if repository_id is None else Retention.repository_id == repository_id
    session.execute(
        delete(Retention).where(Retention.team_id == team_id, is_same).execution_options(synchronize_session=False)
    )
    if days is not None:
        session.add(
            Retention(
                team_id=team_id,
                repository_id=repository_id,
                log_days=days.log_days,
                step_days=days.step_days,
                build_days=days.build_days,
                updated_at=utc_now(),
            )
        )
    session.flush()


def list_teams_with_rules(session: Session) -> Sequence[int]:
    """The teams that do not keep everything."""
    return session.scalars(
        select(Retention.team_id)
        .join(Team, Team.id == Retention.team_id)
        .where(Team.deleted_at.is_(None))
        .distinct()
        .order_by(Retention.team_id)
    ).all()


def freeze(session: Session, repository_id: int, *, builds_from: date | None, steps_from: date | None) -> None:
    """Sum up days for the last time before their builds or steps go; from then on their sums stay as they are."""
    repository = session.scalars(select(Repository).where(Repository.id == repository_id).with_for_update()).one()
    last = max(filter(None, (builds_from, steps_from)))
    days = session.scalars(
        select(DirtyDay.day).where(DirtyDay.repository_id == repository_id, DirtyDay.day < last)
    ).all()
    for day in days:
        recompute_day(session, repository_id, day)
    # Only ever forward: what has been forgotten does not come back with a longer rule.
    repository.builds_from = max(filter(None, (repository.builds_from, builds_from)), default=None)
    repository.steps_from = max(filter(None, (repository.steps_from, steps_from, builds_from)), default=None)
    session.flush()


def load_needed(session: Session, repository_id: int, before: date) -> set[int]:
    """The builds of days before one that others still need.

    These are the last good one of each image, with which its next build is compared; those that builds from that day
    on were compared with; and those at which the present alerts began.
    """
    old = aliased(Build)
    needed = set(
        session.scalars(
            select(old.id)
            .join(Build, Build.baseline_build_id == old.id)
            .where(
                Build.repository_id == repository_id,
                Build.day >= before,
                old.repository_id == repository_id,
                old.day < before,
            )
        )
    )
    good = select(func.max(BuildImage.build_id)).where(
        BuildImage.build_id.in_(select(Build.id).where(Build.repository_id == repository_id)),
        BuildImage.outcome == "succeeded",
    )
    needed.update(session.scalars(good.group_by(BuildImage.image_id)))
    needed.update(session.scalars(good.where(BuildImage.branch_class == "default").group_by(BuildImage.image_id)))
    active = and_(Incident.repository_id == repository_id, Incident.state.in_(ACTIVE_STATES))
    for column in (Incident.since_build_id, Incident.found_build_id):
        needed.update(build_id for build_id in session.scalars(select(column).where(active)) if build_id is not None)
    return needed


def forget_builds(
    session: Session, repository_id: int, before: date, needed: Collection[int], limit: int = BUILDS
) -> int:
    """Forget some builds of days before one, with their steps and breaks; returns how many rows."""
    return delete_build_rows(session, _older(repository_id, before, needed), limit)


def list_days_with_steps(session: Session, repository_id: int, before: date, needed: Collection[int]) -> Sequence[date]:
    """The days before one of which there are steps."""
    has_steps = select(Step.build_id).where(Step.build_id == Build.id).exists()
    return session.scalars(
        select(Build.day).where(_older(repository_id, before, needed), has_steps).distinct().order_by(Build.day)
    ).all()


def forget_steps(session: Session, repository_id: int, day: date, needed: Collection[int], limit: int = BUILDS) -> int:
    """Forget the steps of some builds of a day; returns how many."""
    has_steps = select(Step.build_id).where(Step.build_id == Build.id).exists()
    of_day = and_(Build.repository_id == repository_id, Build.day == day, Build.id.not_in(needed), has_steps)
    ids = session.scalars(select(Build.id).where(of_day).order_by(Build.id).limit(limit)).all()
    if not ids:
        return 0
    return int(session.connection().execute(delete(Step).where(Step.build_id.in_(ids))).rowcount)


def forget_deliveries(
    session: Session, team_id: int, repository_id: int | None, before: date, limit: int = ROWS
) -> Emptied:
    """Forget some deliveries that came before a day and of which no build is left."""
    has_builds = select(Build.id).where(Build.delivery_id == Delivery.id).exists()
    return delete_deliveries(session, and_(_received(team_id, repository_id, before), ~has_builds), limit)


def forget_raw_logs(
    session: Session, team_id: int, repository_id: int | None, before: date, limit: int = ROWS
) -> Emptied:
    """Take the raw logs from some deliveries that came before a day; what was read from them stays."""
    has_log = or_(Delivery.log_digest.is_not(None), Delivery.body_digest.is_not(None))
    emptied, ids = describe_logs(session, and_(_received(team_id, repository_id, before), has_log), limit)
    if ids:
        session.execute(
            update(Delivery)
            .where(Delivery.id.in_(ids))
            .values(log_digest=None, body_digest=None)
            .execution_options(synchronize_session=False)
        )
        emptied.rows = len(ids)
    return emptied


def _older(repository_id: int, before: date, needed: Collection[int]) -> ColumnElement[bool]:
    return and_(Build.repository_id == repository_id, Build.day < before, Build.id.not_in(needed))


def _received(team_id: int, repository_id: int | None, before: date) -> ColumnElement[bool]:
    where = Delivery.repository_id.is_(None) if repository_id is None else Delivery.repository_id == repository_id
    midnight = datetime.combine(before, time(), UTC)
    return and_(Delivery.team_id == team_id, where, Delivery.received_at < midnight, Delivery.state.in_(_ENDED))
