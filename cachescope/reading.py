"""A log in, its builds out: decides the wrapper, feeds the parsers of the formats that claim it, merges their finds.

One log may hold several builds, of several formats, one after another or mixed line by line. Nothing is opened here.
"""

import codecs
import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from threading import Lock

from cachescope.errors import TooLargeError, UnreadableInputError
from cachescope.formats import FORMATS
from cachescope.formats.base import DocumentFormat, FoundBuild, LogFormat, LogParser
from cachescope.model import Build, LogReading
from cachescope.prefixes import PREFIXES
from cachescope.prefixes._stamps import DAY
from cachescope.prefixes.base import FittingPrefix, Line, LinePrefix, Unwrapper, UnwrappingPrefix

LINE_CAP = 256 * 1024
"""A longer line is read up to here."""
PIECE = 512 * 1024
"""How much a parser is fed at once."""
HEAD = 256 * 1024
"""How much a wrapper or a format is recognised from."""
_ENOUGH_TO_SNIFF = 16 * 1024
DOCUMENT_CAP = 24 * 1024 * 1024
"""A document is kept whole up to here; a larger one is read as lines."""
_FIRST_LOOK = 4096
_AROUND_NEEDLE = 512
_CHANNEL_CAP = 256
_BUILD_CAP = 20_000


def read_builds(chunks: Iterable[bytes]) -> LogReading:
    """Read a whole log, given in chunks that are cut anywhere."""
    reader = LogReader()
    with _COLLECTOR.paused():
        for chunk in chunks:
            reader.feed(chunk)
        reader.finish()
        return reader.reading()


