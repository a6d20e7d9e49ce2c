"""Puts buildah's builds together from its headlines: numbered per stage, stages one after another or side by side."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cachescope.formats._buildkit import STEP_CAP
from cachescope.formats._neighbours import ESCAPES, is_elision
from cachescope.formats.base import FoundBuild
from cachescope.instructions import is_cacheable, keyword_of
from cachescope.model import BaseImage, Build, BuiltImage, Outcome, Step, StepKind, StepStatus
from cachescope.prefixes._stamps import elapsed

MAX_STEPS = STEP_CAP
MAX_TEXT_BYTES = 24 * 1024 * 1024
LIVE_BUILDS = 8

_IMAGE_ID = re.compile(rb"[0-9a-f]{10,64}")
_FROM_CACHE = re.compile(rb"Using cache [0-9a-f]{64}|Cache pulled from remote .*", re.DOTALL)
_WARNING_CAP = 20
_FROM = re.compile(r"(?is)FROM\s+(?:--platform=\S+\s+)?(\S+)(?:\s+AS\s+(\S+))?\s*")
_AT_STEP = re.compile(r'building at STEP "(.{0,65536})": ', re.DOTALL)
_OWN_LINE = re.compile(rb"(?:time=\"[^\"\n]{1,40}\" level=|WARN\[|--> (?:Pushing cache|Cache pulled))")


class Place(NamedTuple):
    """Where a line stands, and when the CI received it."""

    line: int
    ordinal: int
    """The line among those of the same program."""
    at: float | None


@dataclass(slots=True)
class Headline:
    """`[2/2] STEP 3/11: ENV A=b`; a build for several platforms puts the platform in front."""

    number: int
    total: int | None
    text: str
    place: Place
    platform: str | None = None
    stage: int | None = None
    stages: int | None = None

    @property
    def chain(self) -> "_ChainKey":
        """The stage it belongs to."""
        return self.platform, self.stage


_ChainKey = tuple[str | None, int | None]


@dataclass(slots=True)
class _Step:
    head: Headline
    keyword: str
    stage: str | None
    cached: bool | None = None
    """None as long as the line below the headline is unknown."""
    status: StepStatus = StepStatus.RUNNING
    duration: float | None = None
    started_seconds: float | None = None
    error: str | None = None
    output_lines: int = 0
    image: bytes = b""
    """What it was in the cache."""


@dataclass(slots=True)
class _OpenBuild:
    line: int
    last_line: int
    started_at: float | None
    stages: int | None
    steps: list[_Step] = field(default_factory=list)
    chains: dict[_ChainKey, _Step] = field(default_factory=dict)
    has_layers: bool = False
    """The builder tells an image id after each step; without that, nothing stands above a headline."""
    outcome: Outcome = Outcome.INCOMPLETE
    error: str | None = None
    ended_at: float | None = None
    committed_at: int | None = None
    """The ordinal of the COMMIT line that is being carried out."""
    commit_name: str | None = None
    image_id: str | None = None
    tags: list[str] = field(default_factory=list)
    images: list[BuiltImage] = field(default_factory=list)
    base_images: list[BaseImage] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What is missing from the log."""
    is_parallel: bool = False
    """Stages are built side by side: a line belongs to one of several."""
    confirmed: bool = True
    doubtful: Headline | None = None


def arrow_of(line: bytes) -> bytes | None:
    """Return what stands behind buildah's arrow at the end of a line, None where there is none."""
    at = line.rfind(b"--> ")
    if at < 0 or line[at - 1 : at] == b"-":  # the classic builder's arrow has one dash more
        return None
    rest = line[at + 4 :]
    if b"\x1b" in rest:
        rest = ESCAPES.sub(b"", rest)
    return rest.strip()


