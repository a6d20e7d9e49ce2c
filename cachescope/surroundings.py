"""What a sender knows about one build besides its log: Dockerfiles, the files of the commit, the command line.

Two of these make the evidence of a comparison. The list of files carries a hash for each, so that what changed between
any two builds is known without a history of commits: CI checks out a single commit.
"""

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from cachescope.errors import InvalidValueError
from cachescope.evidence import ChangedFile, Evidence
from cachescope.redaction import redact_text

MAX_TEXT = 1 << 20
"""A Dockerfile, a bake file or a `.dockerignore` may have so many characters."""
MAX_DOCKERFILES = 50
MAX_DOCKERFILE_LINES = 4_000
"""The longest Dockerfiles of the world have a quarter of that; each line costs more the longer the file is."""
MAX_FILES = 50_000
MAX_PATH = 1_000
MAX_WORDS = 2_000
MAX_MANIFESTS = 200
MAX_MANIFEST = 1 << 18

_redact = lru_cache(maxsize=64)(redact_text)
"""Builds of one repository come with the same texts again and again."""

_NAMES = frozenset(
    (
        "dockerfile",
        "dockerfiles",
        "dockerfile_path",
        "dockerignore",
        "bake",
        "command",
        "context",
        "changed_files",
        "changed_since",
        "files",
        "texts",
    )
)


