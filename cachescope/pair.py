"""One break beside the build it is compared with: everything that a cause may look at, worked out once."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, lru_cache

from cachescope.context import (
    IgnoreRules,
    context_sources,
    covers,
    matches_below,
    read_ignore_rules,
    reads,
    relative_to,
)
from cachescope.dockerfile import (
    LAYER_KEYWORDS,
    NO_DEFAULT,
    Dockerfile,
    Instruction,
    Scope,
    Stage,
    expand,
    mounts,
    variables,
)
from cachescope.evidence import Evidence
from cachescope.invocation import BakeTarget, Invocation, read_bake_file, read_invocation
from cachescope.lineage import Chain, Lineage, is_missed, trace_lineage
from cachescope.matching import match_steps, normalize
from cachescope.model import BaseImage, Build, Step, StepKind

MAX_CHANGED_FILES = 20_000
"""Of a larger commit range the files beyond are not looked at."""

read_dockerfile = lru_cache(maxsize=64)(Dockerfile)
"""Reads a Dockerfile, keeping the latest: builds of one image share theirs."""

_LOADS = "load build definition from "

_CONTEXT = re.compile(r"\[(?:\S{1,200} )?context (\S{1,200})\] load from client")

_TRIGGER = "ONBUILD "

_NO_IGNORE_FILE_BYTES = 2
"""What BuildKit transfers where there is no `.dockerignore`."""


class Side:
    """One of the two builds: its steps, its Dockerfiles and how it was called."""

    def __init__(
        self,
        build: Build,
        dockerfiles: Mapping[str, str],
        command: tuple[str, ...] | None,
        arguments: Mapping[str, str] | None,
        bake: str | None,
    ) -> None:
        self.build = build
        self.steps = build.steps
        self.is_buildkit = build.builder not in ("docker", "buildah", "kaniko")
        self._dockerfiles = dockerfiles
        self._arguments = arguments
        self._printed: dict[tuple[str | None, int], tuple[str, ...]] = {}
        self.invocation: Invocation | None = read_invocation(command) if command is not None else None
        self.bake: dict[str, BakeTarget] = read_bake_file(bake) if bake else {}

    @cached_property
    def lineage(self) -> Lineage:
        """The edges between the steps, with what the Dockerfile says of stages where there is one."""
        dockerfile = self.dockerfile(None) or next(
            (self.dockerfile(step.target) for step in self.steps if step.target), None
        )
        if dockerfile is None:
            return trace_lineage(self.build)
        given = self.arguments(next((step.target for step in self.steps if step.target), None))
        bases = {
            stage.printed_name: base.printed_name
            for stage in dockerfile.stages
            if (base := dockerfile.base_stage(stage, given)) is not None
            # An ARG in FROM may name another stage than its default does.
            if given is not None or "$" not in stage.base or self._is_printed(base)
        }
        texts = {stage.printed_name: [i.text for i in dockerfile.steps_of(stage)] for stage in dockerfile.stages}
        return trace_lineage(self.build, texts, bases)

    def _is_printed(self, stage: Stage) -> bool:
        return any(step.stage == stage.printed_name for step in self.steps)

    def dockerfile(self, target: str | None) -> Dockerfile | None:
        """Return the Dockerfile of a target; one that goes for all where it has none of its own."""
        text = self._dockerfiles.get(target or "")
        if text is None:
            text = self._dockerfiles.get("")
        if text is None and target is None and len(self._dockerfiles) == 1:
            text = next(iter(self._dockerfiles.values()))
        return read_dockerfile(text) if text is not None else None

    def arguments(self, target: str | None) -> dict[str, str] | None:
        """Return the build arguments of a target; None where they are not known."""
        if self._arguments is not None:
            return dict(self._arguments)
        if self.invocation is None:
            return None
        if self.invocation.is_bake and target and target not in self.bake and self.bake:
            return None
        written = self.bake[target].arguments if target in self.bake and target else {}
        return {**written, **self.invocation.arguments_of(target)}

    def folder_of_context(self, name: str) -> str | None:
        """Return the folder of the repository that a named context stands for; None where it is not known."""
        folder = self.invocation.contexts.get(name) if self.invocation is not None else None
        return None if folder is None or "://" in folder or folder.startswith(("/", "..", "target:")) else folder

    def reference(self, written: str, target: str | None) -> str | None:
        """Return an image that FROM names with the ARGs above the stages put in; None where one is not known."""
        dockerfile, given = self.dockerfile(target), self.arguments(target)
        if dockerfile is None or given is None:
            return None
        found = expand(written, {n: v for n, v in (dockerfile.global_arguments | given).items() if v != NO_DEFAULT})
        return None if "$" in found else found

    @cached_property
    def texts_above_stages(self) -> list[str]:
        """The ARGs above the first FROM, where the builder prints them."""
        lineage = self.lineage
        return [normalize(step.text) for p, step in enumerate(self.steps) if lineage.is_above_stages(p)]

    def instruction(self, position: int) -> Instruction | None:
        """Find the line of the Dockerfile that a step comes from."""
        step = self.steps[position]
        dockerfile = self.dockerfile(step.target)
        if dockerfile is None or step.index is None:
            return None
        if not self.is_buildkit and step.stage is None and self.build.builder == "docker":
            return _same_keyword(dockerfile.instructions, step.index - 1, step)
        stage = self._stage(dockerfile, step, position)
        if stage is None:
            return _only(i for i in dockerfile.instructions if self._prints(dockerfile, i, step))
        if self.build.builder == "docker":
            return _same_keyword(dockerfile.instructions, step.index - 1, step)
        lines = dockerfile.steps_of(stage) if self.is_buildkit else list(stage.instructions)
        # ONBUILD triggers of the base are numbered in between FROM and the stage's own instructions.
        offset = max(0, (step.total or len(lines)) - len(lines)) if self.is_buildkit and step.index > 1 else 0
        return _same_keyword(lines, step.index - 1 - offset, step) or _only(
            i for i in stage.instructions if self._prints(dockerfile, i, step)
        )

    def _stage(self, dockerfile: Dockerfile, step: Step, position: int) -> Stage | None:
        if step.stage is not None:
            return dockerfile.find_stage(step.stage)
        if self.is_buildkit:
            target = self.bake[step.target].target if step.target in self.bake and step.target else None
            needed = dockerfile.needed_stages(target or (self.invocation.target if self.invocation else None))
            return needed[0] if len(needed) == 1 else None
        if len(dockerfile.stages) == 1:
            return dockerfile.stages[0]
        unnamed = [stage for stage in dockerfile.stages if stage.name is None]
        texts = self.texts_of_chain(position)
        fitting = [s for s in unnamed if [normalize(i.text) for i in s.instructions][: len(texts)] == texts]
        return (fitting or unnamed)[0] if len(fitting or unnamed) == 1 else None

    def texts_of_chain(self, position: int) -> list[str]:
        """Return the texts of a step's stage, top to bottom."""
        return [normalize(self.steps[p].text) for p in self.chain_positions(self.lineage.chains[position])]

    def _prints(self, dockerfile: Dockerfile, instruction: Instruction, step: Step) -> bool:
        if instruction.keyword != step.instruction:
            return False
        return normalize(step.text) in self._wordings(dockerfile, instruction, step.target)

    def _wordings(self, dockerfile: Dockerfile, instruction: Instruction, target: str | None) -> tuple[str, ...]:
        """Return how a line may be printed: as written, and with its values. Worked out once, for every step asks."""
        key = (target, instruction.position)
        if key not in self._printed:
            written = normalize(instruction.text)
            self._printed[key] = (written,)
            if "$" in instruction.text:
                scope = dockerfile.scope_at(instruction, self.arguments(target))
                self._printed[key] = (written, normalize(scope.expand(instruction.text)))
        return self._printed[key]

    def scope(self, position: int, instruction: Instruction) -> Scope:
        """Work out what an instruction of this build ran under, as far as arguments are known."""
        target = self.steps[position].target
        dockerfile = self.dockerfile(target)
        return dockerfile.scope_at(instruction, self.arguments(target)) if dockerfile is not None else Scope()

    def layers_above(self, target: str | None, instruction: Instruction) -> list[str]:
        """Return the image and the lines of the Dockerfile whose layers an instruction stands on, top to bottom."""
        dockerfile = self.dockerfile(target)
        if dockerfile is None or instruction.stage is None:
            return []
        found: list[str] = []
        stage: Stage | None = dockerfile.stages[instruction.stage]
        until = instruction.position
        while stage is not None:
            lines = [i for i in stage.instructions[1:] if i.position < until]
            counted = [i for i in lines if not self.is_buildkit or i.keyword in LAYER_KEYWORDS]
            found = [normalize(i.text) for i in counted] + found
            base = dockerfile.base_stage(stage)
            if base is None:
                found.insert(0, dockerfile.base_reference(stage))
            stage, until = base, len(dockerfile.instructions)
        return found

    @cached_property
    def dockerfile_bytes(self) -> int | None:
        """The size of the Dockerfiles that the builder read, as the log prints it."""
        sizes = [
            step.transferred_bytes
            for step in self.steps
            if step.kind == StepKind.INTERNAL and "load build definition" in step.text
        ]
        known = [size for size in sizes if size is not None]
        return sum(known) if known and len(known) == len(sizes) else None

    @cached_property
    def has_ignore_file(self) -> bool | None:
        """Whether the builder found a `.dockerignore`; None where the log does not tell."""
        sizes = [
            step.transferred_bytes
            for step in self.steps
            if step.kind == StepKind.INTERNAL and "load .dockerignore" in step.text
        ]
        known = [size for size in sizes if size is not None]
        return any(size > _NO_IGNORE_FILE_BYTES for size in known) if known else None

    @cached_property
    def totals(self) -> dict[tuple[str | None, str | None, str | None], set[int]]:
        """The numbers of steps that the log prints for each stage, by target, platform and stage."""
        found: dict[tuple[str | None, str | None, str | None], set[int]] = {}
        for step in self.steps:
            if step.total:
                found.setdefault((step.target, step.platform, step.stage), set()).add(step.total)
        return found

    @cached_property
    def named_contexts(self) -> dict[str, int | None]:
        """The folders given by `--build-context` that were sent, with what the log says was sent of them."""
        places = [(_CONTEXT.fullmatch(step.text), step) for step in self.steps if step.kind == StepKind.INTERNAL]
        return {match[1]: step.transferred_bytes for match, step in places if match is not None}

    @cached_property
    def last_stages(self) -> set[str | None]:
        """The stages of which no other one takes anything: where a target ends, per target and platform."""
        taken = {
            self.steps[parent].stage
            for position, parents in enumerate(self.lineage.parents)
            for parent in parents
            if self.steps[parent].stage != self.steps[position].stage
        }
        return {stage for _, _, stage in self.totals} - taken

    @cached_property
    def places(self) -> set[tuple[str | None, str | None]]:
        """The targets and platforms that were built."""
        return {(step.target, step.platform) for step in self.steps if step.index is not None}

    @cached_property
    def fetched_bases(self) -> bool:
        """Whether layers of a base image had to be fetched: the builder did not have them."""
        return any(step.transferred_bytes for step in self.steps if step.instruction == "FROM")

    def missed_all(self, positions: Sequence[int], *, but_workdir: bool) -> bool:
        """Tell whether each of these steps missed (twins of missed steps too), FROM and perhaps WORKDIR left out."""
        for position in positions:
            step = self.steps[self.lineage.ran(position)]
            if step.kind != StepKind.INSTRUCTION or step.instruction == "FROM" or not step.cacheable:
                continue
            if not is_missed(step) and not (but_workdir and step.instruction == "WORKDIR"):
                return False
        return True

    def chain_positions(self, chain: Chain | None) -> list[int]:
        """List the steps of one chain."""
        return self._chains.get(chain, [])

    @cached_property
    def _chains(self) -> dict[Chain | None, list[int]]:
        found: dict[Chain | None, list[int]] = {}
        for position, chain in enumerate(self.lineage.chains):
            found.setdefault(chain, []).append(position)
        return found


