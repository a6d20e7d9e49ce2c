"""Travis CI logs: folds and timers, written over by a carriage return and an erase.

    travis_fold:start:docker_build^M^[[0Ktravis_time:start:0b8b2c1e^M^[[0K$ docker build -t app .
    Sending build context to Docker daemon  4.096kB^M
    travis_time:end:0b8b2c1e:start=1700000000000000000,finish=1700000001000000000,duration=1000000000^M^[[0K

Written by travis-build (lib/travis/build/bash).
"""

import re

from cachescope.prefixes.base import Line

_MARK = re.compile(rb"travis_(?:fold:(?:start|end):[\w.-]{1,256}|time:(?:start|end):[\w:=,.@-]{1,512})\r?(?:\x1b\[0K)?")
_FIRST_MARK = re.compile(rb"^travis_(?:fold:start:[\w.-]{1,256}|time:start:[\w:-]{1,512})(?:\r|\x1b\[0K)", re.MULTILINE)
_RESETS = re.compile(rb"(?:\x1b\[0K|\x1b\[0m)+")


class _Travis:
    wrapper = "travis"

    def sniff(self, head: bytes) -> float:
        """Return 0.97 where folds or timers stand."""
        return 0.97 if _FIRST_MARK.search(head) else 0.0

    def strip(self, line: bytes) -> Line:
        """Take folds and timers off."""
        line = line.rstrip(b"\r\n")
        if b"travis_" in line:
            line = _MARK.sub(b"", line)
        reset = _RESETS.match(line)
        return Line(line if reset is None else line[reset.end() :])


PREFIX = _Travis()
