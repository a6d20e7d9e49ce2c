"""Budgets for the size of an image, and growth so slow that no single version shows it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from cachescope.images.comparing import attribute_growth, compare_platforms
from cachescope.images.model import PlatformImage

DRIFT_VERSIONS = 8
"""Fewer versions are no trend."""
DRIFT_RATIO = 0.05
DRIFT_BYTES = 5_000_000
DRIFT_LARGEST_STEP = 0.5
"""A version that did more than this part of it is a step, no drift."""


class OverrunKind(StrEnum):
    """Which limit was passed."""

    ABSOLUTE = "absolute"
    GROWTH = "growth"
    PULL_REQUEST = "pull_request"
    DRIFT = "drift"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What an image may weigh, compressed; None is no limit."""

    absolute_bytes: int | None = None
    growth_ratio: float | None = None
    """What one version may add, as a share of the one before."""
    pull_request_bytes: int | None = None
    """What a pull request may add to the default branch's version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrun:
    """A budget that does not hold, or a drift, and the instruction that did most of it."""

    kind: OverrunKind
    size_bytes: int
    limit_bytes: int | None
    grown_bytes: int
    instruction: str | None
    is_base: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Excess:
    """A budget that was passed at one of some versions, and kept being so until another."""

    overrun: Overrun
    since: int
    """The place of the version that passed it."""
    until: int | None
    """The place of the first version that kept to it again; None while none has."""


def size_of(platform: PlatformImage) -> int | None:
    """Return the size that budgets look at: compressed, else unpacked."""
    return platform.unpacked_bytes if platform.compressed_bytes is None else platform.compressed_bytes


def check_budget(
    budget: Budget, before: PlatformImage | None, after: PlatformImage, *, is_pull_request: bool = False
) -> list[Overrun]:
    """Compare a version with its budget; `before` is the one before it, for a pull request the default branch's."""
    size, previous = size_of(after), size_of(before) if before is not None else None
    if size is None:
        return []
    grown = 0 if previous is None else size - previous
    blamed = compare_platforms(before, after).blamed if before is not None else None
    largest = max(
        after.layers, key=lambda layer: (layer.compressed_bytes or 0, layer.unpacked_bytes or 0), default=None
    )
    blamed_layer = (blamed.after or blamed.before) if blamed is not None and grown > 0 else largest
    limits: list[tuple[OverrunKind, int]] = []
    if budget.absolute_bytes is not None and size > budget.absolute_bytes:
        limits.append((OverrunKind.ABSOLUTE, budget.absolute_bytes))
    if budget.growth_ratio is not None and previous and size > (limit := int(previous * (1 + budget.growth_ratio))):
        limits.append((OverrunKind.GROWTH, limit))
    if is_pull_request and budget.pull_request_bytes is not None and grown > budget.pull_request_bytes:
        limits.append((OverrunKind.PULL_REQUEST, (previous or 0) + budget.pull_request_bytes))
    return [
        Overrun(
            kind=kind,
            size_bytes=size,
            limit_bytes=limit,
            grown_bytes=grown,
            instruction=blamed_layer.instruction if blamed_layer else None,
            is_base=bool(blamed_layer and blamed_layer.base),
        )
        for kind, limit in limits
    ]


def find_excesses(budget: Budget, versions: Sequence[PlatformImage]) -> list[Excess]:
    """Replay versions of one branch, oldest first: which budget was passed when, and when it held again.

    Growth that one version was not to have is over once the image is as small as that version might have been.
    Versions whose size nobody knows change nothing.
    """
    found: list[Excess] = []
    passed: dict[OverrunKind, tuple[int, Overrun]] = {}
    before: PlatformImage | None = None
    for place, version in enumerate(versions):
        size = size_of(version)
        if size is None:
            continue
        for kind, (since, overrun) in list(passed.items()):
            if size <= (overrun.limit_bytes or 0):
                found.append(Excess(overrun=overrun, since=since, until=place))
                del passed[kind]
        for overrun in check_budget(budget, before, version):
            passed.setdefault(overrun.kind, (place, overrun))
        before = version
    found += [Excess(overrun=overrun, since=since, until=None) for since, overrun in passed.values()]
    return sorted(found, key=lambda excess: (excess.since, excess.overrun.kind))


def find_drift(versions: Sequence[PlatformImage]) -> Overrun | None:
    """Find slow growth over versions of the default branch, oldest first: many small steps and no large one."""
    sizes = [size for version in versions if (size := size_of(version)) is not None]
    if len(sizes) < DRIFT_VERSIONS or len(sizes) != len(versions):
        return None
    grown = sizes[-1] - sizes[0]
    if grown < max(DRIFT_BYTES, sizes[0] * DRIFT_RATIO):
        return None
    steps = [after - before for before, after in pairwise(sizes)]
    if max(steps) > grown * DRIFT_LARGEST_STEP:
        return None
    most = attribute_growth(versions)[0]
    return Overrun(
        kind=OverrunKind.DRIFT,
        size_bytes=sizes[-1],
        limit_bytes=None,
        grown_bytes=grown,
        instruction=most.instruction,
        is_base=most.is_base,
    )
