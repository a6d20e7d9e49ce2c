"""GitHub Actions job and run logs (also Gitea's and Forgejo's): a stamp of seven decimals, `##[group]` marks.

    2026-11-23T17:05:49.6878781Z ##[group]Run docker/build-push-action@v6
    2026-11-23T17:05:49.7003781Z with:
    2026-11-23T17:05:50.5824892Z #0 building with "ci" instance using remote driver

Written by the runner (github.com/actions/runner, PagingLogger); the file begins with a byte order mark.
"""

import re

from cachescope.prefixes._stamps import STAMP, seconds_of, share_of
from cachescope.prefixes.base import Line

_LINE = re.compile(STAMP + rb" ?")
_SEVEN_DECIMALS = re.compile(rb"(?:\xef\xbb\xbf)?\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z(?: |\r?$)")
_MARKS = re.compile(
    rb"Z (?:##\[(?:group|endgroup|warning|error|debug|notice)\]|\[command\]|Current runner version:|::)"
)


class _GithubActions:
    wrapper = "github-actions"

    def sniff(self, head: bytes) -> float:
        """Return the share of lines with a stamp of seven decimals; the runner's own marks make it sure."""
        share = share_of(_SEVEN_DECIMALS, head)
        if share < 0.3:
            return 0.0
        return 0.1 + 0.85 * share if _MARKS.search(head) else 0.84 * share

    def strip(self, line: bytes) -> Line:
        """Take the stamp off."""
        line = line.rstrip(b"\r\n")
        match = _LINE.match(line)
        return Line(line) if match is None else Line(line[match.end() :], seconds_of(match))


PREFIX = _GithubActions()
