"""Why a build missed its cache: its breaks against a baseline, their cascades, causes and prices.

A break is a missed step that stands on no other missed step; its cascade are the misses that run only because of it. A
step that hit cuts the path, for its result is the old one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cachescope.causes import CAUSES
from cachescope.causes._keys import heed_keys
from cachescope.causes.base import UNKNOWN, Confidence, Verdict, Weight
from cachescope.causes.instruction_changed import own_edits
from cachescope.evidence import ChangedFile, Evidence
from cachescope.lineage import Lineage, is_missed
from cachescope.matching import KnownInstruction, match_instructions, match_steps
from cachescope.metrics import miss_cost
from cachescope.model import Build, Step
from cachescope.pair import Background, Pair

MAX_BREAKS = 500
"""No Dockerfile has more; what a hostile log holds beyond is left out."""

__all__ = [
    "Break",
    "ChangedFile",
    "Comparison",
    "Confidence",
    "Evidence",
    "KnownInstruction",
    "find_breaks",
    "match_instructions",
    "match_steps",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """The first miss on a chain of steps, why it missed and what that cost."""

    position: int
    """The step, as a position in `build.steps`."""
    cascade: tuple[int, ...]
    """The misses below it, in order of start; two breaks can share some."""
    cause: str
    """The name of a module in `causes`, or `unknown`."""
    confidence: Confidence
    expected: bool | None
    """Whether what the commit changed explains it; None where the cause is unknown and could be either."""
    evidence: tuple[str, ...]
    """Sentences; for an unknown cause the last one says what evidence would tell."""
    files: tuple[str, ...] = ()
    """The changed files behind it, relative to the build context."""
    possible: tuple[str, ...] = ()
    """The causes that the evidence leaves, where there are several."""
    own_seconds: float | None = None
    cost_seconds: float | None = None
    """The seconds of the break and its cascade; None where the log times none of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A build beside its baseline."""

    build: Build
    baseline: Build | None
    matches: tuple[int | None, ...]
    """Per step of the build the position of the same instruction in the baseline."""
    lineage: Lineage
    breaks: tuple[Break, ...]
    """In the order in which their steps were announced."""
    masked: tuple[Break, ...] = ()
    """Steps that were changed too, but stand below a break and would have missed anyway; never counted."""

    def is_break(self, position: int) -> bool:
        """Tell whether a step is a break."""
        return any(b.position == position for b in self.breaks)

    def break_position(self, position: int) -> int | None:
        """Return the position of the break because of which a step ran; None for a hit and for a break itself."""
        return next((b.position for b in self.breaks if position in b.cascade), None)

    def break_of(self, position: int) -> Break | None:
        """Return the break that a step is, or in whose cascade it stands."""
        return next((b for b in self.breaks if position == b.position or position in b.cascade), None)


def find_breaks(build: Build, baseline: Build | None = None, evidence: Evidence | None = None) -> Comparison:
    """Find the breaks of a build and say why each broke.

    The baseline is the latest successful build of the same image and platform on the branch, else on the branch it
    forked from, else on the default branch; None means that there is none, which makes every break a first build.
    """
    background = Background(build, baseline, evidence or Evidence())
    lineage = background.after.lineage
    missed = {p for p, step in enumerate(build.steps) if is_missed(step) and not lineage.is_above_stages(p)}
    children = _children(lineage, missed)
    below = [p for p in sorted(missed) if any(lineage.ran(parent) in missed for parent in lineage.parents[p])]
    first = sorted(missed.difference(below))
    breaks = [_judge(Pair(background, p), _cascade(p, children, build.steps)) for p in first[:MAX_BREAKS]]
    masked = []
    for position in below[:MAX_BREAKS]:
        pair = Pair(background, position)
        if (verdict := _masked_cause(pair)) is not None:
            found = _break(pair, _cascade(position, children, build.steps), *verdict)
            if not _repeats(found, breaks, lineage):
                masked.append(found)
    return Comparison(
        build=build,
        baseline=baseline,
        matches=background.matches,
        lineage=lineage,
        breaks=tuple(breaks),
        masked=tuple(masked),
    )


def _children(lineage: Lineage, missed: set[int]) -> dict[int, list[int]]:
    children: dict[int, list[int]] = {position: [] for position in missed}
    for position in sorted(missed):
        for parent in lineage.parents[position]:
            if (worker := lineage.ran(parent)) in missed:
                children[worker].append(position)
    return children


def _cascade(position: int, children: dict[int, list[int]], steps: Sequence[Step]) -> tuple[int, ...]:
    found: set[int] = set()
    waiting = [position]
    while waiting:
        new = [child for child in children[waiting.pop()] if child not in found and child != position]
        found.update(new)
        waiting += new
    return tuple(sorted(found, key=lambda p: (_start(steps[p]), p)))


def _start(step: Step) -> float:
    return step.started_seconds if step.started_seconds is not None else 0.0


def _judge(pair: Pair, cascade: tuple[int, ...]) -> Break:
    verdicts = {name: verdict for name, cause in CAUSES.items() if (verdict := cause.explain(pair)) is not None}
    verdicts, told = heed_keys(pair, verdicts)
    cause, confidence, verdict = choose(verdicts)
    if verdict is not None:
        verdict = replace(verdict, evidence=tuple(dict.fromkeys((*verdict.evidence, *told))))
        return _break(pair, cascade, cause, confidence, verdict)
    return Break(
        position=pair.position,
        cascade=cascade,
        cause=UNKNOWN,
        confidence=Confidence.UNKNOWN,
        expected=_agreed(verdicts),
        evidence=(*told, *(v.evidence[0] for v in verdicts.values())),
        possible=tuple(verdicts),
        own_seconds=pair.step.duration_seconds,
        cost_seconds=miss_cost(pair.after.steps, pair.position, cascade),
    )


def _break(pair: Pair, cascade: tuple[int, ...], cause: str, confidence: Confidence, verdict: Verdict) -> Break:
    return Break(
        position=pair.position,
        cascade=cascade,
        cause=cause,
        confidence=confidence,
        expected=verdict.expected,
        evidence=verdict.evidence,
        files=verdict.files,
        own_seconds=pair.step.duration_seconds,
        cost_seconds=miss_cost(pair.after.steps, pair.position, cascade),
    )


def _masked_cause(pair: Pair) -> tuple[str, Confidence, Verdict] | None:
    """Say how a step below a break was changed itself: its own line or the files that it reads."""
    if pair.before is None:
        return None
    edits = own_edits(pair)
    if not edits and not pair.has_same_text and not pair.has_both_dockerfiles:
        verdict = CAUSES["instruction_changed"].explain(pair)
        if verdict is None or verdict.weight == Weight.POSSIBLE:
            return None
        return "instruction_changed", _CONFIDENCE[verdict.weight], verdict
    if edits:
        return "instruction_changed", Confidence.CERTAIN, Verdict(weight=Weight.CERTAIN, evidence=edits, expected=True)
    if pair.reads_context and pair.changed_files:
        verdict = CAUSES["files_changed"].explain(pair)
        return ("files_changed", Confidence.CERTAIN, verdict) if verdict is not None else None
    return None


def _repeats(masked: Break, breaks: Sequence[Break], lineage: Lineage) -> bool:
    """Tell whether a wider COPY only reads again what a break of its own stage broke at."""
    chain = lineage.chains[masked.position]
    return bool(masked.files) and any(
        masked.position in b.cascade and lineage.chains[b.position] == chain and {*masked.files} <= {*b.files}
        for b in breaks
    )


_CONFIDENCE = {Weight.CERTAIN: Confidence.CERTAIN, Weight.LIKELY: Confidence.LIKELY}


def choose(verdicts: dict[str, Verdict]) -> tuple[str, Confidence, Verdict | None]:
    """Weigh what the causes say: a proof wins, else the only likely or the only possible one; else it is unknown."""
    proven = [name for name, verdict in verdicts.items() if verdict.weight == Weight.CERTAIN]
    if proven:
        name = min(proven, key=lambda n: CAUSES[n].rank)
        return name, Confidence.CERTAIN, verdicts[name]
    likely = [name for name, verdict in verdicts.items() if verdict.weight == Weight.LIKELY]
    left = likely or list(verdicts)
    if len(left) == 1:
        return left[0], Confidence.LIKELY, verdicts[left[0]]
    return UNKNOWN, Confidence.UNKNOWN, None


def _agreed(verdicts: dict[str, Verdict]) -> bool | None:
    """Return whether the miss is expected where all the causes that remain agree on it."""
    answers = {verdict.expected for verdict in verdicts.values()}
    return answers.pop() if len(answers) == 1 else None
