"""Buildkite job logs: an application escape with milliseconds before each line, and carriage returns at line ends.

    ^[_bk;t=1795453554164^G~~~ Running commands^M
    ^[_bk;t=1795453554524^G#0 building with "ci" instance using remote driver^M

Written by the agent (github.com/buildkite/agent) with `timestamp-lines` or `ansi-timestamps`. Copied logs lack the
escapes' control characters.
"""

import re

from cachescope.prefixes.base import Line

_MARK = re.compile(rb"(?:\x1b|\^\[)?_bk;t=(\d{1,15})(?:\x07|\^G)?")
_FIRST_MARKS = re.compile(rb"^(?:\x1b|\^\[)?_bk;t=\d{1,15}", re.MULTILINE)
_HEADINGS = re.compile(
    rb"^(?:~~~ |--- |\+\+\+ )(?::[a-z-]+: )?(?:Preparing working directory|Running (?:commands|script|global|agent))",
    re.MULTILINE,
)


class _Buildkite:
    wrapper = "buildkite"

    def sniff(self, head: bytes) -> float:
        """Return 0.97 for the agent's stamps, 0.9 for its headings."""
        if len(_FIRST_MARKS.findall(head[: 64 * 1024])) > 1:
            return 0.97
        return 0.9 if _HEADINGS.search(head) else 0.0

    def strip(self, line: bytes) -> Line:
        """Take the escapes off; the first one is the line's time."""
        line = line.rstrip(b"\r\n")
        match = _MARK.match(line)
        if match is None:
            return Line(line)
        return Line(_MARK.sub(b"", line), int(match[1]) / 1000)


PREFIX = _Buildkite()
