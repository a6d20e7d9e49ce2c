"""Give the package manager a cache that survives a miss.

When an install must run again, it downloads everything anew, although most packages are the same. A cache mount keeps
the downloads on the builder and out of the image:

    RUN --mount=type=cache,target=/root/.npm npm ci

Fires for npm, Yarn 1 and pip on BuildKit, whose install ran again at least twice in the history, as root: on an
official image or below `USER root`, for other images may choose another user and another home. Silent where a variable
moves the cache or the home. It helps only where builders live longer than one build: on runners that begin empty each
time a mount is empty too, so the advice stays silent when builders in the history began empty. The order of lines does
not change; the saving depends on the network and is a wide guess.
"""

from collections.abc import Iterable

from cachescope.dockerfile import Instruction
from cachescope.history import History
from cachescope.recommendations._packages import MANAGERS, Manager, split_commands
from cachescope.recommendations.base import Recommendation, edit_lines, is_worthwhile, make_patch

_SHARE = (0.05, 0.3, 0.7)
"""Which share of an install a warm download cache saves: least, usual, most."""


class MissingCacheMount:
    """Looks at every install without a cache mount."""

    def advise(self, history: History) -> Iterable[Recommendation]:
        """Look through a history."""
        is_buildkit = all(past.build.builder == "buildkit" for past in history.builds)
        if not is_buildkit or _begins_empty(history) or not history.later_builds:
            return
        for line in history.layer_instructions:
            manager = _manager_without_mount(history, line)
            if manager is None:
                continue
            again = [o for o in history.observations(line) if o.missed and o.build > 0]
            cost = history.cost(line)
            if cost is None or len(again) < 2:
                continue
            per_build = cost * len(again) / len(history.later_builds)
            low, usual, high = (share * per_build for share in _SHARE)
            if not is_worthwhile(history, usual):
                continue
            yield Recommendation(
                title=f"Keep the downloads of {manager.name} in a cache mount",
                why="The install downloads everything again whenever it runs; a cache mount keeps the downloads.",
                evidence=(_sentence(history, line, len(again), cost),),
                patch=make_patch(
                    history.dockerfile_path,
                    history.dockerfile.text,
                    edit_lines(history, [_edit(history, line, manager)]),
                ),
                order_safe=True,
                saving_seconds_per_build=usual,
                interval=(low, high),
            )


def _sentence(history: History, line: Instruction, again: int, cost: float) -> str:
    builds = len(history.later_builds)
    return f"`{line.text[:80]}` ran {again} times in {builds} builds and takes {cost:.1f} s."


def _begins_empty(history: History) -> bool:
    """Whether builders in this history began with nothing."""
    causes = [b.cause for build in history.later_builds for b in history.comparisons[build].breaks]
    return any(cause in ("cache_lost", "cache_not_imported") for cause in causes)


def _manager_without_mount(history: History, line: Instruction) -> Manager | None:
    if line.keyword != "RUN" or line.heredocs or any("type=cache" in value for value in line.flag_values("mount")):
        return None
    scope = history.dockerfile.scope_at(line)
    if scope.user not in ("", "root", "0", "0:0", "root:root") or _MOVERS & {*scope.environment, *scope.declared}:
        return None
    if not scope.user and not _is_official(history, line):
        return None
    for manager in MANAGERS:
        uses = manager.uses or manager.install
        if manager.cache and any(uses.match(command) for command in split_commands(line.arguments)):
            # An install that throws its cache away, or keeps it elsewhere, has its reasons.
            keeps = (
                "--no-cache-dir" not in line.text
                and "cache clean" not in line.text
                and "PIP_NO_CACHE_DIR" not in str(scope.environment)
            )
            if manager.name == "Yarn" and _is_modern_yarn(history, line):
                return None
            return manager if keeps and "cache" not in line.text.lower() else None
    return None


_MOVERS = frozenset(
    ("HOME", "XDG_CACHE_HOME", "PIP_CACHE_DIR", "npm_config_cache", "NPM_CONFIG_CACHE", "YARN_CACHE_FOLDER")
)
"""Variables that put the cache elsewhere."""


def _is_official(history: History, line: Instruction) -> bool:
    """Tell whether a stage stands on an official image, which runs as root; of others nobody knows the user."""
    stage = history.dockerfile.stages[line.stage or 0]
    while (base := history.dockerfile.base_stage(stage)) is not None:
        if any(i.keyword == "USER" for i in base.instructions):
            return False
        stage = base
    reference = history.dockerfile.base_reference(stage).removeprefix("docker.io/").removeprefix("library/")
    return "/" not in reference and "$" not in reference


def _is_modern_yarn(history: History, line: Instruction) -> bool:
    """Tell whether Yarn may be newer than 1, which keeps its cache elsewhere."""
    texts = [i.text for i in history.dockerfile.instructions]
    files = history.files or {}
    is_told = "--immutable" in line.text or any("corepack" in text for text in texts)
    return is_told or any(name == ".yarnrc.yml" or name.startswith(".yarn/") for name in files)


def _edit(history: History, line: Instruction, manager: Manager) -> tuple[int, int, list[str]]:
    mounts = " ".join(f"--mount=type=cache,target={folder}" for folder in manager.cache)
    first = history.dockerfile.text.split("\n")[line.first_line - 1]
    keyword = first.split(None, 1)[0]
    indent = first[: len(first) - len(first.lstrip())]
    return (line.first_line, line.first_line, [f"{indent}{keyword} {mounts} {first.lstrip()[len(keyword) :].lstrip()}"])


RECOMMENDATION = MissingCacheMount()
