"""Builds: lists by key, one build with its steps as the library knows them, and the baseline of a build."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, ScalarSelect, Select, delete, func, select, tuple_, update
from sqlalchemy.orm import Session, joinedload

from cachescope import model
from store.models import Break, Build, BuildImage, Image, Repository, Step, StepText
from store.queries.instructions import recompute_references
from store.queries.rollups import mark_dirty

BuildKey = tuple[datetime, int]
"""Where a list goes on: (started_at, id) of the last build that was shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildFilter:
    """Which builds of a repository a list shows; None does not filter."""

    branch: str | None = None
    branch_class: str | None = None
    image_id: int | None = None
    outcome: str | None = None
    first: datetime | None = None
    last: datetime | None = None
    """Started at or after `first`, and before `last`."""


def select_builds(repository_id: int, chosen: BuildFilter | None = None) -> Select[Build]:
    """Select the builds that pass a filter, newest first."""
    chosen = chosen or BuildFilter()
    statement = select(Build).where(Build.repository_id == repository_id)
    started_at, build_id, branch, outcome = Build.started_at, Build.id, Build.branch, Build.outcome
    branch_class = Build.branch_class
    if chosen.image_id is not None:
        # The rows of an image hold what a list is filtered and sorted by, so that one index serves it.
        statement = statement.join(BuildImage, BuildImage.build_id == Build.id).where(
            BuildImage.image_id == chosen.image_id
        )
        started_at, build_id = BuildImage.started_at, BuildImage.build_id
        branch, outcome = BuildImage.branch, BuildImage.outcome
        branch_class = BuildImage.branch_class
    if chosen.branch is not None:
        statement = statement.where(branch == chosen.branch)
    if chosen.branch_class is not None:
        statement = statement.where(branch_class == chosen.branch_class)
    if chosen.outcome is not None:
        statement = statement.where(outcome == chosen.outcome)
    if chosen.first is not None:
        statement = statement.where(started_at >= chosen.first)
    if chosen.last is not None:
        statement = statement.where(started_at < chosen.last)
    return statement.order_by(started_at.desc(), build_id.desc())


def load_builds(
    session: Session,
    repository_id: int,
    chosen: BuildFilter | None = None,
    *,
    before: BuildKey | None = None,
    limit: int = 50,
) -> Sequence[Build]:
    """A page of builds with their runs, newest first; `before` is the key of the last one of the page above."""
    statement = select_builds(repository_id, chosen)
    if before is not None:
        is_image = chosen is not None and chosen.image_id is not None
        key = (BuildImage.started_at, BuildImage.build_id) if is_image else (Build.started_at, Build.id)
        statement = statement.where(tuple_(*key) < tuple_(*before, types=[column.type for column in key]))
    return session.scalars(statement.options(joinedload(Build.run)).limit(limit)).all()


def load_transfers(
    session: Session, repository_id: int, chosen: BuildFilter, limit: int = 200
) -> list[tuple[list[model.CacheTransfer], float]]:
    """The cache imports and exports of the newest builds, each with the seconds that its build avoided."""
    newest = select_builds(repository_id, chosen).with_only_columns(
        Build.cache_imports, Build.cache_exports, Build.seconds_avoided
    )
    return [
        ([model.CacheTransfer(**transfer) for transfer in (*imports, *exports)], avoided or 0.0)
        for imports, exports, avoided in session.execute(newest.limit(limit))
        if imports or exports
    ]


def key_of(build: Build) -> BuildKey:
    """The key of a build in a list."""
    return build.started_at, build.id


def find_build(session: Session, team_ids: Sequence[int], build_id: int) -> Build | None:
    """A build with its run and repository, if one of some teams owns it."""
    return session.scalar(
        select(Build)
        .join(Repository, Repository.id == Build.repository_id)
        .where(Build.id == build_id, Repository.team_id.in_(team_ids))
        .options(joinedload(Build.run), joinedload(Build.repository))
    )


