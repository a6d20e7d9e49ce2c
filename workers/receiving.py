"""A log on its way in: unpacked under caps, as text, without its secrets, into the store, piece by piece."""

from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from cachescope.redaction import Redactor
from store.logs import LogStore, WrittenLog
from workers.unpacking import TextCutter, Unpacker


@dataclass(frozen=True, slots=True)
class ReceivedLog:
    """A log that lies in the store, and how many secrets were taken out of it."""

    written: WrittenLog
    redactions: int


class LogReceiver:
    """Takes the body of one request; used in a `with` block, at whose end a log that was not finished is thrown away.

    What is stored has never held a secret that the redaction knows, and is UTF-8 whatever was sent.
    """

    def __init__(self, logs: LogStore, *, encoding: str, cap_bytes: int) -> None:
        self._unpacker = Unpacker(encoding, cap_bytes)
        self._cutter = TextCutter()
        self._redactor = Redactor()
        self._open = ExitStack()
        self._writer = self._open.enter_context(logs.writing())

    def __enter__(self) -> Self:
        """Hand over the receiver."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put a finished log into its place, and throw away any other."""
        self._open.__exit__(kind, error, trace)

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body; raises UnreadableInputError or TooLargeError when they cannot be taken."""
        for piece in self._unpacker.feed(chunk):
            for lines in self._cutter.feed(piece):
                self._writer.write(self._redactor.redact(lines))

    def finish(self) -> ReceivedLog:
        """Say that the body has ended; the log is in its place once the `with` block has ended too."""
        self._unpacker.finish()
        if rest := self._cutter.finish():
            self._writer.write(self._redactor.redact(rest))
        return ReceivedLog(self._writer.finish(), self._redactor.replacements)


def receive_log(logs: LogStore, content: bytes, *, cap_bytes: int) -> ReceivedLog:
    """Store a log that is already at hand."""
    with LogReceiver(logs, encoding="identity", cap_bytes=cap_bytes) as receiver:
        receiver.feed(content)
        return receiver.finish()
