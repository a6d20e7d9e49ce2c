"""Saves what was read from a log: builds, images, steps, instructions, figures and breaks, in one transaction.

Saving the reading of a delivery again replaces its builds in place: they keep their ids and with them their addresses.
Builds of one repository are saved one after another, so that two logs cannot give one instruction two identities.
"""

import posixpath
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from cachescope import model
from cachescope.comparing import Comparison, Evidence, find_breaks
from cachescope.matching import KnownInstruction
from cachescope.metrics import (
    Avoided,
    cache_overhead,
    critical_path,
    figures,
    reachable_efficiency,
    step_figures,
    time_avoided,
)
from store.models import Build, BuildImage, Delivery, Repository, Step
from store.queries.breaks import marks_of, replace_breaks, save_breaks
from store.queries.builds import (
    clear_builds,
    delete_builds,
    executed_instructions,
    find_baseline,
    find_latest_build,
    key_of,
    load_build,
    load_steps,
    read_build,
)
from store.queries.evidence import load_evidence_between
from store.queries.instructions import (
    Reference,
    group_by_image,
    identify,
    is_identified,
    load_references,
    recompute_references,
    save_last_seen,
    save_texts,
)
from store.queries.recommendations import schedule
from store.queries.repositories import USUAL_DEFAULT_BRANCHES, get_or_create_image, set_default_branch
from store.queries.rollups import mark_dirty
from store.queries.runs import RunFacts, get_or_create_run

_FIRST_DOCKER_RELEASE = datetime(2013, 3, 1, tzinfo=UTC)
_LARGEST = 2**31 - 1
_LONGEST_SECONDS = 366 * 86_400.0
_LONGEST_ERROR = 64 * 1024
_LOADS_DEFINITION = re.compile(r"load build definition from (\S+)")

_Rows = Sequence[Any]
_Owner = tuple[int | None, int | None]
"""Image and instruction of a step."""


@dataclass(slots=True)
class _Saver:
    """What saving the builds of one delivery shares."""

    session: Session
    repository: Repository
    delivery: Delivery
    facts: RunFacts
    evidence: Evidence | None
    """None where what was sent with the logs is all that is known."""
    run_id: int
    is_alone: bool
    """Whether the log holds one build only."""
    texts: dict[str, int]
    former_references: dict[int, dict[int, float | None]] = field(default_factory=dict)
    """Build → instruction → the reference cost that it had when the build was saved for the first time."""
    image_ids: dict[tuple[str, str, str], int] = field(default_factory=dict)
    stored: dict[int, tuple[model.Build, _Rows]] = field(default_factory=dict)


def save_reading(
    session: Session,
    delivery: Delivery,
    repository: Repository,
    reading: model.LogReading,
    facts: RunFacts | None = None,
    *,
    evidence: Evidence | None = None,
    read_with: str | None = None,
) -> list[int]:
    """Save the builds of a log and return their ids in its order; builds that this delivery had before are replaced.

    Each build is compared with its baseline, by the given evidence or else by what was sent with the two logs. The days
    before and after are marked to be summed up again. Whoever calls finishes the delivery in the same transaction.
    """
    if delivery.team_id != repository.team_id:
        raise ValueError(f"Delivery {delivery.id} and repository {repository.id} belong to different teams.")
    facts = facts or RunFacts.from_parameters(delivery.parameters)
    # One writer per repository; whoever only adds rows that refer to it need not wait.
    session.execute(select(Repository.id).where(Repository.id == repository.id).with_for_update(key_share=True))
    _learn_default_branch(session, repository, facts)
    delivery.repository_id = repository.id
    delivery.wrapper, delivery.lines, delivery.warnings = reading.wrapper, reading.lines, list(reading.warnings)
    delivery.read_with = read_with
    former = list(session.scalars(select(Build).where(Build.delivery_id == delivery.id).order_by(Build.position)).all())
    if not reading.builds and not former:
        return []
    mark_before = [build.day for build in former]
    former_references = _former_references(session, former)
    executed = clear_builds(session, [build.id for build in former])
    delete_builds(session, former[len(reading.builds) :])
    if not reading.builds:
        recompute_references(session, executed)
        return []
    saver = _Saver(
        session=session,
        repository=repository,
        delivery=delivery,
        facts=facts,
        evidence=evidence,
        run_id=get_or_create_run(session, repository.id, facts, delivery.id).id,
        is_alone=len(reading.builds) == 1,
        texts=save_texts(session, repository.id, {step.text for build in reading.builds for step in build.steps}),
        former_references=former_references,
    )
    saved = [
        _save_build(saver, position, _plausible(build), former[position] if position < len(former) else None)
        for position, build in enumerate(reading.builds)
    ]
    if former:
        # The replaced builds had a part in the reference costs already: they are worked out from all that is stored.
        recompute_references(session, executed | executed_instructions(session, [build.id for build in saved]))
    mark_dirty(session, repository.id, [*mark_before, *(build.day for build in saved)])
    session.flush()
    return [build.id for build in saved]