def load_builds_of_delivery(session: Session, delivery_id: str) -> Sequence[Build]:
    """The builds that one log held, in its order."""
    return session.scalars(select(Build).where(Build.delivery_id == delivery_id).order_by(Build.position)).all()


def load_newer_and_older(session: Session, build: Build) -> tuple[int | None, int | None]:
    """The builds of the same branch just after and just before this one."""
    of_branch = (Build.repository_id == build.repository_id, Build.branch == build.branch)
    here = tuple_(*key_of(build), types=[Build.started_at.type, Build.id.type])
    place = tuple_(Build.started_at, Build.id)
    newer = session.scalar(
        select(Build.id).where(*of_branch, place > here).order_by(Build.started_at, Build.id).limit(1)
    )
    older = session.scalar(
        select(Build.id).where(*of_branch, place < here).order_by(Build.started_at.desc(), Build.id.desc()).limit(1)
    )
    return newer, older


def load_branches(session: Session, repository_id: int, limit: int = 200) -> list[str]:
    """The branches of a repository's builds by name.

    A DISTINCT would read the whole index; this skips in it from one branch to the next.
    """

    def first_after(name: Any) -> ScalarSelect[str]:
        return (
            select(func.min(Build.branch))
            .where(Build.repository_id == repository_id, Build.branch > name)
            .scalar_subquery()
        )

    names = select(first_after("").label("name")).cte("names", recursive=True)
    names = names.union_all(select(first_after(names.c.name)).where(names.c.name.is_not(None)))
    return list(session.scalars(select(names.c.name).where(names.c.name.is_not(None)).limit(limit)))


def load_images_of_build(session: Session, build_id: int) -> Sequence[BuildImage]:
    """The images of a build with its figures for each, by name."""
    return session.scalars(
        select(BuildImage)
        .join(Image, Image.id == BuildImage.image_id)
        .where(BuildImage.build_id == build_id)
        .options(joinedload(BuildImage.image))
        .order_by(Image.name, Image.platform, Image.id)
    ).all()


def load_steps(session: Session, build_id: int) -> Sequence[Row[Step, str]]:
    """The steps of a build, each with the text it printed, in the order in which they were announced."""
    return session.execute(
        select(Step, StepText.text)
        .join(StepText, StepText.id == Step.text_id)
        .where(Step.build_id == build_id)
        .order_by(Step.position)
    ).all()


def load_build(session: Session, build: Build) -> model.Build:
    """A stored build as the library knows it: what its log said."""
    return read_build(build, load_steps(session, build.id))


def read_build(build: Build, steps: Sequence[Row[Step, str]]) -> model.Build:
    """Put a build together from its rows."""
    digests = {step.position: step.digest for step, _ in steps if step.digest}
    return model.Build(
        builder=build.builder,
        format=build.format,
        outcome=model.Outcome(build.outcome),
        error=build.error,
        started_at=build.started_at.timestamp() if build.started_from == "log" else None,
        duration_seconds=build.duration_seconds,
        context_bytes=build.context_bytes,
        images=tuple(
            model.BuiltImage(digest=image["digest"], id=image["id"], tags=tuple(image["tags"]), target=image["target"])
            for image in build.images
        ),
        cache_imports=tuple(model.CacheTransfer(**transfer) for transfer in build.cache_imports),
        cache_exports=tuple(model.CacheTransfer(**transfer) for transfer in build.cache_exports),
        base_images=tuple(model.BaseImage(**image) for image in build.base_images),
        steps=tuple(_read_step(step, text, digests) for step, text in steps),
        warnings=tuple(build.warnings),
        line=build.line,
    )


