"""What the classic builder's text says, case by case, beyond its fixtures."""

import pytest

from cachescope.formats._docker_builds import context_bytes_of
from cachescope.model import Outcome, StepStatus
from cachescope.reading import read_builds

START = "Sending build context to Docker daemon  2.048kB\nStep 1/3 : FROM base:1\n ---> f6062bacf0c1\n"
RAN = "Step 2/3 : RUN make\n ---> Running in bb93a0d1c2e3\nout\n"
REMOVED = "Removing intermediate container bb93a0d1c2e3\n ---> 9b2f6a7c8d01\n"
LAST = "Step 3/3 : CMD x\n ---> Using cache\n ---> 11ce26cb400d\n"
END = "Successfully built 11ce26cb400d\nSuccessfully tagged app:1\n"


def read(*parts):
    return read_builds(["".join(parts).encode()])


def build_of(*parts):
    (build,) = read(*parts).builds
    return build


@pytest.mark.parametrize(
    ("printed", "size"),
    [("7.168kB", 7168), ("  2.048 kB", 2048), ("1.2MB", 1_200_000), ("3B", 3), ("2GB", 2 * 10**9), ("much", None)],
)
def test_a_context_size_is_read_as_docker_prints_it(printed, size):
    assert context_bytes_of(printed) == size


def test_old_clients_number_from_zero_without_a_total():
    build = build_of(
        "Step 0 : FROM ubuntu\n ---> d2a0ecffe6fa\nStep 1 : RUN true\n ---> Running in bb93a0d1c2e3\n"
        " ---> 9b2f6a7c8d01\nRemoving intermediate container bb93a0d1c2e3\nStep 2 : CMD x\n ---> Using cache\n"
        " ---> 11ce26cb400d\nSuccessfully built 11ce26cb400d\n"
    )
    assert [(step.number, step.total, step.cached) for step in build.steps] == [
        (0, None, False),
        (1, None, False),
        (2, None, True),
    ]
    assert build.outcome is Outcome.SUCCEEDED


def test_the_line_below_a_headline_may_come_with_the_next_chunk():
    reading = read_builds([(START + "Step 2/3 : RUN make\n").encode(), b" ---> Using cache\n ---> 9b2f6a7c8d01\n"])
    assert reading.builds[0].steps[1].status is StepStatus.CACHED


def test_a_headline_that_is_cut_announces_nothing():
    assert len(build_of(START, "Step 2/3 : RUN mak").steps) == 1


def test_a_log_that_ends_in_a_run_is_incomplete_and_says_so():
    reading = read(START, RAN)
    assert reading.builds[0].outcome is Outcome.INCOMPLETE
    assert reading.builds[0].steps[-1].status is StepStatus.RUNNING
    assert reading.warnings == ("The log ends before the build that begins at line 1 does.",)


def test_a_log_that_ends_below_a_finished_step_knows_that_it_is_done():
    assert build_of(START, RAN, REMOVED).steps[-1].status is StepStatus.DONE


def test_a_log_that_ends_below_a_headline_does_not_know_its_state():
    step = build_of(START, "Step 2/3 : RUN make\n").steps[-1]
    assert (step.status, step.cached) == (StepStatus.RUNNING, None)


def test_a_whole_build_printed_by_a_run_is_no_build():
    nested = "Step 1/1 : FROM x\n ---> 0123456789ab\nSuccessfully built 0123456789ab\nSuccessfully tagged evil:1\n"
    build = build_of(START, RAN, nested, REMOVED, LAST, END)
    assert [step.text for step in build.steps] == ["FROM base:1", "RUN make", "CMD x"]
    assert build.images[0].tags == ("app:1",)


def test_an_announced_build_printed_by_a_run_is_no_build_once_the_run_goes_on():
    nested = START + "Step 2/3 : RUN make\n ---> Running in 0123456789ab\n"
    build = build_of(START, RAN, nested, REMOVED, LAST, END)
    assert len(build.steps) == 3


def test_a_build_that_follows_an_interrupted_one_counts_when_it_ends():
    first, second = read(START, RAN, START, RAN, REMOVED, LAST, END).builds
    assert (first.outcome, second.outcome) == (Outcome.INCOMPLETE, Outcome.SUCCEEDED)


def test_a_failure_printed_by_a_run_is_undone_when_the_build_goes_on():
    printed = "The command '/bin/sh -c make' returned a non-zero code: 2\n"
    build = build_of(START, RAN, printed, REMOVED, LAST, END)
    assert build.outcome is Outcome.SUCCEEDED
    assert build.steps[1].error is None


def test_another_commands_failure_is_output():
    printed = "The command '/bin/sh -c other' returned a non-zero code: 2\n"
    assert build_of(START, RAN, printed).outcome is Outcome.INCOMPLETE


