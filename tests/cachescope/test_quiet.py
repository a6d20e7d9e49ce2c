"""What counts as a quiet build, and what does not."""

import pytest

from cachescope.model import Outcome
from cachescope.reading import read_builds

DIGEST = "sha256:" + "6a03" * 16


def read(text):
    return read_builds([text.encode()])


def test_an_id_below_other_words_is_no_build():
    assert read("Inspecting\n" + DIGEST + "\n").builds == ()


@pytest.mark.parametrize(
    "command",
    [
        "docker build -q .",
        "docker buildx build --quiet .",
        "+ docker image build -qt app .",
        "docker build --quiet=true .",
    ],
)
def test_an_id_below_the_command_that_asks_for_it_is_a_build(command):
    (build,) = read(f"Cloning\n{command}\n{DIGEST}\n").builds
    assert (build.outcome, build.images[0].id, build.builder) == (Outcome.SUCCEEDED, DIGEST, None)


def test_one_command_gives_one_build():
    assert len(read(f"x\ndocker build -q .\n{DIGEST}\n{DIGEST}\n").builds) == 1


def test_a_command_that_is_not_quiet_asks_for_no_id():
    assert read(f"x\ndocker build --squash .\n{DIGEST}\n").builds == ()


def test_podman_prints_the_bare_id():
    (build,) = read("x\n$ podman build -q .\n" + "a" * 64 + "\n").builds
    assert build.builder == "buildah"


def test_an_id_far_below_its_command_is_no_build():
    assert read("x\ndocker build -q .\n" + "line\n" * 500 + DIGEST + "\n").builds == ()


@pytest.mark.parametrize(
    ("error", "builder"),
    [
        ("ERROR: failed to solve: process did not complete successfully: exit code: 1", "buildkit"),
        ("error: failed to solve: rpc error", "buildkit"),
        ("failed to solve with frontend dockerfile.v0: failed to build LLB", "buildkit"),
        ('unable to prepare context: path "x" not found', None),
    ],
)
def test_an_error_alone_is_a_failed_build(error, builder):
    (build,) = read(f"some\nwords\n{error}\n").builds
    assert (build.outcome, build.error, build.builder) == (Outcome.FAILED, error.removeprefix("ERROR: "), builder)


def test_an_error_below_a_builder_that_talks_is_that_builders():
    assert all(build.format != "quiet" for build in read("#5 [2/3] RUN x\nERROR: failed to solve: x\n").builds)


def test_two_quiet_builds_are_two():
    assert len(read(f"docker build -q a\n{DIGEST}\ndocker build -q b\nERROR: failed to solve: x\n").builds) == 2


@pytest.mark.parametrize("around", ["{}", "{}\n", "\n{}\r\n\n"])
def test_a_log_that_is_nothing_but_a_bare_id_is_podmans(around):
    (build,) = read_builds(
        [around.format("382f1f2d78799db7ffcbee0f81597769653ec26155542410f3b01d2c76c30db3").encode()]
    ).builds
    assert (build.builder, build.outcome, build.steps) == ("buildah", Outcome.SUCCEEDED, ())


def test_a_bare_id_and_more_is_no_build():
    content = b"382f1f2d78799db7ffcbee0f81597769653ec26155542410f3b01d2c76c30db3\n" + b"\n" * 5000 + b"Done.\n"
    assert read_builds([content]).builds == ()
