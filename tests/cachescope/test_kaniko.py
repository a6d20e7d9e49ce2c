"""What kaniko's messages say beyond their fixtures."""

import pytest

from cachescope.model import Outcome, StepStatus
from cachescope.reading import read_builds

START = (
    "INFO[0000] Retrieving image manifest alpine:3\nINFO[0001] Built cross stage deps: map[]\n"
    "INFO[0001] Executing 0 build triggers\nINFO[0001] Building stage 'alpine:3' [idx: '0', base-idx: '-1']\n"
    "INFO[0001] Unpacking rootfs as cmd RUN make requires it.\n"
)
RUNS = (
    "INFO[0002] RUN make\nINFO[0002] Initializing snapshotter ...\nINFO[0002] Taking snapshot of full filesystem...\n"
    "INFO[0003] Running: [/bin/sh -c make]\n"
)
DONE = "INFO[0004] Taking snapshot of full filesystem...\n"
FAILED = "error building image: error building stage: failed to execute command: exit status 2\n"


def read(*parts):
    return read_builds(["".join(parts).encode()])


def build_of(*parts):
    (build,) = read(*parts).builds
    return build


def test_what_a_run_prints_is_output_until_the_snapshot():
    build = build_of(START, RUNS, "INFO[0003] RUN evil\nINFO[0003] Built cross stage deps: x\nline\n", DONE)
    assert [(step.text, step.output_lines) for step in build.steps] == [("RUN make", 3)]


def test_without_snapshots_the_next_headline_ends_a_run():
    build = build_of(START, "INFO[0002] RUN make\nINFO[0002] Running: [x]\nout\nINFO[0003] CMD x\n")
    assert [(step.text, step.status, step.output_lines) for step in build.steps] == [
        ("RUN make", StepStatus.DONE, 1),
        ("CMD x", StepStatus.RUNNING, 0),
    ]


def test_a_failure_fails_the_step_at_work():
    build = build_of(START, RUNS, FAILED)
    assert (build.outcome, build.error, build.steps[-1].status) == (
        Outcome.FAILED,
        FAILED.strip(),
        StepStatus.FAILED,
    )


def test_a_failure_alone_is_a_build_without_a_step():
    build = build_of("error building image: parsing dockerfile: unknown instruction: FORM\n")
    assert (build.builder, build.outcome, build.steps) == ("kaniko", Outcome.FAILED, ())


def test_a_failed_push_fails_the_build_and_no_step():
    build = build_of(
        START, RUNS, DONE, "INFO[0005] Pushing image to r/app:1\nerror pushing image: failed to push: denied\n"
    )
    assert (build.outcome, build.steps[-1].status) == (Outcome.FAILED, StepStatus.DONE)


def test_an_error_after_a_finished_build_is_not_its_own():
    build = build_of(START, RUNS, DONE, "INFO[0005] Pushed image to 1 destinations\nerror executing command: x\n")
    assert build.outcome is Outcome.SUCCEEDED


def test_a_build_that_does_not_push_succeeds():
    build = build_of(START, RUNS, DONE, "INFO[0005] Skipping push to container registry due to --no-push flag\n")
    assert (build.outcome, build.images) == (Outcome.SUCCEEDED, ())


def test_a_log_cut_while_the_image_is_pushed_is_incomplete():
    assert build_of(START, RUNS, DONE, "INFO[0005] Pushing image to r/app:1\n").outcome is Outcome.INCOMPLETE


def test_old_versions_end_without_a_word():
    old = "INFO[0000] Downloading base image alpine\nINFO[0001] Executing 0 build triggers\nINFO[0002] CMD x\n"
    assert build_of(old).outcome is Outcome.SUCCEEDED


def test_the_next_build_begins_when_the_clock_starts_again():
    first = START + RUNS + DONE + "INFO[0009] COPY a b\n"
    assert len(read(first, first).builds) == 2


def test_the_next_build_begins_where_the_stages_are_told_again():
    again = START.replace("[0000]", "[0009]").replace("[0001]", "[0009]")
    assert len(read(START, RUNS, DONE, "INFO[0008] Built cross stage deps: map[]\n", again).builds) >= 2


def test_a_pushed_digest_belongs_to_its_repository():
    digest, other = "sha256:" + "a" * 64, "sha256:" + "b" * 64
    build = build_of(
        START,
        RUNS,
        DONE,
        "INFO[0005] Pushing image to acme/app:1\n",
        f"INFO[0005] Pushed index.docker.io/acme/app@{digest}\nINFO[0005] Pushed r/cache@{other}\n",
    )
    assert (build.images[0].digest, build.images[0].tags) == (digest, ("acme/app:1",))


def test_warnings_of_the_builder_are_kept():
    build = build_of(START, "WARN[0001] maintainer is deprecated, skipping\n", RUNS)
    assert build.warnings == ("maintainer is deprecated, skipping",)


def test_a_failed_upload_of_an_unnamed_layer_is_a_failed_export():
    build = build_of(START, RUNS, DONE, "WARN[0005] Error uploading layer to cache: denied\n")
    assert [(export.ref, export.succeeded) for export in build.cache_exports] == [(None, False)]


def test_a_line_that_stands_twice_is_one_step():
    build = build_of(START, "INFO[0002] WORKDIR /app\nINFO[0002] WORKDIR /app\n")
    assert len(build.steps) == 1


def test_two_stages_of_one_base_take_their_names_in_order():
    build = build_of(
        "INFO[0000] Resolved base name alpine:3 to one\nINFO[0000] Resolved base name alpine:3 to two\n",
        START,
        "INFO[0002] COPY a b\nINFO[0002] Storing source image from stage 0 at path /kaniko/stages/0\n",
        "INFO[0003] Building stage 'alpine:3' [idx: '1', base-idx: '-1']\nINFO[0003] COPY c d\n",
    )
    assert [step.stage for step in build.steps] == ["one", "two"]


@pytest.mark.parametrize(
    "line",
    [
        'time="2024-05-03T07:32:00Z" level=info msg=COPY',
        'time="2024-05-03T07:32:00Z" level=info msg="COPY \\x"',
        '{"level":"info","msg":5}',
        '{"level":"info"',
        "INFO[9:99] COPY a b",
        "DEBU[0003] COPY a b",
    ],
)
def test_a_line_without_sense_is_no_step(line):
    assert len(build_of(START, RUNS, DONE, line, "\n").steps) <= 2


def test_stamps_of_its_own_date_the_build_but_no_step():
    build = build_of(
        *[part.replace("[000", "[2021-11-09T13:14:3").replace("] ", "Z] ", 1) for part in START.splitlines(True)]
    )
    assert build.started_at == 1636463670.0


def test_past_the_cap_steps_are_left_out_and_a_warning_says_so(monkeypatch):
    monkeypatch.setattr("cachescope.formats.kaniko.STEP_CAP", 3)
    reading = read(START, *[f"INFO[0002] ENV A={number}\n" for number in range(9)])
    assert len(reading.builds[0].steps) == 3
    assert reading.warnings == ("The log holds more than 3 steps: the rest is not read.",)
