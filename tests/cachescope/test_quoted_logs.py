"""Logs as people copy and quote them: rows without a head, lines left out, tails, words of other programs between."""

import pytest

from cachescope.model import Outcome, StepStatus
from cachescope.reading import read_builds


def only(text):
    (build,) = read_builds([text.encode()]).builds
    return build


ROWS = """\
 => [internal] load build definition from Dockerfile                     0.0s
 => => transferring dockerfile: 187B                                      0.0s
 => CACHED [1/3] FROM docker.io/library/alpine                            0.0s
 => [2/3] RUN make                                                        2.1s
 => ERROR [3/3] COPY a b                                                  0.3s
"""
HEAD = "[+] Building 2.6s (4/4) FINISHED\n"
ERROR = 'ERROR: failed to solve: failed to compute cache key: "/a": not found\n'
GOOD = ROWS.replace("ERROR [3/3]", "[3/3]")


def test_rows_without_a_head_are_a_build_without_a_length():
    reading = read_builds([(ROWS + ERROR).encode()])
    (build,) = reading.builds
    assert (build.outcome, build.duration_seconds, len(build.steps)) == (Outcome.FAILED, None, 4)
    assert reading.warnings == ("The head of the build at line 1 is cut off.",)


def test_one_row_with_its_time_is_a_build_and_one_without_is_none():
    assert [step.text for step in only(" => [2/3] RUN make      2.1s\n").steps] == ["RUN make"]
    assert read_builds([b" => [2/3] RUN make\n"]).builds == ()


def test_rows_that_no_builder_knows_are_no_build():
    assert read_builds([b" => [x] something   2.1s\n => [y] else   3.0s\n => => [1/2] RUN a  1.0s\n" * 3]).builds == ()


def test_a_head_below_rows_goes_on_with_their_build():
    assert [len(build.steps) for build in read_builds([(ROWS + HEAD + ROWS + ERROR).encode()]).builds] == [4]


def test_an_error_far_below_a_screen_on_which_all_is_well_is_not_its_own():
    for gap in (3, 300):
        build = read_builds([(HEAD + GOOD + "words\n" * gap + ERROR).encode()]).builds[0]
        assert (build.outcome, build.error) == (Outcome.SUCCEEDED, None)


def test_the_error_below_a_long_trailer_is_the_builds():
    trailer = "------\n > [3/3] COPY a b:\n" + "output of the step\n" * 700 + "------\n"
    build = only(HEAD + ROWS + trailer + ERROR)
    assert build.error == 'failed to solve: failed to compute cache key: "/a": not found'


def test_a_screen_that_nobody_looks_at_any_more_is_put_away():
    text = HEAD + ROWS + ERROR + "other words\n" * 700 + HEAD + ROWS + ERROR
    assert [build.line for build in read_builds([text.encode()]).builds] == [1, 708]
    without_error = HEAD + ROWS + "other words\n" * 21_000 + HEAD + ROWS
    assert len(read_builds([without_error.encode()]).builds) == 2


def test_compose_names_the_service_above_the_screen():
    assert {step.target for step in only("Building web\n" + HEAD + GOOD).steps} == {"web"}
    assert {step.target for step in only("Building web\n\n\n\n" + HEAD + GOOD).steps} == {None}


STEPS = """\
#7 [2/4] RUN make
#7 1.0 output
#7 DONE 1.0s

"""


def test_a_failed_step_without_its_headline_has_the_name_that_the_trailer_gives():
    build = only('#9 2.1 npm ERR!\n#9 ERROR: process "/bin/sh -c npm ci" did not complete successfully: exit code: 1\n'
                 "------\n > [build 3/4] RUN npm ci:\n2.1 npm ERR!\n------\n")  # fmt: skip
    (step,) = build.steps
    assert (step.number, step.stage, step.text, step.status) == (9, "build", "RUN npm ci", StepStatus.FAILED)
    assert build.outcome is Outcome.FAILED


