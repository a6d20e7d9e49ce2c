"""Logs of the other formats, cut, doubled, swapped and spoilt: nothing is raised, and a cut never invents a step."""

from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from cachescope.formats import FORMATS
from cachescope.prefixes import PREFIXES
from cachescope.reading import read_builds

NAMES = ("classic", "engine_json", "buildah", "kaniko", "quiet")
FOLDER = Path(__file__).parent / "formats"
LOGS = sorted(path for name in NAMES for path in (FOLDER / name).glob("*.log") if path.stat().st_size < 30_000)
WORDS = [
    b"Step 1/2 : FROM a",
    b"Step 2/2 : RUN b",
    b" ---> Using cache",
    b" ---> Running in 0123456789ab",
    b" ---> 0123456789ab",
    b"Removing intermediate container 0123456789ab",
    b"Successfully built 0123456789ab",
    b"Successfully tagged a:1",
    b"Sending build context to Docker daemon  2kB",
    b"The command '/bin/sh -c b' returned a non-zero code: 1",
    b"STEP 1/2: FROM a",
    b"STEP 2/2: RUN b",
    b"[1/2] STEP 1/1: FROM a",
    b"COMMIT a",
    b"--> 0123456789a",
    b"a" * 64,
    b'Error: building at STEP "RUN b": exit status 1',
    b"INFO[0001] RUN b",
    b"INFO[0001] Running: [b]",
    b"INFO[0000] Built cross stage deps: map[]",
    b"INFO[0002] Taking snapshot of full filesystem...",
    b"error building image: x",
    b'{"stream":"Step 1/2 : FROM a"}',
    b'{"stream":"\\n"}',
    b'{"error":"x"}',
    b'{"stream":" ---\\u003e Using cache\\n"}',
    b"docker build -q .",
    b"sha256:" + b"a" * 64,
    b"ERROR: failed to solve: x",
    b"words",
    b"",
]


def steps_of(content):
    return Counter(
        (build.format, step.text, step.index)
        for build in read_builds([content]).builds
        for step in build.steps
        if step.kind == "instruction"
    )


WHOLE = {path: steps_of(path.read_bytes()) for path in LOGS}


def feed_all(content, size):
    """Give the content to every parser in chunks of whole lines, whatever it is."""
    lines = content.split(b"\n")
    chunks = [b"\n".join(lines[at : at + size]) + b"\n" for at in range(0, len(lines), size)]
    for name in NAMES:
        log_format = FORMATS[name]
        assert 0 <= log_format.sniff(content, PREFIXES["none"]) <= 1
        parser, number = log_format.parser(PREFIXES["none"]), 1
        for chunk in chunks:
            parser.feed(chunk, number)
            number += chunk.count(b"\n")
        found = parser.builds()
        assert found == parser.builds()
        assert all(1 <= build.first_line <= build.last_line for build in found)
        assert all(isinstance(warning, str) for warning in parser.warnings())


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(LOGS), st.floats(0, 1))
def test_a_cut_never_invents_a_step(path, part):
    content = path.read_bytes()
    assert not steps_of(content[: int(len(content) * part)]) - WHOLE[path]


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(LOGS), st.lists(st.integers(0, 10**6), min_size=1, max_size=5))
def test_doubled_lines_never_invent_a_step(path, places):
    lines = path.read_bytes().split(b"\n")
    for place in places:
        at = place % len(lines)
        lines.insert(at, lines[at])
    assert not steps_of(b"\n".join(lines)) - WHOLE[path]


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(LOGS), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=20))
def test_spoilt_bytes_raise_nothing(path, spoilt):
    content = bytearray(path.read_bytes())
    for place, byte in spoilt:
        content[place % len(content)] = byte
    read_builds([bytes(content)])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=60), st.integers(1, 70))
def test_words_in_any_order_raise_nothing(words, size):
    feed_all(b"\n".join(words), size)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.integers(1, 9))
def test_any_bytes_raise_nothing(content, size):
    feed_all(content, size)
