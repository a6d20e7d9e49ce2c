"""Instructions: which one a step is, over all builds of its image, and what it costs to run."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Row, Select, func, select, tuple_, update
from sqlalchemy import insert as plain_insert
from sqlalchemy.orm import Session

from cachescope.matching import KnownInstruction, match_instructions, normalize
from cachescope.metrics import update_reference
from cachescope.model import Step, StepKind, StepStatus
from store.database import insert
from store.models import Build, BuildImage, Instruction, StepText, Wording
from store.models import Step as StepRow

_LOOKED_BACK = 50
"""Executions that a reference cost is worked out from: what lies further back weighs less than a billionth."""
_BATCH = 500


@dataclass(frozen=True, slots=True)
class Reference:
    """What is known of an instruction's cost."""

    seconds: float | None
    executions: int


def hash_text(*parts: str) -> str:
    """A hash of texts, short enough for an index."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:32]


def is_identified(step: Step) -> bool:
    """Whether a step gets an instruction: every Dockerfile line but FROM."""
    return step.kind == StepKind.INSTRUCTION and step.instruction != "FROM"


def is_execution(step: Step) -> bool:
    """Whether a step tells what its instruction costs to run."""
    return (
        is_identified(step)
        and step.cached is False
        and step.status == StepStatus.DONE
        and step.duration_seconds is not None
    )


def save_texts(session: Session, repository_id: int, texts: Iterable[str]) -> dict[str, int]:
    """Store texts that are new to a repository; returns the id of each."""
    by_hash = {hash_text(text): text for text in texts}
    hashes = sorted(by_hash)
    found = _find_texts(session, repository_id, hashes)
    if new := [key for key in hashes if key not in found]:
        for start in range(0, len(new), _BATCH):
            rows = [
                {"repository_id": repository_id, "text_hash": key, "text": by_hash[key]}
                for key in new[start : start + _BATCH]
            ]
            session.execute(insert(session, StepText).values(rows).on_conflict_do_nothing())
        found |= _find_texts(session, repository_id, new)
    return {text: found[key] for key, text in by_hash.items()}


def _find_texts(session: Session, repository_id: int, hashes: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for start in range(0, len(hashes), _BATCH):
        found |= dict(
            session.execute(
                select(StepText.text_hash, StepText.id).where(
                    StepText.repository_id == repository_id, StepText.text_hash.in_(hashes[start : start + _BATCH])
                )
            ).all()
        )
    return found


def identify(
    session: Session,
    *,
    repository_id: int,
    image_id: int,
    build_id: int,
    steps: Sequence[Step],
    known: Sequence[KnownInstruction],
) -> list[int]:
    """Say which instruction each step of one image is; new ones are stored. Call it for one image at a time.

    Wordings seen before are looked up. Where a wording is new, `known`, the instructions of an earlier build, tells
    which of them was reworded, moved or renamed; all others are new instructions.
    """
    keys = wording_keys(steps)
    wordings = dict(
        session.execute(
            select(Wording.text_hash, Wording.instruction_id).where(
                Wording.image_id == image_id, Wording.text_hash.in_(keys)
            )
        ).all()
    )
    ids: list[int | None] = [wordings.get(key) for key in keys]
    if None in ids or len(set(ids)) < len(ids):
        matched = match_instructions(known, steps)
        taken = set(matched.values())
        ids = [matched.get(position) for position in range(len(steps))]
        for position, key in enumerate(keys):
            if ids[position] is None and (former := wordings.get(key)) is not None and former not in taken:
                ids[position] = former
                taken.add(former)
    new = [position for position, instruction_id in enumerate(ids) if instruction_id is None]
    if new:
        rows = [
            {
                "image_id": image_id,
                "repository_id": repository_id,
                "stage": steps[position].stage or "",
                "keyword": steps[position].instruction or "",
                "text": steps[position].text,
                "text_hash": keys[position],
                "first_build_id": build_id,
                "last_build_id": build_id,
            }
            for position in new
        ]
        created = session.scalars(
            plain_insert(Instruction).returning(Instruction.id, sort_by_parameter_order=True), rows
        )
        for position, instruction_id in zip(new, created, strict=True):
            ids[position] = instruction_id
    complete = [instruction_id for instruction_id in ids if instruction_id is not None]
    unseen = [
        {"image_id": image_id, "text_hash": key, "instruction_id": instruction_id}
        for key, instruction_id in sorted(zip(keys, complete, strict=True))
        if key not in wordings
    ]
    if unseen:
        session.execute(insert(session, Wording).values(unseen).on_conflict_do_nothing())
    return complete


def wording_keys(steps: Sequence[Step]) -> list[str]:
    """A key for the wording of each step: its stage, its normalised text, and which of several equal ones it is."""
    seen: Counter[tuple[str, str]] = Counter()
    keys = []
    for step in steps:
        place = (step.stage or "", normalize(step.text))
        keys.append(hash_text(*place, str(seen[place])))
        seen[place] += 1
    return keys


def load_references(session: Session, instruction_ids: Iterable[int]) -> dict[int, Reference]:
    """The reference costs of some instructions."""
    rows = session.execute(
        select(Instruction.id, Instruction.reference_seconds, Instruction.executions).where(
            Instruction.id.in_(sorted(set(instruction_ids)))
        )
    )
    return {instruction_id: Reference(seconds, executions) for instruction_id, seconds, executions in rows}


def save_last_seen(
    session: Session, build_id: int, seen: Mapping[int, Step], references: Mapping[int, Reference]
) -> None:
    """Note that a build had some instructions, as it words them, and what it adds to their reference costs."""
    rows = []
    for instruction_id, step in sorted(seen.items()):
        reference = references.get(instruction_id, Reference(None, 0))
        if is_execution(step) and step.duration_seconds is not None:
            reference = Reference(update_reference(reference.seconds, step.duration_seconds), reference.executions + 1)
        rows.append(
            {
                "id": instruction_id,
                "last_build_id": build_id,
                "stage": step.stage or "",
                "text": step.text,
                "reference_seconds": reference.seconds,
                "executions": reference.executions,
            }
        )
    if rows:
        session.execute(update(Instruction), rows)


def recompute_references(session: Session, instruction_ids: Iterable[int]) -> None:
    """Work reference costs out again from the stored steps: after builds were replaced or deleted."""
    ids = sorted(set(instruction_ids))
    rows = []
    for instruction_id in ids:
        of_instruction = (
            StepRow.instruction_id == instruction_id,
            StepRow.cached == False,  # noqa: E712 - `IS false` would not be found in the partial index
            StepRow.status == StepStatus.DONE.value,
            StepRow.duration_seconds.is_not(None),
        )
        seconds = session.scalars(
            select(StepRow.duration_seconds)
            .where(*of_instruction)
            .order_by(StepRow.build_id.desc(), StepRow.position.desc())
            .limit(_LOOKED_BACK)
        ).all()
        reference: float | None = None
        for value in reversed(seconds):
            reference = update_reference(reference, value or 0.0)
        executions = session.scalar(select(func.count()).select_from(StepRow).where(*of_instruction))
        rows.append({"id": instruction_id, "reference_seconds": reference, "executions": executions})
    if rows:
        session.execute(update(Instruction), rows)


def group_by_image(steps: Sequence[Step], images: Sequence[int | None]) -> dict[int, list[int]]:
    """The positions of the instructions of each image."""
    grouped: dict[int, list[int]] = defaultdict(list)
    for position, (step, image_id) in enumerate(zip(steps, images, strict=True)):
        if image_id is not None and is_identified(step):
            grouped[image_id].append(position)
    return dict(grouped)


def load_executions(
    session: Session, instruction: Instruction, limit: int = 60, *, before: tuple[datetime, int] | None = None
) -> Sequence[Row[StepRow, Build]]:
    """What an instruction did in the latest builds of its image that had it, newest first.

    `before` is a key of `load_keys`, (started_at, id): only older builds are looked at.
    """
    newest = _select_keys(instruction, before).limit(limit).subquery()
    return session.execute(
        select(StepRow, Build)
        .join(newest, newest.c.build_id == StepRow.build_id)
        .join(Build, Build.id == StepRow.build_id)
        .where(StepRow.instruction_id == instruction.id)
        .order_by(Build.started_at.desc(), Build.id.desc(), StepRow.position)
    ).all()


def load_keys(
    session: Session, instruction: Instruction, limit: int = 60, *, before: tuple[datetime, int] | None = None
) -> list[tuple[datetime, int]]:
    """The keys of the latest builds of an instruction's image, newest first, whether or not they had it."""
    return [(row.started_at, row.build_id) for row in session.execute(_select_keys(instruction, before).limit(limit))]


def _select_keys(instruction: Instruction, before: tuple[datetime, int] | None) -> Select[datetime, int]:
    key = (BuildImage.started_at, BuildImage.build_id)
    statement = select(*key).where(BuildImage.image_id == instruction.image_id)
    if before is not None:
        statement = statement.where(tuple_(*key) < tuple_(*before, types=[column.type for column in key]))
    return statement.order_by(*(column.desc() for column in key))
