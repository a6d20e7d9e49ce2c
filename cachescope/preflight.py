"""What a change will do to the cache before it is built: the first line that misses in each stage, and all below it.

A line misses by itself when it reads a changed file of the context or was itself edited; what stands below it, on it,
or copies from it misses with it. `COPY --from` is counted although an artifact may come out the same: this is a
warning, the build has the last word. Nothing is said of what only the builder knows: arguments, base images, the cache.
"""

import posixpath
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from cachescope.context import IgnoreRules, context_sources, reads, relative_to
from cachescope.dockerfile import LAYER_KEYWORDS, Dockerfile, Instruction, Stage, stage_sources
from cachescope.matching import normalize

MOST_INSTRUCTIONS = 2_000
_FELT_BY_RUN = frozenset({"ARG", "ENV", "SHELL", "USER"})
"""No layers of their own, but every RUN below runs under them; COPY does not feel them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bust:
    """One line that will miss by itself."""

    text: str
    stage: str
    """Its stage as BuildKit prints it, empty where there is only one."""
    line: int
    files: tuple[str, ...]
    """The changed files that it reads, as paths of the repository; empty where the line itself was edited."""
    below: tuple[str, ...]
    """The lines that will miss only because of it."""
    cost_seconds: float | None
    """Usual seconds of the line and of those below; None where none of them was ever timed."""


def predict(
    dockerfile: Dockerfile,
    changed: Collection[str],
    *,
    context: str = ".",
    former: Dockerfile | None = None,
    rules: IgnoreRules | None = None,
    target: str | None = None,
    costs: Mapping[str, float] | None = None,
) -> list[Bust]:
    """Say which lines will miss, the dearest first.

    `changed` are paths of the repository, `context` is the folder that is built. `former` is the Dockerfile before the
    change, where that changed too. `costs` are usual seconds by the normalised text of a line.
    """
    if len(dockerfile.instructions) > MOST_INSTRUCTIONS:
        return []
    ignored = rules or IgnoreRules()
    inside = {
        path: below
        for path in changed
        if (below := relative_to(context, path)) is not None and not ignored.is_ignored(below)
    }
    plan = _Plan(dockerfile, inside, former, costs or {})
    stages = dockerfile.needed_stages(target)
    for stage in stages:
        plan.walk(stage)
    return sorted(plan.found(are_several=len(stages) > 1), key=lambda bust: (-(bust.cost_seconds or 0.0), bust.line))


def is_built_from(dockerfile: Dockerfile, known: Collection[str], target: str | None = None) -> bool:
    """Tell whether an image that printed some instructions is likely built from a file: most of its lines are known.

    Logs name a Dockerfile without its folder, so that one of the same name may have been found.
    """
    lines = [
        line
        for stage in dockerfile.needed_stages(target)
        for line in stage.instructions
        if line.keyword in LAYER_KEYWORDS
    ][:MOST_INSTRUCTIONS]
    seen = sum(bool({normalize(line.text), _expanded(dockerfile, line)} & set(known)) for line in lines)
    return seen * 2 > len(lines)


def _expanded(dockerfile: Dockerfile, line: Instruction) -> str:
    return normalize(dockerfile.scope_at(line).expand(line.text)) if "$" in line.text else ""


def context_folders(dockerfile_path: str) -> tuple[str, ...]:
    """The folders that a Dockerfile may be built in, where nobody told: the repository's root, and its own folder."""
    own = posixpath.dirname(posixpath.normpath(dockerfile_path))
    return (".",) if own in ("", ".") else (".", own)


def agreed(predictions: Iterable[list[Bust]]) -> list[Bust]:
    """What several predictions have in common, where nobody told which folder is built: rather nothing than wrong."""
    first, *others = predictions
    return [bust for bust in first if all(any(bust.line == same.line for same in other) for other in others)]


