"""Finds the lines around one place of a chunk, so that a parser looks only at lines that matter."""

import re
from collections.abc import Callable

from cachescope.prefixes.base import Line

ESCAPES = re.compile(rb"\x1b(?:\[[0-9;?]{0,32}[A-Za-z]|\][^\x07\x1b\n]{0,2048}(?:\x07|\x1b\\))")
# How people leave lines out where they quote a log: `...`, `[…]`, `<snip>`, `# output omitted`.
_ELISION = re.compile(
    rb"[ \t]{0,16}(?:[\[(<#/*-]{1,4} ?)?"
    rb"(?:(?:\.|\xe2\x80\xa6){1,60}|(?:[a-z]{1,12} ){0,3}(?:snip|snipped|omitted|truncated))"
    rb"(?: ?[\])>*/-]{1,4})?\s{0,16}",
    re.IGNORECASE,
)
_REACH = 4096
_WORDS = tuple(bytes([letter]) for letter in b"abcdefghijklmnopqrstuvwxyz.'\")")
"""How no wrapper's prefix ends."""


def visible(text: bytes) -> bytes:
    """Return what a terminal shows of a line: no colours, nothing that a carriage return has overwritten."""
    if b"\x1b" in text:
        text = ESCAPES.sub(b"", text)
    if b"\r" in text:
        text = text.rstrip(b"\r")
        text = text[text.rfind(b"\r") + 1 :]
    return text


def is_elision(line: bytes) -> bool:
    """Tell whether a line says no more than that lines were left out."""
    return _ELISION.fullmatch(line) is not None


class Neighbours:
    """Remembers the end of the chunk before, for what stands above the first lines of the next."""

    def __init__(self, strip: Callable[[bytes], Line], *marks: bytes) -> None:
        self._strip = strip
        self._marks = marks
        """What makes a line surely not blank, without a look at its prefix."""
        self._before = b""

    def end(self, chunk: bytes) -> None:
        """Keep the end of a chunk that was read."""
        self._before = (self._before + chunk)[-_REACH:] if len(chunk) < _REACH else chunk[-_REACH:]

    def above(self, chunk: bytes, start: int, count: int) -> list[bytes]:
        """Return up to `count` lines above the one at `start` that are not blank, with prefix, the nearest last."""
        lines: list[bytes] = []
        text, end = chunk, start - 1
        if end < 0:
            text, end = self._before, len(self._before) - 1
        for _ in range(count + 4):
            begin = text.rfind(b"\n", 0, max(0, end)) + 1
            line = text[begin:end] if end > 0 else b""
            if not self._is_blank(line):
                lines.append(line)
                if len(lines) == count:
                    break
            if begin == 0:
                if text is self._before or not self._before:
                    break
                text, begin = self._before, len(self._before)
            end = begin - 1
        lines.reverse()
        return lines

    def below(self, chunk: bytes, position: int, *, is_wrapped: bool) -> tuple[bytes, int] | None:
        """Return the first whole line from `position` on that is not blank, and where it ends.

        Blank ones come from tools that print each message of the engine as a line of its own. Where the line above
        stands in a wrapper, one without it is the rest of that line: a terminal has broken it.
        """
        for _ in range(4):
            end = chunk.find(b"\n", position)
            if end < 0:
                return None
            line = chunk[position:end]
            if not self._is_blank(line) and not (is_wrapped and self._is_bare(line)):
                return line, end
            position = end + 1
        return None

    def _is_bare(self, line: bytes) -> bool:
        if any(mark in line for mark in self._marks):
            return False
        return len(self._strip(line).text) == len(line.rstrip(b"\r"))

    def _is_blank(self, line: bytes) -> bool:
        if line.endswith(_WORDS):
            return False
        for mark in self._marks:
            if mark in line:
                return False
        return not line or not self._strip(line).text.strip()
