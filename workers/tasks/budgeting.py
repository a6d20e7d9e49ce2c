"""Brings the alerts on budgets for image size in line with the versions that were measured.

Like the detector's incidents they are made from what is stored, not from events: versions that come late or twice, and
budgets that are changed, leave the same alerts.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from cachescope.images.budgets import Budget, Excess, OverrunKind, find_excesses
from cachescope.wording import cut
from store.models import Build, ImageSize, Incident, Run, SizedImage
from store.models.incidents import ACTIVE_STATES
from store.queries import image_sizes, incidents
from store.queries.incidents import Change
from workers import telling

KIND = "budget"
_MOST_VERSIONS = 200


def budget_of(sized: SizedImage) -> Budget:
    """Return what an image may weigh."""
    return Budget(
        absolute_bytes=sized.budget_bytes,
        growth_ratio=sized.budget_growth,
        pull_request_bytes=sized.budget_pull_request_bytes,
    )


def watch_budgets(session: Session, sized: SizedImage) -> list[Change]:
    """Open, close and tell the alerts of an image's budgets, on the default branch and its largest platform."""
    rows = incidents.load_budget_incidents(session, sized.repository_id, sized.id)
    if sized.budget_bytes is None and sized.budget_growth is None and not rows:
        return []
    incidents.lock(session, sized.repository_id)
    versions = _versions_of_largest(session, sized)
    changes: list[Change] = []
    matched: set[int] = set()
    for excess in find_excesses(budget_of(sized), [version.image for version in versions]):
        key, first = f"{excess.overrun.kind}:{sized.id}", versions[excess.since].row
        row = _match(rows, matched, key, first, is_open=excess.until is None)
        if row is None and excess.until is not None:
            continue  # it was over before anybody set the budget
        if row is None:
            row = _open(session, sized, key, excess, first)
            changes.append(Change(row, "opened"))
        elif excess.until is not None and row.state in ACTIVE_STATES:
            changes.append(_close(session, row, versions[excess.until].row))
        elif excess.until is None and _is_seen_again(row, versions[-1].row):
            changes.append(_reopen(session, row, versions[-1].row))
        matched.add(row.id)
    changes += [_close(session, row, None) for row in rows if row.id not in matched and row.state in ACTIVE_STATES]
    session.flush()
    telling.tell(session, changes)
    return changes


def _versions_of_largest(session: Session, sized: SizedImage) -> list[image_sizes.Version]:
    largest: list[image_sizes.Version] = []
    for platform in image_sizes.list_platforms(session, sized.id):
        found = image_sizes.load_versions(session, sized.id, platform, limit=_MOST_VERSIONS)
        if found and (not largest or _weight(found) > _weight(largest)):
            largest = found
    return largest


def _weight(versions: Sequence[image_sizes.Version]) -> int:
    return versions[-1].row.compressed_bytes or versions[-1].row.unpacked_bytes or 0


def _match(
    rows: Sequence[Incident], matched: set[int], key: str, first: ImageSize, *, is_open: bool
) -> Incident | None:
    same = [row for row in rows if row.id not in matched and row.key == key]
    for row in same:
        if row.since_at == first.released_at:
            return row
    # The version that passed it may have left the window, or one that came late may have passed it before.
    for row in same:
        if is_open and row.state in (*ACTIVE_STATES, "accepted"):
            return row
    return None


def _open(session: Session, sized: SizedImage, key: str, excess: Excess, first: ImageSize) -> Incident:
    build = session.get(Build, first.build_id) if first.build_id is not None else None
    run = session.get(Run, build.run_id) if build is not None else None
    row = Incident(
        team_id=sized.team_id,
        repository_id=sized.repository_id,
        kind=KIND,
        key=key,
        metric="size",
        cause=KIND,
        instruction=excess.overrun.instruction,
        branch=first.branch,
        commit_id=first.commit_id,
        actor=run.actor if run is not None else None,
        since_build_id=first.build_id,
        found_build_id=first.build_id,
        since_at=first.released_at,
        evidence=_evidence(sized, excess, first),
        confidence="certain",
        opened_at=max(first.released_at, first.measured_at),
    )
    session.add(row)
    session.flush()
    incidents.add_event(session, row, "opened", at=row.opened_at, build_id=first.build_id)
    return row


def _evidence(sized: SizedImage, excess: Excess, first: ImageSize) -> str:
    size, limit = excess.overrun.size_bytes, excess.overrun.limit_bytes or 0
    name = cut(f"{sized.name}:{first.tag}" if first.tag else sized.name, 160)
    over = f"{megabytes(size - limit)} more than"
    if excess.overrun.kind is OverrunKind.GROWTH:
        grown = megabytes(excess.overrun.grown_bytes)
        return f"{name} grew by {grown} to {megabytes(size)}, {over} one version may grow it to"
    return f"{name} weighed {megabytes(size)}, {over} its budget of {megabytes(limit)}"


def megabytes(size: int) -> str:
    """`812 MB`, `1.3 MB`, `0.04 MB`."""
    value = size / 1e6
    return f"{value:.0f} MB" if value >= 100 else f"{value:.1f} MB" if value >= 1 else f"{value:.2g} MB"


def _is_seen_again(row: Incident, newest: ImageSize) -> bool:
    """Whether somebody closed it by hand, and a version that was measured since is still too large."""
    return row.state == "resolved" and row.resolved_at is not None and newest.measured_at > row.resolved_at


def _reopen(session: Session, row: Incident, newest: ImageSize) -> Change:
    row.state, row.resolved_at, row.fixed_by, row.resolved_build_id, row.muted_until = "open", None, None, None, None
    row.reopened += 1
    row.updated_at = datetime.now(UTC)
    incidents.add_event(session, row, "reopened", at=newest.measured_at, build_id=newest.build_id)
    return Change(row, "reopened")


def _close(session: Session, row: Incident, version: ImageSize | None) -> Change:
    was, row.state, row.updated_at = row.state, "resolved", datetime.now(UTC)
    if version is None:
        row.resolved_at = datetime.now(UTC)
        note = "Its budget was changed."
        incidents.add_event(session, row, "resolved", at=row.resolved_at, note=note)
        return Change(row, "resolved", was, note)
    row.resolved_at, row.fixed_by, row.resolved_build_id = version.measured_at, version.commit_id, version.build_id
    incidents.add_event(session, row, "resolved", at=row.resolved_at, build_id=version.build_id)
    return Change(row, "resolved", was)
