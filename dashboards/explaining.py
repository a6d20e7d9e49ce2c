"""Why a build missed: each break with its cause in words, its evidence, its files, its price and what fell with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cachescope import metrics
from dashboards import sentences, states
from store.models import Break, Step

CONFIDENCES = {"certain": "certain", "likely": "likely", "unknown": "not known"}
EXPECTED = {
    True: "Expected: the commit explains it.",
    False: "Unexpected: nothing in the commit explains it.",
    None: "Whether it was to be expected is not known.",
}
FILES_SHOWN = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallen:
    """A step that ran only because of a break."""

    position: int
    place: str
    text: str
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownCause:
    """One break as the page explains it."""

    position: int
    state: states.State
    place: str
    text: str
    cause: str
    confidence: str
    expected: str
    evidence: Sequence[str]
    possible: Sequence[str]
    """The causes that are left, in words, where it is not known."""
    files: Sequence[str]
    more_files: int
    cost_seconds: float | None
    own_seconds: float | None
    cascade: Sequence[Fallen]
    without: float | None
    """The efficiency that the build would have had without it."""

    @property
    def is_known(self) -> bool:
        """Whether its cause could be told."""
        return not self.possible and self.confidence != CONFIDENCES["unknown"]


def explain(
    breaks: Sequence[Break],
    rows: Sequence[Any],
    places: Sequence[str],
    steps: Sequence[Any],
    references: Sequence[float | None],
) -> list[ShownCause]:
    """Word the breaks of a build, the dearest first; `steps` are those of the library, parallel to `rows`."""
    dearest = sorted(breaks, key=lambda found: (-(found.cost_seconds or 0.0), found.position))
    return [
        ShownCause(
            position=found.position,
            state=states.state_of(rows[found.position][0], found.expected),
            place=places[found.position],
            text=rows[found.position][1],
            cause=sentences.cause(found.cause),
            confidence=CONFIDENCES.get(found.confidence or "unknown", "not known"),
            expected=EXPECTED[found.expected],
            evidence=[str(sentence) for sentence in found.evidence],
            possible=[sentences.cause(str(name)) for name in found.possible],
            files=[str(path) for path in found.files[:FILES_SHOWN]],
            more_files=max(0, len(found.files) - FILES_SHOWN),
            cost_seconds=found.cost_seconds,
            own_seconds=found.own_seconds,
            cascade=[_fallen(position, rows, places) for position in found.cascade if position < len(rows)],
            without=_without(found, breaks, steps, references),
        )
        for found in dearest
        if found.position < len(rows)
    ]


def _fallen(position: int, rows: Sequence[Any], places: Sequence[str]) -> Fallen:
    step: Step = rows[position][0]
    return Fallen(position=position, place=places[position], text=rows[position][1], seconds=step.duration_seconds)


@dataclass(frozen=True, slots=True)
class _Priced:
    position: int
    cascade: tuple[int, ...]
    cost_seconds: float | None
    expected: bool | None


def _without(
    gone: Break, breaks: Sequence[Break], steps: Sequence[Any], references: Sequence[float | None]
) -> float | None:
    """The efficiency if this one had hit and all others had happened."""
    priced = [_Priced(found.position, tuple(found.cascade), found.cost_seconds, found is not gone) for found in breaks]
    return metrics.reachable_efficiency(steps, references, priced)
