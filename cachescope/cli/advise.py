"""Say what to change in a Dockerfile, and what that would save, from the logs of past builds."""

import os
import subprocess  # git only, without a shell, on a folder that the user names
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.text import Text

from cachescope.cli.analyze import make_console
from cachescope.cli.explain import parse_command, read_log, read_optional, read_text
from cachescope.cli.words import duration, printable
from cachescope.context import context_sources, read_ignore_rules, reads
from cachescope.dockerfile import Dockerfile
from cachescope.errors import UnreadableInputError
from cachescope.evidence import ChangedFile
from cachescope.history import History, PastBuild
from cachescope.matching import normalize
from cachescope.model import Build
from cachescope.recommendations import RECOMMENDATIONS
from cachescope.recommendations.base import Recommendation
from cachescope.replaying import replay

MAX_FILES = 100_000
MAX_TEXT_BYTES = 1024 * 1024
GIT_SECONDS = 30

_READ_BY_MANAGERS = (
    "package.json",
    "pnpm-workspace.yaml",
    "composer.json",
    "pyproject.toml",
    "setup.py",
    "setup.cfg",
    "Gemfile",
    "Gemfile.lock",
    "go.mod",
    "Cargo.toml",
    "Makefile",
    "MANIFEST.in",
)


def command(
    logs: Annotated[list[str], typer.Argument(metavar="LOG…", help="The logs of past builds, oldest first.")],
    *,
    dockerfile: Annotated[str, typer.Option(metavar="F", help="The Dockerfile as it is now.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    dockerignore: Annotated[str | None, typer.Option(metavar="F", help="The .dockerignore file.")] = None,
    repository: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="The build context, a git checkout: its files and latest commits make predictions sharper.",
        ),
    ] = None,
    build_command: Annotated[
        str | None, typer.Option("--command", metavar="F", help="The command line of the builds, as a JSON list.")
    ] = None,
    what_if: Annotated[
        str | None, typer.Option(metavar="F", help="An edited Dockerfile: predict what the builds would have taken.")
    ] = None,
    what_if_dockerignore: Annotated[
        str | None, typer.Option(metavar="F", help="An edited .dockerignore file, likewise.")
    ] = None,
) -> None:
    """Say what to change in a Dockerfile, and what that would save, from the logs of past builds.

    Patches apply with `git apply` from the root of the build context. Where an edit is not provably safe, a build must
    check it.
    """
    text = read_text(dockerfile)
    builds = [build for log in logs for build in read_log(log)]
    if not builds:
        raise UnreadableInputError("There is no build in these logs.")
    ignore = read_optional(dockerignore, str)
    files = read_files(repository) if repository is not None else None
    if dockerignore is None and repository is not None and (repository / ".dockerignore").is_file():
        ignore = read_text(str(repository / ".dockerignore"))
    changes = read_changes(repository, len(builds)) if repository is not None else None
    if changes is not None and not is_plausible(builds, changes, Dockerfile(text), ignore):
        changes = None
    words = read_optional(build_command, parse_command)
    history = History(
        dockerfile=Dockerfile(text),
        builds=tuple(
            PastBuild(build=build, changed_files=changes[number] if changes else None, command=words)
            for number, build in enumerate(builds)
        ),
        dockerfile_path=path_in_context(dockerfile, repository),
        dockerignore=ignore,
        files=files,
        texts=read_texts(repository, files) if repository is not None and files is not None else {},
    )
    if what_if is not None or what_if_dockerignore is not None:
        edited = read_optional(what_if, Dockerfile) or history.dockerfile
        document = what_if_document(history, edited, read_optional(what_if_dockerignore, str))
        if as_json:
            print_json({"what_if": document})
        else:
            write_what_if(document)
        return
    found = advise(history)
    if as_json:
        document = {"recommendations": [recommendation_document(advice) for advice in found]}
        print_json(document)
        return
    write_advice(make_console(), found, history.per_week())


def print_json(document: dict[str, Any]) -> None:
    """Print one JSON document."""
    sys.stdout.buffer.write(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))
    sys.stdout.buffer.flush()


