"""What a CI wrapper puts in front of each line, and how it comes off again.

Formats search the raw chunk for their own words first and strip only the lines that matter: stripping every line of a
100 MB log costs more than reading it.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Line:
    """One line without its wrapper."""

    text: bytes
    """What the program printed: no prefix, no line end, no colour codes or markers of the CI."""
    at: float | None = None
    """When the CI received the line: seconds since the epoch."""
    channel: bytes | None = None
    """Which of several programs wrote the line, where the wrapper says (job, step or service name)."""
    continues: bool = False
    """The line goes on from the one before it (GitLab's `+` mark)."""


class LinePrefix(Protocol):
    """One wrapper around the lines of a log."""

    @property
    def wrapper(self) -> str | None:
        """The name in JSON: `github-actions`, `gitlab`, …; None for a bare log."""

    def sniff(self, head: bytes) -> float:
        """Return how surely the first lines of a log (up to 256 KiB) carry this prefix, from 0 to 1."""

    def strip(self, line: bytes) -> Line:
        """Take the prefix off one line; a line that lacks it comes back as it is, without a time."""
