"""One chain of migrations, run empty → head, gives exactly the tables of the models, on both databases."""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, MetaData, Table, insert, select, text

from store import migrations
from store.database import get_engine, make_engine
from store.models import Base
from store.settings import get_settings
from tests.conftest import DATABASES, _new_database
from tests.test_route_walk import filled

_SCHEMA = {
    # Everything that was created, as the database itself writes it down.
    "sqlite": "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' AND name <> 'alembic_version'",
    "postgresql": """
        SELECT 'column', table_name, column_name, data_type, is_nullable, coalesce(column_default, '')
        FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'
        UNION ALL SELECT 'index', tablename, indexname, indexdef, '', ''
        FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version'
        UNION ALL SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', ''
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'alembic_version'
    """,
}


@pytest.fixture(params=DATABASES)
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Engine]]:
    """Two empty databases of one kind."""
    if request.param == "sqlite":
        engines = [make_engine(f"sqlite:///{tmp_path}/{name}.db") for name in ("one", "two")]
        yield engines
    else:
        server = request.getfixturevalue("postgresql_url")
        with _new_database(server, "migrated_one") as one, _new_database(server, "migrated_two") as two:
            engines = [make_engine(one), make_engine(two)]
            yield engines
            for engine in engines:
                engine.dispose()
    for engine in engines:
        engine.dispose()


def schema(engine: Engine) -> set[tuple[str, ...]]:
    with engine.connect() as connection:
        rows = connection.execute(text(_SCHEMA[engine.dialect.name]))
        return {tuple(in_order(" ".join(str(value).split())) for value in row) for row in rows}


def in_order(statement: str) -> str:
    """Sort the parts of a CREATE TABLE: constraints may be written in any order, a table made anew is quoted."""
    statement = re.sub(r'^CREATE TABLE "(\w+)"', r"CREATE TABLE \1", statement)
    return ", ".join(sorted(re.split(r",? (?=CONSTRAINT)| \)(?= WITHOUT ROWID|$)", statement)))


def test_migrating_an_empty_database_gives_the_tables_of_the_models(empty):
    migrated, created = empty
    migrations.upgrade(migrated)
    Base.metadata.create_all(created)
    assert schema(migrated) == schema(created)


def test_autogenerate_finds_nothing_to_add(empty):
    migrations.upgrade(empty[0])
    with empty[0].connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_going_back_to_the_base_leaves_no_table(empty):
    migrations.upgrade(empty[0])
    migrations.downgrade(empty[0], "base")
    assert schema(empty[0]) == set()


REVISIONS = [script.revision for script in ScriptDirectory(str(Path(migrations.__file__).parent)).walk_revisions()]
"""Every revision that a database may be left at, the newest first."""


def fill(engine: Engine) -> dict[str, dict[str, Any]]:
    """Insert a row into every table that is there, with something in every column; returns them by table."""
    tables = MetaData()
    tables.reflect(engine)
    made: dict[str, dict[str, Any]] = {}
    with engine.begin() as connection:
        for table in tables.sorted_tables:
            if table.name not in Base.metadata.tables:
                continue
            model = Base.metadata.tables[table.name]
            values: dict[str, Any] = {}
            for column in table.columns:
                (key,) = [*column.foreign_keys][:1] or (None,)
                if key is not None:
                    other = made.get(key.column.table.name)
                    values[column.name] = other[key.column.name] if other else None
                else:
                    values[column.name] = filled(model, model.columns[column.name])
            connection.execute(insert(table).values(values))
            made[table.name] = read(connection, table)
    return made


def read(connection: Connection, table: Table) -> dict[str, Any]:
    (row,) = connection.execute(select(table)).mappings().all()
    return dict(row)


@pytest.mark.parametrize("revision", REVISIONS[1:])
def test_upgrading_keeps_every_row(empty, revision):
    engine = empty[0]
    migrations.upgrade(engine, revision)
    before = fill(engine)
    assert "steps" in before
    migrations.upgrade(engine)
    assert migrations.is_current(engine)
    tables = MetaData()
    tables.reflect(engine)
    with engine.connect() as connection:
        for name, row in before.items():
            after = read(connection, tables.tables[name])
            assert {column: after[column] for column in row} == row, name
        if connection.dialect.name == "sqlite":
            assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []


def test_the_first_owner_becomes_administrator_by_the_upgrade(empty):
    engine = empty[0]
    migrations.upgrade(engine, "2026_11_24_identities")
    with engine.begin() as connection:
        for user, role in ((1, "viewer"), (2, "owner"), (3, "owner")):
            people = "INSERT INTO users (id, email, name, created_at) VALUES (:id, :email, 'x', '2026-01-01')"
            connection.execute(text(people), {"id": user, "email": f"{user}@example.org"})
            if user == 1:
                values = "(1, 'a', 'a', false, '', '2026-01-01')"
                connection.execute(
                    text(f"INSERT INTO teams (id, slug, name, is_demo, time_zone, created_at) VALUES {values}")
                )
            member = "INSERT INTO memberships (team_id, user_id, role) VALUES (1, :id, :role)"
            connection.execute(text(member), {"id": user, "role": role})
    migrations.upgrade(engine)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT id FROM users WHERE is_administrator")).scalars().all() == [2]


def test_a_database_is_current_only_at_the_head(empty):
    before = migrations.is_current(empty[0])
    migrations.upgrade(empty[0])
    assert (before, migrations.is_current(empty[0])) == (False, True)


def test_processes_that_start_together_migrate_once(empty):
    engine, errors, start = empty[0], [], Barrier(4)

    def upgrade() -> None:
        own = make_engine(engine.url)
        start.wait()
        try:
            migrations.upgrade(own)
        except Exception as error:  # noqa: BLE001 - handed to the test
            errors.append(error)
        finally:
            own.dispose()

    threads = [Thread(target=upgrade) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert migrations.is_current(engine)


def test_the_command_line_of_alembic_finds_nothing_to_migrate(tmp_path, monkeypatch):
    """`dev.py migration` goes this way: configured by pyproject.toml, on the database of the settings."""
    engine = make_engine(f"sqlite:///{tmp_path}/one.db")
    migrations.upgrade(engine)
    engine.dispose()
    monkeypatch.setenv("CACHESCOPE_DATABASE_URL", f"sqlite:///{tmp_path}/one.db")
    for cached in (get_settings, get_engine):
        cached.cache_clear()
    try:
        command.check(Config(toml_file=Path(__file__).parent.parent / "pyproject.toml", stdout=io.StringIO()))
    finally:
        get_engine().dispose()
        for cached in (get_settings, get_engine):
            cached.cache_clear()


def test_a_migration_that_leaves_dangling_rows_is_rolled_back(tmp_path, monkeypatch):
    engine = make_engine(f"sqlite:///{tmp_path}/one.db")
    migrations.upgrade(engine)

    def orphan(config, _revision):
        config.attributes["connection"].execute(text("INSERT INTO memberships VALUES (1, 1, 'owner')"))

    monkeypatch.setattr("store.migrations.command.upgrade", orphan)
    with pytest.raises(RuntimeError, match="left a row of memberships"):
        migrations.upgrade(engine)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM memberships")).scalar() == 0
    engine.dispose()


def test_foreign_keys_are_on_again_after_a_migration(tmp_path):
    engine = make_engine(f"sqlite:///{tmp_path}/one.db")
    migrations.upgrade(engine)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    engine.dispose()