class _Plan:
    """Which lines miss, stage by stage in the order of the file."""

    def __init__(
        self,
        dockerfile: Dockerfile,
        inside: Mapping[str, str],
        former: Dockerfile | None,
        costs: Mapping[str, float],
    ) -> None:
        self.dockerfile = dockerfile
        self.inside = inside
        self.former = former
        self.known = {_wording(line) for line in former.instructions} if former is not None else set()
        self.bases = {former.base_reference(stage) for stage in former.stages} if former is not None else set()
        self.costs = costs
        self.cause: dict[int, int] = {}
        """Stage → the line whose miss reaches the end of it."""
        self.files: dict[int, tuple[str, ...]] = {}
        self.below: dict[int, list[Instruction]] = {}
        self.lines: dict[int, Instruction] = {}

    def walk(self, stage: Stage) -> None:
        """Follow one stage from its FROM down; the stages above it have been walked."""
        base = self.dockerfile.base_stage(stage)
        broken = self.cause.get(base.number) if base is not None else None
        if base is None and self._has_other_base(stage):
            broken = self._bust(stage.instructions[0], ())
        felt: Instruction | None = None
        for instruction in stage.instructions[1:]:
            if instruction.keyword not in LAYER_KEYWORDS:
                if instruction.keyword in _FELT_BY_RUN and self._is_edited(instruction):
                    felt = felt or instruction
                continue
            if broken is None and felt is not None and instruction.keyword == "RUN":
                broken = self._bust(felt, ())
            if broken is not None:
                self.below[broken].append(instruction)
                continue
            from_stage = self._broken_source(instruction)
            if from_stage is not None:
                self.below[from_stage].append(instruction)
                broken = from_stage
            elif files := self._changed_files(instruction):
                broken = self._bust(instruction, files)
            elif self._is_edited(instruction):
                broken = self._bust(instruction, ())
        if broken is not None:
            self.cause[stage.number] = broken

    def _bust(self, instruction: Instruction, files: tuple[str, ...]) -> int:
        self.lines[instruction.position] = instruction
        self.files[instruction.position] = files
        self.below[instruction.position] = []
        return instruction.position

    def _is_edited(self, instruction: Instruction) -> bool:
        return self.former is not None and _wording(instruction) not in self.known

    def _has_other_base(self, stage: Stage) -> bool:
        return self.former is not None and self.dockerfile.base_reference(stage) not in self.bases

    def _broken_source(self, instruction: Instruction) -> int | None:
        for source in stage_sources(instruction):
            stage = self.dockerfile.find_stage(source)
            if stage is not None and stage.number in self.cause:
                return self.cause[stage.number]
        return None

    def _changed_files(self, instruction: Instruction) -> tuple[str, ...]:
        sources = context_sources(instruction)
        if not sources:
            return ()
        scope = self.dockerfile.scope_at(instruction)
        expanded = [scope.expand(source) for source in sources]
        if any("$" in source for source in expanded):
            # The value comes from outside, so nobody can say which files are read.
            return ()
        return tuple(sorted(path for path, below in self.inside.items() if reads(instruction, below, expanded)))

    def found(self, *, are_several: bool) -> list[Bust]:
        """The lines that miss by themselves, in the order of the file."""
        return [
            Bust(
                text=line.text,
                stage=self.dockerfile.stages[line.stage or 0].printed_name if are_several else "",
                line=line.first_line,
                files=self.files[position],
                below=tuple(instruction.text for instruction in self.below[position]),
                cost_seconds=self._cost([line, *self.below[position]]),
            )
            for position, line in self.lines.items()
        ]

    def _cost(self, lines: Iterable[Instruction]) -> float | None:
        known = [self.costs[text] for line in lines if (text := normalize(line.text)) in self.costs]
        return sum(known) if known else None


def _wording(instruction: Instruction) -> tuple[str, tuple[str, ...]]:
    return normalize(instruction.text), tuple(heredoc.body for heredoc in instruction.heredocs)
