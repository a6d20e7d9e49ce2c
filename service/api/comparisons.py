"""Two builds side by side, and what one instruction did over time: the compare page and the step panel as JSON."""

from dataclasses import replace
from datetime import datetime
from statistics import median
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from cachescope.aligning import align_steps
from cachescope.errors import NotFoundError
from cachescope.evidence import Evidence
from cachescope.matching import normalize
from service.api.builds import BuildSummary, find_build, next_page, read_key, summarize
from service.dependencies import OPENAPI_SECURITY, SessionDep, ViewerDep, base_url
from service.errors import responses
from store.models import Build, Instruction, Step
from store.queries import builds as build_rows
from store.queries import evidence as evidence_rows
from store.queries import instructions as instruction_rows

router = APIRouter(prefix="/api/v1/builds", tags=["builds"], dependencies=OPENAPI_SECURITY)

Key = Annotated[str | None, Query(max_length=60, description="Key from the address in `next`.")]
Limit = Annotated[int, Query(ge=1, le=200)]
MAX_FILES = 2000
"""Of a larger commit range the changed files beyond are left out, and counted."""


class InputAnswer(BaseModel):
    """Something that went into both builds."""

    name: Literal[
        "commit",
        "branch",
        "runner",
        "builder",
        "base_images",
        "cache_imports",
        "cache_exports",
        "context_bytes",
        "command",
        "dockerfile",
        "dockerignore",
    ]
    target: str | None = Field(description="Of a Dockerfile that goes for one target of a bake or compose file.")
    is_same: bool
    before: Any = Field(description="As it was for the build compared with; null where nobody told.")
    after: Any


class ChangedFileAnswer(BaseModel):
    """A file that differs between the two commits."""

    path: str
    status: str = Field(description="A letter of `git diff --name-status`.")


class SideAnswer(BaseModel):
    """A step in one of the two builds."""

    position: int = Field(description="In `steps` of its build, from 0.")
    stage: str | None
    index: int | None
    platform: str | None
    target: str | None
    text: str
    status: str
    cached: bool | None
    seconds: float | None
    cause: str | None = Field(description="Why it broke the cache; null where it is no break.")
    expected: bool | None


class PairAnswer(BaseModel):
    """An instruction of both builds, or of one."""

    change: Literal["same", "reworded", "cache", "added", "removed"] = Field(
        description="`cache`: the same text, but it hit in one build only."
    )
    before: SideAnswer | None
    after: SideAnswer | None
    seconds_more: float | None = Field(description="How much longer it ran than before; null where one did not run.")


class ComparisonAnswer(BaseModel):
    """Two builds side by side."""

    before: BuildSummary
    after: BuildSummary
    inputs: list[InputAnswer] = Field(description="Those that differ first.")
    changed_files: list[ChangedFileAnswer] | None = Field(description="Null where nobody told.")
    more_changed_files: int
    steps: list[PairAnswer] = Field(description="In the order of the later build, what it lacks where it stood.")


class ExecutionAnswer(BaseModel):
    """What an instruction did in one build."""

    build_id: int
    url: str
    page: str
    started_at: datetime
    branch: str
    commit: str | None
    position: int
    status: str
    cached: bool | None
    seconds: float | None = Field(description="Null for a hit, and where the log times nothing.")
    is_break: bool
    break_position: int | None = Field(description="Of the break because of which it ran.")
    cause: str | None
    expected: bool | None


class HistoryFigures(BaseModel):
    """Sums over the executions of this page."""

    hits: int
    misses: int
    breaks: int
    median_seconds: float | None = Field(description="Of the executions that ran and are timed.")


class HistoryAnswer(BaseModel):
    """An instruction and what it did, newest first."""

    instruction_id: int
    repository_id: int
    image_id: int
    stage: str
    keyword: str
    text: str = Field(description="As last printed.")
    reference_seconds: float | None = Field(description="Reference cost; null while it was never seen to run.")
    executions_timed: int = Field(description="How many executions the reference cost stands on.")
    figures: HistoryFigures
    executions: list[ExecutionAnswer]
    next: str | None = Field(description="Address of the next page; null on the last one.")


@router.get("/{build_id}/compare/{other_id}", summary="Two builds side by side", responses=responses(401, 404))
def compare(request: Request, build_id: int, other_id: int, session: SessionDep, viewer: ViewerDep) -> ComparisonAnswer:
    """Compare a build with another one: what went into them, and their steps lined up."""
    after, before = find_build(session, viewer, build_id), find_build(session, viewer, other_id)
    evidence = evidence_rows.load_evidence_between(session, after.delivery_id, before)
    files = evidence.changed_files
    return ComparisonAnswer(
        before=summarize(request, before),
        after=summarize(request, after),
        inputs=_inputs(before, after, evidence),
        changed_files=(
            [ChangedFileAnswer(path=file.path, status=file.status) for file in files[:MAX_FILES]]
            if files is not None
            else None
        ),
        more_changed_files=max(0, len(files or ()) - MAX_FILES),
        steps=_steps(session, before, after),
    )


@router.get(
    "/{build_id}/compare",
    summary="A build beside the last good one",
    responses=responses(401, 404),
)
def compare_with_last_good(request: Request, build_id: int, session: SessionDep, viewer: ViewerDep) -> ComparisonAnswer:
    """Compare a build with the latest successful one before it."""
    build = find_build(session, viewer, build_id)
    last_good = build_rows.find_last_good(session, build)
    if last_good is None:
        raise NotFoundError(f"There is no earlier build that build {build.id} could be compared with.")
    return compare(request, build.id, last_good, session, viewer)


