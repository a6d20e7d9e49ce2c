"""Every figure of the glossary, once: hit rate, time spent and avoided, efficiency, losses, overhead, pull churn.

Ratios run from 0 to 1, times are seconds. None means "unknown" or "not enough data"; it is never 0.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import ceil, floor
from typing import Protocol

from cachescope.lineage import Lineage
from cachescope.model import Build, CacheTransfer, Outcome, Step, StepKind

REFERENCE_WEIGHT = 0.4
"""How much the latest execution weighs in an instruction's reference cost."""

HIT_RATE_BINS = 21
"""A hit rate is kept as one of 0, 0.05, … 1 where only a histogram is stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What the cache did for one build, counted over its cacheable steps."""

    cacheable: int
    hits: int
    misses: int
    unknown: int
    """Cacheable steps of which the log does not say whether they hit."""
    hit_rate: float | None
    """hits / (hits + misses); None where nothing was counted."""
    seconds_spent: float | None
    """Σ seconds of the misses; None where there are misses and the log times none of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Avoided:
    """The time that hits saved, and how many hits are left out because their cost is not known."""

    seconds: float
    hits_counted: int
    hits_unknown: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticalPath:
    """The longest chain of steps: as it ran, and as it would have been without a cache."""

    seconds: float
    seconds_without_cache: float
    positions: tuple[int, ...]
    """The steps of the longest chain as it ran, first to last."""

    @property
    def wall_seconds_saved(self) -> float:
        """Return by how much the cache shortened the critical path."""
        return self.seconds_without_cache - self.seconds


class PricedBreak(Protocol):
    """What the figures need to know of a break; `comparing.Break` is one."""

    @property
    def position(self) -> int:
        """The step, as a position in the build."""

    @property
    def cascade(self) -> tuple[int, ...]:
        """The misses below it, as positions."""

    @property
    def cost_seconds(self) -> float | None:
        """The seconds of the break and its cascade."""

    @property
    def expected(self) -> bool | None:
        """Whether the commit explains it."""


def figures(build: Build) -> Figures:
    """Count hits, misses and the time spent on misses in one build."""
    return step_figures(build.steps)


def step_figures(steps: Iterable[Step]) -> Figures:
    """Count hits, misses and the time spent on misses over some steps, for instance those of one target."""
    cacheable = [step for step in steps if step.cacheable]
    hits = sum(step.cached is True for step in cacheable)
    missed = [step for step in cacheable if step.cached is False]
    return Figures(
        cacheable=len(cacheable),
        hits=hits,
        misses=len(missed),
        unknown=len(cacheable) - hits - len(missed),
        hit_rate=hit_rate(hits, len(missed)),
        seconds_spent=_sum_known(step.duration_seconds for step in missed),
    )


def hit_rate(hits: int, misses: int) -> float | None:
    """Return hits / (hits + misses), None where nothing was counted."""
    return hits / (hits + misses) if hits + misses else None


def update_reference(reference_seconds: float | None, seconds: float) -> float:
    """Return the reference cost of an instruction after one more execution: an exponentially weighted mean."""
    if reference_seconds is None:
        return seconds
    return REFERENCE_WEIGHT * seconds + (1 - REFERENCE_WEIGHT) * reference_seconds


def time_avoided(steps: Sequence[Step], reference_seconds: Sequence[float | None]) -> Avoided:
    """Sum the reference costs of the hits; `reference_seconds` runs parallel to `steps`.

    A hit whose instruction was never seen to run has no cost: it is left out and counted in `hits_unknown`.
    """
    costs = [
        cost for step, cost in zip(steps, reference_seconds, strict=True) if step.cacheable and step.cached is True
    ]
    known = [cost for cost in costs if cost is not None]
    return Avoided(seconds=sum(known), hits_counted=len(known), hits_unknown=len(costs) - len(known))


def cache_efficiency(avoided: Avoided, spent: Figures) -> float | None:
    """Return time avoided / (time avoided + time spent): 1 for a fully warm build, 0 for a fully cold one.

    None where nothing was counted, where the misses are not timed, and where no hit has a known cost.
    """
    return efficiency(
        hits=spent.hits,
        misses=spent.misses,
        seconds_avoided=avoided.seconds if avoided.hits_counted else None,
        seconds_spent=spent.seconds_spent,
    )


def efficiency(*, hits: int, misses: int, seconds_avoided: float | None, seconds_spent: float | None) -> float | None:
    """Return the cache efficiency from sums, over one build or many."""
    if not misses:
        return 1.0 if hits else None
    if not hits:
        return 0.0
    if seconds_avoided is None or seconds_spent is None:
        return None
    total = seconds_avoided + seconds_spent
    return seconds_avoided / total if total > 0 else None


def reachable_efficiency(
    steps: Sequence[Step], reference_seconds: Sequence[float | None], breaks: Sequence[PricedBreak]
) -> float | None:
    """Return the efficiency that a build would have had if every unexpected miss had hit.

    A step that also lies below an expected break would have missed anyway and stays a miss. A miss that becomes a hit
    counts with its reference cost, or with what it took now where it was never seen to run before.
    """
    spared = _positions(b for b in breaks if b.expected is False) - _positions(
        b for b in breaks if b.expected is not False
    )
    avoided = time_avoided(steps, reference_seconds)
    gained = 0.0
    spared_misses = 0
    spent = []
    for position, step in enumerate(steps):
        if not step.cacheable or step.cached is not False:
            continue
        if position in spared:
            reference = reference_seconds[position]
            gained += reference if reference is not None else step.duration_seconds or 0.0
            spared_misses += 1
        else:
            spent.append(step.duration_seconds)
    hits = avoided.hits_counted + avoided.hits_unknown + spared_misses
    known = avoided.hits_counted + spared_misses
    return efficiency(
        hits=hits,
        misses=len(spent),
        seconds_avoided=avoided.seconds + gained if known else None,
        seconds_spent=_sum_known(spent),
    )


def cache_overhead(build: Build) -> float | None:
    """Sum the seconds of importing and exporting cache; None where there were transfers and the log times none."""
    return _sum_known(transfer.seconds for transfer in (*build.cache_imports, *build.cache_exports))


def net_saving(seconds_avoided: float, overhead_seconds: float) -> float:
    """Return time avoided − cache overhead: below zero where the cache costs more than it saves."""
    return seconds_avoided - overhead_seconds


def cache_backend(ref: str | None) -> str:
    """Name the kind of cache that an import or export speaks of: registry, gha, local, s3, azblob, inline or other."""
    text = (ref or "").lower()
    for backend, words in _BACKENDS.items():
        if text == backend or text.startswith(words):
            return backend
    # An import from a registry prints nothing but its address.
    return "registry" if "/" in text or text.startswith("registry") else "other"


_BACKENDS = {
    "gha": ("gha:", "github actions", "to github actions"),
    "s3": ("s3:", "amazon s3", "to amazon s3"),
    "azblob": ("azblob:", "azure blob", "to azure blob"),
    "local": ("local:", "client directory"),
    "inline": ("inline",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendFigures:
    """What one kind of cache cost and saved over a set of builds."""

    backend: str
    builds: int
    """Builds that imported from it or exported to it."""
    overhead_seconds: float
    seconds_avoided: float
    """Time avoided in the builds that used this backend alone: of two nobody can tell which one served a hit."""
    net_saving_seconds: float
    """Time avoided − overhead over those builds; below zero where this cache costs more than it saves."""


def summarize_backends(builds: Iterable[tuple[Iterable[CacheTransfer], float]]) -> tuple[BackendFigures, ...]:
    """Add up overhead and saving per cache backend: of each build its imports and exports, and the time it avoided."""
    sums: dict[str, list[float]] = {}
    for transfers, avoided in builds:
        seconds: dict[str, float] = {}
        for transfer in transfers:
            backend = cache_backend(transfer.ref)
            seconds[backend] = seconds.get(backend, 0.0) + (transfer.seconds or 0.0)
        for backend, overhead in seconds.items():
            entry = sums.setdefault(backend, [0, 0.0, 0.0, 0.0])
            is_alone = len(seconds) == 1
            added = (1, overhead, avoided if is_alone else 0.0, net_saving(avoided, overhead) if is_alone else 0.0)
            sums[backend] = [a + b for a, b in zip(entry, added, strict=True)]
    found = [
        BackendFigures(
            backend=backend,
            builds=int(count),
            overhead_seconds=overhead,
            seconds_avoided=avoided,
            net_saving_seconds=net,
        )
        for backend, (count, overhead, avoided, net) in sums.items()
    ]
    return tuple(sorted(found, key=lambda figures: (-figures.builds, figures.backend)))


def miss_cost(steps: Sequence[Step], position: int, cascade: Iterable[int]) -> float | None:
    """Sum the seconds of a break and its cascade; None where none of them is timed."""
    return _sum_known(steps[p].duration_seconds for p in (position, *cascade))


def seconds_lost(breaks: Iterable[PricedBreak]) -> float:
    """Σ miss cost of the unexpected breaks (shown in minutes)."""
    return sum(b.cost_seconds or 0.0 for b in breaks if b.expected is False)


def rebuild_seconds(breaks: Iterable[PricedBreak]) -> float:
    """Σ miss cost of the expected breaks: what the order of the Dockerfile costs."""
    return sum(b.cost_seconds or 0.0 for b in breaks if b.expected is True)


def critical_path(build: Build, lineage: Lineage, reference_seconds: Sequence[float | None]) -> CriticalPath | None:
    """Find the longest chain of steps as it ran, and its length with every hit at its reference cost.

    None where the log times no step. Hits of unknown cost add nothing, so the saving is then a lower bound.
    """
    steps = build.steps
    if not any(s.kind == StepKind.INSTRUCTION and s.duration_seconds is not None for s in steps):
        return None
    as_ran = [(s.duration_seconds or 0.0) if s.kind == StepKind.INSTRUCTION else 0.0 for s in steps]
    cold = [
        max(as_ran[p], reference_seconds[p] or 0.0) if s.cached is True and s.cacheable else as_ran[p]
        for p, s in enumerate(steps)
    ]
    length, positions = _longest(lineage.parents, as_ran)
    return CriticalPath(seconds=length, seconds_without_cache=_longest(lineage.parents, cold)[0], positions=positions)


def _longest(parents: Sequence[tuple[int, ...]], weights: Sequence[float]) -> tuple[float, tuple[int, ...]]:
    """Length and steps of the heaviest path; an edge that would close a circle is not followed."""
    best: dict[int, tuple[float, int | None]] = {}
    state = [0] * len(weights)
    for start in range(len(weights)):
        stack = [start]
        while stack:
            position = stack[-1]
            if state[position] == 0:
                state[position] = 1
                stack.extend(p for p in parents[position] if state[p] == 0)
                continue
            stack.pop()
            if state[position] == 1:
                state[position] = 2
                above = max(((best[p][0], p) for p in parents[position] if p in best), default=None)
                best[position] = (weights[position] + (above[0] if above else 0.0), above[1] if above else None)
    if not best:
        return 0.0, ()
    last: int | None = max(best, key=lambda p: (best[p][0], -p))
    length = best[last][0] if last is not None else 0.0
    path = []
    while last is not None:
        path.append(last)
        last = best[last][1]
    return length, tuple(reversed(path))


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRecord:
    """What a summary needs to know of one build."""

    outcome: Outcome
    hits: int
    misses: int
    unknown: int = 0
    seconds_spent: float | None = None
    seconds_avoided: float = 0.0
    avoided_unknown: int = 0
    lost_seconds: float = 0.0
    rebuild_seconds: float = 0.0
    overhead_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The figures of a set of builds: sums first, then the ratio."""

    builds: int
    failed: int
    """Builds that did not succeed: they count for lost time, not for hit rates."""
    hits: int
    misses: int
    unknown: int
    hit_rate: float | None
    hit_rate_median: float | None
    hit_rate_p10: float | None
    seconds_spent: float | None
    seconds_avoided: float
    avoided_unknown: int
    cache_efficiency: float | None
    lost_seconds: float
    rebuild_seconds: float
    overhead_seconds: float
    net_saving_seconds: float


