"""The steps of two builds side by side: in the order of the later build, what it lacks where it stood."""

from collections import defaultdict
from collections.abc import Sequence

from cachescope.matching import match_steps
from cachescope.model import Step


def align_steps(before: Sequence[Step], after: Sequence[Step]) -> list[tuple[int | None, int | None]]:
    """Return pairs of positions (before, after); one side is None for a step that only the other build has.

    Only instructions are lined up, FROM among them: those of stages of the same name one after another.
    """
    matches = _match(before, after)
    matched = {match for match in matches if match is not None}
    gone = [place for place, step in enumerate(before) if place not in matched and is_instruction(step)]
    pairs: list[tuple[int | None, int | None]] = []
    reached = -1
    for place, match in enumerate(matches):
        if not is_instruction(after[place]):
            continue
        if match is not None and match > reached:
            pairs += [(old, None) for old in gone if reached < old < match]
            reached = match
        pairs.append((match, place))
    return pairs + [(old, None) for old in gone if old > reached]


def is_instruction(step: Step) -> bool:
    """Tell whether a step is a line of the Dockerfile, rather than what the builder does besides."""
    return step.kind == "instruction"


def _match(before: Sequence[Step], after: Sequence[Step]) -> list[int | None]:
    """Match instructions, and the FROM lines of stages of the same name."""
    matches = list(match_steps(before, after))
    left: dict[tuple[str | None, ...], list[int]] = defaultdict(list)
    for place, step in enumerate(before):
        if step.instruction == "FROM":
            left[step.target, step.platform, step.stage].append(place)
    for place, step in enumerate(after):
        if step.instruction == "FROM" and (same := left[step.target, step.platform, step.stage]):
            matches[place] = same.pop(0)
    return matches
