"""The text of `docker build` with the classic builder, Docker 1.12 to 28, and of docker-compose version 1.

    Sending build context to Docker daemon  7.168kB
    Step 1/18 : FROM python:3.11-slim AS build
     ---> f6062bacf0c1
    Step 2/18 : ARG REQ=requirements.txt
     ---> Using cache
     ---> 0dc2973e9286
    Step 3/18 : RUN pip install -r ${REQ}
     ---> Running in 7e7257d6a53f
    Removing intermediate container 7e7257d6a53f
     ---> 6112639009dd
    Successfully built 60bb8d3ad911
    Successfully tagged stockroom:1

Printed by github.com/moby/moby, builder/dockerfile, and github.com/docker/cli. Times come from the CI's stamps only.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial

from cachescope.formats._docker_builds import DockerBuilds, Headline, Place
from cachescope.formats._neighbours import Neighbours, visible
from cachescope.formats.base import FoundBuild, LogParser
from cachescope.instructions import keyword_of
from cachescope.prefixes.base import Line, LinePrefix

_CONTEXT = b"Sending build context to Docker daemon"
_FAILED = b"returned a non-zero code: "
# One literal in front of all: `re` looks for it at the speed of memchr.
_EVENT = re.compile(
    rb"S(?:tep \d{1,5}(?:/\d{1,5})? ?: |uccessfully (?:built|tagged) |ending build context to Docker daemon)"
)
_HEADLINE = re.compile(rb"Step (\d{1,5})(?:/(\d{1,5}))? ?: (.*)", re.DOTALL)
_ARROWS = re.compile(rb"---(?:>|&gt;) (?:Using cache|Running in [0-9a-f]{6}|[0-9a-f]{12}\b)")
_BUILT = re.compile(rb"Successfully built ((?:sha256:)?[0-9a-f]{6,64})\s*")
_TAGGED = re.compile(rb"Successfully tagged (\S{1,512})\s*")
_CODE = re.compile(rb"\d{0,9}")
_BLANKS = (b" ", b"\t")
_COMPOSE = re.compile(rb"Building ([A-Za-z0-9_.-]{1,255})\s*")


class _ClassicParser:
    def __init__(self, prefix: LinePrefix) -> None:
        self._builds = DockerBuilds("classic", prefix.strip)
        self._strip = prefix.strip
        self._ordinal = 1
        self.counted: int | None = None
        self._last_line = 0
        self._is_wrapped = False
        """The last headline stands behind a wrapper's prefix."""
        self._neighbours = Neighbours(prefix.strip, b"---", b"ntermediate container ", b"uccessfully ")

    def feed(self, chunk: bytes, first_line: int) -> list[tuple[int, int]]:
        """Look at the lines that hold the builder's words, and at those around them."""
        builds = self._builds
        self.counted = None
        if builds.is_full:
            return []
        if builds.awaits_line:
            self._read_below(chunk, 0)
        printed_from = position = 0
        ordinal, lines_between = self._ordinal, first_line - self._ordinal
        outside: list[tuple[int, int]] = []
        outside_from = -1 if builds.is_inside else 0
        for start, end, line in _marked(chunk, self._strip):
            ordinal += chunk.count(b"\n", position, start)
            position = start
            number = ordinal + lines_between
            text = line.text
            if b"\x1b" in text or b"\r" in text:
                text = visible(text)
            if text.startswith(_BLANKS):
                text = text.lstrip()  # in a list of a text, in a hand's copy
            if text.startswith(b"Step "):
                # An unterminated line may go on: it announces nothing yet.
                headline = _HEADLINE.fullmatch(text) if end < len(chunk) else None
                if headline is None:
                    continue
                if headline[1] in (b"1", b"0"):
                    builds.printed(chunk, printed_from, start)
                    printed_from = start
                if self._read_headline(headline, chunk, start, Place(number, ordinal, line.at)):
                    printed_from = end
                    self._is_wrapped = not chunk[start:end].lstrip(b" \t\x1b").startswith(b"Step ")
                    if builds.awaits_line:
                        self._read_below(chunk, end + 1)
            elif text.startswith(b"Successfully "):
                self._read_success(text, chunk, start, Place(number, ordinal, line.at))
            elif text.startswith(_CONTEXT):
                builds.printed(chunk, printed_from, start)
                printed_from = end
                size = text[len(_CONTEXT) :].decode(errors="replace")
                builds.context(size, number, line.at, self._notices(chunk, start))
            elif _FAILED in text:
                self._read_failure(text, Place(number, ordinal, line.at))
            if outside_from >= 0 and builds.is_inside:
                outside.append((outside_from, start))
                outside_from = -1
            elif outside_from < 0 and not builds.is_inside:
                outside_from = end
        if outside_from >= 0:
            outside.append((outside_from, len(chunk)))
        builds.printed(chunk, printed_from, len(chunk))
        ordinal += chunk.count(b"\n", position)
        self.counted, self._ordinal = ordinal - self._ordinal, ordinal
        self._last_line = self._ordinal + lines_between - chunk.endswith(b"\n")
        self._neighbours.end(chunk)
        return outside

    def builds(self) -> list[FoundBuild]:
        """Return the builds so far, in the order in which they began."""
        return self._builds.found(self._last_line)

    def warnings(self) -> list[str]:
        """Return what was cut or left out."""
        return self._builds.warnings()

    def _read_headline(self, match: re.Match[bytes], chunk: bytes, start: int, place: Place) -> bool:
        text = match[3].rstrip().decode(errors="replace")
        total = None if match[2] is None else int(match[2])
        service = None
        if match[1] in (b"1", b"0") and not self._builds.has_context:
            building = [_COMPOSE.search(line) for line in self._neighbours.above(chunk, start, 3)]
            service = next((found[1].decode() for found in reversed(building) if found), None)
        head = Headline(int(match[1]), total, text, *place)
        return self._builds.headline(head, partial(self._neighbours.above, chunk, start), service)

    def _notices(self, chunk: bytes, start: int) -> list[str]:
        """Return what the client said about its own age above the line about the context."""
        lines = [self._strip(line).text.strip() for line in self._neighbours.above(chunk, start, 6)]
        return [line.decode(errors="replace") for line in lines if line.startswith(b"DEPRECATED: ")]

    def _read_below(self, chunk: bytes, position: int) -> None:
        below = self._neighbours.below(chunk, position, is_wrapped=self._is_wrapped)
        if below is not None:
            line = below[0]
            if b"Step " in line and _HEADLINE.fullmatch(self._strip(line).text.strip()):
                line = b""  # an instruction may hold an arrow
            self._builds.below_headline(line)

    def _read_success(self, text: bytes, chunk: bytes, start: int, place: Place) -> None:
        if built := _BUILT.fullmatch(text):
            self._builds.success(built[1], place, partial(self._neighbours.above, chunk, start))
        elif tagged := _TAGGED.fullmatch(text):
            self._builds.tagged(tagged[1].decode(errors="replace"), place)

    def _read_failure(self, text: bytes, place: Place) -> None:
        begin = text.find(b"The command ")
        end = _CODE.match(text, text.rfind(_FAILED) + len(_FAILED))
        if begin >= 0 and end is not None:
            message = text[begin : end.end()].decode(errors="replace")
            self._builds.failure(message[: 64 * 1024], place)


