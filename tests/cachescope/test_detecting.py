"""The detector over whole series: what it says, when, and that its state is all it needs."""

import gzip
import json
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cachescope.detecting import Alert, Detector, observed_build
from cachescope.expectations import ObservedBuild, ObservedStep, moved_instruction, plan_of

FIXTURES = Path(__file__).parent / "regressions"
SERIES = sorted(FIXTURES.rglob("*.builds.jsonl.gz"))
NAMES = [f"{path.parent.name}/{path.name.removesuffix('.builds.jsonl.gz')}" for path in SERIES]


def builds_of(path: Path) -> list[ObservedBuild]:
    return [observed_build(json.loads(line)) for line in gzip.decompress(path.read_bytes()).splitlines()]


def alerts_of(builds: list[ObservedBuild], detector: Detector | None = None) -> list[Alert]:
    detector = detector or Detector()
    return [alert for build in builds for alert in detector.observe(build)]


@pytest.mark.parametrize("path", SERIES, ids=NAMES)
def test_a_series_gives_the_expected_alerts(path: Path, golden: Callable[[Path, Any], None]) -> None:
    said = [
        {"type": a.type, "build": a.build, "kind": a.kind, "cause": a.cause, "commit": a.commit, "step": a.instruction}
        for a in alerts_of(builds_of(path))
    ]
    golden(path.with_name(path.name.replace(".builds.jsonl.gz", ".json")), said)


@pytest.mark.parametrize("path", SERIES, ids=NAMES)
def test_the_saved_state_is_all_that_the_detector_needs(path: Path) -> None:
    builds = builds_of(path)
    expected = alerts_of(builds)
    detector, said = Detector(), []
    for build in builds:
        detector = Detector.from_document(json.loads(json.dumps(detector.document())))
        said += detector.observe(build)
    assert said == expected


@pytest.mark.parametrize("path", SERIES, ids=NAMES)
def test_builds_that_arrive_twice_change_nothing(path: Path) -> None:
    builds = builds_of(path)
    chosen = random.Random(7)
    doubled = [again for build in builds for again in [build] * chosen.choice([1, 1, 2, 3])]
    assert alerts_of(doubled) == alerts_of(builds)


def test_the_state_stays_small() -> None:
    builds = builds_of(SERIES[0])
    detector = Detector()
    for turn in range(20):
        for build in builds:
            detector.observe(replace(build, id=f"{turn}-{build.id}", at=build.at + turn * 8e6))
    assert len(json.dumps(detector.document())) < 2_000_000


def test_a_build_without_steps_is_passed_over() -> None:
    assert Detector().observe(replace(builds_of(SERIES[0])[0], steps=())) == []


def test_the_moved_instruction_is_named_and_a_copy_wins_a_tie() -> None:
    copy, install, manifest = ("", "COPY . ."), ("", "RUN npm ci"), ("", "COPY package.json .")
    assert moved_instruction([manifest, install, copy], [copy, manifest, install]) == "COPY . ."
    assert moved_instruction([install, copy], [copy, install]) == "COPY . ."
    assert moved_instruction([install, copy], [install, copy]) is None


def test_a_stage_goes_on_from_the_stage_that_it_starts_from() -> None:
    steps = [
        ObservedStep("base", "FROM", "FROM python:3.13 AS base", None),
        ObservedStep("base", "COPY", "COPY . .", True),
        ObservedStep("app", "FROM", "FROM base AS app", None),
        ObservedStep("app", "RUN", "RUN make", True),
        ObservedStep("final", "FROM", "FROM scratch", None),
        ObservedStep("final", "COPY", "COPY --from=1 /app /app", True),
        ObservedStep("final", "COPY", "COPY --from=elsewhere/image /etc /etc", True),
    ]
    plan = plan_of(steps).steps
    assert plan[3].copies_above == ("COPY . .",)
    assert plan[5].source == 3
    assert plan[6].source is None


@pytest.mark.parametrize(
    ("text", "broad"),
    [
        ("COPY . .", True),
        ("COPY src ./src", True),
        ('COPY ["web/", "/app/"]', True),
        ("COPY --chown=app package.json package-lock.json ./", False),
        ("COPY Gemfile Gemfile.lock ./", False),
        ("COPY gradlew ./", False),
    ],
)
def test_a_copy_of_a_directory_is_broad(text: str, broad: bool) -> None:
    assert plan_of([ObservedStep("", "COPY", text, True)]).steps[0].is_broad is broad


def run_detect(lines: bytes, **environment: str) -> subprocess.CompletedProcess[bytes]:
    program = "from cachescope.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, "detect"], input=lines, capture_output=True, env=environment, check=False
    )


