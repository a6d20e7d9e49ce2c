"""Raw logs on a page: a range of lines as text, searched and with its terminal colours taken out.

A log may be 256 MB: lines are read as a stream, a page holds a few hundred of them, and no line more than some thousand
characters.
"""

import base64
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

LINES_PER_PAGE = 400
MATCHES_PER_PAGE = 200
LINE_LIMIT = 4000
_PENDING_LIMIT = 256 * 1024

# CSI and OSC sequences, other escapes, and control characters but the tabulator. Bounded, so a line without an end
# costs no more than its length.
_ESCAPES = re.compile(
    r"\x1b\[[0-?]{0,64}[ -/]{0,8}[@-~]|\x1b\][^\x07\x1b]{0,2048}(?:\x07|\x1b\\)?|\x1b[@-_]?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


Decode = Callable[[bytes], Iterable[str]]
"""Says what a line of a log reads as: itself, or what a line of a structured log tells."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log, cleaned for a page."""

    number: int
    text: str
    is_first: bool = True
    """Whether it is the first of those that one line of a structured log turned into."""


def plain(line: bytes) -> Iterable[str]:
    """A line as it is."""
    return (line.decode("utf-8", "replace"),)


class RawJson:
    """What the lines of BuildKit's `--progress=rawjson` tell, written as `--progress=plain` would.

    Lines must come from the beginning of the log: steps get their numbers as they are announced. A line that is no
    JSON object stays as it is.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._ended: set[str] = set()

    def __call__(self, line: bytes) -> Iterable[str]:
        """The texts of one line."""
        start = line.find(b"{")
        if start < 0:
            return plain(line)
        try:
            document = orjson.loads(line[start:])
        except orjson.JSONDecodeError:
            return plain(line)
        if not isinstance(document, dict) or not document.keys() & _EVENTS:
            return plain(line)
        return [
            *(text for vertex in _objects(document, "vertexes") for text in self._vertex(vertex)),
            *(text for log in _objects(document, "logs") for text in self._log(log)),
            *(f"warning: {text}" for warning in _objects(document, "warnings") if (text := _warning(warning))),
        ]

    def _number(self, digest: object) -> int:
        return self._numbers.setdefault(str(digest), len(self._numbers) + 1)

    def _vertex(self, vertex: dict[str, Any]) -> Iterator[str]:
        digest = str(vertex.get("digest"))
        is_new = digest not in self._numbers
        number = self._number(digest)
        if is_new:
            yield f"#{number} {vertex.get('name') or ''}"
        if digest in self._ended or not (vertex.get("completed") or vertex.get("error") or vertex.get("cached")):
            return
        self._ended.add(digest)
        if vertex.get("error"):
            yield f"#{number} ERROR: {vertex['error']}"
        elif vertex.get("cached"):
            yield f"#{number} CACHED"
        else:
            yield f"#{number} DONE{_took(vertex)}"

    def _log(self, log: dict[str, Any]) -> Iterator[str]:
        number = self._number(log.get("vertex"))
        try:
            text = base64.b64decode(str(log.get("data") or ""), validate=False).decode("utf-8", "replace")
        except ValueError:
            return
        for line in text.splitlines():
            yield f"#{number} {line}"


_EVENTS = {"vertexes", "statuses", "logs", "warnings"}


def _took(vertex: dict[str, Any]) -> str:
    """The seconds of a vertex as BuildKit prints them; nothing where its times cannot be read."""
    try:
        started, completed = (datetime.fromisoformat(str(vertex.get(name))) for name in ("started", "completed"))
        return f" {(completed - started).total_seconds():.1f}s"
    except (TypeError, ValueError):
        return ""


def _objects(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = document.get(name)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _warning(warning: dict[str, Any]) -> str:
    try:
        return base64.b64decode(str(warning.get("short") or "")).decode("utf-8", "replace")
    except ValueError:
        return ""


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
    """The lines of a log with their numbers from 1; a line longer than 256 KiB is cut there."""
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


def page(
    chunks: Iterable[bytes], first: int, count: int = LINES_PER_PAGE, decode: Decode = plain
) -> tuple[list[Line], bool]:
    """Some lines from the first one on, and whether more follow."""
    found: list[Line] = []
    for number, line in lines(chunks):
        if number >= first + count:
            return found, True
        # Also what is not shown is decoded: later lines refer to it.
        texts = decode(line) if number >= first or decode is not plain else ()
        if number >= first:
            found += _lines(number, texts)
    return found, False


def _lines(number: int, texts: Iterable[str]) -> Iterator[Line]:
    for place, text in enumerate(texts):
        yield Line(number, clean(text), is_first=place == 0)


def search(chunks: Iterable[bytes], wanted: str, after: int = 0, decode: Decode = plain) -> tuple[list[Line], bool]:
    """The lines after a number that contain a text in any case, and whether there are more."""
    needle = wanted.casefold()
    found: list[Line] = []
    for number, line in lines(chunks):
        if number <= after and decode is plain:
            continue
        for shown in _lines(number, decode(line)):
            if number > after and needle in shown.text.casefold():
                # What one line of the log turned into stays on one page.
                if len(found) >= MATCHES_PER_PAGE and shown.number != found[-1].number:
                    return found, True
                found.append(shown)
    return found, False


def mark(text: str, wanted: str) -> list[tuple[str, bool]]:
    """A line in pieces, with those that match told apart."""
    if not wanted:
        return [(text, False)]
    pieces = re.split(f"({re.escape(wanted)})", text, flags=re.IGNORECASE)
    return [(piece, number % 2 == 1) for number, piece in enumerate(pieces) if piece]
