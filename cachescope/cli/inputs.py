"""Opens the logs that a command is given: plain, gzip, zstd, UTF-16, zip archives of a CI run, standard input.

What a file is says its content, never its name. Nothing is read whole: logs come as iterables of byte chunks. Packed
input is capped in size and in ratio, so that a small file that unpacks to terabytes ends with a sentence.
"""

import codecs
import io
import itertools
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Final

from backports import zstd

from cachescope.errors import TooLargeError, UnreadableInputError

CHUNK_BYTES: Final = 256 * 1024
MAX_UNPACKED_BYTES: Final = 4 * 1024**3
MAX_RATIO: Final = 200
"""Unpacked to packed bytes; real logs stay below 60 even where a progress bar repeats a line ten thousand times."""
RATIO_FREE_BYTES: Final = 16 * 1024**2
"""Below this size no ratio is held against a file: a short log of one repeated line is harmless."""
MAX_MEMBERS: Final = 10_000
MAX_SPOOLED_BYTES: Final = 1024**3

GZIP: Final = b"\x1f\x8b"
ZSTD: Final = b"\x28\xb5\x2f\xfd"
ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")
UTF_16: Final = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


@dataclass(frozen=True, slots=True)
class Log:
    """One log of a file: its name inside an archive, and its bytes, to be read before the next one is asked for."""

    member: str | None
    chunks: Iterator[bytes]


@contextmanager
def open_file(name: str) -> Iterator[BinaryIO]:
    """Open a file by name, `-` for standard input; raises UnreadableInputError with the reason in words."""
    if name == "-":
        yield sys.stdin.buffer
        return
    try:
        file = Path(name).open("rb")  # noqa: SIM115  # closed below: only opening it may fail in this sentence
    except (OSError, ValueError) as error:
        raise UnreadableInputError(f"Cannot read {name}: {reason(error)}.") from error
    with file:
        yield file


def reason(error: Exception) -> str:
    """Return what the system says, in lower case and without its number."""
    text = getattr(error, "strerror", None) or str(error)
    return (text[:1].lower() + text[1:]).rstrip(".")


def read_logs(name: str, file: BinaryIO) -> Iterator[Log]:
    """Yield the logs that a file holds: one, or one per member of an archive in archive order.

    Raises UnreadableInputError, also while the chunks of a log are read.
    """
    head = read_head(name, file)
    if head.startswith(ZIP):
        yield from read_zip(name, head, file)
        return
    chunks = read_chunks(name, head, file)
    yield Log(None, decode(unpack(name, head, chunks)))


def read_head(name: str, file: BinaryIO) -> bytes:
    """Read the first bytes, from a pipe too."""
    try:
        head = b""
        while len(head) < 4 and (piece := file.read(4 - len(head))):
            head += piece
        return head
    except OSError as error:
        raise UnreadableInputError(f"Cannot read {name}: {reason(error)}.") from error


def read_chunks(name: str, head: bytes, file: IO[bytes]) -> Iterator[bytes]:
    """Yield the head, then what the file still holds; a pipe gives what it has without waiting for a full chunk."""
    if head:
        yield head
    read = file.read1 if isinstance(file, io.BufferedReader) else file.read
    try:
        while chunk := read(CHUNK_BYTES):
            yield chunk
    except OSError as error:
        raise UnreadableInputError(f"Cannot read {name}: {reason(error)}.") from error


