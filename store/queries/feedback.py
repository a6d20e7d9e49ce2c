"""What repositories want to be told, what is still to be told, and what stands at their forge.

A task is due and claimed as a delivery is, with one more rule: of one repository only one is worked off at a time, so
that two of them cannot write the same comment twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, func, select, tuple_, update
from sqlalchemy.orm import Session, aliased, joinedload

from cachescope import feedback
from cachescope.surroundings import Surroundings
from store.database import insert
from store.models import (
    Break,
    Build,
    BuildEvidence,
    BuildImage,
    FeedbackPolicy,
    FeedbackPost,
    FeedbackTask,
    Image,
    Instruction,
    Repository,
    Run,
    Source,
    Step,
    StepText,
    StoredRecommendation,
)
from store.models.image_sizes import ImageSize, SizedImage
from store.queries.evidence import load_evidence
from store.queries.image_sizes import image_name

WAITING = ("new", "working")


@dataclass(frozen=True, slots=True)
class FeedbackClaim:
    """A worker's hold on a task."""

    task_id: int
    fence: int
    attempts: int
    """This one included."""


def find_policy(session: Session, repository_id: int) -> FeedbackPolicy | None:
    """What a repository chose; None while it has chosen nothing."""
    return session.get(FeedbackPolicy, repository_id)


def read_policy(row: FeedbackPolicy | None) -> feedback.Policy:
    """A policy as the library knows it; the defaults where nothing was chosen."""
    if row is None:
        return feedback.Policy()
    return feedback.Policy(
        comments=row.comments,
        mode=feedback.Mode(row.mode),
        measure=row.measure,
        threshold=row.threshold,
        least_seconds=row.least_seconds,
        preflight=row.preflight,
    )


def save_policy(session: Session, repository_id: int, now: datetime, **values: Any) -> FeedbackPolicy:
    """Change what a repository chose; what is not named stays."""
    row = session.get(FeedbackPolicy, repository_id)
    if row is None:
        row = FeedbackPolicy(repository_id=repository_id)
        session.add(row)
    for name, value in values.items():
        setattr(row, name, value)
    row.updated_at = now
    session.flush()
    return row


def find_badge_repository(session: Session, token: str) -> Repository | None:
    """The repository whose badges a token opens."""
    return session.scalar(
        select(Repository)
        .join(FeedbackPolicy, FeedbackPolicy.repository_id == Repository.id)
        .where(FeedbackPolicy.badge_token == token)
    )


def list_writing_sources(session: Session, team_id: int, repository_id: int, providers: Sequence[str]) -> list[Source]:
    """The sources of some providers that may write for a repository: its own first, then those of the team."""
    found = session.scalars(
        select(Source).where(
            Source.team_id == team_id,
            Source.provider.in_(providers),
            Source.write_credentials.is_not(None),
            Source.disabled_at.is_(None),
            (Source.repository_id == repository_id) | Source.repository_id.is_(None),
        )
    ).all()
    return sorted(found, key=lambda source: (source.repository_id is None, source.created_at, source.id))


def enqueue(
    session: Session,
    *,
    repository_id: int,
    source_id: str,
    kind: str,
    key: str,
    parameters: dict[str, Any],
    now: datetime,
) -> None:
    """Write down that there is something to tell; a task with the same key begins anew."""
    statement = insert(session, FeedbackTask).values(
        repository_id=repository_id,
        source_id=source_id,
        kind=kind,
        key=key,
        parameters=parameters,
        state="new",
        attempts=0,
        fence=0,
        next_at=now,
        created_at=now,
    )
    again = {
        "source_id": source_id,
        "parameters": parameters,
        "state": "new",
        "attempts": 0,
        "fence": FeedbackTask.fence + 1,
        "next_at": now,
        "error": None,
        "finished_at": None,
    }
    session.execute(statement.on_conflict_do_update(index_elements=["repository_id", "kind", "key"], set_=again))


