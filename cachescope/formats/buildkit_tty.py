"""BuildKit's terminal progress, captured or pasted: every frame draws the rows again.

    [+] Building 2.5s (8/9)                                                                docker:default
    ^[[34m => [internal] load build definition from Dockerfile                                       0.0s
    ^[[0m^[[34m => => transferring dockerfile: 293B                                                  0.0s
    ^[[0m^[[34m => CACHED [2/5] WORKDIR /app                                                         0.0s
    ^[[0m => [3/5] RUN make                                                                          2.1s
     => => # cc -c main.c
    ^[[0m^[[31m => ERROR [4/5] RUN false                                                             0.4s

Printed by BuildKit's util/progress/progressui (display.go). A finished row is coloured, one at work is not. Rows are
cut at the screen's width, and a low screen leaves rows out; captured logs may have lost or mangled the escapes.
"""

import re
from collections.abc import Iterator

from cachescope.formats._buildkit import STEP_CAP, Solve, Vertex, decode, is_last_word, without_label
from cachescope.formats.base import FoundBuild, LogParser
from cachescope.instructions import parse_step_name
from cachescope.model import StepKind, StepStatus
from cachescope.prefixes.base import LinePrefix

# Escapes as the terminal got them, or as a CI left them: `?[1A`, `^[[34m`, `[34m`, the symbol for ESC.
_ESCAPE = rb"(?:(?:\x1b|\?|\^\[|\\x1b|\\u001b|\\033|\xe2\x90\x9b|\xef\xbf\xbd|\xe2\x86\x90)?\[[0-9;?]{0,16}[A-Za-z]|\r)"
_LEAD = re.compile(rb"(?:" + _ESCAPE + rb"){1,400}")
_LAST_ESCAPES = re.compile(rb"(?:" + _ESCAPE + rb"){1,8}$")
_COLOUR = re.compile(rb"\[(\d{1,3}(?:;\d{1,3}){0,4})m$")
# People put what they quote between backticks or quotes, also over several lines.
_MARGIN = rb"[ \t]{0,16}[`'\"]{0,3}[ \t]{0,4}"
_HEAD = re.compile(_MARGIN + rb"\[\+\] Building (\d{1,9}(?:\.\d{1,3})?)s \((\d{1,6})/(\d{1,6})\)( FINISHED)?")
_ROW = re.compile(_MARGIN + rb"=> (=> )?(?:(CACHED|ERROR|CANCELED) )?(?=\S)")
_TRAILER = re.compile(rb"[ \t]{0,16}> \[[^\]\n]{1,300}\] [^\n]{1,2000}:[ \r]{0,400}$")
"""The headline of a failed step's output below the screen."""
_SECONDS = re.compile(rb"\d{1,9}\.\ds$")
_LONE_SECONDS = re.compile(rb"[ \t]{0,200}(\d{1,9}\.\d)s[ \r]*$")
_STATES = {b"CACHED": StepStatus.CACHED, b"ERROR": StepStatus.FAILED, b"CANCELED": StepStatus.CANCELED}
# Compose that builds with bake counts what it built below the rows.
_BUILT = re.compile(rb"[ \t]{0,16}\[\+\] (?:B|b)uild(?:ing)? (\d{1,4})/\1(?!\d)")
_COMPOSE = re.compile(rb"Building ([\w.-]{1,128})\s*")
_GOES_ON = ("[+] Running ", "[+] up ", "Use 'docker scan'")
"""What docker and compose say only behind a build that has succeeded."""
_OPENINGS = (b"=> ", b"[+] Building ")
_WORDS = (
    b"=> ",
    b"[+] ",
    b" > ",
    b"failed ",
    b"context canceled",
    b"did not complete",
    b"Check complete",
    b"WARNING: No",
    b"Use 'docker scan'",
    b"\x1b",
)
_SHORTEST_CUT = 24
_FRAME_ROWS = 2_000
_IDLE = 200
"""After so many lines without a row a build that is over is put away."""
_LONGEST_TRAILER = 20_000
"""A failed step's output is printed again below the screen, then the error."""


