"""Install system packages above the files of the repository.

Packages of the distribution do not depend on your files. Below a COPY they are installed again whenever a file changes:

    RUN apt-get update && apt-get install -y jq
    COPY . .
    RUN make

Fires when a RUN below a COPY from the build context only installs system packages (apt-get, apk, dnf, yum), or begins
with that, and was seen to run again because of the files. A RUN that goes on with other commands is split: the install
moves up, the rest stays. It stays silent where the files are copied to where package managers read (`/etc`,
`/usr`, the root), where packages come from the context, and where USER, ENV or ARG stand in between; so the same image
is built.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cachescope.context import context_sources
from cachescope.dockerfile import LAYER_KEYWORDS, Dockerfile, Instruction
from cachescope.history import History
from cachescope.matching import normalize
from cachescope.recommendations.base import Recommendation, edit_lines, is_worthwhile, make_patch
from cachescope.replaying import replay

INSTALL_SHARE = 0.8
"""How much of a RUN that installs first and then does more is taken for the install."""

_PROGRAMS = frozenset(("apt-get", "apt", "apk", "dnf", "yum", "microdnf"))
_PREPARES = frozenset(("update", "makecache"))
_INSTALLS = frozenset(("install", "add"))
_CLEANS = frozenset(("clean", "autoclean", "autoremove"))
_WORD = re.compile(r"[A-Za-z0-9-][\w.:=/+~-]{0,100}")
_QUOTED = re.compile(r"[\"'\\]")
_REMOVES = re.compile(r"\b(?:purge|remove|del|erase)\b")
_STEERING = re.compile(r"[;|(){}`]")
_CACHES = ("/var/lib/apt/lists", "/var/cache/apt", "/var/cache/apk", "/var/cache/dnf", "/var/cache/yum")
_SYSTEM = ("/etc/", "/usr/", "/var/", "/lib/", "/bin/", "/sbin/")


@dataclass(frozen=True, slots=True)
class _Found:
    copy: Instruction
    run: Instruction
    packages: list[str]
    """The commands that install."""
    rest: list[str]


class SystemPackagesFirst:
    """Looks at every RUN below a COPY of the context."""

    def advise(self, history: History) -> Iterable[Recommendation]:
        """Look through a history."""
        for stage in history.dockerfile.stages:
            lines = [i for i in stage.instructions if i.keyword in LAYER_KEYWORDS]
            for place, run in enumerate(lines):
                copies = _block_above(lines[:place])
                packages, rest = _split(run) if copies else ([], [])
                if packages and (found := _advise(history, _Found(copies[0], run, packages, rest))) is not None:
                    yield found


def _block_above(lines: Sequence[Instruction]) -> list[Instruction]:
    """List the copies right above a RUN, top first; nothing where one takes from elsewhere."""
    found: list[Instruction] = []
    for line in reversed(lines):
        if line.keyword != "COPY" or not context_sources(line):
            break
        found.insert(0, line)
    return found


def _split(run: Instruction) -> tuple[list[str], list[str]]:
    """Split a RUN into what installs system packages, cleaning up included, and the rest."""
    if run.keyword != "RUN" or run.heredocs or any(key != "mount" for key, _ in run.flags):
        return [], []
    if any("type=cache" not in value for value in run.flag_values("mount")):
        return [], []
    commands = [" ".join(part.split()) for part in run.arguments.split("&&")]
    kinds = [_kind(command) for command in commands]
    taken = next((n for n, kind in enumerate(kinds) if kind is None), len(commands))
    rest = commands[taken:]
    if "install" not in kinds[:taken] or _QUOTED.search(" ".join(rest)) or _REMOVES.search(" ".join(rest)):
        # Within quotes white space counts, and it was collapsed. What is removed must not stay in a layer.
        return [], []
    packages = commands[:taken]
    # Cleaning at the end of the line belongs to the install, so that its layer stays small.
    while rest and _kind(rest[-1]) == "clean" and not _STEERING.search(" ".join(rest)):
        packages.append(rest.pop())
    return packages, rest


def _kind(command: str) -> str | None:
    """Say what a command does to system packages: prepare, install or clean; None for everything else."""
    words = command.split()
    if words and words[0].startswith("DEBIAN_FRONTEND="):
        words = words[1:]
    if words[:1] == ["rm"] and len(words) > 1:
        paths = [word for word in words[1:] if not word.startswith("-")]
        return "clean" if paths and all(path.startswith(_CACHES) and ".." not in path for path in paths) else None
    if not words or words[0] not in _PROGRAMS or not all(_WORD.fullmatch(word) for word in words):
        return None
    verb = next((word for word in words[1:] if word in _PREPARES | _INSTALLS | _CLEANS), None)
    if verb in _INSTALLS:
        # A package that is a file may come from the context.
        is_local = any("/" in word and not word.startswith("-") for word in words[words.index(verb) :])
        return None if is_local else "install"
    return "prepare" if verb in _PREPARES else "clean" if verb in _CLEANS else None


def _advise(history: History, found: _Found) -> Recommendation | None:
    run, packages, rest = found.run, found.packages, found.rest
    again = [o for o in history.observations(run) if o.missed and o.build > 0 and not history.is_reset(o.build)]
    cost = history.cost(run)
    if not again or cost is None or _is_in_the_way(history, found):
        return None
    old = history.dockerfile.text.split("\n")
    mounts = "".join(f"--{name}={value} " for name, value in run.flags)
    install = f"RUN {mounts}{' && '.join(packages)}"
    # A RUN that only installs keeps its lines as they are written.
    above = [install] if rest else old[run.first_line - 1 : run.last_line]
    below = [f"RUN {mounts}{' && '.join(rest)}"] if rest else []
    edited = edit_lines(
        history, [(run.first_line, run.last_line, below), (found.copy.first_line, found.copy.first_line - 1, above)]
    )
    share = INSTALL_SHARE if rest else 1.0
    costs = {normalize(install): cost * share}
    if rest:
        costs[normalize(below[0])] = cost * (1 - share)
    prediction = replay(history, Dockerfile(edited), costs=costs)
    saving = prediction.saving_seconds_per_build
    if not is_worthwhile(history, saving):
        return None
    low, high = prediction.interval
    if rest:
        low, high = min(low, 0.2 * saving), max(high, saving / INSTALL_SHARE)
    return Recommendation(
        title=f"Install system packages above line {found.copy.first_line}",
        why=f"`{found.copy.text}` changes with your files, and the packages below it are installed again each time.",
        evidence=(
            f"`{run.text[:80]}` ran again in {len(again)} of {len(history.later_builds)} builds, {cost:.1f} s each.",
        ),
        patch=make_patch(history.dockerfile_path, history.dockerfile.text, edited),
        order_safe=True,
        saving_seconds_per_build=saving,
        interval=(low, high),
    )


def _is_in_the_way(history: History, found: _Found) -> bool:
    """Tell whether what stands between may matter to a package manager: configuration, another user, variables."""
    stage = history.dockerfile.stages[found.run.stage or 0]
    between = [i for i in stage.instructions if found.copy.position <= i.position < found.run.position]
    if any(i.keyword not in ("COPY", "LABEL", "EXPOSE", "CMD", "ENTRYPOINT") for i in between):
        return True
    folders = [i.arguments for i in stage.instructions if i.keyword == "WORKDIR" and i.position < found.copy.position]
    for line in between:
        if line.keyword == "COPY":
            target = line.words[-1] if line.words[-1].startswith("/") else f"{''.join(folders[-1:])}/{line.words[-1]}"
            path = "/" + target.strip("./") + "/"
            if "$" in path or path == "//" or path.startswith(_SYSTEM):
                return True
    return False


RECOMMENDATION = SystemPackagesFirst()
