"""What buildah's and podman's text says beyond its fixtures."""

import pytest

from cachescope.model import Outcome, StepStatus
from cachescope.reading import read_builds

FULL = "382f1f2d78799db7ffcbee0f81597769653ec26155542410f3b01d2c76c30db3"
START = "STEP 1/3: FROM base\nSTEP 2/3: COPY a b\n--> 0e968729461\n"
LAST = "STEP 3/3: CMD x\nCOMMIT app\n--> 382f1f2d787\nSuccessfully tagged localhost/app:latest\n" + FULL + "\n"


def read(*parts):
    return read_builds(["".join(parts).encode()])


def build_of(*parts):
    (build,) = read(*parts).builds
    return build


def test_a_build_ends_with_its_full_id():
    build = build_of(START, LAST)
    assert (build.outcome, build.images[0].id, build.images[0].tags) == (
        Outcome.SUCCEEDED,
        FULL,
        ("localhost/app:latest",),
    )


def test_a_commit_without_a_tag_line_names_the_image():
    assert build_of(START, "STEP 3/3: CMD x\nCOMMIT app\n", FULL, "\n").images[0].tags == ("app",)


def test_a_short_id_printed_by_a_run_is_no_cache():
    build = build_of("STEP 1/2: FROM base\nSTEP 2/2: RUN x\n--> Using cache 0123456789ab\n")
    assert build.steps[-1].cached is False


def test_a_layer_pulled_from_afar_is_a_hit():
    build = build_of("STEP 1/3: FROM b\nSTEP 2/3: RUN x\n--> Cache pulled from remote r/c:1\n--> 0e968729461\n", LAST)
    assert build.steps[1].status is StepStatus.CACHED


def test_a_headline_out_of_sequence_is_output():
    build = build_of(START, "STEP 5/9: RUN evil\nSTEP 9/3: RUN evil\n", LAST)
    assert [step.text for step in build.steps] == ["FROM base", "COPY a b", "CMD x"]


def test_a_first_step_printed_by_a_run_begins_no_build():
    run = "STEP 1/2: FROM base\nSTEP 2/2: RUN make\nSTEP 1/1: FROM evil\n"
    assert len(read(run).builds) == 1


def test_the_next_build_begins_when_the_one_before_is_over():
    assert len(read(START, LAST, START, LAST).builds) == 2


def test_many_builds_in_one_log_are_all_told():
    assert len(read(*[START + LAST] * 20).builds) == 20


def test_a_doubtful_headline_counts_when_the_next_is_sure():
    build = build_of(
        START.replace("/3", "/5"),
        "STEP 3/5: RUN make\nnot below an arrow\nSTEP 4/5: COPY c d\n--> 0e968729462\nSTEP 5/5: CMD x\n",
    )
    assert [step.number for step in build.steps] == [1, 2, 3, 4, 5]


def test_lines_missing_in_the_middle_are_told():
    reading = read(START.replace("/3", "/9"), "--> 0e968729461\nSTEP 7/9: CMD x\n")
    assert "Lines are missing between step 2 and step 7 of 9." in reading.warnings
    assert reading.builds[0].steps[-1].number == 7


def test_a_stage_whose_beginning_is_missing_is_told():
    reading = read("[1/2] STEP 1/2: FROM a\n[1/2] STEP 2/2: COPY a b\n--> 0e968729461\n[2/2] STEP 3/4: CMD x\n")
    assert "Lines are missing before step 3 of stage 2." in reading.warnings


def test_a_head_cut_below_an_arrow_keeps_the_rest():
    reading = read("--> 0e968729461\n", LAST)
    assert [step.text for step in reading.builds[0].steps] == ["CMD x"]
    assert "steps before 3 are missing" in reading.warnings[0]


def test_a_head_cut_inside_output_invents_nothing():
    assert read("STEP 4/9: RUN evil\nmore\n").builds == ()


@pytest.mark.parametrize(
    "error",
    [
        'Error: building at STEP "RUN make": exit status 1',
        'error building at STEP "RUN make": error while running runtime: exit status 1',
        'Error: error building at STEP "RUN make": exit status 125',
    ],
)
def test_the_error_names_the_step_that_failed(error):
    build = build_of("STEP 1/2: FROM base\nSTEP 2/2: RUN make\nout\n", error, "\n")
    assert (build.outcome, build.error, build.steps[-1].status) == (Outcome.FAILED, error, StepStatus.FAILED)


def test_a_run_may_print_errors_of_its_own():
    assert build_of("STEP 1/2: FROM b\nSTEP 2/2: RUN x\nError: mine\n").outcome is Outcome.INCOMPLETE