class _Screen(Solve):
    """One build and its latest frame."""

    __slots__ = (
        "cut",
        "elapsed",
        "has_colours",
        "has_head",
        "idle_at",
        "is_over",
        "last_row",
        "now",
        "running",
        "shown",
        "talking",
        "total",
    )

    def __init__(self, line: int) -> None:
        super().__init__("buildkit-tty", line)
        self.elapsed = 0.0
        self.idle_at = line
        """From here on it is to be seen whether the screen has been left."""
        self.has_head = True
        """`[+] Building 2.5s (8/9)` stands above the rows; not so where somebody copied only these."""
        self.now = self.total = 0
        self.has_colours = False
        self.is_over = False
        self.cut: set[int] = set()
        """Vertices whose name the screen's width may have cut."""
        self.shown: list[Vertex] = []
        """Vertices of the latest frame, from top to bottom."""
        self.running: set[int] = set()
        """Those of them that were drawn at work."""
        self.talking: set[int] = set()
        """Those of them below which output is drawn: only what is at work has any."""
        self.last_row: Vertex | None = None

    def is_well(self) -> bool:
        """Tell whether the last frame shows a build that has come to its end, and no failure."""
        return (
            self.finished
            and any(parse_step_name(vertex.name).index is not None for vertex in self.vertices.values())
            and not any(v.status in (StepStatus.FAILED, StepStatus.CANCELED) for v in self.vertices.values())
        )

    def has_failed(self) -> bool:
        """Tell whether the last frame shows a step that failed."""
        return any(vertex.status is StepStatus.FAILED for vertex in self.vertices.values())

    def begin_frame(self, elapsed: float, now: int, total: int) -> None:
        """Begin to draw again."""
        self.elapsed, self.now, self.total = elapsed, now, total
        self.shown = []
        self.running = set()
        self.talking = set()
        self.last_row = None

    def row(
        self, name: str, state: bytes | None, seconds: float | None, line: int, *, is_cut: bool, is_coloured: bool
    ) -> bool:
        """Take one row of a vertex; True when it is a new one."""
        vertex = self._match(name, is_cut)
        is_new = vertex is None
        if vertex is None:
            vertex = self.add(len(self.vertices), Vertex(name, line))
        elif len(name) > len(vertex.name) or not vertex.name.startswith(name):
            vertex.name = name
            self.add(next(key for key, value in self.vertices.items() if value is vertex), vertex)
        if is_cut:
            self.cut.add(id(vertex))
        vertex.duration = seconds
        vertex.status = _STATES.get(state, StepStatus.DONE) if state is not None else StepStatus.DONE
        if state is None and not is_coloured:
            self.running.add(id(vertex))
        self.has_colours = self.has_colours or is_coloured
        self.shown.append(vertex)
        self.last_row = vertex
        return is_new

    def _match(self, name: str, is_cut: bool) -> Vertex | None:
        """Find the vertex of a row: of its name, or of a name that the width cuts elsewhere."""
        drawn = {id(vertex) for vertex in self.shown}
        free = [vertex for vertex in self.vertices.values() if id(vertex) not in drawn]
        for vertex in free:
            if vertex.name == name:
                return vertex
        for vertex in free:
            shorter, longer = sorted((vertex.name, name), key=len)
            cut = is_cut if shorter is name else id(vertex) in self.cut
            if cut and len(shorter) >= _SHORTEST_CUT and longer.startswith(shorter):
                return vertex
        return next((vertex for vertex in free if _is_renamed(vertex.name, name)), None)

    def detail(self, vertex: Vertex, text: str, *, is_cut: bool) -> None:
        """Take a row below a vertex; it may show more of a base image's name than the vertex's own row."""
        head, found, reference = vertex.name.partition(" FROM ")
        if found and id(vertex) in self.cut and text.startswith("resolve " + reference):
            vertex.name = f"{head} FROM {text[8:]}"
        elif not is_cut:
            self.note(vertex, text)

    def settle(self) -> None:
        """Decide what is still at work by the latest frame: without colours, the counter and the order tell."""
        running = self.running
        if self.finished:
            running = set()
        elif not self.has_head:
            running = self.talking
        elif not self.has_colours:
            plain = sorted(
                (vertex for vertex in self.shown if id(vertex) in running),
                key=lambda vertex: id(vertex) in self.talking,
            )
            count = max(0, len(self.shown) - self.now)
            running = {id(vertex) for vertex in plain[len(plain) - count :]} if count else set()
        drawn = {id(vertex) for vertex in self.shown}
        for vertex in self.vertices.values():
            if id(vertex) in running:
                vertex.status = StepStatus.RUNNING
                vertex.duration = None
            elif id(vertex) not in drawn and vertex.status is StepStatus.RUNNING:
                vertex.status = StepStatus.DONE  # it left a low screen while it was at work

    def ends_silently(self) -> bool:
        """Tell whether a build may end with its last step: its head says FINISHED then."""
        return False


