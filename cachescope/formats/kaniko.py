r"""The log of the kaniko executor, in colour, without colour, as logfmt (`--log-format=text`) and as JSON.

    INFO[0001] Retrieving image manifest python:3.9-alpine
    INFO[0004] Building stage 'python:3.9-alpine' [idx: '0', base-idx: '-1']
    INFO[0004] Using caching version of cmd: RUN apk add --no-cache git
    INFO[0006] No cached layer found for cmd RUN pip install -r requirements.txt
    INFO[0011] RUN apk add --no-cache git
    INFO[0011] Found cached layer, extracting to filesystem
    INFO[0012] RUN pip install -r requirements.txt
    INFO[0012] Running: [/bin/sh -c pip install -r requirements.txt]
    INFO[0020] Taking snapshot of full filesystem...
    error building image: error building stage: failed to execute command: waiting for process to exit: exit status 1

Printed by github.com/GoogleContainerTools/kaniko, pkg/executor/{build,push}.go and pkg/commands, through logrus. kaniko
numbers no step and logs no FROM. Its own stamps are whole seconds: they date a build, but only the CI's time a step.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import orjson

from cachescope.formats._buildkit import STEP_CAP
from cachescope.formats._neighbours import visible
from cachescope.formats.base import FoundBuild, LogParser
from cachescope.instructions import KEYWORDS, is_cacheable
from cachescope.model import BaseImage, Build, BuiltImage, CacheTransfer, Outcome, Step, StepKind, StepStatus
from cachescope.prefixes._stamps import elapsed, parse_stamp
from cachescope.prefixes.base import LinePrefix

_TEXT_CAP = 32 * 1024
_NAMES_CAP = 10_000

# The message's level stands near the line's beginning: `kaniko kaniko INFO[0001] …`, `remote: INFO[0004] …`.
_MESSAGE = re.compile(rb"(?:^|[\s:\]|>])(INFO|WARN|ERRO|FATA|DEBU|TRAC)\[([0-9TZ:+-]{1,32})\] ?(.*)", re.DOTALL)
_LOGFMT = re.compile(rb"time=\"([0-9TZ:.+-]{1,40})\" level=(\w{4,7}) msg=(\"(?:[^\"\\]|\\.)*\"|\S+)")
_FAILED = re.compile(
    rb"(?:Error: )?(error (?:building image|pushing image|checking push permissions|resolving dockerfile path|"
    rb"resolving source context|building stage|getting stage builder|executing command):? .*)",
    re.DOTALL,
)
_WORD = re.compile(rb"(?:INFO|WARN|ERRO|FATA)(?:\x1b\[0m)?\[|level[\"=]|error [bprceg]")
_STAGE = re.compile(r"Building stage '?([^'\s]{1,512})'? \[idx: '?(\d{1,4})'?, base-idx: '?(-?\d{1,4})'?\]")
_RESOLVED = re.compile(r"Resolved base name (\S{1,512}) to (\S{1,512})")
_BASE = re.compile(r"(?:Retrieving image manifest|Downloading base image) (\S{1,512})")
_LOOKED_UP = re.compile(r"Checking for cached layer (\S{1,512}):[0-9a-f]{16,64}\.\.\.")
_CACHED = "Using caching version of cmd: "
_UNCACHED = "No cached layer found for cmd "
_CACHE_PUSH = re.compile(r"Pushing layer (\S{1,512}):[0-9a-f]{16,64} to cache now")
_PUSHING = re.compile(r"Pushing image to (\S{1,512})")
_CACHE_TAG = re.compile(r"\S{1,512}:[0-9a-f]{64}")
_PUSHED = re.compile(r"Pushed (\S{1,512})@(sha256:[0-9a-f]{64})")
_STEP = re.compile(rf"(?:{'|'.join(sorted(KEYWORDS))}) \S")
_BEGINNINGS = (
    "Resolved base name ",
    "Using dockerignore file: ",
    "Retrieving image ",
    "Downloading base image ",
    "Built cross stage deps: ",
    "Executing ",
    "Building stage ",
    "Unpacking rootfs as cmd ",
    "Skipping unpacking as no commands require it",
    "Checking for cached layer ",
)
_SNAPSHOTS = ("Taking snapshot of ", "No files were changed", "No files changed", "Skipping snapshot", "Snapshotting ")
_STEPS_OVER = (
    "Storing source image from stage ",
    "Saving file ",
    "Deleting filesystem",
    "Cleaning up ",
    "Building stage ",
    "Built cross stage deps: ",
    "Skipping push to container registry",
    "Pushed image to ",
)


@dataclass(slots=True)
class _Step:
    text: str
    keyword: str
    stage: str | None
    line: int
    at: float | None
    started_seconds: float | None
    cached: bool = False
    status: StepStatus = StepStatus.RUNNING
    duration: float | None = None
    error: str | None = None
    output_lines: int = 0
    output_from: int | None = None
    """The line of `Running: […]`: below it the command speaks."""
    arguments_at: int | None = None
    """The line of `args: […]`, below which it speaks where no `Running:` follows (up to 0.16)."""
    messages: int = 0
    """kaniko's own lines since then."""
    is_snapshot_taken: bool = False
    told_at: int = 0
    """The last line that told it; a log may have lines twice."""


