"""`gh run view --log`: job, step and the stamped line of GitHub Actions, parted by tabs.

    build	Build image	2026-11-23T17:05:54.5240273Z #0 building with "ci" instance using remote driver
    build	UNKNOWN STEP	2026-11-23T17:05:54.5240273Z #1 [internal] load build definition from Dockerfile

The stamp is left to the prefix of GitHub Actions. Printed by github.com/cli/cli (pkg/cmd/run/view).
"""

import re

from cachescope.prefixes._stamps import share_of
from cachescope.prefixes.base import Line

_LINE = re.compile(rb"([^\t\n]{1,512}\t[^\t\n]{1,512})\t(?=(?:\xef\xbb\xbf)?\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}Z)")


class _GithubCli:
    wrapper = "github-actions"

    def sniff(self, head: bytes) -> float:
        """Return the share of lines with two tabs before a stamp."""
        share = share_of(_LINE, head)
        return share if share > 0.3 else 0.0

    def strip(self, line: bytes) -> Line:
        """Take job and step off: they name the channel."""
        line = line.rstrip(b"\r\n")
        match = _LINE.match(line)
        return Line(line) if match is None else Line(line[match.end() :], channel=match[1])


PREFIX = _GithubCli()
