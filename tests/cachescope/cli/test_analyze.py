"""`cachescope analyze`: files of every kind in, one document per log or a table out."""

import gzip
import io
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from cachescope.cli import words
from cachescope.cli.document import document, timestamp
from cachescope.cli.table import middle
from cachescope.model import LogReading

from .conftest import clean_environment

CONTRACT = ["schema", "file", "wrapper", "lines", "warnings", "builds"]
BUILD = (
    "builder format outcome error started_at duration_seconds context_bytes images cache_imports cache_exports steps "
    "figures"
)
STEP = (
    "number kind target stage platform index total instruction text status cached cacheable started_seconds "
    "duration_seconds digest error output_lines"
)
FIGURES = ["cacheable", "hits", "misses", "unknown", "hit_rate", "seconds_spent"]


def documents(done: "subprocess.CompletedProcess[bytes]") -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_fields_stand_in_the_order_of_the_contract(cachescope: Callable, plain_log: Path) -> None:
    done = cachescope("analyze", "--json", plain_log)
    assert done.returncode == 0
    assert done.stderr == b""
    [found] = documents(done)
    assert list(found) == CONTRACT
    [build] = found["builds"]
    assert list(build)[: len(BUILD.split())] == BUILD.split()
    assert list(build["steps"][0])[: len(STEP.split())] == STEP.split()
    assert list(build["figures"]) == FIGURES
    assert found["file"] == str(plain_log)
    assert build["figures"]["cacheable"] == build["figures"]["hits"] + build["figures"]["misses"]


def test_every_packing_gives_the_same_document(cachescope: Callable, plain_log: Path, tmp_path: Path) -> None:
    log = plain_log.read_bytes()
    half = len(log) // 2
    (tmp_path / "a.gz").write_bytes(gzip.compress(log))
    (tmp_path / "b.gz").write_bytes(gzip.compress(log[:half]) + gzip.compress(log[half:]) + b"\0" * 512)
    (tmp_path / "c.zst").write_bytes(zstd.compress(log[:half]) + zstd.compress(log[half:]))
    (tmp_path / "d.log").write_bytes(log.decode().encode("utf-16"))
    (tmp_path / "e.log").write_bytes(b"\xef\xbb\xbf" + log)
    done = cachescope("analyze", "--json", plain_log, *sorted(tmp_path.glob("?.*")), "-", stdin=gzip.compress(log))
    found = documents(done)
    assert [item["file"].rsplit("/", 1)[-1] for item in found][1:] == ["a.gz", "b.gz", "c.zst", "d.log", "e.log", "-"]
    assert all(item["builds"] == found[0]["builds"] for item in found)


def test_a_zip_gives_one_document_per_member_in_its_order(
    cachescope: Callable, plain_log: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "run.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("2_build.txt", plain_log.read_bytes())
        archive.mkdir("build")
        archive.writestr("build/1_Set up job.txt", b"hello\n")
        archive.writestr("packed.gz", gzip.compress(plain_log.read_bytes()))
    done = cachescope("analyze", "--json", tmp_path / "run.zip")
    found = documents(done)
    assert [item["member"] for item in found] == ["2_build.txt", "build/1_Set up job.txt", "packed.gz"]
    assert list(found[0])[:3] == ["schema", "file", "member"]
    assert [len(item["builds"]) for item in found] == [1, 0, 1]
    piped = cachescope("analyze", "--json", "-", stdin=(tmp_path / "run.zip").read_bytes())
    assert [item["builds"] for item in documents(piped)] == [item["builds"] for item in found]


def test_a_build_record_gives_one_document_per_record(cachescope: Callable) -> None:
    records = sorted((Path(__file__).parents[1] / "formats" / "buildkit_record").glob("*.dockerbuild"))
    assert records
    found = documents(cachescope("analyze", "--json", *records))
    assert all(item["member"].startswith("sha256:") for item in found)
    assert {build["format"] for item in found for build in item["builds"]} == {"buildkit-record"}


def test_a_log_without_a_build_is_no_failure(cachescope: Callable) -> None:
    done = cachescope("analyze", "--json", "-", stdin=b"nothing here\n")
    assert done.returncode == 0
    assert documents(done) == [
        {"schema": 1, "file": "-", "wrapper": None, "lines": 1, "warnings": [], "builds": []},
    ]


def zeros(count: int) -> bytes:
    return zstd.compress(b"\0" * count)


def encrypted_zip() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("a.txt", b"secret")
    raw = bytearray(target.getvalue())
    raw[6] |= 1
    raw[raw.find(b"PK\x01\x02") + 8] |= 1
    return bytes(raw)


def nested_zip() -> bytes:
    inner, outer = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("a.txt", b"x")
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr("inner.zip", inner.getvalue())
    return outer.getvalue()


def bomb_zip() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", b"\0" * (40 << 20))
    return target.getvalue()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (gzip.compress(b"x" * 9999)[:-12], "the gzip file is cut short"),
        (gzip.compress(b"x" * 9999)[:30] + b"garbage" * 9, "it is no valid gzip file"),
        (zstd.compress(os.urandom(9999))[:-12], "the zstd file is cut short"),
        (b"\x28\xb5\x2f\xfd" + b"garbage" * 9, "it is no valid zstd file"),
        (gzip.compress(b"\0" * (40 << 20)), "it unpacks to more than 200 times its size, as no build log does"),
        (zeros(40 << 20), "it unpacks to more than 200 times its size, as no build log does"),
        (b"PK\x03\x04 and then nothing", "it is no valid zip archive"),
        (bomb_zip(), "it unpacks to more than 200 times its size"),
        (encrypted_zip(), "encrypted"),
        (nested_zip(), "inner.zip in"),
    ],
    ids=[
        "gzip cut",
        "gzip broken",
        "zstd cut",
        "zstd broken",
        "gzip bomb",
        "zstd bomb",
        "zip cut",
        "zip bomb",
        "locked",
        "nested",
    ],
)
def test_what_cannot_be_read_is_a_sentence_and_the_others_are_read(
    cachescope: Callable, plain_log: Path, tmp_path: Path, content: bytes, sentence: str
) -> None:
    bad = tmp_path / "bad"
    bad.write_bytes(content)
    done = cachescope("analyze", "--json", bad, plain_log)
    assert done.returncode == 2
    assert [item["file"] for item in documents(done)] == [str(plain_log)]
    assert sentence in done.stderr.decode()
    assert done.stderr.decode().count("\n") == 1


