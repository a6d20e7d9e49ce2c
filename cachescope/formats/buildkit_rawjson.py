"""BuildKit's rawjson progress (`--progress=rawjson`): one SolveStatus per line, and plain words at a failed end.

    {"vertexes":[{"digest":"sha256:7e69…","name":"[internal] load build definition from Dockerfile"}]}
    {"vertexes":[{"digest":"sha256:7e69…","name":"…","started":"2026-11-23T16:47:34.258Z","completed":"…","cached":true}]}
    {"statuses":[{"id":"transferring context:","vertex":"sha256:…","name":"transferring","current":30,"timestamp":"…"}]}
    {"logs":[{"vertex":"sha256:…","stream":1,"data":"SGVsbG8K","timestamp":"…"}]}
    ERROR: failed to build: failed to solve: process "/bin/sh -c false" did not complete successfully: exit code: 1

Written by BuildKit's util/progress/progressui (display.go, rawJSONDisplay); types in client/graph.go.
"""

import binascii
import re

import orjson

from cachescope.formats._buildkit import STEP_CAP, decode, is_last_word, without_label
from cachescope.formats._solve_status import StatusStream
from cachescope.formats.base import FoundBuild, LogParser
from cachescope.prefixes.base import LinePrefix
from cachescope.prefixes.none import PREFIX as BARE

_VERTEXES, _STATUSES, _OTHERS = b'{"vertexes":[', b'{"statuses":[', (b'{"logs":[', b'{"warnings":[')
# A message that is one piece of output, the most frequent kind, is read without a JSON parser: all stands in its place.
_OUTPUT, _STREAMS, _BEHIND = b'{"logs":[{"ve', (b'","stream":1,"data":"', b'","stream":2,"data":"'), b'","timestamp":"'
_DIGEST_AT, _STREAM_AT, _OUTPUT_AT, _LONGEST_END = 20, 91, 112, 64
_SURE = re.compile(rb'\{"vertexes":\[\{"digest":"sha256:[0-9a-f]{64}"')


class _Parser:
    def __init__(self, prefix: LinePrefix) -> None:
        self._prefix = prefix
        self._bare = prefix is BARE
        self._stream = StatusStream("buildkit-rawjson")
        self._broken = 0
        self.counted: int | None = None

    def feed(self, chunk: bytes, first_line: int) -> list[tuple[int, int]] | None:
        outside: list[tuple[int, int]] = []
        stream = self._stream
        self.counted = None
        if stream.is_full:
            return outside
        bare, strip = self._bare, self._prefix.strip
        lines = chunk.split(b"\n")
        self.counted = len(lines) - 1
        behind, seen = 0, 0
        for number, raw in enumerate(lines):
            text = raw if bare else strip(raw).text
            start = text[:13]
            if start == _STATUSES:
                if b'"completed"' not in text and b'"vertexes":[' not in text:
                    continue  # how far a transfer is
            elif start == _OUTPUT and (output := _output_of(text)) is not None:
                stream.take_output(text[_DIGEST_AT:_STREAM_AT].decode(errors="replace"), output)
                continue
            elif start not in (_VERTEXES, _OUTPUT) and not text.startswith(_OTHERS):
                if text:
                    # Where the line stands is worked out for the few that are none of ours.
                    behind += sum(map(len, lines[seen:number])) + number - seen
                    seen = number
                    _add_span(outside, behind, min(len(chunk), behind + len(raw) + 1))
                    self._words(text)
                continue
            try:
                message = orjson.loads(text)
            except orjson.JSONDecodeError:
                self._broken += 1
            else:
                stream.take(message, first_line + number)
        return outside

    def _words(self, text: bytes) -> None:
        """Read what the client says in plain words after the stream."""
        solve = self._stream.latest
        if solve is None or solve.is_over:
            return
        said = decode(text.rstrip(b"\r "))
        if is_last_word(said) and solve.may_have_failed():
            solve.fail(without_label(said))
            solve.is_over = True
        elif said.startswith("Check complete, ") and not solve.has_instructions:
            solve.is_over = True
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


def _output_of(text: bytes) -> bytes | None:
    """Return the output in a message that is one piece of it and nothing else; None where it is not quite that."""
    end = text.find(b'"', _OUTPUT_AT)
    if (
        text[_STREAM_AT:_OUTPUT_AT] not in _STREAMS
        or text[end : end + len(_BEHIND)] != _BEHIND
        or len(text) - end > _LONGEST_END
        or not text.endswith((b'"}]}', b'"}]}\r'))
    ):
        return None
    try:
        return binascii.a2b_base64(text[_OUTPUT_AT:end], strict_mode=True)
    except binascii.Error:
        return None


def _add_span(spans: list[tuple[int, int]], start: int, end: int) -> None:
    if spans and spans[-1][1] == start:
        start, _ = spans.pop()
    spans.append((start, end))


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
