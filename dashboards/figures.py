"""The figures on top of a page: each with its formula, its change, its count of builds, or why it is missing."""

from dataclasses import dataclass

from dashboards import theme
from store.queries.rollups import Period


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure as the page shows it."""

    name: str
    formula: str
    value: str | None
    missing: str = ""
    """What stands there instead of a value that is not known."""
    note: str = ""
    change: str | None = None
    is_better: bool | None = None
    """Whether the change is for the better; None where there is none, or where more is neither."""


def summary(now: Period, before: Period) -> list[Figure]:
    """Efficiency, hit rate, time lost and time avoided over a range, against the range before it."""
    counted = now.builds - now.failed
    return [_efficiency(now, before, counted), _hit_rate(now, before), _lost(now, before), _avoided(now, before)]


def _efficiency(now: Period, before: Period, counted: int) -> Figure:
    formula = "Time avoided / (time avoided + time spent), sums over all builds first"
    if now.seconds_spent is not None:
        total = now.seconds_avoided + now.seconds_spent
        formula += (
            f": {theme.duration(now.seconds_avoided)} / {theme.duration(total)} over {theme.plural(counted, 'build')}"
        )
    return Figure(
        name="Cache efficiency",
        formula=formula + ".",
        value=None if now.cache_efficiency is None else theme.percent(now.cache_efficiency),
        missing=_missing(now),
        note=f"time spent {theme.duration(now.seconds_spent)}" if now.builds and now.seconds_spent is not None else "",
        change=theme.points(now.cache_efficiency, before.cache_efficiency),
        is_better=_is_more(now.cache_efficiency, before.cache_efficiency),
    )


def _hit_rate(now: Period, before: Period) -> Figure:
    formula = (
        f"Hits / (hits + misses): {theme.count(now.hits)} / {theme.count(now.hits + now.misses)} cacheable steps. "
        "Median and p10 are those of single builds: half of them, one in ten, are below."
    )
    counted = now.builds - now.failed
    if now.hit_rate is None:
        note = ""
    elif counted < theme.MIN_BUILDS or now.hit_rate_median is None or now.hit_rate_p10 is None:
        note = f"median: {theme.not_enough(counted)}"
    else:
        note = f"median {theme.percent(now.hit_rate_median)}, p10 {theme.percent(now.hit_rate_p10)}"
    return Figure(
        name="Hit rate",
        formula=formula,
        value=None if now.hit_rate is None else theme.percent(now.hit_rate),
        missing=_missing(now),
        note=note,
        change=theme.points(now.hit_rate, before.hit_rate),
        is_better=_is_more(now.hit_rate, before.hit_rate),
    )


def _lost(now: Period, before: Period) -> Figure:
    note = f"rebuild time {theme.duration(now.rebuild_seconds)}"
    if now.unexplained_seconds:
        note += f", unexplained {theme.duration(now.unexplained_seconds)}"
    return Figure(
        name="Time lost",
        formula=(
            "Σ miss cost of unexpected breaks: the seconds of the break and of the steps that ran only because of it, "
            "failed and canceled builds included. Rebuild time is the same sum over expected breaks."
        ),
        value=theme.duration(now.lost_seconds) if now.builds else None,
        missing=_missing(now),
        note=note if now.builds else "",
        change=_change(now.lost_seconds, before.lost_seconds, now, before),
        is_better=now.lost_seconds <= before.lost_seconds if now.builds else None,
    )


def _avoided(now: Period, before: Period) -> Figure:
    formula = (
        "Σ over hits of the reference cost of their instruction: the exponentially weighted mean (weight 0.4) of the "
        "seconds of its past executions."
    )
    if now.avoided_unknown:
        formula += f" {theme.plural(now.avoided_unknown, 'hit')} of unknown cost left out."
    failed = f", {theme.count(now.failed)} failed or canceled" if now.failed else ""
    return Figure(
        name="Time avoided",
        formula=formula,
        value=theme.duration(now.seconds_avoided)
        if now.hits > now.avoided_unknown or (now.builds and not now.hits)
        else None,
        missing="not known: no hit was ever seen to run" if now.builds else _missing(now),
        note=f"in {theme.plural(now.builds, 'build')}{failed}" if now.builds else "",
        change=_change(now.seconds_avoided, before.seconds_avoided, now, before),
    )


def _change(seconds: float, seconds_before: float, now: Period, before: Period) -> str | None:
    """A change of a sum; None where the range before had too few builds to be compared with."""
    if not now.builds or before.builds < theme.MIN_BUILDS:
        return None
    return theme.change(seconds, seconds_before)


def _missing(now: Period) -> str:
    if not now.builds:
        return "no builds"
    if not now.hits + now.misses:
        return "no step could be counted"
    return "not enough data: no cost of the hits or of the misses is known yet"


def _is_more(now: float | None, before: float | None) -> bool | None:
    return None if now is None or before is None else now >= before
