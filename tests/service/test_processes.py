"""Several programs run as one: their lines, their restarts, and an end that leaves nothing behind."""

import io
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.processes import Child, Supervisor, describe_end, end_group


@pytest.fixture
def output() -> io.StringIO:
    """What a terminal would show."""
    return io.StringIO()


@pytest.fixture
def supervisor(output: io.StringIO) -> Iterator[Supervisor]:
    """A supervisor whose children end with the test."""
    running = Supervisor(output)
    yield running
    running.stop()


def python(name: str, program: str) -> Child:
    """A child that runs a few lines of Python."""
    return Child(name, [sys.executable, "-c", program])


def wait_for(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and waits for its parent does not."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_every_line_stands_under_the_name_of_its_child(supervisor: Supervisor, output: io.StringIO) -> None:
    supervisor.start(python("web", "import sys; print('ready', flush=True); print('careful', file=sys.stderr)"))
    wait_for(lambda: output.getvalue().count("\n") == 2)
    assert output.getvalue() == "web       │ ready\nweb       │ careful\n"


def test_bytes_that_are_no_text_do_not_stop_the_lines(supervisor: Supervisor, output: io.StringIO) -> None:
    supervisor.start(python("web", "import os; os.write(1, b'\\xff\\n' + b'x' * 70000 + b'\\nend\\n')"))
    wait_for(lambda: output.getvalue().endswith("end\n"))
    assert output.getvalue().startswith("web       │ �\n")


def test_a_dead_child_is_started_again_after_a_pause_that_doubles(supervisor: Supervisor, output: io.StringIO) -> None:
    child = python("worker", "raise SystemExit(3)")
    child.pause_seconds = 0.05
    supervisor.start(child)
    for pause in ("0.05", "0.1", "0.2"):
        sentence = f"worker ended with status 3; starting it again in {pause} s.\n"
        wait_for(lambda sentence=sentence: supervisor.check() or sentence in output.getvalue())
    assert child.pause_seconds == pytest.approx(0.4)


def test_a_child_that_ran_for_long_is_started_again_soon(supervisor: Supervisor, output: io.StringIO) -> None:
    child = python("worker", "pass")
    child.pause_seconds = 30
    supervisor.start(child)
    child.started_at -= 3600
    wait_for(lambda: supervisor.check() or "again in 0.5 s" in output.getvalue())


def test_the_end_of_a_child_ends_what_it_left_behind(supervisor: Supervisor, output: io.StringIO) -> None:
    program = "import subprocess as s, sys; print(s.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid)"
    supervisor.start(python("worker", program))
    wait_for(lambda: "│" in output.getvalue())
    left_behind = int(output.getvalue().split("│")[1])
    wait_for(lambda: supervisor.check() or not is_alive(left_behind))


def test_stopping_ends_what_others_need_last_and_leaves_no_grandchild(
    supervisor: Supervisor, output: io.StringIO
) -> None:
    program = (
        "import signal, subprocess, sys, time\n"
        "helper = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('goodbye', flush=True)))\n"
        "print(helper.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    for name in ("queue", "web"):
        child = python(name, program)
        child.is_needed_by_others = name == "queue"
        supervisor.start(child)
        wait_for(lambda name=name: f"{name:<9} │" in output.getvalue())
    helpers = [int(line.split("│")[1]) for line in output.getvalue().splitlines()]
    supervisor.stop()
    goodbyes = [line.split()[0] for line in output.getvalue().splitlines() if "goodbye" in line]
    assert goodbyes == ["web", "queue"]
    wait_for(lambda: not any(map(is_alive, helpers)))  # killed, but the kernel takes its time
    assert supervisor.pids() == {}


def test_a_child_that_does_not_listen_is_ended_by_force(
    supervisor: Supervisor, output: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.processes.GRACE_SECONDS", 0.3)
    program = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    supervisor.start(python("web", program))
    wait_for(lambda: "deaf" in output.getvalue())
    pid = supervisor.pids()["web"]
    supervisor.stop()
    assert not is_alive(pid)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything(supervisor: Supervisor, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    child = python("web", "import time; time.sleep(600)")
    with supervisor.stopped_by_signals():
        supervisor.start(child)
        pid = supervisor.pids()["web"]
        os.kill(os.getpid(), number)
        supervisor.run()
    assert not is_alive(pid)
    assert signal.getsignal(number) == before


def test_a_second_signal_does_not_wait_for_anybody(supervisor: Supervisor, output: io.StringIO) -> None:
    program = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    with supervisor.stopped_by_signals():
        supervisor.start(python("web", program))
        wait_for(lambda: "deaf" in output.getvalue())
        pid = supervisor.pids()["web"]
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        wait_for(lambda: not is_alive(pid), seconds=2)


def test_whoever_asked_hears_of_every_change_of_pids(output: io.StringIO) -> None:
    heard: list[dict[str, int]] = []
    supervisor = Supervisor(output, heard.append)
    supervisor.start(python("web", "import time; time.sleep(600)"))
    supervisor.stop()
    assert [sorted(pids) for pids in heard] == [["web"], []]


def test_a_terminal_that_went_away_stops_nobody() -> None:
    closed = io.StringIO()
    closed.close()
    Supervisor(closed).say("nobody hears this")


@pytest.mark.parametrize(
    ("status", "words"), [(0, "ended with status 0"), (-9, "was ended by SIGKILL"), (-250, "was ended by signal 250")]
)
def test_the_end_of_a_process_is_told_in_words(status: int, words: str) -> None:
    assert describe_end(status) == words


def test_ending_a_group_that_is_gone_is_no_error() -> None:
    end_group(2**22 - 3)