class _Classic:
    needles = (b"Step ", b"---> ", b"---&gt; ", _CONTEXT)

    def sniff(self, head: bytes, prefix: LinePrefix) -> float:
        """Return how much of what the classic builder prints around a step is there."""
        has_headline = has_first = has_context = has_end = False
        for _, _, line in _marked(head, prefix.strip):
            text = visible(line.text).lstrip()
            headline = _HEADLINE.fullmatch(text)
            if headline is not None:
                is_known = keyword_of(headline[3].decode(errors="replace")) is not None
                has_headline = has_headline or is_known
                has_first = has_first or (is_known and headline[1] in (b"0", b"1"))
            has_context = has_context or text.startswith(_CONTEXT)
            has_end = has_end or _BUILT.fullmatch(text) is not None or _FAILED in text
        has_arrow = _ARROWS.search(head) is not None
        if has_first:
            return 0.95 if has_arrow else 0.85
        if has_headline:
            return 0.7 if has_arrow else 0.5
        if has_context:
            return 0.8
        return 0.6 if has_arrow and has_end else 0.0

    def parser(self, prefix: LinePrefix) -> LogParser:
        """Open a parser."""
        return _ClassicParser(prefix)


def _marked(chunk: bytes, strip: Callable[[bytes], Line]) -> Iterator[tuple[int, int, Line]]:
    """Yield begin, end and content of the lines that hold one of the builder's words."""
    positions = [match.start() for match in _EVENT.finditer(chunk)]
    at = chunk.find(_FAILED)
    if at >= 0:
        while at >= 0:
            positions.append(at)
            at = chunk.find(_FAILED, at + len(_FAILED))
        positions.sort()
    end = -1
    for at in positions:
        if at < end:
            continue  # another word on the same line
        start = chunk.rfind(b"\n", 0, at) + 1
        end = chunk.find(b"\n", at)
        if end < 0:
            end = len(chunk)
        yield start, end, strip(chunk[start:end])


FORMAT = _Classic()