def what_if_document(history: History, edited: Dockerfile, dockerignore: str | None) -> dict[str, Any]:
    """Replay the builds against edited files; raises UnreadableInputError where there is nothing to replay."""
    if not edited.stages:
        raise UnreadableInputError("The edited Dockerfile has no FROM line.")
    if len(history.builds) < 2:
        raise UnreadableInputError("A replay needs the logs of two builds or more: the first one only fills the cache.")
    prediction = replay(history, edited, dockerignore)
    saving, weekly = prediction.saving_seconds_per_build, history.per_week()
    seen = {normalize(line.text) for line in history.layer_instructions if history.cost(line) is not None}
    lines = [i for stage in edited.needed_stages() for i in stage.instructions if i.keyword == "RUN"]
    return {
        "builds": len(history.later_builds),
        "seconds_before": round(sum(prediction.seconds_before), 6),
        "seconds_after": round(sum(prediction.seconds_after), 6),
        "saving_seconds_per_build": round(saving, 6),
        "interval": [round(end, 6) for end in prediction.interval],
        "minutes_per_week": round(saving * weekly / 60, 3) if weekly is not None else None,
        "hits_before": round(prediction.hits_before, 3),
        "hits_after": round(prediction.hits_after, 3),
        "steps_before": prediction.steps_before,
        "steps_after": prediction.steps_after,
        "lines_never_timed": [line.text for line in lines if normalize(line.text) not in seen],
    }


def write_what_if(document: dict[str, Any]) -> None:
    """Write a prediction for people."""
    console = make_console()
    saving, (low, high) = document["saving_seconds_per_build"], document["interval"]
    before, after = (duration(document[f"seconds_{side}"]) for side in ("before", "after"))
    console.print(Text(f"{document['builds']} builds would have spent {after} on misses instead of {before}."))
    console.print(Text(f"  Saving per build: {saving:.1f} s, between {low:.1f} s and {high:.1f} s."))
    hits = [f"{document[f'hits_{side}']:.0f} of {document[f'steps_{side}']}" for side in ("before", "after")]
    console.print(Text(f"  Hits: {hits[1]} steps instead of {hits[0]}."))
    if document["minutes_per_week"] is not None:
        console.print(Text(f"  Per week: {document['minutes_per_week']:.1f} minutes."))
    for line in document["lines_never_timed"]:
        console.print(Text(f"  Never seen to run, counted as nothing: {printable(line)}"))


@dataclass(frozen=True, slots=True)
class Advice:
    """A recommendation and the module that gives it."""

    name: str
    recommendation: Recommendation


def advise(history: History) -> list[Advice]:
    """Ask every recommendation, the greatest saving first."""
    found = [Advice(name, advice) for name, adviser in RECOMMENDATIONS.items() for advice in adviser.advise(history)]
    return sorted(found, key=lambda advice: -(advice.recommendation.saving_seconds_per_build or 0.0))


def path_in_context(dockerfile: str, repository: Path | None) -> str:
    """Return the path of the Dockerfile as a patch names it, relative to the root of the build context."""
    path = Path(dockerfile)
    if repository is not None and path.resolve().is_relative_to(repository.resolve()):
        return path.resolve().relative_to(repository.resolve()).as_posix()
    return path.name if path.is_absolute() or ".." in path.parts or dockerfile == "-" else path.as_posix()


def read_files(repository: Path) -> dict[str, int]:
    """Return the files of a folder with their sizes: those that git knows, or all of a folder without git."""
    listed = run_git(repository, "ls-files", "-z")
    names = listed.split("\0") if listed is not None else walk(repository)
    found: dict[str, int] = {}
    for name in names[:MAX_FILES]:
        if name:
            try:
                found[name] = (repository / name).lstat().st_size
            except OSError:
                continue  # in the index, but not on the disk
    return found


def walk(folder: Path) -> list[str]:
    """List the files below a folder, `.git` left out."""
    found: list[str] = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != ".git")
        found += [(Path(root) / name).relative_to(folder).as_posix() for name in sorted(names)]
        if len(found) > MAX_FILES:
            break
    return found


def read_texts(repository: Path, files: Mapping[str, int]) -> dict[str, str]:
    """Read the small files from which package managers take what to install."""
    found: dict[str, str] = {}
    for name, size in files.items():
        base = PurePosixPath(name).name
        is_wanted = base in _READ_BY_MANAGERS or (base.endswith(".txt") and ("require" in base or "constr" in base))
        path = repository / name
        if is_wanted and size <= MAX_TEXT_BYTES and len(found) < 200 and not path.is_symlink():
            try:
                found[name] = path.read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue  # gone since it was listed
    return found