@pytest.mark.parametrize(
    "trailer", ["", "------\n > importing cache manifest from a:\n------\n", "------\n > words:\n"]
)
def test_a_failed_step_that_nothing_names_leaves_a_failed_build(trailer):
    build = only("#9 2.1 npm ERR!\n#9 ERROR: executor failed running [/bin/sh -c npm ci]: exit code: 1\n" + trailer)
    assert (build.outcome, build.steps) == (Outcome.FAILED, ())


def test_the_end_of_a_step_whose_headline_is_missing_is_no_step():
    build = only("#5 CACHED\n#6 ...\n#4 DONE 0.1s\n" + STEPS)
    assert [step.number for step in build.steps] == [7]


FIELDS = """\
#5 [2/3] RUN make
#5       digest: sha256:c9f1e8bcf2f5b3b1a0d2b8f4fcf0ee0f6c5b7b2a9e61f5a0b3cdd4c1f6a8e7d3
#5         name: "[2/3] RUN make"
#5      started: 2019-03-05 05:24:07.5 +0000 UTC
#5    completed: 2019-03-05 05:24:08.0 +0000 UTC
#5     duration: 500ms
#5 0.4 output

"""


def test_docker_18_tells_a_step_in_fields():
    build = only(FIELDS)
    (step,) = build.steps
    assert (step.status, step.duration_seconds, step.output_lines) == (StepStatus.DONE, 0.5, 1)
    assert step.digest == "sha256:c9f1e8bcf2f5b3b1a0d2b8f4fcf0ee0f6c5b7b2a9e61f5a0b3cdd4c1f6a8e7d3"
    assert (build.started_at, build.duration_seconds) == (1551763447.5, 0.5)


@pytest.mark.parametrize(
    ("field", "status"),
    [
        ("#5       cached: true\n", StepStatus.CACHED),
        ("#5       cached: false\n", StepStatus.DONE),
        ('#5        error: "exit code: 1"\n', StepStatus.FAILED),
        ('#5        error: "context canceled"\n', StepStatus.CANCELED),
        ("#5      started: 2019-03-05 05:24:09.0 +0000 UTC\n", StepStatus.RUNNING),
        ("#5     duration: soon\n#5    completed: then\n#5       digest: none\n", StepStatus.DONE),
    ],
)
def test_the_last_field_of_docker_18_says_how_a_step_ended(field, status):
    assert only(FIELDS.rstrip("\n") + "\n" + field).steps[0].status is status


def test_a_step_of_docker_18_that_is_shown_again_has_still_ended():
    assert only(FIELDS + "#4 [1/3] FROM a\n#4       cached: true\n\n#5 [2/3] RUN make\n#5 0.5 more\n").steps[
        0
    ].status is (StepStatus.DONE)


CLASSIC = """\
Step 1/6 : FROM node
 ---> 90f5ee24bee2
{}
Step 6/6 : CMD node
 ---> Running in f4a1ea099eec
Removing intermediate container f4a1ea099eec
 ---> 6edad76d09e9
Successfully built 6edad76d09e9
"""


@pytest.mark.parametrize("mark", ["...", "…", " [...]", "<snip>", "# output omitted", "(truncated)"])
def test_steps_that_somebody_left_out_end_no_build(mark):
    reading = read_builds([CLASSIC.format(mark).encode()])
    assert [step.number for step in reading.builds[0].steps] == [1, 6]
    assert reading.builds[0].outcome is Outcome.SUCCEEDED
    assert reading.warnings == ("Lines are missing between step 1 and step 6 of 6.",)


def test_arrows_from_the_source_of_a_page_are_arrows():
    text = "Step 1/2 : FROM a\n ---> 90f5ee24bee2\nStep 2/2 : RUN b\n ---> Using cache\n ---> 6edad76d09e9\n"
    assert [step.cached for step in only(text.replace(">", "&gt;")).steps] == [False, True]


def test_buildah_says_no_commit_where_all_was_cached_and_then_the_next_build_begins():
    image = "b5f67517c95ad7c9e862ced0bfd35f14ac731f2245f134cb9e6cb05033bb7d57"
    one = f"STEP 1: FROM a\nSTEP 2: RUN b\n--> Using cache {image}\n"
    assert [build.outcome for build in read_builds([(one + f"{image}\n" + one).encode()]).builds] == [
        Outcome.SUCCEEDED,
        Outcome.INCOMPLETE,
    ]
    assert only(one + "a" * 64 + "\n").outcome is Outcome.INCOMPLETE


