"""The engine, sessions and transactions: one request or task is one transaction, and nothing else commits.

SQLite runs in WAL mode with synchronous=FULL: a delivery answered with 202 survives a power cut. Every writing
transaction begins with BEGIN IMMEDIATE, because a reader that turns into a writer cannot wait for another writer and
would fail at once instead of after the busy timeout.
"""

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, TableValuedAlias, create_engine, event, func, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from cachescope.errors import SettingsError
from store.settings import StoreSettings, get_settings
from store.types import dump_json

logger = logging.getLogger(__name__)

BUSY_TIMEOUT_SECONDS = 30
_READ_ONLY = "cachescope_read_only"
_AFTER_COMMIT = "cachescope_after_commit"


def make_engine(url: str | URL, *, pool_size: int = 5) -> Engine:
    """Build an engine for SQLite or PostgreSQL; the folder of a SQLite file is made where it is missing."""
    parsed = make_url(url)
    match parsed.get_backend_name():
        case "sqlite":
            return _sqlite_engine(parsed)
        case "postgresql":
            return create_engine(
                parsed.set(drivername="postgresql+psycopg"),
                pool_size=pool_size,
                max_overflow=pool_size,
                pool_pre_ping=True,
                pool_recycle=1800,
                json_serializer=dump_json,
                json_deserializer=orjson.loads,
            )
        case other:
            raise SettingsError(f'CACHESCOPE_DATABASE_URL names "{other}". Known databases: postgresql, sqlite.')


def _sqlite_engine(url: URL) -> Engine:
    if url.database and url.database != ":memory:":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url.set(drivername="sqlite+pysqlite"),
        connect_args={"timeout": BUSY_TIMEOUT_SECONDS},
        json_serializer=dump_json,
        json_deserializer=orjson.loads,
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    # The driver would begin transactions by itself, too late and without IMMEDIATE.
    connection.isolation_level = None
    _use_wal(connection)
    for pragma in ("synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY", "cache_size=-32768"):
        connection.execute(f"PRAGMA {pragma}")


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL; of several processes that open a new file at once only one can, and SQLite lets none wait."""
    until = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.02)


def _begin_sqlite(connection: Connection) -> None:
    read_only = connection.get_execution_options().get(_READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


@lru_cache(maxsize=1)
def get_engine() -> Engine:
    """The engine of this process, made at the first call."""
    settings: StoreSettings = get_settings()
    return make_engine(settings.resolved_database_url, pool_size=settings.database_pool_size)


def make_session(engine: Engine | Connection | None = None) -> Session:
    """Open a session; whoever opens it closes it. `transaction()` is what most callers want."""
    return _sessions(bind=engine if engine is not None else get_engine())


_sessions = sessionmaker(expire_on_commit=False)


@contextmanager
def transaction(engine: Engine | None = None) -> Iterator[Session]:
    """Open a session, commit when the block ends, roll back when it raises, and then run what waits for the commit."""
    with make_session(engine) as session:
        yield session
        session.commit()
        waiting = session.info.pop(_AFTER_COMMIT, [])
    for function in waiting:
        try:
            function()
        except Exception:
            # The work is committed: what waited for it must not make it look lost.
            logger.exception("after_commit_failed")


@contextmanager
def reading(engine: Engine | None = None) -> Iterator[Session]:
    """Open a session that only reads: it waits for no writer, and PostgreSQL refuses to write in it."""
    options = {_READ_ONLY: True, "postgresql_readonly": True}
    with make_session((engine or get_engine()).execution_options(**options)) as session:
        yield session


@contextmanager
def tidied(session: Session) -> Iterator[None]:
    """Overwrite what is deleted in the block, where the database would leave it readable in its file: in SQLite."""
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    if is_sqlite:
        session.connection().exec_driver_sql("PRAGMA secure_delete=ON")
    try:
        yield
    finally:
        if is_sqlite:
            session.connection().exec_driver_sql("PRAGMA secure_delete=OFF")


def shorten_journal(engine: Engine | None = None) -> None:
    """Move what SQLite wrote to its journal into the database and cut the journal off; elsewhere do nothing."""
    engine = engine or get_engine()
    if engine.dialect.name == "sqlite":
        connection = engine.raw_connection()
        try:
            connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.close()


def after_commit(session: Session, function: Callable[[], object]) -> None:
    """Run a function once the session's transaction has been committed; never when it was rolled back.

    A fast worker would look for a row that is not there yet, so tasks are queued this way.
    """
    session.info.setdefault(_AFTER_COMMIT, []).append(function)


def insert(session: Session, table: Any) -> Any:
    """Begin an INSERT that knows `on_conflict_do_nothing` and `on_conflict_do_update`.

    Both databases write it alike, SQLAlchemy keeps it in two places.
    """
    dialect = session.get_bind().dialect.name
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def each_of(session: Session, column: Any) -> TableValuedAlias:
    """The members of a JSON object as rows of `key` and `value`, both text; join it with `true()`."""
    function = func.jsonb_each_text if session.get_bind().dialect.name == "postgresql" else func.json_each
    return function(column).table_valued("key", "value", joins_implicitly=True)