@router.get(
    "/{build_id}/steps/{position}",
    summary="A step and the history of its instruction",
    responses=responses(401, 404, 422),
)
def get_step(
    *,
    request: Request,
    build_id: int,
    position: int,
    session: SessionDep,
    viewer: ViewerDep,
    before: Key = None,
    limit: Limit = 50,
) -> HistoryAnswer:
    """Tell what the instruction of a step did in the builds of its image, `limit` builds at a time."""
    build = find_build(session, viewer, build_id)
    shown = session.get(Step, (build.id, position)) if 0 <= position < 1 << 31 else None
    instruction = session.get(Instruction, shown.instruction_id) if shown is not None and shown.instruction_id else None
    if instruction is None:
        raise NotFoundError(f"Build {build.id} has no instruction at step {position}.")
    key = read_key(before)
    keys = instruction_rows.load_keys(session, instruction, limit + 1, before=key)
    rows = instruction_rows.load_executions(session, instruction, limit, before=key)
    found = [_execution(request, step, of) for step, of in rows]
    next_url = next_page(request, keys[limit - 1]) if len(keys) > limit else None
    seconds = [one.seconds for one in found if one.seconds is not None]
    return HistoryAnswer(
        instruction_id=instruction.id,
        repository_id=instruction.repository_id,
        image_id=instruction.image_id,
        stage=instruction.stage,
        keyword=instruction.keyword,
        text=instruction.text,
        reference_seconds=instruction.reference_seconds,
        executions_timed=instruction.executions,
        figures=HistoryFigures(
            hits=sum(one.cached is True for one in found),
            misses=sum(one.cached is False and one.status == "done" for one in found),
            breaks=sum(one.is_break for one in found),
            median_seconds=median(seconds) if seconds else None,
        ),
        executions=found,
        next=next_url,
    )


def _inputs(before: Build, after: Build, evidence: Evidence) -> list[InputAnswer]:
    found: list[tuple[Any, str | None, Any, Any]] = [
        ("commit", None, before.commit_id, after.commit_id),
        ("branch", None, before.branch or None, after.branch or None),
        ("runner", None, before.runner, after.runner),
        ("builder", None, before.builder, after.builder),
        ("base_images", None, before.base_images, after.base_images),
        ("cache_imports", None, _transfers(before.cache_imports), _transfers(after.cache_imports)),
        ("cache_exports", None, _transfers(before.cache_exports), _transfers(after.cache_exports)),
        ("context_bytes", None, before.context_bytes, after.context_bytes),
        ("command", None, _words(evidence.command_before), _words(evidence.command_after)),
        ("dockerignore", None, evidence.dockerignore_before, evidence.dockerignore_after),
    ]
    old, new = evidence.dockerfiles_before, evidence.dockerfiles_after
    found += [("dockerfile", name or None, old.get(name), new.get(name)) for name in sorted({*old, *new})]
    answers = [
        InputAnswer(name=name, target=target, is_same=was == is_now, before=was, after=is_now)
        for name, target, was, is_now in found
        if was not in (None, []) or is_now not in (None, [])
    ]
    return sorted(answers, key=lambda answer: answer.is_same)


def _transfers(transfers: list[Any]) -> list[dict[str, Any]]:
    """What was imported or exported and how that ended; how long it took is no input."""
    return [{"ref": one["ref"], "succeeded": one["succeeded"]} for one in transfers]


def _words(command: tuple[str, ...] | None) -> list[str] | None:
    return list(command) if command is not None else None


def _steps(session: SessionDep, before: Build, after: Build) -> list[PairAnswer]:
    rows = [build_rows.load_steps(session, build.id) for build in (before, after)]
    read = [build_rows.read_build(build, found).steps for build, found in zip((before, after), rows, strict=True)]
    if before.repository_id != after.repository_id:
        # Two repositories may name the same target differently.
        read = [tuple(replace(step, target=None) for step in steps) for steps in read]
    sides = [[_side(step, text) for step, text in found] for found in rows]
    return [
        _pair(sides[0][old] if old is not None else None, sides[1][new] if new is not None else None)
        for old, new in align_steps(read[0], read[1])
    ]


def _side(step: Step, text: str) -> SideAnswer:
    return SideAnswer(
        position=step.position,
        stage=step.stage,
        index=step.idx,
        platform=step.platform,
        target=step.target,
        text=text,
        status=step.status,
        cached=step.cached,
        seconds=step.duration_seconds if step.cached is not True else None,
        cause=step.cause if step.is_break else None,
        expected=step.expected if step.is_break else None,
    )


def _pair(before: SideAnswer | None, after: SideAnswer | None) -> PairAnswer:
    if before is None or after is None:
        return PairAnswer(
            change="added" if before is None else "removed", before=before, after=after, seconds_more=None
        )
    is_timed = before.seconds is not None and after.seconds is not None
    return PairAnswer(
        change=_change(before, after),
        before=before,
        after=after,
        seconds_more=round((after.seconds or 0.0) - (before.seconds or 0.0), 6) if is_timed else None,
    )


def _change(before: SideAnswer, after: SideAnswer) -> Literal["same", "reworded", "cache"]:
    if normalize(before.text) != normalize(after.text):
        return "reworded"
    return "same" if before.cached == after.cached else "cache"


def _execution(request: Request, step: Step, build: Build) -> ExecutionAnswer:
    base = base_url(request)
    return ExecutionAnswer(
        build_id=build.id,
        url=f"{base}/api/v1/builds/{build.id}",
        page=f"{base}/builds/{build.id}/steps/{step.position}",
        started_at=build.started_at,
        branch=build.branch,
        commit=build.commit_id,
        position=step.position,
        status=step.status,
        cached=step.cached,
        seconds=step.duration_seconds if step.cached is False else None,
        is_break=step.is_break,
        break_position=step.break_position,
        cause=step.cause if step.is_break else None,
        expected=step.expected if step.is_break else None,
    )
