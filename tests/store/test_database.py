"""Engines, transactions and what waits for a commit."""

from threading import Thread

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from cachescope.errors import SettingsError
from store.database import after_commit, make_engine, make_session, reading, transaction
from store.models import Team
from store.queries import teams


def test_a_block_that_ends_is_committed(engine):
    with transaction(engine) as session:
        teams.create_team(session, slug="acme", name="Acme")
    with reading(engine) as session:
        assert session.scalars(select(Team.slug)).all() == ["acme"]


def test_a_block_that_raises_is_rolled_back(engine):
    def fail() -> None:
        with transaction(engine) as session:
            teams.create_team(session, slug="acme", name="Acme")
            raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        fail()
    with reading(engine) as session:
        assert session.scalars(select(Team)).all() == []


def test_what_waits_for_the_commit_sees_the_row_in_another_session(engine):
    seen = []

    def look() -> None:
        with reading(engine) as other:
            seen.extend(other.scalars(select(Team.slug)).all())

    with transaction(engine) as session:
        teams.create_team(session, slug="acme", name="Acme")
        after_commit(session, look)
        assert seen == []
    assert seen == ["acme"]


def test_nothing_runs_after_a_rollback(engine):
    ran = []

    def fail() -> None:
        with transaction(engine) as session:
            after_commit(session, lambda: ran.append(1))
            raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        fail()
    assert ran == []


def test_a_function_that_fails_after_the_commit_stops_neither_the_caller_nor_the_next_one(engine, caplog):
    ran = []
    with transaction(engine) as session:
        after_commit(session, lambda: 1 / 0)
        after_commit(session, lambda: ran.append(1))
    assert ran == [1]
    assert "after_commit_failed" in caplog.text


def test_writers_wait_for_each_other_instead_of_failing(engine):
    """A reader that becomes a writer would fail at once on SQLite; BEGIN IMMEDIATE makes it queue."""
    with transaction(engine) as session:
        session.execute(text("CREATE TABLE counter (n INTEGER)"))
        session.execute(text("INSERT INTO counter VALUES (0)"))
    errors = []

    def count() -> None:
        own = make_engine(engine.url)
        try:
            for _ in range(20):
                with transaction(own) as session:
                    found = session.execute(text("SELECT n FROM counter")).scalar_one()
                    lock = " FOR UPDATE" if own.dialect.name == "postgresql" else ""
                    found = session.execute(text("SELECT n FROM counter" + lock)).scalar_one()
                    session.execute(text("UPDATE counter SET n = :n"), {"n": found + 1})
        except DBAPIError as error:
            errors.append(error)
        own.dispose()

    threads = [Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with reading(engine) as session:
        assert session.execute(text("SELECT n FROM counter")).scalar_one() == 80


def test_a_reader_waits_for_no_writer(engine):
    with transaction(engine) as writer:
        teams.create_team(writer, slug="acme", name="Acme")
        with reading(engine) as session:
            assert session.scalars(select(Team)).all() == []


@pytest.mark.postgresql
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_postgresql_refuses_to_write_while_reading(engine):
    with reading(engine) as session, pytest.raises(DBAPIError, match="read-only"):
        teams.create_team(session, slug="acme", name="Acme")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_sqlite_is_set_up_to_survive_a_power_cut_and_to_check_foreign_keys(engine):
    with engine.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_the_folder_of_a_sqlite_file_is_made(tmp_path):
    engine = make_engine(f"sqlite:///{tmp_path}/new/folder/cachescope.db")
    with engine.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
    engine.dispose()


def test_an_unknown_database_is_refused_with_the_known_ones():
    with pytest.raises(SettingsError, match="Known databases: postgresql, sqlite"):
        make_engine("mysql://localhost/x")


def test_a_memory_database_works(monkeypatch):
    engine = make_engine("sqlite:///:memory:")
    with make_session(engine) as session:
        assert session.execute(text("SELECT 1")).scalar() == 1
    engine.dispose()
