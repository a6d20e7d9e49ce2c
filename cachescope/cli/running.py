"""Runs a program as if nobody stood between: output, status, signals and terminal pass through, a copy is recorded.

Each of standard output and error that is a terminal becomes a terminal for the program too (one pseudo-terminal for
both), so that it draws what it would have drawn; each that is not becomes a pipe. Standard input is handed over as it
is, but for a terminal whose output we stand in front of: its keys are passed on, in raw mode, so that Ctrl-C is a
signal for the program and not for us.
"""

import contextlib
import errno
import fcntl
import os
import select
import signal
import subprocess
import termios
import tty
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Final

PIECE: Final = 64 * 1024
MAX_RECORD_BYTES: Final = 256 * 1024 * 1024
NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
FORWARDED: Final = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGCONT")
    if hasattr(signal, name)
)


class Recorder:
    """Writes what a program prints into a file, whole lines of one stream at a time, up to a cap."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.is_clipped = False
        self._lines: dict[str, bytearray] = {}
        self._binary: set[str] = set()
        self._written = 0

    def add(self, stream: str, chunk: bytes) -> None:
        """Take a piece of output; a stream that is no text (an image on standard output) is left out from there on."""
        if self.is_clipped or stream in self._binary:
            return
        line = self._lines.setdefault(stream, bytearray())
        if b"\0" in chunk:
            self._binary.add(stream)
            line.clear()
            return
        line += chunk
        cut = max(line.rfind(b"\n"), line.rfind(b"\r")) + 1
        if cut or len(line) > PIECE:
            self._write(bytes(line[: cut or len(line)]))
            del line[: cut or len(line)]

    def finish(self) -> None:
        """Write the lines that lack their end."""
        for line in self._lines.values():
            self._write(bytes(line))
        self.file.flush()

    def _write(self, text: bytes) -> None:
        if self._written + len(text) > MAX_RECORD_BYTES:
            self.is_clipped = True
            return
        self._written += len(text)
        self.file.write(text)


def run(command: Sequence[str], recorder: Recorder) -> int:
    """Run a program to its end and return its status as a shell would: 128 and the signal's number when one killed it.

    Raises FileNotFoundError or PermissionError when there is nothing to run.
    """
    with contextlib.ExitStack() as stack:
        streams = open_streams(stack)
        # Held back until somebody is there to hand them to.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
        try:
            child = start(command, streams, mask)
            stack.enter_context(forward_signals(child, streams))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            for descriptor in streams.of_child:
                os.close(descriptor)
        if streams.keyboard is not None:
            stack.enter_context(raw_mode(streams.keyboard))
        pump(child, streams, recorder)
        status = child.wait()
    recorder.finish()
    return status if status >= 0 else 128 - status


@dataclass(slots=True)
class Streams:
    """The descriptors between us, the program and whoever called us."""

    child_input: int | None = None
    child_output: int | None = None
    child_error: int | None = None
    sources: dict[int, tuple[str, int]] = field(default_factory=dict)
    """What we read from the program: descriptor → name of the stream, and where its bytes go."""
    master: int | None = None
    keyboard: int | None = None
    terminal: int | None = None
    """Our terminal, whose size is the program's."""
    of_child: list[int] = field(default_factory=list)


def open_streams(stack: contextlib.ExitStack) -> Streams:
    """Open a pseudo-terminal for what is a terminal and pipes for the rest."""
    streams = Streams()
    terminals = [number for number in (1, 2) if os.isatty(number)]
    if terminals:
        streams.terminal = terminals[0]
        master, slave = os.openpty()
        stack.callback(close_quietly, master)
        streams.master = master
        streams.of_child.append(slave)
        streams.sources[master] = ("terminal", terminals[0])
        if os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp():
            streams.keyboard, streams.child_input = 0, slave
        set_up_terminal(slave, streams)
    for number, name in ((1, "output"), (2, "error")):
        if number in terminals:
            side = slave
        else:
            source, side = os.pipe()
            stack.callback(close_quietly, source)
            streams.sources[source] = (name, number)
            streams.of_child.append(side)
        if number == 1:
            streams.child_output = side
        else:
            streams.child_error = side
    return streams


def set_up_terminal(slave: int, streams: Streams) -> None:
    """Give the pseudo-terminal the manners and the size of ours."""
    terminal = streams.terminal if streams.terminal is not None else 1
    with contextlib.suppress(termios.error, OSError):
        attributes = termios.tcgetattr(terminal)
        if streams.keyboard is None:
            # Our terminal stays as it is and turns line feeds into line ends itself: twice would be one too many.
            attributes[1] &= ~termios.OPOST
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        copy_size(terminal, slave)