@dataclass(slots=True)
class _OpenBuild:
    line: int
    last_line: int
    started_at: float | None
    last_seconds: int = 0
    has_dependencies: bool = False
    """The line that each build has once was there."""
    stage: str | None = None
    names: dict[str, list[str]] = field(default_factory=dict)
    base_images: dict[str, None] = field(default_factory=dict)
    from_cache: Counter[str] = field(default_factory=Counter)
    steps: list[_Step] = field(default_factory=list)
    outcome: Outcome = Outcome.INCOMPLETE
    error: str | None = None
    ended_at: float | None = None
    takes_snapshots: bool = False
    tells_stages: bool = False
    tags: dict[str, str | None] = field(default_factory=dict)
    looked_up: dict[str, bool] = field(default_factory=dict)
    pushed_cache: dict[str, bool | None] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Message:
    level: bytes
    text: str
    line: int
    at: float | None
    """When the CI received it."""
    seconds: int | None = None
    """Since kaniko began."""
    own_at: float | None = None


class _KanikoParser:
    def __init__(self, prefix: LinePrefix) -> None:
        self._prefix = prefix
        self._builds: list[_OpenBuild] = []
        self._steps = 0
        self._warnings: list[str] = []

    def feed(self, chunk: bytes, first_line: int) -> None:
        """Read the lines that hold a level or an error."""
        position, number = 0, first_line
        for start, end in _lines_with_words(chunk):
            number += chunk.count(b"\n", position, start)
            position = start
            self._read(chunk[start:end], number, is_whole=end < len(chunk))

    def builds(self) -> list[FoundBuild]:
        """Return the builds so far, in the order in which they began."""
        return [_frozen(build) for build in self._builds]

    def warnings(self) -> list[str]:
        """Return what was left out."""
        return list(self._warnings)

    def _read(self, raw: bytes, number: int, *, is_whole: bool) -> None:
        line = self._prefix.strip(raw)
        text = visible(line.text)
        message = _message_of(raw, text, number, line.at)
        if message is not None:
            if is_whole:
                self._read_message(message)
            return
        failed = _FAILED.match(text.lstrip())
        if failed is not None:
            self._fail(failed[1].rstrip()[:_TEXT_CAP].decode(errors="replace"), number, line.at)

    def _read_message(self, message: _Message) -> None:
        text = message.text
        build = self._current(message)
        if build is None or message.level not in (b"INFO", b"WARN"):
            return
        build.last_line = message.line
        if message.seconds is not None:
            build.last_seconds = message.seconds
        if build.steps:
            build.steps[-1].messages += 1
        if message.level == b"WARN":
            self._read_warning(build, text)
            return
        keyword = text.split(None, 1)[0] if text else ""
        if keyword in KEYWORDS and len(text) > len(keyword):
            self._begin_step(build, keyword, message)
        elif not self._is_output(build):
            self._read_words(build, message)
        elif text.startswith(_SNAPSHOTS):
            self._end_command(build, message)

    def _current(self, message: _Message) -> _OpenBuild | None:
        """Return the build that a message belongs to, a new one where it begins one."""
        build = self._builds[-1] if self._builds else None
        # A log without its head may begin with any step.
        begins = message.text.startswith(_BEGINNINGS) or (build is None and _STEP.match(message.text) is not None)
        if build is not None:
            is_over = build.outcome is not Outcome.INCOMPLETE
            is_earlier = message.seconds is not None and message.seconds < build.last_seconds
            is_second = message.text.startswith("Built cross stage deps: ") and build.has_dependencies
            if not begins or not (is_over or ((is_earlier or is_second) and not self._is_output(build))):
                return build
        if not begins or self._steps > STEP_CAP:
            return None
        at = message.at if message.at is not None else message.own_at
        self._builds.append(_OpenBuild(message.line, message.line, at))
        return self._builds[-1]

    def _is_output(self, build: _OpenBuild) -> bool:
        """Tell whether a RUN speaks: its command began and no snapshot was taken since."""
        step = build.steps[-1] if build.steps else None
        if step is None or step.output_from is None or step.status is not StepStatus.RUNNING:
            return False
        return build.takes_snapshots and not step.is_snapshot_taken

    def _begin_step(self, build: _OpenBuild, keyword: str, message: _Message) -> None:
        if self._is_output(build) or build.outcome is not Outcome.INCOMPLETE:
            return
        text = message.text.rstrip()[:_TEXT_CAP]
        last = build.steps[-1] if build.steps else None
        if last is not None and last.text == text and last.told_at + 1 == message.line:
            last.told_at = message.line  # the same line twice
            return
        self._steps += 1
        if self._steps > STEP_CAP:
            warning = f"The log holds more than {STEP_CAP} steps: the rest is not read."
            self._warnings = [warning]
            return
        self._end_step(build, message)
        started = elapsed(build.started_at, message.at)
        step = _Step(text, keyword, build.stage, message.line, message.at, started, told_at=message.line)
        if build.from_cache[text] > 0:
            build.from_cache[text] -= 1
            step.cached = True
        build.steps.append(step)

    def _end_command(self, build: _OpenBuild, message: _Message) -> None:
        step = build.steps[-1]
        if step.output_from is not None:
            step.output_lines = max(0, message.line - step.output_from - 1)
        elif step.arguments_at is not None and not step.is_snapshot_taken:
            step.output_lines = max(0, message.line - step.arguments_at - step.messages)
        step.is_snapshot_taken = True

    def _end_step(self, build: _OpenBuild, message: _Message) -> None:
        if not build.steps or build.steps[-1].status is not StepStatus.RUNNING:
            return
        step = build.steps[-1]
        step.status = StepStatus.CACHED if step.cached else StepStatus.DONE
        if step.output_from is not None and not step.is_snapshot_taken:
            step.output_lines = max(0, message.line - step.output_from - 1)
        step.duration = elapsed(step.at, message.at)

    def _read_words(self, build: _OpenBuild, message: _Message) -> None:
        text = message.text
        step = build.steps[-1] if build.steps else None
        if step is not None and step.status is StepStatus.RUNNING:
            if text.startswith("Found cached layer, extracting"):
                step.cached = True
            elif text.startswith("Running: [") and step.keyword == "RUN":
                step.cached, step.output_from, step.is_snapshot_taken = False, message.line, False
            elif text.startswith("args: [") and step.keyword == "RUN":
                step.arguments_at, step.messages, step.is_snapshot_taken = message.line, 0, False
            elif text.startswith(_SNAPSHOTS):
                build.takes_snapshots = build.takes_snapshots or text.startswith("Taking snapshot of ")
                self._end_command(build, message)
        if text.startswith(_STEPS_OVER):
            self._end_step(build, message)
        if text.startswith(_CACHED):
            if len(build.from_cache) < _NAMES_CAP:
                build.from_cache[text[len(_CACHED) :].rstrip()[:_TEXT_CAP]] += 1
            build.looked_up = dict.fromkeys(build.looked_up, True)
        elif match := _STAGE.match(text):
            names = build.names.get(match[1])
            build.stage = names.pop(0) if names else None
            build.tells_stages = True
            if match[3].startswith("-"):
                _note(build.base_images, match[1])
        elif match := _RESOLVED.match(text):
            if match[1] != match[2] and len(build.names) < _NAMES_CAP:
                build.names.setdefault(match[1], []).append(match[2])
        elif match := _BASE.match(text):
            _note(build.base_images, match[1])
        elif match := _LOOKED_UP.match(text):
            if len(build.looked_up) < _NAMES_CAP:
                build.looked_up.setdefault(match[1], False)
        elif match := _CACHE_PUSH.match(text):
            if len(build.pushed_cache) < _NAMES_CAP:
                build.pushed_cache.setdefault(match[1], True)
        elif text.startswith("Built cross stage deps: "):
            build.has_dependencies = True
        else:
            self._read_push(build, message)

    def _read_push(self, build: _OpenBuild, message: _Message) -> None:
        text = message.text
        if match := _PUSHING.match(text):
            if _CACHE_TAG.fullmatch(match[1]) or len(build.tags) >= _NAMES_CAP:
                return  # layers of the cache are pushed beside the steps, in the same words
            self._end_step(build, message)
            build.tags.setdefault(match[1], None)
            return
        if match := _PUSHED.match(text):
            pushed = [tag for tag in build.tags if _repository(tag) == _repository(match[1])]
            if not pushed:
                return
            build.tags.update(dict.fromkeys(pushed, match[2]))
        elif not text.startswith(("Pushed image to ", "Skipping push to container registry")):
            return
        build.outcome, build.ended_at = Outcome.SUCCEEDED, message.at

    def _read_warning(self, build: _OpenBuild, text: str) -> None:
        if text.startswith("Error uploading layer to cache: "):
            build.pushed_cache = dict.fromkeys(build.pushed_cache or {"": None}, False)
        elif len(build.warnings) < 200 and not self._is_output(build):
            build.warnings.append(text[:_TEXT_CAP])

    def _fail(self, error: str, line: int, at: float | None) -> None:
        build = self._builds[-1] if self._builds else None
        is_push = error.startswith("error pushing image")
        if build is None or (build.outcome is not Outcome.INCOMPLETE and not is_push):
            if not error.startswith(("error building image", "error checking push", "error resolving")):
                return
            build = _OpenBuild(line, line, at)
            self._builds.append(build)
        build.outcome, build.error, build.ended_at, build.last_line = Outcome.FAILED, error, at, line
        step = build.steps[-1] if build.steps else None
        if step is None or step.status is not StepStatus.RUNNING:
            return
        self._end_step(build, _Message(b"FATA", error, line, at))
        # kaniko looks for the files of an instruction before it announces it: the one above has ended.
        if not is_push and "failed to get files used from context" not in error:
            step.status, step.cached, step.error = StepStatus.FAILED, False, error


