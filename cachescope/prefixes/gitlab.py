"""GitLab job logs: sections, and with FF_TIMESTAMPS a stamp, the stream and a mark on lines that go on.

    2026-11-23T17:05:50.237878Z 01O $ docker buildx build --progress=plain .
    2026-11-23T17:05:50.582489Z 01E #0 building with "ci" instance using remote driver
    2026-11-23T17:05:50.600000Z 01O step ^M
    2026-11-23T17:05:50.700000Z 01O+ 50%^M
    section_end:1795453549:prepare_executor^M^[[0Ksection_start:1795453549:step_script^M^[[0K

Written by gitlab-runner (common/buildlogger); the runner splits lines at lone carriage returns, hence the `+`.
"""

import re

from cachescope.prefixes._stamps import STAMP, seconds_of, share_of
from cachescope.prefixes.base import Line

_LINE = re.compile(STAMP + rb" [0-9a-f]{2}[OE]([ +])")
_SECTION = re.compile(rb"section_(?:start|end):\d{1,12}:[^\r\n]{0,512}\r?\x1b\[0K|(?:\x1b\[0K|\x1b\[0;m)+")
_MARKS = re.compile(
    rb"^(?:[0-9TZ:. -]{20,40} [0-9a-f]{2}[OE][ +])?(?:\x1b\[0K)*"
    rb"(?:section_(?:start|end):\d{1,12}:[\w.-]{1,256}(?:\[[^\]\n]{0,256}\])?(?:\r|\x1b\[0K)"
    rb"|Running with gitlab-runner )",
    re.MULTILINE,
)


class _Gitlab:
    wrapper = "gitlab"

    def sniff(self, head: bytes) -> float:
        """Return 0.98 for stamps with a stream, 0.95 for sections or the runner's greeting."""
        if share_of(_LINE, head) > 0.3:
            return 0.98
        return 0.95 if _MARKS.search(head) else 0.0

    def strip(self, line: bytes) -> Line:
        """Take stamp, stream and section marks off."""
        line = line.rstrip(b"\r\n")
        match = _LINE.match(line)
        at, continues = None, False
        if match is not None:
            at, continues = seconds_of(match), match[5] == b"+"
            line = line[match.end() :].rstrip(b"\r")
        while (section := _SECTION.match(line)) is not None:
            line = line[section.end() :]
        return Line(line.removesuffix(b"\x1b[0;m"), at, continues=continues)


PREFIX = _Gitlab()
