"""What breaks cost in a range, by instruction: the dearest twelve, unexpected and expected apart."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from dashboards import theme
from dashboards.charts._axes import time_axis
from dashboards.charts._daily import within
from dashboards.charts.base import Scope, Statement, Table
from store.models import DailyInstructions, Instruction

if TYPE_CHECKING:
    from pandas import DataFrame

INSTRUCTIONS = 12
PARTS = {
    "lost_seconds": ("unexpected", "token:miss", ""),
    "rebuild_seconds": ("expected", "token:expected", "/"),
    "unexplained_seconds": ("unknown why", "token:miss/0.45", "."),
}


class BreaksChart:
    """Which instructions cost time by breaking the cache."""

    title = "Time that breaks cost, by instruction"
    columns: Mapping[str, str] = {
        "instruction_id": "int",
        "stage": "text",
        "text": "text",
        "breaks": "int",
        "lost_seconds": "number",
        "rebuild_seconds": "number",
        "unexplained_seconds": "number",
    }

    def select(self, scope: Scope) -> Statement:
        """One row an instruction, dearest first."""
        sums = {name: func.sum(getattr(DailyInstructions, name)).label(name) for name in ("breaks", *PARTS)}
        cost = sum((sums[name] for name in list(PARTS)[1:]), start=sums["lost_seconds"])
        statement = (
            select(Instruction.id, Instruction.stage, Instruction.text, *sums.values())
            .join(DailyInstructions, DailyInstructions.instruction_id == Instruction.id)
            .where(*within(DailyInstructions, scope))
            .group_by(Instruction.id, Instruction.stage, Instruction.text)
            .having(sums["breaks"] > 0)
            .order_by(cost.desc(), Instruction.id)
            .limit(INSTRUCTIONS)
        )
        return statement if scope.image_id is None else statement.where(Instruction.image_id == scope.image_id)

    def figure(self, frame: "DataFrame") -> dict[str, Any] | None:
        """Bars from the left, dearest on top."""
        rows = list(reversed(frame.to_dict("records")))
        if not any(row[part] for row in rows for part in PARTS):
            return None
        names = [_name(row) for row in rows]
        return {
            "data": [
                {
                    "type": "bar",
                    "orientation": "h",
                    "name": word,
                    "x": [float(row[part]) for row in rows],
                    "y": list(range(len(rows))),
                    "text": [theme.duration(float(row[part])) for row in rows],
                    "customdata": names,
                    "textposition": "none",
                    "hovertemplate": "%{customdata}<br>%{text}<extra>" + word + "</extra>",
                    "marker": {
                        "color": colour,
                        "pattern": {"shape": pattern, "size": 5, "fillmode": "overlay", "fgcolor": "token:ground"},
                    },
                }
                for part, (word, colour, pattern) in PARTS.items()
                if any(row[part] for row in rows)
            ],
            "layout": {
                "barmode": "stack",
                "hovermode": "closest",
                "xaxis": {"showgrid": True, **time_axis(max(sum(float(row[part]) for part in PARTS) for row in rows))},
                "yaxis": {
                    "tickvals": list(range(len(rows))),
                    "ticktext": [theme.cut_middle(name, 34) for name in names],
                    "showgrid": False,
                    "range": [-0.6, max(len(rows), 3) - 0.4],
                },
            },
        }

    def summary(self, frame: "DataFrame") -> str:
        """The dearest instruction and its share."""
        if frame.empty:
            return "Nothing broke the cache in this range."
        costs = frame[list(PARTS)].sum(axis=1)
        if not costs.sum():
            return f"{theme.plural(int(frame['breaks'].sum()), 'break')}, none of which the logs time."
        share = float(costs.iloc[0] / costs.sum())
        row = frame.iloc[0].to_dict()
        name = theme.cut_middle(_name(row), 60)
        return f"{name} cost {theme.duration(float(costs.iloc[0]))}, {theme.percent(share)} of what is shown."

    def table(self, frame: "DataFrame") -> Table:
        """One row an instruction, dearest first."""
        rows = [
            (
                theme.cut_middle(_name(row), 120),
                theme.count(int(row["breaks"])),
                *(theme.duration(float(row[part])) for part in PARTS),
            )
            for row in frame.to_dict("records")
        ]
        return Table(("Instruction", "Breaks", "Unexpected", "Expected", "Unknown why"), rows)


def _name(row: Mapping[Any, Any]) -> str:
    text = f"{row['stage']}: {row['text']}" if row["stage"] else row["text"]
    return theme.in_figure(text, 160)


CHART = BreaksChart()
