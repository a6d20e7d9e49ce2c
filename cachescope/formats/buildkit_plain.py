"""BuildKit's plain progress: `docker buildx build --progress=plain`, buildctl, bake, compose, docker 20.10's BuildKit.

    #0 building with "ci" instance using remote driver
    #7 [web deps 3/4] COPY requirements.txt .
    #7 CACHED
    #8 [linux/amd64 build 4/4] RUN make
    #8 0.430 compiling
    #8 ...
    #8 [linux/amd64 build 4/4] RUN make
    #8 DONE 2.2s
    #9 importing cache manifest from registry/app:cache
    #9 ERROR: registry/app:cache: not found

Docker 18.09 told the fields of a vertex instead of its end (its display.go of 2018):

    #5 [2/3] RUN make
    #5       digest: sha256:c9f1e8bcf2f5b3b1a0d2b8f4fcf0ee0f6c5b7b2a9e61f5a0b3cdd4c1f6a8e7d3
    #5      started: 2019-03-05 05:24:07.600239706 +0000 UTC
    #5    completed: 2019-03-05 05:24:08.100239706 +0000 UTC
    #5     duration: 500ms

Printed by BuildKit's util/progress/progressui (printer.go). A line belongs to the block that is open, not to its
number: clients before 0.11 print output under `#0`. Output always carries a time, so it cannot imitate a headline.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from cachescope.formats._buildkit import (
    STEP_CAP,
    Solve,
    Vertex,
    decode,
    fetches_layers,
    is_cancellation,
    is_last_word,
    parse_duration,
    parse_seconds,
    proven_target,
    strip_escapes,
    without_label,
)
from cachescope.formats.base import FoundBuild, LogParser
from cachescope.instructions import StepName, parse_step_name
from cachescope.model import StepKind, StepStatus
from cachescope.prefixes._stamps import parse_stamp
from cachescope.prefixes.base import LinePrefix
from cachescope.prefixes.none import PREFIX as BARE

# A digit that a CI masks becomes `***`: `#***`, `#1***`.
_KEY = rb"#([0-9*]{1,12}) "
# What stands outside of blocks and matters: the client's last words, and what compose v1 says before a build.
_AROUND = (
    rb"------\r*$|ERROR: |error: |failed to |executor failed|context canceled|canceled: |WARNING: No output"
    rb"|Check complete, |##\[error\]buildx|Error: buildx|Error: failed|target [\w.-]{1,128}: failed to "
    rb"|Error response from daemon: |Building [\w.-]{1,128}\r*$| ?> \[| > |\{\r*$"
)
_OUTPUT = rb"(?:[0-9*]{1,9}\.[0-9*]{0,9} |sha256:[0-9a-f]{1,64} [0-9a-z]|extracting sha256:)"
_EVENT = re.compile(_KEY + rb"(?!" + _OUTPUT + rb")")
# The same in a bare log, where every line begins behind a line end: `re` looks for two literal bytes first.
# The usual output is turned down before the number is taken as a group: most lines are such.
_BARE_EVENT = re.compile(rb"\n(?!#[0-9]{1,3}+ [0-9]{1,5}+\.[0-9]{1,3}+ )" + _KEY + rb"(?!" + _OUTPUT + rb")([^\n]*)")
_WORDS = (
    b"---",
    b"rror",
    b"ERROR",
    b"failed",
    b"canceled",
    b"WARNING: No",
    b"Check complete",
    b"Building ",
    b"> ",
    b"{",
)
_WORD_LITERALS = (b"rror", b"ERROR", b"failed", b"canceled")
_LINE = re.compile(_KEY + rb"(?!" + _OUTPUT + rb")([^\n]*)|((?:" + _AROUND + rb").*)", re.DOTALL | re.MULTILINE)
_BODY = re.compile(_KEY)
_GLUED = re.compile(
    rb"#([0-9*]{1,12}) [0-9*]{1,9}\.[0-9*]{0,9} .*?#\1 (DONE [0-9]{1,9}\.[0-9]{1,3}s|CACHED|CANCELED|ERROR(?:: .*)?)$"
)
_DONE = re.compile(rb"DONE(?: ([0-9*]{1,9}(?:\.[0-9*]{0,9})?)s)?$")
_CLOCK = re.compile(rb"([0-9]{1,9}\.[0-9]{1,3}) ")
_DIGEST = re.compile(rb"sha256:[0-9a-f]{64}$")
_NAMED = re.compile(rb"naming to [^ ]{1,512}(?: [0-9.]{1,12}s)? done")
"""Nearly the last of an export."""
_BUILDING_WITH = re.compile(rb'building with "')
_SURE_NAME = (
    rb"(?:\[[^\]\n]{0,300}(?:internal\] |[0-9*]/[0-9*]{1,9}\] [A-Za-z]|\] exporting to )|building with \""
    rb"|resolve image config for |exporting (?:to |cache)|importing cache manifest from |docker-image://|\[auth\] )"
)
_HEADLINE = re.compile(rb"#[0-9*]{1,12} " + _SURE_NAME)
_IS_SURE = re.compile(_SURE_NAME)
_ENDS = (b"DONE", b"CACHED", b"CANCELED", b"ERROR", b"...")
"""How a block ends, or stops for a while."""
_ENDING = re.compile(rb"#[0-9*]{1,12} (?:DONE [0-9.*]{1,12}s|CACHED|CANCELED|ERROR: [^\n]{0,2000})\r*$", re.MULTILINE)
_FAILED_STEP = re.compile(rb"#[0-9*]{1,12} ERROR: (?:process \"|executor failed running)")
_TRAILER = re.compile(rb" ?> \[[^\]\n]{0,300}[0-9*]/[0-9*]{1,9}\] [A-Z]{3,11} [^\n]{1,16000}:[ \r]{0,400}$")
"""The headline of a failed step's output, which is printed again below the steps."""
_SCREEN_ROW = re.compile(rb"=> (?:CACHED |ERROR |CANCELED )?\[")
"""A row of the terminal's progress, below which the same is printed."""
_FIRST_NAMES = (
    "[internal] load build definition",
    "[internal] load local bake",
    "[internal] load remote bake",
    "[internal] booting",
)
_BEGINNINGS = (*_FIRST_NAMES, "[internal] load .dockerignore")
# What 18.09 prints of a vertex: `#5     duration: 1m2.5s`, `#5       cached: true`, `#5        error: "…"`.
_FIELD = re.compile(rb" {2,12}(digest|name|started|completed|duration|cached|error): (.*)", re.DOTALL)
_LONG_NAME = 1024
"""Longer names are not remembered: they would fill the memory."""
_LONGEST_DONE = 32
_DONE_STATUS, _CACHED_STATUS, _RUNNING_STATUS = StepStatus.DONE, StepStatus.CACHED, StepStatus.RUNNING
_WELL_UNDER_WAY = 4
"""A build that has told of so many vertices runs alone if the one before it is at rest; thrice as many where that one
has told of no instruction yet, so that it can hardly be over."""
_SIDE_BY_SIDE = 8
"""So many builds may run side by side in one log."""
_LAST_WORDS = 8
"""A client that has reported a failure says no more about it so many lines further down."""
_LONG_GAP = 64 * 1024
_FIRST_LINES = 1024
_GAP = 160
"""So many bytes outside of every block may be another builder's."""


