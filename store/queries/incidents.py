"""Incidents: what the detector found is brought in line with what people see, in the transaction of the build.

The detector's incidents are facts about builds; the rows here add what people decided. Bringing the two in line is done
from states, not from events: whatever builds came late or twice, the rows end as the detector's incidents are.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from backports import zstd
from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload

from cachescope.images.budgets import OverrunKind
from cachescope.regressions.base import Incident as Found
from cachescope.watching import Watch
from store.models import (
    Build,
    BuildImage,
    DetectorState,
    ImageSize,
    Incident,
    IncidentEvent,
    Repository,
    Run,
    Step,
    StepText,
)
from store.models.incidents import ACTIVE_STATES

SAME_WITHIN = timedelta(hours=2)
"""Builds that come late may move the moment at which an incident became sure by so much."""
FLEET_WITHIN = timedelta(hours=2)
FLEET_REPOSITORIES = 3
logger = logging.getLogger(__name__)

_STRUCTURAL = frozenset({"order", "base_tags"})
_LARGEST_STATE = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Change:
    """What became of an incident: opened, reopened, resolved, withdrawn, or unchanged and still open."""

    incident: Incident
    what: str
    was: str = "open"
    """The state that people saw before."""
    note: str = ""
    """Why it is over, where no build says so."""


def lock(session: Session, repository_id: int) -> None:
    """Let nobody else change what the detector remembers of a repository until the transaction ends."""
    session.execute(select(Repository.id).where(Repository.id == repository_id).with_for_update(key_share=True))


def find_size(session: Session, build_id: int) -> int | None:
    """The compressed size of the image that a build made, of its largest platform; None where nobody measured it."""
    return session.scalar(select(func.max(ImageSize.compressed_bytes)).where(ImageSize.build_id == build_id))


def load_watch(session: Session, image_id: int) -> Watch | None:
    """What the detector remembers of an image; None where it remembers nothing that this version can read."""
    state = session.get(DetectorState, image_id)
    if state is None:
        return None
    try:
        return Watch.load(zstd.ZstdDecompressor().decompress(state.document, max_length=_LARGEST_STATE))
    except (zstd.ZstdError, EOFError, ValueError, KeyError, TypeError, AttributeError):
        logger.warning("The memory of the detector of image %s cannot be read: it is made anew.", image_id)
        return None


def save_watch(session: Session, repository_id: int, image_id: int, watch: Watch) -> None:
    """Store what the detector remembers of an image; its repository must be locked."""
    document = zstd.compress(watch.dump(), 3)
    state = session.get(DetectorState, image_id)
    if state is None:
        session.add(DetectorState(image_id=image_id, repository_id=repository_id, document=document))
    else:
        state.document, state.updated_at = document, datetime.now(UTC)
    session.flush()


def load_found(session: Session, image_id: int) -> Sequence[Incident]:
    """The incidents of an image, newest first, as many as the detector may still speak of."""
    return session.scalars(
        select(Incident).where(Incident.image_id == image_id).order_by(Incident.id.desc()).limit(200)
    ).all()


def load_budget_incidents(session: Session, repository_id: int, sized_image_id: int) -> Sequence[Incident]:
    """The incidents of the budgets of a followed image, newest first."""
    return session.scalars(
        select(Incident)
        .where(
            Incident.repository_id == repository_id,
            Incident.kind == "budget",
            Incident.key.in_([f"{limit}:{sized_image_id}" for limit in OverrunKind]),
        )
        .order_by(Incident.id.desc())
        .limit(200)
    ).all()


def list_history(session: Session, image_id: int, before: Build, since: datetime, limit: int = 1000) -> Sequence[Build]:
    """The latest builds of an image that started since a time and before another, oldest first."""
    newest = session.scalars(
        select(Build)
        .join(BuildImage, BuildImage.build_id == Build.id)
        .where(
            BuildImage.image_id == image_id,
            BuildImage.outcome == "succeeded",
            BuildImage.started_at >= since,
            BuildImage.started_at <= before.started_at,
            Build.id != before.id,
        )
        .order_by(BuildImage.started_at.desc(), BuildImage.build_id.desc())
        .limit(limit)
    ).all()
    return list(reversed(newest))


def bring_in_line(session: Session, repository: Repository, image_id: int, watch: Watch, build: Build) -> list[Change]:
    """Make the rows of an image as its detector sees them; returns what became of which incident, oldest first.

    `build` is the one that was just taken in.
    """
    rows = list(load_found(session, image_id))
    accepted = set(watch.accepted)
    changes: list[Change] = []
    matched: set[int] = set()
    for found in watch.incidents:
        if (found.kind, found.key) in accepted:
            matched |= {row.id for row in rows if (row.kind, row.key) == (found.kind, found.key)}
            continue
        row = _match(rows, matched, found)
        if row is None:
            row = _create(session, repository, image_id, found)
            what = "opened"
        else:
            what = _what_changed(row, found)
        matched.add(row.id)
        _describe(session, row, watch, found)
        if what:
            changes.append(_apply(session, row, found, what, build))
        elif row.state == "open":
            changes.append(Change(row, "unchanged"))
    for row in rows:
        if row.state in ACTIVE_STATES and row.id not in matched and (row.kind, row.key) not in accepted:
            was, row.state, row.resolved_at = row.state, "resolved", _moment(build)
            note = "Builds that came late explain it."
            add_event(session, row, "withdrawn", build_id=build.id, note=note)
            changes.append(Change(row, "withdrawn", was, note))
    session.flush()
    told = [change for change in changes if change.what != "nothing"]
    for change in told:
        if change.what == "opened":
            _join(session, change.incident)
    return told


def _match(rows: Sequence[Incident], matched: set[int], found: Found) -> Incident | None:
    opened_at = _at(found.opened_at)
    same = [row for row in rows if row.id not in matched and (row.kind, row.key) == (found.kind, found.key)]
    for row in same:
        if row.opened_at == opened_at:
            return row
    for row in same:
        if abs(row.opened_at - opened_at) <= SAME_WITHIN or (found.is_open and row.state in ACTIVE_STATES):
            return row
    return None


def _what_changed(row: Incident, found: Found) -> str:
    if row.state == "accepted":
        return ""
    if found.is_open:
        return "reopened" if row.state == "resolved" else ""
    return "resolved" if row.state in ACTIVE_STATES else ""


def _create(session: Session, repository: Repository, image_id: int, found: Found) -> Incident:
    row = Incident(
        team_id=repository.team_id,
        repository_id=repository.id,
        image_id=image_id,
        fleet_key=_fleet_key(found),
        kind=found.kind,
        key=found.key,
        metric=found.metric,
        cause=found.cause,
        stage=found.key.partition("\x1f")[0] or None if "\x1f" in found.key else None,
        evidence=found.evidence,
        confidence="certain" if found.kind in _STRUCTURAL else "likely",
        opened_at=_at(found.opened_at),
    )
    session.add(row)
    session.flush()
    return row


def _fleet_key(found: Found) -> str | None:
    if found.kind == "base_tags":
        return f"base {found.key}"
    if found.kind == "cold_cache":
        return f"cold {found.key}" if found.cause == "pool_cold" else "cold import"
    return None


def _apply(session: Session, row: Incident, found: Found, what: str, build: Build) -> Change:
    row.updated_at = datetime.now(UTC)
    if what == "resolved" or (what == "opened" and not found.is_open):
        if what == "opened":  # a history that was sent at once: it is over before anybody was told
            add_event(session, row, "opened", at=_at(found.opened_at), build_id=row.found_build_id)
        was, row.state, row.fixed_by, row.resolved_build_id = row.state, "resolved", found.fixed_by, build.id
        row.resolved_at = _at(found.resolved_at) if found.resolved_at is not None else _moment(build)
        add_event(session, row, "resolved", at=row.resolved_at, build_id=build.id)
        return Change(row, "nothing" if what == "opened" else "resolved", was)
    if what == "reopened":
        row.state, row.resolved_at, row.fixed_by, row.resolved_build_id = "open", None, None, None
        row.reopened += 1
        row.muted_until = None
    else:
        row.found_build_id = build.id
    add_event(session, row, what, at=_moment(build) if what == "reopened" else row.opened_at, build_id=build.id)
    return Change(row, what)


def _describe(session: Session, row: Incident, watch: Watch, found: Found) -> None:
    """Write what the detector knows of an incident now."""
    row.opened_at = _at(found.opened_at)
    row.cause, row.evidence, row.instruction, row.commit_id = (
        found.cause,
        found.evidence,
        found.instruction,
        found.commit,
    )
    row.victims = [{"text": text, "seconds": watch.seconds_of(text)} for text in found.victims[:20]]
    row.since_at = _at(found.since["at"])
    since = int(found.since["build"]) if str(found.since["build"]).isdecimal() else None
    if since != row.since_build_id or row.actor is None:
        row.since_build_id = since
        row.branch = found.since.get("branch") or ""
        _describe_since(session, row)
    row.seconds_per_build = found.seconds_per_build
    if found.is_open and row.image_id is not None:
        row.builds_per_day = builds_per_day(session, row.image_id, _at(found.last_event_at))
        row.seconds_per_day = row.seconds_per_build * row.builds_per_day if row.metric != "size" else 0.0


def _describe_since(session: Session, row: Incident) -> None:
    first = session.get(Build, row.since_build_id) if row.since_build_id is not None else None
    if first is None:
        return
    row.is_default_branch = first.branch_class == "default"
    run = session.get(Run, first.run_id)
    row.actor = run.actor if run is not None else None


def builds_per_day(session: Session, image_id: int, until: datetime) -> float:
    """How often an image was built a day over the last week, or since its first build where that is shorter."""
    since = until - timedelta(days=7)
    count, first = session.execute(
        select(func.count(), func.min(BuildImage.started_at)).where(
            BuildImage.image_id == image_id, BuildImage.started_at >= since, BuildImage.started_at <= until
        )
    ).one()
    if not count or first is None:
        return 0.0
    return float(count / min(7.0, max(1.0, (until - first).total_seconds() / 86_400)))


def _join(session: Session, row: Incident) -> None:
    """Let an incident be told of by the first of its repository, or by that of the fleet."""
    within = Incident.opened_at.between(row.opened_at - FLEET_WITHIN, row.opened_at + FLEET_WITHIN)
    if row.instruction or row.commit_id:
        sibling = session.scalar(
            select(Incident)
            .where(
                Incident.repository_id == row.repository_id,
                Incident.image_id != row.image_id,
                Incident.kind == row.kind,
                Incident.instruction.is_not_distinct_from(row.instruction),
                Incident.commit_id.is_not_distinct_from(row.commit_id),
                Incident.state.in_(ACTIVE_STATES),
                Incident.parent_id.is_(None),
            )
            .order_by(Incident.id)
            .limit(1)
        )
        if sibling is not None:
            row.parent_id = sibling.id
            return
    if row.fleet_key is None:
        return
    of_fleet = (Incident.team_id == row.team_id, Incident.fleet_key == row.fleet_key)
    known = session.scalar(
        select(Incident)
        .where(*of_fleet, Incident.repository_id.is_(None), Incident.state.in_(ACTIVE_STATES))
        .order_by(Incident.id.desc())
        .limit(1)
    )
    members = session.scalars(
        select(Incident).where(
            *of_fleet, within, Incident.repository_id.is_not(None), Incident.state.in_(ACTIVE_STATES)
        )
    ).all()
    if known is None:
        if len({member.repository_id for member in members}) < FLEET_REPOSITORIES:
            return
        known = Incident(
            team_id=row.team_id,
            fleet_key=row.fleet_key,
            kind=row.kind,
            key=row.key,
            metric=row.metric,
            cause=row.cause,
            instruction=row.instruction,
            evidence=row.evidence,
            confidence="certain",
            is_default_branch=True,
            since_at=min((member.since_at or member.opened_at for member in members), default=row.opened_at),
            opened_at=row.opened_at,
        )
        session.add(known)
        session.flush()
        add_event(session, known, "opened", at=row.opened_at)
    for member in {*members, row}:
        member.parent_id = known.id
    session.flush()
    sum_up(session, known)


def sum_up(session: Session, parent: Incident) -> None:
    """Give a fleet's incident the figures of its members together."""
    if parent.repository_id is not None:
        return
    members = load_children(session, parent.id)
    parent.seconds_per_day = sum(member.seconds_per_day for member in members)
    parent.builds_per_day = sum(member.builds_per_day for member in members)
    parent.seconds_per_build = parent.seconds_per_day / parent.builds_per_day if parent.builds_per_day else 0.0