@dataclass(frozen=True, slots=True)
class FileMark:
    """One file of a commit: a hash of its content, and its size in bytes."""

    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What is known about one build besides its log; None and missing keys mean "not at hand", never "empty"."""

    dockerfiles: Mapping[str, str] = field(default_factory=dict)
    """By target (bake, compose); "" for the one that goes for all."""
    dockerfile_path: str = ""
    """Relative to the root of the build context."""
    dockerignore: str | None = None
    """Empty where there is no such file."""
    bake: str | None = None
    command: tuple[str, ...] | None = None
    context: str = ""
    """The folder of the build context, relative to the root of the repository."""
    changed_files: tuple[ChangedFile, ...] | None = None
    changed_since: str | None = None
    """The commit that `changed_files` were compared with."""
    files: Mapping[str, FileMark] | None = None
    """The files of the commit, relative to the root of the repository."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Small files that package managers read, relative to the root of the repository."""

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing is known at all."""
        return self == Surroundings()


def evidence_between(before: Surroundings | None, after: Surroundings | None, before_commit: str | None) -> Evidence:
    """Put together what is known about a build and its baseline, which was built from `before_commit`."""
    earlier, later = before or Surroundings(), after or Surroundings()
    changes = changes_between(earlier.files, later.files)
    if changes is None and later.changed_since and _is_same_commit(later.changed_since, before_commit):
        changes = later.changed_files
    return Evidence(
        dockerfiles_before=earlier.dockerfiles,
        dockerfiles_after=later.dockerfiles,
        changed_files=changes,
        dockerignore_before=earlier.dockerignore,
        dockerignore_after=later.dockerignore,
        contexts={"": later.context} if later.context else {},
        command_before=earlier.command,
        command_after=later.command,
        bake=later.bake,
    )


def changes_between(
    before: Mapping[str, FileMark] | None, after: Mapping[str, FileMark] | None
) -> tuple[ChangedFile, ...] | None:
    """Return what differs between two lists of files; None where one of them is not at hand."""
    if before is None or after is None:
        return None
    found = [ChangedFile(path, "D") for path in before.keys() - after.keys()]
    found += [ChangedFile(path, "A") for path in after.keys() - before.keys()]
    found += [ChangedFile(path) for path in before.keys() & after.keys() if before[path].digest != after[path].digest]
    return tuple(sorted(found, key=lambda change: change.path))


def in_context(paths: Iterable[str], context: str) -> dict[str, str]:
    """Return the paths that lie in a folder of the repository, each with its path relative to it."""
    folder = posixpath.normpath(context) if context else "."
    if folder == ".":
        return {path: path for path in paths}
    return {path: path[len(folder) + 1 :] for path in paths if path.startswith(f"{folder}/")}


def _is_same_commit(one: str, other: str | None) -> bool:
    return bool(other) and other is not None and (one.startswith(other) or other.startswith(one))


def write_surroundings(found: Surroundings) -> dict[str, Any]:
    """Return the JSON document that says all this; `read_surroundings` reads it."""
    document: dict[str, Any] = {}
    if found.dockerfiles:
        document["dockerfiles"] = dict(found.dockerfiles)
    for name in ("dockerfile_path", "context", "changed_since"):
        if value := getattr(found, name):
            document[name] = value
    for name in ("dockerignore", "bake"):
        if (value := getattr(found, name)) is not None:
            document[name] = value
    if found.command is not None:
        document["command"] = list(found.command)
    if found.changed_files is not None:
        document["changed_files"] = [[change.status, change.path] for change in found.changed_files]
    if found.files is not None:
        document["files"] = {path: [mark.digest, mark.size_bytes] for path, mark in found.files.items()}
    if found.texts:
        document["texts"] = dict(found.texts)
    return document


def read_surroundings(document: object) -> Surroundings:
    """Read what a sender says, check its sizes and take secrets out of its texts.

    Raises InvalidValueError that names the first thing which cannot be taken.
    """
    if not isinstance(document, dict):
        raise _refused("must be a JSON object")
    if unknown := sorted(str(name)[:40] for name in document.keys() - _NAMES):
        raise _refused(f'has no field "{unknown[0]}". Known fields: {", ".join(sorted(_NAMES))}')
    dockerfiles = _texts(document, "dockerfiles", MAX_DOCKERFILES, MAX_TEXT)
    if (single := _text(document, "dockerfile", MAX_TEXT)) is not None:
        dockerfiles = {"": single} | dockerfiles
    if long := [text.count("\n") for text in dockerfiles.values() if text.count("\n") > MAX_DOCKERFILE_LINES]:
        raise _refused(f"has a Dockerfile of {long[0]} lines; at most {MAX_DOCKERFILE_LINES} are taken")
    command = document.get("command")
    return Surroundings(
        dockerfiles=dockerfiles,
        dockerfile_path=_path(document, "dockerfile_path"),
        dockerignore=_text(document, "dockerignore", MAX_TEXT),
        bake=_text(document, "bake", MAX_TEXT),
        command=None if command is None else _words(command),
        context=_path(document, "context"),
        changed_files=_changes(document.get("changed_files")),
        changed_since=_text(document, "changed_since", 64) or None,
        files=_files(document.get("files")),
        texts=_texts(document, "texts", MAX_MANIFESTS, MAX_MANIFEST),
    )


def _refused(problem: str) -> InvalidValueError:
    return InvalidValueError("evidence", f"The evidence {problem}.")


def _text(document: Mapping[str, object], name: str, longest: int) -> str | None:
    value = document.get(name)
    if value is None:
        return None
    return _checked_text(name, value, longest)


def _checked_text(name: str, value: object, longest: int) -> str:
    if not isinstance(value, str):
        raise _refused(f"must have a text as {name}")
    if len(value) > longest:
        raise _refused(f"has {len(value)} characters as {name}; at most {longest} are taken")
    return _redact(value)


def _path(document: Mapping[str, object], name: str) -> str:
    """Return a path inside a folder, "" for the folder itself."""
    path = posixpath.normpath(_text(document, name, MAX_PATH) or ".")
    if path.startswith(("/", "../")) or path == "..":
        raise _refused(f'has "{path[:80]}" as {name}: it must lie in the repository')
    return "" if path == "." else path


def _texts(document: Mapping[str, object], name: str, most: int, longest: int) -> dict[str, str]:
    values = document.get(name) or {}
    if not isinstance(values, dict) or len(values) > most:
        raise _refused(f"must have an object of at most {most} texts as {name}")
    return {key[:MAX_PATH]: _checked_text(name, value, longest) for key, value in values.items()}


def _words(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_WORDS or not all(isinstance(word, str) for word in value):
        raise _refused(f"must have a list of at most {MAX_WORDS} words as command")
    return tuple(_checked_text("command", word, MAX_TEXT) for word in value)


def _changes(value: object) -> tuple[ChangedFile, ...] | None:
    if value is None:
        return None
    if isinstance(value, list) and len(value) <= MAX_FILES:
        pairs = [pair for pair in value if isinstance(pair, list) and len(pair) == 2]
        found = [ChangedFile(path[:MAX_PATH], status[:1]) for status, path in pairs if _are_texts(status, path)]
        if len(found) == len(value):
            return tuple(found)
    raise _refused(f'must have at most {MAX_FILES} pairs such as ["M", "src/a.py"] as changed_files')


def _are_texts(status: object, path: object) -> bool:
    return isinstance(status, str) and bool(status) and isinstance(path, str) and bool(path)


def _files(value: object) -> dict[str, FileMark] | None:
    if value is None:
        return None
    if isinstance(value, dict) and len(value) <= MAX_FILES:
        found = {
            path[:MAX_PATH]: FileMark(mark[0][:64], min(mark[1], 1 << 60))
            for path, mark in value.items()
            if isinstance(mark, list) and len(mark) == 2 and isinstance(mark[0], str) and _is_size(mark[1])
        }
        if len(found) == len(value):
            return found
    raise _refused(f'must have at most {MAX_FILES} files such as {{"src/a.py": ["<hash>", <bytes>]}} as files')


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
