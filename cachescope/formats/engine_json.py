r"""The answer of the Engine API's `/build`, one JSON message per line, as Docker SDKs and `curl` write it.

    {"stream":"Step 2/10 : WORKDIR /app"}
    {"stream":"\n"}
    {"stream":" ---\u003e Using cache\n"}
    {"stream":" ---\u003e 11ce26cb400d\n"}
    {"aux":{"ID":"sha256:ead8967f5093e4f4ae635cf0f9f2d0abcacd62f36afd6cd5b6c49b1eeaa19f98"}}
    {"errorDetail":{"code":1,"message":"The command '/bin/sh -c false' returned …"},"error":"The command …"}
    {"id":"moby.buildkit.trace","aux":"CnsKR3NoYTI1Njo3YWNiOTllOTgzNGY1ZjE5…"}

Written by github.com/moby/moby, pkg/jsonmessage and builder/builder-next (there BuildKit's own status stream, protobuf
in base64). Times come from that stream, for the classic builder from the CI's stamps.
"""

import binascii
import re
from typing import Any

import orjson

from cachescope.formats._docker_builds import DockerBuilds, Headline, Place
from cachescope.formats._solve_status import StatusStream
from cachescope.formats._wire import read_status
from cachescope.formats.base import FoundBuild, LogParser
from cachescope.model import Build, BuiltImage, Outcome
from cachescope.prefixes.base import Line, LinePrefix

_STARTS = (b'{"stream"', b'{"aux"', b'{"id"', b'{"error', b'{"status"')
# Programs that read the messages and write them again put spaces behind the colons.
_OUTPUT = re.compile(rb'\{"stream": ?"(?!Step \d| ---(?:\\u003e|>)|Success|Remov|sha256:|\\n"|\[Warning\])')
_HEADLINE = re.compile(r"Step (\d{1,5})(?:/(\d{1,5}))? ?: (.+)", re.DOTALL)
_SURE = re.compile(
    rb'\{"stream": ?"(?:Step \d{1,5}(?:/\d{1,5})? ?: |sha256:[0-9a-f]{64}\\n"\}| ---(?:\\u003e|>) )|'
    rb'\{"id": ?"moby\.(?:buildkit\.trace|image\.id)", ?"aux":|\{"errorDetail": ?\{'
)
_IMAGE = re.compile(r"sha256:[0-9a-f]{64}")
_BUILT = re.compile(r"Successfully built ((?:sha256:)?[0-9a-f]{6,64})\s*")
_TAGGED = re.compile(r"Successfully tagged (\S{1,512})\s*")
_ERROR_CAP = 16 * 1024
_LOOSE_CAP = 1_000


