"""A plain RFC 3339 stamp and a space in front of each line: `docker logs -t`, `ts`, Drone, log collectors.

    2026-11-23T17:05:56.021055Z Sending build context to Docker daemon  4.096kB
    2026-11-23T17:05:56.071314Z Step 1/10 : FROM python:3.11-slim AS deps

Defined in RFC 3339, section 5.6.
"""

import re

from cachescope.prefixes._stamps import STAMP, seconds_of, share_of
from cachescope.prefixes.base import Line

_LINE = re.compile(STAMP + rb"(?: |\t|$)")


class _Rfc3339:
    wrapper = None

    def sniff(self, head: bytes) -> float:
        """Return the share of stamped lines, a little less than a wrapper that has marks of its own."""
        share = share_of(_LINE, head)
        return 0.8 * share if share > 0.3 else 0.0

    def strip(self, line: bytes) -> Line:
        """Take the stamp off."""
        line = line.rstrip(b"\r\n")
        match = _LINE.match(line)
        return Line(line) if match is None else Line(line[match.end() :], seconds_of(match))


PREFIX = _Rfc3339()
