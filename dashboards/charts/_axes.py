"""Axes of time: marks at round numbers of seconds, minutes or hours, in words."""

from collections.abc import Sequence
from typing import Any

STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 18_000, 36_000, 86_400, 360_000)
LOG_MARKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 86_400)


def time_axis(longest: float, marks: int = 5) -> dict[str, Any]:
    """A linear axis from nothing to the longest time; without marks where no time is known."""
    if longest <= 0:
        return {"showticklabels": False, "range": [0, 1.1]}
    step = next((step for step in STEPS if longest / step <= marks), STEPS[-1])
    values = [step * number for number in range(int(longest / step) + 2)]
    return {"range": [0, longest * 1.06], **_named(values)}


def log_time_axis(known: Sequence[float]) -> dict[str, Any]:
    """A logarithmic axis around some times."""
    low, high = min(known), max(known)
    marks = [mark for mark in LOG_MARKS if low / 3 <= mark <= high * 3]
    return {"type": "log", **_named(marks[:: len(marks) // 6 + 1])}


def _named(values: Sequence[float]) -> dict[str, Any]:
    return {"tickvals": list(values), "ticktext": [_text(value) for value in values]}


def _text(seconds: float) -> str:
    if seconds == 0:
        return "0"
    if seconds < 1:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return _in_two(seconds, 60, "min", "s")
    return _in_two(seconds / 60, 60, "h", "min")


def _in_two(amount: float, size: int, large: str, small: str) -> str:
    whole, rest = divmod(round(amount), size)
    return f"{whole} {large} {rest} {small}" if rest else f"{whole} {large}"
