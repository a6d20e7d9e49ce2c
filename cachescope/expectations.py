"""Which layers of a build should have come from cache, and where each chain of misses began.

The repository's memory holds the prefix keys that were seen in cache or written to it. A prefix key stands for the base
digest and every instruction up to a layer, so a layer whose key is known and whose parent hit has no excuse to miss.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

KNOWN_KEYS = 4_000
KNOWN_RUNNER_KEYS = 12_000
SHARED_BELIEF_DECAY = 0.98
MAY_WRITE = 0.5
SURELY_WRITE = 0.75
"""A belief that other branches write to the cache: above the first what they execute is remembered, above the second a
miss of it has no excuse."""
LONGEST_NAME = 160
LONGEST_RUNNER = 24
"""Characters kept of instructions, runners and branches, so that the memory stays small whatever they are called."""
A_MONTH = 30 * 86_400.0
"""No step takes longer: a figure beyond it is an error of whoever wrote it."""
PER_RUNNER_BELOW = 0.6
"""A belief in a shared cache below this means that each runner keeps a cache of its own."""

_FROM = re.compile(r"^FROM\s+(?:--\S+\s+){0,4}(\S+)(?:\s+AS\s+(\S+))?", re.IGNORECASE)
_COPY_FROM = re.compile(r"--from=(\S+)")
_COPY_FLAG = re.compile(r"^(?:COPY|ADD)\s+(?:--\S+\s+){0,8}", re.IGNORECASE)
_PLAIN_FILES = {"gradlew", "mvnw", "makefile", "configure", "rebar3", "mix", "license", "package*"}
_POOL = re.compile(r"[-_.]?(?:\d+|[0-9a-f]{6,})$")


@dataclass(frozen=True, slots=True)
class ObservedStep:
    """One instruction of a build as the detector sees it."""

    stage: str
    op: str
    text: str
    cached: bool | None
    """None for an instruction that makes no layer."""
    seconds: float | None = None
    digest: str | None = None
    """The base digest; only on FROM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedBuild:
    """One build as the detector sees it."""

    id: str
    repository: str
    at: float
    """When it ended: seconds since the epoch."""
    branch: str
    is_default_branch: bool
    commit: str | None
    dockerfile: str
    """Anything that changes whenever the Dockerfile does, such as a hash of its instructions."""
    runner: str | None
    steps: tuple[ObservedStep, ...]
    is_bot: bool = False
    succeeded: bool = True
    duration_seconds: float | None = None
    size_bytes: float | None = None

    @property
    def pool(self) -> str:
        """The runner's name without its number."""
        return _POOL.sub("", self.runner or "") or "-"


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """What stays the same for an instruction in every build of one Dockerfile version."""

    stage: str
    op: str
    text: str
    name: str
    """The text, cut where it is long: what is kept of it."""
    key: str
    """Stage and name: the instruction's identity here."""
    parent: int | None
    """Position of the instruction above it, in this stage or in the one it starts from."""
    source: int | None
    """Position of the last instruction of the stage that COPY --from or FROM names."""
    is_base: bool
    is_content: bool
    """A COPY or ADD from the build context."""
    is_broad: bool
    """It copies a directory or the whole context."""
    copies_above: tuple[str, ...]
    """Names of the context copies above it, through stages and COPY --from."""
    arguments_above: tuple[str, ...]
    """Names of the ARG, ENV and LABEL instructions above it in its chain."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The shape of one Dockerfile version."""

    steps: tuple[PlannedStep, ...]
    order: tuple[tuple[str, str], ...]
    """(stage, name) from top to bottom."""


@dataclass(slots=True, eq=False)
class Layer:
    """One layer of one build, judged."""

    step: PlannedStep
    prefix: str
    hit: bool
    seconds: float
    expected: bool = False
    root: "Layer | None" = None
    """For a miss: the layer where its chain of misses began; itself when it is that layer."""
    excuse: str | None = None
    """Of a root: edit, base, warmup, content, or lost, which is none."""


@dataclass(slots=True)
class JudgedBuild:
    """A build with each of its layers judged."""

    build: ObservedBuild
    plan: Plan
    layers: list[Layer]
    is_cold: bool
    """Nothing hit although something was expected to."""
    is_telling: bool
    """Something was expected to hit, or did."""
    is_per_runner: bool
    new_digests: list[tuple[str, str]] = field(default_factory=list)
    """(FROM text, digest) that the repository had not seen, for texts that it had."""

    def roots(self, excuse: str) -> list[Layer]:
        """Return the layers where a chain of misses began for this reason."""
        return [layer for layer in self.layers if layer.root is layer and layer.excuse == excuse]


