"""What the charts over time share: the select of daily sums, days as text, the spread of single builds."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, select

from dashboards.charts.base import Scope, Statement
from dashboards.frames import column as numbers
from dashboards.frames import trailing
from dashboards.theme import MIN_BUILDS
from store.models import DailyBuilds, DailyImages, DailyInstructions

if TYPE_CHECKING:
    from pandas import DataFrame, Series

DAYS_OF_SPREAD = 7
"""A day alone has too few builds for a median or a p10."""

Daily = type[DailyBuilds] | type[DailyImages] | type[DailyInstructions]


def select_days(scope: Scope, columns: Iterable[str]) -> Statement:
    """The named columns of the daily sums of a repository, or of one of its images."""
    table = DailyBuilds if scope.image_id is None else DailyImages
    statement = select(*(getattr(table, name) for name in columns)).where(*within(table, scope))
    if scope.image_id is not None:
        statement = statement.where(DailyImages.image_id == scope.image_id)
    return statement.order_by(table.day, table.branch_class)


def within(table: Daily, scope: Scope) -> list[ColumnElement[bool]]:
    """The conditions that keep daily sums inside a scope, its image apart."""
    conditions = [table.repository_id == scope.repository_id, table.day.between(scope.first_day, scope.last_day)]
    if scope.branch_class != "all":
        conditions.append(table.branch_class == scope.branch_class)
    return conditions


def day_texts(days: "DataFrame") -> list[str]:
    """The days of a frame as plotly reads them."""
    return [f"{day:%Y-%m-%d}" for day in days["day"]]


def band(x: Sequence[str], low: Sequence[float | None], high: Sequence[float | None]) -> dict[str, Any]:
    """The area between two lines, left open where either is not known."""
    xs: list[str | None] = []
    ys: list[float | None] = []
    for known, run in groupby(zip(x, low, high, strict=True), key=lambda at: at[1] is not None and at[2] is not None):
        if known:
            there = list(run)
            xs += [*(at[0] for at in there), *(at[0] for at in reversed(there)), None]
            ys += [*(at[1] for at in there), *(at[2] for at in reversed(there)), None]
    return {
        "x": xs,
        "y": ys,
        "mode": "lines",
        "line": {"width": 0},
        "fill": "toself",
        "fillcolor": "token:accent/0.12",
        "hoverinfo": "skip",
        "showlegend": False,
    }


def spread(
    days: "DataFrame", column: str, quantile: Callable[[Mapping[int, int], float], float | None], share: float
) -> "Series[float]":
    """A quantile of single builds over the last seven days up to each day; None where there were too few builds."""
    histograms = trailing(days, column, DAYS_OF_SPREAD)
    return numbers(quantile(total, share) if total.total() >= MIN_BUILDS else None for total in histograms)
