"""Puts the builds of Docker's classic builder together from its headlines, arrows and closing lines.

Both ways in which that builder reaches us, the client's text and the Engine API's messages, say the same things in the
same order (github.com/moby/moby, builder/dockerfile/{builder,dispatchers,internals}.go):

    Step 4/9 : RUN npm ci
     ---> Using cache            or   ---> Running in 2acb0373723a … Removing intermediate container 2acb0373723a
     ---> 8e1edf7896fc
    Successfully built 8e1edf7896fc

A RUN may print any of these lines itself. A headline therefore counts only in sequence, and after a RUN only below the
line that ends a step; a whole build printed by a RUN is dropped when the build around it goes on.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from cachescope.formats._buildkit import STEP_CAP
from cachescope.formats._neighbours import ESCAPES, is_elision, visible
from cachescope.formats.base import FoundBuild
from cachescope.instructions import is_cacheable, keyword_of
from cachescope.model import BaseImage, Build, BuiltImage, Outcome, Step, StepDraft, StepKind, StepStatus
from cachescope.prefixes._stamps import elapsed
from cachescope.prefixes.base import Line

MAX_STEPS = STEP_CAP
MAX_TEXT_BYTES = 24 * 1024 * 1024
_WARNING_CAP = 20
_INCOMPLETE = Outcome.INCOMPLETE
"""Looked up once: the way through the enumeration's class is slow."""
_OUTPUT_CAP, _OUTPUT_HEAD, _OUTPUT_TAIL = 48 * 1024, 8 * 1024, 24 * 1024
LIVE_BUILDS = 16
"""How many of the last builds may still turn out to go on, or to be the output of one that does."""

_IMAGE_ID = re.compile(rb"(?:sha256:)?[0-9a-f]{12,64}")
_AS = re.compile(r"(?is)FROM\s+(?:--platform=\S+\s+)?(\S+)(?:\s+AS\s+(\S+))?\s*")
_PULL_DIGEST = re.compile(rb"Digest: (sha256:[0-9a-f]{64})")
# Up to 1.9 the command stands in brackets.
_COMMAND = re.compile(r"The command ['\"\[](.{0,65536})['\"\]] returned a non-zero code: \d{1,9}", re.DOTALL)
# Up to 17.05 each ONBUILD trigger has a headline of its own: `Step 1/1 : COPY . /app`.
_TRIGGERS = re.compile(rb"# Executing \d{1,3} build triggers?")

# What the daemon and the client say when a build fails, wherever it stands in a line's beginning.
_SURE_ERROR = re.compile(
    rb"(?:ERROR: )?(?:"
    rb"Service '[^'\n]{1,200}' failed to build ?:|(?:COPY|ADD) failed: |Error response from daemon: |"
    rb"OCI runtime create failed|failed to create (?:shim|task|endpoint|LLB)|error (?:creating|while creating) |"
    rb"container_linux\.go:|hcsshim::|Error processing tar file|failed to (?:register|export|copy files|commit)|"
    rb"Cannot connect to the Docker daemon|error during connect: |context canceled|"
    rb"unable to prepare context: |error checking context: |[Dd]ockerfile parse error|failed to build: |"
    rb"unable to find user |linux spec user: |Requested CPUs are not available|oci runtime error: |rpc error: code = |"
    rb"failed to shutdown container|container [0-9a-f]{64} encountered an error|invalid mount config |"
    rb"write /var/lib/docker/|mkdir /var/lib/docker/|error mounting |cannot stop container)"
)
# What a step that runs no command of the user may print before it fails; its other lines are pull progress.
_LIKELY_ERROR = re.compile(
    rb"(?i)error|fail|denied|not found|no such|cannot|can't|invalid|unknown|unauthorized|forbidden|timeout|timed out|"
    rb"refused|exceeded|toomanyrequests|unexpected|no space left|unsupported|not supported|no matching|must |too "
)
# One of these stands in each line that `_SURE_ERROR` matches.
_SURE_WORDS = (
    b"rror",
    b"failed",
    b"container_linux",
    b"hcsshim::",
    b"Cannot connect",
    b"context canceled",
    b"unable to ",
    b"linux spec user",
    b"Requested CPUs",
    b"invalid mount",
    b"/var/lib/docker/",
    b"cannot stop",
)
_PULL_PROGRESS = re.compile(
    rb"(?:[0-9a-f]{12}: )?"
    rb"(?:Pulling |Waiting|Verifying |Download|Extracting|Pull complete|Retrying|Already exists|Digest: |Status: )"
)


