"""Move a build argument that changes with every build below the lines that do not need it.

The value of an ARG is in the key of every RUN below it, whether or not the RUN mentions it. A version, a commit or a
date at the top of a stage makes everything below run again each time:

    RUN make
    ARG VERSION
    RUN echo "$VERSION" > version.txt

Fires when a RUN was seen to break because of an argument and RUN lines between the ARG and the first line that names it
would not need it. ENV lines that take over the argument stay below it. The move is order-safe when no line in between
could read the variable: a script that reads it from the environment without naming it cannot be ruled out, so a build
must check the edit.
"""

from collections.abc import Iterable
from itertools import pairwise

from cachescope.dockerfile import Dockerfile, Instruction, variables
from cachescope.history import History
from cachescope.recommendations.base import Recommendation, edit_lines, is_worthwhile, make_patch
from cachescope.replaying import replay


class VolatileBuildArg:
    """Looks at every ARG that was the cause of a break."""

    def advise(self, history: History) -> Iterable[Recommendation]:
        """Look through a history."""
        for line in history.dockerfile.instructions:
            names = list(line.pairs) if line.keyword == "ARG" and line.stage is not None else []
            if len(names) == 1 and (found := _advise(history, line, names[0])) is not None:
                yield found


def _advise(history: History, line: Instruction, name: str) -> Recommendation | None:
    stage = history.dockerfile.stages[line.stage or 0]
    below = [i for i in stage.instructions if i.position > line.position]
    needed = next((i for i in below if _names(i, name)), None)
    if needed is None:
        return None
    between = [i for i in below if i.position < needed.position]
    layers = [i for i in between if i.keyword == "RUN"]
    blamed = _builds_with_another_value(history, [*layers, needed], needed)
    if not layers or not blamed or any(i.keyword == "ARG" and name in i.pairs for i in between):
        return None
    text = history.dockerfile.text.split("\n")[line.first_line - 1 : line.last_line]
    edited = edit_lines(
        history, [(needed.first_line, needed.first_line - 1, text), (line.first_line, line.last_line, [])]
    )
    prediction = replay(history, Dockerfile(edited), arguments={name: blamed})
    if not is_worthwhile(history, prediction.saving_seconds_per_build):
        return None
    return Recommendation(
        title=f"Move ARG {name} down to where it is used",
        why=f"Its value is in the key of every RUN below line {line.first_line}, used or not.",
        evidence=(f"It made lines run again in {len(blamed)} of {len(history.later_builds)} builds.",),
        patch=make_patch(history.dockerfile_path, history.dockerfile.text, edited),
        order_safe=False,
        saving_seconds_per_build=prediction.saving_seconds_per_build,
        interval=prediction.interval,
    )


def _names(line: Instruction, name: str) -> bool:
    found = set(variables(line.text))
    for heredoc in line.heredocs:
        found |= set(variables(heredoc.body))
    return name in found


def _builds_with_another_value(history: History, lines: list[Instruction], needed: Instruction) -> set[int]:
    """The builds in which the argument changed: named as the cause, or printed with another value where it is used."""
    found = {o.build for i in lines for o in history.observations(i) if o.cause == "build_arg_changed"}
    printed = [(o.build, history.builds[o.build].build.steps[o.position].text) for o in history.observations(needed)]
    return found | {build for (_, old), (build, new) in pairwise(printed) if old != new}


RECOMMENDATION = VolatileBuildArg()
