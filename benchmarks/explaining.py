"""Holds `explain` against labelled pairs of builds, and measures what one explanation costs.

    python benchmarks/explaining.py FOLDER [--only TEXT] [--verbose]

FOLDER holds one folder a pair: before.log, after.log (also `.rawjson.jsonl`, `classic.*`, `buildah.*`), Dockerfiles,
changed-files.txt, build.json and truth.json. Right is the cause that the label names for the evidence given; where that
evidence leaves several, `unknown` is right too and a wrong guess is wrong.
"""

import argparse
import collections
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cachescope.comparing import ChangedFile, Comparison, Evidence, find_breaks
from cachescope.matching import normalize
from cachescope.model import Build, Step
from cachescope.reading import read_builds


def read(path: Path) -> Build | None:
    """Read the first build of a log."""
    if not path.exists():
        return None
    builds = read_builds([path.read_bytes()]).builds
    return builds[0] if builds else None


def read_evidence(folder: Path, *, command: bool) -> Evidence:
    """Read what lies beside the logs of a pair."""
    document = json.loads((folder / "build.json").read_text())
    files = {}
    for side in ("before", "after"):
        files[side] = {
            path.name.removesuffix(f".{side}").removesuffix("Dockerfile").rstrip("."): path.read_text()
            for path in folder.glob(f"*Dockerfile.{side}")
        }
    ignore = folder / "dockerignore"
    ignore_before = folder / "dockerignore.before"
    changed = [line.split("\t") for line in (folder / "changed-files.txt").read_text().splitlines() if line]
    bake = folder / "docker-bake.hcl"
    return Evidence(
        dockerfiles_before=files["before"],
        dockerfiles_after=files["after"],
        changed_files=tuple(ChangedFile(path=line[-1], status=line[0][0]) for line in changed),
        dockerignore_after=ignore.read_text() if ignore.exists() else "",
        dockerignore_before=ignore_before.read_text() if ignore_before.exists() else None,
        command_before=tuple(document["flags_before"]) if command and document.get("flags_before") else None,
        command_after=tuple(document["flags_after"]) if command else None,
        bake=bake.read_text() if bake.exists() and command else None,
    )


def key(step: dict[str, Any]) -> tuple[object, ...]:
    """Return the place of a labelled step."""
    return (step["stage"], step["index"], step["platform"], step.get("target"), normalize(step["text"]))


def found_key(step: Step) -> tuple[object, ...]:
    """Return the place of a step that was read."""
    return (step.stage, step.index, step.platform, step.target, normalize(step.text))


