"""Makes build series of invented repositories with known incidents, to judge `cachescope detect` by.

    python benchmarks/makers/series.py FOLDER [--seed 1] [--per-kind 3]

Writes builds.jsonl (the fields of docs/detect.md, interleaved by time) and truth.jsonl (one line a repository: its
kind and its incidents). Each repository has a Dockerfile, branches, runners and a cache that is simulated key by key:
a layer hits when its chain of instructions and contents is in the cache of its runner, or in the shared one. So
misses, cascades and warm-ups follow from what happened, not from rates. Every third repository builds twice a day,
twenty times, or eighty times.
"""

import argparse
import hashlib
import heapq
import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

HOUR, DAY = 3_600.0, 86_400.0
INCIDENTS = [
    "order_bust",
    "early_arg",
    "base_retag",
    "import_broken",
    "pool_cold",
    "partial",
    "manifest_stamp",
    "erosion",
    "small_drop",
    "recovery",
    "flapping",
    "duration",
    "size",
]
QUIET = ["clean", "prune", "dep_storm", "new_step", "mix_shift", "cold15", "benign_edit", "slow", "outage", "base_pair"]
EDITS = {"order_bust", "small_drop", "early_arg", "partial", "base_retag"}
CAUSES = {"import_broken": "cache_import", "flapping": "cache_import", "small_drop": "order_bust"}
TOOLS = [
    "git",
    "jq",
    "curl",
    "openssl",
    "tini",
    "libpq-dev",
    "imagemagick",
    "ffmpeg",
    "graphviz",
    "make",
    "unzip",
    "rsync",
    "libvips42",
]
NO_LAYER = {"ENV", "ARG", "CMD", "USER"}
# Of each ecosystem: base image, manifests, installing, building.
ECOSYSTEMS = (
    ("python:3.12-slim", "COPY requirements.txt .", "pip install -r requirements.txt", "python -m compileall -q ."),
    ("node:22", "COPY package.json pnpm-lock.yaml ./", "pnpm install --frozen-lockfile", "pnpm build"),
    ("golang:1.24", "COPY go.mod go.sum ./", "go mod download", "go build -o /out/srv ."),
    ("gradle:8-jdk21", "COPY build.gradle settings.gradle ./", "gradle dependencies", "gradle assemble"),
    ("ruby:3.3", "COPY Gemfile Gemfile.lock ./", "bundle install", "bundle exec rake assets"),
    ("rust:1.80", "COPY Cargo.toml Cargo.lock ./", "cargo fetch", "cargo build --release"),
    ("php:8.3-cli", "COPY composer.json composer.lock ./", "composer install", "php bin/console cache:warmup"),
)


@dataclass(frozen=True)
class Instruction:
    """One line of an invented Dockerfile."""

    stage: str
    text: str
    seconds: float = 0.1
    source: str | None = None
    """What of the repository it reads: source, manifest, all, or the name of a stage."""
    is_volatile: bool = False
    """Its value is another one in every build."""
    is_broken: bool = False
    """It never hits, although nothing changed."""

    @property
    def op(self) -> str:
        """Its keyword."""
        return self.text.partition(" ")[0]


@dataclass
class Line:
    """What a branch holds."""

    name: str
    dockerfile: tuple[Instruction, ...]
    source: Any = 0
    manifest: Any = 0
    rest: Any = 0
    commit: str | None = None
    builds_left: int = 0
    is_stamped: bool = False

    @property
    def is_main(self) -> bool:
        """Whether it is the default branch."""
        return self.name == "main"

    @property
    def is_bot(self) -> bool:
        """Whether a bot made it."""
        return self.name.startswith("dependabot")