def arrow_of(line: bytes) -> bytes | None:
    """Return what stands behind the builder's arrow at the end of a line, None where there is none.

    Output without a final newline may stand in front of the arrow, a CI's prefix too.
    """
    at = line.rfind(b"--->")
    if at >= 0:
        rest = line[at + 4 :]
    elif (at := line.rfind(b"---&gt;")) >= 0:
        rest = line[at + 7 :]  # the source of a page
    else:
        return None
    if b"\x1b" in rest:
        rest = ESCAPES.sub(b"", rest)
    return rest.strip()


def context_bytes_of(size: str) -> int | None:
    """Return the bytes of a size as Docker prints it: `7.168kB`, `2.048 kB`, `1.2MB`."""
    match = re.match(r"(\d{1,12}(?:\.\d{1,12})?) ?([kKMGT]?)B", size.strip())
    if match is None:
        return None
    power = "KMGT".index(match[2].upper()) + 1 if match[2] else 0
    return round(float(match[1]) * 1000.0**power)


@dataclass(slots=True)
class _Step:
    number: int
    total: int | None
    text: str
    keyword: str
    stage: str | None
    line: int
    ordinal: int
    at: float | None
    cached: bool | None = None
    """None as long as the line below the headline is unknown."""
    container: bytes = b""
    """What `Running in` names; only the builder knows it before the step ends."""
    status: StepStatus = StepStatus.RUNNING
    duration: float | None = None
    error: str | None = None
    output_lines: int = 0

    @property
    def speaks(self) -> bool:
        """A command of the user is at work: what is printed may be its own."""
        return self.keyword == "RUN" and (bool(self.container) or self.cached is None)


@dataclass(slots=True)
class _OpenBuild:
    steps: list[_Step]
    line: int
    last_line: int
    ordinal: int
    started_at: float | None
    target: str | None = None
    context_bytes: int | None = None
    outcome: Outcome = _INCOMPLETE
    error: str | None = None
    ended_at: float | None = None
    image_id: str | None = None
    full_id: str | None = None
    tags: list[str] = field(default_factory=list)
    base_images: list[BaseImage] = field(default_factory=list)
    is_base_new: bool = False
    """The last FROM named the last of the base images for the first time."""
    warnings: list[str] = field(default_factory=list)
    confirmed: bool = True
    """No output of a RUN, as far as one can tell."""
    began_late: bool = False
    """The log holds no first step: the next one in sequence confirms it."""
    notes: list[str] = field(default_factory=list)
    """What is missing from the log."""
    removes: bool = False
    """Containers are removed, and told, when a step ends: not so with `--rm=false`."""
    doubtful: "Headline | None" = None
    """A headline in sequence that may be output of the RUN before it."""

    @property
    def last(self) -> _Step:
        return self.steps[-1]

    def note_base(self, *, digest: str | None = None, image: str | None = None) -> None:
        """Keep what the lines below a FROM say about the image it names."""
        if self.is_base_new:
            base = self.base_images[-1]
            self.base_images[-1] = replace(base, digest=digest or base.digest, id=image or base.id)


class Place(NamedTuple):
    """Where a line stands, and when the CI received it."""

    line: int
    ordinal: int
    """The line among those of the same program: `line` counts all of the log."""
    at: float | None


@dataclass(slots=True)
class Headline:
    """`Step 4/9 : RUN npm ci` and where it stands."""

    number: int
    total: int | None
    text: str
    line: int
    ordinal: int
    at: float | None


@dataclass(slots=True)
class _Context:
    """A build whose context was sent and that has no step yet."""

    size: int | None
    line: int
    at: float | None
    warnings: list[str]