class _Parser:
    def __init__(self, prefix: LinePrefix) -> None:
        self._prefix = prefix
        self._screen: _Screen | None = None
        self._done: list[FoundBuild] = []
        self._steps = 0
        self._rows = 0
        self._dropped = 0
        self._service: tuple[str, int] | None = None
        """What compose version 1 says before it builds."""
        self._cut_line = 0
        """A last line without a line end: a row there may be cut."""
        self._below = b""
        """The line below a row that may be a build's first: a narrow console breaks rows."""

    def feed(self, chunk: bytes, first_line: int) -> list[tuple[int, int]] | None:
        strip = self._prefix.strip
        if not chunk.endswith(b"\n"):
            self._cut_line = first_line + chunk.count(b"\n")
        # Most words stand nowhere in a chunk, and most lines below a screen hold none: a look is cheaper than a line.
        words = [word for word in _WORDS if word in chunk]
        for number, raw in self._telling_lines(chunk, first_line):
            screen = self._screen
            if screen is not None and number > screen.idle_at:
                self._rest(screen, number)
                screen = self._screen
            for word in _OPENINGS if screen is None else words:
                if word in raw:
                    self._line(strip(raw).text, number)
                    break
            else:
                if screen is not None and screen.last_row is not None and screen.last_row.duration is None:
                    self._line(strip(raw).text, number)
            if b"Building " in raw and (service := _COMPOSE.fullmatch(strip(raw).text)):
                self._service = service[1].decode(errors="replace"), number
        return None

    def _telling_lines(self, chunk: bytes, number: int) -> Iterator[tuple[int, bytes]]:
        """Yield the lines that may matter, with their numbers: while no screen is open only those that may open one."""
        upcoming = {word: chunk.find(word) for word in (b"=> ", b"Building ")}
        position = 0
        while position < len(chunk):
            if self._screen is None:
                for word, at in upcoming.items():
                    if 0 <= at < position:
                        upcoming[word] = chunk.find(word, position)
                nearest = min((at for at in upcoming.values() if at >= 0), default=-1)
                if nearest < 0:
                    return
                start = chunk.rfind(b"\n", position, nearest) + 1 or position
                number += chunk.count(b"\n", position, start)
                position = start
            end = chunk.find(b"\n", position)
            end = len(chunk) if end < 0 else end
            if self._screen is None:
                self._below = self._prefix.strip(chunk[end + 1 : end + 400].partition(b"\n")[0]).text
            yield number, chunk[position:end]
            position, number = end + 1, number + 1

    def _rest(self, screen: _Screen, number: int) -> None:
        """Read on without a screen that has been left: the lines of a long log need not all be looked at."""
        if number <= screen.last_line + _IDLE:
            screen.idle_at = screen.last_line + _IDLE
        elif screen.is_over or not screen.has_head or screen.is_well() or number > screen.last_line + _LONGEST_TRAILER:
            self._close()
            self._screen = None
        else:
            screen.idle_at = number + _IDLE

    def _line(self, text: bytes, number: int) -> None:
        lead = _LEAD.match(text)
        escapes = b""
        if lead is not None:
            escapes, text = lead[0], text[lead.end() :]
        head = _HEAD.match(text)
        if head is not None:
            self._frame(head, number)
            return
        screen = self._screen
        if screen is None:
            if _is_telling_row(text, self._below) and number != self._cut_line:
                screen = self._screen = self._opened(number)
                screen.has_head = False
            else:
                return
        if text[:24].lstrip(b" \t`'\"").startswith(b"=> "):
            if not screen.is_over and number != self._cut_line:
                self._row(text, escapes, number)
        elif _BUILT.match(text) is not None and not screen.is_over:
            screen.finished = True
            screen.last_line = number
        elif screen.last_row is not None and screen.last_row.duration is None and (lone := _LONE_SECONDS.match(text)):
            screen.last_row.duration = float(lone[1])  # a console broke the row
        elif text[:24].lstrip(b" \t").startswith(b"> "):
            self._trailer(decode(text).strip()[2:], number)
        else:
            self._words(text, number)

    def _frame(self, head: re.Match[bytes], number: int) -> None:
        elapsed, now, total = float(head[1]), int(head[2]), int(head[3])
        screen = self._screen
        if total == 0 and screen is not None and not screen.is_over and screen.has_failed():
            return  # compose draws an empty screen before it prints the error
        if screen is None or screen.is_over or self._begins(screen, elapsed, is_finished=head[4] is not None):
            self._close()
            screen = self._screen = self._opened(number)
        screen.has_head = True
        screen.begin_frame(elapsed, now, total)
        screen.finished = head[4] is not None
        screen.last_line = number
        self._rows = 0

    def _opened(self, number: int) -> _Screen:
        screen = _Screen(number)
        if self._service is not None and number - self._service[1] <= 2:
            screen.service = self._service[0]
        return screen

    def _begins(self, screen: _Screen, elapsed: float, *, is_finished: bool) -> bool:
        """Tell whether a frame is another build's: time runs backwards, or on after the end."""
        if elapsed < screen.elapsed - 0.15:
            return True
        return screen.finished and (not is_finished or (bool(screen.shown) and elapsed > screen.elapsed + 0.05))

    def _close(self) -> None:
        if self._screen is None or not (self._screen.vertices or self._screen.error):
            return
        self._steps += len(self._screen.vertices)
        if self._steps > STEP_CAP:
            self._dropped += 1
        else:
            self._done.append(_found(self._screen))

    def _row(self, text: bytes, escapes: bytes, number: int) -> None:
        screen = self._screen
        self._rows += 1
        if screen is None or self._rows > _FRAME_ROWS:
            return
        row = _ROW.match(text)
        if row is None:
            return
        screen.last_line = number
        name, gap, seconds = _split_row(text[row.end() :])
        coloured = _COLOUR.search(escapes)
        is_coloured = coloured is not None and coloured[1] not in (b"0", b"1")
        if row[1] is not None:
            if name.startswith("# "):
                if screen.last_row is not None and id(screen.last_row) in screen.running:
                    screen.talking.add(id(screen.last_row))
            elif screen.last_row is not None:
                screen.detail(screen.last_row, name, is_cut=seconds is not None and gap <= 2)
        elif seconds is not None or parse_step_name(name).kind is not StepKind.OTHER:
            # Without a time it stands on the next line, or was lost where somebody copied the row.
            is_cut = seconds is not None and gap <= 2
            screen.row(name, row[2], seconds, number, is_cut=is_cut, is_coloured=is_coloured)

    def _trailer(self, text: str, number: int) -> None:
        """Take the name of a failed step from the words below the screen: its row was cut, or is missing."""
        name = text.removesuffix(":")
        screen = self._screen
        if screen is None:
            return
        is_known = False
        for key, vertex in list(screen.vertices.items()):
            if vertex.name == name or (id(vertex) in screen.cut and name.startswith(vertex.name)):
                is_known = True
                if vertex.status is StepStatus.FAILED and vertex.name != name:
                    vertex.name = name
                    screen.add(key, vertex)
        if is_known or name == text or screen.is_over or number == self._cut_line:
            return
        if parse_step_name(name).index is not None and not screen.is_well():
            screen.add(len(screen.vertices), Vertex(name, number, status=StepStatus.FAILED))
            screen.last_line = number

    def _words(self, text: bytes, number: int) -> None:
        screen = self._screen
        said = decode(text.rstrip(b"\r "))
        if screen is None or not said or screen.is_over:
            return
        if screen.is_well():
            return  # an error further down is another one's
        if is_last_word(said) and not said[:1].isdigit() and not said.startswith(("#", " ")):
            screen.fail(without_label(said))
            screen.is_over = True
            screen.last_line = number
        elif said.startswith("Check complete, ") and " no warnings" not in said:
            screen.fail(said)
        elif said.startswith("WARNING: No output") or (said.startswith(_GOES_ON) and not screen.has_failed()):
            screen.finished = True

    def builds(self) -> list[FoundBuild]:
        screen = self._screen
        running = [_found(screen)] if screen is not None and (screen.vertices or screen.error) else []
        return self._done + running

    def warnings(self) -> list[str]:
        warnings = []
        if self._dropped:
            warnings.append(f"More than {STEP_CAP:,} steps: {self._dropped:,} later builds are not listed.")
        for found in self.builds():
            screens = {step.text for step in found.build.steps}
            if self._screen is not None and not self._screen.has_head and found.first_line == self._screen.line:
                warnings.append(f"The head of the build at line {found.first_line} is cut off.")
            if not screens:
                warnings.append(f"The screen of the build at line {found.first_line} shows no steps.")
        return warnings


