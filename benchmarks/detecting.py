"""Measures what the detector costs per build as the history grows, and how large its state becomes.

    python benchmarks/detecting.py [--builds 100000] [--runs 3]

The builds are made up to fill every table: two stages of twenty-two instructions, edits of the Dockerfile, base images
that move, cold builds, and a fresh name for every tenth runner, as autoscaled ones have. Prints microseconds of CPU per
build over the builds 500 to 1,500 and over the last 1,000, their ratio, the size of the saved state, and, apart, what
saving and loading that state costs.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cachescope.detecting import Detector
from cachescope.expectations import ObservedBuild, ObservedStep

WINDOW = 1_000


def instructions(version: int) -> list[tuple[str, str, str]]:
    """Return (stage, keyword, text) of one version of a Dockerfile."""
    tools = [("build", "RUN", f"RUN apt-get install -y tool-{i} --version={version // (i + 1)}") for i in range(8)]
    return [
        ("build", "FROM", "FROM debian:12 AS build"),
        *tools,
        ("build", "ARG", "ARG RELEASE"),
        ("build", "WORKDIR", "WORKDIR /src"),
        ("build", "COPY", "COPY package.json package-lock.json ./"),
        ("build", "RUN", "RUN npm ci"),
        ("build", "COPY", "COPY . ."),
        ("build", "RUN", "RUN npm run build"),
        ("final", "FROM", "FROM nginx:1.27"),
        ("final", "RUN", f"RUN setup --step={version % 7}"),
        ("final", "COPY", "COPY nginx.conf /etc/nginx/nginx.conf"),
        ("final", "COPY", "COPY --from=build /src/dist /srv"),
        ("final", "USER", "USER 1000"),
        ("final", "CMD", 'CMD ["nginx"]'),
    ]


def builds(count: int, seed: int = 1) -> Iterator[ObservedBuild]:
    """Make up the builds of one repository, oldest first."""
    chosen = random.Random(seed)
    version, digest = 0, 0
    for number in range(count):
        version += chosen.random() < 0.02
        digest += chosen.random() < 0.005
        is_cold = chosen.random() < 0.02
        missing = dict.fromkeys(("build", "final"), is_cold)
        steps = []
        for stage, op, text in instructions(version):
            if op in {"ARG", "USER", "CMD"}:
                steps.append(ObservedStep(stage, op, text, None))
                continue
            changes = text == "COPY . ." or ("package.json" in text and chosen.random() < 0.08)
            if "--from=build" in text:
                missing[stage] |= missing["build"]
            missing[stage] |= op != "FROM" and (changes or chosen.random() < 0.002)
            seconds = chosen.lognormvariate(2, 0.3) if missing[stage] else 0.0
            steps.append(
                ObservedStep(stage, op, text, not missing[stage], seconds, str(digest) if op == "FROM" else None)
            )
        is_main = chosen.random() < 0.4
        yield ObservedBuild(
            id=str(number),
            repository="shop",
            at=1.7e9 + 600.0 * number,
            branch="main" if is_main else f"feature/{number // 8}",
            is_default_branch=is_main,
            commit=f"{number:040x}",
            dockerfile=str(version),
            runner=f"pool-{number:x}" if number % 10 == 0 else f"pool-{number % 4}",
            size_bytes=4e8 * chosen.uniform(0.99, 1.01),
            steps=tuple(steps),
        )


def measure(count: int) -> dict[str, float]:
    """Feed `count` builds to one detector."""
    detector = Detector()
    early = late = 0.0
    for number, build in enumerate(builds(count)):
        started = time.process_time()
        detector.observe(build)
        spent = time.process_time() - started
        if WINDOW // 2 <= number < WINDOW // 2 + WINDOW:
            early += spent
        if number >= count - WINDOW:
            late += spent
    started = time.process_time()
    saved = json.dumps(detector.document())
    Detector.from_document(json.loads(saved))
    return {
        "early": 1e6 * early / WINDOW,
        "late": 1e6 * late / WINDOW,
        "ratio": late / early,
        "state_bytes": len(saved),
        "saving_us": 1e6 * (time.process_time() - started),
    }


def main() -> None:
    """Print the medians of several runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--builds", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    runs = [measure(arguments.builds) for _ in range(arguments.runs)]
    middle = {name: median(run[name] for run in runs) for name in runs[0]}
    last = f"near build {arguments.builds:,}"
    print(
        f"CPU per build near build 1,000: {middle['early']:.0f} us; {last}: {middle['late']:.0f} us; target at most 500"
    )
    ratios = ", ".join(f"{run['ratio']:.2f}" for run in runs)
    print(f"ratio {middle['ratio']:.2f} (runs: {ratios}), target at most 1.2")
    print(f"state {middle['state_bytes'] / 1e6:.2f} MB, target at most 2")
    print(f"saving and loading the state {middle['saving_us'] / 1000:.1f} ms")


if __name__ == "__main__":
    main()
