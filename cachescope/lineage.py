"""Which steps of a build each step stands on: the chains on which a miss travels.

Structured logs name the inputs of every vertex. All other logs print a stage, an index and a text, from which the same
edges follow: the previous step of the stage, the stages that `COPY --from` and `RUN --mount=from` name, and the stage
behind a FROM. Two peculiarities of BuildKit are undone here: equal steps on equal parents are one vertex, printed under
one stage (or bake target) only, so a chain can lack a number; and a stage that several targets or platforms share runs
once, while its twins print CACHED in that same build.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from cachescope.model import Build, Step, StepKind

Chain = tuple[str | None, str | None, str | None, int]
"""Target, platform, stage as printed, and a number that tells unnamed stages of one file apart."""

MAX_CHAINS = 300
"""A log with more stages is no Dockerfile's: the edges that only a search over all stages finds are left out."""

_ABOVE_STAGES = -1
"""The number of the chain of ARGs above the first FROM: no layers, though other builders than BuildKit print steps."""

_FROM_FLAG = re.compile(r"\s--from=(\S+)", re.IGNORECASE)
_MOUNT_FLAG = re.compile(r"\s--mount=(\S+)", re.IGNORECASE)
_FROM_LINE = re.compile(r"FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?", re.IGNORECASE)
_IMAGE_ID = re.compile(r"[0-9a-f]{12,64}")
_UNNAMED_STAGE = re.compile(r"stage-(\d{1,4})")


@dataclass(frozen=True, slots=True)
class Lineage:
    """The edges between the steps of one build, all as positions in `build.steps`."""

    parents: tuple[tuple[int, ...], ...]
    """Per step the steps that it stands on directly; empty for everything that is no instruction."""
    twins: Mapping[int, int] = field(default_factory=dict)
    """A step printed CACHED → the equal step of another target or platform that ran in this very build."""
    chains: tuple[Chain | None, ...] = ()
    """Per step the chain it belongs to; None for everything that is no instruction."""

    def is_above_stages(self, position: int) -> bool:
        """Tell whether a step is an ARG above the first FROM: it makes no layer, and nothing could serve it."""
        chain = self.chains[position]
        return chain is not None and chain[3] == _ABOVE_STAGES

    def ran(self, position: int) -> int:
        """Return the step that did the work of this one: its twin where it has one."""
        return self.twins.get(position, position)


def is_missed(step: Step) -> bool:
    """Tell whether an instruction below FROM ran instead of coming from cache (counted in the figures or not).

    A step whose layers were fetched did not: a remote cache had its result. BuildKit fetches it where something below
    needs it, and then prints DONE behind CACHED, or nothing but DONE.
    """
    is_instruction = step.kind == StepKind.INSTRUCTION and step.instruction != "FROM"
    return is_instruction and step.cached is False and not is_restored(step)


def is_restored(step: Step) -> bool:
    """Tell whether BuildKit fetched the layers of a step; `--link` layers may be fetched to be put together anew."""
    return step.transferred_bytes is not None and step.instruction != "FROM" and "--link" not in step.text


def trace_lineage(
    build: Build, stages: Mapping[str, Sequence[str]] | None = None, bases: Mapping[str, str] | None = None
) -> Lineage:
    """Work out on which steps each step stands.

    Where the Dockerfile is at hand, `stages` holds its stages in order, by the name that BuildKit prints, each with the
    texts of its numbered steps, and `bases` the stage behind each stage's FROM. Without them numbers (`--from=0`),
    `FROM <stage>` and merged steps are resolved as far as the log tells.
    """
    return _Tracer(build, stages or {}, bases or {}).trace()


def sources_of(text: str) -> list[str]:
    """List what a COPY or RUN takes from elsewhere: the values of `--from=` and of `from=` in `--mount=`."""
    if text[:4].upper() == "RUN ":
        options = [option for mount in _MOUNT_FLAG.findall(text) for option in mount.split(",")]
        return [option[5:] for option in options if option.lower().startswith("from=")]
    return _FROM_FLAG.findall(text.split("<<", 1)[0])