class BuildahBuilds:
    """Collects the builds of one program's output."""

    def __init__(self) -> None:
        self._live: list[_OpenBuild] = []
        self._done: list[FoundBuild] = []
        self._step_count = 0
        self._text_bytes = 0
        self._is_full = False
        self._warnings: list[str] = []

    @property
    def awaits_line(self) -> bool:
        """The line below the last headline was not seen yet."""
        return bool(self._live) and bool(self._live[-1].steps) and self._live[-1].steps[-1].cached is None

    @property
    def is_inside(self) -> bool:
        """A step is at work: what is printed belongs to it."""
        return bool(self._live) and self._live[-1].outcome is Outcome.INCOMPLETE and not self._is_full

    @property
    def is_committing(self) -> bool:
        """The image is being written: the builder says more about it."""
        return bool(self._live) and self._live[-1].committed_at is not None

    @property
    def reads_all(self) -> bool:
        """The builder itself speaks: each of the next lines may be its own."""
        return self.is_inside and (self.is_committing or self.awaits_line or not self.runs_command)

    @property
    def runs_command(self) -> bool:
        """The last step is a RUN at work: what is printed is not the builder's."""
        if not self._live or not self._live[-1].steps:
            return False
        step = self._live[-1].steps[-1]
        return step.keyword == "RUN" and step.status is StepStatus.RUNNING and not step.cached

    def ends_with(self, image: bytes) -> bool:
        """Tell whether an id alone is that of the last step, found in the cache: up to 1.18 no COMMIT stands above."""
        if not self.is_inside or not self._live[-1].steps:
            return False
        step = self._live[-1].steps[-1]
        return bool(step.cached) and step.head.total is None and step.image == image

    def headline(self, head: Headline, above: Sequence[bytes]) -> bool:
        """Take a headline if it can be one; tell whether it was. `above` are the lines over it, the nearest last."""
        if self._is_full:
            return False
        if head.text.startswith("COMMIT") and head.total is None:  # buildah up to 1.18 numbers it
            return self._commit_as_step(head, is_elided=bool(above) and is_elision(above[-1]))
        keyword = keyword_of(head.text)
        if keyword is None or (head.total is not None and head.number > head.total):
            return False
        return (
            self._continue(head, keyword, above)
            or self._start(head, keyword)
            or self._continue_after_gap(head, keyword, above)
            or self._start_in_the_middle(head, keyword, above)
        )

    def below_headline(self, line: bytes) -> None:
        """Take the first line below the last headline that is not blank."""
        step = self._live[-1].steps[-1]
        arrow = arrow_of(line)
        step.cached = arrow is not None and step.keyword != "FROM" and _FROM_CACHE.fullmatch(arrow) is not None
        if step.cached and arrow is not None:
            step.image = arrow[-64:]

    def commit(self, name: str, place: Place, *, is_elided: bool) -> None:
        """Take `COMMIT name`: the steps are over, the image is written; lines above it may have been left out."""
        if self._live and self._live[-1].outcome is Outcome.INCOMPLETE and self._live[-1].steps:
            build = self._live[-1]
            step = build.steps[-1]
            if step.head.total is not None and step.head.number != step.head.total:
                if not is_elided:
                    return  # output
                self._note_gap_before_end(build)
            build.committed_at, build.commit_name = place.ordinal, name or None
            build.last_line = place.line
            step.output_lines = _lines_between(step, place, ())

    def tagged(self, tag: str, place: Place) -> None:
        """Take `Successfully tagged name` below a COMMIT."""
        build = self._live[-1]
        build.tags.append(tag)
        build.last_line = place.line

    def written(self, image: str, place: Place) -> None:
        """Take the full id that ends a build, or a platform of it."""
        build = self._live[-1]
        build.image_id = image
        for step in build.chains.values():
            if step.status is StepStatus.RUNNING:
                lines = step.output_lines
                self._finish(step, place if step is build.steps[-1] else place._replace(at=None), ())
                step.output_lines = lines
        build.committed_at, build.confirmed, build.last_line = None, True, place.line
        tags = build.tags or ([build.commit_name] if build.commit_name else [])
        build.images.append(BuiltImage(id=image, tags=tuple(tags)))
        build.tags = []
        if len(build.images) >= len({platform for platform, _ in build.chains}):
            build.outcome, build.error, build.ended_at = Outcome.SUCCEEDED, None, place.at

    def warn(self, text: str) -> None:
        """Take a warning of the builder."""
        if self.is_inside and len(self._live[-1].warnings) < 50 and text not in self._live[-1].warnings:
            self._live[-1].warnings.append(text)

    def fail(self, message: str, place: Place, *, is_sure: bool) -> None:
        """Take the error that ends a build; undone if the build goes on."""
        for build in reversed(self._live):
            if build.outcome is Outcome.SUCCEEDED or not build.steps:
                continue
            if build.outcome is Outcome.FAILED and not is_sure:
                return
            failed = build.steps[-1]
            named = _AT_STEP.search(message)
            if named is not None:
                open_steps = [step for step in build.chains.values() if step.head.text.strip() == named[1].strip()]
                failed = open_steps[-1] if open_steps else failed
            build.outcome, build.error, build.ended_at, build.confirmed = Outcome.FAILED, message, place.at, True
            build.last_line, build.committed_at = place.line, None
            self._finish(failed, place, ())
            failed.status, failed.cached, failed.error = StepStatus.FAILED, False, message
            return

    def fail_without_steps(self, message: str, place: Place) -> None:
        """Take an error that comes before any step: the Dockerfile cannot be read."""
        if not self.is_inside and len(self._done) < MAX_STEPS:
            build = Build(builder="buildah", format="buildah", outcome=Outcome.FAILED, error=message, line=place.line)
            self._done.append(FoundBuild(build, place.line, place.line))

    def found(self, output: bytes, last_line: int) -> list[FoundBuild]:
        """Return the builds so far, the open ones as incomplete; `output` is what the log ends with.

        A RUN at work reaches up to the last line that was read.
        """
        if self.is_inside and self.runs_command:
            self._live[-1].last_line = max(self._live[-1].last_line, last_line)
        live = [self._freeze(build, output if build is self._live[-1] else b"") for build in self._live]
        found = self._done + [found for found in live if found is not None]
        return sorted(found, key=lambda build: build.first_line)

    def warnings(self) -> list[str]:
        """Return what was cut or left out."""
        open_builds = [build for build in self._live if build.confirmed and build.steps]
        notes = [note for build in open_builds for note in build.notes]
        if open_builds and open_builds[-1].outcome is Outcome.INCOMPLETE:
            notes.append(f"The log ends before the build that begins at line {open_builds[-1].line} does.")
        return list(dict.fromkeys([*self._warnings, *notes]))[:_WARNING_CAP]

    def _continue(self, head: Headline, keyword: str, above: Sequence[bytes]) -> bool:
        for index in range(len(self._live) - 1, -1, -1):
            build = self._live[index]
            is_newest = index == len(self._live) - 1
            if build.stages != head.stages:
                continue
            last = build.chains.get(head.chain)
            if last is None:
                is_beside = head.stages is not None or head.platform is not None
                is_next = head.number == 1 and head.total is not None and is_beside and keyword == "FROM"
                if not is_next or build.outcome is not Outcome.INCOMPLETE:
                    continue
            else:
                before = last.head
                if before.total != head.total:
                    continue
                if head.number == before.number and head.text == before.text and _follows(head, before):
                    before.place = before.place._replace(ordinal=head.place.ordinal)  # the same line twice
                    return True
                if head.number != before.number + 1:
                    if build.doubtful is None or not _is_next(head, build.doubtful) or not _ends_step(above):
                        continue
                    self._add(build, build.doubtful, keyword_of(build.doubtful.text) or "", ())
                elif not is_newest and not _ends_step(above):
                    continue
                elif last.keyword == "RUN" and build.has_layers and not last.cached and not _ends_step(above):
                    build.doubtful = head
                    return True
            del self._live[index + 1 :]
            self._add(build, head, keyword, above)
            return True
        return False

    def _continue_after_gap(self, head: Headline, keyword: str, above: Sequence[bytes]) -> bool:
        if not self._live or not _ends_step(above):
            return False
        build = self._live[-1]
        last = build.chains.get(head.chain)
        if build.outcome is not Outcome.INCOMPLETE or build.stages != head.stages or head.total is None:
            return False
        if last is None:
            if head.stages is None or not 1 <= (head.stage or 0) <= head.stages:
                return False
            missed = f"step {head.number} of stage {head.stage}"
        elif last.head.total != head.total or head.number <= last.head.number:
            return False
        else:
            missed = f"step {last.head.number} and step {head.number} of {head.total}"
            _leave_before_gap(last)
        build.notes.append(f"Lines are missing {'before' if last is None else 'between'} {missed}.")
        self._append(build, head, keyword)
        return True

    def _start(self, head: Headline, keyword: str) -> bool:
        # ARG may stand before the first FROM, but buildah prints no step for it.
        if head.number != 1 or keyword != "FROM":
            return False
        if self._live and self._live[-1].outcome is Outcome.INCOMPLETE and self.runs_command:
            return True  # output of the RUN: a build that was interrupted says so
        self._begin(head, keyword)
        return True

    def _start_in_the_middle(self, head: Headline, keyword: str, above: Sequence[bytes]) -> bool:
        if any(build.outcome is Outcome.INCOMPLETE and build.confirmed for build in self._live):
            return False
        self._begin(head, keyword)
        build = self._live[-1]
        build.started_at = None
        build.confirmed = _ends_step(above)
        build.notes.append(
            f"The log begins in the middle of the build at line {build.line}: steps before {head.number} are missing."
        )
        return True

    def _note_gap_before_end(self, build: _OpenBuild) -> None:
        last = build.steps[-1]
        build.notes.append(f"Lines are missing between step {last.head.number} and the end of the build.")
        _leave_before_gap(last)

    def _commit_as_step(self, head: Headline, *, is_elided: bool) -> bool:
        if not self._live or not self._live[-1].steps:
            return False
        build = self._live[-1]
        if head.number != build.steps[-1].head.number + 1:
            if not is_elided or head.number <= build.steps[-1].head.number:
                return False
            self._note_gap_before_end(build)
        build.committed_at, build.commit_name = head.place.ordinal, head.text[6:].strip() or None
        build.last_line = head.place.line
        return True

    def _begin(self, head: Headline, keyword: str) -> None:
        if len(self._live) >= LIVE_BUILDS:
            oldest = self._live.pop(0)
            frozen = self._freeze(oldest, b"")
            if frozen is not None:
                self._done.append(frozen)
                for note in oldest.notes:
                    self._warn(note)
        build = _OpenBuild(head.place.line, head.place.line, head.place.at, head.stages)
        self._live.append(build)
        self._append(build, head, keyword)

    def _add(self, build: _OpenBuild, head: Headline, keyword: str, above: Sequence[bytes]) -> None:
        build.outcome, build.error, build.ended_at = Outcome.INCOMPLETE, None, None
        build.doubtful, build.confirmed, build.committed_at = None, True, None
        own = build.chains.get(head.chain)
        latest = build.steps[-1]
        build.is_parallel = build.is_parallel or (own is not latest and latest.head.number != latest.head.total)
        if own is not None:
            tells_end = len(above) > 1 and _is_image(arrow_of(above[-1]))
            if build.is_parallel and tells_end and own.keyword != "FROM":
                own.cached = _FROM_CACHE.fullmatch(arrow_of(above[-2]) or b"") is not None
            self._finish(own, head.place, above)
        elif latest.head.number == latest.head.total:
            self._finish(latest, head.place if not build.is_parallel else head.place._replace(at=None), above)
        if build.is_parallel:
            for step in build.chains.values():
                step.output_lines = 0
        if latest.keyword != "FROM" and above and _is_image(arrow_of(above[-1])):
            build.has_layers = True
        self._append(build, head, keyword)

    def _append(self, build: _OpenBuild, head: Headline, keyword: str) -> None:
        self._step_count += 1
        self._text_bytes += len(head.text)
        if self._step_count > MAX_STEPS or self._text_bytes > MAX_TEXT_BYTES:
            self._warn(
                f"The log holds more than {MAX_STEPS} steps or {MAX_TEXT_BYTES} bytes of instructions: "
                "the rest is not read."
            )
            self._is_full = True
            return
        before = build.chains.get(head.chain)
        stage = before.stage if before is not None else None
        if keyword == "FROM":
            stage = _begin_stage(build, head)
        step = _Step(head, keyword, stage)
        step.started_seconds = elapsed(build.started_at, head.place.at)
        build.steps.append(step)
        build.chains[head.chain] = step
        build.last_line = head.place.line

    def _finish(self, step: _Step, place: Place, above: Sequence[bytes]) -> None:
        if step.status not in (StepStatus.RUNNING, StepStatus.FAILED):
            return
        start = step.head.place
        step.output_lines = step.output_lines or _lines_between(step, place, above)
        step.status = StepStatus.CACHED if step.cached else StepStatus.DONE
        step.cached, step.error = bool(step.cached), None
        step.duration = elapsed(start.at, place.at)

    def _warn(self, text: str) -> None:
        if len(self._warnings) < 20 and text not in self._warnings:
            self._warnings.append(text)

    def _freeze(self, build: _OpenBuild, output: bytes) -> FoundBuild | None:
        if not build.confirmed or not build.steps:
            return None
        lines = [line for line in output.split(b"\n")[-8:] if line.strip()]
        is_ended = bool(lines) and _is_image(arrow_of(lines[-1]))
        return FoundBuild(
            Build(
                builder="buildah",
                format="buildah",
                outcome=build.outcome,
                error=build.error,
                started_at=build.started_at,
                duration_seconds=elapsed(build.started_at, build.ended_at),
                images=tuple(build.images),
                base_images=tuple(build.base_images),
                warnings=tuple(build.warnings),
                steps=tuple(
                    _frozen_step(step, build, is_ended=is_ended and step is build.steps[-1]) for step in build.steps
                ),
                line=build.line,
            ),
            build.line,
            build.last_line,
        )


