"""The same instruction in two builds: matched although it was renumbered, reworded, moved, or its stage renamed.

Equal texts in the same order are matched first, then equal texts that moved, then similar texts between the same
neighbours. What is not clearly the same stays unmatched: a new identity is cheaper than a wrong one.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from cachescope.model import Step, StepKind

SIMILAR = 0.6
"""The share of words that two wordings must have in common to be one instruction at the same place."""

_WORDS_PER_EXCHANGE = 24
"""So many words of two wordings allow one word to be exchanged for another, one in any case; words that only came or
went are not counted. Lines of one kind have most words in common: what they are about is the rest."""

SIMILAR_ELSEWHERE = 0.8
"""The same, for an instruction that is no longer between the same neighbours."""

_SAME_STAGE = 0.4
"""The share of instructions that two stages of different names must have in common to be one stage."""

_WORDS = re.compile(r"[A-Za-z0-9_.-]+")
_NUMBER = re.compile(r"\d+")
_SPACES = re.compile(r"\s+")
_UNNAMED = re.compile(r"stage-\d{1,4}")
MAX_LINES = 1_000
"""Lines of one stage that are lined up; of a longer one, which no Dockerfile has, only unique texts are matched."""

MAX_STAGES = 200
"""Stages that are compared with each other; beyond, a stage is found by its name only."""

MAX_GAP = 100
"""Changed lines between two equal ones that are compared with each other."""

_MAX_WORDS = 400
"""Longer texts are compared by their first words: a heredoc may be as long as a script."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownInstruction:
    """An instruction as it stood when it was last seen in a build of its image."""

    id: int
    text: str
    stage: str | None = None
    index: int = 0
    """Its place among the instructions of its stage: the printed index, or any number that grows downwards."""
    is_current: bool = True
    """Whether the latest build had it; a former instruction is matched only when its very text comes back."""