def compare_again(session: Session, build: Build, evidence: Evidence) -> Comparison:
    """Compare a stored build with its baseline once more, now that more is known, and store what that finds."""
    after = load_build(session, build)
    stored = session.get(Build, build.baseline_build_id) if build.baseline_build_id is not None else None
    baseline = None if stored is None else load_build(session, stored)
    runner_before = stored.runner if stored is not None else None
    comparison = find_breaks(after, baseline, replace(evidence, runner_before=runner_before, runner_after=build.runner))
    replace_breaks(session, build, comparison)
    session.flush()
    return comparison


def _learn_default_branch(session: Session, repository: Repository, facts: RunFacts) -> None:
    """Believe CI; else take the first of the usual names that a repository's first build is on."""
    if facts.default_branch:
        set_default_branch(session, repository, facts.default_branch)
        return
    is_usual = facts.branch in USUAL_DEFAULT_BRANCHES and not facts.pull_request
    if is_usual and facts.branch and facts.branch != repository.default_branch:
        on_default = select(Build.id).where(
            Build.repository_id == repository.id, Build.branch.in_((repository.default_branch, ""))
        )
        if session.scalar(on_default.limit(1)) is None:
            set_default_branch(session, repository, facts.branch)


def _former_references(session: Session, former: Sequence[Build]) -> dict[int, dict[int, float | None]]:
    rows = session.execute(
        select(Step.build_id, Step.instruction_id, Step.reference_seconds).where(
            Step.build_id.in_([build.id for build in former]), Step.instruction_id.is_not(None)
        )
    )
    found: dict[int, dict[int, float | None]] = {}
    for build_id, instruction_id, seconds in rows:
        found.setdefault(build_id, {})[instruction_id or 0] = seconds
    return found


def _save_build(saver: _Saver, position: int, build: model.Build, former: Build | None) -> Build:
    session, facts = saver.session, saver.facts
    row = former or Build(repository_id=saver.repository.id, delivery_id=saver.delivery.id, position=position)
    _write_facts(saver, row, build)
    session.add(row)
    session.flush()
    images = _images_of_steps(saver, build)
    members = group_by_image(build.steps, images)
    order = sorted(members, key=lambda image_id: (-len(members[image_id]), image_id))
    baseline = _find_baseline(saver, row, order)
    row.baseline_build_id = baseline.id if baseline is not None else None
    instructions = _identify_steps(saver, row, build, members, baseline)
    known = load_references(session, (i for i in instructions if i is not None))
    references = _references_before(saver, row, instructions, known)
    evidence = saver.evidence or load_evidence_between(session, saver.delivery.id, baseline)
    comparison = find_breaks(
        build,
        _stored(saver, baseline)[0] if baseline is not None else None,
        replace(evidence, runner_before=baseline.runner if baseline is not None else None, runner_after=facts.runner),
    )
    _write_figures(row, build, references, comparison)
    save_breaks(session, row, comparison, images, instructions)
    _save_images(saver, row, build, members, references)
    _save_steps(saver, row, comparison, owners=list(zip(images, instructions, strict=True)), references=references)
    seen = {i: step for i, step in zip(instructions, build.steps, strict=True) if i is not None}
    save_last_seen(session, row.id, seen, known)
    has_dockerfile = bool(evidence.dockerfiles_after)
    schedule(session, saver.repository.id, members, saver.delivery.received_at, has_dockerfile=has_dockerfile)
    session.flush()
    return row