class Background:
    """Two builds and the evidence about them: what all the breaks of one comparison share."""

    def __init__(self, after: Build, before: Build | None, evidence: Evidence) -> None:
        self.evidence = evidence
        e = evidence
        before_texts = dict(e.dockerfiles_before)
        for target, text in e.dockerfiles_after.items():
            # A Dockerfile that is not among the changed files is the same in both builds.
            if target not in before_texts and not self.dockerfile_may_have_changed(after):
                before_texts[target] = text
        self.after = Side(after, e.dockerfiles_after, e.command_after, e.arguments_after, e.bake)
        self.before = (
            Side(before, before_texts, e.command_before, e.arguments_before, e.bake) if before is not None else None
        )
        self.matches: tuple[int | None, ...] = (
            match_steps(before.steps, after.steps) if before is not None else (None,) * len(after.steps)
        )

    def dockerfile_may_have_changed(self, build: Build) -> bool:
        """Whether a Dockerfile of the build may be among the changed files; true where these are not known."""
        changed = self.evidence.changed_files
        names = {step.text.rpartition(" ")[2].rpartition("/")[2] for step in build.steps if _LOADS in step.text}
        if changed is None or not names:
            return True
        return any(file.path.rpartition("/")[2] in names for file in changed)

    @cached_property
    def ignore_after(self) -> IgnoreRules | None:
        """What `.dockerignore` keeps out in the later build; None where it is not known."""
        if self.evidence.dockerignore_after is not None:
            return read_ignore_rules(self.evidence.dockerignore_after)
        return IgnoreRules() if self.after.has_ignore_file is False else None

    @cached_property
    def ignore_before(self) -> IgnoreRules | None:
        """The same for the earlier build: the same rules where the file is not among the changed ones."""
        if self.evidence.dockerignore_before is not None:
            return read_ignore_rules(self.evidence.dockerignore_before)
        if self.before is not None and self.before.has_ignore_file is False:
            return IgnoreRules()
        return None if self.ignore_file_changed else self.ignore_after

    @property
    def ignore_file_changed(self) -> bool:
        """Whether a `.dockerignore` is among the changed files."""
        return any(changed.path.endswith(".dockerignore") for changed in self.evidence.changed_files or ())

    @cached_property
    def ignore_rules_changed(self) -> bool:
        """Whether `.dockerignore` says something else than before, or was edited and its former text is not known."""
        if self.evidence.dockerignore_before is not None:
            return self.ignore_before != self.ignore_after
        return self.ignore_file_changed

    @cached_property
    def everything_missed(self) -> bool:
        """Whether no step was served from cache, WORKDIR (which `--no-cache` does not reach) left out."""
        return self.after.missed_all(range(len(self.after.steps)), but_workdir=self.after.is_buildkit)

    @cached_property
    def nothing_hit(self) -> bool:
        """Whether no step at all was served from cache."""
        return self.after.missed_all(range(len(self.after.steps)), but_workdir=False)

    @cached_property
    def builder_is_empty(self) -> bool:
        """Whether the builder had nothing at all: every step missed and base images had to be fetched again."""
        if self.before is None or not self.nothing_hit:
            return False
        return self.after.fetched_bases and not self.bases_changed

    @cached_property
    def bases_changed(self) -> bool:
        """Whether any base image has another digest than before, or is none of those before: it had to be fetched."""
        if self.before is None:
            return False
        old = {(b.reference, b.platform): b for b in self.before.build.base_images}
        pairs = [(old.get((b.reference, b.platform)), b) for b in self.after.build.base_images]
        return any(was is None or is_moved(was, now) for was, now in pairs)

    @cached_property
    def lost_everything(self) -> bool:
        """Whether nothing hit, and a WORKDIR that missed on the same base proves that the cache is gone."""
        if self.before is None or not self.after.is_buildkit or not self.nothing_hit:
            return False
        workdirs = [p for p, step in enumerate(self.after.steps) if step.instruction == "WORKDIR" and is_missed(step)]
        return any(Pair(self, position).is_lost_workdir for position in workdirs)

    def context_bytes(self, name: str | None) -> tuple[int | None, int | None]:
        """Return what was sent of the build context, or of a named one: before, now."""
        sides = (self.before, self.after)
        if name is not None:
            sizes = [side.named_contexts.get(name) if side is not None else None for side in sides]
        else:
            sizes = [side.build.context_bytes if side is not None else None for side in sides]
        return sizes[0], sizes[1]

    def context_grew(self, name: str | None) -> bool:
        """Whether BuildKit had to send more of a context than before: files changed that it had a copy of.

        Where nothing hit it proves nothing: who prunes the cache of Docker's own builder keeps the base images, but
        loses the copy of the context.
        """
        old, new = self.context_bytes(name)
        if self.runners is not None or self.nothing_hit:
            return False  # another builder lacks what this one never sent it
        # The classic builder and buildah print the size of the whole context, which says little about one file.
        return self.after.is_buildkit and old is not None and new is not None and new > old

    @cached_property
    def dockerfile_size_changed(self) -> bool | None:
        """Whether the builder read a Dockerfile of another size; None where the logs do not tell."""
        if self.before is None or self.before.dockerfile_bytes is None or self.after.dockerfile_bytes is None:
            return None
        return self.before.dockerfile_bytes != self.after.dockerfile_bytes

    @cached_property
    def ends_elsewhere(self) -> bool:
        """Whether the two builds have no stage in common that both print last: they may have had other targets."""
        if self.before is None or not self.after.is_buildkit:
            return False
        return not (self.before.last_stages & self.after.last_stages)

    @property
    def runners(self) -> tuple[str, str] | None:
        """The machines that the two builds ran on, where these are known and differ."""
        old, new = self.evidence.runner_before, self.evidence.runner_after
        return (old, new) if old and new and old != new else None

    def context_of(self, target: str | None) -> str:
        """Return the folder of a target's build context within the repository."""
        contexts = self.evidence.contexts
        if (target or "") in contexts:
            return contexts[target or ""]
        baked = self.after.bake.get(target or "")
        written = baked.context if baked is not None else None
        if written and "://" not in written and "${" not in written:
            return written
        return contexts.get("", self._context_of_command or ".")

    @cached_property
    def _context_of_command(self) -> str | None:
        """The context that the command names, where changed files lie below it; else their paths begin in it."""
        invocation = self.after.invocation
        folder = invocation.context if invocation is not None else None
        if not folder or folder.startswith(("/", "-", "..")) or "://" in folder or "$" in folder:
            return None
        files = (self.evidence.changed_files or ())[:MAX_CHANGED_FILES]
        return folder if any(relative_to(folder, file.path) is not None for file in files) else None