def test_an_error_printed_by_a_run_is_undone_when_the_build_goes_on():
    printed = 'Error: building at STEP "RUN y": exit status 1\n'
    build = build_of("STEP 1/3: FROM b\nSTEP 2/3: RUN x\n", printed, "--> 0e968729461\n", LAST)
    assert build.outcome is Outcome.SUCCEEDED


def test_a_failed_commit_fails_the_build():
    build = build_of(START, "STEP 3/3: CMD x\nCOMMIT app\nError: committing container: no space left on device\n")
    assert build.outcome is Outcome.FAILED


def test_the_stage_beside_a_failed_one_is_canceled():
    build = build_of(
        "[1/2] STEP 1/2: FROM a AS one\n[2/2] STEP 1/2: FROM b\n[1/2] STEP 2/2: RUN one\n[2/2] STEP 2/2: RUN two\n"
        'Error: building at STEP "RUN one": exit status 1\n'
    )
    assert [(step.text, step.status) for step in build.steps[2:]] == [
        ("RUN one", StepStatus.FAILED),
        ("RUN two", StepStatus.CANCELED),
    ]


def test_a_build_for_two_platforms_ends_with_the_second_image():
    one = "[linux/amd64] STEP 1/1: FROM b\n[linux/arm64] STEP 1/1: FROM b\n[linux/amd64] COMMIT\n"
    other = FULL.replace("3", "4")
    build = build_of("$ buildah bud\n" * 6, one, FULL, "\n[linux/arm64] COMMIT\n", other, "\n")
    assert (build.outcome, [image.id for image in build.images]) == (Outcome.SUCCEEDED, [FULL, other])
    assert [step.platform for step in build.steps] == ["linux/amd64", "linux/arm64"]


def test_a_log_that_stops_says_so():
    reading = read(START)
    assert reading.builds[0].steps[-1].status is StepStatus.DONE
    assert reading.warnings == ("The log ends before the build that begins at line 1 does.",)


def test_warnings_of_the_builder_are_kept():
    warning = "[Warning] one or more build args were not consumed: [X]"
    assert build_of("STEP 1/2: FROM b\n", warning, "\nSTEP 2/2: CMD x\n").warnings == (warning,)


def test_past_the_cap_steps_are_left_out_and_a_warning_says_so(monkeypatch):
    monkeypatch.setattr("cachescope.formats._buildah_builds.MAX_STEPS", 4)
    reading = read(*[START + LAST] * 3)
    assert sum(len(build.steps) for build in reading.builds) == 4
    assert any("holds more than 4 steps" in warning for warning in reading.warnings)


def test_lines_that_stand_twice_are_one_step():
    assert len(build_of(START.replace("STEP 2", "STEP 2/3: COPY a b\nSTEP 2"), LAST).steps) == 3


def test_notes_of_builds_long_over_are_kept():
    reading = read("--> 0e968729461\n", LAST, *[START + LAST] * 20)
    assert "steps before 3 are missing" in reading.warnings[0]


def test_a_second_error_does_not_replace_the_first():
    build = build_of(START, "Error: first\nError: second\n")
    assert build.error == "Error: first"


def test_coloured_arrows_are_arrows():
    build = build_of("STEP 1/2: FROM b\nSTEP 2/2: RUN x\n--> \x1b[32mUsing cache " + FULL + "\x1b[0m\n")
    assert build.steps[1].status is StepStatus.CACHED


def test_a_stage_out_of_its_number_is_output():
    reading = read("[1/2] STEP 1/2: FROM a\n[1/2] STEP 2/2: COPY a b\n--> 0e968729461\n[7/2] STEP 3/4: CMD x\n")
    assert [step.text for step in reading.builds[0].steps] == ["FROM a", "COPY a b"]


def test_a_commit_before_the_last_step_is_output():
    assert build_of(START, "COMMIT evil\n" + FULL + "\n", LAST).images[0].tags == ("localhost/app:latest",)


def test_a_numbered_commit_out_of_sequence_is_output():
    assert len(build_of("STEP 1: FROM a\nSTEP 9: COMMIT evil\nSTEP 2: CMD x\nSTEP 3: COMMIT a\n").steps) == 2


def test_an_arrow_in_an_instruction_says_nothing_of_the_step_above():
    evil = "STEP 3/3: RUN echo --> Using cache " + FULL
    build = build_of("STEP 1/3: FROM base\nSTEP 2/3: ARG a\n", evil, "\nCOMMIT app\n--> 382f1f2d787\n" + FULL + "\n")
    assert [(step.text[:8], step.cached) for step in build.steps] == [
        ("FROM bas", False),
        ("ARG a", False),
        ("RUN echo", False),
    ]