def _write_facts(saver: _Saver, row: Build, build: model.Build) -> None:
    facts = saver.facts
    row.run_id = saver.run_id
    row.line = _whole(build.line)
    row.builder, row.format = build.builder, build.format
    row.outcome = str(build.outcome)
    if build.outcome == model.Outcome.INCOMPLETE and facts.outcome in ("failed", "canceled"):
        row.outcome = facts.outcome
    row.error = build.error[:_LONGEST_ERROR] if build.error is not None else None
    row.duration_seconds = build.duration_seconds
    row.started_at, row.started_from = _start(saver, build)
    row.finished_at = (
        row.started_at + timedelta(seconds=row.duration_seconds) if row.duration_seconds is not None else None
    )
    row.day = row.started_at.date()
    row.branch = facts.branch or ""
    row.branch_class = _branch_class(saver)
    row.commit_id, row.runner = facts.commit_id, facts.runner
    row.context_bytes = _whole(build.context_bytes, 2**62)
    row.images = [asdict(image) for image in build.images]
    row.base_images = [asdict(image) for image in build.base_images]
    row.cache_imports = [asdict(transfer) for transfer in build.cache_imports]
    row.cache_exports = [asdict(transfer) for transfer in build.cache_exports]
    row.warnings = list(build.warnings)
    row.received_at = saver.delivery.received_at


def _plausible(build: model.Build) -> model.Build:
    """Leave out seconds that no build can have taken, before any figure is made from them."""
    steps = tuple(
        replace(
            step,
            started_seconds=_seconds(step.started_seconds),
            duration_seconds=_seconds(step.duration_seconds),
        )
        for step in build.steps
    )
    transfers = [
        tuple(replace(transfer, seconds=_seconds(transfer.seconds)) for transfer in kind)
        for kind in (build.cache_imports, build.cache_exports)
    ]
    return replace(
        build,
        steps=steps,
        duration_seconds=_seconds(build.duration_seconds),
        cache_imports=transfers[0],
        cache_exports=transfers[1],
    )


def _start(saver: _Saver, build: model.Build) -> tuple[datetime, str]:
    """When a build started and who told: a builder whose clock is years off is not believed."""
    received_at = saver.delivery.received_at
    latest = received_at + timedelta(days=1)
    if build.started_at is not None and _FIRST_DOCKER_RELEASE.timestamp() <= build.started_at <= latest.timestamp():
        return datetime.fromtimestamp(build.started_at, UTC), "log"
    if saver.facts.started_at is not None and saver.facts.started_at <= latest:
        return saver.facts.started_at, "run"
    return received_at, "delivery"


def _branch_class(saver: _Saver) -> str:
    if saver.facts.pull_request:
        return "pull_request"
    return "default" if saver.facts.branch in (None, "", saver.repository.default_branch) else "branch"


def _images_of_steps(saver: _Saver, build: model.Build) -> list[int | None]:
    """The image that each step belongs to; steps that belong to the build as a whole have none."""
    dockerfiles = _dockerfiles(build)
    fallback = _fallback_target(saver, build)
    platforms = {step.platform for step in build.steps if is_identified(step) and step.platform}
    only_platform = next(iter(platforms)) if len(platforms) == 1 else ""
    images: list[int | None] = []
    for step in build.steps:
        if step.kind != model.StepKind.INSTRUCTION:
            images.append(None)
            continue
        dockerfile = _told_dockerfile(saver.facts) or _dockerfile_of(dockerfiles, step.target)
        key = (dockerfile, step.target or fallback, step.platform or only_platform)
        if key not in saver.image_ids:
            saver.image_ids[key] = get_or_create_image(
                saver.session,
                saver.repository.id,
                dockerfile=key[0],
                target=key[1],
                platform=key[2],
                name=_image_name(saver, step.target, key),
            ).id
        images.append(saver.image_ids[key])
    return images


def _told_dockerfile(facts: RunFacts) -> str:
    return posixpath.normpath(facts.dockerfile) if facts.dockerfile else ""