def test_a_failure_may_stand_behind_output_without_a_newline():
    build = build_of(START, RAN, "abcThe command '/bin/sh -c make' returned a non-zero code: 2\n")
    assert build.error == "The command '/bin/sh -c make' returned a non-zero code: 2"
    assert build.steps[-1].status is StepStatus.FAILED


@pytest.mark.parametrize(
    "text",
    [
        "OCI runtime create failed: container_linux.go:380: starting container process caused: exec: x: not found",
        "Error response from daemon: no space",
        "ERROR: Service 'web' failed to build : Build failed",
        "hcsshim::CreateComputeSystem: The virtual machine could not be started.",
    ],
)
def test_the_daemons_own_errors_fail_a_run(text):
    build = build_of(START, RAN, text, "\n")
    assert (build.outcome, build.error) == (Outcome.FAILED, text)


def test_an_error_below_a_pull_fails_the_from():
    build = build_of(
        "Step 1/2 : FROM nosuch\nlatest: Pulling from library/nosuch\n0123456789ab: Pulling fs layer\n"
        "failed to register layer: no space left on device\n"
    )
    assert build.steps[0].status is StepStatus.FAILED


def test_a_pull_that_is_cut_is_no_failure():
    build = build_of("Step 1/2 : FROM x\nlatest: Pulling from library/x\n0123456789ab: Retrying in 5 seconds\n")
    assert build.outcome is Outcome.INCOMPLETE


def test_a_pull_tells_the_base_images_digest_and_id():
    digest = "sha256:" + "a" * 64
    build = build_of(
        f"Step 1/2 : FROM x:1\nPulling from library/x\nDigest: {digest}\nStatus: Downloaded newer image for x:1\n"
        " ---> f6062bacf0c1\nStep 2/2 : CMD x\n ---> Using cache\n ---> 11ce26cb400d\n"
    )
    (base,) = build.base_images
    assert (base.reference, base.digest, base.id) == ("x:1", digest, "f6062bacf0c1")


def test_a_stage_is_no_base_image():
    build = build_of(
        "Step 1/3 : FROM a AS one\n ---> f6062bacf0c1\nStep 2/3 : FROM one\n ---> f6062bacf0c1\n"
        "Step 3/3 : FROM scratch\n ---> \n"
    )
    assert [base.reference for base in build.base_images] == ["a"]
    assert [step.stage for step in build.steps] == ["one", None, None]


def test_an_add_from_afar_may_be_served_from_cache_below_its_progress():
    build = build_of(
        START,
        "Step 2/3 : ADD http://x/y /y\nDownloading  1kB/1kB\n ---> Using cache\n ---> 9b2f6a7c8d01\n",
        LAST,
        END,
    )
    assert build.steps[1].cached


def test_a_line_of_another_program_above_a_headline_hides_no_step():
    noise = "npm notice\n"
    build = build_of(START, RAN, REMOVED, noise, LAST, END)
    assert [step.number for step in build.steps] == [1, 2, 3]


def test_a_doubtful_headline_counts_when_the_next_in_sequence_is_sure():
    build = build_of(
        START.replace("/3", "/4"),
        "Step 2/4 : RUN make\nnot below an arrow\n",
        "Step 3/4 : COPY a b\n ---> 9b2f6a7c8d01\n",
        "Step 4/4 : CMD x\n ---> Using cache\n ---> 11ce26cb400d\n",
        END,
    )
    assert [step.number for step in build.steps] == [1, 2, 3, 4]


def test_lines_missing_in_the_middle_leave_a_state_unknown():
    reading = read(START.replace("/3", "/9"), "Step 2/9 : COPY a b\n", " ---> 9b2f6a7c8d01\nStep 7/9 : CMD x\n")
    assert reading.builds[0].steps[-1].number == 7
    assert "Lines are missing between step 2 and step 7 of 9." in reading.warnings


def test_the_unused_arguments_are_a_warning_of_the_build():
    text = "[Warning] One or more build-args [X] were not consumed"
    assert build_of(START, RAN, REMOVED, LAST, text, "\n", END).warnings == (text,)


def test_a_clock_set_back_gives_no_negative_seconds():
    build = build_of(
        "2026-11-23T16:54:25.5Z Step 1/2 : FROM x\n2026-11-23T16:54:25.5Z  ---> f6062bacf0c1\n"
        "2026-11-23T16:54:20.5Z Step 2/2 : CMD x\n2026-11-23T16:54:20.6Z  ---> Using cache\n"
        "2026-11-23T16:54:20.6Z  ---> 11ce26cb400d\n2026-11-23T16:54:20.7Z Successfully built 11ce26cb400d\n"
    )
    assert [step.duration_seconds for step in build.steps] == [0.0, 0.2]