class _Kaniko:
    needles = (
        b"Retrieving image manifest ",
        b"Downloading base image ",
        b"Built cross stage deps: ",
        b"Unpacking rootfs as cmd ",
        b"Taking snapshot of f",
        b"Skipping unpacking as no commands",
        b" build triggers",
        b"No cached layer found for cmd ",
        b"Checking for cached layer ",
        b"error building image: ",
        b"error checking push permissions",
    )

    def sniff(self, head: bytes, prefix: LinePrefix) -> float:
        """Return more the more of kaniko's own messages are there."""
        count = 0
        for start, end in _lines_with_words(head):
            raw = head[start:end]
            text = visible(prefix.strip(raw).text)
            message = _message_of(raw, text, 0, None)
            if message is not None:
                count += message.text.startswith((*_BEGINNINGS, *_SNAPSHOTS, *_STEPS_OVER))
            elif _FAILED.match(text):
                count += 1
            if count >= 3:
                return 0.9
        return 0.4 + 0.1 * count if count else 0.0

    def parser(self, prefix: LinePrefix) -> LogParser:
        """Open a parser."""
        return _KanikoParser(prefix)


def _lines_with_words(chunk: bytes) -> Iterator[tuple[int, int]]:
    position = 0
    while (match := _WORD.search(chunk, position)) is not None:
        start = chunk.rfind(b"\n", 0, match.start()) + 1
        end = chunk.find(b"\n", match.end())
        end = len(chunk) if end < 0 else end
        yield start, end
        position = end + 1


