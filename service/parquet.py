"""Writes Parquet files as a stream, a page of rows at a time: flat tables with columns that may be empty.

After https://parquet.apache.org/docs/file-format/: data pages of version 1, plain values behind definition levels, zstd
around each page; the footer in Thrift's compact protocol. Why no library: docs/decisions/0008-parquet.md.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import Enum
from typing import Any

from backports import zstd

ROWS = 100_000
"""Rows of a row group, at least: readers skip and read whole groups, and the footer lists each."""
_MAGIC = b"PAR1"
_OPTIONAL, _PLAIN, _RLE, _ZSTD, _DATA_PAGE = 1, 0, 3, 6, 0
_I32, _I64, _BINARY, _LIST, _STRUCT = 5, 6, 8, 9, 12
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_DAY = date(1970, 1, 1).toordinal()


class Kind(Enum):
    """What a column holds: the physical type of the format, and the name that says what it means."""

    BOOLEAN = (0, None)
    DATE = (1, 6)
    INTEGER = (2, None)
    TIMESTAMP = (2, 10)
    NUMBER = (5, None)
    TEXT = (6, 0)


@dataclass(slots=True)
class _Chunk:
    """The pages of one column in the present row group."""

    pages: list[bytes] = field(default_factory=list)
    unpacked: int = 0

    @property
    def packed(self) -> int:
        return sum(map(len, self.pages))


def write(columns: Sequence[tuple[str, Kind]], pages: Iterable[Sequence[Sequence[Any]]]) -> Iterator[bytes]:
    """Yield a file piece by piece from pages of rows: values in the order of the columns, None where there is none."""
    yield _MAGIC
    offset, total = len(_MAGIC), 0
    groups: list[bytes] = []
    chunks, rows = [_Chunk() for _ in columns], 0
    for page in pages:
        if not page:
            continue
        for chunk, (_, kind), values in zip(chunks, columns, zip(*page, strict=True), strict=True):
            packed, unpacked = _data_page(kind, values)
            chunk.pages.append(packed)
            chunk.unpacked += unpacked
        rows += len(page)
        if rows >= ROWS:
            groups.append(_row_group(columns, chunks, offset, rows))
            for chunk in chunks:
                yield from chunk.pages
                offset += chunk.packed
            chunks, total, rows = [_Chunk() for _ in columns], total + rows, 0
    if rows:
        groups.append(_row_group(columns, chunks, offset, rows))
        for chunk in chunks:
            yield from chunk.pages
    footer = _footer(columns, groups, total + rows)
    yield footer + struct.pack("<I", len(footer)) + _MAGIC


def _data_page(kind: Kind, values: Sequence[Any]) -> tuple[bytes, int]:
    """A page with its header, and how long both would be unpacked."""
    known = [value for value in values if value is not None]
    levels = _levels(values, len(known))
    body = struct.pack("<I", len(levels)) + levels + _plain(kind, known)
    packed = zstd.compress(body, 3)
    about = _Struct().i32(1, len(values)).i32(2, _PLAIN).i32(3, _RLE).i32(4, _RLE)
    header = _Struct().i32(1, _DATA_PAGE).i32(2, len(body)).i32(3, len(packed)).struct(5, about).end()
    return header + packed, len(header) + len(body)


def _levels(values: Sequence[Any], known: int) -> bytes:
    """Which values are there: one run where all or none are, else a bit for each."""
    if known in {0, len(values)}:
        return _varint(len(values) << 1) + bytes([1 if known else 0])
    groups = -(-len(values) // 8)
    bits = 0
    for place, value in enumerate(values):
        bits |= (value is not None) << place
    return _varint(groups << 1 | 1) + bits.to_bytes(groups, "little")


def _plain(kind: Kind, values: Sequence[Any]) -> bytes:
    match kind:
        case Kind.BOOLEAN:
            bits = sum(bool(value) << place for place, value in enumerate(values))
            return bits.to_bytes(-(-len(values) // 8), "little")
        case Kind.DATE:
            return struct.pack(f"<{len(values)}i", *(value.toordinal() - _FIRST_DAY for value in values))
        case Kind.INTEGER:
            return struct.pack(f"<{len(values)}q", *values)
        case Kind.TIMESTAMP:
            return struct.pack(f"<{len(values)}q", *map(_microseconds, values))
        case Kind.NUMBER:
            return struct.pack(f"<{len(values)}d", *values)
        case Kind.TEXT:
            texts = [str(value).encode("utf-8", "replace") for value in values]
            return b"".join(part for text in texts for part in (struct.pack("<I", len(text)), text))


def _microseconds(moment: datetime) -> int:
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _row_group(columns: Sequence[tuple[str, Kind]], chunks: Sequence[_Chunk], offset: int, rows: int) -> bytes:
    listed = []
    for (name, kind), chunk in zip(columns, chunks, strict=True):
        about = _Struct().i32(1, kind.value[0]).list(2, _I32, [_zigzag(_PLAIN), _zigzag(_RLE)])
        about.list(3, _BINARY, [_text(name)]).i32(4, _ZSTD).i64(5, rows).i64(6, chunk.unpacked)
        about.i64(7, chunk.packed).i64(9, offset)
        listed.append(_Struct().i64(2, offset).struct(3, about).end())
        offset += chunk.packed
    size = sum(chunk.unpacked for chunk in chunks)
    return _Struct().list(1, _STRUCT, listed).i64(2, size).i64(3, rows).end()


def _footer(columns: Sequence[tuple[str, Kind]], groups: Sequence[bytes], rows: int) -> bytes:
    schema = [_Struct().binary(4, "rows").i32(5, len(columns)).end()]
    for name, kind in columns:
        physical, meaning = kind.value
        element = _Struct().i32(1, physical).i32(3, _OPTIONAL).binary(4, name)
        schema.append((element if meaning is None else element.i32(6, meaning)).end())
    about = _Struct().i32(1, 1).list(2, _STRUCT, schema).i64(3, rows).list(4, _STRUCT, groups)
    return about.binary(6, "Cachescope").end()


class _Struct:
    """A struct of Thrift's compact protocol; fields are added in the order of their numbers."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._last = 0

    def _field(self, number: int, kind: int, value: bytes) -> "_Struct":
        self._parts += [bytes([(number - self._last) << 4 | kind]), value]
        self._last = number
        return self

    def i32(self, number: int, value: int) -> "_Struct":
        return self._field(number, _I32, _zigzag(value))

    def i64(self, number: int, value: int) -> "_Struct":
        return self._field(number, _I64, _zigzag(value))

    def binary(self, number: int, value: str) -> "_Struct":
        return self._field(number, _BINARY, _text(value))

    def struct(self, number: int, value: "_Struct") -> "_Struct":
        return self._field(number, _STRUCT, value.end())

    def list(self, number: int, kind: int, values: Sequence[bytes]) -> "_Struct":
        size = len(values)
        head = bytes([size << 4 | kind]) if size < 15 else bytes([0xF0 | kind]) + _varint(size)
        return self._field(number, _LIST, head + b"".join(values))

    def end(self) -> bytes:
        return b"".join(self._parts) + b"\0"


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def _zigzag(value: int) -> bytes:
    return _varint(value << 1 if value >= 0 else (-value << 1) - 1)


def _text(value: str) -> bytes:
    encoded = value.encode()
    return _varint(len(encoded)) + encoded