def _frozen_step(step: _Step, build: _OpenBuild, *, is_ended: bool) -> Step:
    status, cached = step.status, step.cached
    if status is StepStatus.RUNNING:
        if cached and step.keyword != "FROM":
            status = StepStatus.CACHED
        elif build.outcome is Outcome.FAILED:
            status = StepStatus.CANCELED  # a stage beside the one that failed
        elif is_ended or build.committed_at is not None:
            status = StepStatus.DONE
        if cached is None and (step.keyword == "FROM" or status is not StepStatus.RUNNING):
            cached = False
    head = step.head
    return Step(
        kind=StepKind.INSTRUCTION,
        text=head.text,
        status=status,
        cached=cached,
        cacheable=is_cacheable("buildah", step.keyword),
        number=head.number,
        stage=step.stage,
        platform=head.platform,
        index=head.number,
        total=head.total,
        instruction=step.keyword,
        started_seconds=step.started_seconds,
        duration_seconds=step.duration,
        error=step.error,
        output_lines=step.output_lines,
        line=head.place.line,
    )


def _leave_before_gap(step: _Step) -> None:
    """Say what is known of a step whose end is missing from the log."""
    step.status = StepStatus.UNKNOWN if step.cached is None else StepStatus.DONE
    if step.cached:
        step.status = StepStatus.CACHED


