"""Read build logs and print what they say about the cache, as tables or as JSON."""

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Annotated

import orjson
import typer
from rich.console import Console

from cachescope.cli import inputs, table
from cachescope.cli.document import build_document, document
from cachescope.cli.watch import watch_file
from cachescope.cli.words import printable
from cachescope.errors import CachescopeError, TooLargeError
from cachescope.formats.buildkit_record import FORMAT as RECORD
from cachescope.formats.buildkit_record import SIZE_CAP
from cachescope.model import Build, LogReading
from cachescope.reading import read_builds

__all__ = ["command", "document"]


def command(
    files: Annotated[list[str], typer.Argument(metavar="FILE…", help="Build logs; `-` reads standard input.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document per log, one a line.")] = False,
    every_step: Annotated[
        bool, typer.Option("--all", help="Show the builder's own steps too (context, metadata, export).")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Follow one growing log and show the running build until Ctrl-C.")
    ] = False,
) -> None:
    """Read build logs and print what they say about the cache.

    Reads plain text, gzip, zstd, UTF-16, zip archives of a CI run (each member by itself) and build records. Exit
    status 2 when a file could not be read; the others are still read.
    """
    if watch:
        if as_json or len(files) != 1:
            raise typer.BadParameter("--watch follows exactly one log and takes no --json")
        watch_file(files[0], make_console(), every_step=every_step)
        return
    write = write_json if as_json else table_writer(every_step=every_step)
    read = [analyze_file(name, write) for name in files]
    if not all(read):
        raise typer.Exit(2)


Writer = Callable[[LogReading, str, str | None], None]


def analyze_file(name: str, write: Writer) -> bool:
    """Read the logs of one file and write each as soon as it is read; False when something could not be read."""
    complete = True
    try:
        with inputs.open_file(name) as file:
            for log in inputs.read_logs(name, file):
                complete &= analyze_log(log, name, write)
    except CachescopeError as error:
        complain(error)
        return False
    return complete


def analyze_log(log: inputs.Log, name: str, write: Writer) -> bool:
    """Read one log and write what it says; False when it could not be read to its end."""
    try:
        head, chunks = inputs.peek(log.chunks, 1024)
        if head[257:262] == b"ustar" and RECORD.claims(head):
            for member, reading in read_record(chunks, name):
                write(reading, name, " / ".join(part for part in (log.member, member) if part) or None)
        else:
            write(read_builds(chunks), name, log.member)
    except CachescopeError as error:
        complain(error)
        return False
    return True


def read_record(chunks: Iterable[bytes], name: str) -> list[tuple[str | None, LogReading]]:
    """Read an archive of build records: one reading per record, in the order of the archive."""
    content = bytearray()
    for chunk in chunks:
        content += chunk
        if len(content) > SIZE_CAP:
            raise TooLargeError(f"Cannot read {name}: a build record may have {SIZE_CAP // 1024**2} MiB.")
    builds: dict[str | None, list[Build]] = {}
    for member, build in RECORD.read_document(bytes(content)):
        builds.setdefault(member, []).append(build)
    return [(member, LogReading(wrapper=None, lines=0, builds=tuple(found))) for member, found in builds.items()]


def complain(error: Exception) -> None:
    """Say in one sentence on standard error what went wrong."""
    print(printable(str(error)), file=sys.stderr)


def write_json(reading: LogReading, name: str, member: str | None) -> None:
    """Write one document on one line, at once: whoever reads the pipe may be waiting for it.

    Build by build: the document of a log with thousands of builds is many times larger than what was read.
    """
    out = sys.stdout.buffer
    head = document(replace(reading, builds=()), name, member)
    out.write(orjson.dumps(head).removesuffix(b"]}"))
    for position, build in enumerate(reading.builds):
        out.write(b"," if position else b"")
        out.write(orjson.dumps(build_document(build)))
    out.write(b"]}\n")
    out.flush()


def table_writer(*, every_step: bool) -> Writer:
    """Return a writer of tables for people."""
    console = make_console()

    def write(reading: LogReading, name: str, member: str | None) -> None:
        shown = "standard input" if name == "-" else name
        table.write_reading(console, reading, f"{shown} · {member}" if member else shown, every_step=every_step)

    return write


def make_console() -> Console:
    """Return a console as wide as the terminal; without one as wide as COLUMNS says, and without colour."""
    width = None if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit() else table.PLAIN_WIDTH
    return Console(width=width, highlight=False, soft_wrap=False)