class Pair:
    """A missed step of a build, the same instruction in its baseline, and the evidence about both."""

    def __init__(self, background: Background, position: int) -> None:
        self.background = background
        self.position = position
        self.after = background.after
        self.before = background.before
        self.step: Step = background.after.steps[position]
        self.match: int | None = background.matches[position]
        self.is_buildkit = background.after.is_buildkit

    @cached_property
    def keyword(self) -> str | None:
        """The instruction that it is; of a trigger of the base (`ONBUILD COPY`) the one that it runs."""
        if self.is_buildkit and self.step.instruction == _TRIGGER.strip():
            return self.step.text.removeprefix(_TRIGGER).split(" ", 1)[0].upper()
        return self.step.instruction

    @property
    def counterpart(self) -> Step | None:
        """The same instruction in the baseline."""
        return self.before.steps[self.match] if self.before is not None and self.match is not None else None

    @cached_property
    def has_same_text(self) -> bool:
        """Whether the baseline has this instruction word for word."""
        return self.counterpart is not None and normalize(self.counterpart.text) == normalize(self.step.text)

    @cached_property
    def is_shown_elsewhere(self) -> bool:
        """Whether the baseline prints its very text under another bake target: shared steps change their names."""
        if self.before is None or self.step.target is None:
            return False
        text = normalize(self.step.text)
        return any(
            step.target != self.step.target and step.index == self.step.index and normalize(step.text) == text
            for step in self.before.steps
        )

    @cached_property
    def has_same_definition(self) -> bool:
        """Whether both logs print the same vertex digest.

        BuildKit hashes everything that a step is asked to do into it, and what its inputs are asked to do: commands,
        variables and arguments, the order, the reference of the base. Contents of files and `--no-cache` are not in it.
        """
        mine = self.step.digest
        return mine is not None and self.counterpart is not None and self.counterpart.digest == mine

    @cached_property
    def has_same_place(self) -> bool:
        """Whether the steps above it are the same in number and text, as far as both logs print them."""
        if self.before is None or self.match is None or self.counterpart is None:
            return False
        if self.is_shown_elsewhere:
            return True
        mine = self._lines_above(self.after, self.position)
        theirs = self._lines_above(self.before, self.match)
        if self.is_buildkit and self.step.index != self.counterpart.index:
            return False
        if not self.is_buildkit and len(mine) != len(theirs):
            return False
        return all(text == theirs.get(index, text) for index, text in mine.items())

    @staticmethod
    def _lines_above(side: Side, position: int) -> dict[int, str]:
        chain = side.lineage.chains[position]
        step = side.steps[position]
        above = [p for p in side.chain_positions(chain) if (side.steps[p].index or 0) < (step.index or 0)]
        first = 0
        if not side.is_buildkit and above:
            # The classic builder counts over the whole file; here only the place within the stage matters.
            first = min(side.steps[p].index or 0 for p in above) - 1
        return {
            (side.steps[p].index or 0) - first: normalize(side.steps[p].text)
            for p in above
            if side.steps[p].instruction != "FROM"
        }

    @cached_property
    def stage_total_changed(self) -> bool:
        """Whether its stage has more or fewer steps than before."""
        return self.counterpart is not None and self.counterpart.total != self.step.total

    @cached_property
    def instruction(self) -> Instruction | None:
        """The line of the later Dockerfile that it comes from."""
        return self.after.instruction(self.position)

    @cached_property
    def instruction_before(self) -> Instruction | None:
        """The line of the earlier Dockerfile: that of its counterpart, else the very same line of the same stage."""
        if self.before is None:
            return None
        if self.match is not None and (found := self.before.instruction(self.match)) is not None:
            return found
        dockerfile = self.before.dockerfile(self.step.target)
        if dockerfile is None or self.instruction is None:
            return None
        mine = self.after.dockerfile(self.step.target)
        stage = mine.stages[self.instruction.stage] if mine and self.instruction.stage is not None else None
        same = dockerfile.find_stage(stage.printed_name) if stage is not None else None
        lines = same.instructions if same is not None else ()
        return _only(i for i in lines if normalize(i.text) == normalize(self.instruction.text))

    @cached_property
    def scope(self) -> Scope:
        """ARG, ENV, SHELL and USER as they were in force for it; empty where the Dockerfile is not known."""
        return self.after.scope(self.position, self.instruction) if self.instruction is not None else Scope()

    @cached_property
    def scope_before(self) -> Scope:
        """The same in the baseline."""
        if self.before is None or self.instruction_before is None:
            return Scope()
        position = self.match if self.match is not None else -1
        if position < 0:
            dockerfile = self.before.dockerfile(self.step.target)
            given = self.before.arguments(self.step.target)
            return dockerfile.scope_at(self.instruction_before, given) if dockerfile is not None else Scope()
        return self.before.scope(position, self.instruction_before)

    @cached_property
    def has_both_dockerfiles(self) -> bool:
        """Whether its Dockerfile is known for both builds."""
        return (
            self.before is not None
            and self.before.dockerfile(self.step.target) is not None
            and self.after.dockerfile(self.step.target) is not None
        )

    @cached_property
    def dockerfile_is_same(self) -> bool:
        """Whether both Dockerfiles are known and equal."""
        if self.before is None or not self.has_both_dockerfiles:
            return False
        old, new = self.before.dockerfile(self.step.target), self.after.dockerfile(self.step.target)
        return old is not None and new is not None and old.text == new.text

    @cached_property
    def sources(self) -> list[str]:
        """The paths of the context that it reads, as the builder printed them, variables put in."""
        printed = _printed_instruction(self.step)
        if self.named_context is not None and printed is not None:
            return _sources_in(printed, self.named_context)
        found = context_sources(printed) if printed is not None else []
        written = self.instruction
        is_raw = not self.is_buildkit and any("$" in source for source in found)
        if written is not None and (self.keyword == "RUN" or written.arguments.startswith("[") or is_raw):
            # A RUN prints no values of its mounts, other builders none at all; a list is printed without its quotes.
            return [self.scope.expand(source) for source in context_sources(written)]
        return found

    @cached_property
    def has_guessed_sources(self) -> bool:
        """Whether its sources hold an ARG that no log prints: without the command line its default was put in."""
        written = self.instruction
        is_printed = self.is_buildkit and self.keyword != "RUN"
        if written is None or is_printed or self.after.arguments(self.step.target) is not None:
            return False
        return any(set(variables(source)) & self.scope.declared for source in context_sources(written))

    @cached_property
    def named_context(self) -> str | None:
        """The folder given by `--build-context` that it copies or mounts from, by its name."""
        return next((name for name in self._images if name in self.after.named_contexts), None)

    @cached_property
    def reads_context(self) -> bool:
        """Whether it copies or mounts files of the build context."""
        return bool(self.sources)

    @cached_property
    def changed_files(self) -> tuple[str, ...] | None:
        """The changed files that it really reads, relative to the context; None where they cannot be told."""
        changed = self.background.evidence.changed_files
        if changed is None:
            return None
        new, old = self.background.ignore_after, self.background.ignore_before
        folder: str | None = self.background.context_of(self.step.target)
        if self.named_context is not None:
            # It has a `.dockerignore` of its own; where the context lies only the command line tells.
            new = old = IgnoreRules()
            folder = self.after.folder_of_context(self.named_context)
        if new is None or folder is None:
            return None
        found = []
        for file in changed[:MAX_CHANGED_FILES]:
            path = relative_to(folder, file.path)
            if path is None or not self._reads(path):
                continue
            was_out = old is not None and old.is_ignored(path)
            is_out = new.is_ignored(path)
            if is_out and (was_out or old is None or file.status == "A"):
                continue
            if file.status == "D" and was_out:
                continue
            found.append(path if self.named_context is None else file.path)
            if was_out != is_out and old is not None:
                found.append(".dockerignore")
        return tuple(dict.fromkeys(found))

    @cached_property
    def has_unread_changes(self) -> bool:
        """Whether the commit changed a file of the context that no line of its Dockerfile names."""
        dockerfile = self.after.dockerfile(self.step.target)
        rules = self.background.ignore_after
        if dockerfile is None or rules is None:
            return False
        lines = [i for i in dockerfile.instructions if context_sources(i)]
        folder = self.background.context_of(self.step.target)
        for file in (self.background.evidence.changed_files or ())[:MAX_CHANGED_FILES]:
            path = relative_to(folder, file.path)
            if path is None or rules.is_ignored(path) or is_dockerfile(path):
                continue
            if not any(reads(line, path) for line in lines):
                return True
        return False

    def _reads(self, path: str) -> bool:
        return any(covers(source, path) for source in self.sources) and not any(
            matches_below(pattern, path) for pattern in self._excluded
        )

    @cached_property
    def _excluded(self) -> list[str]:
        instruction = self.instruction or _printed_instruction(self.step)
        return [] if instruction is None else [e for e in instruction.flag_values("exclude") if e]

    @cached_property
    def is_hit_elsewhere(self) -> bool:
        """Whether the same step was also served from cache in this build."""
        mine = (self.step.stage, self.step.index, self.step.text)
        return any(s.cached and (s.stage, s.index, s.text) == mine for s in self.after.steps)

    @cached_property
    def is_lost_workdir(self) -> bool:
        """Whether it is a WORKDIR of BuildKit on the same base as before: nothing but a lost entry makes it miss."""
        is_same = self.has_same_text and self.has_same_place
        return self.is_buildkit and self.keyword == "WORKDIR" and self.stands_on_known_base and is_same

    @cached_property
    def is_first_of_stage(self) -> bool:
        """Whether all steps of its stage missed (WORKDIR left out), so that a filter on the stage could be why."""
        chain = self.after.lineage.chains[self.position]
        return self.after.missed_all(self.after.chain_positions(chain), but_workdir=self.is_buildkit)

    @cached_property
    def base_images(self) -> list[BaseImage]:
        """The images right below it: those of its FROM, and those it copies or mounts from."""
        steps = self.after.steps
        known = {(image.reference, image.platform): image for image in self.after.build.base_images}
        froms = [
            _image_of(steps[p]) for p in self.after.lineage.parents[self.position] if steps[p].instruction == "FROM"
        ]
        found = [known.get((image.reference, image.platform), image) for image in froms]
        stage = self._dockerfile_stage
        if stage is not None and len(found) > 1:
            # Several stages print no FROM of their own: the Dockerfile says which image is this one's.
            named = [image for image in found if is_same_image(image.reference, stage)]
            found = named or found
        others = self.after.build.base_images
        return found + [b for b in others if any(is_same_image(b.reference, name) for name in self._images)]

    @property
    def _dockerfile_stage(self) -> str | None:
        dockerfile = self.after.dockerfile(self.step.target)
        if dockerfile is None or self.instruction is None or self.instruction.stage is None:
            return None
        stage = dockerfile.stages[self.instruction.stage]
        return dockerfile.base_reference(stage, self.after.arguments(self.step.target))

    @property
    def _images(self) -> list[str]:
        printed = _printed_instruction(self.step)
        if printed is None:
            return []
        found = [value for value in printed.flag_values("from") if value]
        return found + [options["from"] for options in mounts(printed) if options.get("from")]

    @cached_property
    def moved_bases(self) -> list[tuple[BaseImage, BaseImage]]:
        """The images right below it that had another digest in the baseline: before, after."""
        return [(was, now) for was, now in self._other_images if self._is_one_reference(now)]

    @cached_property
    def untold_bases(self) -> list[BaseImage]:
        """The images right below it that are others than before under a name with an ARG in it.

        The classic builder prints FROM as written: whether the tag moved or the ARG has another value is not known.
        """
        return [now for _, now in self._other_images if self._is_one_reference(now) is None]

    @cached_property
    def _other_images(self) -> list[tuple[BaseImage, BaseImage]]:
        if self.before is None:
            return []
        old = {(b.reference, b.platform): b for b in self.before.build.base_images}
        pairs = [(old.get((b.reference, b.platform)), b) for b in self.base_images]
        return [(was, now) for was, now in pairs if was is not None and is_moved(was, now)]

    def _is_one_reference(self, image: BaseImage) -> bool | None:
        """Whether what FROM names means one reference in both builds; None where an ARG in it is not known."""
        if "$" not in image.reference:
            return True
        if self.before is None:
            return None
        target = self.step.target
        was, is_now = self.before.reference(image.reference, target), self.after.reference(image.reference, target)
        return None if was is None or is_now is None else was == is_now

    @cached_property
    def moved_base(self) -> tuple[BaseImage, BaseImage] | None:
        """The image that moved below it, where that is beyond doubt."""
        if not self.moved_bases or (len(self.moved_bases) < len(self.base_images) and not self._images):
            return None
        return self.moved_bases[0]

    @cached_property
    def has_new_base_reference(self) -> bool:
        """Whether the FROM right below it names an image that the baseline did not stand on."""
        if self.before is None or not self.base_images:
            return False
        if any(self._is_one_reference(now) is False for _, now in self._other_images):
            return True
        old = {image.reference for image in self.before.build.base_images}
        return not any(image.reference in old for image in self.base_images)

    @property
    def stands_on_another_base(self) -> bool:
        """Whether the image right below it has another digest or another name."""
        return bool(self.moved_bases or self.untold_bases) or self.has_new_base_reference

    @property
    def stands_on_known_base(self) -> bool:
        """Whether the image right below it is known by digest and is the same as before."""
        images = self.base_images
        return bool(images) and not self.stands_on_another_base and all(image.digest or image.id for image in images)

    @cached_property
    def base_is_pinned(self) -> bool:
        """Whether FROM itself names the digest, so that another one is an edit."""
        references = [image.reference for image in self.base_images]
        pinned = [
            step.text
            for step in self.after.steps
            if step.kind == StepKind.INTERNAL and "load metadata for " in step.text and "@sha256:" in step.text
        ]
        if any(reference in text for reference in references for text in pinned):
            return True
        dockerfile = self.after.dockerfile(self.step.target)
        bases = [stage.base for stage in dockerfile.stages] if dockerfile is not None else []
        return any(
            "@sha256:" in base and is_same_image(r, base.partition("@")[0]) for base in bases for r in references
        )

    @cached_property
    def is_below_base(self) -> bool:
        """Whether no other step of a stage stands between it and an image."""
        steps = self.after.steps
        return all(steps[parent].instruction == "FROM" for parent in self.after.lineage.parents[self.position])

    @cached_property
    def arguments_of_base(self) -> frozenset[str]:
        """The ARGs that its stage's FROM names."""
        dockerfile = self.after.dockerfile(self.step.target)
        if dockerfile is None or self.instruction is None or self.instruction.stage is None:
            return frozenset()
        return frozenset(variables(dockerfile.stages[self.instruction.stage].base))

    @cached_property
    def arguments_of_stages(self) -> frozenset[str]:
        """The ARGs by which any FROM of its Dockerfile picks an image or a stage."""
        dockerfile = self.after.dockerfile(self.step.target)
        stages = dockerfile.stages if dockerfile is not None else ()
        return frozenset(name for stage in stages for name in variables(stage.base))

    @cached_property
    def is_new_stage(self) -> bool:
        """Whether the baseline built nothing of its stage."""
        place = (self.step.target, self.step.platform, self.step.stage)
        return self.before is not None and self.counterpart is None and place not in self.before.totals

    @cached_property
    def stage_is_longer(self) -> bool:
        """Whether its stage has more or fewer steps than the baseline's stage of that name."""
        if self.before is None:
            return False
        totals = self.before.totals.get((self.step.target, self.step.platform, self.step.stage))
        return bool(totals) and self.step.total not in (totals or ())

    @cached_property
    def is_remote_add(self) -> bool:
        """Whether it fetches from an address."""
        printed = _printed_instruction(self.step)
        return self.keyword == "ADD" and printed is not None and "://" in printed.arguments

    @cached_property
    def changed_files_above(self) -> bool:
        """Whether a step above it that hit reads files which the commit changed."""
        lineage = self.after.lineage
        seen: set[int] = set()
        waiting = list(lineage.parents[self.position])
        while waiting:
            position = waiting.pop()
            if position in seen:
                continue
            seen.add(position)
            waiting += lineage.parents[position]
            if self.after.steps[position].cached and Pair(self.background, position).changed_files:
                return True
        return False

    @cached_property
    def arguments_printed_below(self) -> frozenset[str]:
        """The ARGs that lower lines of its stage name, lines that are the same but printed otherwise than before."""
        if not self.dockerfile_is_same or not self.is_buildkit:
            return frozenset()
        found: set[str] = set()
        for position in self.after.chain_positions(self.after.lineage.chains[self.position]):
            below = Pair(self.background, position)
            if below.counterpart is not None and not below.has_same_text and below.instruction is not None:
                found |= set(variables(below.instruction.text)) & below.scope.declared
        return frozenset(found)

    @cached_property
    def may_be_named_unignored(self) -> bool:
        """Whether it reads changed files unless a `.dockerignore` that is not known keeps them out."""
        changed = self.background.evidence.changed_files
        if changed is None or self.background.ignore_after is not None or self.named_context is not None:
            return False
        folder = self.background.context_of(self.step.target)
        paths = (relative_to(folder, file.path) for file in changed[:MAX_CHANGED_FILES])
        return any(path is not None and self._reads(path) for path in paths)