def test_missing_files_and_folders_are_sentences(cachescope: Callable, plain_log: Path, tmp_path: Path) -> None:
    done = cachescope("analyze", "--json", tmp_path / "none", plain_log, tmp_path)
    assert done.returncode == 2
    assert len(documents(done)) == 1
    assert done.stderr.decode() == (
        f"Cannot read {tmp_path / 'none'}: no such file or directory.\nCannot read {tmp_path}: is a directory.\n"
    )


def test_a_file_name_that_is_no_text_stays_readable(cachescope: Callable, plain_log: Path, tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.log")
    shutil.copy(plain_log, odd)
    [found] = documents(cachescope("analyze", "--json", odd))
    assert found["file"].endswith("/\N{REPLACEMENT CHARACTER}.log")


def test_a_reader_that_goes_away_is_no_complaint(plain_log: Path, tmp_path: Path) -> None:
    command = f'"{sys.executable}" -P -m cachescope analyze --json {f"{plain_log} " * 40} | head -c 10'
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, env=clean_environment(tmp_path), timeout=60, check=False
    )
    assert done.stderr == b""
    assert len(done.stdout) == 10


def test_a_bug_in_a_pipe_shows_a_document_as_soon_as_its_log_is_read(plain_log: Path, tmp_path: Path) -> None:
    source, target = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "cachescope", "analyze", "--json", str(plain_log), "-"],
        stdin=source,
        stdout=subprocess.PIPE,
        env=clean_environment(tmp_path),
    ) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert first["file"] == str(plain_log)
        os.close(target)
        assert json.loads(process.stdout.readline())["file"] == "-"
    os.close(source)
    assert process.returncode == 0


def test_people_get_words_signs_and_figures(cachescope: Callable, plain_log: Path) -> None:
    done = cachescope("analyze", plain_log)
    text = done.stdout.decode()
    [found] = documents(cachescope("analyze", "--json", plain_log))
    figures = found["builds"][0]["figures"]
    assert done.returncode == 0
    assert "\x1b" not in text
    assert text.count("✓ hit") == figures["hits"]
    assert text.count("■ miss") + text.count("◣ break") + text.count("✗ failed") >= figures["misses"]
    assert f"({figures['hits']} of {figures['hits'] + figures['misses']})" in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_the_width_adapts(cachescope: Callable, plain_log: Path, columns: str) -> None:
    text = cachescope("analyze", plain_log, environment={"COLUMNS": columns}).stdout.decode()
    steps = [line for line in text.splitlines() if re.match("  [✓■◣] ", line)]
    assert steps
    assert max(map(len, steps)) <= max(int(columns), 64)