class _EngineParser:
    def __init__(self, prefix: LinePrefix) -> None:
        self._prefix = prefix
        self._classic = DockerBuilds("engine-json", Line)
        self._traces = StatusStream("engine-json")
        self._loose: list[FoundBuild] = []
        """Builds without a step: an image id, or nothing but an error."""
        self._above: list[bytes] = []
        self._lines_printed = 0
        self._line = 0
        self._broken = 0

    def feed(self, chunk: bytes, first_line: int) -> list[tuple[int, int]]:
        """Read the messages; other lines are none of ours."""
        outside: list[tuple[int, int]] = []
        outside_from, position = 0, 0
        for number, raw in enumerate(chunk.split(b"\n"), first_line):
            line = self._prefix.strip(raw) if b'{"' in raw else None
            if line is not None and line.text.startswith(_STARTS):
                if position > outside_from:
                    outside.append((outside_from, position))
                outside_from = position + len(raw) + 1
                self._line = number
                self._read(line)
            position += len(raw) + 1
        if len(chunk) > outside_from:
            outside.append((outside_from, len(chunk)))
        return outside

    def builds(self) -> list[FoundBuild]:
        """Return the builds so far, in the order in which they began."""
        found = [*self._classic.found(self._line), *self._traces.found(), *self._loose]
        return sorted(found, key=lambda build: build.first_line)

    def warnings(self) -> list[str]:
        """Return what was cut or left out."""
        warnings = self._classic.warnings()
        if self._broken:
            warnings.append(f"{self._broken} {'line is' if self._broken == 1 else 'lines are'} cut or no JSON.")
        if self._traces.dropped:
            warnings.append("The log holds more steps than are kept: later builds are not listed.")
        return warnings

    def _read(self, line: Line) -> None:
        text = line.text
        if _OUTPUT.match(text):
            # Most of a log: what a RUN prints. Only its lines are counted.
            self._lines_printed += text.count(b"\\n")
            if self._classic.awaits_line:
                self._classic.below_headline(b"output")
            self._above.clear()
            return
        try:
            message = orjson.loads(text)
        except orjson.JSONDecodeError:
            self._broken += 1
            return
        if isinstance(message, dict):
            self._read_message(message, line.at)

    def _read_message(self, message: dict[str, Any], at: float | None) -> None:
        stream, aux, error = message.get("stream"), message.get("aux"), message.get("error")
        if isinstance(stream, str):
            self._read_stream(stream, Place(self._line, self._lines_printed, at))
            self._lines_printed += stream.count("\n")
        elif isinstance(error, str):
            self._read_error(error[:_ERROR_CAP], Place(self._line, self._lines_printed, at))
        elif isinstance(aux, str) and message.get("id") == "moby.buildkit.trace":
            self._read_trace(aux)
        elif isinstance(aux, dict):
            self._read_image(aux.get("ID"), message.get("id"))
        elif isinstance(message.get("status"), str) and "progressDetail" not in message:
            self._lines_printed += 1
            if self._classic.awaits_line:
                self._classic.below_headline(b"pull")
            self._remember(message["status"][:1024].encode(errors="replace"))

    def _read_stream(self, stream: str, place: Place) -> None:
        text = stream.strip()
        if not text:
            return
        headline = _HEADLINE.fullmatch(stream.rstrip("\r\n"))
        if headline is not None:
            total = None if headline[2] is None else int(headline[2])
            head = Headline(int(headline[1]), total, headline[3].rstrip(), *place)
            if self._classic.headline(head, self._lines_above):
                self._above.clear()
                return
        line = text.encode(errors="replace")
        if self._classic.awaits_line:
            self._classic.below_headline(line)
        if built := _BUILT.fullmatch(text):
            self._classic.success(built[1].encode(), place, self._lines_above)
        elif tagged := _TAGGED.fullmatch(text):
            self._read_tag(tagged[1], place)
        elif _IMAGE.fullmatch(text) and not self._classic.is_inside:
            image = BuiltImage(id=text)
            self._loose_build(Build(builder="docker", format="engine-json", outcome=Outcome.SUCCEEDED, images=(image,)))
        self._remember(line)

    def _lines_above(self, count: int) -> list[bytes]:
        return self._above[-count:]

    def _remember(self, line: bytes) -> None:
        self._above = [*self._above[-3:], line]
        self._classic.printed(line + b"\n", 0, len(line) + 1)

    def _read_tag(self, tag: str, place: Place) -> None:
        solve = self._traces.latest
        if solve is not None and not solve.is_over:
            solve.finished = True
        else:
            self._classic.tagged(tag, place)

    def _read_error(self, error: str, place: Place) -> None:
        solve = self._traces.latest
        if self._classic.is_inside:
            self._classic.fail(error, place)
        elif solve is not None and not solve.is_over:
            solve.fail(error)
            solve.is_over = True
            solve.last_line = place.line
        elif solve is None and not self._classic.found(self._line):
            self._loose_build(Build(builder=None, format="engine-json", outcome=Outcome.FAILED, error=error))

    def _read_trace(self, aux: str) -> None:
        try:
            content = binascii.a2b_base64(aux)
        except (binascii.Error, ValueError):
            self._broken += 1
            return
        self._traces.take(read_status(content), self._line)

    def _read_image(self, image: object, kind: object) -> None:
        if not isinstance(image, str) or _IMAGE.fullmatch(image) is None:
            return
        solve = self._traces.latest
        if kind == "moby.image.id" and solve is not None:
            solve.finished = True
        else:
            self._classic.image(image)

    def _loose_build(self, build: Build) -> None:
        if len(self._loose) < _LOOSE_CAP:
            self._loose.append(FoundBuild(build, self._line, self._line))


class _EngineJson:
    needles = (b'{"stream":', b'"moby.', b'{"errorDetail":')

    def sniff(self, head: bytes, prefix: LinePrefix) -> float:
        """Return 0.97 where a line is a message that only a build sends."""
        for match in _SURE.finditer(head):
            start = head.rfind(b"\n", 0, match.start()) + 1
            end = head.find(b"\n", match.start())
            if _SURE.match(prefix.strip(head[start : end if end >= 0 else len(head)]).text):
                return 0.97
        return 0.0

    def parser(self, prefix: LinePrefix) -> LogParser:
        """Open a parser."""
        return _EngineParser(prefix)


FORMAT = _EngineJson()