def test_the_command_prints_the_alerts_and_acknowledges_when_asked() -> None:
    path = FIXTURES / "order" / "copy_moved_above_install.builds.jsonl.gz"
    lines = gzip.decompress(path.read_bytes())
    quiet = run_detect(lines)
    said = [json.loads(line) for line in quiet.stdout.splitlines()]
    assert [(alert["type"], alert["cause"], alert["instruction"]) for alert in said][:1] == [
        ("open", "order_bust", "COPY . .")
    ]
    answered = run_detect(lines, ALERTS_ACK="1")
    acknowledged = [json.loads(line)["ack"] for line in answered.stdout.splitlines() if b'"ack"' in line]
    assert acknowledged == [json.loads(line)["id"] for line in lines.splitlines()]


@pytest.mark.parametrize("line", [b"not json", b"[]", b'{"id": 1}', b'{"id":1,"repo":"r","time":"x","steps":[]}'])
def test_a_line_that_is_no_build_ends_with_a_sentence(line: bytes) -> None:
    done = run_detect(line + b"\n")
    assert done.returncode == 2
    assert done.stderr.startswith(b"Line 1 is not a build: ")


def plain_build(
    number: int, *, branch: str = "main", order: str = "good", runner: str = "r-0", **other: Any
) -> ObservedBuild:
    """One build of four layers in which every commit changes the source: below COPY all misses, above all hits."""
    install = ObservedStep("", "RUN", "RUN make deps", order == "good" and number > 0, 60.0)
    copy = ObservedStep("", "COPY", "COPY . .", False, 0.4)
    body = (install, copy) if order == "good" else (copy, install)
    compiled = ObservedStep("", "RUN", "RUN make", False, other.pop("seconds", 30.0))
    steps = (ObservedStep("", "FROM", "FROM debian:12", True, digest="d"), *body, compiled)
    return ObservedBuild(
        id=str(number),
        repository="shop",
        at=1.7e9 + 1_800.0 * number,
        branch=branch,
        is_default_branch=branch == "main",
        commit=f"c{number}",
        dockerfile=order,
        runner=runner,
        steps=steps,
        **other,
    )


def test_branches_that_still_carry_a_fixed_order_stay_silent() -> None:
    good = [plain_build(number) for number in range(40)]
    broken = [plain_build(number, order="bad") for number in range(40, 50)]
    fixed = [plain_build(number) for number in range(50, 54)]
    stale = [plain_build(number, branch="feature/old", order="bad") for number in range(54, 80)]
    merged = [plain_build(number, order="bad") for number in range(80, 86)]
    detector = Detector()
    said = [(alert.type, int(alert.build)) for alert in alerts_of(good + broken + fixed, detector)]
    assert [kind for kind, _ in said] == ["open", "resolve"]
    assert alerts_of(stale, detector) == []
    assert [alert.type for alert in alerts_of(merged, detector)] == ["reopen"]


def test_an_instruction_that_stands_twice_in_a_stage_is_read() -> None:
    builds = [plain_build(number) for number in range(12)]
    assert alerts_of([replace(build, steps=(*build.steps, build.steps[-1])) for build in builds]) == []


def test_a_slow_machine_does_not_make_its_steps_slower() -> None:
    chosen = random.Random(3)
    builds = []
    for number in range(400):
        pace = 2.0 if number % 3 == 0 else 1.0
        build = plain_build(number, runner="slow-1" if number % 3 == 0 else "fast-1")
        noise = [chosen.uniform(0.9, 1.1) * pace for _ in build.steps]
        steps = [replace(s, seconds=(s.seconds or 0.0) * by) for s, by in zip(build.steps, noise, strict=True)]
        builds.append(replace(build, steps=tuple(steps)))
    assert alerts_of(builds) == []


def test_builds_that_make_no_sense_are_taken_in() -> None:
    chosen = random.Random(11)
    odd = [float("inf"), -1.0, 0.0, 1e308, None]
    detector = Detector()
    for build in builds_of(SERIES[0]) + builds_of(SERIES[1]):
        steps = [
            replace(
                step,
                seconds=chosen.choice([step.seconds, *odd]),
                cached=chosen.choice([step.cached, None, True, False]),
            )
            for step in build.steps
            if chosen.random() < 0.9
        ]
        chosen.shuffle(steps)
        at = build.at + chosen.choice([0.0, -1e5, 1e5])
        detector.observe(replace(build, steps=tuple(steps), at=at, size_bytes=chosen.choice([None, 0.0, -5.0, 1e12])))
    assert json.loads(json.dumps(detector.document(), allow_nan=False))