def _message_of(raw: bytes, text: bytes, line: int, at: float | None) -> _Message | None:
    brace = raw.find(b'{"level":"')
    if brace >= 0:  # a prefix may have taken JSON for a log driver's
        return _json_message(raw[brace:].rstrip(), line, at)
    message = _MESSAGE.search(text, 0, min(len(text), _TEXT_CAP))
    if message is not None and message.start() < 256:
        stamp = message[2]
        words = message[3].rstrip().decode(errors="replace")
        if stamp.isdigit():
            return _Message(message[1], words, line, at, seconds=int(stamp[:9]))
        return _Message(message[1], words, line, at, own_at=parse_stamp(stamp.decode()))
    fields = _LOGFMT.search(text[:_TEXT_CAP])
    if fields is None:
        return None
    words = _unquoted(fields[3])
    return _Message(fields[2][:4].upper(), words, line, at, own_at=parse_stamp(fields[1].decode()))


def _json_message(text: bytes, line: int, at: float | None) -> _Message | None:
    try:
        fields = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    level, words, time = fields.get("level"), fields.get("msg"), fields.get("time")
    if not isinstance(level, str) or not isinstance(words, str):
        return None
    own_at = parse_stamp(time) if isinstance(time, str) else None
    received_at = at if at != own_at else None
    return _Message(level[:4].upper().encode(errors="replace"), words.rstrip(), line, received_at, own_at=own_at)


