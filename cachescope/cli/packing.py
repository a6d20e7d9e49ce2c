"""A log in a file of its own, redacted and compressed: what is sent, and what is kept when it cannot be sent.

It is complete before the first byte is sent: its digest makes the idempotency key, so that a repeated upload of the
same log of the same run is one delivery.
"""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from backports import zstd

from cachescope.errors import TooLargeError, UploadError
from cachescope.redaction import Redactor

MAX_LOG_BYTES: Final = 256 * 1024 * 1024
"""What a server takes after decompression, unless it is set up otherwise."""
PIECE: Final = 256 * 1024
MAX_KEPT: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedLog:
    """A log without its secrets, zstd-compressed, in an open file."""

    file: IO[bytes]
    packed_bytes: int
    log_bytes: int
    digest: str
    """SHA-256 of the redacted log before compression."""
    redactions: int


def pack_log(chunks: Iterable[bytes], file: IO[bytes]) -> PackedLog:
    """Redact and compress a log into a file; raises TooLargeError for one that no server takes."""
    redactor = Redactor()
    packer = zstd.ZstdCompressor(level=6)
    digest = hashlib.sha256()
    log_bytes = 0
    for chunk in redactor.redact_chunks(chunks):
        log_bytes += len(chunk)
        if log_bytes > MAX_LOG_BYTES:
            raise TooLargeError(
                f"The log is larger than {MAX_LOG_BYTES // 1024**2} MiB, more than a server takes. "
                "Send the part that holds the build."
            )
        digest.update(chunk)
        file.write(packer.compress(chunk))
    file.write(packer.flush())
    file.flush()
    return PackedLog(
        file=file,
        packed_bytes=file.tell(),
        log_bytes=log_bytes,
        digest=digest.hexdigest(),
        redactions=redactor.replacements,
    )


def make_private_file(folder: Path, stem: str) -> IO[bytes]:
    """Create a file that only its owner reads, under a name that nobody has yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(MAX_KEPT):
        path = folder / f"{stem}{f'-{number}' if number else ''}.log.zst"
        try:
            return open(path, "x+b", opener=lambda name, flags: os.open(name, flags, 0o600))
        except FileExistsError:
            continue
    raise UploadError(f"No log can be kept in {folder}: it holds thousands already. Remove some.")
