"""What a CI wrapper puts in front of each line, and how it comes off again.

Formats search the raw chunk for their own words first and strip only the lines that matter: stripping every line of a
100 MB log costs more than reading it.
"""

from typing import NamedTuple, Protocol, runtime_checkable


class Line(NamedTuple):
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


@runtime_checkable
class FittingPrefix(LinePrefix, Protocol):
    """A wrapper whose shape is learned from the log itself, such as a log framework's pattern."""

    def fitted(self, head: bytes) -> LinePrefix:
        """Return the prefix as it stands in this log."""


class Unwrapper(Protocol):
    """Turns a log that is no text of lines (a JSON answer of a CI) into one, piece by piece."""

    def feed(self, chunk: bytes) -> bytes:
        """Return the lines that this chunk brings."""


@runtime_checkable
class UnwrappingPrefix(LinePrefix, Protocol):
    """A wrapper that may also come as something else than lines."""

    def unwrapper(self, head: bytes) -> Unwrapper | None:
        """Return what turns this log into lines; None where it is lines already. `head` is its first chunk."""