class _Collector:
    """Python's search for reference cycles, which finds nothing here: a log makes thousands of objects, no cycles.

    It is put off while a log is read, a tenth of the time, and then goes on as it was; several threads may read.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._readers = 0
        self._was_enabled = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        with self._lock:
            if not self._readers:
                self._was_enabled = gc.isenabled()
                gc.disable()
            self._readers += 1
        try:
            yield
        finally:
            with self._lock:
                self._readers -= 1
                if not self._readers and self._was_enabled:
                    gc.enable()


_COLLECTOR = _Collector()


class LogReader:
    """Reads a log as it grows: feed it chunks, ask for the reading at any time."""

    def __init__(self) -> None:
        self._lines = _LineCutter()
        self._head = bytearray()
        self._held = bytearray()
        self._sorter: _Sorter | None = None
        self._unwrapper: Unwrapper | None = None
        self._unwrapped: str | None = None
        self._begun = False
        self._is_over = False
        self._first = bytearray()
        self._document = bytearray()
        self._document_format: DocumentFormat | None = None

    def feed(self, chunk: bytes) -> None:
        """Read on; a chunk may be cut anywhere, also within a line or a character."""
        if not self._begun:
            self._first += chunk
            if len(self._first) < _FIRST_LOOK:
                return
            chunk = self._begin()
        if self._document_format is not None:
            self._document += chunk
            if len(self._document) > DOCUMENT_CAP:
                self._give_up_document()
            return
        if self._unwrapper is not None:
            chunk = self._unwrapper.feed(chunk)
        for piece in self._lines.feed(chunk):
            if self._sorter is not None:
                self._give(self._sorter, piece)
                continue
            self._head += piece
            if len(self._head) >= HEAD:
                self._sorter = _sort(bytes(self._head))
                self._head.clear()

    def _give(self, sorter: "_Sorter", piece: bytes) -> None:
        """Feed on; a few lines tell too little of a wrapper or format, so small pieces are put together."""
        if self._held or len(piece) < _ENOUGH_TO_SNIFF:
            self._held += piece
            if len(self._held) < _ENOUGH_TO_SNIFF:
                return
            piece = bytes(self._held)
            self._held.clear()
        sorter.feed(piece)

    def _begin(self) -> bytes:
        """Recognise what the log is by its first bytes, and return them."""
        first, self._first, self._begun = bytes(self._first), bytearray(), True
        self._recognise(first)
        return first

    def _recognise(self, head: bytes) -> None:
        """See whether a format or a wrapper comes as something else than lines."""
        for log_format in FORMATS.values():
            if isinstance(log_format, DocumentFormat) and log_format.claims(head):
                self._document_format = log_format
                return
        for prefix in PREFIXES.values():
            if isinstance(prefix, UnwrappingPrefix):
                self._unwrapper = prefix.unwrapper(head)
                if self._unwrapper is not None:
                    self._unwrapped = prefix.wrapper
                    return

    def _give_up_document(self) -> None:
        """Read as lines what is too large for a document."""
        content, self._document, self._document_format = bytes(self._document), bytearray(), None
        self.feed(content)

    def finish(self) -> None:
        """Say that the log has ended: a last line without a line end is read too."""
        if not self._begun:
            self.feed(self._begin())
        self._is_over = True
        rest = self._lines.finish()
        if self._sorter is None:
            self._head += rest
        elif self._held or rest:
            self._sorter.feed(bytes(self._held) + rest)
            self._held.clear()

    def reading(self) -> LogReading:
        """Return what the log says so far; builds that are not over are `incomplete`."""
        if not self._begun:
            short = LogReader()
            short.feed(bytes(self._first).ljust(_FIRST_LOOK, b"\n"))
            return replace(short.reading(), lines=self._first.count(b"\n"))
        if self._document_format is not None:
            reading = self._document_reading(self._document_format)
            if reading is not None:
                return reading
        sorter = self._sorter or _sort(bytes(self._head))
        if self._held:
            # The lines held back are read by a copy: asking changes nothing of what is read later.
            shared: dict[int, object] = {id(plugin): plugin for plugin in (*PREFIXES.values(), *FORMATS.values())}
            sorter = deepcopy(sorter, shared)
            sorter.feed(bytes(self._held))
        found, warnings = sorter.found()
        if self._lines.cut_lines:
            count = self._lines.cut_lines
            are = "line is" if count == 1 else "lines are"
            warnings.append(f"{count} {are} longer than {LINE_CAP // 1024} KiB and read only up to there.")
        return LogReading(
            wrapper=self._unwrapped or sorter.wrapper,
            lines=sorter.lines,
            warnings=tuple(warnings),
            builds=tuple(_merge(found)),
        )

    def _document_reading(self, document_format: DocumentFormat) -> LogReading | None:
        content = bytes(self._document)
        try:
            builds = document_format.read_document(content)
        except TooLargeError as error:
            return LogReading(wrapper=None, lines=0, warnings=(str(error),))
        except UnreadableInputError:
            if not self._is_over:
                return LogReading(wrapper=None, lines=0)
            self._give_up_document()
            return None
        lines = content.count(b"\n") if b"\0" not in content[:512] else 0
        return LogReading(wrapper=None, lines=lines, builds=tuple(build for _, build in builds))


class _LineCutter:
    """Cuts chunks into pieces of whole lines, of bounded size, in UTF-8."""

    def __init__(self) -> None:
        self.cut_lines = 0
        self._rest = b""
        self._skipping = False
        self._started = False
        self._decoder: codecs.IncrementalDecoder | None = None

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        if not self._started:
            chunk = self._rest + bytes(chunk)
            self._rest = b""
            if len(chunk) < 3:
                self._rest = chunk
                return
            self._start(chunk)
            chunk = chunk.removeprefix(codecs.BOM_UTF8)
        if self._decoder is not None:
            chunk = self._decoder.decode(chunk).encode(errors="replace")
        position = 0
        while len(chunk) - position > 0:
            end = chunk.rfind(b"\n", position, position + PIECE) + 1
            if (
                end
                and not self._skipping
                and len(self._rest) + chunk.find(b"\n", position) - position <= LINE_CAP
                and (len(chunk) - position > PIECE or len(chunk) - end <= LINE_CAP)
            ):
                # The usual case, in one copy.
                is_last = len(chunk) - position <= PIECE
                yield b"".join((self._rest, memoryview(chunk)[position:end]))
                self._rest, position = (chunk[end:], len(chunk)) if is_last else (b"", end)
                continue
            whole = self._whole_lines(chunk[position : position + PIECE])
            position += PIECE
            if whole:
                yield whole

    def finish(self) -> bytes:
        if not self._started:
            self._start(self._rest)
            self._rest = self._rest.removeprefix(codecs.BOM_UTF8)
        rest, self._rest = self._rest, b""
        return rest

    def _start(self, head: bytes) -> None:
        """Recognise UTF-16, which a redirection in PowerShell writes."""
        self._started = True
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            self._decoder = codecs.getincrementaldecoder("utf-16")(errors="replace")

    def _whole_lines(self, piece: bytes) -> bytes:
        if self._skipping:
            end = piece.find(b"\n")
            if end < 0:
                return b""
            self._skipping = False
            piece = piece[end:]
        end = piece.rfind(b"\n") + 1
        if not end:
            self._rest += piece
            if len(self._rest) > LINE_CAP:
                self.cut_lines += 1
                self._skipping = True
                self._rest = self._rest[:LINE_CAP]
            return b""
        first = piece.find(b"\n")
        if len(self._rest) + first > LINE_CAP:
            self.cut_lines += 1
            head = (self._rest + piece[:first])[:LINE_CAP]
            whole = head + piece[first:end]
        else:
            whole = self._rest + piece[:end]
        self._rest = piece[end:]
        if len(self._rest) > LINE_CAP:
            self.cut_lines += 1
            self._skipping = True
            self._rest = self._rest[:LINE_CAP]
        return whole


@dataclass(slots=True)
class _Open:
    """A format whose parser reads the log, or that is being looked at."""

    format: LogFormat
    parser: LogParser | None = None
    score: float = 0.0
    suspect: list[tuple[int, bytes]] = field(default_factory=list)
    suspect_size: int = 0
    is_doubtful: bool = False
    """All that it read so far stood inside builds of another format."""


class _Channel:
    """The lines of one program: every format has a look at them."""

    def __init__(self, prefix: LinePrefix) -> None:
        self.prefix = prefix
        self._formats = {name: _Open(log_format) for name, log_format in FORMATS.items()}
        self._readers: list[_Open] = []
        """The formats whose parsers are open, in the order in which they may take lines."""

    def is_read(self) -> bool:
        return any(item.parser is not None for item in self._formats.values())

    def feed(self, chunk: bytes, first_line: int) -> int | None:
        """Read on; return how many line ends the chunk has if a parser has counted them."""
        outside: list[tuple[int, int]] | None = None
        numbered: list[tuple[bytes, int]] | None = None
        counted: int | None = None
        # The surest format first: what it takes as its own, a less sure one need not look at.
        for item in self._readers:
            if item.parser is None:
                continue
            if outside is None:
                outside = item.parser.feed(chunk, first_line)
                counted = counted or getattr(item.parser, "counted", None)
                continue
            if numbered is None:
                numbered = list(_numbered(chunk, first_line, outside))
            for part, line in numbered:
                item.parser.feed(part, line)
        opened = len(self._readers)
        around = None if outside is None else b"\n".join([chunk[start:end] for start, end in outside])
        for item in self._formats.values():
            if item.parser is None:
                self._look(item, chunk, first_line, outside, around)
        if len(self._readers) != opened and len(self._readers) > 1:
            self._rank()
        return counted

    def _rank(self) -> None:
        """Put formats last of which all that was read so far is the output of another one's steps."""
        read = {id(item): item.parser.builds() for item in self._readers if item.parser is not None}
        all_read = [(item.score, build) for item in self._readers for build in read[id(item)]]
        surviving = {found.build.format for _, found in _merged(all_read)}
        for item in self._readers:
            item.is_doubtful = all(found.build.format not in surviving for found in read[id(item)])
        self._readers.sort(key=lambda item: (item.is_doubtful, -item.score))

    def _look(
        self, item: _Open, chunk: bytes, first_line: int, spans: list[tuple[int, int]] | None, around: bytes | None
    ) -> None:
        """Look for a format's needles in a chunk, or in its spans that no other format took; `around` holds these."""
        if item.suspect:
            item.suspect.append((first_line, chunk))
            item.suspect_size += len(chunk)
            if item.suspect_size >= _ENOUGH_TO_SNIFF:
                self._open(item)
            return
        if around is not None and not any(needle in around for needle in item.format.needles):
            return
        at = _first_needle(chunk, item.format.needles, spans)
        if at < 0:
            return
        start = chunk.rfind(b"\n", 0, at) + 1
        item.suspect = [(first_line, chunk[:start]), (first_line + chunk.count(b"\n", 0, start), chunk[start:])]
        item.suspect_size = len(chunk) - start
        if item.suspect_size >= _ENOUGH_TO_SNIFF:
            self._open(item)

    def _open(self, item: _Open) -> None:
        """Let a format read from now on if these are its lines."""
        self._decide(item)
        if item.parser is not None:
            self._readers.append(item)

    def _decide(self, item: _Open) -> None:
        """Ask the format about the lines from its needle on; they are dropped when it says no."""
        head = b"".join(chunk for _, chunk in item.suspect[1:])[:HEAD]
        item.score = item.format.sniff(head, self.prefix)
        if item.score > 0:
            item.parser = item.format.parser(self.prefix)
            for first_line, chunk in item.suspect:
                if chunk:
                    item.parser.feed(chunk, first_line)
        item.suspect = []

    def found(self) -> Iterator[tuple[float, FoundBuild]]:
        """Yield the builds of the formats that read the log already."""
        for item in self._formats.values():
            if item.parser is not None:
                for build in item.parser.builds():
                    yield item.score, build

    def told(self) -> tuple[list[tuple[float, FoundBuild]], list[str]]:
        """Return the builds, each with how sure its format is, and the warnings, as if there were no more lines."""
        found: list[tuple[float, FoundBuild]] = []
        told: list[tuple[list[FoundBuild], list[str]]] = []
        for item in self._formats.values():
            if item.suspect:
                # What is still being looked at is decided on a copy: the log may go on.
                item = replace(item)
                self._decide(item)
            if item.parser is not None:
                builds = item.parser.builds()
                found += [(item.score, build) for build in builds]
                told.append((builds, item.parser.warnings()))
        kept = {id(build) for _, build in _merged(found)}
        # What a format says of builds that are another one's output is no warning.
        gone = {f" at line {build.first_line} " for builds, _ in told for build in builds if id(build) not in kept}
        warnings = [
            text
            for builds, texts in told
            if not builds or any(id(build) in kept for build in builds)
            for text in texts
            if not any(place in text for place in gone)
        ]
        return found, warnings