def summarize(records: Iterable[BuildRecord]) -> Summary:
    """Add up a set of builds; failed and canceled ones count for lost time but not for hit rates."""
    every = list(records)
    good = [record for record in every if record.outcome == Outcome.SUCCEEDED]
    hits = sum(record.hits for record in good)
    misses = sum(record.misses for record in good)
    rates = [rate for record in good if (rate := hit_rate(record.hits, record.misses)) is not None]
    avoided = sum(record.seconds_avoided for record in good)
    avoided_unknown = sum(record.avoided_unknown for record in good)
    spent = _sum_known(record.seconds_spent for record in good if record.misses)
    overhead = sum(record.overhead_seconds or 0.0 for record in good)
    return Summary(
        builds=len(every),
        failed=len(every) - len(good),
        hits=hits,
        misses=misses,
        unknown=sum(record.unknown for record in good),
        hit_rate=hit_rate(hits, misses),
        hit_rate_median=quantile(rates, 0.5),
        hit_rate_p10=quantile(rates, 0.1),
        seconds_spent=spent,
        seconds_avoided=avoided,
        avoided_unknown=avoided_unknown,
        cache_efficiency=efficiency(
            hits=hits,
            misses=misses,
            seconds_avoided=avoided if hits > avoided_unknown else None,
            seconds_spent=spent,
        ),
        lost_seconds=sum(record.lost_seconds for record in every),
        rebuild_seconds=sum(record.rebuild_seconds for record in every),
        overhead_seconds=overhead,
        net_saving_seconds=net_saving(avoided, overhead),
    )


