"""Makes labelled pairs of real builds with one change between them, for `benchmarks/explaining.py`.

    BUILDX=docker python benchmarks/makers/cause_pairs.py BASE FOLDER [--only TEXT]

BUILDX is a docker command with buildx and a daemon whose BuildKit may be pruned. BASE is any image with a shell and
coreutils; REGISTRY names one for cache imports. Every case writes a small git repository, builds a state of it, makes
one change and builds again. Breaks, cascades and costs of the label are taken from the vertexes of the record
(`buildx history logs`), causes and files from what was changed.
"""

import argparse
import calendar
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

BUILDX = os.environ.get("BUILDX", "docker").split()
REGISTRY = os.environ.get("REGISTRY", "")

Files = dict[str, str]
Edit = Callable[[Path], None]


@dataclass
class Project:
    """A repository and how it is built."""

    name: str
    files: Files
    options: list[str] = field(default_factory=list)
    context: str = "."
    dockerfile: str = "Dockerfile"
    links: Files = field(default_factory=dict)
    bake: bool = False
    records: int = 1
    """How many targets a bake builds."""
    bases: Files = field(default_factory=dict)
    """Images to make first: tag → Dockerfile."""


@dataclass
class Case:
    """One change between two builds of a project."""

    project: str
    kind: str
    cause: str | None
    """None where nothing must miss."""
    edit: Edit | None = None
    files: tuple[str, ...] = ()
    options: list[str] = field(default_factory=list)
    """More words for the later build."""
    options_before: list[str] = field(default_factory=list)
    prune: bool = False
    move_base: str | None = None
    expected: bool = True
    unrecorded: Edit | None = None
    """A change that git does not record, made after the commit."""
    causes: dict[str, str] = field(default_factory=dict)
    """Beginnings of texts whose cause is another one."""
    other_files: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Beginnings of texts that read other files."""
    dirty_before: Edit | None = None
    """A change that the earlier build makes itself."""
    cache: bool = False
    """Whether both builds export to and import from a registry."""


def replace(name: str, old: str, new: str) -> Edit:
    """An edit of a text."""

    def edit(folder: Path) -> None:
        text = (folder / name).read_text()
        if old not in text:
            raise SystemExit(f"{old!r} is not in {name}")
        (folder / name).write_text(text.replace(old, new, 1))

    return edit


def write(name: str, text: str) -> Edit:
    """A file with this text."""

    def edit(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)

    return edit


def append(name: str, text: str) -> Edit:
    """A file with more lines."""
    return lambda folder: (folder / name).write_text((folder / name).read_text() + text) and None


def delete(name: str) -> Edit:
    """One file less."""
    return lambda folder: (folder / name).unlink()


def rename(old: str, new: str) -> Edit:
    """The same content under another name."""
    return lambda folder: (folder / old).rename(folder / new) and None


def mode(name: str, bits: int) -> Edit:
    """Another mode."""
    return lambda folder: (folder / name).chmod(bits)


def link(name: str, target: str) -> Edit:
    """A link that points elsewhere."""

    def edit(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return edit


def both(*edits: Edit) -> Edit:
    """Several edits in one commit."""

    def edit(folder: Path) -> None:
        for one in edits:
            one(folder)

    return edit


def run(*words: str, folder: Path, environment: dict[str, str] | None = None, may_fail: bool = False) -> str:
    """Run a program; return what it prints, with its errors between."""
    done = subprocess.run(
        words,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **(environment or {})},
        check=False,
    )
    if done.returncode and not may_fail:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stdout[-3000:]}")
    return done.stdout


def git(folder: Path, *words: str) -> str:
    """Run git as nobody in particular."""
    return run("git", "-c", "user.name=b", "-c", "user.email=b@example.org", *words, folder=folder)


def commit(folder: Path) -> str:
    """Commit everything."""
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", "x")
    return git(folder, "rev-parse", "HEAD").strip()


def write_project(project: Project, folder: Path, base: str) -> None:
    """Write the files of a project."""
    git(folder, "init", "-q", "-b", "main")
    for name, text in project.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("BASE", base))
        if name.endswith(".sh"):
            path.chmod(0o755)
    for name, target in project.links.items():
        (folder / name).symlink_to(target)


def words_of(project: Project, options: list[str], cache: bool) -> list[str]:
    """Return the words behind `docker buildx`."""
    transfer = []
    if cache:
        ref = f"type=registry,ref={REGISTRY}/{project.name}:cache"
        transfer = ["--cache-to", f"{ref},mode=max", "--cache-from", ref]
    if project.bake:
        return ["bake", "--allow=network.host", "--progress", "plain", *project.options, *options]
    network = ["--network", "host", "--progress", "plain", "-f", project.dockerfile]
    return ["build", *network, *project.options, *transfer, *options, project.context]


def build(project: Project, folder: Path, options: list[str], place: Path, *, cache: bool) -> list[str]:
    """Build with buildx; write the plain log and the status stream of the same build; return the command."""
    words = words_of(project, options, cache)
    place.with_suffix(".log").write_text(run(*BUILDX, "buildx", *words, folder=folder))
    listed = run(*BUILDX, "buildx", "history", "ls", "--format", "{{.Ref}}", folder=folder).split()
    lines = []
    # Each target of a bake has a record of its own.
    for ref in listed[: project.records]:
        words_of_logs = ("buildx", "history", "logs", "--progress", "rawjson", ref.rpartition("/")[2])
        stream = run(*BUILDX, *words_of_logs, folder=folder)
        lines += [line for line in stream.splitlines() if line.startswith("{")]
    place.with_suffix(".rawjson.jsonl").write_text("\n".join(lines) + "\n")
    return words


@dataclass
class Vertex:
    """One step of the status stream."""

    name: str
    inputs: list[str]
    cached: bool = False
    spans: dict[str, str] = field(default_factory=dict)


def read_vertexes(path: Path) -> dict[str, Vertex]:
    """Read the status stream on its own, without the code that is measured."""
    found: dict[str, Vertex] = {}
    for line in path.read_text().splitlines():
        for vertex in json.loads(line).get("vertexes") or ():
            known = found.setdefault(vertex["digest"], Vertex(vertex["name"], vertex.get("inputs") or []))
            known.cached = known.cached or bool(vertex.get("cached"))
            known.inputs = known.inputs or vertex.get("inputs") or []
            if vertex.get("started") and vertex.get("completed"):
                known.spans[vertex["started"]] = vertex["completed"]
    return found


def split_name(name: str) -> dict[str, object] | None:
    """Take `[target platform stage 2/5] TEXT` apart; None for what is no numbered step."""
    if not name.startswith("[") or "] " not in name:
        return None
    place, _, text = name[1:].partition("] ")
    *words, numbers = place.split()
    index, slash, total = numbers.partition("/")
    if not slash or not (index.isdigit() and total.isdigit()):
        return None
    platform = next((word for word in words if word.startswith("linux/")), None)
    words = [word for word in words if word != platform]
    # A bake prints the target first; one word alone is the stage, or in a bake the target.
    stage = words[-1] if words else None
    target = words[0] if len(words) > 1 else None
    return {"stage": stage, "index": int(index), "platform": platform, "target": target, "text": text, "name": name}


def seconds(vertex: Vertex) -> float:
    """Return how long a step ran."""
    return sum(at(end) - at(start) for start, end in vertex.spans.items())


def at(text: str) -> float:
    """Read a time of the stream, nanoseconds and all."""
    return calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")) + float(f"0.{text[20:].rstrip('Z') or 0}")


def label(stream: Path, case: Case) -> list[dict[str, object]]:
    """Find the breaks of the later build and their cascades along the inputs of its vertexes."""
    vertexes = read_vertexes(stream)
    steps = {}
    for digest, vertex in vertexes.items():
        place = split_name(vertex.name)
        if place is None or str(place["text"]).startswith("FROM "):
            continue
        steps[digest] = place
    missed = {d for d in steps if not vertexes[d].cached}
    below: dict[str, set[str]] = {d: set() for d in missed}
    for digest in missed:
        for parent in vertexes[digest].inputs:
            if parent in missed:
                below[parent].add(digest)
    breaks = [d for d in missed if not any(parent in missed for parent in vertexes[d].inputs)]
    found = []
    for digest in breaks:
        cascade: set[str] = set()
        waiting = [digest]
        while waiting:
            new = below[waiting.pop()] - cascade
            cascade |= new
            waiting += new
        text = str(steps[digest]["text"])
        other = next((c for start, c in case.causes.items() if text.startswith(start)), None)
        files = next((f for start, f in case.other_files.items() if text.startswith(start)), case.files)
        cause = other or case.cause
        found.append(
            steps[digest]
            | {
                "cause": cause,
                "files": list(files) if cause == "files_changed" else [],
                "cost_s": round(sum(seconds(vertexes[d]) for d in (digest, *cascade)), 3),
                "own_s": round(seconds(vertexes[digest]), 3),
                "cascade": [steps[d]["text"] for d in cascade],
            }
        )
    return found


def make_image(tag: str, dockerfile: str, folder: Path) -> None:
    """Build an image that projects stand on."""
    words = [*BUILDX, "build", "--network", "host", "-q", "-t", tag, "-"]
    subprocess.run(words, input=dockerfile, text=True, check=True, cwd=folder, capture_output=True)


def make(case: Case, project: Project, base: str, place: Path) -> None:
    """Build a pair and write its folder."""
    place.mkdir(parents=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{project.name}-", dir=os.environ.get("WORK")))
    try:
        write_project(project, folder, base)
        first = commit(folder)
        for tag, dockerfile in project.bases.items():
            make_image(tag, dockerfile.replace("BASE", base), folder)
        build(project, folder, case.options_before, place / "warm", cache=case.cache)
        if case.dirty_before:
            case.dirty_before(folder)
            first = commit(folder)
        before = build(project, folder, case.options_before, place / "before", cache=case.cache)
        copy_inputs(project, folder, place, "before")
        if case.edit:
            case.edit(folder)
        second = commit(folder)
        if case.unrecorded:
            case.unrecorded(folder)
        if case.prune:
            run(*BUILDX, "builder", "prune", "-af", folder=folder)
        if case.move_base:
            make_image(case.move_base, f"FROM {base}\nRUN echo {time.time()} > /etc/moved\n", folder)
        after = build(project, folder, case.options, place / "after", cache=case.cache and not case.prune)
        copy_inputs(project, folder, place, "after")
        words = ("diff", "--name-status", "--no-renames", f"--relative={project.context}", first, second)
        changed = git(folder, *(word for word in words if word != "--relative=."))
        (place / "changed-files.txt").write_text(changed)
        # The record of a bake holds one target, and does not print which.
        truth = {"kind": case.kind, "expected": case.expected, "any_target": project.bake}
        truth["breaks"] = label(place / "after.rawjson.jsonl", case)
        document = {
            "flags_before": before,
            "flags_after": after,
            "context": project.context,
            "dockerfile": project.dockerfile,
        }
        (place / "build.json").write_text(json.dumps(document, indent=1))
        (place / "truth.json").write_text(json.dumps(truth, indent=1))
        passing = ["warm.log", "warm.rawjson.jsonl"]
        passing += ["before.rawjson.jsonl", "after.rawjson.jsonl"] if project.bake else []
        for name in passing:
            (place / name).unlink()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def copy_inputs(project: Project, folder: Path, place: Path, side: str) -> None:
    """Keep the Dockerfile, `.dockerignore` and the bake file of one side."""
    shutil.copy(folder / project.dockerfile, place / f"Dockerfile.{side}")
    own = folder / f"{project.dockerfile}.dockerignore"
    ignore = own if own.exists() else folder / project.context / ".dockerignore"
    if ignore.exists():
        shutil.copy(ignore, place / ("dockerignore" if side == "after" else "dockerignore.before"))
    if project.bake and side == "after":
        shutil.copy(folder / "docker-bake.hcl", place / "docker-bake.hcl")


def main() -> None:
    """Make the pairs that are not there yet."""
    from cause_cases import CASES, PROJECTS  # it takes its words from this module

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    for case in CASES:
        place = arguments.folder / f"{case.project}.{case.kind}"
        if arguments.only not in place.name or place.exists():
            continue
        case.options = [word.replace("REGISTRY", REGISTRY) for word in case.options]
        if case.cache and not REGISTRY:
            continue
        make(case, PROJECTS[case.project], arguments.base, place)
        truth = json.loads((place / "truth.json").read_text())
        print(place.name, case.cause, [b["name"] for b in truth["breaks"]], flush=True)


if __name__ == "__main__":
    sys.modules["cause_pairs"] = sys.modules["__main__"]
    main()