Above = Callable[[int], Sequence[bytes]]
"""Reads so many lines above one, blank ones left out, the nearest last."""


class DockerBuilds:
    """Collects the builds of one program's output."""

    def __init__(self, log_format: str, strip: Callable[[bytes], Line]) -> None:
        self._format = log_format
        self._strip = strip
        self._live: list[_OpenBuild] = []
        self._done: list[FoundBuild] = []
        self._context: _Context | None = None
        self._text_bytes = 0
        self._step_count = 0
        self._tells_triggers = False
        """What follows are the triggers of the last FROM."""
        self.is_full = False
        """More came than is kept: what follows is not read."""
        self._warnings: list[str] = []
        self.output = b""
        """What was printed since the last headline: its beginning and its end."""

    @property
    def awaits_line(self) -> bool:
        """The line below the last headline was not seen yet."""
        return bool(self._live) and self._live[-1].steps[-1].cached is None

    @property
    def has_context(self) -> bool:
        """A client has sent a build's context, and no step was told since."""
        return self._context is not None

    @property
    def is_inside(self) -> bool:
        """A step is at work: what is printed belongs to it."""
        return bool(self._live) and self._live[-1].outcome is _INCOMPLETE and not self.is_full

    def context(self, size: str, line: int, at: float | None, warnings: list[str]) -> None:
        """Note that a client sends a build's context; a terminal shows the line many times."""
        if not self._in_run():
            self._settle()
            self.output = b""
        self._context = _Context(context_bytes_of(size), line, at, warnings)

    def headline(self, head: Headline, above: Above, service: str | None = None) -> bool:
        """Take a headline if it can be one; tell whether it was."""
        keyword = keyword_of(head.text)
        if keyword is None or self.is_full or (head.total == 1 and self._is_trigger(above)):
            return False
        self._tells_triggers = False
        if self._live:
            build = self._live[-1]
            last = build.steps[-1]
            # The builder was the last to speak: a cached step prints nothing of the user's, only RUN ever does.
            if (
                build.outcome is _INCOMPLETE
                and head.number == last.number + 1
                and head.total == last.total
                and (last.cached or last.keyword != "RUN")
            ):
                self._add(build, head, keyword, above)
                return True
        lines = above(2)
        if self._continue_where_removed(head, keyword, lines, above):
            return True
        ends_step = bool(lines) and self._ends_step(lines[-1])
        is_elided = bool(lines) and head.number > 1 and is_elision(lines[-1])
        return (
            self._continue(head, keyword, above, ends_step)
            or self._start(head, keyword, service)
            or self._continue_after_gap(head, keyword, ends_step or is_elided)
            or self._start_in_the_middle(head, keyword, ends_step)
        )

    def _is_trigger(self, above: Above) -> bool:
        """Tell whether `Step 1/1` is one of the triggers that the FROM above it announced."""
        lines = above(1)
        self._tells_triggers = self._tells_triggers or (bool(lines) and _TRIGGERS.search(lines[-1]) is not None)
        return self._tells_triggers

    def below_headline(self, line: bytes) -> None:
        """Take the first line below the last headline that is not blank."""
        build = self._live[-1]
        step = build.steps[-1]
        arrow = arrow_of(line)
        step.cached = arrow == b"Using cache" and step.keyword != "FROM"
        if arrow is not None and arrow.startswith(b"Running in "):
            step.container = arrow[11:75]
        elif arrow and step.keyword == "FROM" and _IMAGE_ID.fullmatch(arrow):
            build.note_base(image=arrow.decode())

    def success(self, image: bytes, place: Place, above: Above) -> None:
        """Take `Successfully built <image>` if a build has come that far."""
        line, ordinal, at = place
        before = above(1)
        is_sure = _tells(before, image)
        if not is_sure:
            before = above(4)
            is_sure = _tells(before, image)
        for index in range(len(self._live) - 1, -1, -1):
            build = self._live[index]
            if is_sure and build.doubtful is not None and build.doubtful.number == build.doubtful.total:
                self._add(build, build.doubtful, keyword_of(build.doubtful.text) or "", _nothing)
            last = build.last
            if build.removes and last.keyword == "RUN" and last.container:
                is_sure = is_sure and _removed_container(above(4)) == last.container
            is_newest = index == len(self._live) - 1
            if build.outcome is Outcome.SUCCEEDED and not (is_sure and is_newest):
                continue
            if last.total not in (None, last.number):
                if is_sure and is_newest and build.confirmed and not last.speaks:
                    self._end_after_gap(build, image, place)
                    return
                continue
            if not is_sure and (last.keyword == "RUN" or last.total is None):
                continue
            del self._live[index + 1 :]
            self._finish_step(build, ordinal, at, above)
            build.outcome, build.error, build.confirmed = Outcome.SUCCEEDED, None, True
            build.image_id, build.ended_at, build.last_line = image.decode(), at, line
            if build.full_id is not None and build.full_id.removeprefix("sha256:").startswith(build.image_id):
                build.image_id = build.full_id
            build.ordinal, build.tags = ordinal, []
            build.warnings = [text for text in build.warnings if not text.startswith("[Warning]")]
            for text in before:
                start = text.find(b"[Warning] ")
                if start >= 0 and b"--->" not in text:
                    build.warnings.append(text[start:].decode(errors="replace").rstrip())
            self.output = b""
            return

    def _end_after_gap(self, build: _OpenBuild, image: bytes, place: Place) -> None:
        last = build.last
        build.notes.append(
            f"Lines are missing between step {last.number} and the end of the build at line {build.line}."
        )
        _leave_before_gap(last)
        build.outcome, build.error, build.confirmed = Outcome.SUCCEEDED, None, True
        build.image_id, build.ended_at, build.last_line, build.ordinal = (
            image.decode(),
            place.at,
            place.line,
            place.ordinal,
        )

    def tagged(self, tag: str, place: Place) -> None:
        """Take `Successfully tagged <tag>` directly below the line that ends a build."""
        line, ordinal, _ = place
        for build in reversed(self._live):
            if build.outcome is Outcome.SUCCEEDED and 0 < ordinal - build.ordinal <= 3 + 2 * len(build.tags):
                build.tags.append(tag)
                build.last_line = max(build.last_line, line)
                return

    def failure(self, message: str, place: Place) -> None:
        """Take `The command '…' returned a non-zero code: 1`; undone if the build goes on."""
        running = [build for build in self._live if build.outcome is not Outcome.SUCCEEDED]
        for build in reversed(running):
            if (
                build.last.keyword in ("RUN", "FROM")
                and not build.last.cached
                and _is_command_of(message, build.last.text)
            ):
                self._fail(build, message, place)
                build.confirmed = True
                return

    def fail(self, message: str, place: Place) -> None:
        """Take an error that the engine itself reports: the newest build ends with it."""
        if self.is_inside:
            self._fail(self._live[-1], message, place)
            if "context canceled" in message:
                self._live[-1].outcome, self._live[-1].last.status = Outcome.CANCELED, StepStatus.CANCELED

    def image(self, image: str) -> None:
        """Take the full id of the last image; builds with several stages tell one of each."""
        if self._live:
            self._live[-1].full_id = image

    def printed(self, text: bytes, start: int, end: int) -> None:
        """Keep what was printed since the last headline, in bounds: a failure may show only there."""
        if len(self.output) + end - start <= _OUTPUT_CAP:
            self.output += text[start:end]
            return
        head = self.output[:_OUTPUT_HEAD]
        if len(head) < _OUTPUT_HEAD:
            head += text[start : min(end, start + _OUTPUT_HEAD - len(head))]
        tail = text[max(start, end - _OUTPUT_TAIL) : end]
        if len(tail) < _OUTPUT_TAIL:
            tail = (self.output + tail)[-_OUTPUT_TAIL:]
        self.output = head + b"\n" + tail

    def found(self, last_line: int) -> list[FoundBuild]:
        """Return the builds so far, the open ones as incomplete; a RUN at work reaches up to the last line read."""
        if self._live and self._live[-1].outcome is _INCOMPLETE and self._live[-1].last.speaks:
            self._live[-1].last_line = max(self._live[-1].last_line, last_line)
        live = [found for found in (self._freeze(build, build is self._live[-1]) for build in self._live) if found]
        if self._context is not None and not self._in_run() and not self.is_full:
            error = self._error(sure_only=False)
            live.append(_without_steps(self._format, self._context, error[0] if error else None))
        return self._done + live

    def warnings(self) -> list[str]:
        """Return what was cut or left out."""
        open_builds = [build for build in self._live if build.confirmed]
        notes = [note for build in open_builds for note in build.notes]
        latest = open_builds[-1] if open_builds else None
        is_open = latest is not None and latest.outcome is _INCOMPLETE
        if latest is not None and is_open and self._error(sure_only=latest.last.speaks) is None:
            notes.append(f"The log ends before the build that begins at line {latest.line} does.")
        return list(dict.fromkeys([*self._warnings, *notes]))[:_WARNING_CAP]

    def _in_run(self) -> bool:
        return bool(self._live) and self._live[-1].outcome is _INCOMPLETE and self._live[-1].last.keyword == "RUN"

    def _ends_step(self, line: bytes) -> bool:
        arrow = arrow_of(line)
        if arrow is None:
            at = line.rfind(b"Removing intermediate container ")  # up to 17.05 below the image's id
            return at >= 0 and _IMAGE_ID.fullmatch(line[at + 32 :].strip()) is not None
        return _IMAGE_ID.fullmatch(arrow) is not None or (
            not arrow and bool(self._live) and self._live[-1].last.keyword == "FROM"
        )

    def _continue_where_removed(self, head: Headline, keyword: str, lines: Sequence[bytes], above: Above) -> bool:
        """Go on below the step whose container was just removed; whatever came since was its output."""
        removed = _removed_container(lines)
        if not removed:
            return False
        for index in range(len(self._live) - 1, -1, -1):
            build = self._live[index]
            if build.last.total != head.total:
                continue
            for at in range(len(build.steps) - 1, max(-1, len(build.steps) - 200), -1):
                step = build.steps[at]
                if step.container == removed and step.number + 1 == head.number:
                    del self._live[index + 1 :]
                    del build.steps[at + 1 :]
                    build.removes, build.tags = True, []
                    self._add(build, head, keyword, above)
                    return True
        return False

    def _continue(self, head: Headline, keyword: str, above: Above, ends_step: bool) -> bool:
        for index in range(len(self._live) - 1, -1, -1):
            build = self._live[index]
            last, is_newest = build.last, index == len(self._live) - 1
            if head.total != last.total:
                continue
            if head.number == last.number and head.ordinal - last.ordinal <= 1 and head.text == last.text:
                last.ordinal = head.ordinal  # the same line twice
                return True
            if head.number == last.number + 1:
                speaks = last.keyword == "RUN" and not last.cached
                if is_newest and speaks and (not ends_step or (build.removes and last.container)):
                    build.doubtful = head
                    return True
                if not ends_step and not (is_newest and build.outcome is _INCOMPLETE):
                    continue
            elif ends_step and build.doubtful is not None and head.number == build.doubtful.number + 1:
                self._add(build, build.doubtful, keyword_of(build.doubtful.text) or "", _nothing)
            else:
                continue
            del self._live[index + 1 :]
            self._add(build, head, keyword, above)
            return True
        return False

    def _continue_after_gap(self, head: Headline, keyword: str, ends_step: bool) -> bool:
        if not ends_step or not self._live:
            return False
        build = self._live[-1]
        last = build.last
        if (
            build.outcome is not _INCOMPLETE
            or head.total is None
            or head.total != last.total
            or head.number <= last.number
        ):
            return False
        build.notes.append(f"Lines are missing between step {last.number} and step {head.number} of {head.total}.")
        _leave_before_gap(last)
        self._append(build, head, keyword)
        return True

    def _start(self, head: Headline, keyword: str, service: str | None) -> bool:
        # Up to 1.9 steps are counted from 0, up to 1.12 without a total: a second `Step 1` begins only with FROM.
        is_first = head.number == 1 and (head.total is not None or not self._live or keyword == "FROM")
        if head.number > 0 and not is_first:
            return False
        context, self._context = self._context, None
        if self._in_run() and context is None and service is None:
            self._context = context
            return True  # output of the RUN, unless a new build is announced
        # A build that begins while a RUN is at work may be its output: it counts once it has come to an end.
        is_nested = self._in_run()
        self._begin(head, keyword, context)
        self._live[-1].target = service
        self._live[-1].confirmed = not is_nested
        return True

    def _start_in_the_middle(self, head: Headline, keyword: str, ends_step: bool) -> bool:
        if any(build.outcome is _INCOMPLETE and build.confirmed for build in self._live):
            return False
        if head.total is not None and head.number > head.total:
            return False
        self._begin(head, keyword, None)
        build = self._live[-1]
        build.started_at = None
        build.notes.append(
            f"The log begins in the middle of the build at line {head.line}: steps before {head.number} are missing."
        )
        build.confirmed, build.began_late = ends_step, True
        return True

    def _begin(self, head: Headline, keyword: str, context: _Context | None) -> None:
        self._settle()
        if len(self._live) >= LIVE_BUILDS:
            oldest = self._live.pop(0)
            frozen = self._freeze(oldest, is_newest=False)
            if frozen is not None:
                self._done.append(frozen)
                for note in oldest.notes:
                    self._warn(note)
        build = _OpenBuild([], head.line, head.line, head.ordinal, head.at)
        if context is not None:
            build.line, build.context_bytes, build.warnings = context.line, context.size, context.warnings
            build.started_at = context.at if context.at is not None else head.at
        self._live.append(build)
        self._append(build, head, keyword)

    def _add(self, build: _OpenBuild, head: Headline, keyword: str, above: Above) -> None:
        build.outcome, build.error, build.image_id, build.ended_at = _INCOMPLETE, None, None, None
        build.doubtful = None
        build.confirmed = build.confirmed or build.began_late
        self._finish_step(build, head.ordinal, head.at, above)
        self._append(build, head, keyword)

    def _append(self, build: _OpenBuild, head: Headline, keyword: str) -> None:
        self._step_count += 1
        self._text_bytes += len(head.text)
        if self._step_count > MAX_STEPS or self._text_bytes > MAX_TEXT_BYTES:
            self._warn(
                f"The log holds more than {MAX_STEPS} steps or {MAX_TEXT_BYTES} bytes of instructions: "
                "the rest is not read."
            )
            self.is_full = True
            if build.steps:
                return
        stage = build.last.stage if build.steps else None
        if keyword == "FROM":
            stage = self._begin_stage(build, head.text)
        step = _Step(head.number, head.total, head.text, keyword, stage, head.line, head.ordinal, head.at)
        build.steps.append(step)
        build.last_line = head.line
        self.output = b""

    def _begin_stage(self, build: _OpenBuild, text: str) -> str | None:
        match = _AS.fullmatch(text)
        build.is_base_new = False
        if match is None:
            return None
        earlier = {step.stage for step in build.steps}
        known = {image.reference for image in build.base_images}
        if match[1] not in earlier and match[1] not in known and match[1] != "scratch":
            build.base_images.append(BaseImage(reference=match[1]))
            build.is_base_new = True
        return match[2]

    def _finish_step(self, build: _OpenBuild, ordinal: int, at: float | None, above: Above) -> None:
        """End the last step where the next headline or the closing line stands."""
        step = build.last
        between = ordinal - step.ordinal - 1
        own = 1 + (bool(step.container) or bool(step.cached))
        # The lines above matter only where more was printed than the arrows.
        if between > own and not step.cached and step.keyword in ("RUN", "FROM", "ADD", "COPY"):
            own += self._read_end(build, step, above(3))
        elif step.keyword == "FROM" and between == own:
            self._read_end(build, step, above(1))
        elif between > own:
            own = between
            # `Running in`, `Removing intermediate container`, the id: nothing else stands below these instructions.
            build.removes = build.removes or (bool(step.container) and between == 3)
        step.cached = bool(step.cached)
        step.status = StepStatus.CACHED if step.cached else StepStatus.DONE
        step.error = None
        step.output_lines = between - own if between > own else 0
        step.duration = elapsed(step.at, at)

    @staticmethod
    def _read_end(build: _OpenBuild, step: _Step, lines: Sequence[bytes]) -> int:
        """Read the lines that end a step; return how many of them are the builder's, its image id left out."""
        own = 0
        for line in lines[-3:]:
            if b"ntermediate container " in line:
                own += 1
            elif step.keyword in ("ADD", "COPY"):
                step.cached = step.cached or arrow_of(line) == b"Using cache"
            elif step.keyword == "FROM":
                digest, arrow = _PULL_DIGEST.search(line), arrow_of(line)
                if digest is not None:
                    build.note_base(digest=digest[1].decode())
                elif arrow and _IMAGE_ID.fullmatch(arrow) and any(b"Status: " in above for above in lines):
                    build.note_base(image=arrow.decode())
        return own

    def _fail(self, build: _OpenBuild, message: str, place: Place) -> None:
        step = build.last
        line, ordinal, at = place
        build.outcome, build.error, build.ended_at = Outcome.FAILED, message, at
        build.last_line = max(build.last_line, line)
        step.status, step.cached, step.error = StepStatus.FAILED, False, message
        step.output_lines = max(0, ordinal - step.ordinal - 1 - bool(step.container))
        step.duration = elapsed(step.at, at)

    def _settle(self) -> None:
        """Look for the failure of the newest build in what it printed last; another build begins."""
        if self._live and self._live[-1].outcome is _INCOMPLETE:
            build = self._live[-1]
            found = self._error(sure_only=build.last.speaks)
            if found is not None:
                self._fail(build, found[0], Place(build.last_line, build.last.ordinal + 1, found[1]))
        elif self._context is not None:
            error = self._error(sure_only=False)
            if error is not None:
                self._done.append(_without_steps(self._format, self._context, error[0] if error else None))

    def _error(self, *, sure_only: bool) -> tuple[str, float | None] | None:
        """Return the line that tells of a failure, with its time, if what was printed last holds one."""
        likely = None
        for raw in self.output.split(b"\n"):
            if sure_only and b"\x1b" not in raw and not any(word in raw for word in _SURE_WORDS):
                continue  # most lines: a look is cheaper than taking a prefix off
            line = self._strip(raw)
            text = visible(line.text).strip()
            if not text or b"--->" in text:
                continue
            if _SURE_ERROR.match(text):
                return text[:4096].decode(errors="replace"), line.at
            if (
                likely is None
                and not sure_only
                and _LIKELY_ERROR.search(text[:1024])
                and not _PULL_PROGRESS.match(text)
            ):
                likely = text[:4096].decode(errors="replace"), line.at
        return likely

    def _shows_failure(self, step: _Step) -> bool:
        """Tell whether an error stands below a step; what runs no command prints nothing else."""
        if self._error(sure_only=True) is not None:
            return True
        lines = (visible(self._strip(raw).text).strip() for raw in self.output[:_OUTPUT_HEAD].split(b"\n"))
        first = next((text for text in lines if text), b"")
        return step.keyword != "RUN" and _LIKELY_ERROR.search(first[:1024]) is not None

    def _warn(self, text: str) -> None:
        if len(self._warnings) < _WARNING_CAP and text not in self._warnings:
            self._warnings.append(text)

    def _freeze(self, build: _OpenBuild, is_newest: bool) -> FoundBuild | None:
        last = build.last
        if not build.confirmed and not (
            build.began_late and is_newest and last.cached is False and self._shows_failure(last)
        ):
            return None  # the step that failed may be all that somebody copied
        outcome, error, status, cached = build.outcome, build.error, last.status, last.cached
        ended_at = build.ended_at
        if outcome is _INCOMPLETE:
            status, cached = _state_at_the_end(last, self.output if is_newest else b"")
            found = self._error(sure_only=last.speaks) if is_newest else None
            if found is not None:
                outcome, status, cached = Outcome.FAILED, StepStatus.FAILED, False
                error, ended_at = found
        images: tuple[BuiltImage, ...] = ()
        if build.image_id is not None:
            images = (BuiltImage(id=build.image_id, tags=tuple(build.tags), target=build.target),)
        steps = [_frozen_step(step, build) for step in build.steps[:-1]]
        state = replace(last, status=status, cached=cached, error=error if status is StepStatus.FAILED else None)
        if status is StepStatus.FAILED and state.duration is None:
            state.duration = elapsed(last.at, ended_at)
        steps.append(_frozen_step(state, build))
        return FoundBuild(
            Build(
                builder="docker",
                format=self._format,
                outcome=outcome,
                error=error,
                started_at=build.started_at,
                duration_seconds=elapsed(build.started_at, ended_at),
                context_bytes=build.context_bytes,
                images=images,
                base_images=tuple(build.base_images),
                steps=tuple(steps),
                warnings=tuple(build.warnings),
                line=build.line,
            ),
            build.line,
            build.last_line,
        )