def was_asked_for(session: Session, repository_id: int, delivery_id: str) -> bool:
    """Whether the builds of a delivery were to be told of."""
    return (
        session.scalar(
            select(FeedbackTask.id).where(
                FeedbackTask.repository_id == repository_id,
                FeedbackTask.kind == "build",
                FeedbackTask.key == delivery_id,
            )
        )
        is not None
    )


def claim_next_due(
    session: Session, now: datetime, lease: timedelta, overdue: timedelta = timedelta(0)
) -> FeedbackClaim | None:
    """Take the task that has been due longest, of a repository that nobody else is working for; None without one."""
    other = aliased(FeedbackTask)
    is_busy = (
        select(other.id)
        .where(
            other.repository_id == FeedbackTask.repository_id,
            other.id != FeedbackTask.id,
            other.state == "working",
            other.next_at > now,
        )
        .exists()
    )
    due = select(FeedbackTask).where(FeedbackTask.state.in_(WAITING), FeedbackTask.next_at <= now - overdue, ~is_busy)
    task = session.scalars(
        due.order_by(FeedbackTask.next_at, FeedbackTask.id).limit(1).with_for_update(skip_locked=True, of=FeedbackTask)
    ).one_or_none()
    if task is None:
        return None
    # Two workers may have taken two tasks of one repository at the same moment: the second sees the first from here on.
    session.execute(select(Repository.id).where(Repository.id == task.repository_id).with_for_update(key_share=True))
    if session.scalar(
        select(func.count()).where(
            FeedbackTask.repository_id == task.repository_id,
            FeedbackTask.id != task.id,
            FeedbackTask.state == "working",
            FeedbackTask.next_at > now,
        )
    ):
        return None
    task.state, task.attempts, task.fence = "working", task.attempts + 1, task.fence + 1
    task.next_at = now + lease
    session.flush()
    return FeedbackClaim(task.id, task.fence, task.attempts)


def put_off_source(session: Session, source_id: str, until: datetime) -> None:
    """Let everything that one source is to tell wait until a time: its forge is away, or wants to be left alone."""
    session.execute(
        update(FeedbackTask)
        .where(FeedbackTask.source_id == source_id, FeedbackTask.state == "new", FeedbackTask.next_at < until)
        .values(next_at=until),
        execution_options={"synchronize_session": False},
    )


def finish(session: Session, held: FeedbackClaim, **values: Any) -> bool:
    """Write how a task ended or when it goes on; False when it has passed into other hands or begun anew."""
    return (
        session.scalar(
            update(FeedbackTask)
            .where(FeedbackTask.id == held.task_id, FeedbackTask.fence == held.fence, FeedbackTask.state == "working")
            .values(**values)
            .returning(FeedbackTask.id),
            execution_options={"synchronize_session": False},
        )
        is not None
    )


def requeue(session: Session, repository_id: int, task_id: int, now: datetime) -> bool:
    """Let a task that has failed begin anew; False where it has not."""
    return (
        session.scalar(
            update(FeedbackTask)
            .where(
                FeedbackTask.id == task_id,
                FeedbackTask.repository_id == repository_id,
                FeedbackTask.state == "failed",
            )
            .values(state="new", attempts=0, next_at=now, created_at=now, error=None, finished_at=None)
            .returning(FeedbackTask.id),
            execution_options={"synchronize_session": False},
        )
        is not None
    )


def load_latest_tasks(session: Session, repository_id: int, limit: int = 10) -> Sequence[FeedbackTask]:
    """The latest tasks of a repository, newest first."""
    return session.scalars(
        select(FeedbackTask)
        .where(FeedbackTask.repository_id == repository_id)
        .order_by(FeedbackTask.id.desc())
        .limit(limit)
    ).all()


def find_post(session: Session, image_id: int, kind: str, subject: str) -> FeedbackPost | None:
    """What stands at the forge of an image about a pull request or commit."""
    return session.scalar(
        select(FeedbackPost).where(
            FeedbackPost.image_id == image_id, FeedbackPost.kind == kind, FeedbackPost.subject == subject
        )
    )