def test_kaniko_before_0_17_says_no_running():
    text = (
        "INFO[0000] Built cross stage deps: map[]\nINFO[0001] RUN make\nINFO[0001] cmd: /bin/sh\n"
        "INFO[0001] args: [-c make]\nfirst\nsecond\nINFO[0002] Taking snapshot of full filesystem...\n"
        "INFO[0003] No files were changed.\n"
    )
    assert only(text).steps[0].output_lines == 2


@pytest.mark.parametrize("margin", ["#  ", ">", "> ", "build-1  | ", "    "])
def test_rows_behind_a_margin_are_rows(margin):
    text = "".join(margin + line for line in (ROWS + ERROR).splitlines(keepends=True))
    build = only("Some words of somebody.\n\n" + text)
    assert (build.outcome, [step.status.value for step in build.steps]) == (
        Outcome.FAILED,
        ["done", "cached", "done", "failed"],
    )


def test_rows_between_backticks_are_rows():
    build = only("It says\n `" + ROWS + ERROR.rstrip() + "`\n")
    assert len(build.steps) == 4


def test_a_failed_step_whose_row_is_missing_stands_in_the_words_below_the_screen():
    text = " => CANCELED [a 2/2] RUN b    0.1s\n------   \n > [c 1/9] RUN d:\n0.5 gone\n------\n"
    assert [(step.text, step.status) for step in only(text).steps] == [
        ("RUN b", StepStatus.CANCELED),
        ("RUN d", StepStatus.FAILED),
    ]
    assert len(only(text.replace("[c 1/9] RUN d:", "[a 2/2] RUN b:")).steps) == 1
    assert len(only(text.replace("[c 1/9] RUN d:", "importing cache manifest from a:")).steps) == 1


def test_what_a_failed_step_printed_is_a_build_without_the_error_below():
    (step,) = only("It fails:\n\n > [linux/arm64 x 4/4] RUN go build:\n#28 0.608 go: finding a\n#28 3.6 PC=0\n").steps
    assert (step.text, step.platform, step.status) == ("RUN go build", "linux/arm64", StepStatus.FAILED)
    assert read_builds([b" > [some 1/2] words:\n > [x 1/2] RUN without a colon\n"]).builds == ()


def test_a_step_that_the_trailer_names_has_failed():
    text = "#1 [1/2] FROM a\n#1 DONE 0.1s\n\n#2 [2/2] RUN b\n#2 0.1 c\n#2 ...\n\n------\n > [2/2] RUN b:\n------\n"
    assert [step.status for step in only(text).steps] == [StepStatus.DONE, StepStatus.FAILED]
    other = text.replace("> [2/2] RUN b", "> [z 3/3] RUN y")
    assert [step.text for step in only(other).steps] == ["FROM a", "RUN b", "RUN y"]


def test_a_build_of_which_only_the_cache_is_told_is_one():
    text = "#5 importing cache manifest from gha:1\n#5 ERROR: gone\nand\n#18 exporting cache\n#18 ERROR: gone\n"
    build = only(text + "------\n > exporting cache:\n------\nerror: failed to solve: gone\n")
    assert (build.outcome, len(build.cache_imports), len(build.cache_exports)) == (Outcome.FAILED, 1, 1)


def test_rows_to_the_last_step_without_an_export_are_not_all():
    assert only(" => CACHED [a 1/2] FROM b   0.0s\n => CACHED [a 2/2] RUN c   0.0s\n").outcome is Outcome.INCOMPLETE


def test_the_export_of_one_service_ends_no_other():
    row = " => [{}] exporting to image    0.1s\n"
    rows = row.format("db") + " => CACHED [web build 1/3] RUN a    0.0s\n"
    assert only(rows).outcome is Outcome.INCOMPLETE
    assert only(rows + row.format("web")).outcome is Outcome.SUCCEEDED
    assert only(rows.replace("1/3", "3/3")).outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("words", ["[+] Running 2/2", "Use 'docker scan' to run Snyk tests against images"])
