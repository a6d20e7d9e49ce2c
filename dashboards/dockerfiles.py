"""A Dockerfile with what each line did in a build beside it; where it is not known, the steps in its place."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cachescope import model
from cachescope.pair import Side, read_dockerfile
from cachescope.surroundings import Surroundings
from dashboards.states import State

LINES_SHOWN = 1500


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownLine:
    """A line of a Dockerfile, or a step where there is none."""

    number: int | None
    text: str
    state: State | None = None
    seconds: float | None = None
    position: int | None = None
    """Of the step that it became."""
    help: str = ""
    """What it did for each target and platform, where there are several."""
    is_more: bool = False
    """Whether it continues the line above."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownDockerfile:
    """One Dockerfile of a build."""

    title: str
    lines: Sequence[ShownLine]
    left_out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedBuild:
    """A build with the state of each step, and its place in words."""

    build: model.Build
    states: Sequence[State]
    places: Sequence[str]


def annotate(stated: StatedBuild, known: Surroundings) -> list[ShownDockerfile]:
    """Put the states of a build's steps beside the lines of its Dockerfiles; none where no Dockerfile is known."""
    side = Side(stated.build, known.dockerfiles, known.command, None, known.bake)
    found: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    targets: dict[str, list[str]] = defaultdict(list)
    for position, step in enumerate(stated.build.steps):
        if step.kind != model.StepKind.INSTRUCTION:
            continue
        dockerfile, instruction = side.dockerfile(step.target), side.instruction(position)
        if dockerfile is None:
            continue
        if step.target and step.target not in targets[dockerfile.text]:
            targets[dockerfile.text].append(step.target)
        if instruction is not None:
            found[dockerfile.text][instruction.position].append(position)
    return [
        _annotated(text, _title(text, known, targets[text]), found[text], stated)
        for text in dict.fromkeys(known.dockerfiles.values())
        if text in found or len(known.dockerfiles) == 1
    ]


def _title(text: str, known: Surroundings, targets: Sequence[str]) -> str:
    own = [target for target, other in known.dockerfiles.items() if other == text and target] or targets
    return ", ".join([known.dockerfile_path or "Dockerfile", *own])


def _annotated(text: str, title: str, steps: Mapping[int, Sequence[int]], stated: StatedBuild) -> ShownDockerfile:
    dockerfile = read_dockerfile(text)
    lines: dict[int, ShownLine] = {}
    for instruction in dockerfile.instructions:
        positions = steps.get(instruction.position, ())
        for number in range(instruction.first_line + 1, instruction.last_line + 1):
            lines[number] = ShownLine(number=number, text=dockerfile.lines[number - 1], is_more=True)
        if positions:
            lines[instruction.first_line] = _line(
                instruction.first_line, dockerfile.lines[instruction.first_line - 1], positions, stated
            )
    shown = [
        lines.get(number) or ShownLine(number=number, text=line) for number, line in enumerate(dockerfile.lines, 1)
    ]
    while shown and not shown[-1].text:
        shown.pop()
    return ShownDockerfile(title=title, lines=shown[:LINES_SHOWN], left_out=max(0, len(shown) - LINES_SHOWN))


_WORST = ("failed", "miss", "expected", "running", "canceled", "unknown", "hit", "none")


def _line(number: int, text: str, positions: Sequence[int], stated: StatedBuild) -> ShownLine:
    """A line with the worst that it did: one instruction is a step for each platform and target."""
    states, places, steps = stated.states, stated.places, stated.build.steps
    worst = min(positions, key=lambda position: (not states[position].is_break, _WORST.index(states[position].name)))
    seconds = [steps[p].duration_seconds for p in positions if steps[p].cached is not True]
    timed = [value for value in seconds if value is not None]
    several = len(positions) > 1
    return ShownLine(
        number=number,
        text=text,
        state=states[worst],
        seconds=sum(timed) if timed else None,
        position=worst,
        help="; ".join(f"{places[p]}: {states[p].word}" for p in positions[:20]) if several else "",
    )


def _in_order(rows: Sequence[Any], positions: Sequence[int]) -> list[str | None]:
    """The stages, each below those that it copies from; builders announce them in any order."""
    texts: dict[str | None, str] = defaultdict(str)
    for position in positions:
        texts[rows[position][0].stage] += rows[position][1] + "\n"
    left = list(texts)
    ordered: list[str | None] = []
    while left:
        free = (s for s in left if not any(other and f"--from={other} " in texts[s] for other in left if other != s))
        stage = next(free, left[0])
        left.remove(stage)
        ordered.append(stage)
    return ordered


def from_steps(rows: Sequence[Any], states: Sequence[State], places: Sequence[str]) -> list[ShownDockerfile]:
    """The steps of each target and platform in the order of their lines: what is known without a Dockerfile."""
    grouped: dict[str, list[int]] = defaultdict(list)
    for step, _ in rows:
        if step.kind == "instruction":
            grouped[" ".join(part for part in (step.target, step.platform) if part)].append(step.position)
    shown = []
    for title, positions in grouped.items():
        stages = _in_order(rows, positions)
        ordered = sorted(positions, key=lambda p: (stages.index(rows[p][0].stage), rows[p][0].idx or 0, p))
        lines = [
            ShownLine(
                number=None,
                text=rows[p][1],
                state=states[p],
                seconds=rows[p][0].duration_seconds if rows[p][0].cached is not True else None,
                position=p,
                help=places[p],
            )
            for p in ordered
        ]
        shown.append(ShownDockerfile(title=title, lines=lines[:LINES_SHOWN], left_out=max(0, len(lines) - LINES_SHOWN)))
    return shown
