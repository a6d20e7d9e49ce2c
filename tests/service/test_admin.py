"""`cachescope admin`: what the terminal does for whoever runs the server."""

from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from sqlalchemy import update
from typer.testing import CliRunner

from cachescope.errors import InvalidValueError, NotFoundError
from service.actions import accounts
from service.admin import command
from store import migrations
from store.database import get_engine, reading, transaction
from store.logs import open_logs, write_log
from store.models import Delivery
from store.queries import deliveries, logs
from tests import serving
from tests.factories import make_delivery, make_repository, make_team
from workers.tasks.ingest import ingest


def run(*words: str) -> str:
    done = CliRunner().invoke(command, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output.strip()


@pytest.fixture
def read_logs(home: Path) -> list[str]:
    """Two deliveries that were read by this version, and one that failed."""
    written = write_log(
        open_logs(), [b"#1 [internal] load build definition\n#1 DONE 0.1s\n#2 [1/1] RUN make\n#2 DONE 1s\n"]
    )
    with transaction() as session:
        logs.save_log(session, written)
        repository = make_repository(session)
        ids = [make_delivery(session, repository, log_digest=written.digest).id for _ in range(3)]
    for each in ids:
        ingest(each)
    with transaction() as session:
        session.execute(update(Delivery).where(Delivery.id == ids[2]).values(state="failed"))
    return ids


def states(ids: list[str]) -> list[str]:
    with reading() as session:
        return [session.get_one(Delivery, each).state for each in ids]


def test_the_schema_is_brought_up_to_date(home: Path) -> None:
    assert str(migrations.head()) in run("migrate")
    assert migrations.is_current(get_engine())


def test_a_link_for_an_owner_is_printed(home: Path) -> None:
    path = run("owner-link")
    with reading() as session:
        assert accounts.is_setup_link_valid(session, path.removeprefix("/setup/"))


def test_a_token_is_printed(client: httpx.Client) -> None:
    with transaction() as session:
        make_repository(session, "acme/api", make_team(session))
    token = run("create-token", "--team", "acme", "--repository", "acme/api")
    answer = client.post("/api/v1/uploads", content=b"log", headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == 202


@pytest.mark.parametrize("words", [["--team", "nobody"], ["--team", "acme", "--repository", "x"]])
def test_a_token_of_nobody_is_not_made(home: Path, words: list[str]) -> None:
    with transaction() as session:
        make_team(session)
    with pytest.raises(NotFoundError, match=words[-1]):
        run("create-token", *words)


def test_logs_that_this_version_read_are_left_alone(read_logs: list[str]) -> None:
    assert run("reread").startswith("0 logs wait")
    assert states(read_logs) == ["done", "done", "failed"]


def test_logs_that_an_older_version_read_are_read_again(read_logs: list[str]) -> None:
    with transaction() as session:
        session.execute(update(Delivery).where(Delivery.id == read_logs[0]).values(read_with="0.0.1"))
    assert run("reread", "--team", "acme", "--repository", "acme/api").startswith("1 log waits")
    assert states(read_logs) == ["new", "done", "failed"]
    ingest()
    assert states(read_logs) == ["done", "done", "failed"]


def test_all_logs_are_read_again(read_logs: list[str]) -> None:
    assert run("reread", "--all").startswith("2 logs wait")


def test_a_repository_needs_its_team(read_logs: list[str]) -> None:
    with pytest.raises(InvalidValueError, match="--team"):
        run("reread", "--repository", "acme/api")


def test_failed_deliveries_are_tried_again(read_logs: list[str]) -> None:
    assert run("retry").startswith("1 failed delivery waits")
    with reading() as session:
        assert deliveries.count_due(session, datetime.now(UTC), 10) == 1


def test_a_backup_is_written_and_restored_into_an_empty_database(
    read_logs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "1 logs" in run("backup", str(tmp_path / "all.tar"))
    monkeypatch.setenv("CACHESCOPE_DATA", str(tmp_path / "new"))
    monkeypatch.setenv("CACHESCOPE_DATABASE_URL", f"sqlite:///{tmp_path}/new/cachescope.db")
    serving.forget_settings()
    assert "1 logs are back." in run("restore", str(tmp_path / "all.tar"))
    assert states(read_logs) == ["done", "done", "failed"]
