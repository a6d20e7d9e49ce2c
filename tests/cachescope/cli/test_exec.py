"""`cachescope exec`: the build runs as if nobody stood between, and its log arrives afterwards."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from backports import zstd

from cachescope.cli.exec import outcome_of
from cachescope.cli.running import MAX_RECORD_BYTES, Recorder

from .conftest import clean_environment

OFF = "--upload-seconds=0"
BUILD = "echo '#1 [1/1] RUN true' >&2; echo '#1 DONE 0.1s' >&2; echo out"


def test_output_and_status_pass_through_unchanged(cachescope: Callable) -> None:
    done = cachescope("exec", OFF, "--", "sh", "-c", "printf 'a\\r\\n\\033[1mb'; printf 'c' >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"a\r\n\x1b[1mb", b"c")


def test_input_passes_through(cachescope: Callable) -> None:
    assert cachescope("exec", OFF, "cat", "-", stdin=b"abc\0def").stdout == b"abc\0def"


def test_options_of_the_build_are_not_ours(cachescope: Callable) -> None:
    assert cachescope("exec", OFF, "echo", "--help", "--version", "-x").stdout == b"--help --version -x\n"


def test_bytes_of_an_image_on_standard_output_pass_through(cachescope: Callable) -> None:
    done = cachescope("exec", OFF, "--", "head", "-c", "3000000", "/dev/zero")
    assert len(done.stdout) == 3_000_000


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["no-such-program"], 127),
        (["/"], 126),
        (["sh", "-c", "kill -TERM $$"], 143),
        (["sh", "-c", "kill -KILL $$"], 137),
        (["true"], 0),
    ],
)
def test_the_status_is_what_a_shell_would_give(cachescope: Callable, command: list[str], status: int) -> None:
    assert cachescope("exec", OFF, "--", *command).returncode == status


def test_the_log_arrives_with_its_outcome(cachescope: Callable, receiver, server_settings: dict[str, str]) -> None:
    done = cachescope("exec", "--image", "api", "--", "sh", "-c", f"{BUILD}; exit 3", environment=server_settings)
    assert done.returncode == 3
    assert done.stdout == b"out\n"
    assert f"The build's cache: {receiver.url}/deliveries/d1" in done.stderr.decode()
    [request] = receiver.requests
    assert request["query"]["outcome"] == "failed"
    assert request["query"]["image"] == "api"
    assert sorted(receiver.logs()[0].splitlines()) == [b"#1 DONE 0.1s", b"#1 [1/1] RUN true", b"out"]


def test_a_token_given_as_an_option_is_in_no_process_list(cachescope: Callable, receiver) -> None:
    done = cachescope(
        "exec", "--url", receiver.url, "--token", "cs_other", "--", "sh", "-c", BUILD, environment={"NO_PROXY": "*"}
    )
    assert done.returncode == 0
    assert receiver.requests[0]["headers"]["Authorization"] == "Bearer cs_other"


def kept_command(stderr: bytes) -> list[str]:
    line = stderr.decode().splitlines()[-1]
    assert line.startswith("  cachescope push ")
    return line.split()[1:]


def test_a_server_that_is_down_fails_nothing_and_the_printed_command_sends_the_log_later(
    cachescope: Callable, receiver, tmp_path: Path
) -> None:
    settings = {"CACHESCOPE_URL": "http://127.0.0.1:9", "CACHESCOPE_TOKEN": "t", "NO_PROXY": "*"}
    done = cachescope("exec", "--job=image", "--", "sh", "-c", BUILD, environment=settings)
    assert (done.returncode, done.stdout) == (0, b"out\n")
    words = kept_command(done.stderr)
    assert "--url=http://127.0.0.1:9" in words
    again = [word.replace("http://127.0.0.1:9", receiver.url) for word in words]
    assert cachescope(*again, environment={"CACHESCOPE_TOKEN": "t", "NO_PROXY": "*"}).returncode == 0
    assert b"#1 [1/1] RUN true" in receiver.logs()[0]
    assert receiver.requests[0]["query"]["job"] == "image"
    assert receiver.requests[0]["query"]["outcome"] == "succeeded"


def test_a_slow_server_delays_the_build_by_no_more_than_the_limit(
    cachescope: Callable, receiver, server_settings: dict[str, str]
) -> None:
    receiver.delay_seconds = 8
    start = time.monotonic()
    done = cachescope("exec", "--upload-seconds=2", "--", "sh", "-c", BUILD, environment=server_settings)
    assert time.monotonic() - start < 7
    assert done.returncode == 0
    assert b"The server took longer than 2 s." in done.stderr
    assert kept_command(done.stderr)


def test_nothing_set_up_keeps_the_log_and_says_so(cachescope: Callable, tmp_path: Path) -> None:
    done = cachescope("exec", "--", "sh", "-c", BUILD)
    assert done.returncode == 0
    assert b"No server is set." in done.stderr
    [kept] = (tmp_path / "state" / "cachescope" / "logs").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_cannot_be_written_fails_no_build(cachescope: Callable, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    done = cachescope("exec", "--", "sh", "-c", BUILD, environment={"CACHESCOPE_LOGS": str(tmp_path / "file" / "logs")})
    assert done.returncode == 0
    assert b"The log was not sent:" in done.stderr


def test_a_build_that_prints_nothing_sends_nothing(
    cachescope: Callable, receiver, server_settings: dict[str, str]
) -> None:
    done = cachescope("exec", "true", environment=server_settings)
    assert (done.returncode, done.stderr) == (0, b"")
    assert receiver.requests == []


def test_kept_and_recorded_logs_hold_no_secret(cachescope: Callable, tmp_path: Path) -> None:
    record = tmp_path / "log.txt"
    secret = "hunter2hunter2"
    command = ["sh", "-c", f"echo NPM_TOKEN={secret} >&2", "--build-arg", f"DB_PASSWORD={secret}"]
    done = cachescope("exec", "--record", record, "--", *command)
    assert done.returncode == 0
    assert record.read_text() == "NPM_TOKEN=[redacted: token]\n"
    words = json.loads((tmp_path / "log.txt.command.json").read_text())
    assert words[:2] == ["sh", "-c"]
    assert secret not in str(words)
    [kept] = (tmp_path / "state" / "cachescope" / "logs").iterdir()
    assert zstd.decompress(kept.read_bytes()) == record.read_bytes()


def start(tmp_path: Path, *command: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "cachescope", "exec", OFF, "--", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(tmp_path),
        start_new_session=True,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_reach_the_build(tmp_path: Path, number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    with start(
        tmp_path, "sh", "-c", f"trap 'echo got {name}; exit 5' {name}; echo ready; while :; do sleep 0.05; done"
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == f"got {name}\n".encode()
    assert process.returncode == 5


def test_a_program_left_in_the_background_is_not_waited_for(tmp_path: Path) -> None:
    begin = time.monotonic()
    with start(tmp_path, "sh", "-c", "sleep 20 & echo done") as process:
        assert process.wait(timeout=15) == 0
        assert process.stdout is not None
        assert os.read(process.stdout.fileno(), 100) == b"done\n"
    assert time.monotonic() - begin < 15


def test_a_reader_that_goes_away_ends_the_build_as_it_would_without_us(tmp_path: Path) -> None:
    with start(tmp_path, "sh", "-c", "yes") as process:
        assert process.stdout is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.wait(timeout=20) == 128 + signal.SIGPIPE


class Terminal:
    """`cachescope exec` on a pseudo-terminal."""

    def __init__(self, folder: Path, *arguments: str, rows: int = 33, columns: int = 99) -> None:
        gate, self._gate = os.pipe()
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.read(gate, 1)  # until the window has its size
            command = [sys.executable, "-P", "-m", "cachescope", "exec", *arguments]
            os.execve(sys.executable, command, clean_environment(folder, TERM="xterm"))
        os.close(gate)
        self.resize(rows, columns)
        os.write(self._gate, b"x")
        os.close(self._gate)
        self.drawn = b""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def write(self, keys: bytes) -> None:
        os.write(self.terminal, keys)

    def read_until(self, text: bytes) -> None:
        end = time.monotonic() + 30
        while text not in self.drawn and time.monotonic() < end:
            self.drawn += os.read(self.terminal, 65536)
        assert text in self.drawn

    def finish(self) -> int:
        try:
            while piece := os.read(self.terminal, 65536):
                self.drawn += piece
        except OSError:  # how Linux says that the other side is closed
            pass
        os.close(self.terminal)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_on_a_terminal_the_build_has_a_terminal_of_the_same_size(tmp_path: Path) -> None:
    build = Terminal(tmp_path, OFF, "--", "sh", "-c", "test -t 0 && test -t 1 && test -t 2 && stty size")
    assert build.finish() == 0
    assert build.drawn == b"33 99\r\n"


def test_keys_and_changes_of_the_window_reach_the_build(tmp_path: Path) -> None:
    build = Terminal(tmp_path, OFF, "--", "sh", "-c", "echo ready; read line; echo got $line; stty size")
    build.read_until(b"ready")
    build.resize(22, 88)
    build.write(b"abc\r")
    assert build.finish() == 0
    assert b"got abc\r\n22 88\r\n" in build.drawn


def test_ctrl_c_is_a_signal_for_the_build(tmp_path: Path) -> None:
    build = Terminal(
        tmp_path, OFF, "--", "sh", "-c", "trap 'echo cleaning; exit 130' INT; echo ready; while :; do sleep 0.05; done"
    )
    build.read_until(b"ready")
    build.write(b"\x03")
    assert build.finish() == 130
    assert b"cleaning" in build.drawn


def test_what_a_terminal_showed_is_recorded(tmp_path: Path) -> None:
    record = tmp_path / "log.txt"
    build = Terminal(tmp_path, OFF, "--record", str(record), "--", "sh", "-c", "printf 'one\\ntwo\\n' >&2; echo three")
    assert build.finish() == 0
    assert record.read_bytes() == b"one\r\ntwo\r\nthree\r\n"
    assert build.drawn == record.read_bytes()


def test_a_pipe_beside_a_terminal_stays_a_pipe(tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    script = (
        f'"{sys.executable}" -P -m cachescope exec {OFF} -- sh -c "test -t 2 && test ! -t 1 && echo bytes" > {output}'
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve("/bin/sh", ["sh", "-c", script], clean_environment(tmp_path))
    drawn = b""
    try:
        while piece := os.read(terminal, 65536):
            drawn += piece
    except OSError:  # how Linux says that the other side is closed
        pass
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert output.read_bytes() == b"bytes\n"
    assert drawn == b""


def test_a_record_keeps_lines_of_two_streams_whole_and_stops_at_its_cap(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+b") as file:
        recorder = Recorder(file)
        recorder.add("output", b"one ")
        recorder.add("error", b"two\nthr")
        recorder.add("output", b"and\n")
        recorder.add("error", b"ee")
        recorder.add("binary", b"text\n\0")
        recorder.add("binary", b"more\n")
        recorder.finish()
        file.seek(0)
        assert file.read() == b"two\none and\nthree"
        recorder._written = MAX_RECORD_BYTES
        recorder.add("output", b"past the end\n")
        recorder.add("output", b"past the end\n")
        assert recorder.is_clipped


def test_an_outcome_follows_from_the_status() -> None:
    assert [outcome_of(status) for status in (0, 1, 130, 143, 137)] == [
        "succeeded",
        "failed",
        "canceled",
        "canceled",
        "failed",
    ]
