"""BuildKit's rawjson progress (`--progress=rawjson`): one SolveStatus per line, and plain words at a failed end.

    {"vertexes":[{"digest":"sha256:7e69…","name":"[internal] load build definition from Dockerfile"}]}
    {"vertexes":[{"digest":"sha256:7e69…","name":"…","started":"2026-11-23T16:47:34.258Z","completed":"…","cached":true}]}
    {"statuses":[{"id":"transferring context:","vertex":"sha256:…","name":"transferring","current":30,"timestamp":"…"}]}
    {"logs":[{"vertex":"sha256:…","stream":1,"data":"SGVsbG8K","timestamp":"…"}]}
    ERROR: failed to build: failed to solve: process "/bin/sh -c false" did not complete successfully: exit code: 1

Written by BuildKit's util/progress/progressui (display.go, rawJSONDisplay); types in client/graph.go.
"""

import re

import orjson

from cachescope.formats._buildkit import STEP_CAP, decode, is_last_word, without_label
from cachescope.formats._solve_status import StatusStream
from cachescope.formats.base import FoundBuild, LogParser
from cachescope.prefixes.base import LinePrefix
from cachescope.prefixes.none import PREFIX as BARE

_STARTS = (b'{"vertexes":[', b'{"statuses":[', b'{"logs":[', b'{"warnings":[')
# A message that is one piece of output, the most frequent kind: read without a JSON parser.
_ONE_OUTPUT = re.compile(
    rb'\{"logs":\[\{"vertex":"(sha256:[0-9a-f]{64})","stream":\d{1,3},"data":"([A-Za-z0-9+/=]*)","timestamp":"[^"]*"\}\]\}\r*$'
)
_SURE = re.compile(rb'\{"vertexes":\[\{"digest":"sha256:[0-9a-f]{64}"')


class _Parser:
    def __init__(self, prefix: LinePrefix) -> None:
        self._prefix = prefix
        self._bare = prefix is BARE
        self._stream = StatusStream("buildkit-rawjson")
        self._broken = 0

    def feed(self, chunk: bytes, first_line: int) -> list[tuple[int, int]] | None:
        outside: list[tuple[int, int]] = []
        position = 0
        stream = self._stream
        if stream.is_full:
            return outside
        for number, raw in enumerate(chunk.split(b"\n"), first_line):
            text = raw if self._bare else self._prefix.strip(raw).text
            if text.startswith(_STARTS):
                if text.startswith(b'{"logs":[') and (output := _ONE_OUTPUT.match(text)) is not None:
                    stream.take_output(output[1].decode(), output[2].decode())
                elif not text.startswith(b'{"statuses":[') or b'"completed"' in text or b'"vertexes":[' in text:
                    self._message(text, number)
            elif text:
                end = min(len(chunk), position + len(raw) + 1)
                if outside and outside[-1][1] == position:
                    outside[-1] = (outside[-1][0], end)
                else:
                    outside.append((position, end))
                self._words(text)
            position += len(raw) + 1
        return outside

    def _message(self, text: bytes, number: int) -> None:
        try:
            message = orjson.loads(text)
        except orjson.JSONDecodeError:
            self._broken += 1
            return
        self._stream.take(message, number)

    def _words(self, text: bytes) -> None:
        """Read what the client says in plain words after the stream."""
        solve = self._stream.latest
        if solve is None or solve.is_over:
            return
        said = decode(text.rstrip(b"\r "))
        if is_last_word(said):
            solve.fail(without_label(said))
            solve.is_over = True
        elif said.startswith("Check complete, "):
            solve.finished = True
            if " no warnings" not in said:
                solve.fail(said)
        elif said.startswith("WARNING: No output"):
            solve.finished = True

    def builds(self) -> list[FoundBuild]:
        latest = self._stream.latest
        if latest is not None:
            # The stream itself does not say so: its last message closes the last vertex, and no step was announced.
            latest.gave_up = not self._broken and not latest.finished and not latest.has_instructions
        return self._stream.found()

    def warnings(self) -> list[str]:
        warnings = []
        if self._broken:
            are = "line is" if self._broken == 1 else "lines are"
            warnings.append(f"{self._broken} {are} cut or no JSON.")
        latest = self._stream.latest
        if latest is not None and not latest.is_over and not latest.is_resting():
            warnings.append(f"The log ends before the build that begins at line {latest.line} does.")
        if self._stream.is_full:
            warnings.append(f"More than {STEP_CAP:,} steps: later builds are not listed.")
        return warnings


class _BuildkitRawjson:
    needles = (b'{"vertexes":[{"digest":"sha256:',)

    def sniff(self, head: bytes, prefix: LinePrefix) -> float:
        """Return 0.99 where a line is a message about a vertex with a whole digest."""
        for match in _SURE.finditer(head):
            start = head.rfind(b"\n", 0, match.start()) + 1
            end = head.find(b"\n", match.end())
            if _SURE.match(prefix.strip(head[start : end if end >= 0 else len(head)]).text):
                return 0.99
        return 0.0

    def parser(self, prefix: LinePrefix) -> LogParser:
        """Open a parser."""
        return _Parser(prefix)


FORMAT = _BuildkitRawjson()