def _sources_in(printed: Instruction, context: str) -> list[str]:
    """List the paths of a named context that a line reads."""
    if printed.keyword == "RUN":
        return [m.get("source", ".") for m in mounts(printed) if m["type"] == "bind" and m.get("from") == context]
    return printed.words[:-1]


def is_dockerfile(path: str) -> bool:
    """Tell whether a path is by its name a Dockerfile or its ignore file, which builders are always sent."""
    name = path.rpartition("/")[2].lower()
    return "dockerfile" in name or "containerfile" in name or name == ".dockerignore"


def is_moved(before: BaseImage, after: BaseImage) -> bool:
    """Tell whether one reference stands for another image now: by digests, else by the ids that the builder prints."""
    if before.digest and after.digest:
        return before.digest != after.digest
    return bool(before.id and after.id and before.id != after.id)


def _image_of(step: Step) -> BaseImage:
    reference, _, digest = step.text.partition(" ")[2].split(" ")[0].partition("@")
    platform = step.platform.partition("->")[0] if step.platform else None
    return BaseImage(reference=reference, digest=digest or None, platform=platform)


def is_same_image(printed: str, written: str) -> bool:
    """Tell whether `docker.io/library/node:20` as printed is `node:20` as written."""
    written = written.partition("@")[0]
    if ":" not in written.rpartition("/")[2]:
        written += ":latest"
    return printed == written or printed in (f"docker.io/{written}", f"docker.io/library/{written}")


def _printed_instruction(step: Step) -> Instruction | None:
    """Read the text of a step as the Dockerfile line that it is; of a trigger as the line that it runs."""
    found = read_dockerfile(step.text.split("\n", 1)[0].removeprefix(_TRIGGER)).instructions
    return found[0] if found else None


def _same_keyword(lines: Sequence[Instruction], index: int, step: Step) -> Instruction | None:
    if not 0 <= index < len(lines):
        return None
    return lines[index] if lines[index].keyword == step.instruction else None


def _only(found: Iterable[Instruction]) -> Instruction | None:
    """Return the one instruction found; None for none or several."""
    every = list(found)
    return every[0] if len(every) == 1 else None
