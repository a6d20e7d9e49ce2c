"""Copy the manifests before the install, and everything else after it.

`COPY . .` above an install makes the install run again whenever any file changes. With the lock file and its
companions copied first, the install hits as long as they stay the same:

    COPY package.json package-lock.json ./
    RUN npm ci
    COPY . .

Fires when a COPY of the whole context stands right above an install from manifests (npm, pnpm, Yarn, pip with
requirement files, Bundler, Go modules, Composer) and that install was seen to run again because of it. Commands after
the install in the same RUN move below the second COPY. It is order-safe where the files of the repository show that the
install reads nothing else: no install scripts of its own, no workspaces, no local packages, no `node_modules` in the
context. Otherwise a build must check it. Silent where the install is known to need more than its manifests: workspaces,
local packages, patches, scripts of the package itself, Yarn 2 and newer, an autoloader made from the sources.
"""

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from cachescope.context import context_sources
from cachescope.dockerfile import LAYER_KEYWORDS, Dockerfile, Instruction
from cachescope.history import History
from cachescope.matching import normalize
from cachescope.recommendations._packages import (
    Manager,
    complete_requirements,
    is_cleaning,
    manager_of,
    needed_manifests,
    needs_more,
    reads_only_manifests,
    split_commands,
)
from cachescope.recommendations.base import Recommendation, edit_lines, is_worthwhile, join_words, make_patch
from cachescope.replaying import replay

INSTALL_SHARE = 0.7
"""How much of a RUN that installs first and then does more is taken for the install."""


class CopyBeforeInstall:
    """Looks at every COPY of the whole context and the RUN below it."""

    def advise(self, history: History) -> Iterable[Recommendation]:
        """Look through a history."""
        for copy, run in _candidates(history):
            if (found := _advise(history, copy, run)) is not None:
                yield found


def _candidates(history: History) -> Iterable[tuple[Instruction, Instruction]]:
    for stage in history.dockerfile.stages:
        lines = [i for i in stage.instructions if i.keyword in LAYER_KEYWORDS]
        for above, below in pairwise(lines):
            is_whole = above.keyword == "COPY" and history.is_broad(above) and len(context_sources(above)) == 1
            if is_whole and below.keyword == "RUN" and not below.heredocs and not above.flag_values("exclude"):
                yield above, below


def _advise(history: History, copy: Instruction, run: Instruction) -> Recommendation | None:
    commands = split_commands(run.arguments)
    manager = manager_of(commands[0])
    if manager is None or not _is_working_folder(history, copy):
        return None
    if needs_more(manager, commands[0], history.context_files, history.texts):
        return None
    manifests = needed_manifests(manager, commands[0], history.context_files, "")
    if history.texts or history.context_files is not None:
        if manager.name == "pip":
            manifests = complete_requirements(manifests, history.texts) or []
        if any(name not in (history.context_files or {}) for name in manifests):
            return None
    if not manifests or any("$" in name or name.startswith(("/", "..")) or "://" in name for name in manifests):
        return None
    again = [o for o in history.observations(run) if o.missed and o.build > 0 and not history.is_reset(o.build)]
    cost = history.cost(run)
    if not again or cost is None:
        return None
    found = _Found(copy, run, manager, commands, manifests)
    return _recommend(history, found, cost, len(again))


def _is_working_folder(history: History, copy: Instruction) -> bool:
    """Tell whether a COPY goes to the folder that the install works in, so that paths mean the same to both."""
    target = posixpath.normpath(copy.words[-1])
    if target == ".":
        return True
    stage = history.dockerfile.stages[copy.stage or 0]
    folders = [i.arguments for i in stage.instructions if i.keyword == "WORKDIR" and i.position < copy.position]
    return target.startswith("/") and bool(folders) and posixpath.normpath(folders[-1]) == target


@dataclass(frozen=True, slots=True)
class _Found:
    copy: Instruction
    run: Instruction
    manager: Manager
    commands: list[str]
    manifests: list[str]


def _recommend(history: History, found: _Found, cost: float, again: int) -> Recommendation | None:
    copy, run, manifests, commands = found.copy, found.run, found.manifests, found.commands
    flags = "".join(f" --{name}={value}" if value else f" --{name}" for name, value in copy.flags)
    target = copy.words[-1]
    folder = target if target.endswith("/") else "./" if target == "." else f"{target}/"
    names = [n for n in manifests if "/" not in n]
    nested = [n for n in manifests if "/" in n]
    new = [f"COPY{flags} {' '.join(names)} {folder}"] if names else []
    new += [f"COPY{flags} {name} {folder}{name.rpartition('/')[0]}/" for name in nested]
    mounts = "".join(f"--{name}={value} " if value else f"--{name} " for name, value in run.flags)
    cleaning = next((n for n, command in enumerate(commands[1:], 1) if not is_cleaning(command)), len(commands))
    first, rest = " && ".join(commands[:cleaning]), commands[cleaning:]
    old_lines = history.dockerfile.text.split("\n")
    # A single install keeps its line as it is written.
    install = old_lines[run.first_line - 1 : run.last_line] if not rest else [f"RUN {mounts}{first}"]
    new += [*install, *old_lines[copy.first_line - 1 : copy.last_line]]
    new += [f"RUN {mounts}{' && '.join(rest)}"] if rest else []
    between = old_lines[copy.last_line : run.first_line - 1]
    edited = edit_lines(history, [(copy.first_line, run.last_line, [*between, *new])])
    if len(Dockerfile(edited).stages) != len(history.dockerfile.stages):
        return None
    # How a RUN that is cut in two shares its time is not in the log; an install mostly takes the greater part.
    share = INSTALL_SHARE if rest else 1.0
    costs = {
        normalize(f"RUN {mounts}{first}"): cost * share,
        normalize(f"RUN {mounts}{' && '.join(rest)}"): cost * (1 - share),
    }
    prediction = replay(history, Dockerfile(edited), costs=costs)
    saving = prediction.saving_seconds_per_build
    if not is_worthwhile(history, saving):
        return None
    low, high = prediction.interval
    if rest:
        low, high = min(low, 0.2 * saving), max(high, saving / INSTALL_SHARE)
    return Recommendation(
        title=f"Copy {join_words(manifests, 3)} before the {found.manager.name} install",
        why=(
            f"`{copy.text}` in line {copy.first_line} changes with every file, and the install below it runs again. "
            "With only its manifests above it, it hits until they change."
        ),
        evidence=(
            f"`{run.text[:80]}` ran again in {again} of {len(history.later_builds)} builds and takes {cost:.1f} s.",
        ),
        patch=make_patch(history.dockerfile_path, history.dockerfile.text, edited),
        order_safe=reads_only_manifests(found.manager, commands[0], manifests, history.context_files, history.texts),
        saving_seconds_per_build=saving,
        interval=(low, high),
    )


RECOMMENDATION = CopyBeforeInstall()