class _Sorter:
    """Sends each line to its channel."""

    def __init__(self, wrapper: str | None, prefix: LinePrefix, has_channels: bool) -> None:
        self.wrapper = wrapper
        self.lines = 0
        self._prefix = prefix
        self._has_channels = has_channels
        self._channels: dict[bytes | None, _Channel] = {None: _Channel(prefix)}
        self._pieces: list[tuple[_Channel, bytes, int]] = []

    def feed(self, piece: bytes) -> None:
        counted: int | None = None
        if self._has_channels:
            for channel, first_line, chunk in self._split(piece):
                channel.feed(chunk, first_line)
        else:
            self._rethink(piece)
            counted = self._channels[None].feed(piece, self.lines + 1)
        self.lines += piece.count(b"\n") if counted is None else counted
        if piece and not piece.endswith(b"\n"):
            self.lines += 1

    def _rethink(self, piece: bytes) -> None:
        """Take a wrapper that begins late: a head of other output, then stamped lines."""
        if self._prefix is PREFIXES["none"] and self.lines and not self._channels[None].is_read():
            wrapper, prefix, has_channels = recognise_prefix(piece)
            if prefix is not self._prefix and not has_channels:
                self.wrapper = wrapper or self.wrapper
                self._prefix = prefix
                self._channels = {None: _Channel(prefix)}

    def _split(self, piece: bytes) -> Iterator[tuple[_Channel, int, bytes]]:
        """Yield runs of lines of one channel."""
        number, run_start, run_name = self.lines, self.lines + 1, b""
        run: list[bytes] = []
        for line in piece.splitlines(keepends=True) if b"\r" not in piece else _lines_of(piece):
            number += 1
            name = self._prefix.strip(line).channel or b""
            if run and name != run_name:
                yield self._channel(run_name), run_start, b"".join(run)
                run = []
            if not run:
                run_start, run_name = number, name
            run.append(line)
        if run:
            yield self._channel(run_name), run_start, b"".join(run)

    def _channel(self, name: bytes) -> _Channel:
        if name not in self._channels:
            if len(self._channels) >= _CHANNEL_CAP:
                return self._channels[None]
            self._channels[name] = _Channel(self._prefix)
        return self._channels[name]

    def found(self) -> tuple[list[tuple[float, FoundBuild]], list[str]]:
        told = [channel.told() for channel in self._channels.values()]
        warnings = [text for _, texts in told for text in texts]
        return [build for found, _ in told for build in found], list(dict.fromkeys(warnings))