@dataclass(frozen=True, slots=True)
class _Name:
    """What a headline says."""

    text: str
    is_sure: bool
    """Nothing else than a headline looks so."""
    is_instruction: bool
    target: str | None
    """The bake target that it proves."""
    is_first: bool
    is_beside: bool
    """It begins a build even where other vertices stand before it."""
    is_beginning: bool


class _Build(Solve):
    """One build, and where its printer stands."""

    __slots__ = (
        "_known",
        "_places",
        "at_first",
        "at_last",
        "clock",
        "current",
        "has_instructions",
        "head_is_cut",
        "highest",
        "is_over",
        "opened",
        "tells_fields",
    )

    def __init__(self, line: int) -> None:
        super().__init__("buildkit-plain", line)
        self.current: bytes | None = None
        """The number of the open block."""
        self.opened = line
        """Where the open block's headline stands."""
        self.clock = 0.0
        """The time that the open block's latest output carries; -1 for other lines than output."""
        self.highest = 0
        self.is_over = False
        """The client has said its last word."""
        self.head_is_cut = False
        self.has_instructions = False
        self.tells_fields = False
        """It is one of 18.09, whose vertices end with fields."""
        self.at_first: float | None = None
        self.at_last: float | None = None
        self._known = 0
        self._places: dict[tuple[str | None, str | None, str | None], tuple[int, set[int | None]]] = {}

    def ends_silently(self) -> bool:
        """Tell whether it may end with its last step; of an excerpt nobody knows."""
        return not self.head_is_cut

    def has_ended(self) -> bool:
        """Tell whether no more lines of this build are to come."""
        return self.is_over or self.finished or (self.is_resting() and self.has_exported())

    def has_failed(self) -> bool:
        """Tell whether a step has failed, or was stopped because another one had."""
        return any(
            vertex.status in (StepStatus.FAILED, StepStatus.CANCELED)
            and parse_step_name(vertex.name).kind not in (StepKind.CACHE_IMPORT, StepKind.CACHE_EXPORT)
            for vertex in self.vertices.values()
        )

    def affinity(self, name: str) -> int:
        """Return how a headline of a new number goes with what is known: its stage, its base image, its `3/9`."""
        for vertex in list(self.vertices.values())[self._known :]:
            known = parse_step_name(vertex.name)
            if known.total is not None:
                home = (known.target, known.stage, known.platform)
                self._places.setdefault(home, (known.total, set()))[1].add(known.index)
        self._known = len(self.vertices)
        if any(vertex.name == name for vertex in self.vertices.values()):
            return -4
        new = parse_step_name(name)
        if new.total is None:
            return 0
        place = self._places.get((new.target, new.stage, new.platform))
        if place is None:
            if not self._may_have(new):
                return -4
            image = new.text.partition(" ")[2].partition("@")[0]
            loads = f"load metadata for {image}" if new.instruction == "FROM" else None
            return 4 if loads and any(vertex.name.endswith(loads) for vertex in self.vertices.values()) else 0
        total, indexes = place
        return 3 if total == new.total and new.index not in indexes else -4

    def _may_have(self, new: StepName) -> bool:
        """Tell whether a step's place is of the kind that this build prints: none, a stage, or a target in front."""
        if self._places and (new.platform is None) != any(platform is None for _, _, platform in self._places):
            return False
        if self._targets:
            return new.target is not None or new.stage in self._targets
        if not self._places:
            return True
        has_stages = any(stage is not None for _, stage, _ in self._places)
        return new.target is None and (new.stage is not None) == has_stages


