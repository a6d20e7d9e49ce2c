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