def load_children(session: Session, incident_id: int) -> Sequence[Incident]:
    """The incidents that one tells of besides itself."""
    return session.scalars(
        select(Incident)
        .where(Incident.parent_id == incident_id)
        .options(joinedload(Incident.repository), joinedload(Incident.image))
        .order_by(Incident.id)
    ).all()


def teller_of(session: Session, incident: Incident) -> Incident:
    """The incident whose messages tell of this one."""
    parent = session.get(Incident, incident.parent_id) if incident.parent_id is not None else None
    return parent or incident


def add_event(
    session: Session,
    incident: Incident,
    action: str,
    *,
    at: datetime | None = None,
    user_id: int | None = None,
    actor: str | None = None,
    build_id: int | None = None,
    note: str = "",
) -> None:
    """Write one line of an incident's history."""
    session.add(
        IncidentEvent(
            incident_id=incident.id,
            at=at or datetime.now(UTC),
            action=action,
            user_id=user_id,
            actor=actor,
            build_id=build_id,
            note=note,
        )
    )


def find_incident(session: Session, team_ids: Sequence[int], incident_id: int) -> Incident | None:
    """An incident with its repository and image, if one of some teams owns it."""
    return session.scalar(
        select(Incident)
        .where(Incident.id == incident_id, Incident.team_id.in_(team_ids))
        .options(joinedload(Incident.repository), joinedload(Incident.image))
    )


