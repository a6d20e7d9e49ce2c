"""Streams of BuildKit's own messages: groups of vertices, builds that share vertices, caps, and what is no message."""

import base64
import json

import pytest

from cachescope.formats._buildkit import STEP_CAP, parse_duration
from cachescope.formats._solve_status import StatusStream, read_time
from cachescope.model import Outcome, StepStatus
from cachescope.reading import read_builds

DEFINITION = "[internal] load build definition from Dockerfile"


def digest(number):
    return f"sha256:{number:064x}"


def at(second):
    return f"2026-11-23T17:{second // 60:02}:{second % 60:02}.000000000Z"


def vertex(number, name, start=None, end=None, **more):
    item = {"digest": digest(number), "name": name, **more}
    if start is not None:
        item["started"] = at(start)
    if end is not None:
        item["completed"] = at(end)
    return item


def log(*messages):
    return "".join(json.dumps(message, separators=(",", ":")) + "\n" for message in messages).encode()


def vertexes(*items):
    return {"vertexes": list(items)}


def only(*messages):
    (build,) = read_builds([log(*messages)]).builds
    return build


def group(name="COPY --link a b", weak=False):
    return {"progressGroup": {"id": "g", "name": name, "weak": weak}}


def test_the_vertices_of_a_group_are_one_step_from_the_first_start_to_the_last_end():
    build = only(
        vertexes(vertex(1, "[2/2] COPY --link a b", 1, 2, **group("[2/2] COPY --link a b"))),
        vertexes(vertex(2, "merge", 3, 6, **group("[2/2] COPY --link a b"))),
    )
    (step,) = build.steps
    assert (step.text, step.status, step.duration_seconds) == ("COPY --link a b", StepStatus.DONE, 4.0)


@pytest.mark.parametrize(
    ("second", "status"),
    [
        ({"cached": True}, StepStatus.CACHED),
        ({"error": "no such file"}, StepStatus.FAILED),
        ({"error": "context canceled"}, StepStatus.CANCELED),
    ],
)
def test_a_group_is_what_its_vertices_are(second, status):
    build = only(
        vertexes(vertex(1, "[2/2] COPY --link a b", 1, 1, cached=True, **group("[2/2] COPY --link a b"))),
        vertexes(vertex(2, "merge", 1, 2, **second, **group("[2/2] COPY --link a b"))),
    )
    assert build.steps[0].status is status


def test_a_group_runs_while_one_of_its_vertices_does():
    build = only(
        vertexes(vertex(1, "[2/2] COPY --link a b", 1, 2, **group("[2/2] COPY --link a b"))),
        vertexes(vertex(2, "merge", 2, **group("[2/2] COPY --link a b"))),
    )
    assert (build.steps[0].status, build.steps[0].duration_seconds) == (StepStatus.RUNNING, None)
    assert build.outcome is Outcome.INCOMPLETE


def test_a_group_that_only_ties_others_together_and_one_that_never_began_are_no_steps():
    build = only(
        vertexes(vertex(1, DEFINITION, 1, 2)),
        vertexes(vertex(2, "tie", 2, 3, **group(weak=True))),
        vertexes(vertex(3, "later", progressGroup={"id": "h", "name": None})),
    )
    assert [step.text for step in build.steps] == [DEFINITION]


def warm_build(first, second):
    """A build whose base image has the same digest in every build."""
    return [
        vertexes(vertex(first, DEFINITION)),
        vertexes(vertex(first, DEFINITION, second, second + 1)),
        vertexes(
            vertex(99, "[1/2] FROM docker.io/library/a"), vertex(first + 1, "[2/2] RUN make", inputs=[digest(99)])
        ),
        vertexes(vertex(99, "[1/2] FROM docker.io/library/a", second + 1, second + 2, cached=True)),
        vertexes(vertex(first + 1, "[2/2] RUN make", second + 2, second + 5, inputs=[digest(99)])),
        vertexes(vertex(first + 2, "exporting to image", second + 5, second + 6)),
    ]


def test_two_builds_that_share_a_vertex_have_it_both_in_its_place():
    reading = read_builds([log(*warm_build(1, 0), *warm_build(11, 60))])
    assert [[step.text for step in build.steps] for build in reading.builds] == [
        [DEFINITION, "FROM docker.io/library/a", "RUN make", "exporting to image"]
    ] * 2
    assert [build.started_at for build in reading.builds] == sorted({b.started_at for b in reading.builds})
    assert [build.outcome for build in reading.builds] == [Outcome.SUCCEEDED] * 2


def test_a_vertex_that_runs_again_within_its_build_stays_in_it():
    build = only(
        vertexes(vertex(1, DEFINITION, 0, 1)),
        vertexes(vertex(2, "[1/1] RUN make", 1, 3)),
        vertexes(vertex(2, "[1/1] RUN make", 4, 6)),
    )
    assert [step.duration_seconds for step in build.steps] == [1.0, 4.0]


