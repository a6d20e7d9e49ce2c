"""What a cause is: a plug-in that says of one break whether this is why, how surely, and what else could be.

The causes judge independently of each other; `comparing.choose` weighs their verdicts. A cause that the evidence rules
out answers None. One that the evidence proves answers `certain`. One that cannot be ruled out answers `possible`. Where
several remain, the cause is unknown: a guess is worse than no answer.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from cachescope.pair import Pair

UNKNOWN = "unknown"
"""The cause where the evidence leaves more than one."""

CAUSE_WORDS = {
    "instruction_changed": "the instruction changed",
    "files_changed": "files it reads changed",
    "build_arg_changed": "a build argument changed",
    "base_image_changed": "the base image changed",
    "cache_not_imported": "the cache was not imported",
    "cache_lost": "nothing changed, the entry was gone",
    "no_cache_requested": "the cache was switched off",
    "first_build": "it was built for the first time",
    "unknown": "the log does not tell why",
}
"""Each cause as the end of a sentence."""


class Confidence(StrEnum):
    """How surely the evidence names a cause."""

    CERTAIN = "certain"
    LIKELY = "likely"
    UNKNOWN = "unknown"


class Weight(StrEnum):
    """What a cause says about itself, before the others are heard."""

    CERTAIN = "certain"
    """The evidence proves it."""
    LIKELY = "likely"
    """The evidence speaks for it and for no other; it gives way to a proof."""
    POSSIBLE = "possible"
    """Nothing rules it out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one cause says of one break."""

    weight: Weight
    evidence: tuple[str, ...]
    """Sentences, the strongest first; of a possible cause the first says what would tell."""
    expected: bool
    """Whether the commit explains it."""
    files: tuple[str, ...] = ()
    """The changed files behind it, relative to the build context; only files that the step really reads."""


class Cause(Protocol):
    """One reason why a step misses; the module's name is its name."""

    @property
    def rank(self) -> int:
        """Which of several proven causes is named: the lowest, for it would have sufficed by itself."""

    def explain(self, pair: Pair) -> Verdict | None:
        """Judge one break; None where the evidence rules this cause out."""