def test_a_terminal_without_unicode_gets_ascii(cachescope: Callable, plain_log: Path) -> None:
    done = cachescope("analyze", plain_log, environment={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert done.stdout.isascii()
    assert b"+ hit" in done.stdout


def on_terminal(arguments: list[str], environment: dict[str, str], seconds: float = 30) -> bytes:
    """Run the command on a pseudo-terminal and return what it drew."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-P", "-m", "cachescope", *arguments], environment)
    drawn = b""
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end and (piece := os.read(terminal, 65536)):
            drawn += piece
    except OSError:  # how Linux says that the other side is closed
        pass
    os.close(terminal)
    os.waitpid(pid, 0)
    return drawn


def test_a_terminal_gets_colour_unless_it_asks_for_none(plain_log: Path, tmp_path: Path) -> None:
    environment = clean_environment(tmp_path, TERM="xterm-256color")
    assert b"\x1b[36m" in on_terminal(["analyze", str(plain_log)], environment)
    bare = on_terminal(["analyze", str(plain_log)], environment | {"NO_COLOR": "1"})
    assert b"\x1b[36m" not in bare
    assert "✓ hit".encode() in bare


def test_escapes_of_a_log_do_not_reach_the_terminal(cachescope: Callable) -> None:
    log = b"#1 [1/2] RUN \x1b]0;owned\x07 \x1b[2J echo \xe2\x80\xae1\n#1 DONE 0.1s\n"
    for arguments in (["analyze", "-"], ["analyze", "--all", "-"]):
        text = cachescope(*arguments, stdin=log).stdout
        assert b"\x1b" not in text
        assert b"\x07" not in text
        assert "\u202e".encode() not in text


def test_escapes_of_a_file_name_do_not_reach_the_terminal(cachescope: Callable) -> None:
    done = cachescope("analyze", "\x1b[2Jnone")
    assert b"\x1b" not in done.stderr
    assert b"\\x1b[2Jnone" in done.stderr


def test_all_shows_the_builders_own_steps(cachescope: Callable, plain_log: Path) -> None:
    assert b"load build definition" not in cachescope("analyze", plain_log).stdout
    assert b"load build definition" in cachescope("analyze", "--all", plain_log).stdout


def test_watching_a_pipe_prints_each_step_once(cachescope: Callable, plain_log: Path) -> None:
    done = cachescope("analyze", "--watch", "-", stdin=plain_log.read_bytes())
    [found] = documents(cachescope("analyze", "--json", plain_log))
    steps = [step for step in found["builds"][0]["steps"] if step["kind"] == "instruction"]
    assert done.returncode == 0
    lines = done.stdout.decode().splitlines()
    assert len(lines) == len(steps) + 1
    assert "hit rate" in lines[-1]


def test_watching_a_growing_file_tells_what_is_new(plain_log: Path, tmp_path: Path) -> None:
    growing = tmp_path / "growing.log"
    log = plain_log.read_bytes()
    growing.write_bytes(log[: len(log) // 2])
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "cachescope", "analyze", "--watch", str(growing)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(tmp_path),
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first.strip()
        with growing.open("ab") as file:
            file.write(log[len(log) // 2 :])
        line = b""
        while b"hit rate" not in line:
            line = process.stdout.readline()
        growing.write_bytes(log)  # begins anew, as a rotated log does
        growing.write_bytes(log[:-1])
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=20)
    assert complaints == b""
    assert process.returncode == 0


def test_watching_on_a_terminal_draws_the_build(plain_log: Path, tmp_path: Path) -> None:
    environment = clean_environment(tmp_path, TERM="xterm-256color")
    command = f'cat {plain_log} | "{sys.executable}" -P -m cachescope analyze --watch -'
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve("/bin/sh", ["sh", "-c", command], environment)
    drawn = b""
    try:
        while piece := os.read(terminal, 65536):
            drawn += piece
    except OSError:  # how Linux says that the other side is closed
        pass
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert b"hit rate" in drawn


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (252, "4 min 12 s"),
        (3599.7, "1 h"),
        (4320, "1 h 12 min"),
    ],
)
def test_durations_read_as_people_say_them(seconds: float | None, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(None, "not known"), (0.0, "0 %"), (1.0, "100 %"), (0.001, "1 %"), (0.9999, "99 %"), (0.833, "83 %")],
)
def test_percentages_are_whole_and_honest_at_the_ends(ratio: float | None, text: str) -> None:
    assert words.percentage(ratio) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (412_000_000, "412 MB"), (5 * 10**12, "5.0 TB")]
)
def test_sizes_have_decimal_units(count: int, text: str) -> None:
    assert words.size(count) == text


def test_counted_nouns_have_their_plural() -> None:
    assert [words.plural(1, "step"), words.plural(1024, "step"), words.plural(2, "miss")] == [
        "1 step",
        "1,024 steps",
        "2 misses",
    ]


def test_instructions_are_cut_in_the_middle() -> None:
    text = "RUN apt-get update && apt-get install --yes curl && rm -rf /var/lib/apt/lists/*"
    cut = middle(text, 40)
    assert len(cut) == 40
    assert cut.startswith("RUN apt-get update")
    assert cut.endswith("/lists/*")
    assert middle("short", 40) == "short"


def test_a_time_that_no_calendar_holds_is_null() -> None:
    assert timestamp(1e20) is None
    assert timestamp(0.0) == "1970-01-01T00:00:00.000Z"


def test_an_empty_reading_is_a_document() -> None:
    assert document(LogReading(wrapper=None, lines=0), "a", "b")["member"] == "b"
