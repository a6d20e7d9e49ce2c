"""The range and the branches that a page is about, as its address says: `?days=30&branches=default`."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from fastapi import Query, Request

from dashboards.charts.base import BRANCH_CLASSES
from dashboards.rendering import query
from dashboards.theme import day

RANGES = {1: "Today", 7: "7 days", 30: "30 days", 90: "90 days", 365: "1 year"}
DEFAULT_DAYS = 30
LONGEST_DAYS = 366 * 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """Some days up to today, and which branches count."""

    first_day: date
    last_day: date
    branches: str

    @property
    def days(self) -> int:
        """How many days it spans."""
        return (self.last_day - self.first_day).days + 1

    @property
    def words(self) -> str:
        """`30 days to Mon 23 Nov 2026`."""
        if self.days == 1:
            return day(self.last_day)
        return f"{self.days} days to {day(self.last_day)}"

    @property
    def inside(self) -> str:
        """`the last 30 days`: where something happened."""
        return "the last day" if self.days == 1 else f"the last {self.days} days"

    @property
    def branch_words(self) -> str:
        """`default branch`."""
        return BRANCH_CLASSES[self.branches]

    @property
    def branch_classes(self) -> tuple[str, ...]:
        """The classes whose sums are added."""
        return tuple(name for name in BRANCH_CLASSES if name != "all") if self.branches == "all" else (self.branches,)

    @property
    def api_query(self) -> str:
        """The same range and branches as the JSON API spells them."""
        pairs = [("from", str(self.first_day)), ("to", str(self.last_day))]
        return "?" + urlencode([*pairs, *(("branch_class", name) for name in self.branch_classes)])

    @property
    def before(self) -> "Period":
        """As many days right before it."""
        return Period(
            first_day=self.first_day - timedelta(days=self.days),
            last_day=self.first_day - timedelta(days=1),
            branches=self.branches,
        )


def today() -> date:
    """The day that is being added to: days of builds are days in UTC."""
    return datetime.now(UTC).date()


def get_period(
    days: int = Query(DEFAULT_DAYS, ge=1, le=LONGEST_DAYS), branches: str = Query("default", max_length=20)
) -> Period:
    """Read the range from an address; an unknown class of branches means the default branch."""
    last = today()
    return Period(
        first_day=last - timedelta(days=days - 1),
        last_day=last,
        branches=branches if branches in BRANCH_CLASSES else "default",
    )


def range_links(request: Request, period: Period, kept: dict[str, str]) -> list[tuple[str, str, bool]]:
    """Text, address and whether it is the present one, for each range."""
    return [
        (text, request.url.path + query({**kept, "days": None if days == DEFAULT_DAYS else days}), days == period.days)
        for days, text in RANGES.items()
    ]


def branch_links(request: Request, period: Period, kept: dict[str, str]) -> list[tuple[str, str, bool]]:
    """Text, address and whether it is the present one, for each class of branches."""
    return [
        (
            text[0].upper() + text[1:],
            request.url.path + query({**kept, "branches": None if name == "default" else name}),
            name == period.branches,
        )
        for name, text in BRANCH_CLASSES.items()
    ]


def read_day(text: str) -> date | None:
    """Read a day from an address; None for what is none."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if 1971 <= day.year <= 9000 else None


def is_zone(name: str) -> bool:
    """Whether a time zone of this name is known here."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True