@dataclass(slots=True)
class _Line:
    """One instruction on either side."""

    key: int
    text: str
    words: Counter[str] | None = None

    @property
    def keyword(self) -> str:
        return self.text.split(" ", 1)[0]

    def similarity(self, other: "_Line") -> float:
        """Return the share of words in common (Dice); 0 for other keywords and where too many words were exchanged."""
        if self.keyword != other.keyword:
            return 0.0
        mine, theirs = self.counted(), other.counted()
        total = mine.total() + theirs.total()
        common = mine & theirs
        share = 2 * common.total() / total if total else 1.0
        if share >= SIMILAR and _exchanged(mine - common, theirs - common) > max(1, total // _WORDS_PER_EXCHANGE):
            return 0.0
        return share

    def counted(self) -> Counter[str]:
        """Count the words behind the keyword."""
        if self.words is None:
            # The keyword is equal anyway and would make short texts look alike.
            self.words = Counter(_WORDS.findall(self.text.partition(" ")[2])[:_MAX_WORDS])
        return self.words


def _exchanged(gone: Counter[str], new: Counter[str]) -> int:
    """Count the words that gave way to others; numbers aside, for a version that moved on makes no other line."""
    if not gone or not new:
        return 0
    before = {_NUMBER.sub("0", word) for word in gone}
    after = {_NUMBER.sub("0", word) for word in new}
    return min(len(before - after), len(after - before))


_Stage = tuple[object, ...]
_Stages = dict[_Stage, list[_Line]]


def normalize(text: str) -> str:
    """Return a step's text with its keyword in capitals and its white space collapsed."""
    keyword, _, rest = _SPACES.sub(" ", text).strip().partition(" ")
    return f"{keyword.upper()} {rest}".strip()


def match_steps(before: Sequence[Step], after: Sequence[Step]) -> tuple[int | None, ...]:
    """Line up the instructions of two builds: per step of `after` the position of the same one in `before`."""
    matched = _match(_stages_of_steps(before), _stages_of_steps(after))
    return tuple(matched.get(position) for position in range(len(after)))


def match_instructions(known: Iterable[KnownInstruction], steps: Sequence[Step]) -> dict[int, int]:
    """Recognise the instructions of one image in a new build: position in `steps` → id; a missing position is new.

    `known` is the state of that image (the instructions of its latest build, and former ones with
    `is_current=False`), `steps` are the steps of one build that belong to the image; FROM lines and everything that
    is no instruction are left out. No id is given twice.
    """
    current: _Stages = defaultdict(list)
    former: dict[tuple[str, str], int] = {}
    for instruction in sorted(known, key=lambda k: k.index):
        text = normalize(instruction.text)
        if instruction.is_current:
            current[(instruction.stage,)].append(_Line(instruction.id, text))
        else:
            former[(instruction.stage or "", text)] = instruction.id
    stages = _stages_of_steps(steps, by_stage_only=True)
    matched = _match(current, stages)
    taken = set(matched.values())
    for (stage,), lines in stages.items():
        for line in lines:
            returning = former.get((str(stage or ""), line.text))
            if line.key not in matched and returning is not None and returning not in taken:
                matched[line.key] = returning
                taken.add(returning)
    return matched


def _stages_of_steps(steps: Sequence[Step], *, by_stage_only: bool = False) -> _Stages:
    stages: _Stages = defaultdict(list)
    # Where the log prints FROM lines, unnamed stages of one file are told apart by them.
    unnamed: Counter[_Stage] = Counter()
    order = sorted(
        (p for p, step in enumerate(steps) if step.kind == StepKind.INSTRUCTION),
        key=lambda p: (steps[p].index or 0, p) if steps[p].stage else (0, p),
    )
    for position in order:
        step = steps[position]
        place: _Stage = (step.stage,) if by_stage_only else (step.stage, step.target, step.platform)
        if step.instruction == "FROM":
            unnamed[place] += step.stage is None
            continue
        if step.stage is None and not by_stage_only:
            place = (*place, max(1, unnamed[place]))
        stages[place].append(_Line(position, normalize(step.text)))
    return stages


def _match(before: _Stages, after: _Stages) -> dict[int, int]:
    """Match every line of `after` with at most one of `before`, by keys."""
    matched: dict[int, int] = {}
    for old, new in _pair_stages(before, after):
        matched |= _match_lines(before[old], after[new])
    taken = set(matched.values())
    left = [line for lines in before.values() for line in lines if line.key not in taken]
    right = [line for lines in after.values() for line in lines if line.key not in matched]
    # A line that went to another stage, or that BuildKit prints under another stage because two stages share it.
    matched |= _match_unique(left, right)
    return matched


def _pair_stages(before: _Stages, after: _Stages) -> list[tuple[_Stage, _Stage]]:
    """Find the stage that each stage was: by name, else by what it holds."""
    pairs = [(stage, stage) for stage in after if stage in before and not _is_unnamed(stage)]
    found = {stage for stage, _ in pairs}
    old = [stage for stage in before if stage not in found]
    new = [stage for stage in after if stage not in found]
    scores = []
    old, new = old[:MAX_STAGES], new[:MAX_STAGES]
    for number_old, a in enumerate(old):
        for number_new, b in enumerate(new):
            if a[1:3] == b[1:3]:
                share = _shared(before[a], after[b])
                scores.append((share, a == b, -abs(number_old - number_new), number_old, number_new))
    used_old: set[int] = set()
    used_new: set[int] = set()
    for share, same_name, _, number_old, number_new in sorted(scores, reverse=True):
        if number_old in used_old or number_new in used_new or not (share >= _SAME_STAGE or same_name):
            continue
        used_old.add(number_old)
        used_new.add(number_new)
        pairs.append((old[number_old], new[number_new]))
    return pairs


def _is_unnamed(stage: _Stage) -> bool:
    return stage[0] is None or bool(_UNNAMED.fullmatch(str(stage[0])))


def _shared(before: list[_Line], after: list[_Line]) -> float:
    common = Counter(line.text for line in before) & Counter(line.text for line in after)
    return common.total() / max(1, min(len(before), len(after)))


def _match_lines(before: list[_Line], after: list[_Line]) -> dict[int, int]:
    """Match the lines of one stage: equal ones in order, equal ones that moved, similar ones between neighbours."""
    if max(len(before), len(after)) > MAX_LINES:
        return _match_unique(before, after)
    blocks = SequenceMatcher(
        None, [line.text for line in before], [line.text for line in after], autojunk=False
    ).get_matching_blocks()
    matched: dict[int, int] = {}
    gaps: list[tuple[list[_Line], list[_Line]]] = []
    a = b = 0
    for block in blocks:
        gaps.append((before[a : block.a], after[b : block.b]))
        for offset in range(block.size):
            matched[after[block.b + offset].key] = before[block.a + offset].key
        a, b = block.a + block.size, block.b + block.size
    matched |= _match_unique([x for gap, _ in gaps for x in gap], [x for _, gap in gaps for x in gap])
    taken = set(matched.values())
    left_old: list[_Line] = []
    left_new: list[_Line] = []
    for old, new in gaps:
        old = [line for line in old if line.key not in taken]
        new = [line for line in new if line.key not in matched]
        found = _align(old, new)
        matched |= found
        left_old += [line for line in old if line.key not in set(found.values())]
        left_new += [line for line in new if line.key not in found]
    return matched | _match_similar(left_old[:MAX_GAP], left_new[:MAX_GAP])


def _match_unique(before: list[_Line], after: list[_Line]) -> dict[int, int]:
    """Match equal texts out of order, as long as it is clear which is which."""
    old: Mapping[str, list[int]] = defaultdict(list)
    new: Mapping[str, list[int]] = defaultdict(list)
    for line in before:
        old[line.text].append(line.key)
    for line in after:
        new[line.text].append(line.key)
    return {keys[0]: old[text][0] for text, keys in new.items() if len(keys) == 1 and len(old.get(text, ())) == 1}


def _match_similar(before: list[_Line], after: list[_Line]) -> dict[int, int]:
    """Match lines that both moved and changed, where one wording is clearly nearest."""
    matched: dict[int, int] = {}
    for line in after:
        scores = sorted(((line.similarity(other), other.key) for other in before), reverse=True)
        best, key = scores[0] if scores else (0.0, -1)
        is_clear = len(scores) < 2 or scores[1][0] < best - 0.1
        if best >= SIMILAR_ELSEWHERE and is_clear and key not in matched.values():
            matched[line.key] = key
    return matched


def _align(old: list[_Line], new: list[_Line]) -> dict[int, int]:
    """Match similar lines of two short runs in order, with the greatest sum of similarities."""
    if not old or not new or max(len(old), len(new)) > MAX_GAP:
        return {}
    scores = [[a.similarity(b) for b in new] for a in old]
    best = [[0.0] * (len(new) + 1) for _ in range(len(old) + 1)]
    for i in range(len(old) - 1, -1, -1):
        for j in range(len(new) - 1, -1, -1):
            take = scores[i][j] + best[i + 1][j + 1] if scores[i][j] >= SIMILAR else 0.0
            best[i][j] = max(take, best[i + 1][j], best[i][j + 1])
    matched: dict[int, int] = {}
    i = j = 0
    while i < len(old) and j < len(new):
        if scores[i][j] >= SIMILAR and best[i][j] == scores[i][j] + best[i + 1][j + 1]:
            matched[new[j].key] = old[i].key
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return matched
