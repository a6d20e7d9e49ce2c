"""Copy only what a stage builds, not the whole repository.

In a repository of several programs a `COPY . .` misses whenever any of them changes. Named folders miss with their own
files only:

    COPY api/ api/
    COPY package.json ./

Fires when a COPY takes the whole context and builds in the history broke at it although only folders had changed that
this Dockerfile plainly does not build: another program with a Dockerfile of its own, tests, deployment files, examples.
A folder that the Dockerfile or a file of a package manager names is never left out, none at all where a build file
whose text is not known may name it (Maven, Gradle, CMake, .NET solutions, Bazel), and neither is anything where the
build may ask git for its version; nothing is proposed for more than a dozen entries. It needs the changed files of the
commits and the files of the repository (`--repository`). The image loses these folders, so a build must check it.
"""

import re
from collections.abc import Iterable, Sequence

from cachescope.context import context_sources, read_ignore_rules, reads
from cachescope.dockerfile import Dockerfile, Instruction
from cachescope.history import History
from cachescope.recommendations.base import Recommendation, edit_lines, is_worthwhile, join_words, make_patch
from cachescope.replaying import replay

MAX_ENTRIES = 12

_SPARE = frozenset(
    (
        *("test", "tests", "spec", "specs", "e2e", "__tests__", "testdata", "benchmarks", "bench"),
        *("examples", "example", "samples", "demo", "demos", "notebooks", "wiki"),
        *("deploy", "deployment", "deployments", "k8s", "kubernetes", "helm", "charts", "manifests"),
        *("terraform", "infra", "infrastructure", "ansible", "pulumi", "ops"),
    )
)
"""Folders by whose names nobody keeps what a program reads when it runs."""

_UNREAD = ("Dockerfile", "Containerfile", ".dockerignore", ".gitignore", ".gitattributes")
_GIT = re.compile(r"\bgit\b|scm|versioneer|vcs")
_TESTS = re.compile(r"\b(?:test|tests|pytest|jest|rspec|spec|check|tox|nox|bench)\b")

_NAMES_FOLDERS = re.compile(
    r"(?:^|/)(?:CMakeLists\.txt|pom\.xml|(?:settings|build)\.gradle(?:\.kts)?|meson\.build|mix\.exs|Cargo\.toml|go\.work"
    r"|(?:WORKSPACE|BUILD|MODULE)(?:\.bazel)?|lerna\.json|nx\.json|angular\.json|pnpm-workspace\.yaml|[^/]+\.slnx?)$"
)
"""Files that may name any folder as part of the build; where their text is not known, each folder may be needed."""
_PATTERN = re.compile(r"[\s*?\[\]$\\\"'#<]")


class NarrowCopy:
    """Looks at every COPY of the whole context and the folders that it need not take."""

    def advise(self, history: History) -> Iterable[Recommendation]:
        """Look through a history."""
        files = history.context_files
        if files is None or not any(past.changed_files for past in history.builds):
            return
        for copy in history.layer_instructions:
            is_whole = copy.keyword == "COPY" and history.is_broad(copy) and len(context_sources(copy)) == 1
            if is_whole and not copy.flag_values("exclude") and not copy.arguments.startswith("["):
                found = _advise(history, copy, files)
                if found is not None:
                    yield found


def _advise(history: History, copy: Instruction, files: Iterable[str]) -> Recommendation | None:
    paths = sorted(files)
    folders = sorted({path.split("/", 1)[0] for path in paths if "/" in path})
    spare = [folder for folder in folders if _is_spare(history, folder, paths)]
    blamed = [folder for folder in spare if _broke_alone(history, copy, spare, folder)]
    kept = [folder for folder in folders if folder not in blamed]
    single = [path for path in paths if "/" not in path and path not in _UNREAD]
    if (
        not blamed
        or not kept
        or _may_ask_git(history)
        or any(_NAMES_FOLDERS.search(path) and path not in history.texts for path in paths)
        or len(kept) + len(single) > MAX_ENTRIES
        or any(_PATTERN.search(name) for name in kept + single)
    ):
        return None
    edited = edit_lines(history, [(copy.first_line, copy.last_line, _lines(copy, kept, single))])
    prediction = replay(history, Dockerfile(edited))
    if not is_worthwhile(history, prediction.saving_seconds_per_build):
        return None
    builds = sum(saving > 0 for saving in prediction.savings)
    return Recommendation(
        title=f"Copy without {join_words(blamed)}",
        why=f"`{copy.text}` in line {copy.first_line} runs again when files change that this image does not build.",
        evidence=(f"{builds} of {len(history.later_builds)} builds ran steps again because of these folders only.",),
        patch=make_patch(history.dockerfile_path, history.dockerfile.text, edited),
        order_safe=False,
        saving_seconds_per_build=prediction.saving_seconds_per_build,
        interval=prediction.interval,
    )


def _is_spare(history: History, folder: str, paths: Sequence[str]) -> bool:
    """Tell whether a folder is plainly no part of what the Dockerfile builds."""
    texts = [i.text + "".join(h.body for h in i.heredocs) for i in history.dockerfile.instructions]
    word = re.compile(rf"(?<![\w-]){re.escape(folder)}(?![\w-])")
    if any(word.search(text) for text in (*texts, *history.texts.values())):
        return False
    is_another_program = any(path.startswith(f"{folder}/") and _is_dockerfile(path) for path in paths)
    if is_another_program and f"{folder}/" not in history.dockerfile_path:
        return True
    runs_tests = any(_TESTS.search(text) for text in texts)
    return folder.lower() in _SPARE and not runs_tests


def _may_ask_git(history: History) -> bool:
    """Tell whether `.git`, which no list of files holds, could be read by the build."""
    texts = [i.text for i in history.dockerfile.instructions]
    return not history.ignore_rules.is_ignored(".git") and any(
        _GIT.search(t) for t in (*texts, *history.texts.values())
    )


def _is_dockerfile(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name in ("Dockerfile", "Containerfile") or name.endswith(".Dockerfile")


def _broke_alone(history: History, copy: Instruction, spare: Sequence[str], folder: str) -> bool:
    """Tell whether a folder changed in a build in which nothing but such folders did."""
    rules = read_ignore_rules(history.dockerignore or "")
    for past in history.builds[1:]:
        read = [f.path for f in past.changed_files or () if reads(copy, f.path) and not rules.is_ignored(f.path)]
        tops = {path.split("/", 1)[0] for path in read if "/" in path}
        if folder in tops and tops <= {*spare} and all("/" in path for path in read):
            return True
    return False


def _lines(copy: Instruction, folders: Sequence[str], single: Sequence[str]) -> list[str]:
    flags = "".join(f" --{name}={value}" if value else f" --{name}" for name, value in copy.flags)
    target = copy.words[-1]
    place = target if target.endswith("/") else f"{target}/"
    found = [f"COPY{flags} {' '.join(single)} {place}"] if single else []
    return found + [f"COPY{flags} {folder}/ {place}{folder}/" for folder in folders]


RECOMMENDATION = NarrowCopy()
