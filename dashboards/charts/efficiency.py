"""Cache efficiency and hit rate per day, with the median and the p10 of single builds over the last seven days."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cachescope import metrics
from dashboards import theme
from dashboards.charts._daily import DAYS_OF_SPREAD, band, day_texts, select_days, spread
from dashboards.charts.base import Scope, Statement, Table
from dashboards.frames import by_day, column, number, points
from store.queries.histograms import rate_quantile

if TYPE_CHECKING:
    from pandas import DataFrame

SUMS = ("builds", "failed", "hits", "misses", "avoided_unknown", "seconds_spent", "seconds_avoided")


class EfficiencyChart:
    """How much of the work came from cache."""

    title = "Cache efficiency and hit rate"
    columns: Mapping[str, str] = {
        "day": "day",
        "builds": "int",
        "failed": "int",
        "hits": "int",
        "misses": "int",
        "avoided_unknown": "int",
        "seconds_spent": "number",
        "seconds_avoided": "number",
        "hit_rates": "json",
    }

    def select(self, scope: Scope) -> Statement:
        """The sums of each day, a row for each branch class."""
        return select_days(scope, self.columns)

    def figure(self, frame: "DataFrame") -> dict[str, Any] | None:
        """Efficiency and hit rate as lines, the spread of single builds as a band below the median."""
        days = _shape(frame)
        if not (days["hits"] + days["misses"]).any():
            return None
        x = day_texts(days)
        median, p10 = points(days["median"]), points(days["p10"])
        counted = [[int(builds), int(hits), int(hits + misses)] for builds, hits, misses in _counts(days)]
        return {
            "data": [
                band(x, p10, median),
                {
                    "name": "efficiency",
                    "x": x,
                    "y": points(days["efficiency"]),
                    "mode": "lines+markers",
                    "line": {"color": "token:hit", "width": 2},
                    "marker": {"size": 4},
                    "connectgaps": True,
                    "hovertemplate": "%{y:.0%}",
                },
                {
                    "name": "hit rate",
                    "x": x,
                    "y": points(days["hit_rate"]),
                    "customdata": counted,
                    "mode": "lines+markers",
                    "line": {"color": "token:accent", "width": 1.5},
                    "marker": {"size": 4, "symbol": "square"},
                    "connectgaps": True,
                    "hovertemplate": "%{y:.0%} (%{customdata[1]} of %{customdata[2]} steps, %{customdata[0]} builds)",
                },
                _quiet_line(x, median, f"median build, {DAYS_OF_SPREAD} days", "dot"),
                _quiet_line(x, p10, f"p10, {DAYS_OF_SPREAD} days", "dash"),
            ],
            "layout": {
                "xaxis": {"type": "date"},
                "yaxis": {"range": [-0.02, 1.02], "tickformat": ".0%", "dtick": 0.25},
            },
        }

    def summary(self, frame: "DataFrame") -> str:
        """Where efficiency began and ended, or that nothing was counted."""
        days = _shape(frame)
        if days.empty:
            return "No build in this range."
        known = days.dropna(subset=["efficiency"])
        if known.empty:
            return "Builds, but none whose steps could be counted and priced yet."
        first, last = known.iloc[0], known.iloc[-1]
        if len(known) == 1:
            return f"Efficiency was {theme.percent(float(last['efficiency']))} on the one day with builds."
        return (
            f"Efficiency went from {theme.percent(float(first['efficiency']))} on {theme.day(first['day'].date())} "
            f"to {theme.percent(float(last['efficiency']))} on {theme.day(last['day'].date())}."
        )

    def table(self, frame: "DataFrame") -> Table:
        """One row a day, newest first."""
        rows = [
            (
                theme.day(row["day"].date()),
                _percent(row["efficiency"]),
                _percent(row["hit_rate"]),
                _percent(row["median"]),
                _percent(row["p10"]),
                theme.count(int(row["builds"])),
            )
            for row in reversed(_shape(frame).to_dict("records"))
        ]
        spread_days = f"{DAYS_OF_SPREAD} days"
        return Table(("Day", "Efficiency", "Hit rate", f"Median, {spread_days}", f"p10, {spread_days}", "Builds"), rows)


def _shape(frame: "DataFrame") -> "DataFrame":
    days = by_day(frame, SUMS, ["hit_rates"])
    if days.empty:
        return days.assign(efficiency=[], hit_rate=[], median=[], p10=[])
    records = days.to_dict("records")
    return days.assign(
        efficiency=column(_efficiency(row) for row in records),
        hit_rate=column(metrics.hit_rate(int(row["hits"]), int(row["misses"])) for row in records),
        median=spread(days, "hit_rates", rate_quantile, 0.5),
        p10=spread(days, "hit_rates", rate_quantile, 0.1),
    )


def _efficiency(row: Mapping[Any, Any]) -> float | None:
    hits = int(row["hits"])
    return metrics.efficiency(
        hits=hits,
        misses=int(row["misses"]),
        seconds_avoided=float(row["seconds_avoided"]) if hits > int(row["avoided_unknown"]) else None,
        seconds_spent=number(row["seconds_spent"]),
    )


def _counts(days: "DataFrame") -> Any:
    return days[["builds", "hits", "misses"]].itertuples(index=False, name=None)


def _quiet_line(x: list[str], y: list[float | None], name: str, dash: str) -> dict[str, Any]:
    line = {"color": "token:accent", "width": 1, "dash": dash}
    return {"name": name, "x": x, "y": y, "mode": "lines", "line": line, "hovertemplate": "%{y:.0%}"}


def _percent(value: float) -> str:
    known = number(value)
    return "not enough data" if known is None else theme.percent(known)


CHART = EfficiencyChart()
