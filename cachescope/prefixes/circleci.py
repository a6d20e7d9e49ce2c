r"""CircleCI step output: the shell's shebang first, carriage returns at line ends; also the output API's JSON.

    #!/bin/bash -eo pipefail
    docker buildx build --progress=plain -t app .
    #0 building with "ci" instance using remote driver^M

    [{"message":"#1 DONE 0.0s\r\n","time":"2026-11-23T17:05:54.524Z","type":"out"}, …]

The JSON is what the `output_url` of a step answers (CircleCI API v1.1). Its messages are cut anywhere.
"""

import json
import re

from cachescope.prefixes._stamps import STAMP, seconds_of
from cachescope.prefixes.base import Line, Unwrapper

_LINE = re.compile(STAMP + rb" ?")
_SHEBANG = re.compile(rb"#!/(?:usr/)?bin/(?:env )?(?:ba|z)?sh [^\n]{0,20}-[a-z]{0,4}o pipefail")
_GREETING = re.compile(rb"(?:Build-agent version |CircleCI |Launch-agent version )[^\n]{0,200}")
_JSON = re.compile(rb'\s{0,64}\[\s{0,64}\{[^{}]{0,4096}?"(?:message|type|time)"\s{0,8}:')
_OBJECT_CAP = 8 * 1024 * 1024


class _JsonLines:
    """Turns the array of messages into stamped lines."""

    def __init__(self) -> None:
        self._decoder = json.JSONDecoder()
        self._rest = b""
        self._at_line_start = True

    def feed(self, chunk: bytes) -> bytes:
        text = (self._rest + chunk).decode(errors="surrogateescape")
        result: list[str] = []
        position = 0
        while (start := text.find("{", position)) >= 0:
            try:
                item, position = self._decoder.raw_decode(text, start)
            except (ValueError, RecursionError):
                break
            if isinstance(item, dict):
                result.extend(self._lines(item))
        rest = text[position:].encode(errors="surrogateescape")
        self._rest = rest if len(rest) <= _OBJECT_CAP else b""
        return "".join(result).encode(errors="replace")

    def _lines(self, item: dict[str, object]) -> list[str]:
        message, time = item.get("message"), item.get("time")
        if not isinstance(message, str):
            return []
        stamp = f"{time} " if isinstance(time, str) and _LINE.fullmatch(f"{time} ".encode(errors="replace")) else ""
        lines = message.split("\n")
        result = []
        for index, line in enumerate(lines):
            if index < len(lines) - 1:
                result.append((stamp if self._at_line_start else "") + line + "\n")
                self._at_line_start = True
            elif line:
                result.append((stamp if self._at_line_start else "") + line)
                self._at_line_start = False
        return result


class _Circleci:
    wrapper = "circleci"

    def sniff(self, head: bytes) -> float:
        """Return 0.95 for the shebang that CircleCI prints before a command."""
        return (
            0.95 if _SHEBANG.match(head) or b"CIRCLE_WORKING_DIRECTORY" in head or b"CircleCI" in head[:4096] else 0.0
        )

    def strip(self, line: bytes) -> Line:
        """Take the line end and the stamp of the JSON's message off."""
        line = line.rstrip(b"\r\n")
        match = _LINE.match(line)
        return Line(line) if match is None else Line(line[match.end() :], seconds_of(match))

    def unwrapper(self, head: bytes) -> Unwrapper | None:
        """Return what reads the output API's array of messages."""
        return _JsonLines() if _JSON.match(head) and b'"message"' in head[:65536] else None


PREFIX = _Circleci()