class StackedPrefix:
    """One wrapper inside another: stamps of the CI around a compose prefix."""

    def __init__(self, outer: LinePrefix, inner: LinePrefix) -> None:
        self._outer, self._inner = outer, inner
        self.wrapper = outer.wrapper or inner.wrapper

    def sniff(self, head: bytes) -> float:
        """Return the outer wrapper's score."""
        return self._outer.sniff(head)

    def strip(self, line: bytes) -> Line:
        """Take both prefixes off; the outer one's time goes before the inner one's."""
        outer = self._outer.strip(line)
        inner = self._inner.strip(outer.text)
        channels = [channel for channel in (outer.channel, inner.channel) if channel is not None]
        return Line(
            text=inner.text,
            at=outer.at if outer.at is not None else inner.at,
            channel=b"\0".join(channels) if channels else None,
            continues=outer.continues or inner.continues,
        )


def recognise_prefix(head: bytes) -> tuple[str | None, LinePrefix, bool]:
    """Return the wrapper's name, its prefix (stacked where one stands inside another), and whether it has channels.

    A log may begin with lines of something else: then the lines around the first needle of a format tell.
    """
    recognised = _recognise_prefix(head[:HEAD])
    if recognised[1] is not PREFIXES["none"]:
        return recognised
    needles = tuple(needle for log_format in FORMATS.values() for needle in log_format.needles)
    at = _first_needle(head, needles, None)
    start = head.rfind(b"\n", 0, max(0, at - _AROUND_NEEDLE)) + 1
    if at < 0 or start == 0:
        return recognised
    late = _recognise_prefix(head[start : start + HEAD])
    return late[0] or recognised[0], late[1], late[2]


