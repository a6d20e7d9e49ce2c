"""Histograms of hit rates and durations: what a day keeps so that medians over any range cost no look at its builds.

A hit rate is kept in thousandths, a duration in steps of two percent: both are sparse, and as JSON their keys are text.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from math import ceil, exp, floor, isfinite, log

_STEPS_PER_E = 50
_SHORTEST_SECONDS = 0.01


def rate_bin(rate: float) -> int:
    """The bin of a hit rate."""
    return round(rate * 1000)


def rate_of_bin(number: int) -> float:
    """The hit rate that a bin stands for."""
    return number / 1000


def duration_bin(seconds: float) -> int:
    """The bin of a duration."""
    return round(log(max(seconds, _SHORTEST_SECONDS)) * _STEPS_PER_E)


def duration_of_bin(number: int) -> float:
    """The seconds that a bin stands for, exact to one percent."""
    return exp(number / _STEPS_PER_E)


def count_bins(numbers: Iterable[int]) -> dict[str, int]:
    """Count bins as JSON keeps them."""
    return {str(number): count for number, count in sorted(Counter(numbers).items())}


def merge(histograms: Iterable[Mapping[str, int]]) -> dict[int, int]:
    """Add histograms up, with numbers as keys."""
    merged: dict[str, int] = {}
    known = merged.get
    for histogram in histograms:
        for number, count in histogram.items():
            merged[number] = known(number, 0) + count
    return {int(number): count for number, count in merged.items()}


def bin_quantile(histogram: Mapping[int, int], share: float) -> float | None:
    """The bin, between two by a straight line, below which this share of the values lies; None of nothing."""
    total = sum(histogram.values())
    if not total:
        return None
    place = share * (total - 1)
    low, high = _bin_at(histogram, floor(place)), _bin_at(histogram, ceil(place))
    return low + (high - low) * (place - floor(place))


def rate_quantile(histogram: Mapping[int, int], share: float) -> float | None:
    """A quantile of hit rates."""
    number = bin_quantile(histogram, share)
    return None if number is None else number / 1000


def duration_quantile(histogram: Mapping[int, int], share: float) -> float | None:
    """A quantile of durations, in seconds."""
    number = bin_quantile(histogram, share)
    return None if number is None else exp(number / _STEPS_PER_E)


def is_countable(value: float | None) -> bool:
    """Whether a value can stand in a histogram."""
    return value is not None and isfinite(value)


def _bin_at(histogram: Mapping[int, int], rank: int) -> int:
    for number in sorted(histogram):
        rank -= histogram[number]
        if rank < 0:
            return number
    raise AssertionError("the rank lies past the last value")
