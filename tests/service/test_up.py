"""`cachescope up` for real: from an empty folder to a build's page, with and without Redis, and a clean end."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from cachescope.errors import SettingsError
from service.local import DataFolder, process_start
from service.processes import Supervisor
from service.up import find_broker, listen, socket_path
from tests.servers import miss
from tests.serving import wait_for

ROOT = Path(__file__).resolve().parents[2]
MARK = re.compile(r"^(Queue|Open|Sign in|Send a log|Look at a demo)[: ]+(.*)$", re.MULTILINE)


@dataclass
class Terminal:
    """A terminal in which `up` runs."""

    folder: Path
    path: str
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> dict[str, str]:
        """Start `up` and return what it says, by the first word, once it can be opened."""
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("CACHESCOPE", "REDIS"))
        }
        environment["PATH"] = self.path
        with (self.folder / "output").open("wb") as output:
            self.process = subprocess.Popen(
                [Path(sys.executable).with_name("cachescope"), "up"],
                cwd=self.folder,
                env=environment | {"PYTHONPATH": str(ROOT)},
                stdout=output,
                stderr=output,
            )
        wait_for(lambda: "\nOpen http" in self.output() or self.process.poll() is not None, "up to be ready")
        time.sleep(0.1)
        assert self.process.poll() is None, self.output()
        return dict(MARK.findall(self.output()))

    def output(self) -> str:
        """What stands in the terminal."""
        return (self.folder / "output").read_text()

    def children(self) -> dict[str, int]:
        """The process of each child."""
        state = DataFolder(self.folder / ".cachescope").state()
        return {name: pid for name, (pid, _) in state["children"].items()}

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Press Ctrl-C, or the like, and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture(scope="module", params=["files", "redis"])
def terminal(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """A terminal on a machine with nothing but Python, or with Redis too."""
    path = str(Path(sys.executable).parent)
    if request.param == "redis":
        server = shutil.which("valkey-server") or shutil.which("redis-server")
        if server is None:
            miss("No valkey-server or redis-server on PATH.")
        path += os.pathsep + str(Path(server).parent)
    opened = Terminal(tmp_path_factory.mktemp("up"), path)
    yield opened
    if opened.process and opened.process.poll() is None:
        opened.process.kill()
        opened.process.wait()
        DataFolder(opened.folder / ".cachescope").acquire()


@pytest.mark.slow
def test_from_an_empty_folder_to_the_page_of_a_build(terminal: Terminal) -> None:
    said = terminal.start()
    assert ("queue" in terminal.children()) == ("-server, on a socket" in said["Queue"])
    page = httpx.get(said["Sign in"])
    assert page.status_code == 200
    assert said["Sign in"].startswith(said["Open"] + "/setup/")
    began = time.monotonic()
    line = said["Send a log"]
    sent = subprocess.run(["sh", "-c", line], cwd=terminal.folder, capture_output=True, text=True, check=False)
    assert re.fullmatch(rf"{said['Open']}/builds/1\n", sent.stdout), sent.stderr
    assert time.monotonic() - began < 10

    # A worker that dies comes back, and Ctrl-C leaves nobody behind.
    before = terminal.children()
    os.kill(before["worker"], signal.SIGKILL)
    wait_for(lambda: terminal.children().get("worker", before["worker"]) != before["worker"], "a new worker")
    pids = terminal.children()
    assert {name: pid for name, pid in pids.items() if name != "worker"} == {
        name: pid for name, pid in before.items() if name != "worker"
    }
    assert terminal.stop() == 0
    assert terminal.output().endswith("Stopped.\n")
    assert [name for name, pid in (pids | before).items() if process_start(pid)] == []

    # A second start remembers: the same data, no second token, no second account for free.
    again = terminal.start()
    assert "Send a log" not in again
    assert terminal.stop(signal.SIGTERM) == 0


def test_the_port_is_8000_or_the_next_free_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SettingsError, match=r"Port \d+ on 127\.0\.0\.1 cannot be used: Address already in use"):
            listen("127.0.0.1", taken.getsockname()[1])
    with listen("127.0.0.1", 0) as first, listen("127.0.0.1", 0) as second:
        ports = [listener.getsockname()[1] for listener in (first, second)]
        assert 8000 <= ports[0] < ports[1]


def test_a_redis_of_ones_own_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://queue.example:6379/0")
    supervisor = Supervisor()
    assert find_broker(DataFolder(tmp_path), supervisor) == {}
    assert supervisor.children == []


def test_a_data_folder_with_a_long_path_gets_its_socket_elsewhere(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 120)
    path = socket_path(deep)
    assert len(os.fsencode(path)) <= 100
    assert path == socket_path(deep) != socket_path(tmp_path / ("y" * 120))
    assert path.parent.stat().st_mode & 0o077 == 0
    assert socket_path(Path("/srv/cachescope")) == Path("/srv/cachescope/redis.sock")


def test_a_folder_for_the_socket_that_others_can_enter_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    deep = tmp_path / ("x" * 120)
    socket_path(deep).parent.chmod(0o777)
    with pytest.raises(SettingsError, match="belongs to somebody else"):
        socket_path(deep)