class _Tracer:
    """Holds the indexes that the edges are looked up in."""

    def __init__(self, build: Build, stages: Mapping[str, Sequence[str]], bases: Mapping[str, str]) -> None:
        self.steps = build.steps
        self.is_buildkit = build.builder not in ("docker", "buildah", "kaniko")
        self.stage_names = [name.lower() for name in stages]
        self.stage_texts = {name.lower(): texts for name, texts in stages.items()}
        self.bases = {stage.lower(): base.lower() for stage, base in bases.items()}
        self.chain_of: list[Chain | None] = [None] * len(self.steps)
        self.members: dict[Chain, list[int]] = {}
        self.place: dict[int, int] = {}
        self.stage_count: Counter[tuple[str | None, str | None]] = Counter()
        self.base_of: dict[Chain, str] = {}
        self.name_of: dict[Chain, str] = {}
        self._sort_into_chains()
        self.by_digest = {step.digest: position for position, step in enumerate(self.steps) if step.digest}
        self.at_index: dict[int, list[int]] = defaultdict(list)
        for members in self.members.values():
            for position in members:
                self.at_index[self.steps[position].index or 0].append(position)
        self.copied_by: dict[Chain, set[str]] = defaultdict(set)
        for position, step in enumerate(self.steps):
            if (place := self.chain_of[position]) is not None:
                self.copied_by[place].update(source.lower() for source in sources_of(step.text))
        self.copied = set().union(*self.copied_by.values())
        self.indexes_of: dict[Chain, set[int]] = {}
        self.common: dict[tuple[Chain, Chain], float] = {}
        for chain in self.members:
            if chain[2]:
                self.name_of.setdefault(chain, chain[2].lower())

    def trace(self) -> Lineage:
        parents = tuple(
            () if chain is None else self._parents(position, chain) for position, chain in enumerate(self.chain_of)
        )
        return Lineage(parents=parents, twins=self._twins(parents), chains=tuple(self.chain_of))

    def _sort_into_chains(self) -> None:
        """Give every instruction its chain; where the log prints FROM for each stage, a FROM opens a new one."""
        open_chain: dict[tuple[object, ...], Chain] = {}
        for position, step in enumerate(self.steps):
            if step.kind != StepKind.INSTRUCTION:
                continue
            if self.is_buildkit:
                chain: Chain = (step.target, step.platform, step.stage, 0)
            else:
                chain = self._sequential_chain(step, open_chain)
            self.chain_of[position] = chain
            self.members.setdefault(chain, []).append(position)
            if step.instruction == "FROM" and (line := _FROM_LINE.match(step.text)):
                self.base_of[chain] = line[1].lower()
                if line[2]:
                    self.name_of[chain] = line[2].lower()
        for members in self.members.values():
            members.sort(key=lambda position: (self.steps[position].index or 0, position))
            self.place.update((position, place) for place, position in enumerate(members))

    def _sequential_chain(self, step: Step, open_chain: dict[tuple[object, ...], Chain]) -> Chain:
        # The classic builder numbers over the whole file, buildah within the stage and with stages interleaved:
        # there the total tells two unnamed stages apart, unless they are equally long.
        key = (step.target, step.platform, step.stage, step.total)
        is_open = key in open_chain and (open_chain[key][3] != _ABOVE_STAGES or step.instruction == "ARG")
        if not is_open and step.instruction == "ARG" and not self.stage_count[step.target, step.platform]:
            open_chain[key] = (step.target, step.platform, step.stage, _ABOVE_STAGES)
        elif not is_open or step.instruction == "FROM":
            place = (step.target, step.platform)
            open_chain[key] = (*place, step.stage, self.stage_count[place])
            self.stage_count[place] += 1
        return open_chain[key]

    def _parents(self, position: int, chain: Chain) -> tuple[int, ...]:
        step = self.steps[position]
        if step.inputs and all(digest in self.by_digest for digest in step.inputs):
            known = [self.by_digest[digest] for digest in step.inputs]
            return tuple(p for p in dict.fromkeys(known) if p != position and self.chain_of[p] is not None)
        found = [self.by_digest[digest] for digest in step.inputs if digest in self.by_digest]
        found += self._above(position, chain)
        for source in sources_of(step.text):
            found += self._end_of_stage(source, chain)
        return tuple(p for p in dict.fromkeys(found) if p != position and self.chain_of[p] is not None)

    def _above(self, position: int, chain: Chain) -> list[int]:
        """The step one line up: in this stage, under another name where BuildKit merged it, or in the stage below."""
        step = self.steps[position]
        if step.instruction == "FROM":
            return self._behind_from(position, chain)
        members = self.members[chain]
        place = self.place[position]
        before = members[place - 1] if place else None
        if not self.is_buildkit:
            if before is None:
                return []
            # FROM never misses; what it stands on does.
            above = self._parents(before, chain) if self.steps[before].instruction == "FROM" else ()
            return [before, *above]
        index = step.index or 0
        if before is not None and (self.steps[before].index or 0) == index - 1:
            return [before]
        if len(self.members) > MAX_CHAINS:
            return [] if before is None else [before]
        if index > 1:
            moved = self._merged_elsewhere(chain, index - 1, position if is_missed(step) else None)
            return moved or ([] if before is None else [before])
        return self._base_stage(chain, position)

    def _behind_from(self, position: int, chain: Chain) -> list[int]:
        """The stage behind a FROM line; BuildKit prints FROM for images only."""
        base = self.base_of.get(chain, "")
        if self.is_buildkit:
            return []
        # buildah prints the id of the stage behind FROM, not its name.
        if not base or len(self.members) > MAX_CHAINS:
            return []
        if _IMAGE_ID.fullmatch(base):
            return self._base_stage(chain, position)
        # `FROM node AS node` stands on the image: only a stage above can be meant.
        earlier = [c for c in self.members if c[3] < chain[3] and self.name_of.get(c) == base]
        return self._end_of(self._nearest(earlier, chain))

    def _merged_elsewhere(self, chain: Chain, index: int, below: int | None = None) -> list[int]:
        """Find a step that this chain lacks because BuildKit prints it under another stage or target.

        Two stages that each print a step of their own up to that depth share none there. Of a FROM all candidates are
        given: it never misses, and only the Dockerfile tells which image it is. What ran stands on what was announced
        before it; `below` is such a step.
        """
        candidates = []
        for position in self.at_index[index]:
            other = self.chain_of[position]
            if below is not None and position > below:
                continue
            if other is not None and other != chain and self._first_common_index(chain, other) > index:
                candidates.append(position)
        candidates = [p for p in candidates if self.steps[p].platform == chain[1]] or candidates
        candidates = [p for p in candidates if self.steps[p].stage == chain[2] and chain[2]] or candidates
        texts = self.stage_texts.get((chain[2] or "").lower(), ())
        if index <= len(texts):
            text = texts[index - 1]
            candidates = [p for p in candidates if self.steps[p].text == text] or [
                p for p in candidates if self.steps[p].text.split(" ", 1)[0] == text.split(" ", 1)[0]
            ]
        candidates = [p for p in candidates if self.steps[p].target == chain[0]] or candidates
        if index == 1:
            return candidates
        # A target that is built without cache runs again what another one took from it, under the same name.
        same = [p for p in candidates if _work(self.steps[p]) == _work(self.steps[candidates[0]])]
        return ([p for p in same if is_missed(self.steps[p])] or same)[:1] if below is not None else same[:1]

    def _first_common_index(self, chain: Chain, other: Chain) -> float:
        """The lowest number of which both chains print a step of their own."""
        if (chain, other) not in self.common:
            shared = self.indexes(chain) & self.indexes(other)
            self.common[chain, other] = self.common[other, chain] = min(shared, default=inf)
        return self.common[chain, other]

    def indexes(self, chain: Chain) -> set[int]:
        if chain not in self.indexes_of:
            self.indexes_of[chain] = {self.steps[p].index or 0 for p in self.members[chain]}
        return self.indexes_of[chain]

    def _base_stage(self, chain: Chain, position: int) -> list[int]:
        """BuildKit prints no FROM for `FROM <stage>`: the first step of such a stage has index 1."""
        stage = self.name_of.get(chain, "")
        if base := self.bases.get(stage):
            return self._end_of_stage(base, chain)
        others = [c for c in self.members if c != chain and c[:2] == chain[:2] and c[2] != chain[2]]
        # Whoever takes files from this stage cannot lie below it.
        users = {c for c in others if stage in self.copied_by.get(c, ())}
        # FROM can name a stage only by its name.
        left = [c for c in others if c not in users and not _UNNAMED_STAGE.fullmatch(self.name_of.get(c, "stage-0"))]
        # A stage from which files are copied is seldom a base too. Of those that remain one that missed is likelier
        # than one that hit: one change rather than two.
        bases = [c for c in left if self.name_of.get(c) not in self.copied] or left
        ends = [self.members[c][-1] for c in bases]
        if is_missed(self.steps[position]):
            # A step runs when what it stands on is there: a stage that is announced later is not below it.
            ends = [p for p in ends if p < position]
            missed = [p for p in ends if is_missed(self.steps[p])]
            # A stage of nothing but FROM is there to be stood on; but a copy from a stage needs more to miss.
            bare = [p for p in ends if self.steps[p].instruction == "FROM" and self.steps[p].total == 1]
            takes_from_stages = self.steps[position].instruction == "COPY" and sources_of(self.steps[position].text)
            ends = (missed or bare if takes_from_stages else bare or missed) or ends
        before = [p for p in ends if p < position]
        return [max(before)] if before else sorted(ends)[:1]

    def _end_of_stage(self, source: str, chain: Chain) -> list[int]:
        """The last step of the stage that a name or number means; nothing when it is an image."""
        name = source.strip("\"'").lower()
        if not name or len(self.members) > MAX_CHAINS:
            return []
        if name.isdigit() and len(name) <= 4:
            return self._end_of_numbered(int(name), chain)
        matches = [c for c in self.members if self.name_of.get(c) == name]
        return self._end_of(self._nearest(matches, chain))

    def _end_of_numbered(self, number: int, chain: Chain) -> list[int]:
        if number < len(self.stage_names) and (name := self.stage_names[number]):
            return self._end_of(self._nearest([c for c in self.members if self.name_of.get(c) == name], chain))
        matches = [c for c in self.members if c[2] and (m := _UNNAMED_STAGE.fullmatch(c[2])) and int(m[1]) == number]
        if not matches and not self.is_buildkit:
            matches = [c for c in self.members if c[3] == number]
        if not matches:
            # A named stage that a number means: BuildKit prints the name only. One candidate is an answer.
            named = [c for c in self.members if c[2] and not _UNNAMED_STAGE.fullmatch(c[2]) and c != chain]
            matches = named if len({c[2] for c in named}) == 1 else []
        return self._end_of(self._nearest(matches, chain))

    def _nearest(self, chains: list[Chain], chain: Chain) -> list[Chain]:
        """Of equally named stages those of the same target and platform, else of the same platform, else all."""
        same = [c for c in chains if c[:2] == chain[:2]]
        return same or [c for c in chains if c[1] == chain[1]] or [c for c in chains if c[0] == chain[0]] or chains

    def _end_of(self, chains: Iterable[Chain]) -> list[int]:
        ends = []
        for chain in chains:
            last = self.members[chain][-1]
            total = self.steps[last].total
            if self.is_buildkit and total and (self.steps[last].index or 0) < total:
                ends += self._merged_elsewhere(chain, total) or [last]
            else:
                ends.append(last)
        return ends

    def _twins(self, parents: tuple[tuple[int, ...], ...]) -> dict[int, int]:
        """Pair the CACHED steps of a shared stage with the steps that ran for another target or platform."""
        ran: dict[tuple[object, ...], list[int]] = defaultdict(list)
        for position, step in enumerate(self.steps):
            if is_missed(step) and (step.target or step.platform) and len(ran[_work(step)]) < MAX_CHAINS:
                ran[_work(step)].append(position)
        twins = {}
        for position, step in enumerate(self.steps):
            if step.cached and step.kind == StepKind.INSTRUCTION:
                # One target's name may be printed for both, for a shared step changes its name while the build goes on;
                # on one and the same step it is the one target that is built without cache.
                others = [
                    p
                    for p in ran[_work(step)]
                    if (self.steps[p].target, self.steps[p].platform) != (step.target, step.platform)
                    or (self.steps[p].digest and parents[p] != parents[position])
                ]
                same_platform = [p for p in others if self.steps[p].platform == step.platform]
                if same_platform or (others and len(parents[position]) == 0):
                    twins[position] = (same_platform or others)[0]
        return twins


def _work(step: Step) -> tuple[object, ...]:
    return (step.stage, step.index, step.total, step.text)
