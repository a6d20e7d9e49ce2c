"""docker-compose's log prefix: the service's container, padded, a bar (v1: `web_1  | `, v2: `web-1  | `).

    builder_1  | Step 1/4 : FROM busybox
    builder_1  |  ---> 2bd29714875d
    ^[[36mcache_1    |^[[0m warming up

Each service is a channel. Printed by docker-compose's `cli/log_printer.py` and by compose v2's formatter.
"""

import re

from cachescope.prefixes._stamps import share_of
from cachescope.prefixes.base import Line

_LINE = re.compile(rb"(?:\x1b\[[0-9;]{1,16}m)?([A-Za-z][\w.-]{0,127}) {0,64}\|(?:\x1b\[0m)?(?: |$)")


class _ComposeV1:
    wrapper = "compose"

    def sniff(self, head: bytes) -> float:
        """Return 0.9 when most lines have a name and a bar."""
        return 0.9 if share_of(_LINE, head) > 0.6 else 0.0

    def strip(self, line: bytes) -> Line:
        """Take the service's name off: it names the channel."""
        line = line.rstrip(b"\r\n")
        match = _LINE.match(line)
        return Line(line) if match is None else Line(line[match.end() :], channel=match[1])


PREFIX = _ComposeV1()