def _split_row(text: bytes) -> tuple[str, int, float | None]:
    """Return a row's words, how many blanks follow them, and the seconds at its right edge."""
    text = _strip_end(text)
    words, _, last = text.rpartition(b" ")
    if not words or _SECONDS.match(last) is None:
        return decode(text), 0, None
    name = words.rstrip(b" ")
    return decode(name), len(words) - len(name) + 1, float(last[:-1])


def _strip_end(text: bytes) -> bytes:
    """Take blanks and escapes off the end."""
    text = text.rstrip(b" \r")
    while b"[" in text[-24:] and (match := _LAST_ESCAPES.search(text, max(0, len(text) - 200))) is not None:
        text = text[: match.start()].rstrip(b" \r")
    return text


def _has_trailer(head: bytes, prefix: LinePrefix) -> bool:
    """Tell whether the output of a failed step stands below its row."""
    at = head.find(b"> [")
    if at < 0:
        return False
    line = head[head.rfind(b"\n", 0, at) + 1 :].split(b"\n", 1)[0]
    return _TRAILER.match(prefix.strip(line).text) is not None


def _is_telling_row(text: bytes, below: bytes = b"") -> bool:
    """Tell whether a row without a frame's head can only be a builder's: a step that BuildKit knows, and its time.

    The row of a step that failed may have lost its time: the words below it tell.
    """
    row = _ROW.match(text)
    if row is None or row[1] is not None:
        return False
    name, _, seconds = _split_row(text[row.end() :])
    if seconds is None and row[2] != b"ERROR" and _LONE_SECONDS.match(below) is None:
        return False
    return name.startswith(("[", "exporting to ")) and parse_step_name(name).kind is not StepKind.OTHER


