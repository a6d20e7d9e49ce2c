"""Rows for exports: read in pages of builds, so that a million steps need no more memory than a hundred."""

from collections.abc import Iterator
from datetime import date
from typing import Any

from sqlalchemy import Engine, select, tuple_
from sqlalchemy.types import TypeDecorator

from store.database import reading
from store.models import Build, Run, Step, StepText

PAGE = 500
"""Builds that one query looks for."""
ROWS = 5_000
"""Steps that are in memory at once, at most."""
BUILD_FIELDS = (
    "id",
    "started_at",
    "outcome",
    "builder",
    "format",
    "branch",
    "branch_class",
    "commit_id",
    "runner",
    "duration_seconds",
    "context_bytes",
    "cacheable",
    "hits",
    "misses",
    "unknown",
    "seconds_spent",
    "seconds_avoided",
    "avoided_unknown",
    "lost_seconds",
    "rebuild_seconds",
    "overhead_seconds",
    "baseline_build_id",
    "day",
    "received_at",
)
RUN_FIELDS = ("provider", "job", "attempt", "url", "pull_request", "actor", "is_bot")
STEP_FIELDS = (
    "build_id",
    "position",
    "number",
    "kind",
    "target",
    "stage",
    "platform",
    "idx",
    "total",
    "instruction",
    "status",
    "cached",
    "cacheable",
    "started_seconds",
    "duration_seconds",
    "digest",
    "output_lines",
    "transferred_bytes",
    "reference_seconds",
    "is_break",
    "break_position",
    "cause",
    "expected",
)


def _type(column: Any) -> type[Any]:
    kind = column.type
    return (kind.impl_instance if isinstance(kind, TypeDecorator) else kind).python_type


BUILD_TYPES: dict[str, type[Any]] = {
    **{name: _type(getattr(Build, name)) for name in BUILD_FIELDS},
    **{f"run_{name}": _type(getattr(Run, name)) for name in RUN_FIELDS},
}
"""The columns of an export of builds, with the type of their values where they are there."""
STEP_TYPES: dict[str, type[Any]] = {
    **{name: _type(getattr(Step, name)) for name in STEP_FIELDS},
    "text": str,
}


def read_builds(
    engine: Engine, repository_id: int, first: date | None = None, last: date | None = None
) -> Iterator[list[tuple[Any, ...]]]:
    """Yield pages of builds by id, each row BUILD_FIELDS and then RUN_FIELDS; a page is one short transaction."""
    columns = [getattr(Build, name) for name in BUILD_FIELDS]
    statement = select(*columns, *(getattr(Run, name) for name in RUN_FIELDS)).join(Run, Run.id == Build.run_id)
    statement = _chosen(statement, repository_id, first, last)
    after = 0
    while True:
        with reading(engine) as session:
            rows = session.execute(statement.where(Build.id > after).order_by(Build.id).limit(PAGE)).all()
        if not rows:
            return
        yield [tuple(row) for row in rows]
        after = rows[-1][0]


def read_steps(
    engine: Engine, repository_id: int, first: date | None = None, last: date | None = None
) -> Iterator[list[tuple[Any, ...]]]:
    """Yield pages of steps by build and position, each row STEP_FIELDS and then the instruction's text."""
    builds = _chosen(select(Build.id), repository_id, first, last)
    statement = (
        select(*(getattr(Step, name) for name in STEP_FIELDS), StepText.text)
        .join(StepText, StepText.id == Step.text_id)
        .order_by(Step.build_id, Step.position)
        .limit(ROWS)
    )
    after = 0
    while True:
        with reading(engine) as session:
            ids = session.scalars(builds.where(Build.id > after).order_by(Build.id).limit(PAGE)).all()
        if not ids:
            return
        last_step = (0, -1)
        # One log may hold more steps than other repositories do: their number has a limit as well.
        while ids:
            here = tuple_(Step.build_id, Step.position) > tuple_(*last_step)
            with reading(engine) as session:
                rows = session.execute(statement.where(Step.build_id.in_(ids), here)).all()
            if rows:
                yield [tuple(row) for row in rows]
                last_step = rows[-1][:2]
            after = ids[-1]
            ids = [build_id for build_id in ids if build_id >= last_step[0]] if len(rows) == ROWS else []


def _chosen(statement: Any, repository_id: int, first: date | None, last: date | None) -> Any:
    statement = statement.where(Build.repository_id == repository_id)
    if first is not None:
        statement = statement.where(Build.day >= first)
    if last is not None:
        statement = statement.where(Build.day <= last)
    return statement