def _lines_between(step: _Step, place: Place, above: Sequence[bytes]) -> int:
    """Return how many lines stand below a headline that are not the builder's own."""
    own = bool(step.cached) + (bool(above) and _is_image(arrow_of(above[-1])))
    return max(0, place.ordinal - step.head.place.ordinal - 1 - own)


def _begin_stage(build: _OpenBuild, head: Headline) -> str | None:
    match = _FROM.fullmatch(head.text)
    if match is None:
        return None
    known = {image.reference for image in build.base_images} | {step.stage for step in build.steps}
    if match[1] not in known and match[1] != "scratch":
        build.base_images.append(BaseImage(reference=match[1], platform=head.platform))
    return match[2]


def _is_image(arrow: bytes | None) -> bool:
    return arrow is not None and _IMAGE_ID.fullmatch(arrow) is not None


def _ends_step(above: Sequence[bytes]) -> bool:
    """Tell whether the lines over a headline are those that end a step: its image id, or the cache's."""
    for line in reversed(above):
        arrow = arrow_of(line)
        if arrow is not None:
            return _is_image(arrow) or arrow.startswith(b"Using cache ")
        if _OWN_LINE.search(line) is None:
            return False
    return False


def _is_next(head: Headline, before: Headline) -> bool:
    return head.chain == before.chain and head.total == before.total and head.number == before.number + 1


def _follows(head: Headline, before: Headline) -> bool:
    return head.place.ordinal == before.place.ordinal + 1