def _is_renamed(known: str, name: str) -> bool:
    """Tell whether bake shows a shared step under another target now: `[api common 2/5]`, `[worker common 2/5]`."""
    left, right = parse_step_name(known), parse_step_name(name)
    if left.index is None or left.target is None or right.target is None:
        return False
    return (left.text, left.index, left.total, left.stage) == (right.text, right.index, right.total, right.stage)


def _found(screen: _Screen) -> FoundBuild:
    screen.settle()
    screen.duration = screen.elapsed if screen.has_head else None
    return FoundBuild(screen.build(), screen.line, screen.last_line)


class _BuildkitTty:
    needles = (b"[+] Building ", b"=> [", b"=> ERROR [", b"=> CACHED [", b"=> CANCELED [", b"=> exporting to ")

    def sniff(self, head: bytes, prefix: LinePrefix) -> float:
        """Return 0.95 for a frame's head with rows, 0.5 for rows, 0.3 for a head alone."""
        has_head, rows = False, 0
        lines = head.split(b"\n", 4000)[:4000]
        for raw, below in zip(lines, [*lines[1:], b""], strict=True):
            if b"=> " not in raw and b"[+] Building " not in raw:
                continue
            text = prefix.strip(raw).text
            text = text[lead.end() :] if (lead := _LEAD.match(text)) is not None else text
            if _HEAD.match(text):
                has_head = True
            elif has_head and _ROW.match(text) and _split_row(text)[2] is not None:
                return 0.95
            elif b"=> " in text and _is_telling_row(text, prefix.strip(below[:400]).text):
                rows += 1
        if rows > 1 or (rows and (has_head or _has_trailer(head, prefix))):
            return 0.5
        if rows:
            return 0.4
        return 0.3 if has_head else 0.0

    def parser(self, prefix: LinePrefix) -> LogParser:
        """Open a parser."""
        return _Parser(prefix)


FORMAT = _BuildkitTty()