def _leave_before_gap(step: _Step) -> None:
    """Say what is known of a step whose end is missing from the log."""
    if step.cached is None:
        step.status = StepStatus.UNKNOWN
    else:
        step.status = StepStatus.CACHED if step.cached else StepStatus.DONE


def _tells(lines: Sequence[bytes], image: bytes) -> bool:
    """Tell whether one of the lines is the arrow with this image's id."""
    short = image.removeprefix(b"sha256:")[:12]
    return any((arrow_of(line) or b" ").removeprefix(b"sha256:").startswith(short) for line in lines)


def _removed_container(lines: Sequence[bytes]) -> bytes:
    """Return the container that one of the lines says was removed, the nearest one's; empty where there is none."""
    for line in reversed(lines):
        at = line.rfind(b"ntermediate container ")
        if at >= 0:
            return visible(line[at + 22 :]).strip()
    return b""


def _nothing(count: int) -> Sequence[bytes]:
    return ()


def _frozen_step(step: _Step, build: _OpenBuild) -> Step:
    return StepDraft(
        StepKind.INSTRUCTION,
        step.text,
        step.status,
        cached=step.cached,
        cacheable=is_cacheable("docker", step.keyword),
        number=step.number,
        target=build.target,
        stage=step.stage,
        index=step.number,
        total=step.total,
        instruction=step.keyword,
        started_seconds=elapsed(build.started_at, step.at),
        duration_seconds=step.duration,
        error=step.error,
        output_lines=step.output_lines,
        line=step.line,
    ).frozen()