def _dockerfiles(build: model.Build) -> dict[str | None, set[str]]:
    """The file names that BuildKit prints while it loads them, by target."""
    names: dict[str | None, set[str]] = {}
    for step in build.steps:
        if step.kind == model.StepKind.INTERNAL and (found := _LOADS_DEFINITION.search(step.text)):
            names.setdefault(step.target, set()).add(found[1])
    return names


def _dockerfile_of(names: dict[str | None, set[str]], target: str | None) -> str:
    """The file of a target; nothing where several were loaded and none is known to be its own."""
    own = names.get(target) or set().union(*names.values())
    return next(iter(own)) if len(own) == 1 else ""


def _fallback_target(saver: _Saver, build: model.Build) -> str:
    """What tells images apart whose steps carry no target: the name that CI gave, else their tag's."""
    if saver.facts.image and not saver.facts.dockerfile:
        return saver.facts.image
    tags = [tag for image in build.images for tag in image.tags]
    if not saver.is_alone and not saver.facts.dockerfile and tags:
        return tags[0].partition("@")[0].rpartition("/")[2].partition(":")[0]
    return ""


def _image_name(saver: _Saver, target: str | None, key: tuple[str, str, str]) -> str:
    folder, _, file = key[0].rpartition("/")
    by_file = folder or (file if file not in ("", "Dockerfile") else "")
    return target or saver.facts.image or key[1] or by_file or saver.repository.name


def _find_baseline(saver: _Saver, row: Build, images: Sequence[int]) -> Build | None:
    """The baseline by the image with most steps; another image's where that one has none yet."""
    default = saver.repository.default_branch
    places = [(row.branch, row.branch_class)]
    if base := saver.facts.base_branch:
        places.append((base, "default" if base == default else "branch"))
    places += [(default, "default"), ("", "default")]
    for image_id in images:
        found = find_baseline(saver.session, image_id=image_id, places=list(dict.fromkeys(places)), before=key_of(row))
        if found is not None:
            return saver.session.get_one(Build, found)
    return None


def _stored(saver: _Saver, build: Build) -> tuple[model.Build, _Rows]:
    if build.id not in saver.stored:
        rows = load_steps(saver.session, build.id)
        saver.stored[build.id] = (read_build(build, rows), rows)
    return saver.stored[build.id]


def _identify_steps(
    saver: _Saver, row: Build, build: model.Build, members: dict[int, list[int]], baseline: Build | None
) -> list[int | None]:
    instructions: list[int | None] = [None] * len(build.steps)
    for image_id, positions in sorted(members.items()):
        ids = identify(
            saver.session,
            repository_id=saver.repository.id,
            image_id=image_id,
            build_id=row.id,
            steps=[build.steps[position] for position in positions],
            known=_known_instructions(saver, image_id, baseline),
        )
        for position, instruction_id in zip(positions, ids, strict=True):
            instructions[position] = instruction_id
    return instructions


def _known_instructions(saver: _Saver, image_id: int, baseline: Build | None) -> list[KnownInstruction]:
    """The instructions of an image as the baseline had them; without one there, as its latest build had them."""
    for build_id in (baseline.id if baseline is not None else None, find_latest_build(saver.session, image_id)):
        if build_id is None:
            continue
        rows = _stored(saver, saver.session.get_one(Build, build_id))[1]
        known = [
            KnownInstruction(
                id=step.instruction_id,
                text=text,
                stage=step.stage,
                index=step.idx if step.idx is not None else step.position,
            )
            for step, text in rows
            if step.image_id == image_id and step.instruction_id is not None
        ]
        if known:
            return known
    return []


def _references_before(
    saver: _Saver, row: Build, instructions: Sequence[int | None], known: dict[int, Reference]
) -> list[float | None]:
    """The reference cost of each step before this build; one that is read again keeps what it had."""
    former = saver.former_references.get(row.id, {})
    return [
        None if i is None else former[i] if i in former else known[i].seconds if i in known else None
        for i in instructions
    ]


