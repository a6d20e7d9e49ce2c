"""Every instruction in the last sixty builds: where the cache held, where it broke and what fell with it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, select
from sqlalchemy.orm import aliased

from dashboards import theme
from dashboards.charts.base import Scope, Statement, Table
from dashboards.charts.last_builds import newest_builds
from dashboards.frames import number
from store.models import Break, Build, Instruction, Step

if TYPE_CHECKING:
    from pandas import DataFrame

INSTRUCTIONS = 40
"""As many as can be read; those that missed most."""

WORDS = ("hit", "expected miss", "unexpected miss", "miss", "failed", "unknown")
COLOURS = ("token:hit/0.55", "token:expected", "token:miss", "token:miss/0.45", "token:failed", "token:line")
MARKS = ("", "/", "×", "·", "✕", "?")
BREAK_MARK = "◣"


Row = Mapping[Any, Any]


class HeatmapChart:
    """Which instruction hit and missed in which build."""

    title = "Every instruction in the last 60 builds"
    columns: Mapping[str, str] = {
        "build_id": "int",
        "started_at": "time",
        "instruction_id": "int",
        "stage": "text",
        "text": "text",
        "idx": "number",
        "status": "text",
        "cached": "bool",
        "is_break": "int",
        "expected": "bool",
        "duration_seconds": "number",
    }

    def select(self, scope: Scope) -> Statement:
        """One row a step whose instruction is known."""
        newest = newest_builds(scope).subquery()
        above = aliased(Break)
        statement = (
            select(
                Step.build_id,
                Build.started_at,
                Step.instruction_id,
                Instruction.stage,
                Instruction.text,
                Step.idx,
                Step.status,
                Step.cached,
                Step.is_break,
                func.coalesce(Step.expected, above.expected).label("expected"),
                Step.duration_seconds,
            )
            .join(newest, newest.c.id == Step.build_id)
            .join(Build, Build.id == Step.build_id)
            .join(Instruction, Instruction.id == Step.instruction_id)
            .outerjoin(above, and_(above.build_id == Step.build_id, above.position == Step.break_position))
            .where(Step.cacheable | Step.is_break)
            .order_by(Build.started_at, Step.build_id, Step.position)
        )
        return statement if scope.image_id is None else statement.where(Step.image_id == scope.image_id)

    def figure(self, frame: "DataFrame") -> dict[str, Any] | None:
        """A cell for each instruction and build: colour, mark and word say the same."""
        if frame.empty:
            return None
        builds, instructions, cells = _grid(frame)
        x, y = list(range(len(builds))), list(range(len(instructions)))
        z: list[list[int | None]] = [[None] * len(builds) for _ in instructions]
        marks = [[""] * len(builds) for _ in instructions]
        words = [["not in this build"] * len(builds) for _ in instructions]
        for (row, column), step in cells.items():
            kind = _kind(step)
            z[row][column] = kind
            marks[row][column] = BREAK_MARK if step["is_break"] else MARKS[kind]
            words[row][column] = _words(step, kind)
        steps = len(COLOURS)
        scale = [[edge / steps, colour] for place, colour in enumerate(COLOURS) for edge in (place, place + 1)]
        return {
            "data": [
                {
                    "type": "heatmap",
                    "x": x,
                    "y": y,
                    "z": z,
                    "zmin": -0.5,
                    "zmax": steps - 0.5,
                    "colorscale": scale,
                    "showscale": False,
                    "xgap": 1,
                    "ygap": 1,
                    "text": marks,
                    "texttemplate": "%{text}",
                    "textfont": {"size": 9, "color": "token:panel"},
                    "hovertext": words,
                    "hovertemplate": "%{hovertext}<extra></extra>",
                    "customdata": [[f"/builds/{build['build_id']}" for build in builds] for _ in instructions],
                }
            ],
            "layout": {
                "hovermode": "closest",
                # The page gives room for sixteen; more make the figure taller.
                **({"height": 60 + 17 * len(instructions)} if len(instructions) > 16 else {}),
                "xaxis": {"showticklabels": False, "range": [-0.5, max(len(builds), 20) - 0.5]},
                "yaxis": {
                    "tickvals": y,
                    "ticktext": [theme.cut_middle(_name(row), 34) for row in instructions],
                    "range": [max(len(instructions), 8) - 0.5, -0.5],
                    "showgrid": False,
                },
            },
        }

    def summary(self, frame: "DataFrame") -> str:
        """How many instructions missed in how many builds."""
        if frame.empty:
            return "No build yet whose steps are known."
        builds, instructions, _ = _grid(frame)
        breaks = int(frame["is_break"].sum())
        return (
            f"{theme.plural(len(instructions), 'instruction')} in {theme.plural(len(builds), 'build')}, newest on the "
            f"right; {BREAK_MARK} marks {theme.plural(breaks, 'break')}."
        )

    def table(self, frame: "DataFrame") -> Table:
        """One row an instruction: how often it hit, missed and broke, and how it went last."""
        _, instructions, cells = _grid(frame)
        rows = []
        for place, instruction in enumerate(instructions):
            steps = [step for (row, _), step in cells.items() if row == place]
            kinds = [_kind(step) for step in steps]
            rows.append(
                (
                    theme.cut_middle(_name(instruction), 120),
                    str(kinds.count(0)),
                    str(sum(kind in {1, 2, 3} for kind in kinds)),
                    str(sum(bool(step["is_break"]) for step in steps)),
                    WORDS[kinds[-1]],
                )
            )
        return Table(("Instruction", "Hits", "Misses", "Breaks", "Last"), rows)


def _grid(frame: "DataFrame") -> tuple[list[Row], list[Row], dict[tuple[int, int], Row]]:
    """Builds, instructions and the step in each cell, as places in the two."""
    steps: list[Row] = list(frame.to_dict("records"))
    builds = {step["build_id"]: step for step in steps}
    columns = {build: place for place, build in enumerate(builds)}
    # The newest build that has an instruction says where it stands; those that missed most stay when there are many.
    newest = {step["instruction_id"]: step for step in steps}
    misses = dict.fromkeys(newest, 0)
    for step in steps:
        misses[step["instruction_id"]] += step["cached"] is False
    kept = set(sorted(newest, key=lambda instruction: -misses[instruction])[:INSTRUCTIONS])
    ordered = sorted(
        (step for instruction, step in newest.items() if instruction in kept),
        key=lambda step: (step["stage"], number(step["idx"]) or 0, step["instruction_id"]),
    )
    rows = {step["instruction_id"]: place for place, step in enumerate(ordered)}
    cells = {
        (rows[step["instruction_id"]], columns[step["build_id"]]): step
        for step in steps
        if step["instruction_id"] in rows
    }
    return list(builds.values()), ordered, cells


def _kind(step: Mapping[Any, Any]) -> int:
    if step["status"] == "failed":
        return 4
    if step["cached"] is True:
        return 0
    if step["cached"] is None or step["status"] in {"canceled", "running"}:
        return 5
    return {True: 1, False: 2}.get(step["expected"], 3)


def _words(step: Mapping[Any, Any], kind: int) -> str:
    word = f"break, {WORDS[kind]}" if step["is_break"] else WORDS[kind]
    seconds = number(step["duration_seconds"])
    took = f", {theme.duration(seconds)}" if seconds is not None and kind else ""
    return f"{_name(step)}<br>{step['started_at']:%Y-%m-%d %H:%M} UTC: {word}{took}"


def _name(step: Mapping[Any, Any]) -> str:
    text = f"{step['stage']}: {step['text']}" if step["stage"] else step["text"]
    return theme.in_figure(text, 120)


CHART = HeatmapChart()
