"""Recommendations: when an image is looked at again, what was proposed, and what became of it."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, joinedload

from cachescope.recommendations.base import Recommendation
from store.database import insert
from store.models import AdviceTurn, Build, BuildEvidence, BuildImage, Image, Repository, StoredRecommendation

PAUSE = timedelta(seconds=20)
"""Builds come in bursts: an image is looked at so long after the first of them."""
MEASURED_BUILDS = 20
"""So many builds before and after an edit tell what it brought."""


def count_open(session: Session, image_ids: Sequence[int]) -> int:
    """How many proposals for some images wait for a decision."""
    statement = select(func.count()).where(
        StoredRecommendation.image_id.in_(image_ids), StoredRecommendation.state == "open"
    )
    return session.scalar(statement) or 0


# -- when to look ------------------------------------------------------------------------------------------------------


def schedule(
    session: Session, repository_id: int, image_ids: Iterable[int], now: datetime, *, has_dockerfile: bool
) -> None:
    """Have images looked at soon; without a Dockerfile only those of which one came earlier."""
    ids = sorted(set(image_ids))
    if has_dockerfile and ids:
        rows = [{"image_id": i, "repository_id": repository_id, "due_at": now + PAUSE, "builds": 0} for i in ids]
        session.execute(insert(session, AdviceTurn).values(rows).on_conflict_do_nothing())
    session.execute(
        update(AdviceTurn)
        .where(AdviceTurn.image_id.in_(ids), AdviceTurn.due_at.is_(None))
        .values(due_at=now + PAUSE)
        .execution_options(synchronize_session=False)
    )


def is_any_due(session: Session, now: datetime) -> bool:
    """Whether an image waits to be looked at."""
    return session.scalar(select(AdviceTurn.image_id).where(AdviceTurn.due_at <= now).limit(1)) is not None


def take_due(session: Session, now: datetime) -> tuple[int, int] | None:
    """Take the image that has waited longest, with its repository; None when none is due.

    Whoever dies with it leaves the image as it is until its next build.
    """
    row = session.execute(
        select(AdviceTurn.image_id, AdviceTurn.repository_id)
        .where(AdviceTurn.due_at <= now)
        .order_by(AdviceTurn.due_at, AdviceTurn.image_id)
        .limit(1)
    ).first()
    if row is None:
        return None
    taken = session.scalar(
        update(AdviceTurn)
        .where(AdviceTurn.image_id == row.image_id, AdviceTurn.due_at <= now)
        .values(due_at=None)
        .returning(AdviceTurn.image_id)
        .execution_options(synchronize_session=False)
    )
    return (row.image_id, row.repository_id) if taken is not None else None


def load_history(session: Session, image_id: int, limit: int) -> list[Build]:
    """The latest builds of an image that ended well, oldest first: of the default branch where it has any."""
    newest = (
        select(Build)
        .join(BuildImage, BuildImage.build_id == Build.id)
        .where(BuildImage.image_id == image_id, BuildImage.outcome == "succeeded")
        .order_by(BuildImage.started_at.desc(), BuildImage.build_id.desc())
        .limit(limit)
    )
    found = session.scalars(newest.where(BuildImage.branch_class == "default")).all()
    return list(found or session.scalars(newest).all())[::-1]


# -- what was proposed -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A recommendation with the module that makes it."""

    name: str
    recommendation: Recommendation


def save_proposals(
    session: Session,
    image: Image,
    proposals: Sequence[Proposal],
    *,
    now: datetime,
    builds: int,
    builds_per_week: float | None,
    applied: Mapping[int, int] | None = None,
) -> None:
    """Store what an image's history proposes now.

    A proposal that is made no longer is `gone`, or `applied` where `applied` names the build that first had its edit
    (by id of the recommendation). One that was dismissed stays so.
    """
    known = {(row.name, row.key): row for row in load_of_image(session, image.id)}
    for proposal in proposals:
        found = proposal.recommendation
        key = (proposal.name, key_of(found.title))
        row = known.pop(key, None)
        if row is None:
            row = StoredRecommendation(
                repository_id=image.repository_id,
                image_id=image.id,
                name=proposal.name,
                key=key[1],
                state="open",
                created_at=now,
                changed_at=now,
            )
            session.add(row)
        elif row.state in ("gone", "applied"):
            row.state, row.changed_at, row.applied_build_id = "open", now, None
        row.title, row.why, row.evidence = found.title, found.why, list(found.evidence)
        row.patch, row.order_safe = found.patch, found.order_safe
        row.saving_seconds = found.saving_seconds_per_build
        row.saving_low, row.saving_high = found.interval or (None, None)
        row.builds, row.builds_per_week = builds, builds_per_week
    for row in known.values():
        if row.state in ("open", "dismissed"):
            build_id = (applied or {}).get(row.id)
            row.state, row.changed_at = ("applied" if build_id is not None else "gone"), now
            row.applied_build_id = build_id
    turn = session.get(AdviceTurn, image.id)
    if turn is not None:
        turn.computed_at, turn.builds = now, builds
    session.flush()


