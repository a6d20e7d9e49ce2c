"""Exports: every build and step of a repository as CSV, in pages, harmless to a spreadsheet."""

import csv
import io

import httpx
import pytest

from service.actions import tokens as token_actions
from service.actions.tokens import TokenForm
from store.database import get_engine, transaction
from store.queries import exports
from tests.factories import MORNING, make_build, make_repository, make_step, make_team, minutes, save_build


@pytest.fixture
def reader(client: httpx.Client) -> httpx.Client:
    """A client with a read token of a team of two repositories, the first with five builds over five days."""
    with transaction() as session:
        team = make_team(session)
        repository, other = make_repository(session, "acme/api", team), make_repository(session, "acme/shop", team)
        for number in range(5):
            steps = [make_step("RUN a", cached=True), make_step('RUN echo "x,\ny"', seconds=2.0)]
            at = MORNING + minutes(1_440 * number)
            save_build(session, repository, make_build(*steps), at=at, branch="=cmd()", commit_id=f"c{number}")
        save_build(session, other)
        _, text = token_actions.issue_token(session, team, TokenForm(name="reader", scope="read"))
    client.headers["authorization"] = f"Bearer {text}"
    return client


def rows_of(answer: httpx.Response) -> list[dict[str, str]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


def test_builds_come_oldest_first_with_their_figures(reader: httpx.Client) -> None:
    rows = rows_of(reader.get("/api/v1/repositories/1/builds.csv"))
    assert [row["commit_id"] for row in rows] == ["c0", "c1", "c2", "c3", "c4"]
    assert {(row["hits"], row["misses"], row["run_is_bot"]) for row in rows} == {("1", "1", "false")}
    assert rows[0]["started_at"] == "2026-11-20T08:00:00+00:00"


def test_steps_come_with_their_text(reader: httpx.Client) -> None:
    rows = rows_of(reader.get("/api/v1/repositories/1/steps.csv"))
    assert len(rows) == 10
    assert (rows[1]["text"], rows[1]["cached"], rows[1]["duration_seconds"]) == ('RUN echo "x,\ny"', "false", "2.0")


def test_a_period_is_exported_alone(reader: httpx.Client) -> None:
    period = "from=2026-11-21&to=2026-11-22"
    assert [row["commit_id"] for row in rows_of(reader.get(f"/api/v1/repositories/1/builds.csv?{period}"))] == [
        "c1",
        "c2",
    ]
    assert len(rows_of(reader.get(f"/api/v1/repositories/1/steps.csv?{period}"))) == 4


def test_text_from_outside_is_no_formula(reader: httpx.Client) -> None:
    assert rows_of(reader.get("/api/v1/repositories/1/builds.csv"))[0]["branch"] == "'=cmd()"


def test_pages_join_without_a_gap(reader: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = reader.get("/api/v1/repositories/1/steps.csv").text
    monkeypatch.setattr(exports, "PAGE", 2)
    assert [len(page) for page in exports.read_steps(get_engine(), 1)] == [4, 4, 2]
    assert reader.get("/api/v1/repositories/1/steps.csv").text == whole


def test_a_day_that_is_none_is_refused(reader: httpx.Client) -> None:
    assert reader.get("/api/v1/repositories/1/builds.csv?from=yesterday").status_code == 422
