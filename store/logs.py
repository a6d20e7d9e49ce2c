"""Raw logs: zstd-compressed under the SHA-256 of their redacted bytes, in a folder or an S3-compatible bucket.

A log is written once, however often it is sent: `writing()` streams into a temporary file, which takes its name from
what went through it. In a folder the file is synced before it is renamed, so that a log whose delivery was accepted
survives a power cut. Which deliveries refer to a log stands in the database; `store.queries.logs` decides what may go.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import IO, Any, Protocol
from uuid import uuid4

from backports import zstd

from cachescope.errors import NotFoundError, SettingsError, UnreadableInputError
from store.settings import StoreSettings, get_settings

PIECE = 1 << 20
_LEVEL = 3
_LONGEST_LINE = 256 * 1024
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class WrittenLog:
    """A log that is in its place."""

    digest: str
    unpacked_bytes: int
    stored_bytes: int


class LogWriter:
    """Takes a log piece by piece; `finish` puts it into its place and says under which digest it lies."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._packer = zstd.ZstdCompressor(level=_LEVEL)
        self.unpacked_bytes = 0
        self.written: WrittenLog | None = None

    def write(self, piece: bytes) -> None:
        """Add a piece of any length."""
        self._hash.update(piece)
        self.unpacked_bytes += len(piece)
        self._file.write(self._packer.compress(piece))

    def finish(self) -> WrittenLog:
        """End the log; the file is stored when the `with` block of `writing()` is left without an exception."""
        self._file.write(self._packer.flush())
        self._file.flush()
        self.written = WrittenLog(self._hash.hexdigest(), self.unpacked_bytes, self._file.tell())
        return self.written


class LogStore(Protocol):
    """Where raw logs lie. Names are the 64 hexadecimal digits of a SHA-256; anything else raises ValueError."""

    @contextmanager
    def writing(self) -> Iterator[LogWriter]:
        """Open a writer. What was not finished when the block ends is thrown away."""

    def packed(self, digest: str) -> Iterator[bytes]:
        """Read a log as it is stored, compressed; raises NotFoundError when there is none."""

    def delete(self, digest: str, before: datetime) -> bool:
        """Delete a log; False when it was written, or written again, after a time. One that is not there is gone."""


class FolderStore:
    """Logs in a folder: two levels of 256 folders each keep every listing short."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def writing(self) -> Iterator[LogWriter]:
        """Open a writer on a temporary file in the same file system."""
        waiting = self.folder / "incoming"
        waiting.mkdir(parents=True, exist_ok=True)
        path = waiting / uuid4().hex
        try:
            with path.open("xb") as file:
                writer = LogWriter(file)
                yield writer
                if writer.written is None:
                    return
                os.fsync(file.fileno())
            self._place(path, self.path(writer.written.digest))
        finally:
            path.unlink(missing_ok=True)

    def _place(self, path: Path, target: Path) -> None:
        # Replaced even where it exists: its fresh time tells housekeeping that somebody is about to refer to it.
        for folder in (target.parent.parent, target.parent):
            if not folder.is_dir():
                folder.mkdir(parents=True, exist_ok=True)
                _sync_folder(folder.parent)
        path.replace(target)
        _sync_folder(target.parent)

    def path(self, digest: str) -> Path:
        """Where a log lies; raises ValueError for a name that is no digest."""
        digest = checked(digest)
        return self.folder / digest[:2] / digest[2:4] / f"{digest}.zst"

    def packed(self, digest: str) -> Iterator[bytes]:
        """Read the file piece by piece."""
        try:
            file = self.path(digest).open("rb")
        except FileNotFoundError:
            raise _missing(digest) from None
        with file:
            while piece := file.read(PIECE):
                yield piece

    def delete(self, digest: str, before: datetime) -> bool:
        """Take the file out of its place, look at its time, and put it back if somebody has just written it."""
        path = self.path(digest)
        taken = self.folder / "incoming" / uuid4().hex
        try:
            path.rename(taken)
        except FileNotFoundError:
            return True
        if taken.stat().st_mtime >= before.timestamp():
            taken.replace(path)
            return False
        taken.unlink()
        return True

    def delete_left_behind(self, before: datetime) -> int:
        """Remove temporary files that killed processes left behind; returns how many."""
        old = [path for path in self.folder.glob("incoming/*") if path.stat().st_mtime < before.timestamp()]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)


class BucketStore:
    """Logs in an S3-compatible bucket; credentials come from the environment as AWS's own tools read them."""

    def __init__(self, url: str, *, endpoint: str = "", region: str = "us-east-1") -> None:
        try:
            import obstore  # noqa: PLC0415 - the extra [s3], which few need
            from obstore.store import S3Store  # noqa: PLC0415
        except ImportError:
            raise SettingsError(
                f'CACHESCOPE_LOGS_URL is "{url}", which needs the extra s3: pip install "cachescope[s3]".'
            ) from None
        bucket, _, prefix = url.removeprefix("s3://").strip("/").partition("/")
        options: dict[str, Any] = {"region": region}
        if endpoint:
            options |= {"endpoint": endpoint, "client_options": {"allow_http": endpoint.startswith("http://")}}
        self._obstore = obstore
        self._bucket = S3Store(bucket, prefix=prefix or None, **options)

    @contextmanager
    def writing(self) -> Iterator[LogWriter]:
        """Open a writer on a local file, which is sent to the bucket when it is complete."""
        with tempfile.TemporaryFile() as file:
            writer = LogWriter(file)
            yield writer
            if writer.written is not None:
                file.seek(0)
                self._obstore.put(self._bucket, _key(writer.written.digest), file)

    def packed(self, digest: str) -> Iterator[bytes]:
        """Read the object as it comes over the network."""
        try:
            answer = self._obstore.get(self._bucket, _key(digest))
        except FileNotFoundError:
            raise _missing(digest) from None
        for piece in answer.stream(min_chunk_size=PIECE):
            yield bytes(piece)

    def delete(self, digest: str, before: datetime) -> bool:
        """Remove the object unless its time of change is younger."""
        try:
            if self._obstore.head(self._bucket, _key(digest))["last_modified"] >= before:
                return False
            self._obstore.delete(self._bucket, _key(digest))
        except FileNotFoundError:
            pass
        return True


