"""How long builds take: the mean of each day, the median and the p90 of single builds over the last seven days."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dashboards import theme
from dashboards.charts._axes import log_time_axis
from dashboards.charts._daily import DAYS_OF_SPREAD, band, day_texts, select_days, spread
from dashboards.charts.base import Scope, Statement, Table
from dashboards.frames import by_day, number, points
from store.queries.histograms import duration_quantile

if TYPE_CHECKING:
    from pandas import DataFrame


class BuildDurationChart:
    """How long a build takes."""

    title = "Build duration"
    columns: Mapping[str, str] = {
        "day": "day",
        "duration_sum": "number",
        "duration_count": "int",
        "durations": "json",
    }

    def select(self, scope: Scope) -> Statement:
        """The durations of each day, a row for each branch class."""
        return select_days(scope, self.columns)

    def figure(self, frame: "DataFrame") -> dict[str, Any] | None:
        """The days as dots, the spread of single builds as a band above the median, on a logarithmic axis."""
        days = _shape(frame)
        if not days["duration_count"].any():
            return None
        x = day_texts(days)
        median, p90 = points(days["median"]), points(days["p90"])
        means = points(days["mean"])
        known = [value for value in (*means, *median, *p90) if value] or [1.0]
        return {
            "data": [
                band(x, median, p90),
                {
                    "name": "mean of the day",
                    "x": x,
                    "y": means,
                    "text": [
                        f"{theme.duration(mean)} ({theme.plural(int(builds), 'build')})"
                        for mean, builds in zip(means, days["duration_count"], strict=True)
                    ],
                    "mode": "markers",
                    "marker": {"size": 5, "color": "token:quiet"},
                    "hovertemplate": "%{text}",
                },
                _line(x, median, f"median build, {DAYS_OF_SPREAD} days", "solid"),
                _line(x, p90, f"p90, {DAYS_OF_SPREAD} days", "dash"),
            ],
            "layout": {
                "xaxis": {"type": "date"},
                "yaxis": log_time_axis(known),
            },
        }

    def summary(self, frame: "DataFrame") -> str:
        """Where the median began and ended."""
        days = _shape(frame)
        if days.empty or not days["duration_count"].sum():
            return "No build in this range whose log tells how long it took."
        known = days.dropna(subset=["median"])
        if known.empty:
            return f"No median yet: {theme.not_enough(int(days['duration_count'].sum()))}."
        first, last = known.iloc[0], known.iloc[-1]
        return (
            f"The median build went from {theme.duration(float(first['median']))} on {theme.day(first['day'].date())} "
            f"to {theme.duration(float(last['median']))} on {theme.day(last['day'].date())}."
        )

    def table(self, frame: "DataFrame") -> Table:
        """One row a day, newest first."""
        rows = [
            (
                theme.day(row["day"].date()),
                _text(row["mean"]),
                _text(row["median"]),
                _text(row["p90"]),
                theme.count(int(row["duration_count"])),
            )
            for row in reversed(_shape(frame).to_dict("records"))
        ]
        spread_days = f"{DAYS_OF_SPREAD} days"
        return Table(("Day", "Mean", f"Median, {spread_days}", f"p90, {spread_days}", "Timed builds"), rows)


def _shape(frame: "DataFrame") -> "DataFrame":
    days = by_day(frame, ["duration_sum", "duration_count"], ["durations"])
    if days.empty:
        return days.assign(mean=[], median=[], p90=[])
    return days.assign(
        mean=(days["duration_sum"] / days["duration_count"]).where(days["duration_count"] > 0),
        median=spread(days, "durations", duration_quantile, 0.5),
        p90=spread(days, "durations", duration_quantile, 0.9),
    )


def _line(x: list[str], y: list[float | None], name: str, dash: str) -> dict[str, Any]:
    return {
        "name": name,
        "x": x,
        "y": y,
        "text": [theme.duration(value) for value in y],
        "mode": "lines",
        "line": {"color": "token:accent", "width": 1.5, "dash": dash},
        "hovertemplate": "%{text}",
    }


def _text(value: float) -> str:
    known = number(value)
    return "not enough data" if known is None else theme.duration(known)


CHART = BuildDurationChart()
