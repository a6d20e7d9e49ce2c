"""Keep files that no build needs out of the build context.

A COPY of the whole context misses when any file changes, the README and the CI configuration too. An entry in
`.dockerignore` keeps them out.

Fires when builds in the history broke at a COPY although nothing but such files had changed: documentation, CI and
editor configuration, the Dockerfile itself, compose files. It needs the changed files of the commits and the files of
the repository (`--repository`). A file that is named in the Dockerfile or in a file that package managers read is never
proposed, and neither is `.git`, from which builds read their version, a `docs` folder with code in it, a README where
Rust may include it, or anything where the Dockerfile has an ignore file of its own. The image loses these files, so a
build must check it.
"""

from collections.abc import Iterable, Mapping

from cachescope.context import context_sources, matches_below
from cachescope.history import History
from cachescope.recommendations.base import Recommendation, is_worthwhile, join_words, make_patch
from cachescope.replaying import replay

_CANDIDATES = (
    ".github",
    ".gitlab-ci.yml",
    ".gitlab",
    ".circleci",
    ".buildkite",
    ".travis.yml",
    "azure-pipelines.yml",
    "Jenkinsfile",
    ".vscode",
    ".idea",
    ".editorconfig",
    ".gitignore",
    ".gitattributes",
    ".pre-commit-config.yaml",
    "Dockerfile",
    ".dockerignore",
    "docker-compose.yml",
    "docker-compose.yaml",
    "compose.yml",
    "compose.yaml",
    "docs",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CODE_OF_CONDUCT.md",
)


class IgnoredFiles:
    """Looks for builds that only such files broke."""

    def advise(self, history: History) -> Iterable[Recommendation]:
        """Look through a history."""
        if history.files is None or f"{history.dockerfile_path}.dockerignore" in history.files:
            return  # an ignore file of its own beside the Dockerfile is read instead
        if not any(history.is_broad(i) for i in history.layer_instructions):
            return
        entries = [entry for entry in _CANDIDATES if _changed(history, entry) and not _is_needed(history, entry)]
        if not entries:
            return
        # An empty text also stands for a file that is not there, and then the patch must make it.
        old = history.dockerignore if history.dockerignore or ".dockerignore" in history.files else None
        new = (old.rstrip("\n") + "\n" if old else "") + "".join(f"{entry}\n" for entry in entries)
        prediction = replay(history, history.dockerfile, dockerignore=new)
        if not is_worthwhile(history, prediction.saving_seconds_per_build):
            return
        builds = sum(saving > 0 for saving in prediction.savings)
        yield Recommendation(
            title=f"Keep {join_words(entries)} out of the build context",
            why="A COPY of the whole context runs again when one of these files changes, and no build reads them.",
            evidence=(f"{builds} of {len(history.later_builds)} builds ran steps again because of these files only.",),
            patch=make_patch(".dockerignore", old, new),
            order_safe=False,
            saving_seconds_per_build=prediction.saving_seconds_per_build,
            interval=prediction.interval,
        )


def _changed(history: History, entry: str) -> bool:
    files = [f.path for past in history.builds[1:] for f in past.changed_files or ()]
    return any(matches_below(entry, path) and not history.ignore_rules.is_ignored(path) for path in files)


def _is_needed(history: History, entry: str) -> bool:
    """Tell whether something in the repository names it or may read it unnamed."""
    if _is_read_by_tools(history.files or {}, entry):
        return True
    named = [source for i in history.layer_instructions for source in context_sources(i)]
    if any(source.strip("./").startswith(entry.strip("./")) for source in named if source.strip("./")):
        return True
    runs = [i.text + "".join(h.body for h in i.heredocs) for i in history.layer_instructions if i.keyword == "RUN"]
    return any(entry in text for text in (*runs, *history.texts.values()))


_WRITTEN = (
    ".md",
    ".rst",
    ".txt",
    ".adoc",
    ".png",
    ".jpg",
    ".jpeg",
    ".gif",
    ".svg",
    ".webp",
    ".pdf",
    ".drawio",
    ".puml",
)


def _is_read_by_tools(files: Mapping[str, int], entry: str) -> bool:
    """Tell whether compilers or bundlers may read it: code in `docs`, texts that Rust includes, ignored paths."""
    if entry == "docs":
        return any(path.startswith("docs/") and not path.lower().endswith(_WRITTEN) for path in files)
    if entry.endswith(".md"):
        return "Cargo.toml" in files
    return entry == ".gitignore" and ("package.json" in files or "pyproject.toml" in files)


RECOMMENDATION = IgnoredFiles()
