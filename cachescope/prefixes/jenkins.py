"""Jenkins console logs: `[Pipeline]` lines, and the Timestamper plug-in's stamps in brackets.

    [Pipeline] sh
    [2026-11-23T17:05:55.900Z] + docker build -t courier:1 .
    [2026-11-23T17:05:56.021Z] Sending build context to Docker daemon  4.096kB

The Timestamper's older default prints `17:05:55  ` without a day: that dates no build, but times its steps.
"""

import re

from cachescope.prefixes._stamps import STAMP, clock_of, seconds_of
from cachescope.prefixes.base import Line

_LINE = re.compile(rb"\[" + STAMP + rb"\] ?")
_CLOCK = re.compile(rb"(?:\x1b\[8m[^\n]{0,4096}?\x1b\[0m)?\d\d:\d\d:\d\d(?:\.\d{3})?  ?")
_MARKS = re.compile(
    rb"^(?:\[[^\]\n]{20,40}\] |\d\d:\d\d:\d\d(?:\.\d{3})?  ?)?"
    rb"(?:\[Pipeline\] |Started by |Running on \S|Building (?:remotely|in workspace|on master)|Running as SYSTEM)",
    re.MULTILINE,
)
# Console notes: base64 between escapes, hidden in the browser, kept in the downloaded text.
_NOTE = re.compile(rb"\x1b\[8mha:[^\x1b\n]{0,65536}\x1b\[0m")


class _Jenkins:
    wrapper = "jenkins"

    def sniff(self, head: bytes) -> float:
        """Return 0.95 for stamps in brackets or the pipeline's own lines."""
        lines = head.split(b"\n", 400)[:400]
        if sum(_LINE.match(line) is not None for line in lines) * 3 > len(lines):
            return 0.95
        return 0.9 if len(_MARKS.findall(b"\n".join(lines))) > 1 or _NOTE.search(head) else 0.0

    def strip(self, line: bytes) -> Line:
        """Take console notes and the stamp off."""
        line = line.rstrip(b"\r\n")
        if b"\x1b[8mha:" in line:
            line = _NOTE.sub(b"", line)
        match = _LINE.match(line)
        if match is not None:
            return Line(line[match.end() :], seconds_of(match))
        clock = _CLOCK.match(line)
        return Line(line) if clock is None else Line(line[clock.end() :], clock_of(clock[0]))


PREFIX = _Jenkins()