def _write_figures(row: Build, build: model.Build, references: Sequence[float | None], comparison: Comparison) -> None:
    counted = figures(build)
    avoided = time_avoided(build.steps, references)
    row.cacheable, row.hits, row.misses, row.unknown = counted.cacheable, counted.hits, counted.misses, counted.unknown
    row.seconds_spent = counted.seconds_spent
    row.seconds_avoided = _known_avoided(avoided)
    row.avoided_unknown = avoided.hits_unknown
    row.overhead_seconds = cache_overhead(build)
    row.reachable_efficiency = reachable_efficiency(build.steps, references, comparison.breaks)
    path = critical_path(build, comparison.lineage, references)
    row.wall_saved_seconds = path.wall_seconds_saved if path is not None else None


def _known_avoided(avoided: Avoided) -> float | None:
    return None if avoided.hits_unknown and not avoided.hits_counted else avoided.seconds


def _save_images(
    saver: _Saver,
    row: Build,
    build: model.Build,
    members: dict[int, list[int]],
    references: Sequence[float | None],
) -> None:
    rows = []
    for image_id, positions in sorted(members.items()):
        steps = [build.steps[position] for position in positions]
        counted = step_figures(steps)
        avoided = time_avoided(steps, [references[position] for position in positions])
        target = Counter(step.target for step in steps).most_common(1)[0][0]
        built = [image for image in build.images if len(members) == 1 or image.target == target]
        ends = [
            step.started_seconds + step.duration_seconds
            for step in steps
            if step.started_seconds is not None and step.duration_seconds is not None
        ]
        rows.append(
            {
                "build_id": row.id,
                "image_id": image_id,
                "repository_id": row.repository_id,
                "digest": built[0].digest if built else None,
                "tags": [tag for image in built for tag in image.tags],
                "cacheable": counted.cacheable,
                "hits": counted.hits,
                "misses": counted.misses,
                "unknown": counted.unknown,
                "seconds_spent": counted.seconds_spent,
                "seconds_avoided": _known_avoided(avoided),
                "avoided_unknown": avoided.hits_unknown,
                "duration_seconds": row.duration_seconds if len(members) == 1 else _seconds(max(ends, default=None)),
                "branch": row.branch,
                "branch_class": row.branch_class,
                "outcome": row.outcome,
                "started_at": row.started_at,
            }
        )
    if rows:
        saver.session.execute(insert(BuildImage), rows)


def _save_steps(
    saver: _Saver, row: Build, comparison: Comparison, *, owners: Sequence[_Owner], references: Sequence[float | None]
) -> None:
    build = comparison.build
    marks = marks_of(comparison)
    positions = {step.digest: position for position, step in enumerate(build.steps) if step.digest}
    rows = [
        {
            "build_id": row.id,
            "position": position,
            "repository_id": row.repository_id,
            "image_id": owners[position][0],
            "instruction_id": owners[position][1],
            "text_id": saver.texts[step.text],
            "number": _whole(step.number),
            "kind": str(step.kind),
            "target": step.target,
            "stage": step.stage,
            "platform": step.platform,
            "idx": _whole(step.index),
            "total": _whole(step.total),
            "instruction": step.instruction,
            "status": str(step.status),
            "cached": step.cached,
            "cacheable": step.cacheable,
            "started_seconds": step.started_seconds,
            "duration_seconds": step.duration_seconds,
            "digest": step.digest,
            "error": step.error[:_LONGEST_ERROR] if step.error is not None else None,
            "output_lines": _whole(step.output_lines) or 0,
            "transferred_bytes": _whole(step.transferred_bytes, 2**62),
            "line": _whole(step.line),
            "inputs": [positions.get(digest, -1) for digest in step.inputs] or None,
            "reference_seconds": references[position],
            **marks[position],
        }
        for position, step in enumerate(build.steps)
    ]
    if rows:
        saver.session.execute(insert(Step), rows)


def _whole(number: int | None, largest: int = _LARGEST) -> int | None:
    """A number that fits its column; a log may print any."""
    return None if number is None or abs(number) > largest else number


def _seconds(value: float | None) -> float | None:
    """Seconds that a build can have taken."""
    return value if value is not None and isfinite(value) and 0 <= value <= _LONGEST_SECONDS else None