def save_post(session: Session, *, image_id: int, kind: str, subject: str, **values: Any) -> None:
    """Write down what stands at the forge now."""
    statement = insert(session, FeedbackPost).values(image_id=image_id, kind=kind, subject=subject, **values)
    session.execute(statement.on_conflict_do_update(index_elements=["image_id", "kind", "subject"], set_=dict(values)))


def delete_old(session: Session, before: datetime) -> None:
    """Forget tasks that ended long ago."""
    old = select(FeedbackTask).where(FeedbackTask.finished_at < before).limit(1000)
    for task in session.scalars(old):
        session.delete(task)


@dataclass(frozen=True, slots=True)
class ImageOfBuild:
    """One image of one build, with its baseline."""

    build: Build
    run: Run
    figures: BuildImage
    image: Image
    before: BuildImage | None


def load_images_of_delivery(session: Session, delivery_id: str) -> list[ImageOfBuild]:
    """The images that the builds of a log made, with those of their baselines; the last of several counts.

    A log may build one image twice: what the second build says is what is true.
    """
    baseline = aliased(BuildImage)
    rows = session.execute(
        select(Build, BuildImage, Image, baseline)
        .join(BuildImage, BuildImage.build_id == Build.id)
        .join(Image, Image.id == BuildImage.image_id)
        .outerjoin(
            baseline,
            and_(baseline.build_id == Build.baseline_build_id, baseline.image_id == BuildImage.image_id),
        )
        .where(Build.delivery_id == delivery_id)
        .options(joinedload(Build.run))
        .order_by(Build.position, Image.id)
    )
    found = {image.id: ImageOfBuild(build, build.run, figures, image, before) for build, figures, image, before in rows}
    return list(found.values())


def is_latest_of_pull_request(session: Session, shown: ImageOfBuild) -> bool:
    """Whether no newer build of an image is known for the branch and pull request of a build."""
    at = (shown.figures.started_at, shown.build.id)
    newer = (
        select(BuildImage.build_id)
        .join(Build, Build.id == BuildImage.build_id)
        .join(Run, Run.id == Build.run_id)
        .where(
            BuildImage.image_id == shown.image.id,
            BuildImage.branch == shown.figures.branch,
            tuple_(BuildImage.started_at, BuildImage.build_id)
            > tuple_(*at, types=[BuildImage.started_at.type, BuildImage.build_id.type]),
        )
        .limit(1)
    )
    if shown.run.pull_request is not None:
        newer = newer.where(Run.pull_request == shown.run.pull_request)
    return session.scalar(newer) is None


def has_namesakes(session: Session, image: Image) -> bool:
    """Whether another image of the repository has the same name, such as one for another platform."""
    return (
        session.scalar(
            select(Image.id).where(
                Image.repository_id == image.repository_id, Image.name == image.name, Image.id != image.id
            )
        )
        is not None
    )


@dataclass(frozen=True, slots=True)
class BreakOfImage:
    """A break with the text and place of its step."""

    broken: Break
    step: Step
    text: str


def load_breaks_of_image(session: Session, build_id: int, image_id: int) -> list[BreakOfImage]:
    """The breaks of one image of a build, the dearest first; those of steps that several images share count for all."""
    rows = session.execute(
        select(Break, Step, StepText.text)
        .join(Step, and_(Step.build_id == Break.build_id, Step.position == Break.position))
        .join(StepText, StepText.id == Step.text_id)
        .where(Break.build_id == build_id, (Break.image_id == image_id) | Break.image_id.is_(None))
    )
    found = [BreakOfImage(*row) for row in rows]
    return sorted(found, key=lambda row: (-(row.broken.cost_seconds or 0.0), row.broken.position))


