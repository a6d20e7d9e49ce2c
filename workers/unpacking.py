"""Bytes as they were sent → the text of a log: decompressed under caps, in UTF-8, and refused when it is no text.

Pieces go in and come out; nothing is held but a window, so the size of a log costs time and no memory.
"""

import codecs
import sys
import zlib
from collections.abc import Generator, Iterator
from typing import Any, Protocol

from cachescope.errors import TooLargeError, UnreadableInputError, UnsupportedInputError
from cachescope.redaction import LINE_CAP, OVERLAP

if sys.version_info >= (3, 14):  # pragma: no cover
    from compression import zstd
else:
    from backports import zstd

PIECE = 1 << 20
RATIO_CAP = 200
"""A log may be this many times larger than what was sent; build logs pack five to forty times."""
RATIO_FREE = 1 << 20
"""Below this size nobody looks at the ratio: a short log of equal lines packs better than any."""
ENCODINGS = ("identity", "gzip", "zstd")

_MEMBERS = 1000  # files packed one after another; each costs a copy of the piece that it begins in
_WINDOW_LOG = 25  # zstd's own levels up to 21 stay within 32 MiB
_HEAD = 4096
_SAMPLE = 64 * 1024
_NOISE = 0.3
_TEXT_CONTROLS = bytes([*range(7, 14), 27])
_ODD_BYTES = bytes(byte for byte in [*range(32), 127] if byte not in _TEXT_CONTROLS)


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


class _Gzip:
    """zlib's decompressor with the manners of zstd's: what did not fit is kept inside."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = PIECE, /) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


def _new_decompressor(encoding: str) -> _Decompressor:
    if encoding == "gzip":
        return _Gzip()
    options: Any = {zstd.DecompressionParameter.window_log_max: _WINDOW_LOG}
    return zstd.ZstdDecompressor(options=options)


def read_encoding(header: str | None) -> str:
    """Read a Content-Encoding header; raises UnsupportedInputError for one that is not taken."""
    encoding = (header or "identity").strip().lower() or "identity"
    encoding = {"x-gzip": "gzip"}.get(encoding, encoding)
    if encoding not in ENCODINGS:
        raise UnsupportedInputError(
            f'The Content-Encoding "{encoding[:40]}" is not taken. Send the log as it is, or packed with gzip or zstd.'
        )
    return encoding


class Unpacker:
    """Undoes the compression of one body; a body that says nothing of itself is recognised by its first bytes."""

    def __init__(self, encoding: str, cap_bytes: int) -> None:
        self._encoding = encoding
        self._cap_bytes = cap_bytes
        self._inner: _Decompressor | None = None
        self._members = 0
        self.packed_bytes = 0
        self.unpacked_bytes = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Unpack the next bytes of the body into pieces of at most a mebibyte.

        Raises TooLargeError past a cap and UnreadableInputError for data that is not what it claims to be.
        """
        if not chunk:
            return
        if not self.packed_bytes and self._encoding == "identity":
            self._encoding = _sniff(chunk)
        self.packed_bytes += len(chunk)
        if self.packed_bytes > self._cap_bytes:
            raise _too_large(self._cap_bytes)
        if self._encoding == "identity":
            self.unpacked_bytes = self.packed_bytes
            yield chunk
            return
        while chunk:
            chunk = yield from self._unpack_member(chunk)

    def _unpack_member(self, chunk: bytes) -> Generator[bytes, None, bytes]:
        if self._inner is None or self._inner.eof:
            self._members += 1
            if self._members > _MEMBERS:
                raise UnreadableInputError(f"The body is packed in more than {_MEMBERS} files: pack it as one.")
            self._inner = _new_decompressor(self._encoding)
        try:
            while True:
                piece = self._inner.decompress(chunk, PIECE)
                chunk = b""
                self.unpacked_bytes += len(piece)
                self._check_caps()
                if piece:
                    yield piece
                if self._inner.eof:
                    return self._inner.unused_data
                if len(piece) < PIECE:
                    return b""
        except (zlib.error, zstd.ZstdError) as error:
            raise UnreadableInputError(
                f"The body cannot be unpacked as {self._encoding}: {error}. Check its Content-Encoding."
            ) from error

    def _check_caps(self) -> None:
        if self.unpacked_bytes > self._cap_bytes:
            raise _too_large(self._cap_bytes)
        if self.unpacked_bytes > max(RATIO_FREE, self.packed_bytes * RATIO_CAP):
            raise TooLargeError(
                f"The body unpacks to more than {RATIO_CAP} times its size, which no build log does. Send it unpacked."
            )

    def finish(self) -> None:
        """Say that the body has ended; raises UnreadableInputError when it was empty or cut short."""
        if not self.packed_bytes:
            raise UnreadableInputError("The body is empty. Send the build log as the body of the request.")
        if self._inner is not None and not self._inner.eof:
            raise UnreadableInputError(f"The {self._encoding} data ends too early. Send the whole log again.")


