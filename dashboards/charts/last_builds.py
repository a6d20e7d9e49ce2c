"""The last sixty builds: height is duration, colour and pattern are how the build and its cache went."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import exists, select

from dashboards import theme
from dashboards.charts._axes import time_axis
from dashboards.charts.base import Scope, Statement, Table
from dashboards.frames import number
from store.models import Break, Build
from store.queries.builds import BuildFilter, select_builds

if TYPE_CHECKING:
    from pandas import DataFrame

BUILDS = 60
KINDS = {
    "warm": ("no break", "token:hit", ""),
    "expected": ("expected break", "token:expected", "/"),
    "unexpected": ("unexpected break", "token:miss", ""),
    "unexplained": ("break, unknown why", "token:miss/0.45", "."),
    "failed": ("failed or canceled", "token:failed", "x"),
    "incomplete": ("log was cut", "token:track", "-"),
}
"""Kind → word, colour, pattern."""


def newest_builds(scope: Scope) -> Statement:
    """The ids of the newest builds of a scope up to its last day, whatever its first."""
    after = scope.last_day + timedelta(days=1)
    chosen = BuildFilter(
        branch_class=None if scope.branch_class == "all" else scope.branch_class,
        image_id=scope.image_id,
        last=datetime(after.year, after.month, after.day, tzinfo=UTC),
    )
    return select_builds(scope.repository_id, chosen).with_only_columns(Build.id).limit(BUILDS)


class LastBuildsChart:
    """How the last builds went."""

    title = "The last 60 builds"
    columns: Mapping[str, str] = {
        "id": "int",
        "started_at": "time",
        "branch": "text",
        "outcome": "text",
        "hits": "int",
        "misses": "int",
        "duration_seconds": "number",
        "is_unexpected": "int",
        "is_expected": "int",
        "is_unexplained": "int",
    }

    def select(self, scope: Scope) -> Statement:
        """One row a build, newest first."""
        newest = newest_builds(scope).subquery()
        of_build = Break.build_id == Build.id
        return (
            select(
                Build.id,
                Build.started_at,
                Build.branch,
                Build.outcome,
                Build.hits,
                Build.misses,
                Build.duration_seconds,
                exists().where(of_build, Break.expected.is_(False)).label("is_unexpected"),
                exists().where(of_build, Break.expected.is_(True)).label("is_expected"),
                exists().where(of_build, Break.expected.is_(None)).label("is_unexplained"),
            )
            .join(newest, newest.c.id == Build.id)
            .order_by(Build.started_at.desc(), Build.id.desc())
        )

    def figure(self, frame: "DataFrame") -> dict[str, Any] | None:
        """One bar a build, oldest left, a trace for each kind so that the legend says its word."""
        if frame.empty:
            return None
        builds = list(reversed(frame.to_dict("records")))
        longest = max((seconds for build in builds if (seconds := _seconds(build)) is not None), default=0.0)
        traces = []
        for kind, (word, colour, pattern) in KINDS.items():
            of_kind = [(place, build) for place, build in enumerate(builds) if _kind(build) == kind]
            if not of_kind:
                continue
            traces.append(
                {
                    "type": "bar",
                    "name": word,
                    "x": [place for place, _ in of_kind],
                    "y": [_height(build, longest) for _, build in of_kind],
                    "width": 0.8,
                    "customdata": [f"/builds/{build['id']}" for _, build in of_kind],
                    "text": [_label(build) for _, build in of_kind],
                    "textposition": "none",
                    "hovertemplate": "%{text}<extra>" + word + "</extra>",
                    "marker": {
                        "color": colour,
                        "pattern": {"shape": pattern, "size": 5, "fillmode": "overlay", "fgcolor": "token:ground"},
                    },
                }
            )
        return {
            "data": traces,
            "layout": {
                "hovermode": "closest",
                "barmode": "overlay",
                "xaxis": {"showticklabels": False, "range": [-0.6, max(len(builds), 20) - 0.4]},
                "yaxis": time_axis(longest),
            },
        }

    def summary(self, frame: "DataFrame") -> str:
        """How many went how."""
        if frame.empty:
            return "No build yet."
        kinds = [_kind(build) for build in frame.to_dict("records")]
        counted = [f"{kinds.count(kind)} {word}" for kind, (word, _, _) in KINDS.items() if kind in kinds]
        return f"{theme.plural(len(kinds), 'build')}, newest on the right: {', '.join(counted)}."

    def table(self, frame: "DataFrame") -> Table:
        """One row a build, newest first."""
        rows = [
            (
                f"Build {build['id']}",
                f"{build['started_at']:%Y-%m-%d %H:%M} UTC",
                theme.cut_middle(build["branch"] or "", 40),
                build["outcome"],
                KINDS[_kind(build)][0],
                f"{build['hits']} of {build['hits'] + build['misses']}",
                theme.duration(_seconds(build)),
            )
            for build in frame.to_dict("records")
        ]
        return Table(("Build", "Started", "Branch", "Outcome", "Cache", "Hits", "Duration"), rows)


def _kind(build: Mapping[Any, Any]) -> str:
    if build["outcome"] in {"failed", "canceled"}:
        return "failed"
    if build["outcome"] == "incomplete":
        return "incomplete"
    for kind in ("unexpected", "expected", "unexplained"):
        if build[f"is_{kind}"]:
            return kind
    return "warm"


def _seconds(build: Mapping[Any, Any]) -> float | None:
    return number(build["duration_seconds"])


def _height(build: Mapping[Any, Any], longest: float) -> float:
    # A bar of no height could be neither seen nor clicked; where no log tells a time, all bars are alike.
    seconds = _seconds(build)
    return max(seconds if seconds is not None else 0.0, longest * 0.04) if longest else 1.0


def _label(build: Mapping[Any, Any]) -> str:
    branch = theme.in_figure(build["branch"] or "branch unknown", 40)
    return (
        f"{build['started_at']:%Y-%m-%d %H:%M} UTC, {branch}<br>{theme.duration(_seconds(build))}, "
        f"{build['hits']} of {build['hits'] + build['misses']} hits"
    )


CHART = LastBuildsChart()