def read_changes(repository: Path, count: int) -> list[tuple[ChangedFile, ...] | None] | None:
    """Return what each of the latest commits changed, oldest first, as many as there are builds.

    None where git tells of fewer commits. The first is not known: it was compared with a commit before all logs.
    """
    printed = run_git(
        repository,
        "log",
        "-n",
        str(count),
        "--first-parent",
        "-m",
        "--format=%x01",
        "--name-status",
        "-z",
        "--relative",
        ".",
    )
    if printed is None:
        return None
    commits = [part for part in printed.split("\1") if part][::-1]
    if len(commits) != count:
        return None
    return [None, *(parse_name_status(commit) for commit in commits[1:])]


def parse_name_status(text: str) -> tuple[ChangedFile, ...]:
    """Read what `git log --name-status -z` prints of one commit: a status, a path (two for a rename), again."""
    words = [word.strip("\n") for word in text.split("\0")]
    words = [word for word in words if word]
    found: list[ChangedFile] = []
    while len(words) > 1:
        status = words.pop(0)
        path = words.pop(0)
        if status[:1] in ("R", "C") and words:
            found.append(ChangedFile(path, "D" if status[:1] == "R" else "M"))
            path, status = words.pop(0), "A"
        found.append(ChangedFile(path, status[:1]))
    return tuple(found)


def is_plausible(
    builds: Sequence[Build],
    changes: Sequence[tuple[ChangedFile, ...] | None],
    dockerfile: Dockerfile,
    dockerignore: str | None,
) -> bool:
    """Tell whether the latest commits are what these logs built: the lines that broke read files that changed."""
    history = History(
        dockerfile=dockerfile,
        builds=tuple(PastBuild(build=build) for build in builds),
        dockerignore=dockerignore,
    )
    right = wrong = 0
    for line in history.layer_instructions:
        if not context_sources(line):
            continue
        for seen in history.observations(line):
            changed = changes[seen.build]
            if changed is None or history.is_reset(seen.build) or (seen.missed and seen.cause is None):
                continue
            rules = read_ignore_rules(dockerignore or "")
            reads_it = any(reads(line, f.path) and not rules.is_ignored(f.path) for f in changed)
            right += reads_it == seen.missed
            wrong += reads_it != seen.missed
    return right >= 4 * wrong and right > 0


def run_git(repository: Path, *words: str) -> str | None:
    """Return what git prints; None where the folder is no checkout or git is missing."""
    # Configuration of the folder itself could name programs to run; `log` and `ls-files` start none without a pager.
    try:
        done = subprocess.run(  # noqa: S603  # fixed words, no shell
            ["git", "--no-pager", "-C", str(repository), "-c", "core.fsmonitor=false", *words],  # noqa: S607  # found on the user's path
            capture_output=True,
            timeout=GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def recommendation_document(advice: Advice) -> dict[str, Any]:
    """Return one recommendation; a saving that is not one of time is 0."""
    found = advice.recommendation
    low, high = found.interval or (0.0, 0.0)
    return {
        "name": advice.name,
        "title": found.title,
        "why": found.why,
        "evidence": list(found.evidence),
        "patch": found.patch,
        "order_safe": found.order_safe,
        "saving_seconds_per_build": round(found.saving_seconds_per_build or 0.0, 6),
        "interval": [round(low, 6), round(high, 6)],
    }


def write_advice(console: Console, found: Sequence[Advice], builds_per_week: float | None) -> None:
    """Write the recommendations for people."""
    if not found:
        console.print(Text("Nothing to recommend from these logs."))
    for advice in found:
        proposal = advice.recommendation
        console.print(Text(printable(proposal.title), style="bold"))
        console.print(Text(f"  {printable(proposal.why)}"))
        for sentence in proposal.evidence:
            console.print(Text(f"  {printable(sentence)}"))
        if proposal.saving_seconds_per_build is not None and proposal.interval is not None:
            low, high = proposal.interval
            week = (
                f", {duration(proposal.saving_seconds_per_build * builds_per_week)} a week" if builds_per_week else ""
            )
            console.print(
                Text(
                    f"  It would save {duration(max(0.0, proposal.saving_seconds_per_build))} per build"
                    f" (between {duration(max(0.0, low))} and {duration(max(0.0, high))}){week}."
                )
            )
        if proposal.patch:
            check = "The image stays the same." if proposal.order_safe else "Check it with a build."
            console.print(Text(f"  {check}"))
            for line in proposal.patch.splitlines():
                console.print(Text(f"    {printable(line)}"), soft_wrap=True)
        console.print()