class _Parser:
    def __init__(self, prefix: LinePrefix) -> None:
        self._prefix = prefix
        self._bare = prefix is BARE
        self._active: list[_Build] = []
        self._done: list[FoundBuild] = []
        self._steps = 0
        self._clipped = False
        self._service: tuple[bytes, int] | None = None
        self._bar = False
        """The line before was a bar: a ` > name:` below it begins a trailer that repeats output."""
        self._in_trailer = False
        self._stopped = 0
        """The line from which on nothing is kept any more."""
        self._last_output = b""
        self._ends_in_output = False
        """The last line that was taken as output has a step's number, so nothing before it was the client's end."""
        self._nameless: tuple[_Build, bytes] | None = None
        """A build that failed, and the number of the step, whose headline is missing."""
        self._open: _Build | None = None
        """The build whose block is open: the only one that further lines without a headline can belong to."""
        self._at: float | None = None
        self._other_words = 0
        """Behind this line stood words that no block holds."""
        self.counted: int | None = None
        self._has_escapes = True
        self._cut_line = 0
        """A last line without a line end: a headline there may be cut, and a cut name would be another step."""

    # -- feeding ------------------------------------------------------------------------------------------------------

    def feed(self, chunk: bytes, first_line: int) -> list[tuple[int, int]] | None:
        self.counted = None
        if self._stopped:
            return []
        if not chunk.endswith(b"\n"):
            self._cut_line = first_line + chunk.count(b"\n")
        self._has_escapes = b"\x1b" in chunk
        if b"[output clipped, log limit" in chunk:
            self._clipped = True
        outside: list[tuple[int, int]] = []
        position, line = 0, first_line
        while position < len(chunk) and not self._stopped:
            if len(self._active) < 2:
                position, line = self._scan(chunk, position, line, outside)
            else:
                position, line = self._read_lines(chunk, position, line, outside)
        if not self._stopped and chunk.endswith(b"\n"):
            self.counted = line - first_line
        return outside

    def _scan(self, chunk: bytes, position: int, line: int, outside: list[tuple[int, int]]) -> tuple[int, int]:
        """Read on where one build runs at most: only lines that are no output of a step are looked at.

        Stops where a second build begins beside the first; returns where, and the number of that line.
        """
        events = self._bare_events if self._bare else self._events
        for start, end, (key, rest) in events(chunk, position):
            if start > position:
                if start == position + 1 and self._open is None:
                    line += 1  # the blank line between two blocks
                else:
                    line += self._between(chunk, position, start, line, outside)
            self._event(key, rest, line)
            position = end + 1
            line += 1
            if len(self._active) > 1 or self._stopped:
                return position, line
        end = len(chunk)
        if end > position:
            line += self._between(chunk, position, end, line, outside)
        return end, line

    @staticmethod
    def _bare_events(chunk: bytes, position: int) -> Iterator[tuple[int, int, Sequence[bytes]]]:
        """Yield begin, end, and number and text of the lines that are no output, in a bare log."""
        if position == 0:
            for match in _BARE_EVENT.finditer(b"\n" + chunk):
                yield match.start(), match.end() - 1, match.groups()
        else:
            for match in _BARE_EVENT.finditer(chunk, position - 1):
                yield match.start() + 1, match.end(), match.groups()

    def _events(self, chunk: bytes, position: int) -> Iterator[tuple[int, int, Sequence[bytes]]]:
        """Yield begin, end, and number and text of the lines that are no output, where a prefix stands before them."""
        for match in _EVENT.finditer(chunk, position):
            hit = match.start()
            start = chunk.rfind(b"\n", 0, hit) + 1
            if start < position:
                continue  # a second `#7 ` in a line that was read
            end = chunk.find(b"\n", hit)
            if end < 0:
                end = len(chunk)
            stripped = self._prefix.strip(chunk[start:end])
            event = None if stripped.continues else _LINE.match(stripped.text)
            if event is None or event[1] is None:
                continue
            if stripped.at is not None:
                self._at = stripped.at
            position = end + 1
            yield start, end, event.groups()[:2]

    def _between(self, chunk: bytes, start: int, end: int, line: int, outside: list[tuple[int, int]]) -> int:
        """Read the lines between two events: output of the open block, or the client's words; return their number."""
        lines = chunk.count(b"\n", start, end)
        if self._open is not None:
            self._take_output(chunk, start, end, lines)
            if self._ends_in_output:
                return lines  # no last words: the step went on after them
            gap = chunk[start:end] if end - start < _LONG_GAP else chunk[end - _LONG_GAP : end]
            if not any(word in gap for word in _WORD_LITERALS):
                return lines
            first = line if end - start < _LONG_GAP else line + lines - gap.count(b"\n")
            self._last_words(gap, first)
        elif end - start > 2 and (self._active or end - start < _LONG_GAP):
            if end - start > _GAP:
                outside.append((start, end))
            gap = chunk[start : min(end, start + _LONG_GAP)]
            if self._bare and not gap.isspace():
                self._other_words = line + lines
            if any(word in gap for word in _WORDS):
                self._last_words(gap, line)
        else:
            if end - start > _GAP:
                outside.append((start, end))
            if not self._active and b"Building " in (tail := chunk[max(start, end - 512) : end]):
                self._last_words(tail, line + lines - tail.count(b"\n"))
        return lines

    def _last_words(self, text: bytes, number: int) -> None:
        """Read the lines around blocks."""
        for raw in text.split(b"\n"):
            said = self._prefix.strip(raw)
            match = _LINE.match(said.text)
            if match is not None and match[3] is not None and not said.continues:
                self._around(match[3], number)
            number += 1

    def _take_output(self, text: bytes, start: int, end: int, lines: int) -> None:
        """Count the output of the open block, and keep its last line: a DONE may be glued to it."""
        build = self._open
        self._ends_in_output = False
        if build is None or build.current is None:
            return
        vertex = build.vertices.get(build.current)
        if vertex is not None:
            # 18.09 leaves blank lines and may print output behind the end of its step.
            key = b"#" + build.current + b" "
            vertex.output_lines += lines if not build.tells_fields else text.count(key, start, end)
            # A step that a cache holds prints nothing else than what is fetched for it: the first lines tell.
            first = min(end, start + _FIRST_LINES)
            if " FROM " in vertex.name or (text.find(b" sha256:", start, first) >= 0 and fetches_layers(vertex.name)):
                build.note_layers(vertex, text[start:end])
        tail = text[max(start, end - 4096) : end].rstrip(b"\r\n")
        if tail:
            self._last_output = tail = tail[tail.rfind(b"\n") + 1 :]
            self._ends_in_output = _BODY.match(tail if self._bare else self._prefix.strip(tail).text) is not None

    def _read_lines(self, chunk: bytes, position: int, number: int, outside: list[tuple[int, int]]) -> tuple[int, int]:
        """Read line by line while builds run side by side; return where that ends, and the number of that line."""
        while position < len(chunk):
            end = chunk.find(b"\n", position)
            end = len(chunk) if end < 0 else end
            line = self._prefix.strip(chunk[position:end])
            if line.at is not None:
                self._at = line.at
            match = None if line.continues else _LINE.match(line.text)
            if match is not None and match[1] is not None:
                self._event(match[1], match[2], number)
            elif match is not None or not self._count_line(line.text):
                if match is not None:
                    self._around(match[3], number)
                after = min(end + 1, len(chunk))
                if outside and outside[-1][1] == position:
                    outside[-1] = (outside[-1][0], after)
                else:
                    outside.append((position, after))
            position, number = end + 1, number + 1
            if len(self._active) < 2:
                break
        return position, number

    def _count_line(self, text: bytes) -> bool:
        """Count a line of a step's output; tell whether it is one."""
        body = _BODY.match(text)
        if body is None:
            return False
        build = self._open
        if len(self._active) > 1:
            build = self._owner(body[1], text[body.end() :], 0) or build
        if build is not None and build.current is not None:
            clock = _CLOCK.match(text, body.end())
            build.clock = float(clock[1]) if clock is not None else build.clock or -1.0
            vertex = build.vertices.get(build.current if body[1] == b"0" else body[1])
            if vertex is not None:
                vertex.output_lines += 1
                build.note_layers(vertex, text)
            self._last_output = text[-4096:].rstrip(b"\r\n") if len(text) > 4096 else text.rstrip(b"\r\n")
        return True

    # -- events -------------------------------------------------------------------------------------------------------

    def _event(self, key: bytes, rest: bytes, line: int) -> None:
        if rest.endswith((b"\r", b" ")):
            rest = rest.rstrip(b"\r ")
        if self._has_escapes and b"\x1b" in rest:
            rest = strip_escapes(rest)
        if self._in_trailer:
            if key not in (b"0", b"1"):
                return
            self._in_trailer = False
        self._bar = False
        if key == b"0":
            if _BUILDING_WITH.match(rest):
                self._start(line)
            return
        build = self._open if len(self._active) < 2 else self._owner(key, rest, line)
        if build is None:
            build = self._active[-1] if self._active else None
        may_end = rest.startswith(_ENDS)
        if build is not None and not build.is_over and (vertex := build.vertices.get(key)) is not None:
            if may_end and build.current is None and not vertex.is_open and build.has_ended():
                return  # what looks like a second end long after the build's own
            if may_end and self._ends(build, vertex, key, rest):
                build.last_line = line
                return
            if build.current == key and not (_IS_SURE.match(rest) and decode(rest) != vertex.name):
                build.last_line = line
                self._body(build, vertex, rest)
                return  # unless it is the headline of another build's vertex of that number
        if may_end and (rest == b"..." or _is_ending(rest)):
            if build is None and rest.startswith(b"ERROR: "):
                self._fail_without_headline(key, rest, line)
            return  # of a vertex whose headline was cut away
        self._headline(key, rest, line)

    def _fail_without_headline(self, key: bytes, rest: bytes, line: int) -> None:
        """Take the failure of a step that was announced in lines that are missing; the trailer may name it."""
        build = self._start(line)
        build.head_is_cut = True
        build.fail(decode(rest[7:]))
        self._nameless = build, key

    def _name(self, text: bytes, line: int) -> None:
        """Take the name of a step whose headline is missing from the head of the trailer: ` > [3/4] RUN make:`."""
        said = decode(text.lstrip(b" >").rstrip(b"\r "))
        name = said.removesuffix(":")
        if line == self._cut_line or parse_step_name(name).instruction is None:
            self._nameless = None
            return
        if self._nameless is not None:
            (build, key), self._nameless = self._nameless, None
            if build not in self._active:
                return
        else:
            known = self._named_in_trailer(name, line) if name != said else None
            if known is None:
                return
            build, key = known, b" " + said.encode(errors="replace")
        vertex = build.add(key, Vertex(name, line, number=int(key) if key.isdigit() else None))
        vertex.status, vertex.error = StepStatus.FAILED, build.error
        build.last_line = line
        self._steps += 1

    def _named_in_trailer(self, name: str, line: int) -> _Build | None:
        """Return the build of a failed step that only the trailer names: its other lines are missing."""
        build = self._failed_build()
        if build is None and not self._done:
            build = self._start(line)
            build.head_is_cut = True
        elif build is None or not self._in_trailer or build.has_ended():
            return None
        for vertex in build.vertices.values():
            if vertex.name == name:
                if vertex.is_open:
                    vertex.status = StepStatus.FAILED
                return None
        return build

    def _ends(self, build: _Build, vertex: Vertex, key: bytes, rest: bytes) -> bool:
        """Take the end of a block: `...`, `DONE 1.2s`, `CACHED`, `ERROR: …`, `CANCELED`."""
        first = rest[:1]
        if first == b"D":
            is_done, seconds = _done(rest) if len(rest) < _LONGEST_DONE else (False, None)
            if not is_done:
                return False
            self._close(build, vertex, _DONE_STATUS)
            vertex.duration = seconds
        elif first == b"C":
            if rest == b"CACHED":
                self._close(build, vertex, _CACHED_STATUS)
            elif rest == b"CANCELED":
                self._close(build, vertex, StepStatus.CANCELED)
            else:
                return False
        elif first == b"E":
            if rest[:7] != b"ERROR: " and rest != b"ERROR":
                return False
            self._close(build, vertex, StepStatus.FAILED)
            vertex.error = decode(rest[7:]) or None
            if vertex.error is not None and is_cancellation(vertex.error):
                vertex.status = StepStatus.CANCELED
        elif rest == b"...":
            build.current = None
            if self._open is build:
                self._open = None
        else:
            return False
        return True

    def _close(self, build: _Build, vertex: Vertex, status: StepStatus) -> None:
        vertex.status = status
        vertex.duration = None
        build.current = None
        if self._open is build:
            self._open = None
        if self._at is not None:
            build.at_last = self._at

    def _body(self, build: _Build, vertex: Vertex, rest: bytes) -> None:
        build.clock = build.clock or -1.0
        if rest[:7] == b"sha256:" and vertex.digest is None and _DIGEST.match(rest):
            vertex.digest = rest.decode()
            return
        field = _FIELD.match(rest) if rest[:2] == b"  " else None
        if field is not None:
            self._field(build, vertex, field[1], decode(field[2]))
            return
        build.note(vertex, decode(rest))

    def _field(self, build: _Build, vertex: Vertex, name: bytes, value: str) -> None:
        """Take what 18.09 says of a vertex: each run of it begins and ends; then whether it was cached, or failed."""
        build.tells_fields = True
        if name == b"digest":
            vertex.digest = value if _DIGEST.fullmatch(value.encode(errors="replace")) else vertex.digest
        elif name == b"started":
            vertex.status, began = StepStatus.RUNNING, parse_stamp(value.removesuffix(" UTC"))
            vertex.started = began if vertex.started is None else vertex.started
            if build.started is None:
                build.started = began
        elif name == b"completed":
            vertex.status, ended = StepStatus.DONE, parse_stamp(value.removesuffix(" UTC"))
            if ended is not None and build.started is not None:
                build.duration = round(max(build.duration or 0.0, ended - build.started), 3)
        elif name == b"duration":
            seconds = parse_duration(value)
            if seconds is not None:
                vertex.duration = round((vertex.duration or 0.0) + seconds, 6)
        elif name == b"cached" and value == "true":
            vertex.status = StepStatus.CACHED
        elif name == b"error":
            error = value.strip('"').replace('\\"', '"')
            vertex.status, vertex.error = StepStatus.FAILED, error
            if is_cancellation(error):
                vertex.status = StepStatus.CANCELED

    def _headline(self, key: bytes, rest: bytes, line: int) -> None:
        """Open a block: of a vertex that is new, goes on, or begins another build."""
        name = _name_of(rest) if len(rest) < _LONG_NAME else _name(rest)
        if not name.is_sure and len(self._active) > 1:
            return  # what goes on in a block of another build is no headline
        if not name.is_sure and self._active and _NAMED.fullmatch(rest):
            self._active[-1].finished = True  # the image has its name: the lines above were taken out
            return
        build = self._place(key, name)
        if build is None:
            if not name.is_sure:
                return  # what follows `#7 ` in any other text begins no build
            if self._steps > STEP_CAP:
                self._stopped = line
                return
            build = self._start(line)
            build.head_is_cut = key not in (b"1", b"2", b"3") and b"*" not in key
        if build.current is not None:
            self._unglue(build)
        vertex, text = build.vertices.get(key), name.text
        if line == self._cut_line and (vertex is None or vertex.name != text):
            return
        if vertex is None:
            number = int(key) if key.isdigit() else None
            vertex = build.put(key, Vertex(text, line, number), name.target)
            self._steps += 1
            if number is not None and number > build.highest:
                build.highest = number
            build.has_instructions = build.has_instructions or name.is_instruction
        elif vertex.name != text:
            vertex.name = text if "@" not in vertex.name or "@" in text else vertex.name
        if vertex.status is not _RUNNING_STATUS and not build.tells_fields:
            vertex.status = _RUNNING_STATUS
        if build.at_first is None:
            build.at_first = self._at
        build.at_last = self._at
        build.current = key
        build.opened = build.last_line = line
        build.clock = 0.0
        self._open = build
        if len(self._active) > 1:
            self._retire_idle(build)

    def _place(self, key: bytes, name: "_Name") -> _Build | None:
        """Return the build that a headline belongs to; None when it begins a new one."""
        if len(self._active) == 1:
            build = self._active[0]
            if key not in build.vertices:  # nearly always
                return None if build.is_over or (name.is_beside and build.vertices) else build
            return build if self._fit(build, key, name) > 0 else None
        best: tuple[tuple[int, int], _Build] | None = None
        for build in self._active:
            # Of two that fit equally, the one that waits: a build does not open a block inside its own.
            score = (self._fit(build, key, name), int(build.current is None))
            if score[0] > 0 and (best is None or score >= best[0]):
                best = (score, build)
        return best[1] if best is not None else None

    def _fit(self, build: _Build, key: bytes, name: "_Name") -> int:
        """Return how well a headline fits a build; 0 where it must be of another."""
        if build.is_over:
            return 0
        is_mixed = len(self._active) > 1
        vertex = build.vertices.get(key)
        if vertex is not None:
            if vertex.name != name.text and not _is_same_vertex(vertex.name, name.text):
                return 0
            if vertex.is_open and build.current != key:
                return 20  # it was interrupted by another vertex
            if vertex.is_open:
                return 0 if is_mixed or name.is_first else 1
            if build.head_is_cut and vertex.status is _CACHED_STATUS and self._other_words > build.last_line:
                return 0  # somebody quotes two builds
            if is_mixed and build.has_ended():
                return 1  # rather one that is still at work
            return 0 if build.has_instructions and name.is_beginning and len(key) == 1 else 5
        if name.is_beside and build.vertices:
            return 0
        if not is_mixed:
            return 1
        affinity = build.affinity(name.text)
        if not key.isdigit():
            return max(1, 4 + affinity)
        number = int(key)
        near = build.highest - 4 < number < build.highest + 9
        return max(1, (6 if number == build.highest + 1 else 4 if near else 2) + affinity)

    def _owner(self, key: bytes, rest: bytes, line: int) -> _Build | None:
        """Return which of several builds a line of an open block belongs to."""
        owners = [build for build in self._active if build.current == key and not build.is_over]
        if len(owners) < 2:
            return owners[0] if owners else None
        above = [build for build in owners if build.last_line == line - 1]
        if above and all(build.clock <= 0 for build in owners):
            return above[0]  # no output tells them apart: a block is printed at once
        return max(owners, key=lambda build: (self._plausible(build, key, rest), -build.opened))

    def _plausible(self, build: _Build, key: bytes, rest: bytes) -> float:
        """Return how well a line fits what the open block has printed: a block's times only grow."""
        seconds = parse_seconds(rest[5:-1].decode(errors="replace")) if rest.startswith(b"DONE ") else None
        clock = _CLOCK.match(rest) if seconds is None else None
        if clock is not None:
            seconds = float(clock[1]) + 0.1
        if seconds is not None:
            gap = seconds - max(0.0, build.clock)
            return -gap if gap >= 0 else gap - 1e9
        if rest == b"CACHED":
            return build.opened if build.clock == 0 else -1e9  # it follows its headline at once
        if rest.startswith(b"ERROR: "):
            command = decode(rest).partition("-c ")[2].partition('" did not')[0]
            return float(bool(command) and command in build.vertices[key].name)
        return 0.0

    def _start(self, line: int) -> _Build:
        """Begin a build; those that have ended are put away."""
        service = self._service
        for build in self._active:
            self._unglue(build)
        over = [build for build in self._active if build.has_ended()]
        rest = [build for build in self._active if build not in over]
        over += rest[: max(0, len(rest) - _SIDE_BY_SIDE)]
        self._active = [build for build in rest if build not in over]
        for build in over:
            self._keep(build)
        build = _Build(line)
        build.at_first = build.at_last = self._at
        if service is not None and line - service[1] <= 2:
            build.service = service[0].decode(errors="replace")
            build.line = service[1]
        self._service = None
        self._active.append(build)
        self._open = None
        return build

    def _retire_idle(self, latest: _Build) -> None:
        """Close builds that have printed nothing since another one began and is well under way."""
        under_way = len(latest.vertices)
        if under_way < _WELL_UNDER_WAY:
            return
        idle = [
            build
            for build in self._active
            if build is not latest
            and build.last_line < latest.line
            and (build.has_ended() or build.is_resting())
            and (build.has_instructions or under_way >= 3 * _WELL_UNDER_WAY)
        ]
        for build in idle:
            self._active.remove(build)
            self._keep(build)

    def _keep(self, build: _Build) -> None:
        if build.vertices or build.error is not None:
            self._done.append(_found(build))

    def _unglue(self, build: _Build) -> None:
        """Find the end of a block that ends without one: 20.10 glues it to output without a last line end."""
        if build.current is None:
            return
        vertex = build.vertices.get(build.current)
        glued = _GLUED.search(self._last_output)
        if vertex is not None and glued is not None and glued[1] == build.current:
            self._ends(build, vertex, glued[1], glued[2])
        build.current = None
        if self._open is build:
            self._open = None

    # -- lines outside of blocks --------------------------------------------------------------------------------------

    def _around(self, text: bytes, line: int) -> None:
        text = text.rstrip(b"\r ")
        if text.startswith(b"------"):
            self._in_trailer = False
            self._bar = True
            return
        if text.startswith((b" > ", b"> [")):
            self._in_trailer = self._bar
            self._bar = False
            self._name(text, line)
            return
        if self._in_trailer:
            return
        if text.startswith(b"Building "):
            self._service = (text[9:], line)
            return
        build = self._failed_build()
        if build is None:
            self._headless_error(text, line)
            return
        if build.is_over and line - build.last_line > _LAST_WORDS:
            return
        said = decode(text)
        if said.startswith(("WARNING: No output", "Check complete, ")):
            if said.startswith("Check complete, ") and " no warnings" not in said:
                build.fail(said)
            build.finished = True
            build.is_over = build.is_over or said.startswith("Check complete, ")
        elif said == "{":
            build.finished = all("bake" in vertex.name for vertex in build.vertices.values())
        elif build.has_exported() and build.is_resting() and not build.has_failed():
            return  # an error further down is another one's
        elif is_last_word(said) or not build.has_exported():
            self._unglue(build)
            build.fail(without_label(said))
            build.is_over = True
            self._open = None if self._open is build else self._open
        else:
            return
        build.last_line = line

    def _failed_build(self) -> _Build | None:
        """Return the build that a last word is about: the one with a failed step, else the latest."""
        if not self._active:
            return None
        failed = [
            build
            for build in self._active
            if not build.is_over and any(v.status is StepStatus.FAILED for v in build.vertices.values())
        ]
        return failed[-1] if failed else self._active[-1]

    def _headless_error(self, text: bytes, line: int) -> None:
        """A build that fails before its first step is a build too."""

    # -- results ------------------------------------------------------------------------------------------------------

    def builds(self) -> list[FoundBuild]:
        for build in self._active:
            vertex = build.vertices.get(build.current) if build.current is not None else None
            glued = _GLUED.search(self._last_output)
            if vertex is not None and glued is not None and glued[1] == build.current:
                self._ends(build, vertex, glued[1], glued[2])
        running = [_found(build) for build in self._active if build.vertices or build.error is not None]
        return sorted(self._done + running, key=lambda found: found.first_line)

    def warnings(self) -> list[str]:
        return list(self._warnings())

    def _warnings(self) -> Iterator[str]:
        if self._stopped:
            yield f"More than {STEP_CAP:,} steps: builds from line {self._stopped:,} on are not listed."
        if self._clipped:
            yield "The builder clipped the output of a step."
        for build in self._active:
            if build.head_is_cut:
                yield f"The head of the build at line {build.line} is cut off."
            if not build.is_over and not build.is_resting():
                yield f"The log ends before the build that begins at line {build.line} does."


