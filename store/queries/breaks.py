"""Breaks: what a comparison found in a build, and which instructions broke the cache over a period."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import Date, Integer, Row, case, cast, delete, func, select, true, update
from sqlalchemy import insert as plain_insert
from sqlalchemy.orm import Session

from cachescope.comparing import Comparison
from cachescope.metrics import rebuild_seconds, seconds_lost
from store.database import each_of
from store.models import Break, Build, DailyInstructions, Image, Instruction, Repository, Step
from store.queries.rollups import DEFAULT_CLASSES, mark_dirty


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedBreak:
    """An instruction that broke the cache in a period, and what that cost."""

    repository_id: int
    repository_name: str
    instruction_id: int
    image_id: int
    image_name: str
    stage: str
    keyword: str
    text: str
    breaks: int
    lost_seconds: float
    rebuild_seconds: float
    unexplained_seconds: float
    hits: int
    misses: int
    causes: Mapping[str, int]
    """Cause → breaks, the most frequent first."""
    last_day: date
    """The last day in the period on which it broke."""


def load_ranked_breaks(
    session: Session,
    team_id: int,
    first: date,
    last: date,
    *,
    repository_id: int | None = None,
    image_id: int | None = None,
    branch_classes: Sequence[str] = DEFAULT_CLASSES,
    limit: int = 20,
) -> list[RankedBreak]:
    """The instructions of a team, or of one of its repositories, that lost most time; read from the daily sums.

    Ordered by seconds lost to unexpected breaks, then by what nobody could explain, then by the rebuild time of
    expected ones.
    """
    daily = DailyInstructions
    sums = {
        name: func.sum(getattr(daily, name)).label(name)
        for name in ("breaks", "lost_seconds", "rebuild_seconds", "unexplained_seconds", "hits", "misses")
    }
    repositories = select(Repository.id).where(Repository.team_id == team_id)
    if repository_id is not None:
        repositories = repositories.where(Repository.id == repository_id)
    in_period = (
        daily.repository_id.in_(session.scalars(repositories).all()),
        daily.day.between(first, last),
        daily.branch_class.in_(branch_classes),
    )
    last_day = func.max(case((daily.breaks > 0, daily.day)), type_=Date).label("last_day")
    summed = select(daily.instruction_id, last_day, *sums.values()).where(*in_period).group_by(daily.instruction_id)
    if image_id is not None:
        summed = summed.join(Instruction, Instruction.id == daily.instruction_id).where(
            Instruction.image_id == image_id
        )
    worst = session.execute(
        summed.having(sums["breaks"] > 0)
        .order_by(
            sums["lost_seconds"].desc(),
            sums["unexplained_seconds"].desc(),
            sums["rebuild_seconds"].desc(),
            daily.instruction_id,
        )
        .limit(limit)
    ).all()
    ids = [row.instruction_id for row in worst]
    named = {row.id: row for row in session.execute(_select_names(ids))}
    each = each_of(session, daily.causes)
    counted = func.sum(cast(each.c.value, Integer))
    causes: dict[int, dict[str, int]] = defaultdict(dict)
    for instruction_id, cause, count in session.execute(
        select(daily.instruction_id, each.c.key, counted)
        .join(each, true())
        .where(*in_period, daily.instruction_id.in_(ids), daily.breaks > 0)
        .group_by(daily.instruction_id, each.c.key)
        .order_by(daily.instruction_id, counted.desc(), each.c.key)
    ):
        causes[instruction_id][cause] = int(count)
    return [
        RankedBreak(
            repository_id=named[row.instruction_id].repository_id,
            repository_name=named[row.instruction_id].repository_name,
            instruction_id=row.instruction_id,
            image_id=named[row.instruction_id].image_id,
            image_name=named[row.instruction_id].image_name,
            stage=named[row.instruction_id].stage,
            keyword=named[row.instruction_id].keyword,
            text=named[row.instruction_id].text,
            breaks=int(row.breaks),
            lost_seconds=row.lost_seconds,
            rebuild_seconds=row.rebuild_seconds,
            unexplained_seconds=row.unexplained_seconds,
            hits=int(row.hits),
            misses=int(row.misses),
            causes=causes[row.instruction_id],
            last_day=row.last_day,
        )
        for row in worst
    ]


def _select_names(ids: Sequence[int]) -> Any:
    return (
        select(
            Instruction.id,
            Instruction.repository_id,
            Repository.name.label("repository_name"),
            Instruction.image_id,
            Image.name.label("image_name"),
            Instruction.stage,
            Instruction.keyword,
            Instruction.text,
        )
        .join(Image, Image.id == Instruction.image_id)
        .join(Repository, Repository.id == Instruction.repository_id)
        .where(Instruction.id.in_(ids))
    )


def load_breaks(session: Session, build_id: int) -> Sequence[Break]:
    """The breaks of a build in the order of its steps."""
    return session.scalars(select(Break).where(Break.build_id == build_id).order_by(Break.position)).all()


def load_latest_breaks(
    session: Session, repository_id: int, instruction_id: int, limit: int = 20
) -> Sequence[Row[Break, Build]]:
    """The latest breaks of an instruction, each with its build, newest first."""
    return session.execute(
        select(Break, Build)
        .join(Build, Build.id == Break.build_id)
        .where(Break.instruction_id == instruction_id, Break.repository_id == repository_id)
        .order_by(Break.day.desc(), Break.build_id.desc())
        .limit(limit)
    ).all()


def marks_of(comparison: Comparison) -> list[dict[str, Any]]:
    """What a comparison says of each step: the columns `is_break`, `break_position`, `cause` and `expected`."""
    marks: list[dict[str, Any]] = [
        {"is_break": False, "break_position": None, "cause": None, "expected": None} for _ in comparison.build.steps
    ]
    # Two breaks may share a part of their cascades: the first of them is named, as `Comparison.break_position` does.
    for found in reversed(comparison.breaks):
        said = {"cause": found.cause, "expected": found.expected}
        for position in found.cascade:
            marks[position] = {"is_break": False, "break_position": found.position, **said}
    for found in comparison.breaks:
        marks[found.position] = {
            "is_break": True,
            "break_position": None,
            "cause": found.cause,
            "expected": found.expected,
        }
    return marks


def save_breaks(
    session: Session,
    build: Build,
    comparison: Comparison,
    images: Sequence[int | None],
    instructions: Sequence[int | None],
) -> None:
    """Store the breaks of a build and what they cost it; `images` and `instructions` run parallel to its steps."""
    breaks = comparison.breaks
    build.lost_seconds = seconds_lost(breaks)
    build.rebuild_seconds = rebuild_seconds(breaks)
    worst = max(breaks, key=lambda found: (found.cost_seconds or 0.0, found.expected is False), default=None)
    build.headline_break = None
    if worst is not None:
        step = comparison.build.steps[worst.position]
        build.headline_break = {
            "position": worst.position,
            "instruction": step.text[:500],
            "stage": step.stage,
            "cause": worst.cause,
            "expected": worst.expected,
            "cost_seconds": worst.cost_seconds,
        }
    if breaks:
        session.execute(
            plain_insert(Break),
            [
                {
                    "build_id": build.id,
                    "position": found.position,
                    "repository_id": build.repository_id,
                    "image_id": images[found.position],
                    "instruction_id": instructions[found.position],
                    "day": build.day,
                    "branch_class": build.branch_class,
                    "cause": found.cause,
                    "confidence": str(found.confidence),
                    "expected": found.expected,
                    "cost_seconds": found.cost_seconds,
                    "own_seconds": found.own_seconds,
                    "cascade": list(found.cascade),
                    "files": list(found.files),
                    "evidence": list(found.evidence),
                    "possible": list(found.possible),
                }
                for found in breaks
            ],
        )


def replace_breaks(session: Session, build: Build, comparison: Comparison) -> None:
    """Store what a second comparison found, after more evidence came in."""
    rows = session.execute(
        select(Step.image_id, Step.instruction_id).where(Step.build_id == build.id).order_by(Step.position)
    ).all()
    session.execute(delete(Break).where(Break.build_id == build.id))
    save_breaks(session, build, comparison, [row.image_id for row in rows], [row.instruction_id for row in rows])
    marks = marks_of(comparison)
    session.execute(
        update(Step),
        [{"build_id": build.id, "position": position, **mark} for position, mark in enumerate(marks)],
    )
    mark_dirty(session, build.repository_id, [build.day])