def unpack(name: str, head: bytes, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Unpack gzip and zstd, hand everything else on."""
    if head.startswith(GZIP):
        return unpack_gzip(name, chunks)
    if head.startswith(ZSTD):
        return unpack_zstd(name, chunks)
    return iter(chunks)


class Cap:
    """Counts packed and unpacked bytes and stops what unpacks to too much."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.packed = self.unpacked = 0

    def count(self, unpacked: int) -> None:
        """Count unpacked bytes; raises TooLargeError past a cap."""
        self.unpacked += unpacked
        if self.unpacked > MAX_UNPACKED_BYTES:
            raise TooLargeError(
                f"Cannot read {self.name}: it unpacks to more than {MAX_UNPACKED_BYTES // 1024**3} GiB."
            )
        if self.unpacked > RATIO_FREE_BYTES and self.unpacked > MAX_RATIO * self.packed:
            raise TooLargeError(
                f"Cannot read {self.name}: it unpacks to more than {MAX_RATIO} times its size, as no build log does."
            )


def unpack_gzip(name: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Unpack gzip, also several members one after another (a log that was appended to)."""
    cap = Cap(name)
    unpacker = zlib.decompressobj(wbits=31)
    try:
        for chunk in chunks:
            cap.packed += len(chunk)
            while chunk:
                if unpacker.eof:
                    if not chunk.startswith(GZIP[:1]):
                        return  # padding after the last member, as tape and CI archives leave it
                    unpacker = zlib.decompressobj(wbits=31)
                if piece := unpacker.decompress(chunk, CHUNK_BYTES):
                    cap.count(len(piece))
                    yield piece
                chunk = unpacker.unconsumed_tail or unpacker.unused_data
    except zlib.error as error:
        raise UnreadableInputError(f"Cannot read {name}: it is no valid gzip file ({error}).") from error
    if not unpacker.eof:
        raise UnreadableInputError(f"Cannot read {name}: the gzip file is cut short.")


def unpack_zstd(name: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Unpack zstd, also several frames one after another."""
    cap = Cap(name)
    unpacker = zstd.ZstdDecompressor()
    try:
        for chunk in chunks:
            cap.packed += len(chunk)
            while chunk or not (unpacker.eof or unpacker.needs_input):
                if unpacker.eof:
                    unpacker = zstd.ZstdDecompressor()
                if piece := unpacker.decompress(chunk, CHUNK_BYTES):
                    cap.count(len(piece))
                    yield piece
                chunk = unpacker.unused_data if unpacker.eof else b""
    except zstd.ZstdError as error:
        raise UnreadableInputError(f"Cannot read {name}: it is no valid zstd file ({error}).") from error
    if not unpacker.eof:
        raise UnreadableInputError(f"Cannot read {name}: the zstd file is cut short.")


def peek(chunks: Iterable[bytes], count: int) -> tuple[bytes, Iterator[bytes]]:
    """Return the first bytes of a log, at least so many where it has them, and all of its chunks."""
    source = iter(chunks)
    first: list[bytes] = []
    while sum(map(len, first)) < count and (chunk := next(source, None)) is not None:
        first.append(chunk)
    return b"".join(first), itertools.chain(first, source)


def decode(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Turn UTF-16, which PowerShell writes when it redirects a program's output, into UTF-8; hand the rest on."""
    head, source = peek(chunks, 2)
    encoding = UTF_16.get(head[:2])
    if encoding is None:
        yield from source
        return
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    for chunk in source:
        yield decoder.decode(chunk).removeprefix("\ufeff").encode()
    yield decoder.decode(b"", final=True).encode()


def read_zip(name: str, head: bytes, file: BinaryIO) -> Iterator[Log]:
    """Yield the members of a zip archive that are files, in archive order."""
    with tempfile.SpooledTemporaryFile(max_size=RATIO_FREE_BYTES) as spool:
        archive_file: IO[bytes] = file
        if not file.seekable():
            for chunk in read_chunks(name, head, file):
                spool.write(chunk)
                if spool.tell() > MAX_SPOOLED_BYTES:
                    raise TooLargeError(
                        f"Cannot read {name}: a zip archive from a pipe may have {MAX_SPOOLED_BYTES // 1024**3} GiB; "
                        "save it to a file first."
                    )
            archive_file = spool
        try:
            archive = zipfile.ZipFile(archive_file)
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise UnreadableInputError(f"Cannot read {name}: it is no valid zip archive ({reason(error)}).") from error
        with archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            if len(members) > MAX_MEMBERS:
                raise TooLargeError(f"Cannot read {name}: it holds {len(members):,} files, more than {MAX_MEMBERS:,}.")
            for member in members:
                yield Log(member.filename, read_member(name, archive, member))


def read_member(name: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yield the bytes of one member, which may be packed itself but is no archive."""
    label = f"{member.filename} in {name}"
    cap = Cap(label)
    cap.packed = member.compress_size

    def chunks(file: IO[bytes], first: bytes) -> Iterator[bytes]:
        for chunk in itertools.chain([first], iter(lambda: file.read(CHUNK_BYTES), b"")):
            cap.count(len(chunk))
            yield chunk

    try:
        with archive.open(member) as file:
            head = file.read(CHUNK_BYTES)
            if head.startswith(ZIP):
                raise UnreadableInputError(f"Cannot read {label}: it is an archive inside an archive; unpack it first.")
            yield from decode(unpack(label, head, chunks(file, head)))
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:
        # RuntimeError: encrypted; NotImplementedError: a compression that Python does not know
        raise UnreadableInputError(f"Cannot read {label}: {reason(error)}.") from error
