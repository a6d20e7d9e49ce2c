"""The same build, told by plain, terminal, rawjson, record and history, reads the same.

`same_build/<build>/` holds one build in several formats; what a format cannot tell stands in docs/reading.md.
"""

from pathlib import Path

import pytest

from cachescope.metrics import figures
from cachescope.model import StepKind
from cachescope.reading import read_builds

FOLDER = Path(__file__).parent / "same_build"
PAIRS = [
    pytest.param(reference, other, id=f"{folder.name}/{other.stem}")
    for folder in sorted(path for path in FOLDER.iterdir() if path.is_dir())
    for reference in [folder / "rawjson.jsonl"]
    for other in sorted(folder.iterdir())
    if other != reference
]
SCREEN = 60
"""A terminal cuts long texts at its width."""
ROUNDED_SECONDS = 0.051
"""Plain and terminal print tenths."""


def build_of(path):
    (build,) = read_builds([path.read_bytes()]).builds
    return build


def instructions_of(build):
    """Return the Dockerfile steps in an order that no format decides: lines are told as they happen."""
    steps = [step for step in build.steps if step.kind is StepKind.INSTRUCTION]
    return sorted(steps, key=lambda step: (step.target or "", step.stage or "", step.platform or "", step.index))


def shown(step, width):
    return (
        step.target,
        step.stage,
        step.platform,
        step.index,
        step.total,
        step.instruction,
        step.text[:width],
        step.status,
        step.cached,
        step.cacheable,
    )


@pytest.mark.parametrize(("reference", "other"), PAIRS)
def test_two_formats_tell_the_same_steps(reference, other):
    width = SCREEN if other.stem == "tty" else None
    left, right = build_of(reference), build_of(other)
    assert [shown(step, width) for step in instructions_of(left)] == [
        shown(step, width) for step in instructions_of(right)
    ]
    assert (left.outcome, left.builder) == (right.outcome, right.builder)


@pytest.mark.parametrize(("reference", "other"), PAIRS)
def test_two_formats_give_the_same_figures(reference, other):
    left, right = figures(build_of(reference)), figures(build_of(other))
    counted = [(one.cacheable, one.hits, one.misses, one.unknown, one.hit_rate) for one in (left, right)]
    assert counted[0] == counted[1]


@pytest.mark.parametrize(("reference", "other"), PAIRS)
def test_what_two_formats_both_time_takes_as_long(reference, other):
    """Plain gives no time to a step that did not end with DONE, so seconds are compared step by step."""
    left, right = build_of(reference), build_of(other)
    told = [
        (one.text, one.duration_seconds, two.duration_seconds)
        for one, two in zip(instructions_of(left), instructions_of(right), strict=True)
        if two.duration_seconds is not None
    ]
    assert all(abs(one - two) <= ROUNDED_SECONDS for _, one, two in told), told
    if other.stem == "plain":
        timed = [step for step in instructions_of(right) if step.status == "done"]
        assert all(step.duration_seconds is not None for step in timed)


@pytest.mark.parametrize(("reference", "other"), [pair for pair in PAIRS if pair.values[1].stem == "plain"])
def test_plain_and_rawjson_tell_the_same_cache_transfers_and_images(reference, other):
    left, right = build_of(reference), build_of(other)
    assert [(image.digest, image.tags) for image in left.images] == [
        (image.digest, image.tags) for image in right.images
    ]
    assert [(item.ref, item.succeeded) for item in left.cache_imports + left.cache_exports] == [
        (item.ref, item.succeeded) for item in right.cache_imports + right.cache_exports
    ]
    assert {base.reference for base in left.base_images} == {base.reference for base in right.base_images}
