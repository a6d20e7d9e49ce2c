"""Every fixture log in chunks, cut, spoilt and spliced, through the whole reader: wrappers, formats, merging."""

import re
import time
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachescope.formats import FORMATS
from cachescope.reading import LogReader, read_builds

FOLDER = Path(__file__).parent
LOGS = sorted(
    path
    for folder in ("formats", "prefixes", "same_build")
    for path in (FOLDER / folder).glob("*/*")
    if path.suffix in {".log", ".jsonl", ".dockerbuild", ".record"} and path.stat().st_size < 30_000
)
DIGEST = re.compile(r"@s?h?a?2?5?6?:?[0-9a-f]{0,64}$")
NEEDLES = sorted({needle for log_format in FORMATS.values() for needle in log_format.needles})


def steps_of(reading):
    """Count the steps; a bake step without its target: the target printed last is the one.

    A digest does not count: a terminal cuts it where its rows end, and a later frame may show more of it.
    """
    return Counter(
        (
            DIGEST.sub("", step.text.replace(f"[{step.target}", "[", 1) if step.target else step.text),
            step.stage,
            step.platform,
        )
        for build in reading.builds
        for step in build.steps
    )


@cache
def whole(path):
    return steps_of(read_builds([path.read_bytes()]))


def in_chunks(content, size, asked_every=None):
    reader = LogReader()
    for number, at in enumerate(range(0, len(content), size), 1):
        reader.feed(content[at : at + size])
        if asked_every is not None and number % asked_every == 0:
            reader.reading()
    reader.finish()
    return reader.reading()


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(LOGS), st.sampled_from([7, 61, 512, 4095, 4097, 20_000]))
def test_the_size_of_the_chunks_changes_nothing(path, size):
    content = path.read_bytes()
    assert in_chunks(content, size) == read_builds([content])


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(LOGS), st.integers(1, 9))
def test_asking_while_the_log_grows_changes_nothing(path, asked):
    content = path.read_bytes()
    assert in_chunks(content, len(content) // 12 + 1, asked) == read_builds([content])


@pytest.mark.parametrize(
    "name",
    [
        "classic/docker_28_with_stamps",
        "classic/every_instruction_warm",
        "engine_json/classic_failed",
        "engine_json/buildkit_traces_failed",
        "kaniko/two_stages_failed",
        "buildkit_rawjson/failed_with_words",
    ],
)
def test_a_build_far_down_that_comes_in_drops_reads_like_the_whole(name):
    """A live view asks while a few lines at a time come in, long after the head of the log was read."""
    content = (FOLDER / "formats" / f"{name}.log").read_bytes()
    head = b"".join(b"line %d of something else\n" % number for number in range(12_000))
    reader = LogReader()
    reader.feed(head)
    for number, at in enumerate(range(0, len(content), 60)):
        reader.feed(content[at : at + 60])
        if number % 40 == 0:
            reader.reading()
    reader.finish()
    assert reader.reading() == read_builds([head + content])


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(LOGS), st.floats(0, 1))
def test_cutting_the_tail_off_never_invents_a_step_of_any_kind(path, part):
    content = path.read_bytes()
    cut = read_builds([content[: int(len(content) * part)]])
    assert not steps_of(cut) - whole(path)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(LOGS), st.floats(0, 1))
def test_a_log_without_its_head_reads_without_an_error(path, part):
    content = path.read_bytes()
    read_builds([content[int(len(content) * part) :]])


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(LOGS), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=20))
def test_changed_bytes_raise_nothing(path, spoilt):
    content = bytearray(path.read_bytes())
    for place, byte in spoilt:
        content[place % len(content)] = byte
    read_builds([bytes(content)])


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(LOGS), st.sampled_from(LOGS), st.floats(0, 1), st.floats(0, 1))
def test_a_log_inside_another_raises_nothing(path, other, place, part):
    content, inner = path.read_bytes(), other.read_bytes()
    at = int(len(content) * place)
    read_builds([content[:at], inner[: int(len(inner) * part)], content[at:]])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(NEEDLES), st.binary(max_size=12)), max_size=25))
def test_needles_among_any_bytes_raise_nothing(parts):
    read_builds([b"".join(parts)])


def seconds_to_read(content):
    """Return the least CPU time of some readings."""
    spent = []
    for _ in range(3):
        started = time.thread_time()
        read_builds([content])
        spent.append(time.thread_time() - started)
    return min(spent)


NASTY = {
    "one needle after another": b"".join(NEEDLES),
    "needles a line each": b"\n".join(NEEDLES) + b"\n",
    "open brackets": b"[[[[[[[[",
    "spaces": b"        ",
    "escapes": b"\x1b[1A\x1b[2K",
    "carriage returns": b"#1 a\r",
    "one new step a line": b"#5 [2/4] RUN a\n#5 DONE 0.1s\n",
    "headlines": b"Step 2/4 : RUN a\n",
    "prefixes in prefixes": b"2026-11-23T17:05:49.6878781Z 00O 2026-11-23T17:05:49.6878781Z | ",
    "braces": b'{"stream":"',
    "digits": b"9999999999",
}


@pytest.mark.parametrize("name", NASTY)
def test_reading_twice_as_much_takes_about_twice_as_long(name):
    piece = NASTY[name]
    small, large = (piece * (size // len(piece)) for size in (40_000, 320_000))
    # Eight times as much: 64 times as long were quadratic. Caps make a large log cheaper, never dearer.
    assert seconds_to_read(large) < 24 * max(seconds_to_read(small), 0.002)


def test_a_document_that_is_still_coming_in_is_no_broken_one():
    """Found by the fuzzer: asked in the middle, the reader took a JSON document for lines ever after."""
    content = (FOLDER / "formats" / "buildkit_record" / "bake_metadata.record").read_bytes().ljust(5000)
    for broken in (content, content.replace(b"}", b")", 1)):
        reader = LogReader()
        reader.feed(broken[:4200])
        assert reader.reading().builds == ()
        reader.feed(broken[4200:])
        reader.finish()
        assert reader.reading() == read_builds([broken])
