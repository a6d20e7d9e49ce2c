"""Say why a build missed its cache: what broke, because of what, what it cost, against an earlier build."""

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import orjson
import typer
from rich.console import Console
from rich.text import Text

from cachescope import cache_keys, metrics
from cachescope.cache_keys import read_cache_keys
from cachescope.cli import inputs
from cachescope.cli.analyze import make_console
from cachescope.cli.words import duration, percentage, plural, printable
from cachescope.comparing import Break, ChangedFile, Comparison, Evidence, find_breaks
from cachescope.errors import TooLargeError, UnreadableInputError
from cachescope.formats import buildkit_record
from cachescope.invocation import command_of
from cachescope.model import Build, Step
from cachescope.reading import read_builds

Read = TypeVar("Read")

MAX_TEXT_BYTES = 16 * 1024 * 1024
"""A Dockerfile, a list of changed files or a command may be this long."""

_HEAD_BYTES = 64 * 1024

_QUOTED = re.compile(rb"\\([0-7]{3}|.)")
_ESCAPES = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}


def command(
    logs: Annotated[
        list[str],
        typer.Argument(
            metavar="[BEFORE] AFTER", help="The log to explain, with the log of an earlier build before it."
        ),
    ],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    dockerfile_before: Annotated[
        list[str] | None,
        typer.Option(metavar="[TARGET=]F", help="The Dockerfile of the earlier build; may be repeated per target."),
    ] = None,
    dockerfile_after: Annotated[
        list[str] | None,
        typer.Option(metavar="[TARGET=]F", help="The Dockerfile of the build; may be repeated per target."),
    ] = None,
    changed_files: Annotated[
        str | None,
        typer.Option(
            metavar="LIST", help="What `git diff --name-status` prints between the two commits; `-` reads it."
        ),
    ] = None,
    dockerignore: Annotated[str | None, typer.Option(metavar="F", help="The .dockerignore file.")] = None,
    dockerignore_before: Annotated[
        str | None, typer.Option(metavar="F", help="The .dockerignore file of the earlier build, where it differed.")
    ] = None,
    command_before: Annotated[
        str | None,
        typer.Option(metavar="F", help="How the earlier build was called: a JSON list, or a build record."),
    ] = None,
    command_after: Annotated[
        str | None,
        typer.Option(metavar="F", help="How the build was called: a JSON list, a record, metadata or provenance."),
    ] = None,
    bake: Annotated[str | None, typer.Option(metavar="F", help="The bake file, HCL or JSON.")] = None,
    cache_debug_before: Annotated[
        str | None,
        typer.Option(
            metavar="F", help="What buildkitd answered at /debug/cache/store after the earlier build, as JSON."
        ),
    ] = None,
    cache_debug_after: Annotated[
        str | None, typer.Option(metavar="F", help="The same, asked after the build; both are needed.")
    ] = None,
    context: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="The build context, relative to the paths of --changed-files.")
    ] = None,
) -> None:
    """Say why a build missed its cache: what broke, because of what, what it cost, against an earlier build.

    The more evidence is given, the more is certain; with too little the cause is unknown and the report says what
    would tell. Without BEFORE the build counts as the first one.
    """
    if (cache_debug_before is None) != (cache_debug_after is None):
        raise typer.BadParameter("--cache-debug-before and --cache-debug-after are needed both, or none of them")
    if len(logs) > 2:
        raise typer.BadParameter(f"explain takes one or two logs, not {len(logs)}")
    after = read_log(logs[-1])
    before = read_log(logs[0]) if len(logs) == 2 else []
    evidence = Evidence(
        dockerfiles_before=read_dockerfiles(dockerfile_before),
        dockerfiles_after=read_dockerfiles(dockerfile_after),
        changed_files=read_optional(changed_files, parse_changed_files),
        dockerignore_after=read_optional(dockerignore, str),
        dockerignore_before=read_optional(dockerignore_before, str),
        command_before=read_command(command_before or (logs[0] if len(logs) == 2 else None), given=command_before),
        command_after=read_command(command_after or logs[-1], given=command_after),
        bake=read_optional(bake, str),
        contexts={"": context} if context else {},
        cache_keys_before=read_optional(cache_debug_before, read_cache_keys, limit=cache_keys.MAX_BYTES),
        cache_keys_after=read_optional(cache_debug_after, read_cache_keys, limit=cache_keys.MAX_BYTES),
    )
    if not after:
        raise UnreadableInputError(f"There is no build in {logs[-1]}.")
    comparisons = [find_breaks(build, baseline, evidence) for build, baseline in pair_builds(after, before)]
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(explanation_document(comparisons), option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.buffer.flush()
        return
    console = make_console()
    for number, comparison in enumerate(comparisons, 1):
        if len(comparisons) > 1:
            console.print(Text(f"Build {number} of {len(comparisons)}", style="bold"))
        write_comparison(console, comparison)


def read_log(name: str) -> list[Build]:
    """Read the builds of a log; of an archive those of all its members."""
    with inputs.open_file(name) as file:
        return [build for log in inputs.read_logs(name, file) for build in read_builds(log.chunks).builds]


def read_text(name: str, limit: int = MAX_TEXT_BYTES) -> str:
    """Read a small text file, `-` for standard input."""
    with inputs.open_file(name) as file:
        try:
            content = file.read(limit + 1)
        except OSError as error:
            raise UnreadableInputError(f"Cannot read {name}: {inputs.reason(error)}.") from error
    if len(content) > limit:
        raise TooLargeError(f"Cannot read {name}: it is larger than {limit // 1024**2} MiB.")
    return content.decode(errors="replace")


def read_optional(name: str | None, parse: Callable[[str], Read], limit: int = MAX_TEXT_BYTES) -> Read | None:
    """Read a file that need not be given."""
    return parse(read_text(name, limit)) if name is not None else None


def read_dockerfiles(options: Sequence[str] | None) -> dict[str, str]:
    """Read Dockerfiles given as `FILE` or `TARGET=FILE`, by target; "" for the one that goes for all."""
    found = {}
    for option in options or ():
        target, equals, name = option.partition("=")
        if not equals or Path(option).exists():
            target, name = "", option
        found[target] = read_text(name)
    return found


def parse_changed_files(text: str) -> tuple[ChangedFile, ...]:
    """Read the lines of `git diff --name-status` (a rename counts as a file gone and one new) or bare paths."""
    found = []
    for line in text.splitlines():
        status, *paths = line.split("\t")
        paths = [_unquote(path) for path in paths]
        if not paths:
            found += [ChangedFile(_unquote(line.strip()))] if line.strip() else []
        elif status.startswith("R"):
            found += [ChangedFile(paths[0], "D"), ChangedFile(paths[-1], "A")]
        else:
            found.append(ChangedFile(paths[-1], status[:1] or "M"))
    return tuple(found)


def _unquote(path: str) -> str:
    """Read a path that git quotes as C does: for it everything but ASCII is unusual (`core.quotePath`)."""
    if len(path) < 2 or path[0] != '"' or path[-1] != '"':
        return path
    return _QUOTED.sub(_unescape, path[1:-1].encode()).decode(errors="replace")


def _unescape(match: re.Match[bytes]) -> bytes:
    code = match[1]
    return bytes([int(code, 8) & 0xFF]) if len(code) == 3 else _ESCAPES.get(code, code)


def parse_command(text: str) -> tuple[str, ...]:
    """Read a command line from a JSON list of words, as `cachescope exec` records it."""
    try:
        words = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise UnreadableInputError(f"A command line must be a JSON list of words: {error}.") from error
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise UnreadableInputError('A command line must be a JSON list of words, like ["docker", "build", "."].')
    return tuple(words)


def read_command(name: str | None, *, given: str | None) -> tuple[str, ...] | None:
    """Read a command line: as a JSON list of words, or from a build record (also the one that stands for a log).

    None where a log tells no command line, and where a record holds several builds that were called differently.
    """
    if name is None or (given is None and name == "-"):
        return None
    with inputs.open_file(name) as file:
        try:
            content = file.read(_HEAD_BYTES)
            is_record = buildkit_record.FORMAT.claims(content)
            if given is None and not is_record:
                return None
            content += file.read(buildkit_record.SIZE_CAP + 1)
        except OSError as error:
            raise UnreadableInputError(f"Cannot read {name}: {inputs.reason(error)}.") from error
    if is_record or content.lstrip().startswith(b"{"):
        commands = {command_of(attributes) for attributes in buildkit_record.read_attributes(content)}
        return commands.pop() if len(commands) == 1 else None
    return parse_command(content.decode(errors="replace"))


def pair_builds(after: Sequence[Build], before: Sequence[Build]) -> list[tuple[Build, Build | None]]:
    """Find the earlier build of each build: by the targets it holds, else by its place in the log."""
    pairs: list[tuple[Build, Build | None]] = []
    left = list(before)
    for build in after:
        same = next((other for other in left if _targets(other) == _targets(build)), None)
        if same is None and len(before) == len(after) and left:
            same = left[0]
        if same is not None:
            left.remove(same)
        pairs.append((build, same))
    return pairs


def _targets(build: Build) -> frozenset[str | None]:
    return frozenset(step.target for step in build.steps if step.index is not None)


def explanation_document(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Return the JSON document: breaks, masked steps and figures of all builds of the log."""
    document: dict[str, Any] = {"breaks": [], "masked": []}
    for comparison in comparisons:
        steps = comparison.build.steps
        document["breaks"] += [break_document(found, steps) for found in comparison.breaks]
        document["masked"] += [masked_document(found, steps) for found in comparison.masked]
    return document | {"figures": comparison_figures(comparisons)}


def break_document(found: Break, steps: Sequence[Step]) -> dict[str, Any]:
    """Return one break with its price and its cascade."""
    cascade = [
        {
            "stage": steps[p].stage,
            "index": steps[p].index,
            "platform": steps[p].platform,
            "target": steps[p].target,
            "text": steps[p].text,
            "seconds": steps[p].duration_seconds,
        }
        for p in found.cascade
    ]
    return masked_document(found, steps) | {
        "own_seconds": _rounded(found.own_seconds),
        "cost_seconds": _rounded(found.cost_seconds),
        "cascade": cascade,
    }


def masked_document(found: Break, steps: Sequence[Step]) -> dict[str, Any]:
    """Return a step, its cause and what speaks for it."""
    step = steps[found.position]
    return {
        "step": {
            "stage": step.stage,
            "index": step.index,
            "platform": step.platform,
            "target": step.target,
            "text": step.text,
        },
        "cause": found.cause,
        "confidence": found.confidence,
        "expected": found.expected,
        "files": list(found.files),
        "evidence": list(found.evidence),
        "possible": list(found.possible),
    }


def comparison_figures(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Return the figures of a comparison; those of several builds of one log are put together."""
    steps: list[Step] = []
    references: list[float | None] = []
    breaks: list[Break] = []
    for comparison in comparisons:
        breaks += [
            replace(b, position=b.position + len(steps), cascade=tuple(p + len(steps) for p in b.cascade))
            for b in comparison.breaks
        ]
        references += reference_seconds(comparison)
        steps += comparison.build.steps
    figures = metrics.step_figures(steps)
    avoided = metrics.time_avoided(steps, references)
    overheads = [metrics.cache_overhead(comparison.build) or 0.0 for comparison in comparisons]
    paths = [metrics.critical_path(c.build, c.lineage, reference_seconds(c)) for c in comparisons]
    return figures_fields(figures) | {
        "cache_efficiency": metrics.cache_efficiency(avoided, figures),
        "reachable_efficiency": metrics.reachable_efficiency(steps, references, breaks),
        "seconds_avoided": _rounded(avoided.seconds),
        "hits_of_unknown_cost": avoided.hits_unknown,
        "seconds_lost": _rounded(metrics.seconds_lost(breaks)),
        "rebuild_seconds": _rounded(metrics.rebuild_seconds(breaks)),
        "overhead_seconds": _rounded(sum(overheads)),
        "net_saving_seconds": _rounded(metrics.net_saving(avoided.seconds, sum(overheads))),
        "wall_seconds_saved": _rounded(sum(path.wall_seconds_saved for path in paths if path is not None)),
    }


def figures_fields(figures: metrics.Figures) -> dict[str, Any]:
    """Return the figures of `analyze --json` by name."""
    return {
        "cacheable": figures.cacheable,
        "hits": figures.hits,
        "misses": figures.misses,
        "unknown": figures.unknown,
        "hit_rate": figures.hit_rate,
        "seconds_spent": _rounded(figures.seconds_spent),
    }


def reference_seconds(comparison: Comparison) -> list[float | None]:
    """Return what each step took when the earlier build ran it; two logs hold no longer history."""
    if comparison.baseline is None:
        return [None] * len(comparison.build.steps)
    earlier = comparison.baseline.steps
    return [
        earlier[match].duration_seconds if match is not None and earlier[match].cached is False else None
        for match in comparison.matches
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def write_comparison(console: Console, comparison: Comparison) -> None:
    """Write a comparison for people: each break with its cause, evidence, files, price and cascade."""
    steps = comparison.build.steps
    if not comparison.breaks:
        console.print(Text("Nothing broke: every step that could hit did."))
    for found in comparison.breaks:
        console.print(Text(f"◣ {printable(place(steps[found.position]))}", style="bold"))
        for line in break_lines(found, steps):
            console.print(Text(f"  {printable(line)}"))
        console.print()
    if comparison.masked:
        console.print(Text("Changed too, but below a break:", style="bold"))
    for found in comparison.masked:
        what = f"{place(steps[found.position])} – {words_of(found.cause)}"
        console.print(Text(f"  {printable(what)}"))
    console.print(Text(figures_sentence(comparison)))


def break_lines(found: Break, steps: Sequence[Step]) -> list[str]:
    """Return the sentences below a break."""
    expected = {True: "expected: the commit explains it", False: "unexpected", None: "expected or not is unknown"}
    lines = [f"{words_of(found.cause)} ({found.confidence}; {expected[found.expected]})"]
    lines += list(found.evidence)
    if found.possible:
        lines.append(f"Possible: {', '.join(map(words_of, found.possible))}.")
    if found.files:
        lines.append(f"Files: {', '.join(found.files)}")
    if found.cost_seconds is not None:
        own = f", {duration(found.own_seconds)} of it itself" if found.own_seconds is not None else ""
        lines.append(f"It cost {duration(found.cost_seconds)}{own}.")
    if found.cascade:
        lines.append(f"It made {plural(len(found.cascade), 'step')} run again:")
        lines += [f"  {place(steps[p])}" for p in found.cascade]
    return lines


def words_of(cause: str) -> str:
    """Return a cause as words: `files_changed` as "files changed"."""
    return cause.replace("_", " ")


def place(step: Step) -> str:
    """Return a step as BuildKit prints it: `[build 3/6] COPY src src`."""
    parts = [part for part in (step.target, step.platform, step.stage) if part]
    index = f"{step.index}/{step.total}" if step.index is not None else ""
    return f"[{' '.join([*parts, index]).strip()}] {step.text}" if parts or index else step.text


def figures_sentence(comparison: Comparison) -> str:
    """Say in one line what was lost and what could have been reached."""
    figures = comparison_figures([comparison])
    parts = [f"{figures['hits']} of {figures['hits'] + figures['misses']} steps hit"]
    if figures["cache_efficiency"] is not None:
        parts.append(f"cache efficiency {percentage(figures['cache_efficiency'])}")
    if figures["reachable_efficiency"] is not None and figures["reachable_efficiency"] != figures["cache_efficiency"]:
        parts.append(f"reachable {percentage(figures['reachable_efficiency'])}")
    if figures["seconds_avoided"]:
        parts.append(f"avoided {duration(figures['seconds_avoided'])}")
    if figures["seconds_lost"]:
        parts.append(f"lost {duration(figures['seconds_lost'])}")
    if figures["rebuild_seconds"]:
        parts.append(f"rebuilt for {duration(figures['rebuild_seconds'])}")
    return " · ".join(parts)
