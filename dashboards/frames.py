"""From selected rows to pandas frames: dtypes, an empty frame with its columns, histograms.

pandas is imported inside the functions only: the start of the server and the HTML of a page never need it, and a
thread warms it up after the start, so that the first figure does not wait for it.
"""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from math import isnan
from typing import TYPE_CHECKING, Any

from store.queries.histograms import merge

if TYPE_CHECKING:
    from pandas import DataFrame, Series


def frame(rows: Iterable[Sequence[Any]], columns: Mapping[str, str]) -> "DataFrame":
    """Make a frame of rows whose values stand in the order of `columns`; no rows make a frame with all its columns.

    The kinds of columns are day, time (UTC), int, number, and those that stay what they are: text, bool, json.
    """
    import pandas as pd  # noqa: PLC0415 - see above

    made = pd.DataFrame([tuple(row) for row in rows], columns=list(columns), dtype="object")
    for name, kind in columns.items():
        if kind == "day":
            made[name] = pd.to_datetime(made[name]).astype("datetime64[s]")
        elif kind == "time":
            made[name] = pd.to_datetime(made[name], utc=True).astype("datetime64[s, UTC]")
        elif kind == "int":
            made[name] = made[name].fillna(0).astype("int64")
        elif kind == "number":
            made[name] = pd.to_numeric(made[name]).astype("float64")
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
    import pandas as pd  # noqa: PLC0415 - see above

    if frame.empty:
        return frame
    grouped = frame.groupby("day", sort=True)
    added = grouped[list(sums)].sum(min_count=1)
    for name in histograms:
        added[name] = pd.Series([dict(merge(values)) for _, values in grouped[name]], index=added.index, dtype="object")
    return added.reset_index()


def number(value: Any) -> float | None:
    """A value of a frame as a plain number; None for what is not known."""
    return None if value is None or isnan(value) else float(value)


def points(column: Iterable[Any]) -> list[float | None]:
    """A column as plotly wants it: plain numbers, None for what is not known."""
    return [number(value) for value in column]


def column(values: Iterable[float | None]) -> "Series[float]":
    """A column of numbers to put into a frame."""
    import pandas as pd  # noqa: PLC0415 - see above

    return pd.Series(list(values), dtype="float64")


def warm_up() -> threading.Thread:
    """Import pandas in a thread of its own, which ends by itself."""
    thread = threading.Thread(target=import_module, args=("pandas",), name="pandas-warm-up", daemon=True)
    thread.start()
    return thread
