"""Colours, the one plotly template and the number formats: what a figure looks like, once.

Figures name colours as `token:hit` or `token:hit/0.2` (with opacity). The module in the browser replaces them with the
colours of the theme that is on, so one figure serves light and dark and changes in place. The stylesheet gets the
same tokens from `tokens_css()`.
"""

from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

TOKENS: dict[str, dict[str, str]] = {
    "light": {
        "ground": "#FCFCFB",
        "panel": "#FFFFFF",
        "ink": "#1B1F23",
        "quiet": "#5B6570",
        "line": "#E3E6E8",
        "accent": "#2B5FD9",
        "hit": "#0F8A7E",
        "expected": "#B7791F",
        "miss": "#C62F3B",
        "failed": "#8F1D27",
        "hit-text": "#0B756B",
        "expected-text": "#8A5A12",
        "track": "#AAB2B9",
        "wash": "#F1F3F4",
    },
    "dark": {
        "ground": "#111417",
        "panel": "#181C20",
        "ink": "#E6E8EA",
        "quiet": "#9AA4AE",
        "line": "#2A3036",
        "accent": "#7AA2FF",
        "hit": "#37C2B2",
        "expected": "#E0A63C",
        "miss": "#FF6B74",
        "failed": "#FF8A91",
        "hit-text": "#37C2B2",
        "expected-text": "#E0A63C",
        "track": "#5A646E",
        "wash": "#1F242A",
    },
}
"""The colours of both themes; `-text` variants are the ones that stay readable (WCAG 2.2 AA) as small text."""

NBSP = "\u00a0"
MINUS = "\u2212"
MIN_BUILDS = 10
"""Below this many builds a median or a p10 says more about chance than about the cache."""


def tokens_css() -> str:
    """The tokens as custom properties: light, dark by the system's wish, and either by the reader's choice."""

    def block(selector: str, theme: str) -> str:
        scheme = f"color-scheme:{theme};"
        return selector + "{" + scheme + "".join(f"--{name}:{value};" for name, value in TOKENS[theme].items()) + "}"

    dark_wished = block(":root:not([data-theme=light])", "dark")
    return "\n".join(
        [
            block(":root", "light"),
            f"@media (prefers-color-scheme:dark){{{dark_wished}}}",
            block(":root[data-theme=dark]", "dark"),
        ]
    )


def template() -> dict[str, Any]:
    """The plotly layout that every figure starts from."""
    axis = {
        "gridcolor": "token:line",
        "linecolor": "token:line",
        "zerolinecolor": "token:line",
        "tickcolor": "token:line",
        "tickfont": {"color": "token:quiet", "size": 11},
        "title": {"font": {"color": "token:quiet", "size": 11}, "standoff": 8},
        "automargin": True,
        "fixedrange": True,
    }
    return {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {
            "family": 'system-ui,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif',
            "size": 12,
            "color": "token:ink",
        },
        "margin": {"l": 44, "r": 12, "t": 8, "b": 32},
        "colorway": ["token:accent", "token:hit", "token:expected", "token:miss", "token:quiet"],
        "hovermode": "x unified",
        "hoverlabel": {
            "bgcolor": "token:panel",
            "bordercolor": "token:line",
            "font": {"color": "token:ink", "size": 12},
            "align": "left",
        },
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": 1.02,
            "yanchor": "bottom",
            "font": {"color": "token:quiet", "size": 11},
            "itemclick": False,
            "itemdoubleclick": False,
        },
        "xaxis": {**axis, "showgrid": False},
        "yaxis": axis,
        "bargap": 0.15,
        "dragmode": False,
    }


def percent(ratio: float | None) -> str:
    """`83 %`; never `100 %` for less than all, nor `0 %` for more than nothing."""
    if ratio is None:
        return "unknown"
    if 0.99 < ratio < 1:
        return f"99{NBSP}%"
    if 0 < ratio < 0.01:
        return f"<1{NBSP}%"
    return f"{round(ratio * 100)}{NBSP}%".replace("-", MINUS)


def duration(seconds: float | None) -> str:
    """`1.3 s`, `38 s`, `4 min 12 s`, `41 min`, `1 h 12 min`."""
    if seconds is None:
        return "unknown"
    if seconds < 0:
        return MINUS + duration(-seconds)
    if seconds == 0:
        return f"0{NBSP}s"
    if seconds < 0.05:
        return f"<0.1{NBSP}s"
    if seconds < 9.95:
        return f"{seconds:.1f}{NBSP}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{NBSP}s"
    if whole < 600:
        return f"{whole // 60}{NBSP}min {whole % 60:02d}{NBSP}s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes}{NBSP}min"
    if minutes < 6000:
        return f"{minutes // 60}{NBSP}h {minutes % 60:02d}{NBSP}min"
    return f"{count(minutes // 60)}{NBSP}h"