def _copies_broadly(text: str) -> bool:
    words = _COPY_FLAG.sub("", text).replace('"', " ").replace("[", " ").replace("]", " ").replace(",", " ").split()
    sources = words[:-1] or words
    return any(_is_directory(source) for source in sources)


def _is_directory(source: str) -> bool:
    """Guess from a COPY source whether it is a directory: no extension, and not written like Gemfile or gradlew."""
    name = source.rstrip("/").rpartition("/")[2]
    if source.endswith("/") or name in {"", ".", "..", "*"}:
        return True
    return "." not in name.lstrip(".") and name[:1].islower() and name not in _PLAIN_FILES


def plan_of(steps: Sequence[ObservedStep]) -> Plan:
    """Work out the chains of a Dockerfile version from the instructions of one of its builds."""
    last_of: dict[str, int] = {}
    number_of: list[str] = []
    planned: list[PlannedStep] = []
    chains: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
    for position, step in enumerate(steps):
        op = step.op.upper()
        parent = last_of.get(step.stage)
        source: int | None = None
        if op == "FROM":
            named = _FROM.match(step.text)
            source = last_of.get(named[1]) if named else None
            parent = source
            number_of.append(step.stage)
        elif named := _COPY_FROM.search(step.text):
            name = named[1]
            if name.isdecimal() and len(name) < 4 and int(name) < len(number_of):
                name = number_of[int(name)]
            source = last_of.get(name)
        is_content = op in {"COPY", "ADD"} and "--from=" not in step.text
        name = shortened(step.text, LONGEST_NAME)
        copies, arguments = chains[parent] if parent is not None else ((), ())
        if source is not None and op != "FROM":
            copies = (*copies, *(text for text in chains[source][0] if text not in copies))
        planned.append(
            PlannedStep(
                stage=step.stage,
                op=op,
                text=step.text,
                name=name,
                key=f"{step.stage}\x1f{name}",
                parent=parent,
                source=source if op != "FROM" else None,
                is_base=op == "FROM" and source is None,
                is_content=is_content,
                is_broad=is_content and _copies_broadly(step.text),
                copies_above=copies,
                arguments_above=arguments,
            )
        )
        if is_content and name not in copies:
            copies = (*copies, name)
        if op in {"ARG", "ENV", "LABEL"}:
            arguments = (*arguments, name)
        chains.append((copies, arguments))
        last_of[step.stage] = position
    return Plan(tuple(planned), tuple((step.stage, step.name) for step in planned))


