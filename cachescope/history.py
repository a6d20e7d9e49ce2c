"""The builds of one image over time, lined up with its Dockerfile: what each line did, how often, and what it cost.

This is what recommendations and the what-if replay read. Nothing is opened here: logs, the Dockerfile, the files of the
context and the changed files of each commit are handed in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean, stdev

from cachescope.comparing import Comparison, find_breaks
from cachescope.context import IgnoreRules, context_sources, read_ignore_rules
from cachescope.dockerfile import LAYER_KEYWORDS, Dockerfile, Instruction, split_at_variables
from cachescope.evidence import ChangedFile, Evidence
from cachescope.matching import SIMILAR, normalize
from cachescope.model import Build, Outcome
from cachescope.pair import Side

RESETS = frozenset(("base_image_changed", "cache_lost", "cache_not_imported", "first_build", "no_cache_requested"))
"""Causes that no edit of the Dockerfile would have spared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One line of the Dockerfile in one build."""

    build: int
    """The number of the build in the history, from 0."""
    position: int
    missed: bool
    seconds: float | None
    cause: str | None = None
    """Why it broke, where it is a break itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastBuild:
    """One build of the history and what is known about it besides its log."""

    build: Build
    changed_files: tuple[ChangedFile, ...] | None = None
    """What differs from the commit that was built before."""
    command: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class History:
    """The past builds of one image, oldest first, beside its present Dockerfile."""

    dockerfile: Dockerfile
    builds: tuple[PastBuild, ...]
    dockerfile_path: str = "Dockerfile"
    """Relative to the root of the build context."""
    dockerignore: str | None = None
    """None where there is none or it is not known."""
    files: Mapping[str, int] | None = None
    """The files of the build context with their sizes, `.dockerignore` not applied; None where they are not known."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """The contents of small files that package managers read, by path."""

    @cached_property
    def ignore_rules(self) -> IgnoreRules:
        """What `.dockerignore` keeps out."""
        return read_ignore_rules(self.dockerignore or "")

    @cached_property
    def context_files(self) -> Mapping[str, int] | None:
        """The files that the builder sees, with their sizes."""
        if self.files is None:
            return None
        return {path: size for path, size in self.files.items() if not self.ignore_rules.is_ignored(path)}

    @cached_property
    def sides(self) -> tuple[Side, ...]:
        """Each build beside the present Dockerfile."""
        text = {"": self.dockerfile.text}
        return tuple(Side(past.build, text, past.command, None, None) for past in self.builds)

    @cached_property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Each build beside the latest successful one before it."""
        found = []
        baseline: int | None = None
        for number, past in enumerate(self.builds):
            before = self.builds[baseline] if baseline is not None else None
            known = {"": self.dockerfile.text}
            evidence = Evidence(
                dockerfiles_before=known if baseline is not None and self._was_built_from_it(baseline) else {},
                dockerfiles_after=known if self._was_built_from_it(number) else {},
                changed_files=past.changed_files,
                dockerignore_after=self.dockerignore,
                command_before=before.command if before is not None else None,
                command_after=past.command,
            )
            found.append(find_breaks(past.build, before.build if before is not None else None, evidence))
            if past.build.outcome == Outcome.SUCCEEDED:
                baseline = number
        return tuple(found)

    def _was_built_from_it(self, number: int) -> bool:
        """Whether every step of a build is a line of the present Dockerfile, values of variables aside."""
        side = self.sides[number]
        for position, step in enumerate(side.steps):
            if step.instruction is None or step.instruction == "FROM":
                continue
            instruction = side.instruction(position)
            if instruction is None or not _is_printed_as(instruction, step.text):
                return False
        return True

    @cached_property
    def lines(self) -> dict[int, list[Observation]]:
        """What each instruction did, by its position in the Dockerfile; builds that lack it are left out."""
        found: dict[int, list[Observation]] = {i.position: [] for i in self.dockerfile.instructions}
        for number, comparison in enumerate(self.comparisons):
            causes = {b.position: b.cause for b in comparison.breaks}
            side = self.sides[number]
            for position, step in enumerate(comparison.build.steps):
                if step.instruction is None or step.cached is None:
                    continue
                instruction = side.instruction(position)
                if instruction is None or not _is_same_line(instruction, step.text):
                    continue
                found[instruction.position].append(
                    Observation(
                        build=number,
                        position=position,
                        missed=not step.cached,
                        seconds=step.duration_seconds,
                        cause=causes.get(position),
                    )
                )
        return found

    def observations(self, instruction: Instruction) -> list[Observation]:
        """Return what an instruction did, oldest build first."""
        return self.lines.get(instruction.position, [])

    def runs(self, instruction: Instruction) -> list[float]:
        """Return the seconds of its executions."""
        return [o.seconds for o in self.observations(instruction) if o.missed and o.seconds is not None]

    def cost(self, instruction: Instruction) -> float | None:
        """Return the mean seconds of an execution; None when it was never seen to run.

        Where it ran again often enough the first build is left out: a cold machine is slower.
        """
        runs = self.runs(instruction)
        later = [o.seconds for o in self.observations(instruction) if o.missed and o.seconds is not None and o.build]
        if len(later) >= 3:
            return fmean(later)
        return fmean(runs) if runs else None

    def is_reset(self, build: int) -> bool:
        """Tell whether a build began anew for reasons that no Dockerfile can mend."""
        breaks = self.comparisons[build].breaks
        return bool(breaks) and all(b.cause in RESETS for b in breaks)

    @property
    def later_builds(self) -> range:
        """The builds after the first one: those that had a cache to use."""
        return range(1, len(self.builds))

    def per_week(self) -> float | None:
        """Return how many builds there are a week; None where the logs tell no time."""
        times = [past.build.started_at for past in self.builds if past.build.started_at is not None]
        if len(times) < 2 or max(times) - min(times) < 3600:
            return None
        return (len(times) - 1) * 7 * 86400 / (max(times) - min(times))

    @property
    def layer_instructions(self) -> list[Instruction]:
        """The lines that make steps, FROM left out."""
        return [i for i in self.dockerfile.instructions if i.stage is not None and i.keyword in LAYER_KEYWORDS]

    def is_broad(self, instruction: Instruction) -> bool:
        """Tell whether a COPY takes the whole context."""
        return any(source.strip("/.") == "" for source in context_sources(instruction))


