"""A growing log, read as it grows: the running build redrawn on a terminal, or a line per finished step elsewhere."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from cachescope.cli import inputs, table
from cachescope.cli.words import duration, plural, printable
from cachescope.model import Build, LogReading, Outcome, Step, StepKind, StepStatus
from cachescope.reading import LogReader

INTERVAL_SECONDS: Final = 0.25
FINISHED: Final = frozenset({StepStatus.CACHED, StepStatus.DONE, StepStatus.FAILED, StepStatus.CANCELED})


def watch_file(name: str, console: Console, *, every_step: bool) -> None:
    """Follow a log until Ctrl-C, standard input until its end, and leave the last view on the screen."""
    with inputs.open_file(name) as file, suppress(KeyboardInterrupt):
        source = read_pipe(file) if name == "-" else follow(Path(name), file)
        if console.is_terminal:
            watch_live(source, console, every_step=every_step)
        else:
            watch_plain(source, console)


def read_pipe(file: BinaryIO) -> Iterator[bytes | None]:
    """Yield what a pipe brings, each piece followed by None: a moment to draw."""
    while chunk := file.read1(inputs.CHUNK_BYTES):  # type: ignore[attr-defined]  # standard input is buffered
        yield chunk
        yield None


def follow(path: Path, file: BinaryIO) -> Iterator[bytes | None]:
    """Yield what is appended to a file, None when there is nothing new, and an empty chunk when it begins anew."""
    while True:
        while chunk := file.read(inputs.CHUNK_BYTES):
            yield chunk
        yield None
        time.sleep(INTERVAL_SECONDS)
        with suppress(OSError):  # between the removal of a log and its successor there is none
            now, open_file = path.stat(), os.fstat(file.fileno())
            if now.st_size < file.tell():
                file.seek(0)
                yield b""
            elif now.st_ino != open_file.st_ino:
                file = path.open("rb")  # the caller closes the first one, the end of the process this
                yield b""


def watch_live(source: Iterator[bytes | None], console: Console, *, every_step: bool) -> None:
    """Redraw the last build of the log in place."""
    reader = LogReader()
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        for chunk in source:
            if chunk is None:
                live.update(view(reader.reading(), console, every_step=every_step), refresh=True)
            elif chunk:
                reader.feed(chunk)
            else:
                reader = LogReader()
        reader.finish()
        live.update(view(reader.reading(), console, every_step=every_step), refresh=True)


def view(reading: LogReading, console: Console, *, every_step: bool) -> Group:
    """Return the last build, as many of its latest lines as the screen holds, its head and its figures always."""
    if not reading.builds:
        return Group(Text(f"Waiting for a build … {plural(reading.lines, 'line')} read.", style="dim"))
    build = reading.builds[-1]
    lines = table.build_lines(build, width=console.width, ascii_only=table.is_ascii(console), every_step=every_step)
    room = max(console.height - 2, 5)
    if len(lines) > room:
        hidden = len(lines) - room + 1
        lines = [lines[0], Text(f"  … {plural(hidden, 'line')} above", style="dim"), *lines[1 + hidden :]]
    for line in lines:
        line.no_wrap, line.overflow = True, "crop"
    return Group(*lines)


def watch_plain(source: Iterator[bytes | None], console: Console) -> None:
    """Print every step once, when it is finished, and the figures of a build when it is over."""
    reader = LogReader()
    told: set[tuple[int, int]] = set()
    over: set[int] = set()

    def tell() -> None:
        for number, build in enumerate(reader.reading().builds):
            for position, step in enumerate(build.steps):
                if (number, position) not in told and step.kind == StepKind.INSTRUCTION and step.status in FINISHED:
                    told.add((number, position))
                    print(step_line(step))
            if number not in over and build.outcome != Outcome.INCOMPLETE:
                over.add(number)
                print(build_line(build, console))
        sys.stdout.flush()

    for chunk in source:
        if chunk is None:
            tell()
        elif chunk:
            reader.feed(chunk)
        else:
            reader = LogReader()
            told.clear()
            over.clear()
    reader.finish()
    tell()


def step_line(step: Step) -> str:
    """Return one finished step as a line of text."""
    state = table.state_of(step, is_break=False)
    return f"{state.word:<9} {duration(step.duration_seconds):>12}  {table.place(step)} {printable(step.text)}".rstrip()


def build_line(build: Build, console: Console) -> str:
    """Return the end of a build as a line of text."""
    line = table.header(build)
    line.append(" ·")
    line.append_text(table.figures_line(build))
    return (table.plain_ascii(line) if table.is_ascii(console) else line).plain
