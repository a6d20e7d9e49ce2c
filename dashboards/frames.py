"""From selected rows to pandas frames: dtypes, an empty frame with its columns, histograms.

pandas is imported inside the functions only: the start of the server and the HTML of a page never need it, and a
thread warms it up after the start, so that the first figure does not wait for it.
"""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from store.queries.histograms import merge

if TYPE_CHECKING:
    from pandas import DataFrame

DTYPES = {"day": "datetime64[s]", "time": "datetime64[s, UTC]", "int": "int64", "number": "float64", "text": "object"}
"""Kinds of columns; `json` columns (histograms, mixes of causes) stay objects."""


def frame(rows: Iterable[Sequence[Any]], columns: Mapping[str, str]) -> "DataFrame":
    """Make a frame of rows whose values stand in the order of `columns`; no rows make a frame with all its columns."""
    import pandas  # noqa: PLC0415 - see above

    made = pandas.DataFrame([tuple(row) for row in rows], columns=list(columns), dtype="object")
    for name, kind in columns.items():
        if kind == "day":
            made[name] = pandas.to_datetime(made[name]).astype(DTYPES[kind])
        elif kind == "time":
            made[name] = pandas.to_datetime(made[name], utc=True).astype(DTYPES[kind])
        elif kind == "int":
            made[name] = made[name].fillna(0).astype(DTYPES[kind])
        elif kind == "number":
            made[name] = pandas.to_numeric(made[name]).astype(DTYPES[kind])
    return made


def trailing(frame: "DataFrame", column: str, days: int) -> "list[Counter[int]]":
    """For each row of a frame of days, the histograms of the last days up to and with it, added up."""
    moments = frame["day"].tolist()
    histograms = [merge([value]) for value in frame[column]]
    window: Counter[int] = Counter()
    first = 0
    totals = []
    for row, moment in enumerate(moments):
        window += histograms[row]
        while (moment - moments[first]).days >= days:
            window -= histograms[first]
            first += 1
        totals.append(window.copy())
    return totals


def by_day(frame: "DataFrame", sums: Sequence[str], histograms: Sequence[str] = ()) -> "DataFrame":
    """One row a day, in order: sums are added, histograms too (several branch classes have a row each)."""
    if frame.empty:
        return frame
    grouped = frame.groupby("day", sort=True)
    added = grouped[list(sums)].sum(min_count=1)
    for name in histograms:
        added[name] = [dict(merge(values)) for _, values in grouped[name]]
    return added.reset_index()


def points(column: Any) -> list[float | None]:
    """A column as plotly wants it: plain numbers, None for what is not known."""
    return [None if value is None or value != value else float(value) for value in column]


def warm_up() -> threading.Thread:
    """Import pandas in a thread of its own, which ends by itself."""
    thread = threading.Thread(target=import_module, args=("pandas",), name="pandas-warm-up", daemon=True)
    thread.start()
    return thread