def test_what_is_said_only_behind_a_success_ends_the_last_frame(words):
    rows = "[+] Building 1.3s (4/5)\n" + GOOD + " => exporting to image    0.0s\n"
    assert only(rows).outcome is Outcome.INCOMPLETE
    assert only(rows + f"\n{words}\n").outcome is Outcome.SUCCEEDED


def test_a_failed_step_behind_other_words_is_told_with_the_error():
    build = only("It says > [3/3] RUN a:\n#8 0.1 b\nexecutor failed running [/bin/sh -c a]: exit code: 1\n")
    assert (build.format, [step.text for step in build.steps]) == ("quiet", ["RUN a"])


def test_times_that_a_narrow_console_broke_off_the_first_rows_are_theirs():
    text = "  => [a internal] load .dockerignore\n 0.0s\n  => ERROR [a 2/3] RUN b\n 0.4s\n"
    assert [(step.target, step.duration_seconds) for step in only(text).steps] == [("a", 0.0), ("a", 0.4)]


def test_an_export_is_the_row_of_a_build_without_a_dockerfile():
    text = " => pip install numpy    13.0s\n => exporting to oci image format    2.4s\n => => sending tarball   0.4s\n"
    assert only(text).outcome is Outcome.SUCCEEDED


def test_a_label_before_some_lines_comes_off():
    text = (
        "[INFO] app | #7 [2/2] ADD a b\n#7 DONE 0.1s\n\n#8 exporting to image\n#8 exporting layers\n"
        "[INFO] app | #8 exporting layers 0.4s done\n#8 DONE 0.4s\n"
    )
    assert [step.text for step in only(text).steps] == ["ADD a b", "exporting to image"]


def test_a_row_with_output_below_it_is_at_work():
    rows = " => CACHED [a 1/3] FROM b   0.0s\n => [a 2/3] RUN c    618.6s\n => => # (8/40) Installing\n"
    for text in (rows, "[+] Building 619.0s (1/3)\n" + rows + " => [internal] load build context   0.1s\n"):
        step = next(step for step in only(text).steps if step.index == 2)
        assert (step.status, step.duration_seconds) == (StepStatus.RUNNING, None)


def test_a_stage_without_a_target_beside_targets_is_a_target():
    rows = " => [auth base 3/7] COPY a .   0.1s\n => [web 3/5] COPY b .   0.0s\n"
    assert [(step.target, step.stage) for step in only(rows).steps] == [("auth", "base"), ("web", None)]


def test_an_excerpt_without_an_export_has_no_end():
    text = "#7 [a 2/3] WORKDIR /b\n#7 CACHED\n\n#8 [a 3/3] COPY . .\n#8 CACHED\n"
    assert only(text).outcome is Outcome.INCOMPLETE


def test_a_named_image_ends_a_build_of_which_lines_were_taken_out():
    text = "#7 [2/3] WORKDIR /a\n#8 [3/3] RUN b\n#8 DONE 0.9s\n#13 naming to docker.io/a/b:1.0 done\n#13 DONE 0.1s\n"
    build = only(text)
    assert build.outcome is Outcome.SUCCEEDED
    assert [(step.status, step.cached) for step in build.steps] == [
        (StepStatus.UNKNOWN, None),
        (StepStatus.DONE, False),
    ]


def test_the_same_step_behind_somebodys_words_is_another_builds():
    block = "#8 [b 4/4] RUN pip\n#8 CACHED\n"
    assert [len(build.steps) for build in read_builds([(block + "...\n\nNow edit it:\n" + block).encode()]).builds] == [
        1,
        1,
    ]
    assert len(read_builds([(block + "\n" + block).encode()]).builds) == 1


def test_the_exports_of_targets_alone_are_a_build():
    text = "#11 DONE 0.1s\n\n#13 [worker] exporting to image\n#13 exporting layers 0.0s done\n#13 DONE 0.1s\n"
    build = only(text)
    assert (build.outcome, [step.target for step in build.steps]) == (Outcome.SUCCEEDED, ["worker"])
