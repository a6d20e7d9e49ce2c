"""The chart of an alert: what its builds cost before and after the change point, both levels shaded."""

from collections.abc import Sequence
from datetime import datetime
from statistics import quantiles
from typing import Any

from dashboards import theme
from dashboards.charts._axes import time_axis
from dashboards.charts.base import Table
from store.models import Incident
from store.queries.incidents import Point

TITLE = "Seconds per build before and after"


def phases(points: Sequence[Point], incident: Incident) -> dict[str, list[Point]]:
    """The builds before the change point, since then, and after it was fixed."""
    since = change_point(points, incident)
    ended = incident.resolved_at if incident.state == "resolved" else None
    return {
        "before": [point for point in points if point.at < since],
        "since": [point for point in points if point.at >= since and (ended is None or point.at <= ended)],
        "after": [point for point in points if ended is not None and point.at > ended],
    }


def change_point(points: Sequence[Point], incident: Incident) -> datetime:
    """When the first build began that the incident is about."""
    first = next((point.at for point in points if point.build_id == incident.since_build_id), None)
    return first or incident.since_at or incident.opened_at


def level(points: Sequence[Point]) -> tuple[float, float, float] | None:
    """The middle half of the seconds of some builds and their median; None where no times are known."""
    seconds = [point.seconds for point in points if point.seconds is not None]
    if not seconds:
        return None
    if len(seconds) == 1:
        return seconds[0], seconds[0], seconds[0]
    low, middle, high = quantiles(seconds, n=4, method="inclusive")
    return low, middle, high


def figure(points: Sequence[Point], incident: Incident) -> dict[str, Any] | None:
    """A mark for each build, the levels as bands, the change point as a line."""
    if not any(point.seconds is not None for point in points):
        return None
    looks = {"before": ("before", "hit", "circle"), "since": ("since the change", "miss", "square")}
    looks["after"] = ("after the fix", "accent", "diamond")
    traces, shapes = [], []
    longest = max(point.seconds or 0.0 for point in points)
    for name, of_phase in phases(points, incident).items():
        word, colour, symbol = looks[name]
        if not of_phase:
            continue
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": word,
                "x": [_moment(point.at) for point in of_phase],
                "y": [point.seconds for point in of_phase],
                "customdata": [f"/builds/{point.build_id}" for point in of_phase],
                "text": [_label(point) for point in of_phase],
                "hovertemplate": "%{text}<extra>" + word + "</extra>",
                "marker": {"color": f"token:{colour}", "symbol": symbol, "size": 7},
            }
        )
        if found := level(of_phase):
            low, middle, high = found
            ends = {"x0": _moment(of_phase[0].at), "x1": _moment(of_phase[-1].at)}
            pad = max(0.0, longest * 0.02 - (high - low) / 2)
            band = {"type": "rect", "y0": max(0.0, low - pad), "y1": high + pad, "line": {"width": 0}, "layer": "below"}
            shapes += [
                {**band, **ends, "fillcolor": f"token:{colour}/0.18"},
                {
                    "type": "line",
                    **ends,
                    "y0": middle,
                    "y1": middle,
                    "line": {"color": f"token:{colour}", "width": 1.5},
                },
            ]
    since = _moment(change_point(points, incident))
    line = {"color": "token:ink", "width": 1.5, "dash": "dot"}
    shapes.append({"type": "line", "x0": since, "x1": since, "y0": 0, "y1": 1, "yref": "paper", "line": line})
    note = {"x": since, "y": 1, "yref": "paper", "yanchor": "top", "showarrow": False, "text": " change point"}
    return {
        "data": traces,
        "layout": {
            "hovermode": "closest",
            "xaxis": {"type": "date"},
            "yaxis": time_axis(longest),
            "shapes": shapes,
            "annotations": [{**note, "xanchor": "right", "xshift": -4, "font": {"color": "token:quiet", "size": 11}}],
            "legend": {"y": -0.15, "yanchor": "top"},
        },
    }


def summary(points: Sequence[Point], incident: Incident) -> str:
    """The two levels in a sentence."""
    found = {name: level(of_phase) for name, of_phase in phases(points, incident).items()}
    if found["before"] is None and found["since"] is None:
        return "No build of this image tells how long its steps took."
    parts = [
        f"{theme.duration(at[1])} per build {word}"
        for name, word in (("before", "before"), ("since", "since the change"), ("after", "after the fix"))
        if (at := found[name]) is not None
    ]
    return f"Median over {theme.plural(len(points), 'build')}: {', '.join(parts)}."


def table(points: Sequence[Point], incident: Incident) -> Table:
    """One row a build, oldest first."""
    names = {id(point): name for name, of_phase in phases(points, incident).items() for point in of_phase}
    rows = [
        (
            f"Build {point.build_id}",
            f"{point.at:%Y-%m-%d %H:%M} UTC",
            theme.cut_middle(point.branch or "", 40),
            names[id(point)],
            f"{point.hits} of {point.hits + point.misses}",
            theme.duration(point.seconds),
        )
        for point in points
    ]
    return Table(("Build", "Started", "Branch", "Phase", "Hits", "Seconds"), rows)


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _label(point: Point) -> str:
    branch = theme.in_figure(point.branch or "branch unknown", 40)
    commit = theme.in_figure(point.commit_id or "", 12)
    return f"{point.at:%Y-%m-%d %H:%M} UTC, {branch} {commit}<br>{theme.duration(point.seconds)}"
