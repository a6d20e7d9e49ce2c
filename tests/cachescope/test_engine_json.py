"""What the Engine API's messages say beyond their fixtures."""

import base64
import json

import pytest

from cachescope.formats._wire import read_fields, read_status
from cachescope.model import Outcome, StepStatus
from cachescope.reading import read_builds


def lines(*messages):
    return "".join(json.dumps(message) + "\r\n" for message in messages).encode()


def stream(*texts):
    return [{"stream": text} for text in texts]


START = stream("Step 1/2 : FROM x", "\n", " ---> f6062bacf0c1\n", "Step 2/2 : RUN make", "\n")
RUNNING = stream(" ---> Running in bb93a0d1c2e3\n", "out\n")


def build_of(*messages):
    (build,) = read_builds([lines(*messages)]).builds
    return build


def field(number, value):
    if isinstance(value, int):
        return bytes([number << 3]) + varint(value)
    return bytes([number << 3 | 2]) + varint(len(value)) + value


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def test_an_error_of_the_engine_fails_the_step_at_work():
    build = build_of(*START, *RUNNING, {"errorDetail": {"message": "no"}, "error": "no"})
    assert (build.outcome, build.error, build.steps[-1].status) == (Outcome.FAILED, "no", StepStatus.FAILED)


def test_a_canceled_context_cancels_the_build():
    build = build_of(*START, *RUNNING, {"error": "context canceled"})
    assert (build.outcome, build.steps[-1].status) == (Outcome.CANCELED, StepStatus.CANCELED)


def test_an_error_alone_is_a_failed_build_without_a_step():
    build = build_of({"errorDetail": {"message": "no such file"}, "error": "no such file"})
    assert (build.builder, build.outcome, build.steps) == (None, Outcome.FAILED, ())


def test_an_error_after_a_build_is_not_its_own():
    done = stream(" ---> Using cache\n", " ---> 11ce26cb400d\n", "Successfully built 11ce26cb400d\n")
    build = build_of(*START, *done, {"errorDetail": {"message": "denied"}, "error": "denied"})
    assert build.outcome is Outcome.SUCCEEDED


def test_a_pull_tells_the_digest_of_the_base():
    digest = "sha256:" + "b" * 64
    build = build_of(
        *stream("Step 1/2 : FROM x", "\n"),
        {"status": "Pulling from library/x", "id": "latest"},
        {"status": f"Digest: {digest}"},
        {"status": "Status: Downloaded newer image for x:latest"},
        *stream(" ---> f6062bacf0c1\n", "Step 2/2 : CMD x", "\n", " ---> Using cache\n"),
    )
    assert build.base_images[0].digest == digest


def test_lines_that_are_no_json_are_counted():
    reading = read_builds([lines(*START) + b'{"stream":"Step 2/2 : R\n{"aux":[1]}\n{"stream":5}\n'])
    assert "1 line is cut or no JSON." in reading.warnings


def test_a_trace_that_is_no_base64_is_counted():
    content = lines(*[{"id": "moby.buildkit.trace", "aux": aux} for aux in ("abc", "x")])
    assert read_builds([content]).warnings == ("2 lines are cut or no JSON.",)


def test_a_trace_tells_steps_with_their_seconds():
    vertex = (
        field(1, b"sha256:" + b"c" * 64) + field(3, b"[1/1] RUN make") + field(5, field(1, 100) + field(2, 5 * 10**8))
    )
    vertex += field(6, field(1, 102)) + field(2, b"sha256:in")
    trace = base64.b64encode(
        field(1, vertex) + field(2, b"") + field(3, field(1, b"sha256:" + b"c" * 64) + field(4, b"a\nb\n"))
    )
    build = build_of(
        {"id": "moby.buildkit.trace", "aux": trace.decode()},
        {"id": "moby.image.id", "aux": {"ID": "sha256:" + "d" * 64}},
    )
    (step,) = build.steps
    assert (step.text, step.duration_seconds, build.outcome) == ("RUN make", 1.5, Outcome.SUCCEEDED)


@pytest.mark.parametrize(
    ("content", "fields"),
    [
        (b"", []),
        (b"\x08\x96\x01", [(1, 150)]),
        (b"\x12\x02hi", [(2, b"hi")]),
        (b"\x12\x09hi", []),
        (b"\x08", []),
        (b"\x08" + b"\xff" * 12, []),
        (b"\x09" + b"0" * 8 + b"\x0d" + b"0" * 4 + b"\x08\x01", [(1, 1)]),
        (b"\x0b\x08\x01", []),
    ],
)
def test_a_message_is_read_up_to_the_first_byte_without_sense(content, fields):
    assert list(read_fields(content)) == fields


def test_times_without_sense_are_none():
    vertex = field(1, b"d") + field(3, b"n") + field(5, field(1, 10**15)) + field(6, field(1, b"x"))
    (read,) = read_status(field(1, vertex) + field(9, b"") + field(1, 7))["vertexes"]
    assert (read["started"], read["completed"]) == (None, None)


def test_groups_warnings_and_errors_are_read():
    vertex = field(1, b"d") + field(3, b"n") + field(4, 1) + field(7, b"no") + field(8, field(1, b"g") + field(3, 1))
    status = field(1, b"transferring context:") + field(2, b"d") + field(4, 30)
    message = read_status(field(1, vertex) + field(2, status) + field(4, field(1, b"d") + field(3, b"careful")))
    assert message["vertexes"][0]["progressGroup"] == {"id": "g", "name": "", "weak": True}
    assert message["vertexes"][0]["error"] == "no"
    assert message["statuses"] == [{"id": "transferring context:", "vertex": "d", "current": 30}]
    assert message["warnings"] == [{"vertex": "d", "short": b"careful"}]
