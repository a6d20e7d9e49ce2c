"""A whole installation in one file: every row and every raw log, from either database into either.

A backup is a tar archive: `manifest.json`, then `tables/<name>.jsonl.zst` in the order in which rows may be inserted,
`logs/<digest>.zst` as they are stored, and `end.json` with the counts, without which the archive was cut off. Secrets
stay encrypted, so a backup is of use only together with CACHESCOPE_SECRET_KEY.
"""

import base64
import io
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any

import orjson
from backports import zstd
from sqlalchemy import (
    Connection,
    Date,
    Engine,
    LargeBinary,
    Table,
    Text,
    column,
    func,
    insert,
    select,
    text,
    type_coerce,
)
from sqlalchemy import table as lightweight
from sqlalchemy.types import TypeEngine

from cachescope.errors import NotFoundError, UnreadableInputError
from store import migrations
from store.logs import LogStore, checked
from store.models import Base
from store.types import EncryptedText, UtcDateTime

FORMAT = 1
ROWS = 1_000
_IN_MEMORY = 8 << 20
_LINE = orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS
_LONGEST_ROW = 256 << 20


@dataclass(slots=True)
class Copied:
    """What a backup holds, or what a restore brought back."""

    tables: dict[str, int] = field(default_factory=dict)
    logs: int = 0
    missing_logs: list[str] = field(default_factory=list)
    """Digests of logs that the database knows and the log store lacks."""

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(self.tables.values())


def write_backup(engine: Engine, logs: LogStore, target: Path) -> Copied:
    """Write everything into a new file, as it was at one moment; the service goes on working meanwhile.

    The file appears under its name once it is complete. Raises UnreadableInputError when the database is not at the
    schema of this program or the file exists already.
    """
    if target.exists():
        raise UnreadableInputError(f"{target} exists already. Name a file that does not.")
    if not migrations.is_current(engine):
        raise UnreadableInputError("The database has another schema. Run `cachescope admin migrate` first.")
    copied = Copied()
    partial = target.with_name(f".{target.name}.partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial.open("xb") as file, _snapshot(engine) as connection:
            partial.chmod(0o600)
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
                _add_json(archive, "manifest.json", {"format": FORMAT, "revision": migrations.head(), "at": _now()})
                for table in Base.metadata.sorted_tables:
                    with SpooledTemporaryFile(_IN_MEMORY) as rows:
                        copied.tables[str(table.name)] = _write_rows(connection, table, rows)
                        _add_file(archive, f"tables/{table.name}.jsonl.zst", rows)
                for digest in _digests(connection):
                    _add_log(archive, logs, digest, copied)
                _add_json(archive, "end.json", {"tables": copied.tables, "logs": copied.logs})
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)
    return copied


def restore_backup(engine: Engine, logs: LogStore, source: Path) -> Copied:
    """Fill an empty database and a log store from a backup; the rows appear all at once, or none.

    Raises NotFoundError when there is no such file, and UnreadableInputError when it is no backup, was cut off, comes
    from another version's schema, or when the database holds something already.
    """
    if not source.is_file():
        raise NotFoundError(f"There is no file {source}.")
    migrations.upgrade(engine)
    copied = Copied()
    try:
        with tarfile.open(source, mode="r:") as archive, engine.begin() as connection:
            _require_empty(connection)
            end: dict[str, Any] | None = None
            for number, member in enumerate(archive):
                content = archive.extractfile(member)
                if content is None:
                    raise UnreadableInputError(f"{source} holds {member.name!r}, which no backup does.")
                if number == 0:
                    _check_manifest(source, member, content)
                elif member.name.startswith("tables/"):
                    name = member.name.removeprefix("tables/").removesuffix(".jsonl.zst")
                    copied.tables[name] = (
                        _read_rows(connection, Base.metadata.tables[name], content) if member.size else 0
                    )
                elif member.name.startswith("logs/"):
                    _read_log(logs, member, content)
                    copied.logs += 1
                else:
                    end = orjson.loads(content.read(1 << 20))
            if end != {"tables": copied.tables, "logs": copied.logs}:
                raise UnreadableInputError(f"{source} is cut off: it ends before its end. Nothing was restored.")
            _set_sequences(connection)
    except (tarfile.TarError, zstd.ZstdError, EOFError, KeyError, ValueError) as error:
        raise UnreadableInputError(f"{source} is no backup, or is damaged ({error}). Nothing was restored.") from error
    return copied


@contextmanager
def _snapshot(engine: Engine) -> Iterator[Connection]:
    """A connection to which the database stands still."""
    options: dict[str, Any] = {"cachescope_read_only": True}
    if engine.dialect.name == "postgresql":
        options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with engine.connect().execution_options(**options) as connection, connection.begin():
        yield connection