def size(size_bytes: int | None) -> str:
    """`412 MB`, decimal as registries and `docker` print it."""
    if size_bytes is None:
        return "unknown"
    amount = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 999.5:
            return f"{amount:.1f}{NBSP}{unit}" if amount < 9.95 and unit != "B" else f"{amount:.0f}{NBSP}{unit}"
        amount /= 1000
    return f"{amount:.1f}{NBSP}TB"


def count(number: int) -> str:
    """`1 240 318` with thin spaces, `812` below a thousand."""
    return f"{number:,}".replace(",", "\u202f").replace("-", MINUS)


def plural(number: int, one: str, many: str | None = None) -> str:
    """`1 build`, `12 builds`."""
    return f"{count(number)}{NBSP}{one if number == 1 else many or one + 's'}"


def signed(text: str, amount: float) -> str:
    """Put the sign that `amount` has before `text`, which is that of its absolute value."""
    return (MINUS if amount < 0 else "+") + text


def points(now: float | None, before: float | None) -> str | None:
    """`+6 pts`; None where one side is unknown."""
    if now is None or before is None:
        return None
    change = round(now * 100) - round(before * 100)
    if change == 0:
        return f"±0{NBSP}pts"
    return signed(f"{abs(change)}{NBSP}{'pt' if abs(change) == 1 else 'pts'}", change)


def change(now: float | None, before: float | None) -> str | None:
    """`−38 s (−24 %)` of two durations; None where one side is unknown or the earlier is nothing."""
    if now is None or before is None or before <= 0:
        return None
    by = now - before
    if round(by) == 0:
        return f"±0{NBSP}s"
    if abs(by) >= before * 10:
        # Ten times of little is a number that impresses and says nothing.
        return signed(duration(abs(by)), by)
    share = signed(f"{round(abs(by) / before * 100)}{NBSP}%", by)
    return f"{signed(duration(abs(by)), by)} ({share})"


def not_enough(have: int, need: int = MIN_BUILDS) -> str:
    """`not enough data (3 of 10 builds)`."""
    return f"not enough data ({have} of {need} builds)"


def ago(moment: datetime | None, now: datetime) -> str:
    """`12 min ago`, `3 h ago`, `5 days ago`; a date when it is longer than a month."""
    if moment is None:
        return "never"
    seconds = (now - moment).total_seconds()
    if seconds < 0:
        return "just now" if seconds > -120 else moment.astimezone(UTC).strftime("%Y-%m-%d")
    if seconds < 45:
        return "just now"
    if seconds < 3600:
        return f"{max(1, round(seconds / 60))}{NBSP}min ago"
    if seconds < 36 * 3600:
        return f"{round(seconds / 3600)}{NBSP}h ago"
    if seconds < 31 * 86400:
        return f"{round(seconds / 86400)}{NBSP}days ago"
    return moment.astimezone(UTC).strftime("%Y-%m-%d")


def exact(moment: datetime, zone: str = "UTC") -> str:
    """`2026-11-23 14:02:11 Europe/Berlin · 13:02:11 UTC`."""
    utc = moment.astimezone(UTC)
    try:
        local = moment.astimezone(ZoneInfo(zone))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        zone, local = "UTC", utc
    if zone == "UTC":
        return f"{utc:%Y-%m-%d %H:%M:%S} UTC"
    return f"{local:%Y-%m-%d %H:%M:%S} {zone} · {utc:%H:%M:%S} UTC"


def day(moment: date) -> str:
    """`Mon 23 Nov 2026`, in English whatever the server's locale is."""
    weekday = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[moment.weekday()]
    month = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")[moment.month - 1]
    return f"{weekday} {moment.day} {month} {moment.year}"


def in_figure(text: str, length: int) -> str:
    """Shorten what somebody else typed for a text that plotly draws, which reads a small set of tags and entities."""
    return cut_middle(text, length).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def cut_middle(text: str, length: int = 72) -> str:
    """Shorten a long name in its middle: the start says what it is, the end what it works on."""
    text = " ".join(text.split())
    if len(text) <= length:
        return text
    tail = (length - 1) * 2 // 5
    return text[: length - 1 - tail] + "…" + text[len(text) - tail :]
