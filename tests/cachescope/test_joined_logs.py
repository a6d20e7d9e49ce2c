"""One log after another, as a CI job that builds twice writes them: each build reads as it does alone."""

from functools import cache
from pathlib import Path

import pytest

from cachescope.reading import read_builds

FOLDER = Path(__file__).parent / "formats"
NAMES = (
    "buildkit_plain/buildctl_warm",
    "buildkit_plain/check_only",
    "buildkit_plain/docker_28",
    "buildkit_plain/failed_cache_import",
    "buildkit_plain/buildx_0_7_failed",
    "buildkit_rawjson/bake_warm",
    "buildkit_rawjson/buildctl_warm",
    "buildkit_rawjson/failed_with_words",
    "buildkit_rawjson/three_platforms_warm",
    "buildkit_tty/warm",
    "buildkit_tty/failed_80_columns",
    "buildkit_tty/docker_20_failed",
    "classic/every_instruction_warm",
    "classic/failed_without_newline",
    "buildah/podman_warm",
    "buildah/podman_failed",
    "kaniko/two_stages_failed",
)


@cache
def alone(name):
    return read_builds([content_of(name)])


def content_of(name):
    content = (FOLDER / f"{name}.log").read_bytes()
    return content if content.endswith(b"\n") else content + b"\n"


def told(build):
    steps = tuple((step.text, step.stage, step.status, step.cached, step.duration_seconds) for step in build.steps)
    return build.format, build.outcome, build.error, steps


def in_time(first, second):
    """A stream that carries times tells builds in their order."""
    times = [min((b.started_at for b in alone(name).builds if b.started_at), default=None) for name in (first, second)]
    return None in times or times[0] < times[1]


PAIRS = [(a, b) for a in NAMES for b in NAMES if a != b and in_time(a, b)]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_two_logs_in_one_read_like_each_alone(first, second):
    between = b"+ docker build -t app .\n" if len(first + second) % 2 else b""
    reading = read_builds([content_of(first) + between + content_of(second)])
    assert [told(build) for build in reading.builds] == [
        told(build) for name in (first, second) for build in alone(name).builds
    ]
    assert not [text for text in reading.warnings if "cut off" in text or "are missing" in text]


def block(number, name, end="DONE 0.1s"):
    return f"#{number} {name}\n#{number} {end}\n\n"


def first_blocks(image):
    return [
        block(1, "[internal] load build definition from Dockerfile"),
        block(2, f"[internal] load metadata for {image}"),
    ]


@pytest.mark.parametrize(
    "places",
    [("[{}/3]", "[app {}/3]"), ("[{}/3]", "[linux/arm64 {}/3]"), ("[web {}/3]", "[linux/amd64 web {}/3]")],
)
def test_of_two_builds_mixed_a_step_belongs_to_the_one_that_prints_such_places(places):
    logs = []
    for build, place in enumerate(places):
        steps = [f"FROM docker.io/library/a{build}", f"RUN make {build}", f"RUN test {build}"]
        named = [block(number + 3, f"{place.format(number + 1)} {step}") for number, step in enumerate(steps)]
        logs.append([*first_blocks(f"docker.io/library/a{build}"), *named, block(6, "exporting to image")])
    mixed = "".join(part for pair in zip(*logs, strict=True) for part in pair)
    builds = read_builds([mixed.encode()]).builds
    told_steps = [[step.text for step in build.steps if step.instruction] for build in builds]
    assert told_steps == [[f"FROM docker.io/library/a{n}", f"RUN make {n}", f"RUN test {n}"] for n in (0, 1)]
