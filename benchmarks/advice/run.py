"""Holds what `cachescope advise` predicts against what a real builder then measures.

    DOCKER_HOST=unix:///… python benchmarks/advice/run.py BASE_IMAGE [--keep FOLDER] [--only NAME]

BASE_IMAGE is any image with python3, pip, node, npm, make and gcc. Every project is a git repository that this script
writes, with a history of commits. Each commit is built in order, the first on an empty builder; `advise` reads the
logs; its best patch is applied and the same commits are built again, again from empty. The table shows the saving per
build after the first one, predicted and measured, and whether the files of the last images are equal.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from projects import PROJECTS, Project

from cachescope import metrics
from cachescope.reading import read_builds

DOCKER = os.environ.get("DOCKER", "docker")
# What two builds of one Dockerfile differ in: package caches, logs, byte code, what the container adds, and where the
# whole context is copied the Dockerfile itself and git's own files.
PASSING = re.compile(
    r"(?:^|/)(?:__pycache__|\.npm|\.cache|_logs|_cacache|\.package-lock\.json)(?:/|$)|\.pyc$|\.log$|^(?:proc|sys|dev|run|tmp)(?:/|$)"
    r"|(?:^|/)(?:\.git|Dockerfile|\.dockerignore)(?:/|$)|^(?:\.dockerenv|etc/(?:hostname|hosts|resolv\.conf|mtab))$|^var/(?:cache|log)(?:/|$)"
)


def run(*words: str, folder: Path | None = None, environment: dict[str, str] | None = None) -> str:
    """Run a program and return what it prints; its failure ends the benchmark."""
    done = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, env={**os.environ, **(environment or {})}, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout + done.stderr


def write_commits(project: Project, folder: Path, base: str) -> list[str]:
    """Write the project's history into a git repository; return the commits, oldest first."""
    run("git", "init", "-q", "-b", "main", folder=folder)
    commits = []
    for number, files in enumerate(project.commits):
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("BASE", base) if name == "Dockerfile" else text)
        run("git", "add", "-A", folder=folder)
        run(
            "git",
            "-c",
            "user.name=b",
            "-c",
            "user.email=b@example.org",
            "commit",
            "-q",
            "-m",
            f"{number}",
            folder=folder,
        )
        commits.append(run("git", "rev-parse", "HEAD", folder=folder).strip())
    return commits


def build_all(project: Project, folder: Path, commits: list[str], logs: Path, patch: str | None) -> str:
    """Build every commit from an empty builder on; return the id of the last image."""
    run(DOCKER, "builder", "prune", "-af")
    logs.mkdir(parents=True)
    tag = f"advice-{project.name}:{'after' if patch else 'before'}"
    for number, commit in enumerate(commits):
        run("git", "checkout", "-q", "-f", commit, folder=folder)
        run("git", "clean", "-qfd", folder=folder)
        if patch:
            (folder.parent / "patch").write_text(patch)
            run("git", "apply", str(folder.parent / "patch"), folder=folder)
        arguments = [word.replace("COMMIT", commit) for word in project.arguments]
        words = [DOCKER, "build", "--network", "host", "--progress", "plain", "-t", tag, *arguments, "."]
        (logs / f"{number:02}.log").write_text(run(*words, folder=folder, environment={"DOCKER_BUILDKIT": "1"}))
    run("git", "checkout", "-q", "-f", "main", folder=folder)
    return tag


def seconds_per_build(logs: Path) -> float:
    """Return the mean time spent on misses in the builds after the first one."""
    spent = []
    for path in sorted(logs.glob("*.log"))[1:]:
        (build,) = read_builds([path.read_bytes()]).builds
        spent.append(metrics.figures(build).seconds_spent or 0.0)
    return sum(spent) / len(spent)


def tree(tag: str, scratch: Path) -> dict[str, tuple[object, ...]]:
    """Return paths, modes and contents of an image."""
    container = run(DOCKER, "create", tag, "true").strip()
    archive = scratch / "image.tar"
    run(DOCKER, "export", "-o", str(archive), container)
    run(DOCKER, "rm", container)
    found = {}
    with tarfile.open(archive) as file:
        for member in file:
            if PASSING.search(member.name):
                continue
            content = file.extractfile(member) if member.isfile() else None
            digest = hashlib.sha256(content.read()).hexdigest() if content else member.linkname
            found[member.name] = (member.type, member.mode, member.uid, member.gid, digest)
    archive.unlink()
    return found


def measure(project: Project, base: str, keep: Path | None) -> dict[str, object]:
    """Build the history of a project before and after the best recommendation."""
    scratch = Path(tempfile.mkdtemp(prefix="advice-"))
    try:
        folder = scratch / "repository"
        folder.mkdir()
        commits = write_commits(project, folder, base)
        before = build_all(project, folder, commits, scratch / "before", None)
        logs = [str(path) for path in sorted((scratch / "before").glob("*.log"))]
        printed = run(
            sys.executable,
            "-m",
            "cachescope",
            "advise",
            "--json",
            "--dockerfile",
            str(folder / "Dockerfile"),
            "--repository",
            str(folder),
            *logs,
            folder=Path(__file__).resolve().parent.parent.parent,
        )
        found = [r for r in json.loads(printed)["recommendations"] if r["patch"]]
        if keep:
            shutil.copytree(scratch, keep / project.name, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".git"))
            (keep / project.name / "advice.json").write_text(printed)
        if not found:
            return {"project": project.name, "recommendation": None}
        best = found[0]
        after = build_all(project, folder, commits, scratch / "after", best["patch"])
        if keep:
            shutil.copytree(scratch / "after", keep / project.name / "after", dirs_exist_ok=True)
        old, new = seconds_per_build(scratch / "before"), seconds_per_build(scratch / "after")
        trees = tree(before, scratch), tree(after, scratch)
        differing = sorted(
            name for name in trees[0].keys() | trees[1].keys() if trees[0].get(name) != trees[1].get(name)
        )
        return {
            "project": project.name,
            "recommendation": best["name"],
            "order_safe": best["order_safe"],
            "predicted": best["saving_seconds_per_build"],
            "interval": best["interval"],
            "measured": old - new,
            "before": old,
            "differing": [name for name in differing if not (project.changes and re.search(project.changes, name))],
        }
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def main() -> None:
    """Print a row per project."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    titles = "project,recommendation,order-safe,s/build,predicted,interval,measured,off by,files that differ"
    print(f"| {titles.replace(',', ' | ')} |")
    print(f"|{'---|' * (titles.count(',') + 1)}")
    for project in PROJECTS:
        if arguments.only not in project.name:
            continue
        row = measure(project, arguments.base, arguments.keep)
        if row["recommendation"] is None:
            print(f"| {project.name} | none | | | | | | | |", flush=True)
            continue
        off = (row["predicted"] - row["measured"]) / row["measured"] if row["measured"] else float("nan")
        low, high = row["interval"]
        columns = [
            project.name,
            row["recommendation"],
            row["order_safe"],
            f"{row['before']:.2f}",
            f"{row['predicted']:.2f}",
            f"{low:.2f} to {high:.2f}",
            f"{row['measured']:.2f}",
            f"{off:+.0%}",
            ", ".join(row["differing"][:4]) or "none",
        ]
        print(f"| {' | '.join(map(str, columns))} |", flush=True)


if __name__ == "__main__":
    main()
