"""Raw logs on a page: a range of lines as text, searched and with its terminal colours taken out.

A log may be 256 MB: lines are read as a stream, a page holds a few hundred of them, and no line more than some thousand
characters.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

LINES_PER_PAGE = 400
MATCHES_PER_PAGE = 200
LINE_LIMIT = 4000
_PENDING_LIMIT = 64 * 1024

# CSI and OSC sequences, other escapes, and control characters but the tabulator. Bounded, so a line without an end
# costs no more than its length.
_ESCAPES = re.compile(
    r"\x1b\[[0-?]{0,64}[ -/]{0,8}[@-~]|\x1b\][^\x07\x1b]{0,2048}(?:\x07|\x1b\\)?|\x1b[@-_]?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log, cleaned for a page."""

    number: int
    text: str


def clean(text: str) -> str:
    """A line without what only a terminal understands; of what a carriage return overwrote, the last remains."""
    text = text.rstrip("\r\n")
    if "\r" in text:
        text = next((part for part in reversed(text.split("\r")) if part.strip()), "")
    text = _ESCAPES.sub("", text)
    if len(text) > LINE_LIMIT:
        return f"{text[:LINE_LIMIT]}… ({len(text) - LINE_LIMIT} characters more in the raw log)"
    return text


def lines(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """The lines of a log with their numbers from 1; a line longer than 64 KiB is cut there."""
    number = 1
    pending = b""
    for chunk in chunks:
        *whole, rest = (pending + chunk).split(b"\n")
        for line in whole:
            yield number, line[:_PENDING_LIMIT]
            number += 1
        if len(rest) > _PENDING_LIMIT:
            rest = rest[:_PENDING_LIMIT]
        pending = rest
    if pending:
        yield number, pending[:_PENDING_LIMIT]


def page(chunks: Iterable[bytes], first: int, count: int = LINES_PER_PAGE) -> tuple[list[Line], bool]:
    """Some lines from the first one on, and whether more follow."""
    found: list[Line] = []
    for number, line in lines(chunks):
        if number >= first + count:
            return found, True
        if number >= first:
            found.append(Line(number, clean(line.decode("utf-8", "replace"))))
    return found, False


def search(chunks: Iterable[bytes], wanted: str, after: int = 0) -> tuple[list[Line], bool]:
    """The lines after a number that contain a text in any case, and whether there are more."""
    needle = wanted.casefold()
    found: list[Line] = []
    for number, line in lines(chunks):
        if number <= after:
            continue
        text = clean(line.decode("utf-8", "replace"))
        if needle in text.casefold():
            if len(found) == MATCHES_PER_PAGE:
                return found, True
            found.append(Line(number, text))
    return found, False


def mark(text: str, wanted: str) -> list[tuple[str, bool]]:
    """A line in pieces, with those that match told apart."""
    if not wanted:
        return [(text, False)]
    pieces = re.split(f"({re.escape(wanted)})", text, flags=re.IGNORECASE)
    return [(piece, number % 2 == 1) for number, piece in enumerate(pieces) if piece]