def quantile(values: Collection[float], share: float) -> float | None:
    """Return the value below which this share of the values lies, between two values by straight line."""
    if not values:
        return None
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low, high = ordered[floor(place)], ordered[ceil(place)]
    return low + (high - low) * (place - floor(place))


def hit_rate_bin(rate: float) -> int:
    """Return the bin (0 to 20) of a histogram of hit rates."""
    return round(min(1.0, max(0.0, rate)) * (HIT_RATE_BINS - 1))


def quantile_of_bins(counts: Sequence[int] | Mapping[int, int], share: float) -> float | None:
    """Return a quantile of hit rates from the counts per bin, exact to half a bin."""
    pairs = sorted(counts.items()) if isinstance(counts, Mapping) else list(enumerate(counts))
    total = sum(count for _, count in pairs)
    if not total:
        return None
    place = share * (total - 1)
    return _value_at(pairs, floor(place)) + (_value_at(pairs, ceil(place)) - _value_at(pairs, floor(place))) * (
        place - floor(place)
    )


def _value_at(pairs: Sequence[tuple[int, int]], rank: int) -> float:
    totals = accumulate(count for _, count in pairs)
    bin_number = next(number for (number, _), total in zip(pairs, totals, strict=True) if rank < total)
    return bin_number / (HIT_RATE_BINS - 1)


def pull_churn(layers: Iterable[tuple[str, int]], previous_digests: Collection[str]) -> int:
    """Sum the compressed bytes of the layers (digest, size) that the previous release did not have, each once."""
    new = {digest: size for digest, size in layers if digest not in previous_digests}
    return sum(new.values())


def _positions(breaks: Iterable[PricedBreak]) -> set[int]:
    return {position for b in breaks for position in (b.position, *b.cascade)}


def _sum_known(values: Iterable[float | None]) -> float | None:
    """Sum what is known; 0 of nothing, None of nothing but unknowns."""
    every = list(values)
    known = [value for value in every if value is not None]
    return None if every and not known else float(sum(known))
