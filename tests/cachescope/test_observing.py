"""What a log tells, as the detector sees it: in the order of the Dockerfile, whoever announced which stage first."""

from pathlib import Path

import pytest

from cachescope.expectations import ObservedBuild
from cachescope.model import BaseImage, Build, Outcome
from cachescope.observing import MOST_STEPS, observe_build
from cachescope.reading import read_builds
from tests.factories import make_build, make_step

FORMATS = Path(__file__).parent / "formats"


def observe(build: Build, **values: object) -> ObservedBuild | None:
    given = {"build_id": "1", "repository": "acme/api", "at": 1.0, "branch": "main", "is_default_branch": True}
    return observe_build(build, **given | values)  # type: ignore[arg-type]


def read(path: Path) -> Build:
    return read_builds([path.read_bytes()]).builds[0]


@pytest.mark.parametrize("path", sorted(FORMATS.rglob("*.log")), ids=lambda path: path.stem)
def test_every_real_log_can_be_observed(path: Path) -> None:
    for build in read_builds([path.read_bytes()]).builds:
        seen = observe(build)
        if seen is not None:
            assert build.outcome == Outcome.SUCCEEDED
            assert all(step.text and step.stage for step in seen.steps)


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.CANCELED, Outcome.INCOMPLETE])
def test_a_build_that_did_not_succeed_teaches_nothing(outcome: Outcome) -> None:
    assert observe(make_build(outcome=outcome)) is None


def test_a_build_without_layers_teaches_nothing() -> None:
    assert observe(make_build(make_step("ARG VERSION", cached=None))) is None
    assert observe(make_build(), positions=[]) is None


def test_parallel_stages_look_alike_in_whatever_order_they_were_announced() -> None:
    cold = observe(read(FORMATS / "buildah" / "parallel_stages_cold.log"))
    warm = observe(read(FORMATS / "buildah" / "parallel_stages_warm.log"))
    assert cold is not None
    assert warm is not None
    assert [(step.stage, step.text) for step in cold.steps] == [(step.stage, step.text) for step in warm.steps]
    assert cold.dockerfile == warm.dockerfile


def test_a_stage_that_starts_from_another_gets_the_from_that_no_log_prints() -> None:
    build = make_build(
        make_step("FROM node:20", stage="base", index=1),
        make_step("COPY . .", stage="base", index=2),
        make_step("RUN npm test", stage="base-test", index=1),
    )
    seen = observe(build)
    assert seen is not None
    texts = [step.text for step in seen.steps]
    assert texts[:2] == ["FROM node:20", "COPY . ."]
    assert texts[-1] == "RUN npm test"


def test_the_digest_of_a_base_is_no_part_of_its_text() -> None:
    digest = "sha256:" + "a" * 64
    printed = observe(make_build(make_step(f"FROM node:20@{digest}"), make_step("RUN make")))
    told = observe(
        make_build(
            make_step("FROM --platform=linux/amd64 node:20"),
            make_step("RUN make"),
            base_images=(BaseImage(reference="node:20", digest=digest),),
        )
    )
    assert printed is not None
    assert told is not None
    assert (printed.steps[0].text, printed.steps[0].digest) == ("FROM node:20", digest)
    assert told.steps[0].digest == digest


def test_instructions_without_a_layer_neither_hit_nor_miss() -> None:
    seen = observe(make_build(make_step("FROM a"), make_step("ENV A=1", cached=True), make_step("RUN make")))
    assert seen is not None
    assert [step.cached for step in seen.steps] == [False, None, False]


def test_a_hostile_log_is_cut() -> None:
    seen = observe(make_build(*[make_step(f"RUN make {number} {'x' * 9_000}") for number in range(MOST_STEPS + 50)]))
    assert seen is not None
    assert len(seen.steps) == MOST_STEPS
    assert max(len(step.text) for step in seen.steps) == 4_000