def _sniff(head: bytes) -> str:
    if head.startswith(b"\x1f\x8b\x08"):
        return "gzip"
    return "zstd" if head.startswith(b"\x28\xb5\x2f\xfd") else "identity"


def _too_large(cap_bytes: int) -> TooLargeError:
    return TooLargeError(
        f"The log is larger than {cap_bytes / (1 << 20):,.0f} MiB after decompression. "
        "Send the part that holds the build."
    )


class TextCutter:
    """Turns unpacked pieces into UTF-8 cut at line ends, as the redaction wants them; refuses what is no text."""

    def __init__(self) -> None:
        self._decoder: codecs.IncrementalDecoder | None = None
        self._began = False
        self._rest = b""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Return the whole lines that are now complete; a line that grows too long is cut, between words if it can."""
        if not self._began:
            self._rest += piece
            if len(self._rest) < _HEAD:
                return
            piece, self._rest = self._rest, b""
            piece = self._begin(piece)
        else:
            piece = self._to_utf8(piece)
        if cut := piece.rfind(b"\n") + 1:
            yield self._rest + piece[:cut]
            self._rest = piece[cut:]
        else:
            self._rest += piece
        while len(self._rest) > LINE_CAP:
            # Between the members of a JSON object, so that no string of base64 is torn; in other lines at a space.
            cut = max(self._rest.rfind(seam, LINE_CAP - OVERLAP, LINE_CAP) for seam in (b',"', b" "))
            cut = cut if cut > 0 else LINE_CAP
            yield self._rest[:cut]
            self._rest = self._rest[cut:]

    def finish(self) -> bytes:
        """Return what follows the last line end; for a short log that is all of it."""
        if not self._began:
            self._rest = self._begin(self._rest)
        return self._rest + (self._decoder.decode(b"", final=True).encode() if self._decoder else b"")

    def _begin(self, head: bytes) -> bytes:
        self._began = True
        self._decoder = _wide_decoder(head)
        head = self._to_utf8(head)
        _refuse_noise(head[:_SAMPLE])
        return head

    def _to_utf8(self, piece: bytes) -> bytes:
        return self._decoder.decode(piece).encode("utf-8", "replace") if self._decoder else piece


def _wide_decoder(head: bytes) -> codecs.IncrementalDecoder | None:
    """PowerShell's `>` writes UTF-16 with a mark at its beginning."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return codecs.getincrementaldecoder("utf-16")("replace")
    return None


def _refuse_noise(sample: bytes) -> None:
    odd = len(sample) - len(sample.translate(None, _ODD_BYTES))
    odd += len(sample) - len(sample.decode("utf-8", "ignore").encode())
    if odd > len(sample) * _NOISE:
        raise UnreadableInputError(
            "The body is not text. Send the log that the build printed, as it is or packed with gzip or zstd."
        )