def _found(build: _Build) -> FoundBuild:
    if build.at_first is not None and build.at_last is not None:
        build.started = build.at_first
        build.duration = round(max(0.0, build.at_last - build.at_first), 3)
    return FoundBuild(build.build(), build.line, max(build.last_line, build.line))


def _name(rest: bytes) -> _Name:
    text = decode(rest)
    return _Name(
        text=text,
        is_sure=_IS_SURE.match(rest) is not None,
        is_instruction=text[:1] == "[" and parse_step_name(text).kind is StepKind.INSTRUCTION,
        target=proven_target(text),
        is_first=text.startswith(_FIRST_NAMES),
        is_beside=text.startswith(_FIRST_NAMES[1:]),
        is_beginning=text.startswith(_BEGINNINGS),
    )


_name_of = lru_cache(maxsize=2048)(_name)
"""The names of steps recur from build to build."""


@lru_cache(maxsize=1024)
def _done(rest: bytes) -> tuple[bool, float | None]:
    """Tell whether a line ends a block, and after how many seconds: few times are printed, again and again."""
    done = _DONE.match(rest)
    seconds = done[1] if done is not None else None
    return done is not None, float(seconds) if seconds is not None and b"*" not in seconds else None


def _is_ending(rest: bytes) -> bool:
    return rest in (b"CACHED", b"CANCELED", b"ERROR") or rest.startswith((b"ERROR: ", b"DONE "))


