"""Tar archives as a stream of entries: headers are read, contents are skipped, nothing is ever written to a disk.

Reads what layers are made of: ustar, GNU (long names, sparse files, sizes in base 256) and pax
(https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html). Every length is bounded before it is believed.
"""

import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from cachescope.errors import TooLargeError, UnreadableInputError

if sys.version_info >= (3, 14):  # pragma: no cover
    from compression import zstd
else:
    from backports import zstd

BLOCK = 512
PIECE = 256 * 1024
LONGEST_NAME = 16 * 1024
"""In bytes; Linux itself takes a quarter of that. A longer name is cut."""
LARGEST_PAX = 1024 * 1024
MOST_ENTRIES = 5_000_000
"""In one archive; a layer of more is no layer."""

FILE, HARD_LINK, SYMBOLIC_LINK, FOLDER, OTHER = "file", "link", "symlink", "folder", "other"
_KINDS = {
    b"0"[0]: FILE,
    0: FILE,
    b"7"[0]: FILE,
    b"S"[0]: FILE,
    b"1"[0]: HARD_LINK,
    b"2"[0]: SYMBOLIC_LINK,
    b"5"[0]: FOLDER,
}
_EXTENDED = b"LKxXg"
_LONG_NAME, _LONG_LINK, _SHARED, _SPARSE = b"LKgS"
_ZEROS = bytes(BLOCK)
_LARGEST = 1 << 50
_RECORD = re.compile(rb"(\d{1,7}) ")
_READ_RECORDS = frozenset(
    {b"path", b"linkpath", b"size", b"GNU.sparse.name", b"GNU.sparse.realsize", b"GNU.sparse.size"}
)


class Source(Protocol):
    """Bytes that are read once, from the beginning."""

    def read(self, size: int) -> bytes:
        """Return exactly so many bytes, fewer only at the end."""
        ...

    def skip(self, size: int) -> int:
        """Leave out so many bytes; return how many there were."""
        ...


class Entry(NamedTuple):
    """One entry of an archive."""

    kind: str
    name: str
    size: int
    """Of a file, unpacked, holes included; of a symbolic link the length of its target; else 0."""
    stored: int
    """How many bytes follow in the archive."""
    link: str = ""
    """Where a link leads."""


class Pieces:
    """A `Source` of pieces that come one after another."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = b""
        self._at = 0

    def read(self, size: int) -> bytes:
        """Return exactly so many bytes, fewer only at the end."""
        end = self._at + size
        if end <= len(self._piece):
            found = self._piece[self._at : end]
            self._at = end
            return found
        parts = [self._piece[self._at :]]
        missing = size - len(parts[0])
        self._piece, self._at = b"", 0
        for piece in self._pieces:
            if len(piece) >= missing:
                parts.append(piece[:missing])
                self._piece, self._at = piece, missing
                break
            parts.append(piece)
            missing -= len(piece)
        return b"".join(parts)

    def skip(self, size: int) -> int:
        """Leave out so many bytes; return how many there were."""
        left = len(self._piece) - self._at
        if size <= left:
            self._at += size
            return size
        missing = size - left
        self._piece, self._at = b"", 0
        for piece in self._pieces:
            if len(piece) >= missing:
                self._piece, self._at = piece, missing
                return size
            missing -= len(piece)
        return size - missing


class Tar:
    """The entries of a tar, one after another; the contents of the latest can be read before the next is asked for."""

    def __init__(self, source: Source, what: str = "archive") -> None:
        self._source = source
        self._what = what
        self._left = 0
        """What of the present entry has not been read."""
        self._padding = 0

    def read(self, size: int) -> bytes:
        """Return the next bytes of the present entry, fewer only at its end."""
        size = min(size, self._left)
        found = self._source.read(size)
        if len(found) < size:
            raise self._cut()
        self._left -= size
        return found

    def pieces(self) -> Iterator[bytes]:
        """The present entry's contents, piece by piece."""
        while piece := self.read(PIECE):
            yield piece

    def __iter__(self) -> Iterator[Entry]:
        """Yield entry after entry. Raises UnreadableInputError for what is no tar or ends too early."""
        pax: dict[str, str] = {}
        shared: dict[str, str] = {}
        long_name = long_link = None
        source = self._source
        for number in range(MOST_ENTRIES):
            header = source.read(BLOCK)
            if len(header) < BLOCK:
                if number and not header:
                    return  # without the empty blocks at the end, as some tools leave it
                raise self._cut() if number else UnreadableInputError(f"The {self._what} is no tar.")
            if header == _ZEROS:
                return
            if not number and not is_header(header):
                raise UnreadableInputError(f"The {self._what} is no tar.")
            flag = header[156]
            stored = self._number(header[124:136])
            if flag in _EXTENDED:
                self._left, self._padding = stored, -stored % BLOCK
                text = self.read(LARGEST_PAX if flag in b"xXg" else LONGEST_NAME)
                self._finish()
                if flag == _LONG_NAME:
                    long_name = _text(text)
                elif flag == _LONG_LINK:
                    long_link = _text(text)
                elif flag == _SHARED:
                    shared |= _pax(text)
                else:
                    pax = _pax(text)
                continue
            entry = self._describe(header, flag, stored, shared | pax if shared else pax, (long_name, long_link))
            pax, long_name, long_link = {}, None, None
            self._left, self._padding = entry.stored, -entry.stored % BLOCK
            yield entry
            self._finish()
        raise TooLargeError(f"The {self._what} has more than {MOST_ENTRIES:,} entries.")

    def _describe(
        self, header: bytes, flag: int, stored: int, told: dict[str, str], names: tuple[str | None, str | None]
    ) -> Entry:
        kind = _KINDS.get(flag, OTHER)
        size = stored
        if flag == _SPARSE:
            extended = header[482]
            while extended:
                more = self._source.read(BLOCK)
                if len(more) < BLOCK:
                    raise self._cut()
                extended = more[504]
            size = self._number(header[483:495])
        if told:
            size = stored = _pax_size(told.get("size"), stored)
            size = _pax_size(told.get("GNU.sparse.realsize") or told.get("GNU.sparse.size"), size)
        name = told.get("GNU.sparse.name") or told.get("path") or names[0] or _name(header)
        if kind is FILE:
            if name.endswith("/"):  # how tar wrote folders before there was a flag for them
                return Entry(FOLDER, name, 0, stored)
            return Entry(FILE, name, size, stored)
        link = told.get("linkpath") or names[1] or _text(header[157:257])
        if kind is SYMBOLIC_LINK:
            return Entry(kind, name, len(link.encode("utf-8", "replace")), 0, link)
        return Entry(kind, name, 0, 0 if kind is not OTHER or flag in b"346" else stored, link)

    def _finish(self) -> None:
        rest = self._left + self._padding
        # The padding behind the very last entry may be missing.
        if rest and self._source.skip(rest) < self._left:
            raise self._cut()
        self._left = self._padding = 0

    def _number(self, field: bytes) -> int:
        """Read a size: octal, or base 256 where it does not fit."""
        if field[0] & 0x80:
            value = int.from_bytes(field[1:], "big") if field[0] == 0x80 else -1
        else:
            try:
                value = int(field.split(b"\0", 1)[0].strip() or b"0", 8)
            except ValueError:
                value = -1
        if not 0 <= value <= _LARGEST:
            raise UnreadableInputError(f"The {self._what} is damaged: an entry has no size.")
        return value

    def _cut(self) -> UnreadableInputError:
        return UnreadableInputError(f"The {self._what} ends too early: it was cut.")