class Score:
    """Counts what was right, and keeps what was not."""

    def __init__(self) -> None:
        self.count = collections.Counter()
        self.wrong = []

    def judge(self, name: str, truth: dict[str, Any], comparison: Comparison, *, alone: bool) -> None:
        """Hold one comparison against its label."""
        steps = comparison.build.steps
        labelled = {key(b): b for b in truth["breaks"] if not b.get("masked_by")}
        if truth.get("any_target"):
            steps = [replace(step, target=None) for step in steps]
        masked = {key(b) for b in truth["breaks"] if b.get("masked_by")}
        found = {found_key(steps[b.position]): b for b in comparison.breaks}
        self.count["pairs"] += 1
        same = set(labelled) == set(found)
        self.count["pairs with the right breaks"] += same
        if not same:
            self.wrong.append(f"{name}: breaks {sorted(map(str, found))} wanted {sorted(map(str, labelled))}")
        got_masked = {found_key(steps[b.position]) for b in comparison.masked}
        if not alone:
            self.count["masked right"] += got_masked == masked
            if got_masked != masked:
                self.wrong.append(f"{name}: masked {got_masked} wanted {masked}")
        for place, label in labelled.items():
            got = found.get(place)
            if got is None:
                continue
            self.count["breaks"] += 1
            wanted = {label["cause"]}
            if alone and "from_logs_alone" in label:
                wanted = {label["from_logs_alone"]}
            # Where the label does not say what the evidence leaves, unknown is right while it leaves the true cause.
            is_open = "from_logs_alone" not in label and got.cause == "unknown" and label["cause"] in got.possible
            self.count["unknown"] += got.cause == "unknown"
            right = got.cause in wanted or is_open
            self.count["right cause"] += right
            self.count["true cause"] += got.cause == label["cause"]
            if got.confidence == "certain" and got.cause != label["cause"]:
                self.count["CERTAIN AND WRONG"] += 1
                self.wrong.append(f"{name}: CERTAIN AND WRONG {got.cause}")
            if got.cause not in ("unknown", label["cause"]):
                self.count["wrong guess"] += 1
            if not right:
                wanted_text = f"{label['cause']} / {label.get('from_logs_alone')}"
                self.wrong.append(
                    f"{name}: {place[-1][:50]!r} {got.cause} {got.possible} wanted {wanted_text}: {got.evidence}"
                )
            files = set(got.files)
            if files - set(label["files"]):
                self.count["WRONG FILE"] += 1
                self.wrong.append(f"{name}: WRONG FILE {files} wanted {label['files']}")
            if not alone:
                self.count["files right"] += files == set(label["files"])
                if files != set(label["files"]):
                    self.wrong.append(f"{name}: files {files} wanted {label['files']}")
                self.count["expected right"] += got.expected == truth["expected"]
                if got.expected != truth["expected"]:
                    self.wrong.append(f"{name}: expected {got.expected} wanted {truth['expected']} ({got.cause})")
            cascade = [normalize(steps[p].text) for p in got.cascade]
            self.count["cascade right"] += sorted(cascade) == sorted(map(normalize, label["cascade"]))
            if sorted(cascade) != sorted(map(normalize, label["cascade"])):
                self.wrong.append(f"{name}: cascade {cascade} wanted {label['cascade']}")
            if label.get("cost_s") is not None and got.cost_seconds is not None:
                self.count["costs"] += 1
                near = abs(got.cost_seconds - label["cost_s"]) <= 0.06 * (1 + len(cascade))
                self.count["cost right"] += near
                if not near:
                    self.wrong.append(f"{name}: cost {got.cost_seconds} wanted {label['cost_s']}")

    def print(self, title: str, *, verbose: bool) -> None:
        """Print the counts."""
        print(f"== {title}: " + ", ".join(f"{k} {v}" for k, v in self.count.items()))
        if self.count["breaks"]:
            print(f"   right cause {self.count['right cause'] / self.count['breaks']:.1%}")
        for line in self.wrong if verbose else ():
            print("   " + line)


def main() -> None:
    """Score every pair of a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    kinds = {
        "plain": ("{}.log", None),
        "rawjson": ("{}.rawjson.jsonl", None),
        "classic": ("classic.{}.log", "classic"),
        "buildah": ("buildah.{}.log", "buildah"),
    }
    seconds = []
    for kind, (pattern, other) in kinds.items():
        scores = {mode: Score() for mode in ("logs alone", "with Dockerfile and changed files", "with the command too")}
        for folder in sorted(arguments.folder.iterdir()):
            if not (folder / "truth.json").exists() or arguments.only not in folder.name:
                continue
            truth = json.loads((folder / "truth.json").read_text())
            if other:
                truth = truth.get("other_builders", {}).get(other)
                if truth is None:
                    continue
                truth.setdefault("expected", json.loads((folder / "truth.json").read_text())["expected"])
            after, before = read(folder / pattern.format("after")), read(folder / pattern.format("before"))
            if after is None:
                scores["logs alone"].wrong.append(f"{folder.name}: no build in the log")
                continue
            for mode, score in scores.items():
                evidence = None if mode == "logs alone" else read_evidence(folder, command="command" in mode)
                started = time.process_time()
                comparison = find_breaks(after, before, evidence)
                seconds.append(time.process_time() - started)
                score.judge(folder.name, truth, comparison, alone=mode == "logs alone")
        for mode, score in scores.items():
            score.print(f"{kind}, {mode}", verbose=arguments.verbose)
    print(f"one explanation: mean {1000 * sum(seconds) / len(seconds):.2f} ms, most {1000 * max(seconds):.2f} ms")


if __name__ == "__main__":
    main()