def key_of(title: str) -> str:
    """What tells the proposals of one module apart."""
    return hashlib.sha256(title.encode("utf-8", "replace")).hexdigest()[:16]


def load_of_image(session: Session, image_id: int) -> Sequence[StoredRecommendation]:
    """Everything that was ever proposed for an image."""
    return session.scalars(
        select(StoredRecommendation).where(StoredRecommendation.image_id == image_id).order_by(StoredRecommendation.id)
    ).all()


def load_recommendations(
    session: Session, team_id: int, *, repository_id: int | None = None, limit: int = 200
) -> Sequence[StoredRecommendation]:
    """What a team, or one of its repositories, may change, has changed or does not want to; most saved first."""
    per_week = StoredRecommendation.saving_seconds * func.coalesce(StoredRecommendation.builds_per_week, 1.0)
    statement = (
        select(StoredRecommendation)
        .join(Repository, Repository.id == StoredRecommendation.repository_id)
        .where(Repository.team_id == team_id, StoredRecommendation.state != "gone")
        .options(joinedload(StoredRecommendation.image))
        .order_by(func.coalesce(per_week, 0.0).desc(), StoredRecommendation.id)
        .limit(limit)
    )
    if repository_id is not None:
        statement = statement.where(StoredRecommendation.repository_id == repository_id)
    return session.scalars(statement).all()


def find_recommendation(
    session: Session, team_ids: Sequence[int], recommendation_id: int
) -> StoredRecommendation | None:
    """One recommendation, if one of some teams owns it."""
    return session.scalar(
        select(StoredRecommendation)
        .join(Repository, Repository.id == StoredRecommendation.repository_id)
        .where(StoredRecommendation.id == recommendation_id, Repository.team_id.in_(team_ids))
    )


def load_turns(session: Session, repository_ids: Sequence[int]) -> Sequence[AdviceTurn]:
    """Which images of some repositories have been looked at, and when."""
    return session.scalars(
        select(AdviceTurn).where(AdviceTurn.repository_id.in_(repository_ids)).order_by(AdviceTurn.image_id)
    ).all()


def has_evidence(session: Session, repository_ids: Sequence[int]) -> bool:
    """Whether a log of some repositories ever came with anything beside it."""
    statement = select(BuildEvidence.delivery_id).where(BuildEvidence.repository_id.in_(repository_ids)).limit(1)
    return session.scalar(statement) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What builds of an image spent on misses before and after an edit."""

    builds_before: int
    builds_after: int
    seconds_before: float | None
    """The mean of a build."""
    seconds_after: float | None

    @property
    def saving_seconds(self) -> float | None:
        """What a build saves now; below zero where it takes longer."""
        if self.seconds_before is None or self.seconds_after is None:
            return None
        return self.seconds_before - self.seconds_after


def measure_effect(session: Session, row: StoredRecommendation) -> Effect | None:
    """Compare the builds before an edit with those after it; None where it was never applied.

    Only the default branch counts where it has builds, so that short-lived branches do not stand for the edit.
    """
    first = session.get(Build, row.applied_build_id) if row.applied_build_id is not None else None
    if first is None:
        return None
    of_image = (
        BuildImage.image_id == row.image_id,
        BuildImage.outcome == "succeeded",
        BuildImage.branch_class == first.branch_class,
        BuildImage.seconds_spent.is_not(None),
    )
    before = session.scalars(
        select(BuildImage.seconds_spent)
        .where(*of_image, BuildImage.started_at < first.started_at)
        .order_by(BuildImage.started_at.desc())
        .limit(MEASURED_BUILDS)
    ).all()
    # The build that brings the edit runs what was edited, whatever the edit is good for.
    after = session.scalars(
        select(BuildImage.seconds_spent)
        .where(*of_image, BuildImage.started_at > first.started_at)
        .order_by(BuildImage.started_at)
        .limit(MEASURED_BUILDS)
    ).all()
    return Effect(
        builds_before=len(before),
        builds_after=len(after),
        seconds_before=_mean(before),
        seconds_after=_mean(after),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
