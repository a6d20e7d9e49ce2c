"""Move a LABEL or ENV that changes with every build below the lines that do not need it.

A commit, a version or a date at the top of a stage makes everything below run again. The classic builder, Buildah and
Kaniko hold every LABEL and ENV in the key of what follows; BuildKit holds ENV, and the ARG that a LABEL takes its value
from:

    RUN make
    ARG REVISION
    LABEL org.opencontainers.image.revision=$REVISION

Fires when such a line was seen with another value in at least two builds, or the first RUN below an ARG that only LABEL
and ENV lines name kept breaking without another explanation, and RUN lines stand between it and the first line that
names it. Lines that nothing names move to the end of the stage, but an ENV never below a RUN that works on the project
itself (`npm run build`, `make`): builds bake such variables in without naming them in the Dockerfile. A LABEL with a
written value is order-safe; a script that reads a variable without naming it cannot be ruled out for ENV and ARG, so a
build must check those.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from cachescope.dockerfile import LAYER_KEYWORDS, Dockerfile, Instruction, Stage, variables
from cachescope.history import History
from cachescope.matching import normalize
from cachescope.pair import read_dockerfile
from cachescope.recommendations.base import Recommendation, edit_lines, is_worthwhile, join_words, make_patch
from cachescope.replaying import Prediction, replay

_HOLDERS = ("LABEL", "ENV")


@dataclass(frozen=True, slots=True)
class _Move:
    """Lines of a stage and the line that they move to."""

    lines: list[Instruction]
    target: int
    """They come to stand before this line of the file."""
    runs: list[Instruction]
    """The RUN lines that they pass."""


class VolatileLabelOrEnv:
    """Looks at every LABEL and ENV, and at ARGs that only these name."""

    def advise(self, history: History) -> Iterable[Recommendation]:
        """Look through a history."""
        for stage in history.dockerfile.stages:
            for line in stage.instructions:
                found = None
                if line.keyword == "ARG" and len(line.pairs) == 1:
                    found = _advise_argument(history, stage, line)
                elif line.keyword in _HOLDERS:
                    found = _advise_text(history, stage, line)
                if found is not None:
                    yield found


def _advise_argument(history: History, stage: Stage, line: Instruction) -> Recommendation | None:
    (name,) = line.pairs
    below = [i for i in stage.instructions if i.position > line.position]
    holders = [i for i in below if i.keyword in _HOLDERS and name in _named(i)]
    if not holders or any(i.keyword == "ARG" and name in i.pairs for i in below):
        return None
    values = {name} | {key for i in holders if i.keyword == "ENV" for key in i.pairs}
    others = [i for i in below if i not in holders]
    move = _plan_move(stage, [line, *holders], others, values)
    blamed = _broken_builds(history, move.runs)
    if not blamed or not move.runs or len(move.lines) < 2:
        return None
    kinds = " and ".join(dict.fromkeys(i.keyword for i in move.lines[1:]))
    edited = _apply(history, move)
    prediction = replay(history, Dockerfile(edited), arguments={name: blamed})
    return _recommend(
        history, edited, prediction, f"ARG {name} and the {kinds} that takes it", blamed, order_safe=False
    )


def _advise_text(history: History, stage: Stage, line: Instruction) -> Recommendation | None:
    # A written value is no step and no reason of its own in BuildKit's logs.
    changed = _changed_builds(history, line)
    values = set(line.pairs) if line.keyword == "ENV" else set()
    below = [i for i in stage.instructions if i.position > line.position]
    move = _plan_move(stage, [line], below, values)
    if len(changed) < 2 or not move.runs or _named(line):
        return None
    edited = _apply(history, move)
    prediction = replay(history, Dockerfile(edited), breaking={normalize(line.text): changed})
    what = f"{line.keyword} {join_words(list(line.pairs), 2)}"
    return _recommend(history, edited, prediction, what, changed, order_safe=line.keyword == "LABEL")


def _plan_move(stage: Stage, lines: list[Instruction], others: Sequence[Instruction], values: set[str]) -> _Move:
    """Find how far down the lines can go: to the first line that names one of these values, else to the last layer."""
    is_variable = any(i.keyword == "ENV" for i in lines)
    needed = next((i for i in others if values & _named(i) or (is_variable and _runs_own_code(i))), None)
    layers = [i for i in others if i.keyword in LAYER_KEYWORDS]
    if needed is not None:
        lines = [i for i in lines if i.position < needed.position]
        target = needed.first_line
        layers = [i for i in layers if i.position < needed.position]
    else:
        target = max([i.last_line for i in layers], default=0) + 1
        lines = [i for i in lines if i.first_line < target]
    return _Move(lines, target, [i for i in layers if i.keyword == "RUN" and i.position > lines[0].position])


_OWN_CODE = re.compile(
    r"(?:^|[;&|(])\s*(?:\w{1,40}=\S{1,80} ){0,4}"
    r"(?:\./|(?:npm run|npx|yarn (?:run|build)|pnpm (?:run|build)|bun run|bundle exec|go (?:build|install|generate)"
    r"|next|vite|webpack|tsc|ng|make|cmake|ninja|mvnw?|gradlew?|rake|cargo|dotnet|mix"
    r"|node|python3?|ruby|php|bash|sh)\b)"
)
_INSTALLS = re.compile(r"\b(?:python3? -m pip|npm (?:ci|install)|cargo fetch|dotnet restore|mix deps\.get)\b")


def _runs_own_code(line: Instruction) -> bool:
    """Tell whether a RUN works on the project itself: what it runs may read any variable without naming it here."""
    return line.keyword == "RUN" and bool(_OWN_CODE.search(_INSTALLS.sub("", line.arguments)))


def _apply(history: History, move: _Move) -> str:
    text = history.dockerfile.text.split("\n")
    moved = [row for i in move.lines for row in text[i.first_line - 1 : i.last_line]]
    edits: list[tuple[int, int, Sequence[str]]] = [(i.first_line, i.last_line, []) for i in move.lines]
    return edit_lines(history, [*edits, (move.target, move.target - 1, moved)])


def _recommend(
    history: History, edited: str, prediction: Prediction, what: str, builds: set[int], *, order_safe: bool
) -> Recommendation | None:
    saving = prediction.saving_seconds_per_build
    if not is_worthwhile(history, saving):
        return None
    return Recommendation(
        title=f"Move {what} down",
        why="Its value changes with the builds and is in the key of the lines below it, which need it not.",
        evidence=(f"It made lines run again in {len(builds)} of {len(history.later_builds)} builds.",),
        patch=make_patch(history.dockerfile_path, history.dockerfile.text, edited),
        order_safe=order_safe,
        saving_seconds_per_build=saving,
        interval=prediction.interval,
    )


def _named(line: Instruction) -> set[str]:
    found = set(variables(line.text))
    for heredoc in line.heredocs:
        found |= set(variables(heredoc.body))
    return found


def _broken_builds(history: History, runs: Sequence[Instruction]) -> set[int]:
    """The builds in which one of these lines broke because of an argument, surely or for want of another reason."""
    places = {i.position for i in runs}
    sure: set[int] = set()
    likely: set[int] = set()
    for number in history.later_builds:
        for found in history.comparisons[number].breaks:
            line = history.sides[number].instruction(found.position)
            if line is None or line.position not in places:
                continue
            if found.cause == "build_arg_changed":
                sure.add(number)
            elif found.cause == "unknown" and "build_arg_changed" in found.possible:
                likely.add(number)
    # A lost cache strikes here and there; what breaks at the same line again and again has another reason.
    is_usual = len(likely | sure) >= 3 and 2 * len(likely | sure) >= len(history.later_builds)
    return sure | likely if is_usual else sure if len(sure) >= 2 else set()


def _changed_builds(history: History, line: Instruction) -> set[int]:
    """The builds whose log prints the line with another value than the build before."""
    printed: list[tuple[int, str]] = []
    for number, past in enumerate(history.builds):
        for step in past.build.steps if past.build.builder in ("docker", "buildah", "kaniko") else ():
            if step.instruction == line.keyword and _pairs(step.text).keys() == line.pairs.keys():
                printed.append((number, normalize(step.text)))
                break
    return {number for (_, old), (number, new) in pairwise(printed) if old != new}


def _pairs(text: str) -> Mapping[str, str]:
    found = read_dockerfile(text.split("\n", 1)[0]).instructions
    return found[0].pairs if found else {}


RECOMMENDATION = VolatileLabelOrEnv()
