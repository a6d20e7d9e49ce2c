"""Azure Pipelines logs: a stamp of seven decimals as GitHub's, but `##[section]` and a task's header.

    2026-11-23T17:05:49.6878781Z ##[section]Starting: Build image
    2026-11-23T17:05:49.7434337Z ==============================================================================
    2026-11-23T17:05:49.7989892Z Task         : Docker
    2026-11-23T17:05:50.5824892Z #0 building with "ci" instance using remote driver

Written by the agent (github.com/microsoft/azure-pipelines-agent).
"""

import re

from cachescope.prefixes._stamps import STAMP, seconds_of, share_of
from cachescope.prefixes.base import Line

_LINE = re.compile(STAMP + rb" ?")
_SEVEN_DECIMALS = re.compile(rb"(?:\xef\xbb\xbf)?\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z(?: |\r?$)")
_MARKS = re.compile(
    rb"Z (?:##\[section\]|##vso\[|##\[command\]|Task {9}: |Author {7}: |Agent (?:name|version): )|/home/vsts/"
)
# Both runners print `##[command]`, `##[debug]` and more; these are GitHub's alone.
_GITHUB = re.compile(rb"Z (?:##\[group\]Run |Download action repository )|/home/runner/work/")


class _Azure:
    wrapper = "azure"

    def sniff(self, head: bytes) -> float:
        """Return a high score for stamped lines with the agent's own marks."""
        share = share_of(_SEVEN_DECIMALS, head)
        if share <= 0.3 or not _MARKS.search(head) or _GITHUB.search(head):
            return 0.0
        return 0.1 + 0.88 * share

    def strip(self, line: bytes) -> Line:
        """Take the stamp off."""
        line = line.rstrip(b"\r\n")
        match = _LINE.match(line)
        return Line(line) if match is None else Line(line[match.end() :], seconds_of(match))


PREFIX = _Azure()