def test_a_head_cut_inside_output_invents_nothing():
    reading = read("Step 3/9 : RUN evil\n ---> Using cache\nmore output\n")
    assert reading.builds == ()


def test_blank_lines_between_messages_do_not_matter():
    spaced = (START + RAN + REMOVED + LAST + END).replace("\n", "\n\n")
    assert [step.status for step in build_of(spaced).steps] == [StepStatus.DONE, StepStatus.DONE, StepStatus.CACHED]


def test_many_builds_in_one_log_are_all_told():
    assert len(read(*[START + RAN + REMOVED + LAST + END] * 40).builds) == 40


def test_past_the_cap_steps_are_left_out_and_a_warning_says_so(monkeypatch):
    monkeypatch.setattr("cachescope.formats._docker_builds.MAX_STEPS", 4)
    reading = read(*[START + RAN + REMOVED + LAST + END] * 3)
    assert sum(len(build.steps) for build in reading.builds) == 4
    assert any("holds more than 4 steps" in warning for warning in reading.warnings)


def test_a_failure_at_the_end_of_much_output_is_found():
    output = "a line of output of the command\n" * 5000
    assert build_of(START, RAN, output, "Error response from daemon: gone\n").outcome is Outcome.FAILED


def test_a_build_without_a_step_fails_before_the_next_one_begins():
    context = "Sending build context to Docker daemon  2.048kB\n"
    refused = context + "Error response from daemon: dockerfile parse error line 1: unknown instruction: FORM\n"
    first, second = read(refused, START, RAN, REMOVED, LAST, END).builds
    assert (first.outcome, first.steps, second.outcome) == (Outcome.FAILED, (), Outcome.SUCCEEDED)


def test_notes_of_builds_long_over_are_kept():
    cut = "Step 2/3 : COPY a b\n ---> 9b2f6a7c8d01\n" + LAST + END
    reading = read(" ---> f6062bacf0c1\n" + cut, *[START + RAN + REMOVED + LAST + END] * 20)
    assert "steps before 2 are missing" in reading.warnings[0]


def test_lines_missing_below_a_headline_leave_its_state_unknown():
    reading = read(START.replace("/3", "/9"), "Step 2/9 : RUN make\n")
    content = START.replace("/3", "/9") + "Step 2/9 : RUN make\n"
    reading = read_builds([content.encode(), b"\n\n\n\n\n ---> 9b2f6a7c8d01\nStep 7/9 : CMD x\n ---> Using cache\n"])
    assert (reading.builds[0].steps[1].status, reading.builds[0].steps[1].cached) == (StepStatus.UNKNOWN, None)


def test_a_build_whose_last_steps_are_missing_still_ends():
    reading = read(START.replace("/3", "/9"), "Step 2/9 : COPY a b\n", " ---> 11ce26cb400d\n", END)
    assert reading.builds[0].outcome is Outcome.SUCCEEDED
    assert "Lines are missing between step 2 and the end of the build at line 1." in reading.warnings


def test_the_end_of_one_build_is_not_taken_for_that_of_another():
    cut = START.replace("/3", "/9") + "Step 2/9 : RUN make\n ---> Running in aa93a0d1c2e3\n"
    first, second = read(START, RAN, REMOVED, LAST, END, cut, " ---> 11ce26cb400d\n", END).builds
    assert (first.outcome, second.outcome) == (Outcome.SUCCEEDED, Outcome.INCOMPLETE)


def test_coloured_arrows_are_arrows():
    coloured = LAST.replace("11ce26cb400d\n", "\x1b[32m11ce26cb400d\x1b[0m\n")
    assert build_of(START, RAN, REMOVED, coloured, END).outcome is Outcome.SUCCEEDED


def test_what_comes_after_a_build_is_read_as_nothing():
    build = build_of(
        START, RAN, REMOVED, LAST, END, "Step 9/3 : CMD x\nSuccessfully built nothing\nSuccessfully tagged\n"
    )
    assert len(build.steps) == 3


def test_an_arrow_in_an_instruction_says_nothing_of_the_step_above():
    log = b"Step 1/3 : ARG a\nStep 2/3 : FROM b\n ---> 0e9687294613\nStep 3/3 : RUN : ---> Using cache\n"
    assert [step.cached for step in read_builds([log]).builds[0].steps] == [False, False, None]
    arg = b"Step 1/3 : ARG a\nStep 2/3 : ARG b=---> Using cache\nStep 3/3 : FROM c\n ---> 0e9687294613\n"
    assert [step.cached for step in read_builds([arg]).builds[0].steps] == [False, False, False]
