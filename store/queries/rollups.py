"""Daily sums: marking days as out of date, recomputing them from their builds, and adding them up over a range.

A day is always recomputed whole, never incremented: the result is the same after retries, re-reading and deletion.
Sums of seconds use `math.fsum`, which does not depend on the order of the rows.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from math import fsum
from typing import Any

from sqlalchemy import Date, Row, Select, delete, func, literal, select
from sqlalchemy import insert as plain_insert
from sqlalchemy.orm import Session

from cachescope.metrics import Summary, efficiency, hit_rate, net_saving
from store.database import insert
from store.models import (
    Break,
    Build,
    BuildImage,
    DailyBuilds,
    DailyImages,
    DailyInstructions,
    DirtyDay,
    Repository,
    Step,
)
from store.queries import histograms
from store.types import Json, utc_now

DEFAULT_CLASSES = ("default",)
"""What pages show unless asked for more: the default branch."""

DayRow = Row[*tuple[Any, ...]]


def mark_dirty(session: Session, repository_id: int, days: Iterable[date]) -> None:
    """Note, in the transaction that changes builds, that the sums of some days are out of date."""
    # Sorted: two transactions that mark the same days in different orders would wait for each other for ever.
    rows = [{"repository_id": repository_id, "day": day, "marked_at": utc_now()} for day in sorted(set(days))]
    if rows:
        statement = insert(session, DirtyDay).values(rows)
        session.execute(
            statement.on_conflict_do_update(
                index_elements=["repository_id", "day"], set_={"marked_at": statement.excluded.marked_at}
            )
        )


def mark_all_days(session: Session, repository_id: int) -> None:
    """Note that every day of a repository is out of date, those without builds too."""
    for table in (Build, DailyBuilds):
        mark_dirty(
            session,
            repository_id,
            session.scalars(select(table.day).where(table.repository_id == repository_id).distinct()),
        )


def list_dirty_days(session: Session, limit: int = 100) -> list[tuple[int, date]]:
    """The days that wait to be recomputed as (repository, day), the longest waiting first."""
    rows = session.execute(
        select(DirtyDay.repository_id, DirtyDay.day)
        .order_by(DirtyDay.marked_at, DirtyDay.repository_id, DirtyDay.day)
        .limit(limit)
    )
    return [(repository_id, day) for repository_id, day in rows]


def recompute_day(session: Session, repository_id: int, day: date) -> bool:
    """Recompute the sums of one day if it is marked; False when it is not, or when somebody else just did.

    Its mark is taken first: a build that is saved meanwhile waits to set it again until this transaction ends, so no
    build is missed. Therefore one transaction recomputes one day.
    """
    taken = session.execute(
        delete(DirtyDay)
        .where(DirtyDay.repository_id == repository_id, DirtyDay.day == day)
        .returning(DirtyDay.day)
        .execution_options(synchronize_session=False)
    ).first()
    if taken is None:
        return False
    builds_from, steps_from = session.execute(
        select(Repository.builds_from, Repository.steps_from).where(Repository.id == repository_id)
    ).one()
    if builds_from is not None and day < builds_from:
        return True  # its builds have been forgotten: what was summed up then stays
    has_steps = steps_from is None or day >= steps_from
    tables: list[type[DailyBuilds | DailyImages | DailyInstructions]] = [DailyBuilds, DailyImages]
    for table in [*tables, DailyInstructions] if has_steps else tables:
        session.execute(
            delete(table)
            .where(table.repository_id == repository_id, table.day == day)
            .execution_options(synchronize_session=False)
        )
    whole, images = _sum_builds(session, repository_id, day)
    instructions = _sum_instructions(session, repository_id, day) if has_steps else []
    for table, rows in ((DailyBuilds, whole), (DailyImages, images), (DailyInstructions, instructions)):
        if rows:
            session.execute(plain_insert(table), [{"repository_id": repository_id, "day": day, **row} for row in rows])
    return True


def recompute_dirty_days(session: Session, limit: int = 100) -> int:
    """Recompute what is marked, all in this transaction; for the command line and tests, where nobody waits."""
    return sum(recompute_day(session, *marked) for marked in list_dirty_days(session, limit))


@dataclass(slots=True)
class _Sums:
    """The sums of one row while its builds pass by."""

    builds: int = 0
    failed: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    spent: list[float] = field(default_factory=list)
    avoided: list[float] = field(default_factory=list)
    overhead: list[float] = field(default_factory=list)
    durations: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    costs: dict[bool | None, list[float]] = field(default_factory=lambda: {True: [], False: [], None: []})
    last_build_id: int = 0

    def add(self, row: DayRow, *, overhead: float | None) -> None:
        """Add a build, or an image's part of one."""
        self.builds += 1
        self.last_build_id = row.id  # rows come in the order of their start
        if row.outcome != "succeeded":
            self.failed += 1
            return
        for name in ("hits", "misses", "unknown", "avoided_unknown"):
            self.counts[name] += getattr(row, name)
        if row.misses and row.seconds_spent is not None:
            self.spent.append(row.seconds_spent)
        self.avoided.append(row.seconds_avoided or 0.0)
        self.overhead.append(overhead or 0.0)
        if histograms.is_countable(row.duration_seconds):
            self.durations.append(row.duration_seconds)
        if (rate := hit_rate(row.hits, row.misses)) is not None:
            self.rates.append(rate)

    def values(self) -> dict[str, Any]:
        """The columns of the row."""
        return {
            "builds": self.builds,
            "failed": self.failed,
            "hits": self.counts["hits"],
            "misses": self.counts["misses"],
            "unknown": self.counts["unknown"],
            "avoided_unknown": self.counts["avoided_unknown"],
            "seconds_spent": fsum(self.spent) if self.spent else None,
            "seconds_avoided": fsum(self.avoided),
            "overhead_seconds": fsum(self.overhead),
            "lost_seconds": fsum(self.costs[False]),
            "rebuild_seconds": fsum(self.costs[True]),
            "unexplained_seconds": fsum(self.costs[None]),
            "duration_sum": fsum(self.durations),
            "duration_count": len(self.durations),
            "durations": histograms.count_bins(map(histograms.duration_bin, self.durations)),
            "hit_rates": histograms.count_bins(map(histograms.rate_bin, self.rates)),
            "last_build_id": self.last_build_id,
        }


