"""Move a COPY that the install does not read below it.

An install that stands below copies of source code runs again with every edit of the code, although it reads its
manifests only:

    COPY requirements.txt .
    RUN pip install -r requirements.txt
    COPY src/ src/

Fires when several COPY lines stand right above an install from manifests (npm, pnpm, Yarn, pip with requirement files,
Bundler, Go modules, Composer), some of them copy nothing that the install reads, and the install was seen to run again
because of those. The lines keep their order otherwise. It is order-safe where the files of the repository show that the
install reads nothing else; otherwise a build must check it, and only plain code moves: a schema, a patch or a script
may be read by the install, and often stands above it for that reason.
"""

from collections.abc import Iterable, Sequence

from cachescope.context import context_sources, covers
from cachescope.dockerfile import LAYER_KEYWORDS, Dockerfile, Instruction
from cachescope.history import History
from cachescope.recommendations._packages import (
    Manager,
    complete_requirements,
    manager_of,
    needed_manifests,
    needs_more,
    reads_only_manifests,
    split_commands,
)
from cachescope.recommendations.base import Recommendation, edit_lines, is_worthwhile, join_words, make_patch
from cachescope.replaying import replay


class CopyBelowInstall:
    """Looks at every install and the run of COPY lines right above it."""

    def advise(self, history: History) -> Iterable[Recommendation]:
        """Look through a history."""
        for stage in history.dockerfile.stages:
            lines = [i for i in stage.instructions if i.keyword in LAYER_KEYWORDS]
            for place, line in enumerate(lines):
                commands = split_commands(line.arguments) if line.keyword == "RUN" else []
                manager = manager_of(commands[0]) if len(commands) == 1 and not line.heredocs else None
                copies = _copies_above(lines[:place])
                if manager is not None and len(copies) > 1:
                    found = _advise(history, copies, line, manager)
                    if found is not None:
                        yield found


def _copies_above(lines: Sequence[Instruction]) -> list[Instruction]:
    found: list[Instruction] = []
    for line in reversed(lines):
        if line.keyword != "COPY" or not context_sources(line):
            break
        found.insert(0, line)
    return found


def _advise(
    history: History, copies: Sequence[Instruction], run: Instruction, manager: Manager
) -> Recommendation | None:
    manifests = needed_manifests(manager, run.arguments, history.context_files, "")
    if manager.name == "pip" and history.texts:
        manifests = complete_requirements(manifests, history.texts) or []
    needed = [c for c in copies if any(covers(s, m) for s in context_sources(c) for m in manifests)]
    spare = [c for c in copies if c not in needed]
    if not manifests or not needed or not spare or any(history.is_broad(c) for c in needed):
        return None
    if history.context_files is not None:
        # Another manifest of the same manager may lie in what would move.
        present = [m for m in manager.manifests if m in history.context_files]
        if any(covers(s, m) for c in spare for s in context_sources(c) for m in present):
            return None
    is_proven = reads_only_manifests(manager, run.arguments, manifests, history.context_files, history.texts)
    if needs_more(manager, run.arguments, history.context_files, history.texts):
        return None
    if not is_proven and not all(_is_plain(manager, s) for c in spare for s in context_sources(c)):
        return None
    lines = history.dockerfile.text.split("\n")
    moved = [text for copy in spare for text in lines[copy.first_line - 1 : copy.last_line]]
    edits: list[tuple[int, int, Sequence[str]]] = [(c.first_line, c.last_line, []) for c in spare]
    edited = edit_lines(history, [*edits, (run.last_line + 1, run.last_line, moved)])
    prediction = replay(history, Dockerfile(edited))
    again = {o.build for o in history.observations(run) if o.missed and o.build > 0}
    if not is_worthwhile(history, prediction.saving_seconds_per_build):
        return None
    return Recommendation(
        title=f"Move {join_words([f'`{copy.text}`' for copy in spare], 2)} below the {manager.name} install",
        why="The install reads its manifests only, but runs again whenever one of the files above it changes.",
        evidence=(f"`{run.text[:80]}` ran again in {len(again)} of {len(history.later_builds)} builds.",),
        patch=make_patch(history.dockerfile_path, history.dockerfile.text, edited),
        order_safe=is_proven,
        saving_seconds_per_build=prediction.saving_seconds_per_build,
        interval=prediction.interval,
    )


_SOURCES = frozenset(
    ("src", "app", "public", "static", "assets", "templates", "views", "components", "pages", "test", "tests", "docs")
)
_ENDINGS = (".py", ".js", ".ts", ".jsx", ".tsx", ".css", ".html", ".md", ".go", ".java")


def _is_plain(manager: Manager, source: str) -> bool:
    """Tell by its name whether a source is code that no install reads; schemas, patches and scripts may be read."""
    name = source.strip("./").rpartition("/")[2]
    is_code = name.endswith(_ENDINGS) and name != "setup.py"
    return manager.name != "Composer" and "/" not in source.strip("./") and (name in _SOURCES or is_code)


RECOMMENDATION = CopyBelowInstall()
