"""What an image weighs, version by version: instructions stacked, the base image below, the budget as a line."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from cachescope.images.comparing import identity
from cachescope.images.model import Layer
from dashboards import theme
from dashboards.charts.base import Scope, Statement, Table
from dashboards.frames import number
from store.models import ImageLayer, ImageSize, SizedImage

if TYPE_CHECKING:
    from pandas import DataFrame

VERSIONS = 60
NAMED = 5
LEAST_SHARE = 0.01
"""An instruction that never was a larger part of the largest version has no colour of its own."""
BASE, OTHERS = "base image", "other instructions"
LOOKS = (
    ("token:accent", ""),
    ("token:hit", ""),
    ("token:expected", ""),
    ("token:accent/0.55", "/"),
    ("token:hit/0.55", "/"),
    ("token:expected/0.55", "/"),
    ("token:quiet", "."),
)
"""Colour and pattern of the instructions, the largest first."""


class ImageSizeChart:
    """What an image weighs over its versions."""

    title = "Size over time, by instruction"
    columns: Mapping[str, str] = {
        "version": "int",
        "released_at": "time",
        "tag": "text",
        "position": "int",
        "instruction": "text",
        "base": "bool",
        "compressed_bytes": "number",
        "unpacked_bytes": "number",
        "budget_bytes": "number",
    }

    def select(self, scope: Scope) -> Statement:
        """The layers of the newest versions of a followed image, on the platform that is asked for or the usual one."""
        count = func.count()
        image: Any = scope.image_id
        if image is None:
            of_repository = select(func.min(SizedImage.id)).where(SizedImage.repository_id == scope.repository_id)
            image = of_repository.scalar_subquery()
        usual = (
            select(ImageSize.platform)
            .where(ImageSize.sized_image_id == image)
            .group_by(ImageSize.platform)
            .order_by(count.desc(), ImageSize.platform)
            .limit(1)
            .scalar_subquery()
        )
        after = scope.last_day + timedelta(days=1)
        newest = (
            select(ImageSize.id)
            .where(
                ImageSize.repository_id == scope.repository_id,
                ImageSize.sized_image_id == image,
                ImageSize.platform == (scope.platform or usual),
                ImageSize.released_at < datetime(after.year, after.month, after.day, tzinfo=UTC),
            )
            .order_by(ImageSize.released_at.desc(), ImageSize.id.desc())
            .limit(VERSIONS)
        )
        if scope.branch_class != "all":
            newest = newest.where(ImageSize.branch_class == scope.branch_class)
        chosen = newest.subquery()
        return (
            select(
                ImageSize.id,
                ImageSize.released_at,
                ImageSize.tag,
                ImageLayer.position,
                ImageLayer.instruction,
                ImageLayer.base,
                ImageLayer.compressed_bytes,
                ImageLayer.unpacked_bytes,
                SizedImage.budget_bytes,
            )
            .join(chosen, chosen.c.id == ImageSize.id)
            .join(ImageLayer, ImageLayer.image_size_id == ImageSize.id)
            .join(SizedImage, SizedImage.id == ImageSize.sized_image_id)
            .order_by(ImageSize.released_at, ImageSize.id, ImageLayer.position)
        )

    def figure(self, frame: "DataFrame") -> dict[str, Any] | None:
        """A bar a version, oldest left; the largest instructions have a colour and a pattern each."""
        if frame.empty:
            return None
        column = _column(frame)
        versions, sizes = _stacked(frame, column)
        largest = max(sum(of_version.values()) for of_version in sizes)
        budget = number(frame["budget_bytes"].iloc[-1]) if column == "compressed_bytes" else None
        names = _names(sizes)
        traces = []
        for place, name in enumerate(names):
            colour, pattern = _look(name, place - (BASE in names))
            traces.append(
                {
                    "type": "bar",
                    "name": theme.in_figure(name, 40),
                    "x": list(range(len(versions))),
                    "y": [of_version.get(name, 0) for of_version in sizes],
                    "text": [theme.size(int(of_version.get(name, 0))) for of_version in sizes],
                    "textposition": "none",
                    "customdata": [f"#v{version}" for version, _, _ in versions],
                    "hovertemplate": "%{text}<extra>%{fullData.name}</extra>",
                    "marker": {
                        "color": colour,
                        "line": {"color": "token:ground", "width": 0.5},
                        "pattern": {"shape": pattern, "size": 5, "fillmode": "overlay", "fgcolor": "token:ground"},
                    },
                }
            )
        shapes = []
        if budget is not None:
            largest = max(largest, budget)
            line = {"color": "token:miss", "width": 1.5, "dash": "dash"}
            shapes.append({"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": budget, "y1": budget, "line": line})
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "name": f"budget {theme.size(int(budget))}",
                    "x": [None],
                    "y": [None],
                    "line": line,
                }
            )
        step = max(1, len(versions) // 8)
        marks = list(range(0, len(versions), step))
        return {
            "data": traces,
            "layout": {
                "barmode": "stack",
                "hovermode": "x unified",
                "shapes": shapes,
                "xaxis": {
                    "range": [-0.6, max(len(versions), 12) - 0.4],
                    "tickvals": marks,
                    "ticktext": [versions[mark][2] for mark in marks],
                },
                "yaxis": _size_axis(largest),
            },
        }

    def summary(self, frame: "DataFrame") -> str:
        """Where the size began and ended, and which kind of size it is."""
        if frame.empty:
            return "No version has been measured in this range."
        column = _column(frame)
        versions, sizes = _stacked(frame, column)
        first, last = (theme.size(int(sum(of_version.values()))) for of_version in (sizes[0], sizes[-1]))
        kind = column.partition("_")[0]
        many = theme.plural(len(versions), "version")
        return f"{many}, {kind}: from {first} ({versions[0][2]}) to {last} ({versions[-1][2]})."

    def table(self, frame: "DataFrame") -> Table:
        """One row a version, newest first, with its largest instructions."""
        if frame.empty:
            return Table(("Version", "Measured", "Size"), [])
        column = _column(frame)
        versions, sizes = _stacked(frame, column)
        names = _names(sizes)
        rows = [
            (
                versions[place][2],
                theme.day(versions[place][1].date()),
                theme.size(int(sum(sizes[place].values()))),
                *(theme.size(int(sizes[place].get(name, 0))) for name in names),
            )
            for place in reversed(range(len(versions)))
        ]
        kind = column.partition("_")[0]
        return Table(("Version", "Measured", f"Size, {kind}", *(theme.cut_middle(name, 48) for name in names)), rows)


def _column(frame: "DataFrame") -> str:
    """Compressed sizes where all are known: a line of both kinds would compare what cannot be compared."""
    return "compressed_bytes" if frame["compressed_bytes"].notna().all() else "unpacked_bytes"


def _stacked(frame: "DataFrame", column: str) -> tuple[list[tuple[int, datetime, str]], list[dict[str, float]]]:
    """The versions, and what each instruction weighs in each."""
    versions: list[tuple[int, datetime, str]] = []
    sizes: list[dict[str, float]] = []
    for row in frame.to_dict("records"):
        if not versions or versions[-1][0] != row["version"]:
            name = row["tag"] or f"{row['released_at']:%Y-%m-%d}"
            versions.append((row["version"], row["released_at"], theme.in_figure(str(name), 16)))
            sizes.append({})
        written = identity(Layer(instruction=row["instruction"])) or "unknown instruction"
        text = BASE if row["base"] is True else written
        sizes[-1][text] = sizes[-1].get(text, 0) + (number(row[column]) or 0)
    largest: dict[str, float] = {}
    for of_version in sizes:
        for text, size in of_version.items():
            largest[text] = max(largest.get(text, 0), size)
    whole = max((sum(of_version.values()) for of_version in sizes), default=0.0)
    own = sorted((text for text in largest if text != BASE), key=lambda text: (-largest[text], text))
    named = [text for text in own[:NAMED] if largest[text] >= whole * LEAST_SHARE] or own[:1]
    kept = {BASE, *named}
    return versions, [
        {text: size for text, size in of_version.items() if text in kept}
        | (
            {OTHERS: sum(size for text, size in of_version.items() if text not in kept)}
            if len(own) > len(named)
            else {}
        )
        for of_version in sizes
    ]


def _names(sizes: list[dict[str, float]]) -> list[str]:
    """The base first, then the instructions, the largest first, the rest last."""
    largest: dict[str, float] = {}
    for of_version in sizes:
        for text, size in of_version.items():
            largest[text] = max(largest.get(text, 0), size)
    return sorted(largest, key=lambda text: (text != BASE, text == OTHERS, -largest[text], text))


def _look(name: str, place: int) -> tuple[str, str]:
    if name == BASE:
        return "token:track", ""
    return ("token:line", "") if name == OTHERS else LOOKS[place % len(LOOKS)]


def _size_axis(largest: float) -> dict[str, Any]:
    """A linear axis of sizes with marks at round numbers."""
    steps = [base * 10**power for power in range(12) for base in (1, 2, 5)]
    step = next((step for step in steps if largest / step <= 5), steps[-1])
    marks = [step * place for place in range(int(largest / step) + 2)]
    return {
        "range": [0, max(largest, 1) * 1.06],
        "tickvals": marks,
        "ticktext": [theme.size(mark) if mark else "0" for mark in marks],
    }


CHART = ImageSizeChart()