def _is_printed_as(instruction: Instruction, text: str) -> bool:
    """Tell whether a printed text is this line with values in the place of its variables."""
    printed = normalize(text)
    if instruction.heredocs:
        return printed.startswith(normalize(instruction.text).partition("<<")[0])
    place = 0
    pieces = split_at_variables(normalize(instruction.text))
    for piece in pieces:
        found = printed.find(piece, place)
        if found < 0 or (place == 0 and found > 0):
            return False
        place = found + len(piece)
    return not pieces[-1] or printed.endswith(pieces[-1])


def _is_same_line(instruction: Instruction, text: str) -> bool:
    if instruction.keyword == "FROM" or _is_printed_as(instruction, text):
        return True
    mine, theirs = set(normalize(text).split()[1:]), set(instruction.text.split()[1:])
    shared = 2 * len(mine & theirs) / (len(mine) + len(theirs)) if mine or theirs else 1.0
    return shared >= SIMILAR


def mean_and_interval(values: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Return the mean and where it lies with 95 % probability; few values make it wide."""
    if not values:
        return 0.0, (0.0, 0.0)
    mean = fmean(values)
    if len(values) < 2:
        return mean, (min(0.0, mean), max(0.0, 2 * mean))
    # Student's t for few values, without a table: within 3 % of it from five values on.
    degrees = len(values) - 1
    factor = 1.96 + 2.4 / degrees + 3.2 / degrees**2
    half = factor * stdev(values) / len(values) ** 0.5
    return mean, (mean - half, mean + half)
