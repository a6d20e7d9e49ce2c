"""RFC 3339 stamps in front of lines, read the fast way: one parse per minute of the log."""

import re
from datetime import UTC, datetime

# 2026-11-23T17:05:49.6878781Z, with a space instead of the T, an offset instead of the Z; a byte order mark before it.
STAMP = (
    rb"(?:\xef\xbb\xbf)?"
    rb"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d):(\d\d)(?:[.,](\d{1,9})\d{0,9})?(Z|[+-]\d\d:?\d\d| UTC| [+-]\d{4})"
)
_STAMP = re.compile(STAMP)
DAY = 86_400
"""Times below it are those of a clock that tells no date."""
_CLOCK = re.compile(
    rb"(?<![0-9:.])([0-9]{1,2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]{1,9}))?(?![0-9:])(?: ?([AaPp])\.?[Mm])?"
)

_POWERS = tuple(10**digits for digits in range(10))
_minutes: dict[tuple[bytes, bytes], float | None] = {}


def seconds_of(match: re.Match[bytes]) -> float | None:
    """Return the time of a match of a pattern that begins with STAMP; None for a day that does not exist."""
    minute, second, fraction, zone = match.group(1, 2, 3, 4)
    key = minute, zone
    base = _minutes[key] if key in _minutes else _read_minute(key)
    if base is None:
        return None
    seconds = base + int(second)
    return seconds + int(fraction) / _POWERS[len(fraction)] if fraction else seconds


def clock_of(prefix: bytes) -> float | None:
    """Return the seconds since midnight of a time of day without its date; None where there is none.

    Such a time is no moment: it dates no build, but tells how long a step took.
    """
    match = _CLOCK.search(prefix)
    if match is None:
        return None
    hour, minute, second, fraction, half = match.groups()
    hours = int(hour) if half is None else int(hour) % 12 + (12 if half in b"Pp" else 0)
    if hours > 23 or int(minute) > 59 or int(second) > 60:
        return None
    seconds = hours * 3600.0 + int(minute) * 60 + int(second)
    return seconds + int(fraction) / _POWERS[len(fraction)] if fraction else seconds


def elapsed(start: float | None, end: float | None) -> float | None:
    """Return the seconds from one time to another; a clock may be set back, one without a date begins anew each day."""
    if start is None or end is None:
        return None
    if end < start < DAY:
        end += DAY
    return round(end - start, 6) if end > start else 0.0


def parse_stamp(text: str) -> float | None:
    """Return an RFC 3339 time as seconds since the epoch; None for anything else."""
    match = _STAMP.fullmatch(text.encode(errors="replace"))
    return None if match is None else seconds_of(match)


def _read_minute(key: tuple[bytes, bytes]) -> float | None:
    """Read a minute with its zone, and remember it."""
    if len(_minutes) > 1000:  # a log of random dates must not fill the memory
        _minutes.clear()
    minute, zone = key
    try:
        day = datetime.strptime(minute[:10].decode(), "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        _minutes[key] = None
        return None
    seconds = day.timestamp() + int(minute[11:13]) * 3600 + int(minute[14:16]) * 60
    if zone not in (b"Z", b" UTC"):
        sign = -1 if b"-" in zone else 1
        digits = zone.strip().replace(b":", b"")[1:]
        seconds -= sign * (int(digits[:2]) * 3600 + int(digits[2:]) * 60)
    _minutes[key] = seconds
    return seconds


def share_of(pattern: re.Pattern[bytes], head: bytes, lines: int = 200) -> float:
    """Return which share of the first lines (blank ones left out) a pattern matches at their beginning."""
    sample = [line for line in head.split(b"\n", lines)[:lines] if line.strip()]
    return sum(pattern.match(line) is not None for line in sample) / len(sample) if sample else 0.0