def _write_rows(connection: Connection, table: Table, file: IO[bytes]) -> int:
    columns = [type_coerce(c, _stored_type(c.type)).label(c.name) for c in table.columns]
    statement = select(*columns).order_by(*table.primary_key.columns).execution_options(yield_per=ROWS)
    names = [str(c.name) for c in table.columns]
    count = 0
    with connection.execute(statement) as rows, zstd.ZstdFile(file, "w") as packed:
        for row in rows:
            packed.write(orjson.dumps(dict(zip(names, row, strict=True)), default=_plain, option=_LINE))
            count += 1
    return count


def _stored_type(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    """The type of a column in a backup: what is encrypted stays as it is."""
    return Text() if isinstance(kind, EncryptedText) else kind


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} has no form in a backup")


def _read_rows(connection: Connection, table: Table, file: IO[bytes]) -> int:
    read = {column.name: _reader(column.type) for column in table.columns}
    statement = insert(lightweight(table.name, *(column(c.name, _stored_type(c.type)) for c in table.columns)))
    waiting: list[dict[str, Any]] = []
    count = 0
    with zstd.ZstdFile(file, "r") as unpacked:
        lines = io.BufferedReader(unpacked, 1 << 20)
        while line := lines.readline(_LONGEST_ROW):
            waiting.append({name: read[name](value) for name, value in orjson.loads(line).items()})
            count += 1
            if len(waiting) == ROWS:
                connection.execute(statement, waiting)
                waiting.clear()
    if waiting:
        connection.execute(statement, waiting)
    return count


def _reader(kind: Any) -> Callable[[Any], Any]:
    if isinstance(kind, UtcDateTime):
        return lambda value: None if value is None else datetime.fromisoformat(value)
    if isinstance(kind, Date):
        return lambda value: None if value is None else date.fromisoformat(value)
    if isinstance(kind, LargeBinary):
        return lambda value: None if value is None else base64.b64decode(value)
    return lambda value: value


def _digests(connection: Connection) -> list[str]:
    return list(connection.scalars(select(Base.metadata.tables["logs"].c.digest).order_by("digest")))


def _add_log(archive: tarfile.TarFile, logs: LogStore, digest: str, copied: Copied) -> None:
    with SpooledTemporaryFile(_IN_MEMORY) as file:
        try:
            for piece in logs.packed(digest):
                file.write(piece)
        except NotFoundError:
            copied.missing_logs.append(digest)
            return
        _add_file(archive, f"logs/{digest}.zst", file)
    copied.logs += 1


def _read_log(logs: LogStore, member: tarfile.TarInfo, content: IO[bytes]) -> None:
    digest = checked(member.name.removeprefix("logs/").removesuffix(".zst"))
    with logs.writing() as writer, zstd.ZstdFile(content, "r") as unpacked:
        while piece := unpacked.read(1 << 20):
            writer.write(piece)
        if writer.finish().digest != digest:
            raise ValueError(f"the log {digest} is another one")


def _check_manifest(source: Path, member: tarfile.TarInfo, content: IO[bytes]) -> None:
    manifest = orjson.loads(content.read(1 << 20)) if member.name == "manifest.json" else {}
    if manifest.get("format") != FORMAT:
        raise UnreadableInputError(f"{source} is no backup of Cachescope that this version can read.")
    if manifest["revision"] != migrations.head():
        raise UnreadableInputError(
            f"{source} was made at the schema {manifest['revision']}, this version has {migrations.head()}. Restore it "
            "with the version that made it, and then run `cachescope admin migrate` with this one."
        )


def _require_empty(connection: Connection) -> None:
    for table in Base.metadata.sorted_tables:
        if table.name != "heartbeats" and connection.execute(select(table).limit(1)).first():
            raise UnreadableInputError(
                f"The database is not empty: {table.name} holds rows. Restore into an empty one."
            )
    connection.execute(Base.metadata.tables["heartbeats"].delete())


def _set_sequences(connection: Connection) -> None:
    """Let PostgreSQL give new rows ids after those that were restored; SQLite sees them itself."""
    if connection.dialect.name != "postgresql":
        return
    for table in Base.metadata.sorted_tables:
        column = table.autoincrement_column
        if column is None:
            continue
        sequence = connection.scalar(select(func.pg_get_serial_sequence(table.name, column.name)))
        highest = connection.scalar(select(func.max(column)))
        if sequence and highest:
            connection.execute(text("SELECT setval(:sequence, :highest)"), {"sequence": sequence, "highest": highest})


def _add_json(archive: tarfile.TarFile, name: str, value: dict[str, Any]) -> None:
    data = orjson.dumps(value)
    _add_file(archive, name, io.BytesIO(data))


def _add_file(archive: tarfile.TarFile, name: str, file: IO[bytes]) -> None:
    info = tarfile.TarInfo(name)
    info.size = file.seek(0, io.SEEK_END)
    info.mtime = int(datetime.now(UTC).timestamp())
    info.mode = 0o600
    file.seek(0)
    archive.addfile(info, file)


def _now() -> str:
    return datetime.now(UTC).isoformat()
