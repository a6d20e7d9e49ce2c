"""How numbers, times and texts of a log are written for people: the same words everywhere on the command line."""

import re

# Control characters, and the marks that reorder text on screen: a log must not move our cursor or hide a command.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")


def printable(text: str) -> str:
    """Escape everything in a text that a terminal would act on."""
    return _UNPRINTABLE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if match[0] in "\t\n\r":
        return " "
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def duration(seconds: float | None) -> str:
    """Write a duration: `0.3 s`, `41 s`, `4 min 12 s`, `1 h 12 min`; an empty text for an unknown one."""
    if seconds is None:
        return ""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if minutes else f"{hours} h"


def percentage(ratio: float | None) -> str:
    """Write a ratio as whole per cents: `83 %`; only what is complete is 100 %, and only nothing is 0 %."""
    if ratio is None:
        return "not known"
    if 0 < ratio < 1:
        return f"{min(max(round(ratio * 100), 1), 99)} %"
    return f"{ratio * 100:.0f} %"


def size(count: int) -> str:
    """Write a number of bytes with decimal units, as builders and registries do: `412 MB`."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if value >= 9.95 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def plural(count: int, noun: str) -> str:
    """Write a number with its noun: `1 step`, `1,024 steps`, `2 misses`."""
    ending = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{ending}"
