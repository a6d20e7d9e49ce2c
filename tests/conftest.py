"""Fixtures that tests of several folders share."""

import json
import os
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from hypothesis import settings
from sqlalchemy import Engine, make_url, text
from sqlalchemy.orm import Session

from service.app import create_app
from store import migrations
from store.database import get_engine, make_engine, make_session
from tests import servers, serving

# How long an example takes says how busy the machine is, not whether the code is right.
settings.register_profile("cachescope", deadline=None)
settings.load_profile("cachescope")

DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write what was read into the expected JSON files")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where nothing may be skipped, a skipped test has failed, whoever skipped it."""
    report = yield
    if report.skipped and os.environ.get(servers.NOTHING_SKIPPED) == "1":
        report.outcome = "failed"
        report.longrepr = f"{servers.NOTHING_SKIPPED} is set, but this was skipped: {report.longrepr}"
    return report


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, Any], None]:
    """Compare a value with a JSON file; `--update-golden` writes it instead."""

    def compare(path: Path, value: Any) -> None:
        if request.config.getoption("--update-golden"):
            path.write_text(json.dumps(value, indent=1, ensure_ascii=False, sort_keys=False) + "\n")
        assert value == json.loads(path.read_text())

    return compare


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """A PostgreSQL server; the URL names a database from which others can be made."""
    with servers.postgresql() as url:
        yield url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis or Valkey server that keeps nothing."""
    with servers.redis() as url:
        yield url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    engine = make_engine(f"sqlite:///{path}")
    migrations.upgrade(engine)
    with engine.connect() as connection:
        connection.connection.driver_connection.execute("PRAGMA journal_mode=DELETE")
    engine.dispose()
    return path


@pytest.fixture(scope="session")
def postgresql_template(postgresql_url: str) -> Iterator[str]:
    """The name of a migrated PostgreSQL database to copy."""
    name = f"template_{uuid4().hex[:12]}"
    with _new_database(postgresql_url, name) as url:
        engine = make_engine(url)
        migrations.upgrade(engine)
        engine.dispose()
        yield name


@pytest.fixture(scope="session")
def shared_postgresql(postgresql_url: str, postgresql_template: str) -> Iterator[Engine]:
    """One PostgreSQL database for all tests that roll back what they do."""
    with _new_database(postgresql_url, f"shared_{uuid4().hex[:12]}", postgresql_template) as url:
        engine = make_engine(url)
        yield engine
        engine.dispose()


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty, migrated database of this test alone: for tests that commit or use several processes."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "cachescope.db")
        yield f"sqlite:///{tmp_path / 'cachescope.db'}"
        return
    server, template = request.getfixturevalue("postgresql_url"), request.getfixturevalue("postgresql_template")
    with _new_database(server, f"test_{uuid4().hex[:12]}", template) as url:
        yield url


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """The engine of an empty, migrated database of this test alone."""
    engine = make_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture(params=DATABASES)
def session(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Session]:
    """A session on an empty database whose work is rolled back."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "session.db")
        engine = make_engine(f"sqlite:///{tmp_path / 'session.db'}")
        with make_session(engine) as opened:
            yield opened
        engine.dispose()
        return
    with request.getfixturevalue("shared_postgresql").connect() as connection, connection.begin() as outer:
        with Session(connection, join_transaction_mode="create_savepoint", expire_on_commit=False) as opened:
            yield opened
        outer.rollback()


@pytest.fixture
def home(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The settings of a server of this test alone: its database, its logs, its queue of files; yields its folder."""
    folder = tmp_path / "home"
    for name in ("REDIS_URL", "CACHESCOPE_LOGS_URL", "CACHESCOPE_WEB_PUBLIC_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CACHESCOPE_DATA", str(folder))
    monkeypatch.setenv("CACHESCOPE_DATABASE_URL", database_url)
    monkeypatch.setenv("CACHESCOPE_SECRET_KEY", "a key for tests alone that has 32 characters or more")
    monkeypatch.setenv("CACHESCOPE_WORKER_QUEUE_FOLDER", str(folder / "queue"))
    serving.forget_settings()
    yield folder
    get_engine().dispose()
    monkeypatch.undo()
    serving.forget_settings()


@pytest.fixture
def client(home: Path) -> Iterator[httpx.Client]:
    """A client of the web application, which runs on loopback with the settings of `home`."""
    with serving.serve(create_app()) as url, httpx.Client(base_url=url, timeout=60) as opened:
        yield opened


@contextmanager
def _new_database(server: str, name: str, template: str | None = None) -> Iterator[str]:
    """Create a database on a server and drop it at the end; yields its URL."""
    _run(server, f'CREATE DATABASE "{name}"' + (f' TEMPLATE "{template}"' if template else ""))
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        _run(server, f'DROP DATABASE "{name}" WITH (FORCE)')


def _run(server: str, statement: str) -> None:
    engine = make_engine(server)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(statement))
    engine.dispose()
