"""A log on its way in together with what surrounds it: the parts of a `multipart/form-data` body.

Parts: `log`, and beside it any of `evidence` (the JSON document of `cachescope.surroundings`), `dockerfile` and
`dockerignore` (the files themselves). They come in any order and are never held whole but for the small ones.
"""

from types import TracebackType
from typing import Any, Self

import orjson
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from cachescope.errors import InvalidValueError, TooLargeError, UnreadableInputError
from cachescope.surroundings import Surroundings, read_surroundings
from store.logs import LogStore
from workers.receiving import LogReceiver, ReceivedLog
from workers.unpacking import Unpacker

LARGEST_PART = 8 << 20
"""In bytes; the longest evidence that anybody has a reason to send."""
_LONGEST_HEADER = 4096
_SMALL = ("evidence", "dockerfile", "dockerignore")


def read_boundary(content_type: str | None) -> bytes | None:
    """What stands between the parts; None for a body that is no form. Raises UnreadableInputError without one."""
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        return None
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= 200:
        raise UnreadableInputError("The body is multipart/form-data, but its Content-Type names no boundary.")
    return boundary


class PartsReceiver:
    """Takes such a body piece by piece; used as `LogReceiver` is."""

    def __init__(self, logs: LogStore, *, boundary: bytes, cap_bytes: int) -> None:
        self._logs, self._cap_bytes = logs, cap_bytes
        self._log: LogReceiver | None = None
        self._small: dict[str, bytearray] = {}
        self._name = ""
        self._has_ended = False
        self._header, self._value = bytearray(), bytearray()
        callbacks: Any = {
            "on_part_begin": self._begin_part,
            "on_header_field": lambda data, start, end: _extend(self._header, data[start:end]),
            "on_header_value": lambda data, start, end: _extend(self._value, data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._begin_content,
            "on_part_data": self._take,
            "on_end": self._end,
        }
        self._parser = MultipartParser(boundary, callbacks)

    def __enter__(self) -> Self:
        """Hand over the receiver."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put a finished log into its place, and throw away any other."""
        if self._log is not None:
            self._log.__exit__(kind, error, trace)

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body; raises UnreadableInputError or TooLargeError when they cannot be taken."""
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise UnreadableInputError(
                f"The body is no multipart/form-data: {str(error)[:200].rstrip('.')}."
            ) from error

    def finish(self) -> ReceivedLog:
        """Say that the body has ended; raises UnreadableInputError where it had no log, or was cut."""
        if not self._has_ended:
            raise UnreadableInputError("The body ends before its last part does. Send it again.")
        if self._log is None:
            raise UnreadableInputError('The body has no part "log". Send the build log as the part of that name.')
        return self._log.finish()

    def surroundings(self) -> Surroundings:
        """What came with the log; raises InvalidValueError where it makes no sense."""
        document: Any = {}
        if "evidence" in self._small:
            try:
                document = orjson.loads(_unpacked(bytes(self._small["evidence"])))
            except orjson.JSONDecodeError as error:
                raise InvalidValueError("evidence", f"The evidence is no JSON document: {error}.") from error
        if isinstance(document, dict):
            files = ("dockerfile", "dockerignore")
            document |= {name: self._small[name].decode("utf-8", "replace") for name in files if name in self._small}
        return read_surroundings(document)

    def _end(self) -> None:
        self._has_ended = True

    def _begin_part(self) -> None:
        self._name = ""

    def _end_header(self) -> None:
        if self._header.strip().lower() == b"content-disposition":
            self._name = parse_options_header(bytes(self._value))[1].get(b"name", b"").decode("utf-8", "replace")
        self._header.clear()
        self._value.clear()

    def _begin_content(self) -> None:
        if self._name == "log" and self._log is None:
            self._log = LogReceiver(self._logs, encoding="identity", cap_bytes=self._cap_bytes)
        elif self._name in _SMALL and self._name not in self._small:
            self._small[self._name] = bytearray()
        else:
            known = ", ".join(("log", *_SMALL))
            raise UnreadableInputError(f'The part "{self._name[:40]}" is unknown or came twice. Known parts: {known}.')

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._name == "log" and self._log is not None:
            self._log.feed(data[start:end])
            return
        kept = self._small[self._name]
        kept += data[start:end]
        if len(kept) > LARGEST_PART:
            raise TooLargeError(f'The part "{self._name}" is larger than {LARGEST_PART >> 20} MiB.')


def _unpacked(content: bytes) -> bytes:
    """The evidence may come packed, as a log may."""
    unpacker = Unpacker("identity", LARGEST_PART)
    found = b"".join(unpacker.feed(content))
    unpacker.finish()
    return found


def _extend(kept: bytearray, piece: bytes) -> None:
    kept += piece
    if len(kept) > _LONGEST_HEADER:
        raise UnreadableInputError("A part of the body has a header that no sender needs.")