def _unquoted(text: bytes) -> str:
    """Undo Go's %q."""
    if not text.startswith(b'"'):
        return text.decode(errors="replace")
    try:
        return str(orjson.loads(text)).rstrip()
    except orjson.JSONDecodeError:
        return text[1:-1].replace(b'\\"', b'"').replace(b"\\\\", b"\\").decode(errors="replace").rstrip()


def _note(names: dict[str, None], name: str) -> None:
    if len(names) < _NAMES_CAP:
        names.setdefault(name)


def _repository(reference: str) -> str:
    """Return a reference without its tag and Docker Hub's long name."""
    folder, _, name = reference.rpartition("/")
    path = f"{folder}/{name.partition(':')[0]}" if folder else name.partition(":")[0]
    return path.removeprefix("index.docker.io/").removeprefix("docker.io/").removeprefix("library/")


def _frozen(build: _OpenBuild) -> FoundBuild:
    outcome = build.outcome
    last = build.steps[-1] if build.steps else None
    # Before 1.6 kaniko said nothing about its push: CMD or ENTRYPOINT are where an image ends.
    if (
        outcome is Outcome.INCOMPLETE
        and not build.tells_stages
        and not build.tags
        and last
        and last.keyword in ("CMD", "ENTRYPOINT")
    ):
        outcome = Outcome.SUCCEEDED
    digest = next((digest for digest in build.tags.values() if digest), None)
    return FoundBuild(
        Build(
            builder="kaniko",
            format="kaniko",
            outcome=outcome,
            error=build.error,
            started_at=build.started_at,
            duration_seconds=elapsed(build.started_at, build.ended_at),
            images=(BuiltImage(digest=digest, tags=tuple(build.tags)),) if build.tags else (),
            cache_imports=tuple(CacheTransfer(ref=ref, succeeded=hit or None) for ref, hit in build.looked_up.items()),
            cache_exports=tuple(CacheTransfer(ref=ref or None, succeeded=ok) for ref, ok in build.pushed_cache.items()),
            base_images=tuple(BaseImage(reference=name) for name in build.base_images),
            steps=tuple(_frozen_step(step, outcome) for step in build.steps),
            warnings=tuple(build.warnings),
            line=build.line,
        ),
        build.line,
        build.last_line,
    )


def _frozen_step(step: _Step, outcome: Outcome) -> Step:
    status = step.status
    if status is StepStatus.RUNNING and step.cached:
        status = StepStatus.CACHED
    elif status is StepStatus.RUNNING and (outcome is Outcome.SUCCEEDED or step.is_snapshot_taken):
        status = StepStatus.DONE
    return Step(
        kind=StepKind.INSTRUCTION,
        text=step.text,
        status=status,
        cached=step.cached,
        cacheable=is_cacheable("kaniko", step.keyword),
        stage=step.stage,
        instruction=step.keyword,
        started_seconds=step.started_seconds,
        duration_seconds=step.duration,
        error=step.error,
        output_lines=step.output_lines,
        line=step.line,
    )


FORMAT = _Kaniko()