def _is_same_vertex(known: str, name: str) -> bool:
    """Tell whether two headlines are of one vertex: bake changes the target, a digest may be added."""
    if known == name or known.partition("@")[0] == name.partition("@")[0]:
        return True
    left, right = parse_step_name(known), parse_step_name(name)
    if left.index is not None:
        return (left.text, left.index, left.total) == (right.text, right.index, right.total)
    return known.partition("] ")[2] == name.partition("] ")[2] != ""


class _BuildkitPlain:
    needles = (
        b"internal] ",
        b"] FROM ",
        b"] RUN ",
        b"] COPY ",
        b"] WORKDIR ",
        b"] ADD ",
        b" DONE ",
        b"CACHED",
        b"building with",
        b"exporting to ",
        b"exporting cache",
        b"importing cache manifest",
        b"did not complete successfully",
        b"executor failed running",
    )

    def sniff(self, head: bytes, prefix: LinePrefix) -> float:
        """Return 0.9 for headlines with their ends, less for one of the two."""
        headlines = endings = 0
        has_failed = False
        trailer = False
        for raw in head.split(b"\n"):
            if b"#" not in raw:
                if not trailer and b"> [" in raw and _SCREEN_ROW.search(head) is None:
                    trailer = _TRAILER.match(prefix.strip(raw).text) is not None
                continue
            line = prefix.strip(raw)
            if not line.continues and line.text.startswith(b"#"):
                headlines += _HEADLINE.match(line.text) is not None
                endings += _ENDING.match(line.text) is not None
                has_failed = has_failed or _FAILED_STEP.match(line.text) is not None
                if headlines and endings:
                    return 0.9
        if headlines or endings > 1:
            return 0.5
        return 0.4 if trailer or (endings and has_failed) else 0.0

    def parser(self, prefix: LinePrefix) -> LogParser:
        """Open a parser."""
        return _Parser(prefix)


FORMAT = _BuildkitPlain()