def is_header(block: bytes) -> bool:
    """Tell whether a block is the header of an entry, by its checksum."""
    if len(block) < BLOCK:
        return False
    try:
        told = int(block[148:156].split(b"\0", 1)[0].strip() or b"-1", 8)
    except ValueError:
        return False
    return told == sum(block[:148]) + 256 + sum(block[156:BLOCK])


def _name(header: bytes) -> str:
    name = _text(header[:100])
    if header[345] and header[257:263] == b"ustar\0":
        return f"{_text(header[345:500])}/{name}"
    return name


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "replace")


def _pax(text: bytes) -> dict[str, str]:
    """Read `27 path=some/long/name` records; the first that is damaged ends them."""
    records: dict[str, str] = {}
    at = 0
    while (found := _RECORD.match(text, at)) is not None:
        length = int(found[1])
        end = at + length
        if length <= found.end() - at or end > len(text):
            break
        key, _, value = text[found.end() : end - 1].partition(b"=")
        if key in _READ_RECORDS:
            records[key.decode()] = value[:LONGEST_NAME].decode("utf-8", "replace")
        at = end
    return records


def _pax_size(text: str | None, otherwise: int) -> int:
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 18:
        return otherwise
    return min(int(text), _LARGEST)


class Unpacked:
    """The pieces of a gzip or zstd stream unpacked, or as they are; stops at a cap. Counts both sides."""

    def __init__(self, pieces: Iterable[bytes], cap_bytes: int, what: str = "layer") -> None:
        self._pieces = pieces
        self._cap_bytes = cap_bytes
        self._what = what
        self.packed_bytes = 0
        self.unpacked_bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        """Unpack piece by piece; raises UnreadableInputError and TooLargeError."""
        inner: Any = None
        begun = False
        for piece in self._pieces:
            self.packed_bytes += len(piece)
            if not begun and piece:
                begun, inner = True, _unpacker(piece)
                packed = inner is not None
            if not begun or not packed:
                yield self._counted(piece)
                continue
            while piece:
                if inner is None:
                    inner = _unpacker(piece)
                    if inner is None:
                        break  # what follows the last packed member is padding
                try:
                    out = inner.decompress(piece, PIECE)
                    while out:
                        yield self._counted(out)
                        out = b"" if inner.eof else inner.decompress(_rest_of(inner), PIECE)
                except (zlib.error, zstd.ZstdError) as error:
                    raise UnreadableInputError(f"The {self._what} cannot be unpacked: {error}.") from error
                piece = inner.unused_data if inner.eof else b""
                if inner.eof:
                    inner = None
        if inner is not None:
            raise UnreadableInputError(f"The {self._what} ends too early: it was cut.")

    def _counted(self, piece: bytes) -> bytes:
        self.unpacked_bytes += len(piece)
        if self.unpacked_bytes > self._cap_bytes:
            raise TooLargeError(f"The {self._what} unpacks to more than {self._cap_bytes / (1 << 30):,.0f} GiB.")
        return piece


def _rest_of(inner: Any) -> bytes:
    """What zlib's decompressor could not yet take in; zstd's keeps it inside."""
    rest: bytes = getattr(inner, "unconsumed_tail", b"")
    return rest


def _unpacker(head: bytes) -> Any:
    if head.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(wbits=31)
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: 27})
    return None
