"""The schema's history: one chain for SQLite and PostgreSQL, run by the program itself at its start."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

# Any number will do, as long as nothing else in the same database locks it.
_ADVISORY_LOCK = 0x0CAC4E5C


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Bring a database, empty or old, to a revision; processes that start together wait for the first of them."""
    with _exclusive(engine) as connection:
        command.upgrade(_configure(connection), revision)


def downgrade(engine: Engine, revision: str) -> None:
    """Take a database back to an earlier revision; `base` empties it."""
    with _exclusive(engine) as connection:
        command.downgrade(_configure(connection), revision)


def is_current(engine: Engine) -> bool:
    """Tell whether the database is at the newest revision that this program knows."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_heads() == (head(),)


def head() -> str | None:
    """The newest revision."""
    return ScriptDirectory.from_config(_configure(None)).get_current_head()


def _configure(connection: Connection | None) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


@contextmanager
def _exclusive(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        if isinstance(driver, sqlite3.Connection):
            # SQLite changes a table by copying it: with foreign keys on, dropping the old one would delete the rows
            # that refer to it. The switch works only outside a transaction, which begins with the first statement.
            driver.execute("PRAGMA foreign_keys=OFF")
        try:
            with connection.begin():
                if connection.dialect.name == "postgresql":
                    connection.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
                yield connection
                if connection.dialect.name == "sqlite":
                    _refuse_dangling_rows(connection)
        finally:
            if isinstance(driver, sqlite3.Connection):
                driver.execute("PRAGMA foreign_keys=ON")


def _refuse_dangling_rows(connection: Connection) -> None:
    if dangling := connection.exec_driver_sql("PRAGMA foreign_key_check").first():
        raise RuntimeError(f"The migration left a row of {dangling[0]} that refers to no row of {dangling[2]}.")
