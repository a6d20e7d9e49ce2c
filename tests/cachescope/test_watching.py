"""An image is watched alike in whatever order its builds arrive; what people decided is followed and can be undone."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from cachescope.detecting import Detector
from cachescope.expectations import ObservedBuild, ObservedStep
from cachescope.regressions.base import Incident
from cachescope.watching import MOST_IN_TAIL, Watch

HOUR = 3_600.0
GOOD = (
    ObservedStep("stage-0", "FROM", "FROM node:20", True),
    ObservedStep("stage-0", "COPY", "COPY package.json .", True),
    ObservedStep("stage-0", "RUN", "RUN npm ci", True),
    ObservedStep("stage-0", "COPY", "COPY . .", False, 0.2),
    ObservedStep("stage-0", "RUN", "RUN make", False, 9.0),
)
COLD = tuple(replace(step, cached=False, seconds=step.seconds or 60.0) for step in GOOD)
BROKEN = (
    ObservedStep("stage-0", "FROM", "FROM node:20", True),
    ObservedStep("stage-0", "COPY", "COPY . .", False, 0.2),
    ObservedStep("stage-0", "RUN", "RUN npm ci", False, 60.0),
    ObservedStep("stage-0", "RUN", "RUN make", False, 9.0),
)


def make(number: int, steps: Sequence[ObservedStep], minutes: float = 10.0) -> ObservedBuild:
    return ObservedBuild(
        id=str(number),
        repository="acme/api",
        at=1_790_000_000.0 + number * minutes * 60,
        branch="main",
        is_default_branch=True,
        commit=f"c{number}",
        dockerfile="broken" if steps is BROKEN else "good",
        runner="ci-1",
        steps=tuple(steps),
    )


def story(broken: int = 5, fixed: int = 0, minutes: float = 10.0) -> list[ObservedBuild]:
    plans = [COLD, *[GOOD] * 20, *[BROKEN] * broken, *([COLD, *[GOOD] * fixed] if fixed else [])]
    return [make(number, steps, minutes) for number, steps in enumerate(plans)]


def seen(incidents: Sequence[Incident]) -> list[tuple[object, ...]]:
    return [
        (found.kind, found.key, found.commit, found.opened_at, found.is_open, found.resolved_at, found.fixed_by)
        for found in incidents
    ]


def watch(builds: Sequence[ObservedBuild]) -> Watch:
    made = Watch()
    for build in builds:
        made.take(build)
    return made


@pytest.mark.parametrize("fixed", [0, 4])
@pytest.mark.parametrize("minutes", [3.0, 10.0, 50.0])
def test_in_order_it_sees_what_the_detector_sees(fixed: int, minutes: float) -> None:
    builds = story(fixed=fixed, minutes=minutes)
    detector = Detector()
    for build in builds:
        detector.observe(build)
    made = watch(builds)
    assert made.incidents
    assert seen(made.incidents) == seen(list(detector.series.incidents.values()))


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_by_up_to_an_hour_it_sees_the_same(seed: int) -> None:
    builds = story(fixed=4)
    late = random.Random(seed)
    arrivals = sorted(builds, key=lambda build: build.at + late.uniform(0, HOUR))
    assert arrivals != builds
    assert seen(watch(arrivals).incidents) == seen(watch(builds).incidents)


def test_saving_and_loading_changes_nothing() -> None:
    builds = story(fixed=4)
    made = Watch()
    for build in builds:
        made = Watch.load(made.dump())
        assert made.take(build)
    assert made.dump() == watch(builds).dump()


def test_a_build_that_is_there_already_changes_nothing() -> None:
    builds = story()
    made = watch(builds)
    before = made.dump()
    assert not made.take(builds[-1]), "it is in the tail"
    assert not made.take(builds[0]), "it was settled long ago"
    assert made.dump() == before


def test_a_build_that_reads_differently_now_takes_the_place_of_the_former() -> None:
    builds = story()
    made = watch([*builds[:-1], make(25, GOOD)])
    assert made.take(builds[-1])
    assert seen(made.incidents) == seen(watch(builds).incidents)


def test_a_busy_hour_is_settled_sooner() -> None:
    made = watch([make(number, GOOD, 0.01) for number in range(MOST_IN_TAIL + 30)])
    assert len(made.tail) == MOST_IN_TAIL


def test_what_was_closed_opens_again_only_when_it_is_seen_anew() -> None:
    builds = story(broken=4)
    made = watch(builds)
    (found,) = [incident for incident in made.incidents if incident.is_open]
    made.decide("close", "size", "something else", builds[-1].at + 1)
    made.decide("close", found.kind, found.key, builds[-1].at + 2)
    made.take(make(30, GOOD))
    assert not any(incident.is_open for incident in made.incidents)
    for number in range(31, 40):
        made.take(make(number, BROKEN))
    assert [(incident.is_open, incident.reopened) for incident in made.incidents] == [(True, 1)]


def test_what_was_accepted_stays_silent_until_it_is_refused() -> None:
    builds = story(broken=40)
    made = watch(builds[:24])
    (found,) = made.incidents
    made.decide("accept", found.kind, found.key, builds[23].at + 1)
    for build in builds[24:50]:
        made = Watch.load(made.dump())
        made.take(build)
        assert not any(incident.is_open for incident in made.incidents)
    assert list(made.accepted) == [(found.kind, found.key)]
    made.decide("refuse", found.kind, found.key, builds[49].at + 1)
    for build in builds[50:]:
        made.take(build)
    assert any(incident.is_open for incident in made.incidents)
    assert list(made.accepted) == []


def test_a_decision_that_no_build_has_met_can_be_taken_back() -> None:
    builds = story(broken=6)
    made = watch(builds[:24])
    (found,) = made.incidents
    made.decide("close", found.kind, found.key, builds[23].at + 1)
    assert not made.take_back("size", found.key)
    assert made.take_back(found.kind, found.key)
    made.take(builds[24])
    assert any(incident.is_open for incident in made.incidents)
    made.decide("close", found.kind, found.key, builds[24].at + 1)
    made.take(builds[25])
    assert not made.take_back(found.kind, found.key)


def test_it_knows_what_an_instruction_costs() -> None:
    made = watch(story())
    assert made.seconds_of("RUN npm ci") == 60.0
    assert made.seconds_of("RUN never") is None