@dataclass(slots=True)
class Memory:
    """What one repository's cache is known to hold; grows to a bound and is saved as one JSON document."""

    epoch: int = 0
    is_warm: bool = True
    """Something hit since the epoch began."""
    warm_runners: dict[str, int] = field(default_factory=dict)
    known: dict[str, int] = field(default_factory=dict)
    """Prefix key → the epoch in which it was last in cache; oldest first."""
    runner_epochs: dict[str, int] = field(default_factory=dict)
    known_on_runner: dict[str, int] = field(default_factory=dict)
    shared_hits: float = 1.0
    shared_misses: float = 1.0
    pull_request_hits: float = 0.0
    pull_request_misses: float = 0.5
    pull_request_keys: dict[str, str] = field(default_factory=dict)
    """Prefix key → the branch that executed it last, for keys that the default branch never executed."""
    digests: dict[str, list[str]] = field(default_factory=dict)
    """FROM text → the digests seen, newest last."""
    costs: dict[str, float] = field(default_factory=dict)
    """Instruction key → exponentially weighted seconds of its executions."""

    @property
    def shared_belief(self) -> float:
        """How likely a key that another runner wrote is found on a runner that lacks it."""
        return self.shared_hits / (self.shared_hits + self.shared_misses)

    @property
    def is_per_runner(self) -> bool:
        """Whether each runner seems to keep its own cache."""
        return self.shared_belief < PER_RUNNER_BELOW

    @property
    def branch_belief(self) -> float:
        """How likely other branches than the default one find again what they executed: many may only read."""
        return self.pull_request_hits / (self.pull_request_hits + self.pull_request_misses)

    def judge(self, build: ObservedBuild, plan: Plan) -> JudgedBuild:
        """Say of each layer whether it should have hit and where its chain of misses began; changes nothing."""
        prefixes = self._prefixes(build, plan)
        runner = shortened(build.runner or "-", LONGEST_RUNNER)
        runner_epoch = self.runner_epochs.get(runner, 0)
        per_runner = self.is_per_runner
        branches_write = self.branch_belief > SURELY_WRITE
        new_bases = {
            position
            for position, (step, seen) in enumerate(zip(plan.steps, build.steps, strict=True))
            if step.is_base and seen.digest and seen.digest not in self.digests.get(step.text, [])
        }
        new_digests = [
            (plan.steps[position].text, build.steps[position].digest or "")
            for position in sorted(new_bases)
            if plan.steps[position].text in self.digests
        ]
        roots: list[Layer | None] = []
        on_new_base: list[bool] = []
        layers: list[Layer] = []
        for position, (step, seen) in enumerate(zip(plan.steps, build.steps, strict=True)):
            root = roots[step.parent] if step.parent is not None else None
            new_base = position in new_bases or (step.parent is not None and on_new_base[step.parent])
            on_new_base.append(new_base)
            if seen.cached is None or step.op == "FROM":
                roots.append(root)
                continue
            prefix = prefixes[position]
            in_repository = self.known.get(prefix)
            on_runner = self.known_on_runner.get(f"{runner}|{prefix}")
            expected = in_repository == self.epoch if not per_runner else on_runner == runner_epoch
            if prefix in self.pull_request_keys and not branches_write:
                expected = False
            layer = Layer(step, prefix, seen.cached, _sane(seen.seconds), expected)
            layers.append(layer)
            if layer.hit:
                roots.append(None)
                continue
            if root is None and step.source is not None:
                root = roots[step.source]
            if root is None:
                root = layer
                if new_base:
                    layer.excuse = "base"
                elif in_repository is None:
                    layer.excuse = "edit"
                elif per_runner and on_runner is None:
                    layer.excuse = "warmup"
                elif step.is_content:
                    layer.excuse = "content"
                else:
                    layer.excuse = "lost" if expected else "warmup"
            layer.root = root
            roots.append(root)
        firm = [layer for layer in layers if layer.expected and not layer.step.is_content]
        nothing_hit = not any(layer.hit for layer in layers) and not self._base_was_cached(build, plan)
        is_cold = nothing_hit and any(layer.excuse == "lost" for layer in firm)
        observes = bool(firm) or any(layer.hit for layer in layers)
        return JudgedBuild(build, plan, layers, is_cold, observes, per_runner, new_digests)

    def learn(self, judged: JudgedBuild) -> None:
        """Take in what the build read from the cache and what it wrote to it."""
        build = judged.build
        runner = shortened(build.runner or "-", LONGEST_RUNNER)
        branch = shortened(build.branch, LONGEST_RUNNER)
        self._learn_sharing(judged, runner)
        if judged.is_cold:
            # One purge excuses what it emptied. When nothing has hit since the last one, what was written after it
            # is still expected: a cache that loses every write is broken, not purged again.
            if runner in self.warm_runners:
                del self.warm_runners[runner]
                self.runner_epochs[runner] = self.runner_epochs.get(runner, 0) + 1
            if self.is_warm and not judged.is_per_runner:
                self.is_warm = False
                self.epoch += 1
        elif any(layer.hit for layer in judged.layers):
            self.is_warm = True
            self.warm_runners[runner] = 1
            trim(self.warm_runners, 1_000)
        runner_epoch = self.runner_epochs.get(runner, 0)
        for layer in judged.layers:
            on_runner = f"{runner}|{layer.prefix}"
            owner = self.pull_request_keys.get(layer.prefix)
            if owner == branch and (layer.hit or (layer.root is layer and not judged.is_cold)):
                self._learn_branches(layer, runner, per_runner=judged.is_per_runner)
            if layer.hit or build.is_default_branch:
                self.pull_request_keys.pop(layer.prefix, None)
            else:
                if owner is not None or layer.prefix not in self.known:
                    self.pull_request_keys.pop(layer.prefix, None)
                    self.pull_request_keys[layer.prefix] = branch
                if self.branch_belief < MAY_WRITE:
                    continue
            self.known.pop(layer.prefix, None)
            self.known[layer.prefix] = self.epoch
            self.known_on_runner.pop(on_runner, None)
            self.known_on_runner[on_runner] = runner_epoch
        for layer in judged.layers:
            if not layer.hit and layer.seconds > 0:
                before = self.costs.pop(layer.step.key, layer.seconds)
                self.costs[layer.step.key] = before + 0.4 * (layer.seconds - before)
        for step, seen in zip(judged.plan.steps, build.steps, strict=True):
            if step.is_base and seen.digest:
                digests = self.digests.setdefault(step.text, [])
                if seen.digest not in digests:
                    digests.append(seen.digest)
                    del digests[:-50]
        trim(self.known, KNOWN_KEYS)
        trim(self.known_on_runner, KNOWN_RUNNER_KEYS)
        trim(self.pull_request_keys, KNOWN_KEYS)
        trim(self.runner_epochs, 1_000)
        trim(self.costs, 1_000)
        trim(self.digests, 100)

    def cold_seconds(self, plan: Plan) -> float:
        """Return what a build without any cache costs, as far as its instructions were seen to run."""
        return sum(self.costs.get(step.key, 0.0) for step in plan.steps)

    @staticmethod
    def _base_was_cached(build: ObservedBuild, plan: Plan) -> bool:
        return any(step.is_base and seen.cached for step, seen in zip(plan.steps, build.steps, strict=True))

    def _learn_branches(self, layer: Layer, runner: str, *, per_runner: bool) -> None:
        if per_runner and not layer.hit and f"{runner}|{layer.prefix}" not in self.known_on_runner:
            return
        self.pull_request_hits *= SHARED_BELIEF_DECAY
        self.pull_request_misses *= SHARED_BELIEF_DECAY
        if layer.hit:
            self.pull_request_hits += 1
        elif not layer.step.is_content:
            self.pull_request_misses += 1

    def _learn_sharing(self, judged: JudgedBuild, runner: str) -> None:
        seen_stages: set[str] = set()
        for layer in judged.layers:
            step = layer.step
            if step.is_content or step.stage in seen_stages:
                continue
            if self.known.get(layer.prefix) != self.epoch or f"{runner}|{layer.prefix}" in self.known_on_runner:
                continue
            if not layer.hit and layer.root is not layer:
                continue
            seen_stages.add(step.stage)
            self.shared_hits *= SHARED_BELIEF_DECAY
            self.shared_misses *= SHARED_BELIEF_DECAY
            if layer.hit:
                self.shared_hits += 1
            else:
                self.shared_misses += 1

    def _prefixes(self, build: ObservedBuild, plan: Plan) -> list[str]:
        prefixes: list[str] = []
        for step, seen in zip(plan.steps, build.steps, strict=True):
            above = prefixes[step.parent] if step.parent is not None else ""
            own = f"{above}\x1f{seen.digest or ''}\x1f{step.text}"
            prefixes.append(hashlib.blake2b(own.encode(errors="replace"), digest_size=8).hexdigest())
        return prefixes

    def document(self) -> dict[str, Any]:
        """Return the memory as JSON types."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "Memory":
        """Return the memory that `document` describes."""
        return cls(**document)


def _sane(seconds: float | None) -> float:
    return seconds if seconds and 0.0 < seconds < A_MONTH else 0.0


def shortened(text: str, length: int) -> str:
    """Return the text, or its beginning and a hash of all of it when it is longer."""
    if len(text) <= length:
        return text
    return f"{text[: length - 14]}… {hashlib.blake2b(text.encode(errors='replace'), digest_size=6).hexdigest()}"


def trim(table: dict[str, Any], bound: int) -> None:
    """Forget the oldest entries of a table beyond its bound."""
    while len(table) > bound:
        del table[next(iter(table))]


def moved_instruction(before: Iterable[tuple[str, str]], after: Sequence[tuple[str, str]]) -> str | None:
    """Return the text of the instruction with the most changed order between two versions; a COPY wins a tie.

    None when nothing that both versions hold has moved.
    """
    rank = {item: position for position, item in enumerate(before)}
    common = [item for item in after if item in rank]
    inversions: dict[tuple[str, str], int] = {}
    for later in range(len(common)):
        for earlier in range(later):
            first, second = common[earlier], common[later]
            if first[0] == second[0] and rank[first] > rank[second]:
                inversions[first] = inversions.get(first, 0) + 1
                inversions[second] = inversions.get(second, 0) + 1
    if not inversions:
        return None
    best = max(inversions, key=lambda item: (inversions[item], item[1].upper().startswith(("COPY", "ADD"))))
    return best[1]
