"""What a chart is: one question, one select over sums that exist already, one figure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import Select

if TYPE_CHECKING:
    from pandas import DataFrame

Statement = Select[*tuple[Any, ...]]

BRANCH_CLASSES = {
    "default": "default branch",
    "branch": "other branches",
    "pull_request": "pull requests",
    "all": "all branches",
}
"""What the filter of branches offers; a chart leaves the condition out for `all`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which builds a chart is about."""

    repository_id: int
    first_day: date
    last_day: date
    """Both ends are part of it."""
    image_id: int | None = None
    branch_class: str = "default"
    platform: str = ""
    """Of a followed image; the usual one where none is named."""

    @property
    def days(self) -> int:
        """How many days it spans."""
        return (self.last_day - self.first_day).days + 1


@dataclass(frozen=True, slots=True)
class Table:
    """The numbers of a figure as text, for those who read rather than look."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


class Chart(Protocol):
    """A plug-in of this folder. Its module's name is its name in addresses; `CHART` holds it."""

    title: str
    columns: Mapping[str, str]
    """The columns of its frame and their kinds, see `dashboards.frames`."""

    def select(self, scope: Scope) -> Statement:
        """The statement that returns those columns, already aggregated."""

    def figure(self, frame: "DataFrame") -> dict[str, Any] | None:
        """The plotly figure, `data` and `layout`, colours as `token:<name>`; None where there is nothing to draw."""

    def summary(self, frame: "DataFrame") -> str:
        """What the figure shows, in a sentence; for an empty frame, why there is nothing to see."""

    def table(self, frame: "DataFrame") -> Table:
        """The same numbers as rows of text."""