def open_logs(settings: StoreSettings | None = None) -> LogStore:
    """Open the folder or bucket of the settings."""
    settings = settings or get_settings()
    return _open(settings.resolved_logs_url, settings.logs_endpoint, settings.logs_region)


@lru_cache(maxsize=4)
def _open(url: str, endpoint: str, region: str) -> LogStore:
    if url.startswith("s3://"):
        return BucketStore(url, endpoint=endpoint, region=region)
    if "://" in url:
        raise SettingsError(f'CACHESCOPE_LOGS_URL is "{url}". It takes a folder or s3://bucket/prefix.')
    return FolderStore(Path(url))


def write_log(logs: LogStore, pieces: Iterable[bytes]) -> WrittenLog:
    """Store a whole log."""
    with logs.writing() as writer:
        for piece in pieces:
            writer.write(piece)
        return writer.finish()


def read_log(logs: LogStore, digest: str) -> Iterator[bytes]:
    """Read a log in pieces of at most one MiB.

    Raises NotFoundError when there is none, and UnreadableInputError at the end, or where it cannot be unpacked, when
    it is not what was once stored.
    """
    hashed = hashlib.sha256()
    unpacker = zstd.ZstdDecompressor()
    try:
        for packed in logs.packed(digest):
            piece = unpacker.decompress(packed, PIECE)
            while piece:
                hashed.update(piece)
                yield piece
                piece = b"" if unpacker.eof else unpacker.decompress(b"", PIECE)
    except (zstd.ZstdError, EOFError) as error:
        raise UnreadableInputError(f"The stored log {digest} is damaged: {error}.") from error
    if not unpacker.eof or hashed.hexdigest() != digest:
        raise UnreadableInputError(f"The stored log {digest} is damaged: its contents do not fit its name.")


def read_lines(logs: LogStore, digest: str, first: int, count: int) -> list[bytes]:
    """Read some lines of a log from the line `first` (from 1), without their line ends.

    Lines end at LF; one longer than 256 KiB is cut there, so that the answer's size has a bound.
    """
    return list(islice(_lines(read_log(logs, digest)), max(first, 1) - 1, max(first, 1) - 1 + max(count, 0)))


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    kept = b""
    for piece in pieces:
        *whole, rest = piece.split(b"\n")
        if whole:
            yield _cut(kept + whole[0])
            yield from map(_cut, whole[1:])
            kept = b""
        kept += rest[: _LONGEST_LINE + 1 - len(kept)] if len(kept) <= _LONGEST_LINE else b""
    if kept:
        yield _cut(kept)


def _cut(line: bytes) -> bytes:
    return line.removesuffix(b"\r")[:_LONGEST_LINE]


def checked(digest: str) -> str:
    """Return a digest; raises ValueError when it is none, before it becomes part of a path."""
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"{digest[:80]!r} is no SHA-256 digest: 64 hexadecimal digits in lower case.")
    return digest


def _key(digest: str) -> str:
    digest = checked(digest)
    return f"{digest[:2]}/{digest[2:4]}/{digest}.zst"


def _missing(digest: str) -> NotFoundError:
    return NotFoundError(f"The log {digest} is not stored (any more).")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
