"""What would have happened: the past builds of an image replayed against an edited Dockerfile or `.dockerignore`.

Each past build is taken as what changed in it: the files of its commit, or, where they are not known, the lines that
broke. The changes are put on the lines of the edited Dockerfile and travel down its stages. `COPY --from` passes a miss
on as often as it did in the past, for an artifact may come out the same. Costs are the mean seconds of each line's own
executions; a line that is new costs what the line did that it was cut from, or what such a line costs here.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from cachescope.context import IgnoreRules, context_sources, read_ignore_rules, reads
from cachescope.dockerfile import LAYER_KEYWORDS, Dockerfile, Instruction, Stage, stage_sources
from cachescope.history import History, mean_and_interval
from cachescope.matching import normalize

UNKNOWN_CHANGE = 0.1
"""How often a file changes in a commit that changed something beside it, where the commit's files are not known."""
NOISE = 0.15
"""How far the cost of a line may be off, as a share of the saving."""

UNKNOWN_CHANGE_RANGE = (0.0, 0.3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The same builds with the Dockerfile as it is and as edited."""

    seconds_before: tuple[float, ...]
    """Per build after the first one."""
    seconds_after: tuple[float, ...]
    interval: tuple[float, float]
    """Of the saving per build."""
    hits_before: float
    """Expected hits over all these builds."""
    hits_after: float
    steps_before: int
    steps_after: int

    @property
    def savings(self) -> list[float]:
        """The seconds saved in each build; below zero where the edit costs time."""
        return [a - b for a, b in zip(self.seconds_before, self.seconds_after, strict=True)]

    @property
    def saving_seconds_per_build(self) -> float:
        """The mean saving."""
        return fmean(self.savings) if self.savings else 0.0


def replay(
    history: History,
    dockerfile: Dockerfile,
    dockerignore: str | None = None,
    *,
    costs: Mapping[str, float] | None = None,
    arguments: Mapping[str, Collection[int]] | None = None,
    breaking: Mapping[str, Collection[int]] | None = None,
) -> Prediction:
    """Predict seconds and hits of the past builds under an edited Dockerfile, and under the present one for comparison.

    `dockerignore` is the edited `.dockerignore`, None where it stays as it is. `costs` gives the seconds of lines that
    are new, by their normalised text. `arguments` names build arguments with the builds in which they had another
    value: each breaks every RUN below its ARG. `breaking` names other lines by their normalised text with the builds in
    which they were changed: each breaks every layer below it.
    """
    known = {normalize(i.text): cost for i in history.layer_instructions if (cost := history.cost(i)) is not None}
    known |= costs or {}
    rules = read_ignore_rules(dockerignore) if dockerignore is not None else history.ignore_rules
    asked = arguments or {}
    marked = breaking or {}
    old = _Plan(history, history.dockerfile, history.ignore_rules, costs=known, arguments=asked, breaking=marked)
    new = _Plan(history, dockerfile, rules, costs=known, arguments=asked, breaking=marked)
    middle = [(old.run(build, UNKNOWN_CHANGE), new.run(build, UNKNOWN_CHANGE)) for build in history.later_builds]
    savings = [a.seconds - b.seconds for a, b in middle]
    _, (low, high) = mean_and_interval(savings)
    for share in UNKNOWN_CHANGE_RANGE:
        if any(history.builds[build].changed_files is None for build in history.later_builds):
            ends = [old.run(b, share).seconds - new.run(b, share).seconds for b in history.later_builds]
            _, (end_low, end_high) = mean_and_interval(ends)
            low, high = min(low, end_low), max(high, end_high)
    # No two runs of a line take equally long, however alike the builds were.
    mean = fmean(savings) if savings else 0.0
    low, high = min(low, mean - NOISE * abs(mean)), max(high, mean + NOISE * abs(mean))
    return Prediction(
        seconds_before=tuple(a.seconds for a, _ in middle),
        seconds_after=tuple(b.seconds for _, b in middle),
        interval=(low, high),
        hits_before=sum(a.hits for a, _ in middle),
        hits_after=sum(b.hits for _, b in middle),
        steps_before=len(old.lines) * len(middle),
        steps_after=len(new.lines) * len(middle),
    )


@dataclass(frozen=True, slots=True)
class _Outcome:
    seconds: float
    hits: float


class _Plan:
    """One Dockerfile, ready to be replayed."""

    def __init__(
        self,
        history: History,
        dockerfile: Dockerfile,
        rules: IgnoreRules,
        *,
        costs: Mapping[str, float],
        arguments: Mapping[str, Collection[int]],
        breaking: Mapping[str, Collection[int]],
    ) -> None:
        self.history = history
        self.dockerfile = dockerfile
        self.rules = rules
        self.stages = dockerfile.needed_stages()
        self.lines = [i for stage in self.stages for i in stage.instructions if i.keyword in LAYER_KEYWORDS]
        self.origin = _origins(history.dockerfile, self.lines)
        typical = [cost for text, cost in costs.items() if text.startswith(("COPY ", "ADD ", "WORKDIR "))]
        self.cost = {
            line.position: costs.get(
                normalize(line.text), 0.0 if line.keyword == "RUN" else fmean(typical) if typical else 0.0
            )
            for line in self.lines
        }
        self.arguments = arguments
        self.broken = {line.position: self._builds_broken_above(line, breaking) for line in self.lines}
        scopes = {line.position: dockerfile.scope_at(line) for line in self.lines}
        self.named = {place: (scope.declared | scope.taken) & set(arguments) for place, scope in scopes.items()}
        self.parents = {line.position: self._parents(line) for line in self.lines}

    def _parents(self, line: Instruction) -> list[tuple[int, bool]]:
        """The lines that one stands on, and whether it takes their result by content."""
        stage = self.dockerfile.stages[line.stage or 0]
        above = [i for i in stage.instructions if i.keyword in LAYER_KEYWORDS and i.position < line.position]
        found: list[tuple[int, bool]] = []
        base: Stage | None = stage
        while not above and base is not None:
            base = self.dockerfile.base_stage(base)
            above = [i for i in base.instructions if i.keyword in LAYER_KEYWORDS] if base is not None else []
        if above:
            found.append((above[-1].position, False))
        for source in stage_sources(line):
            other = self.dockerfile.find_stage(source)
            while other is not None:
                layers = [i for i in other.instructions if i.keyword in LAYER_KEYWORDS]
                if layers:
                    found.append((layers[-1].position, True))
                    break
                other = self.dockerfile.base_stage(other)
        return found

    def _builds_broken_above(self, line: Instruction, breaking: Mapping[str, Collection[int]]) -> set[int]:
        """The builds in which a line above it in its stage was changed."""
        above = self.dockerfile.stages[line.stage or 0].instructions if breaking else ()
        texts = [normalize(i.text) for i in above if i.position < line.position]
        return {build for text in texts for build in breaking.get(text, ())}

    def run(self, build: int, unknown_share: float) -> _Outcome:
        """Replay one build: the expected seconds and hits."""
        if self.history.is_reset(build):
            return _Outcome(sum(self.cost.values()), 0.0)
        chance: dict[int, float] = {}
        for line in self.lines:
            own = self._own_chance(line, build, unknown_share)
            for parent, by_content in self.parents[line.position]:
                passed = chance.get(parent, 0.0)
                own = max(own, passed * (self._passes_on(line) if by_content else 1.0))
            chance[line.position] = own
        seconds = sum(chance[p] * cost for p, cost in self.cost.items())
        return _Outcome(seconds, sum(1 - c for c in chance.values()))

    def _own_chance(self, line: Instruction, build: int, unknown_share: float) -> float:
        """How likely a line breaks by itself in a build."""
        if build in self.broken[line.position]:
            return 1.0
        origin = self.origin.get(line.position)
        observed = (
            next((o for o in self.history.lines.get(origin, []) if o.build == build), None)
            if (origin is not None)
            else None
        )
        if line.keyword in ("COPY", "ADD") and context_sources(line):
            changed = self.history.builds[build].changed_files
            if changed is not None:
                return float(any(reads(line, f.path) and not self.rules.is_ignored(f.path) for f in changed))
            if observed is not None and not observed.missed:
                return 0.0
            if observed is not None and observed.cause is not None:
                return 1.0
            return self._share_of_broad(line, build, unknown_share)
        # A RUN, or a COPY from another stage: it broke by itself if it was seen to break.
        if line.keyword == "RUN" and any(build in self.arguments[name] for name in self.named[line.position]):
            return 1.0
        if observed is None or observed.cause is None:
            return 0.0
        is_explained = any(build in builds for builds in self.arguments.values())
        return float(not (is_explained and observed.cause in ("build_arg_changed", "unknown")))

    def _share_of_broad(self, line: Instruction, build: int, unknown_share: float) -> float:
        """A line that is new or was hidden: some file changed if a wider COPY broke, perhaps one of this line's."""
        copies = [i for i in self.history.layer_instructions if context_sources(i)]
        broke = [i for i in copies if any(o.build == build and o.cause for o in self.history.observations(i))]
        if not any(self.history.is_broad(i) or set(context_sources(i)) & set(context_sources(line)) for i in broke):
            return 0.0
        return 1.0 if self.history.is_broad(line) else unknown_share

    def _passes_on(self, line: Instruction) -> float:
        """How often a line missed when the stage that it copies from had run."""
        origin = self.origin.get(line.position)
        if origin is None:
            return 1.0
        instruction = self.history.dockerfile.instructions[origin]
        sources = [self.history.dockerfile.find_stage(s) for s in stage_sources(instruction)]
        ends = [
            layers[-1]
            for stage in sources
            if stage is not None and (layers := [i for i in stage.instructions if i.keyword in LAYER_KEYWORDS])
        ]
        outcomes = []
        for seen in self.history.observations(instruction):
            if seen.build == 0 or self.history.is_reset(seen.build) or self._is_hidden(instruction, seen.build):
                continue
            if any(o.missed for end in ends for o in self.history.observations(end) if o.build == seen.build):
                outcomes.append(seen.missed)
        return fmean(outcomes) if outcomes else 1.0

    def _is_hidden(self, instruction: Instruction, build: int) -> bool:
        """Whether the line right above it missed, so that its own miss says nothing."""
        stage = self.history.dockerfile.stages[instruction.stage or 0]
        above = [i for i in stage.instructions if i.keyword in LAYER_KEYWORDS and i.position < instruction.position]
        return bool(above) and any(o.missed for o in self.history.observations(above[-1]) if o.build == build)


def _origins(old: Dockerfile, lines: Sequence[Instruction]) -> dict[int, int]:
    """Find each line of the edited Dockerfile in the present one, by its text, in order."""
    left = [i for i in old.instructions if i.keyword in LAYER_KEYWORDS]
    found = {}
    for line in lines:
        same = next((i for i in left if normalize(i.text) == normalize(line.text)), None)
        if same is not None:
            found[line.position] = same.position
            left.remove(same)
    return found