def _sum_builds(session: Session, repository_id: int, day: date) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of `daily_builds` and `daily_images` of a day."""
    of_day = (Build.repository_id == repository_id, Build.day == day)
    figures = ("hits", "misses", "unknown", "seconds_spent", "seconds_avoided", "avoided_unknown", "duration_seconds")
    builds = session.execute(
        select(
            Build.id, Build.outcome, Build.branch_class, Build.overhead_seconds, *(getattr(Build, f) for f in figures)
        )
        .where(*of_day)
        .order_by(Build.started_at, Build.id)
    ).all()
    parts = session.execute(
        select(
            Build.id,
            Build.outcome,
            Build.branch_class,
            Build.overhead_seconds,
            BuildImage.image_id,
            *(getattr(BuildImage, f) for f in figures),
        )
        .join(BuildImage, BuildImage.build_id == Build.id)
        .where(*of_day)
        .order_by(Build.started_at, Build.id, BuildImage.image_id)
    ).all()
    images_of_build = Counter(part.id for part in parts)
    whole: defaultdict[str, _Sums] = defaultdict(_Sums)
    images: defaultdict[tuple[int, str], _Sums] = defaultdict(_Sums)
    for build in builds:
        whole[build.branch_class].add(build, overhead=build.overhead_seconds)
    for part in parts:
        # Cache is imported for a build as a whole: only where it has one image is it clear whose seconds these are.
        overhead = part.overhead_seconds if images_of_build[part.id] == 1 else None
        images[part.image_id, part.branch_class].add(part, overhead=overhead)
    for image_id, branch_class, expected, cost in session.execute(
        select(Break.image_id, Break.branch_class, Break.expected, Break.cost_seconds).where(
            Break.repository_id == repository_id, Break.day == day
        )
    ):
        whole[branch_class].costs[expected].append(cost or 0.0)
        if image_id is not None:
            images[image_id, branch_class].costs[expected].append(cost or 0.0)
    return (
        [{"branch_class": key, **sums.values()} for key, sums in sorted(whole.items())],
        [{"image_id": key[0], "branch_class": key[1], **sums.values()} for key, sums in sorted(images.items())],
    )


@dataclass(slots=True)
class _InstructionSums:
    hits: int = 0
    misses: int = 0
    spent: list[float] = field(default_factory=list)
    costs: dict[bool | None, list[float]] = field(default_factory=lambda: {True: [], False: [], None: []})
    causes: Counter[str] = field(default_factory=Counter)


def _sum_instructions(session: Session, repository_id: int, day: date) -> list[dict[str, Any]]:
    """The rows of `daily_instructions` of a day."""
    sums: defaultdict[tuple[int | None, str], _InstructionSums] = defaultdict(_InstructionSums)
    for instruction_id, branch_class, cached, seconds in session.execute(
        select(Step.instruction_id, Build.branch_class, Step.cached, Step.duration_seconds)
        .join(Build, Build.id == Step.build_id)
        .where(
            Build.repository_id == repository_id,
            Build.day == day,
            Build.outcome == "succeeded",
            Step.instruction_id.is_not(None),
            Step.cacheable,
            Step.cached.is_not(None),
        )
    ):
        row = sums[instruction_id, branch_class]
        if cached:
            row.hits += 1
        else:
            row.misses += 1
            row.spent.append(seconds or 0.0)
    for instruction_id, branch_class, cause, expected, cost in session.execute(
        select(Break.instruction_id, Break.branch_class, Break.cause, Break.expected, Break.cost_seconds).where(
            Break.repository_id == repository_id, Break.day == day, Break.instruction_id.is_not(None)
        )
    ):
        row = sums[instruction_id, branch_class]
        row.causes[cause] += 1
        row.costs[expected].append(cost or 0.0)
    return [
        {
            "instruction_id": instruction_id,
            "branch_class": branch_class,
            "hits": row.hits,
            "misses": row.misses,
            "breaks": row.causes.total(),
            "seconds_spent": fsum(row.spent),
            "lost_seconds": fsum(row.costs[False]),
            "rebuild_seconds": fsum(row.costs[True]),
            "unexplained_seconds": fsum(row.costs[None]),
            "causes": dict(sorted(row.causes.items())),
        }
        for (instruction_id, branch_class), row in sorted(sums.items(), key=lambda item: (item[0][0] or 0, item[0][1]))
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Period(Summary):
    """The figures of a repository or image over some days: sums first, then the ratio."""

    unexplained_seconds: float
    """Miss cost of breaks of which nobody could say whether they were to be expected."""
    duration_median: float | None
    duration_p90: float | None
    duration_count: int
    last_build_id: int | None


_SUMMED = (
    "builds",
    "failed",
    "hits",
    "misses",
    "unknown",
    "seconds_spent",
    "seconds_avoided",
    "avoided_unknown",
    "lost_seconds",
    "rebuild_seconds",
    "unexplained_seconds",
    "overhead_seconds",
    "duration_count",
)
_COLUMNS = ("repository_id", "day", "hit_rates", "durations", "last_build_id", *_SUMMED)
_EFFICIENCY = ("hits", "misses", "seconds_spent", "seconds_avoided", "avoided_unknown")


def load_period(
    session: Session,
    repository_id: int,
    first: date,
    last: date,
    *,
    branch_classes: Sequence[str] = DEFAULT_CLASSES,
    image_id: int | None = None,
) -> Period:
    """Add up the days from the first to the last, both included; the cost depends on the days, not on the builds."""
    return add_up(_daily_rows(session, repository_id, first, last, branch_classes=branch_classes, image_id=image_id))


def load_days(
    session: Session,
    repository_id: int,
    first: date,
    last: date,
    *,
    branch_classes: Sequence[str] = DEFAULT_CLASSES,
    image_id: int | None = None,
) -> list[tuple[date, Period]]:
    """The figures of each day that had a build, oldest first."""
    by_day: dict[date, list[DayRow]] = {}
    for row in _daily_rows(session, repository_id, first, last, branch_classes=branch_classes, image_id=image_id):
        by_day.setdefault(row.day, []).append(row)
    return [(day, add_up(rows)) for day, rows in by_day.items()]


def _daily_rows(
    session: Session,
    repository_id: int,
    first: date,
    last: date,
    *,
    branch_classes: Sequence[str],
    image_id: int | None,
) -> Sequence[DayRow]:
    table: type[DailyBuilds | DailyImages] = DailyBuilds if image_id is None else DailyImages
    statement = select_days(table, first, last, branch_classes).where(table.repository_id == repository_id)
    if image_id is not None:
        statement = statement.where(DailyImages.image_id == image_id)
    return session.execute(statement).all()


def select_days(
    table: type[DailyBuilds | DailyImages], first: date, last: date, branch_classes: Sequence[str]
) -> Select[*tuple[Any, ...]]:
    """Select the columns that `add_up` adds up, in the order of days."""
    return (
        select(*(getattr(table, name) for name in _COLUMNS))
        .where(table.day.between(first, last), table.branch_class.in_(branch_classes))
        .order_by(table.day, table.branch_class)
    )


def select_sums(first: date, last: date, branch_classes: Sequence[str]) -> Select[*tuple[Any, ...]]:
    """Select what `add_up` adds up, but one row a repository and without histograms: sums made by the database."""
    empty = literal({}, type_=Json)
    return (
        select(
            DailyBuilds.repository_id,
            literal(first, type_=Date).label("day"),
            empty.label("hit_rates"),
            empty.label("durations"),
            func.max(DailyBuilds.last_build_id).label("last_build_id"),
            *(func.sum(getattr(DailyBuilds, name)).label(name) for name in _SUMMED),
        )
        .where(DailyBuilds.day.between(first, last), DailyBuilds.branch_class.in_(branch_classes))
        .group_by(DailyBuilds.repository_id)
    )


def add_up(rows: Iterable[DayRow]) -> Period:
    """Add up rows of `select_days` or `select_sums`."""
    columns = _columns_of(rows)
    sums = {name: sum(filter(None, columns[name])) for name in _SUMMED}
    counts = {name: int(sums[name]) for name in ("builds", "failed", "hits", "misses", "unknown", "avoided_unknown")}
    spent = _time_spent(columns, sums)
    rates = histograms.merge(columns["hit_rates"])
    durations = histograms.merge(columns["durations"])
    return Period(
        **counts,
        hit_rate=hit_rate(counts["hits"], counts["misses"]),
        hit_rate_median=histograms.rate_quantile(rates, 0.5),
        hit_rate_p10=histograms.rate_quantile(rates, 0.1),
        seconds_spent=spent,
        seconds_avoided=float(sums["seconds_avoided"]),
        cache_efficiency=_efficiency(sums, spent),
        lost_seconds=float(sums["lost_seconds"]),
        rebuild_seconds=float(sums["rebuild_seconds"]),
        unexplained_seconds=float(sums["unexplained_seconds"]),
        overhead_seconds=float(sums["overhead_seconds"]),
        net_saving_seconds=net_saving(sums["seconds_avoided"], sums["overhead_seconds"]),
        duration_median=histograms.duration_quantile(durations, 0.5),
        duration_p90=histograms.duration_quantile(durations, 0.9),
        duration_count=int(sums["duration_count"]),
        last_build_id=max(filter(None, columns["last_build_id"]), default=None),
    )


def add_up_efficiency(rows: Iterable[DayRow]) -> float | None:
    """The cache efficiency of rows alone, without looking at their histograms."""
    columns = _columns_of(rows)
    sums = {name: sum(filter(None, columns[name])) for name in _EFFICIENCY}
    return _efficiency(sums, _time_spent(columns, sums))


def _columns_of(rows: Iterable[DayRow]) -> dict[str, Sequence[Any]]:
    every = list(rows)
    return dict(zip(_COLUMNS, zip(*every, strict=True), strict=True)) if every else dict.fromkeys(_COLUMNS, ())


def _time_spent(columns: dict[str, Sequence[Any]], sums: dict[str, float]) -> float | None:
    if sums["misses"] and all(seconds is None for seconds in columns["seconds_spent"]):
        return None
    return float(sums["seconds_spent"])


def _efficiency(sums: dict[str, float], spent: float | None) -> float | None:
    return efficiency(
        hits=int(sums["hits"]),
        misses=int(sums["misses"]),
        seconds_avoided=sums["seconds_avoided"] if sums["hits"] > sums["avoided_unknown"] else None,
        seconds_spent=spent,
    )