def list_incidents(
    session: Session,
    team_id: int,
    *,
    states: Iterable[str] = ACTIVE_STATES,
    repository_id: int | None = None,
    before: int | None = None,
    limit: int = 50,
) -> Sequence[Incident]:
    """The incidents of a team that stand for themselves, dearest first while they are active, else newest first.

    `before` pages through those that are not active: the id of the last one shown.
    """
    wanted = tuple(states)
    statement = select(Incident).where(
        Incident.team_id == team_id, Incident.state.in_(wanted), Incident.parent_id.is_(None)
    )
    if repository_id is not None:
        statement = statement.where(Incident.repository_id == repository_id)
    if before is not None:
        statement = statement.where(Incident.id < before)
    order = (
        (Incident.seconds_per_day.desc(), Incident.id.desc())
        if set(wanted) <= set(ACTIVE_STATES)
        else (Incident.id.desc(),)
    )
    return session.scalars(
        statement.options(joinedload(Incident.repository), joinedload(Incident.image)).order_by(*order).limit(limit)
    ).all()


def list_since(session: Session, team_id: int, since: datetime, limit: int = 500) -> Sequence[Incident]:
    """The incidents of a team that were opened or resolved since a time, oldest first."""
    return session.scalars(
        select(Incident)
        .where(
            Incident.team_id == team_id,
            Incident.parent_id.is_(None),
            (Incident.opened_at >= since) | (Incident.resolved_at >= since),
        )
        .options(joinedload(Incident.repository), joinedload(Incident.image))
        .order_by(Incident.opened_at, Incident.id)
        .limit(limit)
    ).all()


