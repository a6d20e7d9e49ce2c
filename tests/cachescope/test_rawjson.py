"""What rawjson messages count for, also those that are damaged or say little."""

import base64

import pytest

from cachescope.reading import read_builds

DIGEST = "sha256:" + "ab" * 32
VERTEX = (
    f'{{"vertexes":[{{"digest":"{DIGEST}","name":"[1/2] RUN make","started":"2026-11-23T16:47:34.258Z",'
    '"completed":"2026-11-23T16:47:36.5Z"}]}\n'
)
WORDS = base64.b64encode(b"one\ntwo\nthree").decode()


def message(output=WORDS, stream=1, end='"}]}\n'):
    return f'{{"logs":[{{"vertex":"{DIGEST}","stream":{stream},"data":"{output}","timestamp":"2026-11-23T16:47:35Z{end}'


def read(*lines):
    reading = read_builds([(VERTEX + "".join(lines)).encode()])
    (build,) = reading.builds
    (step,) = build.steps
    return reading, step


@pytest.mark.parametrize("stream", [1, 2, 17])
def test_the_lines_of_every_stream_count(stream):
    assert read(message(stream=stream))[1].output_lines == 3


def test_a_carriage_return_at_the_end_of_a_message_changes_nothing():
    assert read(message(end='"}]}\r\n'))[1].output_lines == 3


def test_a_message_of_two_outputs_counts_both():
    pieces = f'{{"vertex":"{DIGEST}","stream":1,"data":"{WORDS}","timestamp":"2026-11-23T16:47:35Z"}}'
    assert read(f'{{"logs":[{pieces},{pieces}]}}\n')[1].output_lines == 6


@pytest.mark.parametrize(
    ("line", "warning"),
    [
        (message(output="!" + WORDS), False),
        (message(end="\n"), True),
        (message(output=WORDS + '"'), True),
        (message(end="0" * 80 + "\n"), True),
    ],
)
def test_a_damaged_output_is_told_or_read_by_the_json_parser(line, warning):
    reading, step = read(line)
    assert ("1 line is cut or no JSON." in reading.warnings) is warning
    assert step.output_lines == (0 if warning else 3)


def test_output_of_a_vertex_without_a_name_is_nobodys():
    other = "sha256:" + "cd" * 32
    assert read(f'{{"vertexes":[{{"digest":"{other}"}}]}}\n', message().replace(DIGEST, other))[1].output_lines == 0


def test_a_message_without_the_name_still_ends_its_vertex():
    started, ended = '"started":"2026-11-23T16:47:34.258Z"', '"completed":"2026-11-23T16:47:44.258Z"'
    assert read(f'{{"vertexes":[{{"digest":"{DIGEST}",{started},{ended}}}]}}\n')[1].duration_seconds == 10.0


def test_lines_that_are_no_messages_are_left_to_others():
    quiet = "ERROR: failed to solve: process failed\n"
    reading, _ = read("words\nmore words\n", message(), quiet)
    assert reading.builds[0].error == "failed to solve: process failed"


@pytest.mark.parametrize("started", ['"2026-11-23T16:47:٣٤Z"', '"2026-13-23T16:47:34Z"', '"1960-11-23T16:47:34Z"', "7"])
def test_a_time_that_is_none_is_left_out(started):
    other = "sha256:" + "cd" * 32
    line = f'{{"vertexes":[{{"digest":"{other}","name":"[2/2] RUN x","started":{started},"cached":true}}]}}\n'
    reading = read_builds([(VERTEX + line).encode()])
    assert reading.builds[0].steps[1].started_seconds is None
