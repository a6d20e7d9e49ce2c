"""RFC 3339 stamps in front of lines, read the fast way: one parse per minute of the log."""

import re
from datetime import UTC, datetime

# 2026-11-23T17:05:49.6878781Z, with a space instead of the T, an offset instead of the Z; a byte order mark before it.
STAMP = (
    rb"(?:\xef\xbb\xbf)?"
    rb"(\d{4}-\d\d-\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9})\d{0,9})?(Z|[+-]\d\d:?\d\d| UTC| [+-]\d{4})"
)
_STAMP = re.compile(STAMP)

_days: dict[bytes, float | None] = {}


def seconds_of(match: re.Match[bytes], first: int = 1) -> float | None:
    """Return the time of a match of STAMP whose groups begin at `first`; None for a day that does not exist."""
    day, hour, minute, second, fraction, zone = match.group(
        first, first + 1, first + 2, first + 3, first + 4, first + 5
    )
    midnight = _midnight(day)
    if midnight is None:
        return None
    seconds = midnight + int(hour) * 3600 + int(minute) * 60 + int(second)
    if zone not in (b"Z", b" UTC"):
        sign = -1 if b"-" in zone else 1
        digits = zone.strip().replace(b":", b"")[1:]
        seconds -= sign * (int(digits[:2]) * 3600 + int(digits[2:]) * 60)
    if fraction:
        seconds += int(fraction) / 10 ** len(fraction)
    return seconds


def parse_stamp(text: str) -> float | None:
    """Return an RFC 3339 time as seconds since the epoch; None for anything else."""
    match = _STAMP.fullmatch(text.encode(errors="replace"))
    return None if match is None else seconds_of(match)


def _midnight(day: bytes) -> float | None:
    if day not in _days:
        if len(_days) > 1000:  # a log of random dates must not fill the memory
            _days.clear()
        try:
            _days[day] = datetime.strptime(day.decode(), "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
        except ValueError:
            _days[day] = None
    return _days[day]


def share_of(pattern: re.Pattern[bytes], head: bytes, lines: int = 200) -> float:
    """Return which share of the first lines (blank ones left out) a pattern matches at their beginning."""
    sample = [line for line in head.split(b"\n", lines)[:lines] if line.strip()]
    return sum(pattern.match(line) is not None for line in sample) / len(sample) if sample else 0.0
