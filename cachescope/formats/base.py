"""What a log format is: how it is recognised, and a parser that is fed the log piece by piece.

Parsers are pushed, not pulled: the reader feeds every open parser the same chunks, so one pass serves logs that hold
builds of several formats, and a growing log can be read live (`builds()` may be called at any time).
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from cachescope.model import Build
from cachescope.prefixes.base import LinePrefix


@dataclass(frozen=True, slots=True)
class FoundBuild:
    """A build and the lines of the log (from 1, inclusive) that it covers, from its first to its last own line."""

    build: Build
    first_line: int
    last_line: int


class LogParser(Protocol):
    """Reads one log of one format; never raises on any bytes."""

    def feed(self, chunk: bytes, first_line: int) -> list[tuple[int, int]] | None:
        """Read whole lines: a chunk ends at a line end, except the last one of a log.

        `first_line` is the number (from 1) of the chunk's first line. Lines still carry the wrapper's prefix.
        The line numbers of two calls may leave a gap: lines between belong to another channel of the wrapper.

        May return the parts of the chunk (start, end; whole lines) that lie outside of this parser's builds: only these
        do less sure formats read, and only there does the reader look for other needles. None means the whole chunk.
        Searching all needles in 100 MB takes longer than reading it, so a parser that knows its builds' ends says so.

        A parser that counts lines anyway may keep an attribute `counted`: how many line ends the last chunk had, None
        where it did not count them all. The reader then need not count again.
        """

    def builds(self) -> list[FoundBuild]:
        """Return the builds as far as they were read, those still open as `incomplete`; callable at any time."""

    def warnings(self) -> list[str]:
        """Return what was cut, clipped or not understood, in sentences."""


class LogFormat(Protocol):
    """One way in which a builder writes its log.

    The module's name is the name of the format; `Build.format` carries it with hyphens (`engine-json`).
    """

    @property
    def needles(self) -> tuple[bytes, ...]:
        """Literals, at least one of which stands in every log of the format before or at its first step.

        The reader looks for them in every chunk (at the speed of `bytes.find`) and asks `sniff` only when one is there.
        """

    def sniff(self, head: bytes, prefix: LinePrefix) -> float:
        """Return how surely these lines are of this format: 0 not at all, 1 beyond doubt.

        `head` is up to 256 KiB that begins with the first line that holds a needle. Of several formats that claim a
        log the surest reads it.
        """

    def parser(self, prefix: LinePrefix) -> LogParser:
        """Open a parser for a log whose lines carry this prefix."""


@runtime_checkable
class DocumentFormat(LogFormat, Protocol):
    """A format whose files are no lines of text: an archive, one JSON object."""

    def claims(self, head: bytes) -> bool:
        """Tell whether a file that begins so (its first chunk) is of the format."""

    def read_document(self, content: bytes) -> list[tuple[str | None, Build]]:
        """Read the builds of a whole file, each with the name of its member of an archive.

        Raises UnreadableInputError for what only looks like one of the format: the reader takes it as lines then.
        """
