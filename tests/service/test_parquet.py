"""Parquet files: an independent reader reads the values that were written, and exports are such files."""

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from arro3 import io as arro3
from hypothesis import given, settings
from hypothesis import strategies as st

from service import parquet
from service.actions import tokens as token_actions
from service.actions.tokens import TokenForm
from service.parquet import Kind
from store.database import get_engine, transaction
from store.queries import exports
from tests.factories import MORNING, make_build, make_repository, make_step, make_team, minutes, save_build

COLUMNS = [(kind.name.lower(), kind) for kind in Kind]
VALUES = {
    Kind.BOOLEAN: st.booleans(),
    Kind.DATE: st.dates(date(1700, 1, 1), date(2200, 1, 1)),
    Kind.INTEGER: st.integers(-(2**63), 2**63 - 1),
    Kind.TIMESTAMP: st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - the zone is given beside it
    Kind.NUMBER: st.floats(allow_nan=False),
    Kind.TEXT: st.text(st.characters(exclude_categories=["Cs"])),
}
ROWS = st.lists(st.tuples(*(st.none() | VALUES[kind] for kind in Kind)), max_size=40)


def read(path: Path, content: bytes) -> list[tuple[Any, ...]]:
    """The rows of a file, as arro3 reads them."""
    path.write_bytes(content)
    table = arro3.read_parquet(path).read_all()
    columns = [[value.as_py() for value in table.column(name)] for name in table.schema.names]
    return list(zip(*columns, strict=True))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a file may lie."""
    return tmp_path / "rows.parquet"


@settings(max_examples=60)
@given(pages=st.lists(ROWS, max_size=4), group=st.integers(1, 60))
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, pages: list[Any], group: int) -> None:
    former, parquet.ROWS = parquet.ROWS, group
    try:
        content = b"".join(parquet.write(COLUMNS, pages))
    finally:
        parquet.ROWS = former
    path = tmp_path_factory.getbasetemp() / "given.parquet"
    assert read(path, content) == [row for page in pages for row in page]


def test_many_columns_and_row_groups_fit_into_the_footer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROWS", 10)
    columns = [(f"column {number}", Kind.INTEGER) for number in range(40)]
    rows = [tuple(range(number, number + 40)) for number in range(1_000)]
    pages = [rows[at : at + 10] for at in range(0, 1_000, 10)]
    assert read(path, b"".join(parquet.write(columns, pages))) == rows


def test_half_a_character_does_not_end_an_export(path: Path) -> None:
    assert read(path, b"".join(parquet.write([("text", Kind.TEXT)], [[("a\ud800b",)]]))) == [("a?b",)]


def test_a_file_is_written_while_its_rows_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROWS", 100)
    read_pages = 0

    def pages() -> Iterator[list[tuple[int]]]:
        nonlocal read_pages
        for number in range(100):
            read_pages += 1
            yield [(number,)] * 100

    written = parquet.write([("number", Kind.INTEGER)], pages())
    for _ in range(3):
        next(written)
    assert read_pages <= 3


def test_an_export_holds_what_the_csv_holds_with_types(client: httpx.Client, path: Path) -> None:
    chosen = random.Random(3)
    with transaction() as session:
        team = make_team(session)
        repository = make_repository(session, "acme/api", team)
        for number in range(7):
            steps = [make_step(f"RUN {n} ä", cached=chosen.random() < 0.5, seconds=n + 0.25) for n in range(4)]
            save_build(session, repository, make_build(*steps), at=MORNING + minutes(number), commit_id=f"c{number}")
        save_build(session, make_repository(session, "acme/other", team))
        _, text = token_actions.issue_token(session, team, TokenForm(name="reader", scope="read"))
    client.headers["authorization"] = f"Bearer {text}"
    answer = client.get("/api/v1/repositories/1/builds.parquet")
    assert answer.headers["content-type"] == "application/vnd.apache.parquet"
    builds = [dict(zip(exports.BUILD_TYPES, row, strict=True)) for row in read(path, answer.content)]
    assert [build["commit_id"] for build in builds] == [f"c{number}" for number in range(7)]
    assert builds[0]["started_at"] == MORNING
    assert (builds[0]["day"], builds[0]["run_is_bot"]) == (MORNING.date(), False)
    steps = read(path, client.get("/api/v1/repositories/1/steps.parquet").content)
    assert len(steps) == 28
    later = (MORNING + timedelta(days=1)).date()
    assert read(path, client.get(f"/api/v1/repositories/1/steps.parquet?from={later}").content) == []
    lines = client.get("/api/v1/repositories/1/steps.csv").text.splitlines()
    assert lines[0].split(",") == list(exports.STEP_TYPES)
    assert [row[-1] for row in steps] == [line.split(",")[-1] for line in lines[1:]]


def test_a_build_of_many_steps_is_read_in_parts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with transaction() as session:
        repository = make_repository(session)
        for number in range(3):
            save_build(
                session,
                repository,
                make_build(*(make_step(f"RUN {n}") for n in range(7))),
                at=MORNING + minutes(number),
            )
    whole = [row for page in exports.read_steps(get_engine(), 1) for row in page]
    monkeypatch.setattr(exports, "ROWS", 4)
    pages = list(exports.read_steps(get_engine(), 1))
    assert max(map(len, pages)) == 4
    assert [row for page in pages for row in page] == whole
    assert len(whole) == 21