def count_active(session: Session, team_id: int) -> int:
    """How many incidents of a team are neither resolved nor accepted, muted ones left out."""
    return (
        session.scalar(
            select(func.count()).where(
                Incident.team_id == team_id,
                Incident.state.in_(("open", "acknowledged")),
                Incident.parent_id.is_(None),
            )
        )
        or 0
    )


def list_events(session: Session, incident_id: int) -> Sequence[IncidentEvent]:
    """The history of an incident, oldest first."""
    return session.scalars(
        select(IncidentEvent)
        .where(IncidentEvent.incident_id == incident_id)
        .order_by(IncidentEvent.at, IncidentEvent.id)
    ).all()


def load_muted_past(session: Session, now: datetime, limit: int = 100) -> Sequence[Incident]:
    """Muted incidents whose time is over."""
    return session.scalars(
        select(Incident)
        .where(Incident.state == "muted", Incident.muted_until <= now)
        .order_by(Incident.id)
        .limit(limit)
    ).all()


@dataclass(frozen=True, slots=True)
class Point:
    """One build in the chart of an incident."""

    build_id: int
    at: datetime
    branch: str
    commit_id: str | None
    hits: int
    misses: int
    seconds: float | None
    """Of the misses that the incident is about; else of all misses."""


def load_points(session: Session, incident: Incident, limit: int = 160) -> list[Point]:
    """The builds of an incident's image around its change point, oldest first: at most half of them before it."""
    if incident.image_id is None:
        return []
    since = incident.since_at or incident.opened_at
    until = (incident.resolved_at or datetime.now(UTC)) + timedelta(days=2)
    own = (BuildImage.image_id == incident.image_id, BuildImage.outcome == "succeeded")
    columns = select(
        BuildImage.build_id,
        BuildImage.started_at,
        BuildImage.branch,
        Build.commit_id,
        BuildImage.hits,
        BuildImage.misses,
        BuildImage.seconds_spent,
    ).join(Build, Build.id == BuildImage.build_id)
    newest_first = (BuildImage.started_at.desc(), BuildImage.build_id.desc())
    before = session.execute(
        columns.where(*own, BuildImage.started_at < since).order_by(*newest_first).limit(limit // 2)
    ).all()
    after = session.execute(
        columns.where(*own, BuildImage.started_at.between(since, until))
        .order_by(BuildImage.started_at, BuildImage.build_id)
        .limit(limit - len(before))
    ).all()
    rows = [*reversed(before), *after]
    named = _seconds_of_victims(session, incident, [row.build_id for row in rows])
    return [
        Point(
            row.build_id,
            row.started_at,
            row.branch,
            row.commit_id,
            row.hits,
            row.misses,
            named.get(row.build_id, 0.0) if named else row.seconds_spent,
        )
        for row in rows
    ]


def _seconds_of_victims(session: Session, incident: Incident, build_ids: Sequence[int]) -> dict[int, float]:
    """The seconds that the instructions of an incident took in some builds; empty where they cannot be told apart."""
    texts = [victim["text"] for victim in incident.victims if incident.kind not in {"cold_cache", "erosion"}]
    texts += [incident.instruction] if incident.instruction else []
    if not texts or incident.kind in {"cold_cache", "erosion"}:
        return {}
    rows = session.execute(
        select(Step.build_id, func.sum(Step.duration_seconds))
        .join(StepText, StepText.id == Step.text_id)
        .where(
            Step.build_id.in_(build_ids),
            Step.image_id == incident.image_id,
            Step.cached.is_(False),
            StepText.text.in_(texts),
        )
        .group_by(Step.build_id)
    )
    return {build_id: float(seconds) for build_id, seconds in rows if seconds is not None}


def _moment(build: Build) -> datetime:
    return build.finished_at or build.started_at


def _at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
