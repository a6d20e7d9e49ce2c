"""Runs several programs as one: starts them, shows their lines under their names, restarts what dies, stops them all.

Every child leads a session of its own, so that Ctrl-C reaches only us and we stop the children in order; whatever a
child leaves behind (a pool's workers, a server's helpers) is in its process group and goes with it.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
STEADY_SECONDS = 60.0
"""A child that ran this long has earned a fresh start of the pauses."""
GRACE_SECONDS = 8.0
_COLOURS = (36, 33, 35, 32, 34)


@dataclass
class Child:
    """One program: its command, what it adds to the environment, and how it is faring."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    pass_fds: tuple[int, ...] = ()
    is_needed_by_others: bool = False
    """Ends only when all others have ended."""
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restart_at: float = 0.0
    pause_seconds: float = FIRST_PAUSE_SECONDS
    reader: threading.Thread | None = None


class Supervisor:
    """Keeps children running until it is told to stop; `on_change` is called with the pids whenever they change."""

    def __init__(
        self, output: IO[str] | None = None, on_change: Callable[[dict[str, int]], None] | None = None
    ) -> None:
        self.output = output or sys.stdout
        self.children: list[Child] = []
        self.stopping = threading.Event()
        self._on_change = on_change or (lambda _pids: None)
        self._write_lock = threading.Lock()

    def say(self, line: str) -> None:
        """Print one line of our own; lines of children never run into it."""
        with self._write_lock, contextlib.suppress(OSError, ValueError):  # a terminal that has gone away
            print(line, file=self.output, flush=True)

    def start(self, child: Child) -> None:
        """Start a child and pass its lines on."""
        child.process = subprocess.Popen(  # noqa: S603 - programs that we name ourselves
            list(child.command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **child.environment},
            pass_fds=child.pass_fds,
            start_new_session=True,
        )
        child.started_at = time.monotonic()
        if child not in self.children:
            self.children.append(child)
        child.reader = threading.Thread(target=self._pass_on, args=(child, child.process), daemon=True)
        child.reader.start()
        self._on_change(self.pids())

    def pids(self) -> dict[str, int]:
        """Return the process id of every running child by its name."""
        return {child.name: child.process.pid for child in self.children if child.process is not None}

    def check(self) -> None:
        """Look at every child once: restart those whose pause is over."""
        now = time.monotonic()
        for child in self.children:
            if child.process is None:
                if now >= child.restart_at:
                    self.start(child)
                continue
            status = child.process.poll()
            if status is None:
                continue
            end_group(child.process.pid)
            child.process = None
            if now - child.started_at >= STEADY_SECONDS:
                child.pause_seconds = FIRST_PAUSE_SECONDS
            child.restart_at = now + child.pause_seconds
            self.say(f"{child.name} {describe_end(status)}; starting it again in {child.pause_seconds:g} s.")
            child.pause_seconds = min(child.pause_seconds * 2, LONGEST_PAUSE_SECONDS)
            self._on_change(self.pids())

    def run(self) -> None:
        """Watch over the children until `stopping` is set, then stop them."""
        try:
            while not self.stopping.wait(0.2):
                self.check()
        finally:
            self.stop()

    def stop(self) -> None:
        """Ask every child to end, what others need last, and end by force what has not gone in time."""
        self.stopping.set()
        for is_last in (False, True):
            self._stop([child for child in self.children if child.is_needed_by_others is is_last])
        self._on_change({})

    def _stop(self, children: Sequence[Child]) -> None:
        deadline = time.monotonic() + GRACE_SECONDS
        running = [(child, child.process) for child in children if child.process is not None]
        for _, process in running:
            process.terminate()  # only the leader: a pool ends its workers in its own order
        for child, process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
            end_group(process.pid)
            process.wait()
            child.process = None
            if child.reader is not None:
                child.reader.join(timeout=1)  # its last words

    @contextlib.contextmanager
    def stopped_by_signals(self) -> Iterator[None]:
        """Stop at Ctrl-C, SIGTERM and a closed terminal; a second one ends everything by force at once."""

        def on_signal(_number: int, _frame: object) -> None:
            if self.stopping.is_set():
                for pid in self.pids().values():
                    end_group(pid)
            self.stopping.set()

        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, on_signal) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _pass_on(self, child: Child, process: subprocess.Popen[bytes]) -> None:
        name = f"{child.name:<9} │ "
        if self.output.isatty():
            colour = _COLOURS[self.children.index(child) % len(_COLOURS)]
            name = f"\x1b[{colour}m{name}\x1b[0m"
        stream = process.stdout
        if stream is None:
            raise AssertionError("children are started with a pipe")
        with stream:
            for line in iter(lambda: stream.readline(64 * 1024), b""):
                self.say(name + line.decode(errors="replace").rstrip())


def end_group(pid: int) -> None:
    """Kill whatever is left of the process group that a child led."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def describe_end(status: int) -> str:
    """Say in words how a process ended."""
    if status < 0:
        try:
            return f"was ended by {signal.Signals(-status).name}"
        except ValueError:
            return f"was ended by signal {-status}"
    return f"ended with status {status}"