def copy_size(source: int, target: int) -> None:
    """Give one terminal the size of another."""
    with contextlib.suppress(OSError):
        fcntl.ioctl(target, termios.TIOCSWINSZ, fcntl.ioctl(source, termios.TIOCGWINSZ, b"\0" * 8))


def start(command: Sequence[str], streams: Streams, mask: "set[int | signal.Signals]") -> "subprocess.Popen[bytes]":
    """Start the program; with our keyboard it gets a session of its own, whose terminal is the pseudo-terminal."""
    owns_terminal = streams.keyboard is not None

    def prepare() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if owns_terminal:
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    return subprocess.Popen(  # noqa: S603  # running what was asked for is the point
        list(command),
        stdin=streams.child_input,
        stdout=streams.child_output,
        stderr=streams.child_error,
        preexec_fn=prepare,  # noqa: PLW1509  # no thread runs yet
        close_fds=True,
    )


@contextlib.contextmanager
def raw_mode(keyboard: int) -> Iterator[None]:
    """Pass keys on unread, and give the terminal back as it was."""
    before = termios.tcgetattr(keyboard)
    try:
        tty.setraw(keyboard, termios.TCSANOW)
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


@contextlib.contextmanager
def forward_signals(child: "subprocess.Popen[bytes]", streams: Streams) -> Iterator[None]:
    """Hand the signals that we get to the program; changes of the window too."""

    def forward(number: int, _frame: Any) -> None:
        if number in (signal.SIGINT, signal.SIGQUIT) and is_interactive():
            return  # the terminal has sent it to the program as well
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(number)

    def resize(_number: int, _frame: Any) -> None:
        if streams.terminal is not None and streams.master is not None:
            copy_size(streams.terminal, streams.master)
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(signal.SIGWINCH)

    before = {
        number: signal.signal(number, forward) for number in FORWARDED if signal.getsignal(number) != signal.SIG_IGN
    }
    before[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, resize)
    # Between the start of the program and now the window may have changed.
    resize(signal.SIGWINCH, None)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def is_interactive() -> bool:
    """Tell whether the keys of a terminal reach our process group, and with it the program."""
    with contextlib.suppress(OSError):
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
        try:
            return os.tcgetpgrp(terminal) == os.getpgrp()
        finally:
            os.close(terminal)
    return False


def pump(child: "subprocess.Popen[bytes]", streams: Streams, recorder: Recorder) -> None:
    """Pass everything on until the program has ended and what it printed is through.

    A program that it left running in the background may hold the pipes open: nobody waits for that one.
    """
    poller = select.poll()
    for source in streams.sources:
        poller.register(source, select.POLLIN | select.POLLHUP)
    if streams.keyboard is not None:
        poller.register(streams.keyboard, select.POLLIN)
    sources = dict(streams.sources)
    while sources:
        has_ended = child.poll() is not None
        events = poller.poll(0 if has_ended else 50)
        if has_ended and not any(source in sources for source, _ in events):
            return
        for source, _ in events:
            if source == streams.keyboard:
                pass_keys(source, streams, poller)
            elif source in sources and not pass_output(source, sources[source], recorder):
                poller.unregister(source)
                # A pipe that nobody reads behind us is closed: the program finds out as it would without us.
                close_quietly(source)
                del sources[source]
    child.wait()


def pass_output(source: int, target: tuple[str, int], recorder: Recorder) -> bool:
    """Pass on one piece; False at the end, or when nobody reads it any more."""
    try:
        chunk = os.read(source, PIECE)
    except OSError as error:
        if error.errno != errno.EIO:  # how Linux says that nobody has the other side of a pseudo-terminal open
            raise
        return False
    if not chunk:
        return False
    recorder.add(target[0], chunk)
    try:
        write_all(target[1], chunk)
    except BrokenPipeError:
        return False
    return True


def pass_keys(keyboard: int, streams: Streams, poller: "select.poll") -> None:
    """Pass on what was typed."""
    chunk = os.read(keyboard, PIECE)
    if not chunk or streams.master is None:
        poller.unregister(keyboard)
        return
    with contextlib.suppress(OSError):  # the program may be gone
        write_all(streams.master, chunk)


def write_all(target: int, chunk: bytes) -> None:
    """Write a piece to its end, also to a descriptor that somebody made non-blocking."""
    view = memoryview(chunk)
    while view:
        try:
            view = view[os.write(target, view) :]
        except BlockingIOError:
            select.select([], [target], [])


def close_quietly(descriptor: int) -> None:
    """Close a descriptor that may be closed already."""
    with contextlib.suppress(OSError):
        os.close(descriptor)
