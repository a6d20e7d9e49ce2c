"""A build as a table for people: a bar per step, hits and misses in words and colour, the break marked, figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from cachescope import metrics
from cachescope.cli.document import timestamp
from cachescope.cli.words import duration, percentage, plural, printable, size
from cachescope.comparing import Break, find_breaks
from cachescope.model import Build, LogReading, Outcome, Step, StepKind, StepStatus

MIN_TEXT_CELLS = 16
BAR_CELLS = 16
PLAIN_WIDTH = 120
"""The width where there is no terminal and COLUMNS is not set."""


@dataclass(frozen=True, slots=True)
class State:
    """How a step stands: always a word, a sign and a colour, never the colour alone."""

    word: str
    sign: str
    ascii: str
    style: str


HIT = State("hit", "✓", "+", "cyan")
MISS = State("miss", "■", "#", "red")
BREAK = State("break", "◣", ">", "bold red")
FAILED = State("failed", "✗", "x", "bold red")
CANCELED = State("canceled", "✗", "x", "yellow")
RUNNING = State("running", "▸", "~", "bold blue")
UNKNOWN = State("unknown", "?", "?", "dim")
NOT_CACHEABLE = State("–", " ", " ", "dim")

OUTCOMES = {
    Outcome.SUCCEEDED: "green",
    Outcome.FAILED: "bold red",
    Outcome.CANCELED: "yellow",
    Outcome.INCOMPLETE: "yellow",
}


def state_of(step: Step, is_break: bool) -> State:
    """Say how a step stands."""
    match step.status:
        case StepStatus.FAILED:
            return FAILED
        case StepStatus.CANCELED:
            return CANCELED
        case StepStatus.RUNNING:
            return RUNNING
    if step.cached:
        return HIT
    if step.kind != StepKind.INSTRUCTION or step.instruction == "FROM":
        return NOT_CACHEABLE
    if step.cached is None or step.status == StepStatus.UNKNOWN:
        return UNKNOWN
    return BREAK if is_break else MISS


def write_reading(console: Console, reading: LogReading, name: str, *, every_step: bool) -> None:
    """Write what one log says."""
    wrapper = f" · {reading.wrapper}" if reading.wrapper else ""
    lines = [Text(f"{printable(name)}{wrapper} · {plural(reading.lines, 'line')}", style="bold")]
    if not reading.builds:
        lines.append(Text("No build in this log."))
    for position, build in enumerate(reading.builds):
        if len(reading.builds) > 1:
            lines += [Text(), Text(f"Build {position + 1} of {len(reading.builds)}", style="bold")]
        lines += build_lines(build, width=console.width, ascii_only=is_ascii(console), every_step=every_step)
    lines += [Text(f"Warning: {printable(warning)}", style="yellow") for warning in reading.warnings]
    for line in [*lines, Text()]:
        # A line that is too long for a narrow terminal is the terminal's to wrap: nothing is left out.
        console.print(plain_ascii(line) if is_ascii(console) else line, no_wrap=True, overflow="ignore", crop=False)


def is_ascii(console: Console) -> bool:
    """Tell whether the output cannot show block characters."""
    return not console.encoding.lower().startswith("utf")


def build_lines(build: Build, *, width: int, ascii_only: bool, every_step: bool) -> list[Text]:
    """Return the lines of one build, each at most `width` cells where that leaves room for the text of a step."""
    breaks = {found.position: found for found in find_breaks(build).breaks}
    shown = [
        (position, step)
        for position, step in enumerate(build.steps)
        if every_step or step.kind == StepKind.INSTRUCTION or state_of(step, False) in (FAILED, CANCELED)
    ]
    lines = [header(build)]
    lines += [Text(f"  {line}", style="dim") for line in facts(build)]
    if build.error:
        lines.append(Text(f"  {printable(build.error)}", style="red"))
    lines += step_lines(shown, breaks, width=width, ascii_only=ascii_only)
    others = [step for step in build.steps if step.kind != StepKind.INSTRUCTION]
    if others and not every_step:
        lines.append(Text(f"  {other_work(others)}", style="dim"))
    lines += [break_line(build, found, width) for found in breaks.values() if found.cascade]
    lines.append(figures_line(build))
    return [plain_ascii(line) for line in lines] if ascii_only else lines


def header(build: Build) -> Text:
    """Say which builder, how it ended, how long it took and when it began."""
    line = Text(build.builder or "unknown builder")
    line.append(f" ({build.format})", style="dim")
    line.append(f" {build.outcome}", style=OUTCOMES[build.outcome])
    if build.duration_seconds is not None:
        line.append(f" {'after' if build.outcome != Outcome.SUCCEEDED else 'in'} {duration(build.duration_seconds)}")
    if started := timestamp(build.started_at):
        line.append(f" · started {started[:19].replace('T', ' ')} UTC", style="dim")
    return line


def facts(build: Build) -> list[str]:
    """Say what was built, the size of the context, and which caches were read and written."""
    lines = []
    for image in build.images:
        names = ", ".join(image.tags) or image.digest or image.id or "image without a name"
        target = f"{image.target}: " if image.target else ""
        lines.append(printable(f"image {target}{names}"))
    if build.context_bytes is not None:
        lines.append(f"context {size(build.context_bytes)}")
    for verb, transfers in (("import", build.cache_imports), ("export", build.cache_exports)):
        for transfer in transfers:
            outcome = {True: "", False: " failed", None: " (end not in the log)"}[transfer.succeeded]
            took = f" {duration(transfer.seconds)}" if transfer.seconds is not None else ""
            lines.append(printable(f"cache {verb} {transfer.ref or ''}{outcome}{took}"))
    return lines


def step_lines(
    shown: Sequence[tuple[int, Step]], breaks: Mapping[int, Break], *, width: int, ascii_only: bool
) -> list[Text]:
    """Return one line per step: sign, word, seconds, bar, place, text."""
    places = [place(step) for _, step in shown]
    place_cells = min(max(map(cell_len, places), default=0), max(width // 4, 8))
    longest = max((step.duration_seconds or 0 for _, step in shown), default=0)
    fixed = 2 + 2 + 9 + 13 + place_cells + 1
    bar_cells = BAR_CELLS if width - fixed - BAR_CELLS - 1 >= MIN_TEXT_CELLS else 0
    text_cells = max(width - fixed - (bar_cells + 1 if bar_cells else 0), MIN_TEXT_CELLS)
    lines = []
    for (position, step), where in zip(shown, places, strict=True):
        state = state_of(step, position in breaks)
        line = Text("  ")
        line.append(f"{state.ascii if ascii_only else state.sign} {state.word:<9}", style=state.style)
        line.append(f"{duration(step.duration_seconds):>12} ")
        if bar_cells:
            line.append(bar(step.duration_seconds, longest, bar_cells, ascii_only=ascii_only) + " ", style=state.style)
        line.append(set_cell_size(middle(where, place_cells), place_cells) + " ", style="dim")
        line.append(middle(printable(step.text), text_cells), style="dim" if state is NOT_CACHEABLE else "")
        lines.append(line)
        if step.error and state is FAILED:
            lines.append(Text(f"    {middle(printable(step.error), max(width - 4, MIN_TEXT_CELLS))}", style="red"))
    return lines


def place(step: Step) -> str:
    """Say where a step stands: target, platform, stage, index of total."""
    index = "" if step.index is None else f"{step.index}/{step.total}" if step.total else str(step.index)
    return printable(" ".join(part for part in (step.target, step.platform, step.stage, index) if part))


def bar(seconds: float | None, longest: float, cells: int, *, ascii_only: bool) -> str:
    """Draw a duration against the longest one, in eighths of a cell; anything that took time shows."""
    if not seconds or not longest:
        return " " * cells
    eighths = max(round(seconds / longest * cells * 8), 1)
    if ascii_only:
        return ("#" * max(eighths // 8, 1)).ljust(cells)
    return ("█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8]).rstrip().ljust(cells)[:cells]


def middle(text: str, cells: int) -> str:
    """Cut a text in the middle, where instructions differ least; never at its end."""
    if cell_len(text) <= cells:
        return text
    # Long texts are cut by characters before cells are counted, one by one, at the seam.
    head = set_cell_size(text[:cells], (cells - 1) * 2 // 3).rstrip()
    tail = text[-cells:]
    while tail and cell_len(head) + 1 + cell_len(tail) > cells:
        tail = tail[1:]
    return f"{head}…{tail}"


def break_line(build: Build, found: Break, width: int) -> Text:
    """Say what a break made run besides itself, and what that cost."""
    cost = f", {duration(found.cost_seconds)} in all" if found.cost_seconds is not None else ""
    end = f": {plural(len(found.cascade), 'step')} below ran because of it{cost}"
    step = build.steps[found.position]
    where = f" ({place(step)})" if place(step) else ""
    end = where + end
    text = middle(printable(step.text), max(width - cell_len(end) - 12, MIN_TEXT_CELLS))
    return Text(f"  broke at {text}{end}", style="bold red")


def other_work(steps: Sequence[Step]) -> str:
    """Sum up what the builder did for itself."""
    known = [step.duration_seconds for step in steps if step.duration_seconds is not None]
    took = f", {duration(sum(known))}" if known else ""
    return f"and {plural(len(steps), 'step')} of the builder itself (context, metadata, export, cache){took}"


def figures_line(build: Build) -> Text:
    """Write the figures of a build in one line."""
    found = metrics.figures(build)
    if not found.cacheable:
        return Text("  No step that a cache could serve.")
    line = Text("  hit rate ")
    line.append(percentage(found.hit_rate), style="bold")
    line.append(f" ({found.hits} of {found.hits + found.misses})")
    line.append(f" · {plural(found.hits, 'hit')}", style="cyan")
    took = "" if found.seconds_spent is None or not found.misses else f" that took {duration(found.seconds_spent)}"
    line.append(f" · {plural(found.misses, 'miss')}{took}", style="red")
    if found.unknown:
        line.append(f" · {found.unknown} unknown", style="dim")
    return line


def plain_ascii(line: Text) -> Text:
    """Write a line with characters that every terminal has."""
    plain = line.plain.translate({ord("·"): "-", ord("–"): "-", ord("…"): "~"})
    line.plain = plain.encode("ascii", "replace").decode()
    return line
