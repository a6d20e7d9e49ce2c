"""One contract for every chart: a figure from its rows, an empty state, a table, and a select that runs."""

import csv
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from cachescope.images.model import Layer, MeasuredImage, PlatformImage
from dashboards import frames
from dashboards.charts import CHARTS
from dashboards.charts.base import BRANCH_CLASSES, Scope
from dashboards.theme import TOKENS
from store.queries import image_sizes, rollups
from tests.factories import MORNING, make_build, make_repository, make_step, minutes, save_build

FIXTURES = Path(__file__).parent / "charts"
READ: dict[str, Callable[[str], Any]] = {
    "day": date.fromisoformat,
    "time": lambda text: datetime.fromisoformat(text).replace(tzinfo=UTC),
    "int": int,
    "number": lambda text: float(text) if text else None,
    "text": str,
    "bool": lambda text: {"True": True, "False": False, "": None}[text],
    "json": json.loads,
}


def frame_of(name: str) -> Any:
    """The frame of the rows in a fixture."""
    columns = CHARTS[name].columns
    with (FIXTURES / f"{name}.csv").open(newline="") as file:
        rows = [[READ[kind](row[column]) for column, kind in columns.items()] for row in csv.DictReader(file)]
    return frames.frame(rows, columns)


def texts_of(value: Any) -> list[str]:
    """Every text in a figure, however deep."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for inner in value.values() for text in texts_of(inner)]
    return [text for inner in value for text in texts_of(inner)] if isinstance(value, list) else []


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_draws_its_rows(name: str, golden: Callable[[Path, Any], None]) -> None:
    chart, frame = CHARTS[name], frame_of(name)
    table = chart.table(frame)
    drawn = {
        "title": chart.title,
        "summary": chart.summary(frame),
        "figure": chart.figure(frame),
        "table": [list(table.headings), *map(list, table.rows)],
    }
    golden(FIXTURES / f"{name}.json", json.loads(json.dumps(drawn, allow_nan=False)))


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_without_rows_says_so_and_draws_nothing(name: str) -> None:
    chart = CHARTS[name]
    empty = frames.frame([], chart.columns)
    assert list(empty.columns) == list(chart.columns)
    assert chart.figure(empty) is None
    assert chart.summary(empty).endswith(".")
    assert not chart.table(empty).rows


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_uses_only_colours_of_the_theme(name: str) -> None:
    used = {
        text.removeprefix("token:").partition("/")[0]
        for text in texts_of(CHARTS[name].figure(frame_of(name)))
        if text.startswith("token:")
    }
    assert used
    assert used <= set(TOKENS["light"])


@pytest.mark.parametrize("name", CHARTS)
def test_the_table_of_a_chart_has_a_cell_for_every_heading(name: str) -> None:
    table = CHARTS[name].table(frame_of(name))
    assert table.rows
    assert {len(row) for row in table.rows} == {len(table.headings)}


@pytest.fixture
def repository(session: Session) -> Any:
    """A repository with a cold build and warm ones, one of which broke."""
    found = make_repository(session)
    cold = make_build(make_step("COPY . ."), make_step("RUN make", seconds=10.0))
    warm = make_build(make_step("COPY . .", cached=True), make_step("RUN make", cached=True))
    for number, build in enumerate((cold, warm, cold, warm)):
        save_build(session, found, build, at=MORNING + minutes(number * 10))
    rollups.recompute_dirty_days(session)
    platform = PlatformImage(
        platform="linux/amd64",
        compressed_bytes=10,
        layers=(Layer(digest=f"sha256:{'1' * 64}", instruction="COPY . .", compressed_bytes=10),),
    )
    image_sizes.save_measured(
        session,
        image_sizes.get_or_create_sized_image(session, found, "ghcr.io/acme/api"),
        MeasuredImage(reference="ghcr.io/acme/api:1", platforms=(platform,)),
        way="registry",
        release=image_sizes.Release(seen_at=MORNING, tag="1"),
    )
    session.flush()
    return found


@pytest.mark.parametrize("branch_class", BRANCH_CLASSES)
@pytest.mark.parametrize("name", CHARTS)
def test_the_select_of_a_chart_runs_on_both_databases(
    name: str, branch_class: str, session: Session, repository: Any
) -> None:
    chart = CHARTS[name]
    days = {"first_day": MORNING.date() - timedelta(days=5), "last_day": MORNING.date()}
    scope = Scope(repository_id=repository.id, branch_class=branch_class, **days)
    rows = session.execute(chart.select(scope)).all()
    assert bool(rows) == (branch_class in {"default", "all"})
    frame = frames.frame(rows, chart.columns)
    json.dumps(chart.figure(frame), allow_nan=False)
    other = Scope(repository_id=repository.id + 1, branch_class=branch_class, **days)
    assert not session.execute(chart.select(other)).all()


@pytest.mark.parametrize("name", CHARTS)
def test_the_select_of_a_chart_keeps_to_one_image(name: str, session: Session, repository: Any) -> None:
    days = {"first_day": MORNING.date(), "last_day": MORNING.date()}
    scope = Scope(repository_id=repository.id, image_id=10**9, **days)
    assert not session.execute(CHARTS[name].select(scope)).all()


def test_what_somebody_else_typed_cannot_be_a_tag_in_a_figure() -> None:
    columns = CHARTS["breaks"].columns
    row = [1, "deps", '<a href="https://evil.example">RUN</a> & more', 3, 10.0, 0.0, 0.0]
    texts = texts_of(CHARTS["breaks"].figure(frames.frame([row], columns)))
    assert any("evil" in text for text in texts)
    assert not any("<a" in text for text in texts)