def _read_step(step: Step, text: str, digests: dict[int, str]) -> model.Step:
    return model.Step(
        kind=model.StepKind(step.kind),
        text=text,
        status=model.StepStatus(step.status),
        cached=step.cached,
        cacheable=step.cacheable,
        number=step.number,
        target=step.target,
        stage=step.stage,
        platform=step.platform,
        index=step.idx,
        total=step.total,
        instruction=step.instruction,
        started_seconds=step.started_seconds,
        duration_seconds=step.duration_seconds,
        digest=step.digest,
        error=step.error,
        output_lines=step.output_lines,
        line=step.line,
        inputs=tuple(digests.get(position, "") for position in step.inputs or ()),
        transferred_bytes=step.transferred_bytes,
    )


def find_baseline(
    session: Session, *, image_id: int, places: Sequence[tuple[str, str]], before: BuildKey
) -> int | None:
    """The baseline of a build: the latest successful one of the image, in the first of some places that has one.

    A place is a branch with its branch class: a pull request from a fork may come from a branch named as our own.
    """
    for branch, branch_class in places:
        found = session.scalar(
            select(BuildImage.build_id)
            .where(
                BuildImage.image_id == image_id,
                BuildImage.branch == branch,
                BuildImage.branch_class == branch_class,
                BuildImage.outcome == model.Outcome.SUCCEEDED.value,
                tuple_(BuildImage.started_at, BuildImage.build_id)
                < tuple_(*before, types=[BuildImage.started_at.type, BuildImage.build_id.type]),
            )
            .order_by(BuildImage.started_at.desc(), BuildImage.build_id.desc())
            .limit(1)
        )
        if found is not None:
            return found
    return None


def find_last_good(session: Session, build: Build) -> int | None:
    """What a build is best compared with: its baseline, else the latest successful build before it."""
    if build.baseline_build_id is not None:
        return build.baseline_build_id
    here = tuple_(*key_of(build), types=[Build.started_at.type, Build.id.type])
    earlier = (
        select(Build.id)
        .where(Build.repository_id == build.repository_id, tuple_(Build.started_at, Build.id) < here)
        .order_by(Build.started_at.desc(), Build.id.desc())
        .limit(1)
    )
    good = session.scalar(earlier.where(Build.outcome == model.Outcome.SUCCEEDED.value))
    return good if good is not None else session.scalar(earlier)


def find_latest_build(session: Session, image_id: int) -> int | None:
    """The latest build of an image, on whatever branch."""
    return session.scalar(
        select(BuildImage.build_id)
        .where(BuildImage.image_id == image_id)
        .order_by(BuildImage.started_at.desc(), BuildImage.build_id.desc())
        .limit(1)
    )


def delete_builds(session: Session, builds: Sequence[Build]) -> None:
    """Delete builds of one repository, mark their days, and work the reference costs they changed out again."""
    if not builds:
        return
    ids = [build.id for build in builds]
    repository_id = builds[0].repository_id
    mark_dirty(session, repository_id, [build.day for build in builds])
    touched = clear_builds(session, ids)
    session.execute(
        update(Build)
        .where(Build.repository_id == repository_id, Build.baseline_build_id.in_(ids))
        .values(baseline_build_id=None)
    )
    session.execute(delete(Build).where(Build.id.in_(ids)))
    recompute_references(session, touched)


def clear_builds(session: Session, ids: Sequence[int]) -> set[int]:
    """Delete what belongs to some builds, but not themselves; returns the instructions that had run in them."""
    if not ids:
        return set()
    executed = executed_instructions(session, ids)
    for table in (Break, Step, BuildImage):
        session.execute(delete(table).where(table.build_id.in_(ids)).execution_options(synchronize_session="fetch"))
    return executed


def executed_instructions(session: Session, ids: Sequence[int]) -> set[int]:
    """The instructions that ran in some builds."""
    found = session.scalars(
        select(Step.instruction_id)
        .where(Step.build_id.in_(ids), Step.instruction_id.is_not(None), Step.cached.is_(False))
        .distinct()
    )
    return {instruction_id for instruction_id in found if instruction_id is not None}