def _without_steps(log_format: str, context: _Context, error: str | None) -> FoundBuild:
    return FoundBuild(
        Build(
            builder="docker",
            format=log_format,
            outcome=_INCOMPLETE if error is None else Outcome.FAILED,
            error=error,
            started_at=context.at,
            context_bytes=context.size,
            warnings=tuple(context.warnings),
            line=context.line,
        ),
        context.line,
        context.line + (error is not None),
    )


def _state_at_the_end(step: _Step, output: bytes) -> tuple[StepStatus, bool | None]:
    """Say how far the last step of a log came that stops: done only where the line that ends a step is the last one."""
    if step.keyword != "FROM" and step.cached:
        return StepStatus.CACHED, True
    lines = [line for line in output.splitlines()[-8:] if line.strip()]
    if len(lines) > 1 and b"Removing intermediate container " in lines[-1]:
        lines[-2:] = reversed(lines[-2:])  # up to 17.05 below the image's id
    arrow = arrow_of(lines[-1]) if lines else None
    is_done = arrow is not None and _IMAGE_ID.fullmatch(arrow) is not None
    if is_done and step.keyword == "RUN":
        is_done = len(lines) > 1 and b"ntermediate container " in lines[-2]
    if is_done or (arrow == b"" and step.keyword == "FROM"):
        return StepStatus.DONE, False
    return StepStatus.RUNNING, False if step.keyword == "FROM" else step.cached


def _is_command_of(message: str, text: str) -> bool:
    """Tell whether the command that failed is this step's: it holds its words (triggers and JSON forms may differ)."""
    command = _COMMAND.search(message)
    words = text.split(None, 1)[-1]
    return text.startswith("FROM") or words.lstrip().startswith("[") or (command is not None and words in command[1])