def _recognise_prefix(head: bytes) -> tuple[str | None, LinePrefix, bool]:
    bare = PREFIXES["none"]
    chosen: LinePrefix | None = None
    wrapper: str | None = None
    sample = head[: 64 * 1024]
    used: set[str] = set()
    for _ in range(4):
        score, name = max((prefix.sniff(sample), name) for name, prefix in PREFIXES.items() if name not in used)
        if PREFIXES[name] is bare or score <= 0:
            break
        used.add(name)
        prefix = PREFIXES[name]
        if isinstance(prefix, FittingPrefix):
            prefix = prefix.fitted(sample)
        wrapper = wrapper or prefix.wrapper
        chosen = prefix if chosen is None else StackedPrefix(chosen, prefix)
        sample = b"\n".join(prefix.strip(line).text for line in sample.split(b"\n"))
    if chosen is None:
        return wrapper, bare, False
    lines = head[: 64 * 1024].split(b"\n")
    has_channels = any(chosen.strip(line).channel is not None for line in lines)
    return wrapper, chosen, has_channels


def _sort(head: bytes) -> _Sorter:
    sorter = _Sorter(*recognise_prefix(head))
    if head:
        sorter.feed(head)
    return sorter


def _lines_of(piece: bytes) -> list[bytes]:
    """Split at line feeds only: a carriage return does not end a line here."""
    lines = [line + b"\n" for line in piece.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _first_needle(chunk: bytes, needles: tuple[bytes, ...], spans: list[tuple[int, int]] | None) -> int:
    parts = [(0, len(chunk))] if spans is None else spans
    for start, end in parts:
        hits = [at for needle in needles if (at := chunk.find(needle, start, end)) >= 0]
        if hits:
            return min(hits)
    return -1


def _numbered(chunk: bytes, line: int, spans: list[tuple[int, int]]) -> Iterator[tuple[bytes, int]]:
    """Yield parts of a chunk, each with the number of its first line."""
    position = 0
    for start, end in spans:
        line += chunk.count(b"\n", position, start)
        position = start
        yield chunk[start:end], line


def _merge(found: list[tuple[float, FoundBuild]]) -> Iterator[Build]:
    """Yield the builds in the order of the log, each with the line where it begins."""
    for _, item in _merged(found)[:_BUILD_CAP]:
        build = item.build if item.build.line is not None else replace(item.build, line=item.first_line)
        is_dated = build.started_at is None or build.started_at >= DAY
        yield build if is_dated else replace(build, started_at=None)


def _merged(found: list[tuple[float, FoundBuild]]) -> list[tuple[float, FoundBuild]]:
    """Return the builds in the order of the log, without those that another format only printed inside a step.

    Where builds of two formats cover each other, the one inside is dropped; where they overlap, the less sure one.
    """
    by_line = sorted(found, key=lambda item: (item[1].first_line, -item[1].last_line))
    kept: list[tuple[float, FoundBuild]] = []
    for score, candidate in by_line:
        rivals = [
            (other_score, other)
            for other_score, other in kept[-64:]
            if other.build.format != candidate.build.format and other.last_line >= candidate.first_line
        ]
        if any(other.last_line >= candidate.last_line or other_score >= score for other_score, other in rivals):
            continue
        losers = {id(other) for _, other in rivals}
        kept = [item for item in kept if id(item[1]) not in losers] if losers else kept
        kept.append((score, candidate))
    return kept