@pytest.mark.parametrize("error", ["dockerfile parse error on line 1", "context canceled"])
def test_a_build_that_failed_before_its_first_instruction_is_followed_by_another(error):
    reading = read_builds([log(vertexes(vertex(7, DEFINITION, 0, 1, error=error)), *warm_build(11, 60))])
    assert [len(build.steps) for build in reading.builds] == [1, 4]


def test_words_of_a_failure_far_below_a_build_that_is_well_are_not_its_own():
    text = log(*warm_build(1, 0)) + b"ERROR: failed to solve: something else\nCheck complete, 2 warnings\n"
    (build, *_) = read_builds([text]).builds
    assert (build.outcome, build.error) == (Outcome.SUCCEEDED, None)


def test_what_has_no_name_or_another_type_is_no_vertex():
    build = only(
        vertexes(vertex(1, DEFINITION, 0, 1)),
        vertexes({"digest": digest(2)}, {"digest": 3, "name": "x"}, "x", 4),
        {"vertexes": 5, "statuses": [{"vertex": digest(1), "id": 6}, {"vertex": digest(9), "id": "a"}], "logs": None},
        {"statuses": [{"vertex": digest(1), "id": "transferring dockerfile:", "current": -1, "completed": at(1)}]},
        {"warnings": [{"short": "bm90ZQ=="}, {"short": "a"}, {"short": 7}]},
        {"logs": [{"vertex": digest(1), "data": 8}, {"vertex": digest(1), "data": base64.b64encode(b"a\nb").decode()}]},
    )
    assert [(step.text, step.output_lines) for step in build.steps] == [(DEFINITION, 2)]
    assert build.warnings == ("note",)


def test_what_is_no_json_is_counted_once():
    broken = log(vertexes(vertex(1, DEFINITION, 0, 1))) + b'{"vertexes":[{"digest"\n'
    assert "1 line is cut or no JSON." in read_builds([broken]).warnings
    assert "2 lines are cut or no JSON." in read_builds([broken + b'{"vertexes":[{"digest"\n']).warnings


def test_a_record_is_one_build_whatever_it_tells_again():
    stream = StatusStream("buildkit-record", is_one=True)
    for number, message in enumerate([*warm_build(1, 0), *warm_build(11, 60)]):
        stream.take(message, number)
    assert len(stream.found()) == 1


def test_more_steps_than_are_kept_are_counted():
    stream = StatusStream("buildkit-rawjson")
    line = 0
    for build in range(3):
        stream.take(vertexes(vertex(10**6 + build, DEFINITION, 10 * build, 10 * build + 1)), line)
        for number in range(STEP_CAP * 3 // 5):
            line += 1
            step = vertex(number + build * STEP_CAP, f"[1/2] RUN {number}", 10 * build + 1, 10 * build + 2)
            stream.take(vertexes(step), line)
        line += 1
    assert stream.is_full
    assert len(stream.found()) == 2


def test_a_build_of_too_many_vertices_keeps_the_first_ones():
    stream = StatusStream("buildkit-rawjson")
    for number in range(STEP_CAP + 5):
        stream.take(vertexes(vertex(number, f"[1/2] RUN {number}", 1, 2)), number)
    assert len(stream.found()[0].build.steps) == STEP_CAP


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1.5, 1.5),
        ("1970-01-01T00:01:00.5Z", 60.5),
        ("1970-01-01T01:01:00+01:00", 60.0),
        ("0001-01-01T00:00:00Z", None),
        ("2026-11-23T17:05:1x.5Z", None),
        ("2026-99-99T17:05:10.5Z", None),
        ("9" * 65, None),
        (None, None),
        (7, None),
    ],
)
def test_a_time_is_read_as_text_or_number(value, seconds):
    assert read_time(value) == seconds


def test_times_of_very_many_minutes_are_read():
    days = [
        f"20{year:02}-01-01T{hour:02}:{minute:02}:00Z"
        for year in range(2)
        for hour in range(24)
        for minute in range(60)
    ]
    assert len({read_time(day) for day in days}) == len(days)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("70.886µs", 70.886e-6),
        ("12ns", 12e-9),
        ("500ms", 0.5),
        ("1m2.5s", 62.5),
        ("1h0m3s", 3603.0),
        ("2h", 7200.0),
        ("", None),
        ("5", None),
        ("1s2m", None),
        ("soon", None),
    ],
)
def test_a_duration_is_read_as_go_prints_it(text, seconds):
    assert parse_duration(text) == (None if seconds is None else pytest.approx(seconds))
