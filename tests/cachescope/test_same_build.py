"""The same build, told by plain, terminal, rawjson and record, reads the same.

Differences that a format forces: plain gives no time to a step that did not end with DONE, and tenths to the others; a
screen cuts long texts at its width; a record lacks what the client does itself.
"""

from pathlib import Path

import pytest

from cachescope.reading import read_builds

FOLDER = Path(__file__).parent / "formats"


def steps_of(path, width=None):
    """Return the Dockerfile steps of a log, in their own order."""
    (build,) = read_builds([(FOLDER / path).read_bytes()]).builds
    steps = [
        (
            step.target or "",
            step.stage or "",
            step.platform or "",
            step.index,
            step.text[:width],
            step.status,
            step.cached,
        )
        for step in build.steps
        if step.kind == "instruction"
    ]
    return build.outcome, sorted(steps)


@pytest.mark.parametrize(
    ("left", "right", "width"),
    [
        ("buildkit_plain/bake_changing_targets.log", "buildkit_rawjson/bake_warm.log", None),
        ("buildkit_plain/buildctl_warm.log", "buildkit_rawjson/buildctl_warm.log", None),
        ("buildkit_plain/history_logs_failed.log", "buildkit_record/failed.dockerbuild", None),
        ("buildkit_tty/buildx_0_10_warm.log", "buildkit_rawjson/buildctl_warm.log", 40),
    ],
)
def test_two_formats_tell_the_same_steps(left, right, width):
    assert steps_of(left, width) == steps_of(right, width)