def digest(*parts: Any) -> str:
    """Return a short hash of some values."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def invent_dockerfile(chosen: random.Random) -> tuple[Instruction, ...]:
    """Return a well-ordered Dockerfile of one or two stages."""
    base, manifest, install, build = chosen.choice(ECOSYSTEMS)
    in_stages = chosen.random() < 0.6
    stage = "build" if in_stages else "stage-0"
    above = [
        Instruction(stage, "RUN apt-get install -y " + " ".join(chosen.sample(TOOLS, 2)), chosen.uniform(6, 30))
        for _ in range(chosen.randint(1, 4))
    ]
    above.insert(chosen.randint(0, len(above)), Instruction(stage, "WORKDIR /srv", 0.05))
    is_broad = chosen.random() < 0.75
    lines = [
        Instruction(stage, f"FROM {base} AS build" if in_stages else f"FROM {base}", 3),
        *above,
        Instruction(stage, manifest, 0.3, "manifest"),
        Instruction(stage, f"RUN {install}", chosen.uniform(20, 150)),
        Instruction(stage, "COPY . ." if is_broad else "COPY src ./src", 0.5, "all" if is_broad else "source"),
        *([Instruction(stage, "RUN make lint", chosen.uniform(5, 30))] if chosen.random() < 0.4 else []),
        Instruction(stage, f"RUN {build}", chosen.uniform(15, 120)),
    ]
    if in_stages:
        stage = "stage-1"
        lines.append(Instruction(stage, "FROM " + chosen.choice(["debian:12-slim", "alpine:3.20"]), 2))
        lines.append(Instruction(stage, "COPY --from=build /out /srv", 0.6, "build"))
    return (*lines, Instruction(stage, "USER 1000"), Instruction(stage, 'CMD ["run"]'))


def place_of(dockerfile: tuple[Instruction, ...], *sources: str) -> int:
    """Return where the first instruction that reads one of these stands."""
    return next(place for place, line in enumerate(dockerfile) if line.source in sources)


@dataclass
class Repository:
    """One invented repository: a random walk of commits, builds and whatever its kind brings."""

    kind: str
    traffic: str
    chosen: random.Random
    incident: dict[str, Any] | None = None
    number: int = 0
    commits: int = 0
    branches: dict[str, Line] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    caches: dict[str, set[str]] = field(default_factory=dict)
    blamed: tuple[str | None, list[str]] = (None, [])

    def __post_init__(self) -> None:
        """Draw what stays the same."""
        chosen = self.chosen
        self.id = "q" + digest(chosen.random())[:8]
        self.count, self.per_day = {
            "low": (chosen.randint(150, 190), chosen.uniform(1.5, 3)),
            "mid": (chosen.randint(500, 720), chosen.uniform(15, 28)),
            "high": (chosen.randint(1_000, 1_500), chosen.uniform(60, 110)),
        }[self.traffic]
        self.cold_share = 0.15 if self.kind == "cold15" else chosen.choice([0, 0.005, 0.01, 0.02, 0.05, 0.1])
        self.is_per_runner, self.all_write = chosen.random() < 0.3, chosen.random() < 0.5
        pools = chosen.sample(["linux-a", "linux-a", "linux-b", "big-c"], chosen.randint(2, 4))
        self.runners = [f"{pool}-{number}" for number, pool in enumerate(pools)]
        self.weights = [chosen.uniform(0.5, 2) for _ in self.runners]
        self.pace = {runner: chosen.uniform(0.75, 1.4) for runner in self.runners}
        self.main_share = chosen.uniform(0.22, 0.5)
        self.main = Line("main", invent_dockerfile(chosen))
        self.good = self.main.dockerfile
        self.starts = int(self.count * chosen.uniform(0.45, 0.62))
        self.ends = self.count
        self.fault = self.kind
        if self.kind == "recovery":
            self.fault = chosen.choice(["order_bust", "early_arg", "partial", "import_broken"])
            self.ends = self.starts + int((self.count - self.starts) * chosen.uniform(0.3, 0.55))
        self.time = self.began = 1.767e9 + chosen.uniform(0, 3 * DAY)
        span = self.count / self.per_day * DAY
        moments = sorted(self.time + chosen.uniform(0.1, 0.95) * span for _ in range(3))
        self.outages = moments if self.kind == "outage" else []
        self.prunes = moments if self.kind == "prune" else []
        self.slow = [(at, at + 0.06 * span) for at in moments[:2]] if self.kind == "slow" else []
        self.storm = (self.time + 0.5 * span, self.time + 0.7 * span) if self.kind == "dep_storm" else (0.0, 0.0)
        self.megabytes, self.grown = chosen.uniform(80, 600), 0.0
        self.cold_pool = max(zip(self.weights, self.runners, strict=True))[1].rpartition("-")[0]
        self.slower: dict[str, float] = {}
        self.retagged: str | None = None

    @property
    def is_active(self) -> bool:
        """Whether the incident lasts."""
        return self.starts <= self.number < self.ends

    def builds(self) -> Iterator[dict[str, Any]]:
        """Yield the builds, oldest first."""
        for number in range(self.count):
            self.number = number
            self._wait()
            is_edited = self._edit()
            line = self._next_line(is_edited=is_edited)
            yield self._build(line, is_first=is_edited and self.number == self.starts)

    def truth(self) -> dict[str, Any]:
        """Return what a judge needs to know."""
        return {
            "repo": self.id,
            "kind": self.kind,
            "traffic": self.traffic,
            "builds": self.count,
            "days": (self.time - self.began) / DAY,
            "grey": [(at, at + 6.5 * HOUR) for at in self.outages],
            "incidents": [self.incident] if self.incident else [],
        }

    def _wait(self) -> None:
        """Let time pass: fewer builds at night and at weekends, and moving base images."""
        chosen = self.chosen
        while True:
            self.time += chosen.expovariate(2.2 * self.per_day / DAY)
            share = (1.0 if 7 < self.time / HOUR % 24 < 19 else 0.15) * (0.2 if self.time / DAY % 7 > 5 else 1.0)
            if chosen.random() < share:
                break
        for text in self.digests:
            days = {True: 0.7, False: 9.0 if self.kind == "base_pair" else 25.0}[text == self.retagged]
            if chosen.random() < 1 / self.per_day / days:
                self.digests[text] = digest(self.id, text, self.time)[:16]
        while self.prunes and self.time > self.prunes[0]:
            self.caches.clear()
            del self.prunes[0]

    def _edit(self) -> bool:
        """Break or mend the Dockerfile on the default branch when its time has come."""
        if self.fault not in EDITS:
            return False
        if self.number == self.starts:
            self.main.dockerfile = self._broken(self.main.dockerfile)
            return True
        if self.number == self.ends:
            self.main.dockerfile = self.good
            return True
        return False

    def _broken(self, dockerfile: tuple[Instruction, ...]) -> tuple[Instruction, ...]:
        chosen, lines = self.chosen, list(dockerfile)
        copy, manifest = place_of(dockerfile, "all", "source"), place_of(dockerfile, "manifest")
        tools = [place for place in range(1, manifest) if lines[place].op == "RUN"]
        if self.fault == "order_bust":
            moved = replace(lines.pop(copy), source="all", text="COPY . .")
            lines.insert(manifest, moved)
            self.blamed = moved.text, [moved.text, lines[manifest + 2].text]
        elif self.fault == "small_drop":
            moved = lines.pop(chosen.choice(tools))
            lines.insert(copy, moved)
            self.blamed = moved.text, [moved.text, lines[copy - 1].text]
        elif self.fault == "early_arg":
            name = chosen.choice(["GIT_COMMIT", "BUILD_ID", "CI_JOB_ID", "RELEASE_SHA"])
            lines.insert(tools[0], Instruction(lines[tools[0]].stage, f"ARG {name}", is_volatile=True))
            self.blamed = f"ARG {name}", [f"ARG {name}", lines[tools[0] + 1].text]
        elif self.fault == "partial":
            place = chosen.choice(tools)
            lines[place] = replace(lines[place], is_broken=True)
            self.blamed = lines[place].text, [lines[place].text]
        else:
            place = chosen.choice([place for place, line in enumerate(lines) if line.op == "FROM"])
            image, _, rest = lines[place].text.removeprefix("FROM ").partition(" ")
            tag = chosen.choice(["nightly", "edge", "latest"])
            self.retagged = f"FROM {image.partition(':')[0]}:{tag} {rest}".strip()
            lines[place] = replace(lines[place], text=self.retagged)
            self.blamed = self.retagged, [self.retagged]
        return tuple(lines)

    def _next_line(self, *, is_edited: bool) -> Line:
        """Choose the branch that builds now, and commit to it."""
        chosen = self.chosen
        main_share = self.main_share
        if self.kind == "mix_shift" and self.number > self.starts:
            main_share = min(0.75, 1 - main_share)
        in_storm = self.storm[0] < self.time < self.storm[1]
        if is_edited or chosen.random() < main_share:
            line, updates, again = self.main, 0.45 if in_storm else 0.06, 0.1
        else:
            line, updates, again = self._pull_request(), 0.3 if in_storm else 0.05, 0.08
        if is_edited or line.commit is None or chosen.random() > again:
            self.commits += 1
            line.commit = digest(self.id, self.commits)
            if not is_edited and not line.is_bot:
                line.rest = line.commit
                line.source = line.commit if chosen.random() < 0.84 else line.source
                line.manifest = line.commit if chosen.random() < updates else line.manifest
            edits = {"benign_edit": 0.03, "new_step": 0.012}.get(self.kind, 0.004)
            if line.is_main and not self.is_active and not is_edited and chosen.random() < edits:
                line.dockerfile = self.good = self._harmless_edit(line.dockerfile)
        if self.kind == "manifest_stamp" and self.is_active and not line.is_bot:
            line.is_stamped = line.is_stamped or line.is_main or chosen.random() < 0.3
            line.manifest = ("stamp", line.commit) if line.is_stamped else line.manifest
        return line

    def _pull_request(self) -> Line:
        chosen = self.chosen
        if len(self.branches) < 3 or chosen.random() < 0.2:
            is_bot = chosen.random() < 0.18
            name = f"{'dependabot/pip' if is_bot else 'feature'}/{self.number}"
            left = chosen.randint(1, 4) if is_bot else chosen.randint(2, 12)
            line = replace(self.main, name=name, commit=None, builds_left=left)
            line.manifest = name if is_bot else line.manifest
            self.branches[name] = line
        line = self.branches[chosen.choice(sorted(self.branches))]
        if chosen.random() < 0.12:
            line.dockerfile, line.is_stamped = self.main.dockerfile, self.main.is_stamped
        line.builds_left -= 1
        if line.builds_left <= 0:
            del self.branches[line.name]
        return line

    def _harmless_edit(self, dockerfile: tuple[Instruction, ...]) -> tuple[Instruction, ...]:
        lines, chosen = list(dockerfile), self.chosen
        place = chosen.choice([place for place, line in enumerate(lines) if line.op == "RUN"])
        if chosen.random() < 0.5:
            lines[place] = replace(
                lines[place], text=lines[place].text + chosen.choice([" -q", " --verbose", " && true"])
            )
        else:
            text = f"RUN echo {chosen.randint(0, 9_999)} > /etc/version"
            lines.insert(place + 1, Instruction(lines[place].stage, text, chosen.uniform(1, 20)))
        return tuple(lines)

    def _is_cold(self, runner: str) -> bool:
        """Say whether the incident leaves this build without any cache."""
        chosen = self.chosen
        if not self.is_active:
            return False
        if self.fault == "import_broken":
            return chosen.random() < 0.93
        if self.fault == "pool_cold":
            return runner.startswith(self.cold_pool) and chosen.random() < 0.9
        if self.fault == "flapping":
            since = self.time - (self.incident or {"start_time": self.time})["start_time"]
            return int(since / DAY / (4 if self.traffic == "low" else 1.2)) % 2 == 0 and chosen.random() < 0.9
        return False

    def _build(self, line: Line, *, is_first: bool) -> dict[str, Any]:
        chosen = self.chosen
        runner = chosen.choices(self.runners, self.weights)[0]
        is_affected = self._is_cold(runner)
        is_cold = is_affected or chosen.random() < self.cold_share
        is_cold |= any(at < self.time < at + 6 * HOUR for at in self.outages)
        pace = self.pace[runner] * chosen.lognormvariate(0, 0.08)
        pace *= 2.2 if any(start < self.time < end for start, end in self.slow) else 1.0
        erosion = 0.0
        if self.is_active and self.fault == "erosion":
            erosion = min(0.12, 0.02 + 0.2 * (self.number - self.starts) / (self.count - self.starts))
        if self.is_active and self.kind == "duration" and not self.slower:
            slow = [item.text for item in line.dockerfile if item.op == "RUN"][-1]
            self.slower, self.blamed = {slow: chosen.uniform(1.6, 2.2)}, (slow, [slow])
        cache = self.caches.setdefault(runner if self.is_per_runner else "", set())
        chains: dict[str, str] = {}
        missing: dict[str, bool] = {}
        steps, written = [], []
        contents = {"source": line.source, "manifest": line.manifest, "all": (line.source, line.manifest, line.rest)}
        for index, item in enumerate(line.dockerfile):
            stage, step = item.stage, {"stage": item.stage, "index": index, "op": item.op, "text": item.text}
            content: Any = contents.get(item.source or "", chains.get(item.source or ""))
            if item.op == "FROM":
                content = step["digest"] = self.digests.setdefault(item.text, digest(self.id, item.text)[:16])
            elif item.is_volatile:
                content = line.commit
            elif item.is_broken and chosen.random() < 0.95:
                content, is_affected = self.number, True
            chains[stage] = digest(chains.get(stage), item.text, content)
            if item.op in NO_LAYER:
                steps.append({**step, "cached": None, "duration_s": 0.0})
                continue
            hit = chains[stage] in cache and not is_cold and not missing.get(stage)
            if hit and item.op != "FROM" and chosen.random() < erosion:
                hit, is_affected = False, True
            missing[stage] = item.op != "FROM" and not hit
            written.append(chains[stage])
            seconds = item.seconds * self.slower.get(item.text, 1.0) * pace * chosen.lognormvariate(0, 0.18)
            is_affected |= item.text in self.slower and not hit
            steps.append({**step, "cached": hit, "duration_s": 0.0 if hit else round(seconds, 2)})
        if line.is_main or self.is_per_runner or self.all_write:
            cache.update(written)
        self.megabytes *= math.exp(chosen.gauss(0, 0.0005))
        if self.is_active and self.kind == "size" and line.is_main and not self.grown:
            self.grown, is_affected = self.megabytes * chosen.uniform(0.12, 0.4), True
        is_affected |= is_first or (self.is_active and line.is_stamped and self.kind == "manifest_stamp")
        build = {
            "id": f"{self.id}-{self.number:06d}",
            "repo": self.id,
            "time": round(self.time, 1),
            "branch": line.name,
            "commit": line.commit,
            "dockerfile": digest(*(item.text for item in line.dockerfile))[:12],
            "runner": runner,
            "status": "ok",
            "duration_s": round(sum(step["duration_s"] for step in steps) + chosen.uniform(3, 8), 2),
            "image_mb": round(self.megabytes + (self.grown if line.is_main else 0.0) + chosen.gauss(0, 0.2), 1),
            "steps": steps,
        }
        self._note(build, line, is_affected=is_affected)
        return build

    def _note(self, build: dict[str, Any], line: Line, *, is_affected: bool) -> None:
        """Write down where the incident begins and ends."""
        if self.kind not in INCIDENTS:
            return
        if self.incident is None and self.is_active and is_affected:
            if self.kind == "manifest_stamp":
                text = line.dockerfile[place_of(line.dockerfile, "manifest")].text
                self.blamed = text, [text]
            has_commit = self.fault not in {"import_broken", "pool_cold", "erosion", "flapping"}
            self.incident = {
                "kind": self.kind,
                "sub": self.fault,
                "metric": self.kind if self.kind in {"duration", "size"} else "cache",
                "start_build": build["id"],
                "start_time": build["time"],
                "end_build": None,
                "end_time": None,
                "commit": build["commit"] if has_commit else None,
                "instruction": self.blamed[0],
                "accept": self.blamed[1],
                "cause": CAUSES.get(self.fault, self.fault),
            }
        if self.incident and self.number == self.ends - 1 and self.ends < self.count:
            self.incident |= {"end_build": build["id"], "end_time": build["time"]}


def main() -> None:
    """Write the series and their truth."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--per-kind", type=int, default=3)
    arguments = parser.parse_args()
    chosen = random.Random(arguments.seed)
    repositories = [
        Repository(kind, ("low", "mid", "high")[turn % 3], random.Random(chosen.random()))
        for kind in (*INCIDENTS, *QUIET)
        for turn in range(arguments.per_kind)
    ]
    series = [list(repository.builds()) for repository in repositories]
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with (arguments.folder / "builds.jsonl").open("w") as file:
        for build in heapq.merge(*series, key=lambda build: build["time"]):
            file.write(json.dumps(build, separators=(",", ":")) + "\n")
    with (arguments.folder / "truth.jsonl").open("w") as file:
        for repository in repositories:
            file.write(json.dumps(repository.truth()) + "\n")


if __name__ == "__main__":
    main()