def load_costs(session: Session, image_id: int) -> dict[str, float | None]:
    """The instructions of an image by their text as last printed, with the reference cost of those that ever ran."""
    costs: dict[str, float | None] = dict(
        session.execute(
            select(Instruction.text, Instruction.reference_seconds)
            .where(Instruction.image_id == image_id)
            .order_by(Instruction.id)
        ).all()
    )
    return costs


def find_place(session: Session, image_id: int) -> Surroundings | None:
    """What the latest build of an image told of its Dockerfile and its context; None where nothing was told."""
    delivery_id = session.scalar(
        select(Build.delivery_id)
        .join(BuildImage, BuildImage.build_id == Build.id)
        .join(BuildEvidence, BuildEvidence.delivery_id == Build.delivery_id)
        .where(BuildImage.image_id == image_id)
        .order_by(BuildImage.started_at.desc(), BuildImage.build_id.desc())
        .limit(1)
    )
    return load_evidence(session, [delivery_id]).get(delivery_id) if delivery_id is not None else None


def is_built(session: Session, image_id: int, commit: str) -> bool:
    """Whether a build of an image from a commit is known: its figures say more than a forecast."""
    return (
        session.scalar(
            select(Build.id)
            .join(BuildImage, BuildImage.build_id == Build.id)
            .where(BuildImage.image_id == image_id, Build.commit_id == commit)
            .limit(1)
        )
        is not None
    )


def find_first_recommendation(session: Session, image_id: int) -> StoredRecommendation | None:
    """The open recommendation for an image that saves most time."""
    saving = func.coalesce(StoredRecommendation.saving_seconds, 0.0)
    return session.scalar(
        select(StoredRecommendation)
        .where(StoredRecommendation.image_id == image_id, StoredRecommendation.state == "open")
        .order_by(saving.desc(), StoredRecommendation.id)
        .limit(1)
    )


def find_latest_size(session: Session, repository_id: int) -> int | None:
    """Compressed bytes of the newest measured version of the default branch."""
    return session.scalar(
        select(ImageSize.compressed_bytes)
        .where(
            ImageSize.repository_id == repository_id,
            ImageSize.branch_class == "default",
            ImageSize.compressed_bytes.is_not(None),
        )
        .order_by(ImageSize.released_at.desc(), ImageSize.id.desc())
        .limit(1)
    )


def find_size(session: Session, shown: ImageOfBuild) -> feedback.SizeChange | None:
    """What the image of a build weighs, beside the version of its baseline; None where it was not measured.

    Of a build that made several images only those count whose names are among the tags that it printed.
    """
    names = {image_name(str(tag)) for tag in shown.figures.tags}
    sizes = session.execute(
        select(ImageSize, SizedImage.name)
        .join(SizedImage, SizedImage.id == ImageSize.sized_image_id)
        .where(
            ImageSize.build_id.in_([shown.build.id, shown.build.baseline_build_id or 0]),
            ImageSize.compressed_bytes.is_not(None),
        )
        .order_by(ImageSize.platform, ImageSize.id)
    ).all()
    own = [row for row, name in sizes if row.build_id == shown.build.id and (name in names or not names)]
    now = next((row for row in own if row.platform == shown.image.platform), own[0] if own else None)
    if now is None or now.compressed_bytes is None:
        return None
    place = (now.sized_image_id, now.platform)
    before = [
        row.compressed_bytes for row, _ in sizes if row is not now and (row.sized_image_id, row.platform) == place
    ]
    return feedback.SizeChange(compressed_bytes=now.compressed_bytes, before_bytes=before[-1] if before else None)


def list_recent_images(session: Session, repository_id: int, since: datetime, limit: int = 20) -> Sequence[Image]:
    """The images of a repository that were built since a time."""
    recent = (
        select(BuildImage.image_id)
        .where(BuildImage.repository_id == repository_id, BuildImage.started_at >= since)
        .distinct()
    )
    return session.scalars(
        select(Image).where(Image.repository_id == repository_id, Image.id.in_(recent)).order_by(Image.id).limit(limit)
    ).all()
