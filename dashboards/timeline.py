"""The timeline of a build: steps as bars on a time axis, in lanes by stage, drawn on the server.

It needs no JavaScript: positions are percentages of the width, so text keeps its size however wide the page is.
Bars are packed into as few rows as keep their labels apart; hits are ticks.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dashboards.states import State
from dashboards.theme import cut_middle

ROW_HEIGHT = 20
LANE_HEADER = 18
LANE_GAP = 8
AXIS_HEIGHT = 22
_LABEL_CHARACTERS = 30
_CHARACTER_PERCENT = 0.78
"""Width of a monospaced character at 11 px as a share of a drawing 900 px wide."""
_TICK_PERCENT = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineStep:
    """What the timeline needs to know of a step."""

    position: int
    lane: str
    text: str
    state: State
    started_seconds: float | None
    duration_seconds: float | None
    reference_seconds: float | None = None
    break_position: int | None = None
    is_critical: bool = False
    """It lies on the longest chain of steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A step with its place; x and widths in percent, y in pixels."""

    step: TimelineStep
    x: float
    width: float
    y: int
    typical_width: float
    label: str
    label_x: float
    label_anchor: str
    is_tick: bool


@dataclass(slots=True, kw_only=True)
class Lane:
    """The bars of one stage."""

    name: str
    y: int
    bars: list[Bar] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tie:
    """The line from a break to a step of its cascade."""

    x: float
    y1: int
    y2: int
    to_x: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Everything the template draws."""

    lanes: Sequence[Lane]
    ties: Sequence[Tie]
    ticks: Sequence[tuple[float, float]]
    """Place in percent and seconds of every mark of the axis."""
    height: int
    has_critical: bool
    is_measured: bool
    """False where the log tells no starting times and bars stand end to end in each lane."""


def timeline(steps: Iterable[TimelineStep], total_seconds: float | None) -> Timeline | None:
    """Lay the steps out; None where the log times none of them."""
    known = list(steps)
    is_measured = any(step.started_seconds is not None for step in known)
    placed = _measured(known) if is_measured else _end_to_end(known)
    ends = [start + (step.duration_seconds or 0.0) for step, start in placed]
    span = max([*ends, (total_seconds or 0.0) if is_measured else 0.0], default=0.0)
    if span <= 0:
        return None
    lanes: list[Lane] = []
    y = AXIS_HEIGHT
    for name in dict.fromkeys(step.lane for step, _ in placed):
        lane = Lane(name=name, y=y)
        rows = _pack([(step, start) for step, start in placed if step.lane == name], span, lane)
        lanes.append(lane)
        y += LANE_HEADER + rows * ROW_HEIGHT + LANE_GAP
    return Timeline(
        lanes=lanes,
        ties=_ties([bar for lane in lanes for bar in lane.bars]),
        ticks=[(at / span * 100, at) for at in _axis(span)],
        height=y,
        has_critical=any(step.is_critical for step in known),
        is_measured=is_measured,
    )


def _measured(steps: Sequence[TimelineStep]) -> list[tuple[TimelineStep, float]]:
    return [(step, step.started_seconds) for step in steps if step.started_seconds is not None]


def _end_to_end(steps: Sequence[TimelineStep]) -> list[tuple[TimelineStep, float]]:
    ends: dict[str, float] = {}
    placed = []
    for step in steps:
        start = ends.get(step.lane, 0.0)
        placed.append((step, start))
        ends[step.lane] = start + (step.duration_seconds or 0.0)
    return placed


def _pack(placed: Sequence[tuple[TimelineStep, float]], span: float, lane: Lane) -> int:
    """Put the bars of a lane into rows so that neither bars nor labels touch; return the number of rows."""
    # A row of its own for the hits, where there are any.
    free_from: list[float] = [101.0] if any(step.state.name == "hit" for step, _ in placed) else []
    ticks_end = 0.0
    for step, start in placed:
        x = min(start / span * 100, 100 - _TICK_PERCENT)
        seconds = step.duration_seconds or 0.0
        is_tick = step.state.name == "hit"
        width = _TICK_PERCENT if is_tick else max(_TICK_PERCENT, min(100 - x, seconds / span * 100))
        label = "" if is_tick else cut_middle(step.text, _LABEL_CHARACTERS)
        label_width = len(label) * _CHARACTER_PERCENT + 0.8 if label else 0.3
        after = x + width + 0.5
        if after + label_width <= 100:
            label_x, anchor, left, right = after, "start", x, after + label_width
        elif x - 0.6 - label_width >= 0:
            label_x, anchor, left, right = x - 0.6, "end", x - 0.6 - label_width, x + width
        else:
            label_x, anchor, left, right = x + 0.6, "start", x, max(x + width, x + 0.6 + label_width)
        if is_tick:
            # Hits begin together: side by side in the first row each can still be hovered.
            x = label_x = left = max(x, min(ticks_end, 100 - _TICK_PERCENT))
            right = x + width
            ticks_end = right + 0.25
        row = 0 if is_tick else next((number for number, end in enumerate(free_from) if end <= left), len(free_from))
        if row == len(free_from):
            free_from.append(0.0)
        free_from[row] = max(free_from[row], right + 0.2)
        lane.bars.append(
            Bar(
                step=step,
                x=x,
                width=width,
                y=lane.y + LANE_HEADER + row * ROW_HEIGHT,
                typical_width=0.0 if is_tick else min(100 - x, (step.reference_seconds or 0.0) / span * 100),
                label=label,
                label_x=label_x,
                label_anchor=anchor,
                is_tick=is_tick,
            )
        )
    return len(free_from)


def _ties(bars: Sequence[Bar]) -> list[Tie]:
    breaks = {bar.step.position: bar for bar in bars if bar.step.state.is_break}
    return [
        Tie(x=above.x, y1=above.y + ROW_HEIGHT - 4, y2=bar.y + ROW_HEIGHT // 2 - 2, to_x=bar.x)
        for bar in bars
        if (above := breaks.get(bar.step.break_position if bar.step.break_position is not None else -1)) is not None
    ]


def _axis(span: float) -> list[float]:
    """Round places on the axis: four to eight of them."""
    for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400):
        if span / step <= 8:
            return [step * number for number in range(int(span / step) + 1)]
    return [0.0, span]
