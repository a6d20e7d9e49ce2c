"""The contract of every log format: one module, and fixtures `formats/<name>/<case>.log` with `<case>.json`."""

import json
from collections import Counter
from pathlib import Path

import pytest

from cachescope.cli.document import document
from cachescope.formats import FORMATS
from cachescope.reading import read_builds, recognise_prefix

FOLDER = Path(__file__).parent / "formats"
CASES = sorted(path for path in FOLDER.glob("*/*") if path.suffix == ".log")
ARCHIVES = sorted(path for path in FOLDER.glob("*/*") if path.suffix in (".dockerbuild", ".record"))


def name_of(path):
    return f"{path.parent.name}/{path.stem}"


def expected(path):
    return path.with_suffix(".json")


def as_json(reading, path):
    return json.loads(json.dumps(document(reading, path.name)))


def first_needle(content, log_format):
    """Return what the reader would show the format: from the first line with a needle on."""
    hits = [at for needle in log_format.needles if (at := content.find(needle)) >= 0]
    return content[content.rfind(b"\n", 0, min(hits)) + 1 :] if hits else b""


def test_every_format_has_a_fixture():
    assert set(FORMATS) == {path.parent.name for path in CASES + ARCHIVES}


@pytest.mark.parametrize("path", CASES, ids=name_of)
def test_a_log_reads_as_its_json_says(path, golden):
    golden(expected(path), as_json(read_builds([path.read_bytes()]), path))


@pytest.mark.parametrize("path", ARCHIVES, ids=name_of)
def test_an_archive_reads_as_its_json_says(path, golden):
    golden(expected(path), as_json(read_builds([path.read_bytes()]), path))


@pytest.mark.parametrize("path", CASES, ids=name_of)
def test_its_own_format_is_the_surest_of_a_log(path):
    content = path.read_bytes()
    _, prefix, _ = recognise_prefix(content)
    scores = {
        name: log_format.sniff(head, prefix)
        for name, log_format in FORMATS.items()
        if (head := first_needle(content, log_format))
    }
    own = scores.pop(path.parent.name)
    assert own > 0
    assert all(own > score for score in scores.values()), scores


@pytest.mark.parametrize("path", CASES, ids=name_of)
def test_no_build_of_a_log_is_claimed_by_another_format(path):
    reading = read_builds([path.read_bytes()])
    assert {build.format for build in reading.builds} == {path.parent.name.replace("_", "-")}


@pytest.mark.parametrize("path", CASES, ids=name_of)
@pytest.mark.parametrize("size", [1, 7, 4096])
def test_the_size_of_the_chunks_does_not_matter(path, size):
    content = path.read_bytes()[:100_000]
    chunks = (content[start : start + size] for start in range(0, len(content), size))
    assert read_builds(chunks) == read_builds([content])


@pytest.mark.parametrize("path", CASES, ids=name_of)
def test_windows_line_ends_change_nothing_but_the_line_ends(path):
    content = path.read_bytes()
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n")
    reading = read_builds([content])
    with_returns = read_builds([content.replace(b"\n", b"\r\n")])
    steps = [[(step.text, step.status, step.duration_seconds) for step in build.steps] for build in reading.builds]
    assert steps == [
        [(step.text, step.status, step.duration_seconds) for step in build.steps] for build in with_returns.builds
    ]


@pytest.mark.parametrize("path", CASES, ids=name_of)
def test_cutting_a_log_never_invents_a_step(path):
    content = path.read_bytes()
    whole = _instructions(read_builds([content]))
    for part in range(1, 40):
        cut = content[: len(content) * part // 40]
        assert not _instructions(read_builds([cut])) - whole


def _instructions(reading):
    """Return the Dockerfile steps of a log, counted; a terminal's width cuts their texts now here, now there."""
    return Counter(
        (step.text[:40] if build.format == "buildkit-tty" else step.text, step.index, step.total)
        for build in reading.builds
        for step in build.steps
        if step.kind == "instruction"
    )
