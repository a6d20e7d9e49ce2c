"""What this machine knows about a build besides its log: Dockerfile, `.dockerignore`, and the files of the commit.

This is what tells *why* a step missed. Names, hashes and sizes of files leave the machine, never their contents; of
the Dockerfile, `.dockerignore`, the bake file and the manifests of package managers the text does, without secrets.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from cachescope.cli.here import run_git
from cachescope.context import read_ignore_rules
from cachescope.invocation import Invocation, read_bake_file, read_invocation
from cachescope.redaction import redact_text
from cachescope.surroundings import (
    MAX_DOCKERFILE_LINES,
    MAX_FILES,
    MAX_MANIFEST,
    MAX_MANIFESTS,
    MAX_TEXT,
    FileMark,
    Surroundings,
)

MANIFESTS = frozenset(
    (
        "package.json",
        "composer.json",
        "pyproject.toml",
        "setup.py",
        "setup.cfg",
        "Gemfile",
        "Gemfile.lock",
        "go.mod",
        "Cargo.toml",
        "Makefile",
        "MANIFEST.in",
    )
)
BAKE_FILES = ("docker-bake.hcl", "docker-bake.json", "docker-bake.override.hcl")
_BUILDS = frozenset(("build", "bake", "bud"))
MAX_HASHED_FILES = 500
MAX_HASHED_BYTES = 8 << 20
"""Files that git does not know are read to hash them: so many, each of at most so many bytes."""
_DIGEST = 16
"""Characters of a file's hash that are sent: enough to see a change."""

Git = Callable[..., str | None]


def gather(words: Sequence[str], folder: Path, git: Git = run_git) -> Surroundings:
    """Look around for what a command line builds from; what cannot be found is left out.

    Empty for a command that is no build itself, such as a script that calls one.
    """
    if not _BUILDS.intersection(words):
        return Surroundings()
    command = tuple(redact_text(word) for word in words)
    invocation = read_invocation(words)
    if invocation.is_bake:
        return _gather_bake(words, folder, git, command)
    context = _context_folder(invocation, folder)
    if context is None:
        return Surroundings(command=command)
    return gather_context(context, _find_dockerfile(invocation, folder, context), git, command)


def gather_context(
    context: Path, dockerfile: Path, git: Git = run_git, command: tuple[str, ...] | None = None
) -> Surroundings:
    """Look through a build context and its Dockerfile."""
    text = _read(dockerfile)
    if text is None or text.count("\n") > MAX_DOCKERFILE_LINES:
        return Surroundings(command=command)
    root = _root(context, git)
    dockerignore = _read_ignore(dockerfile, context)
    files = list_files(context, root, dockerignore, git) if root is not None else None
    return Surroundings(
        dockerfiles={"": text},
        dockerfile_path=_relative(dockerfile, context) or dockerfile.name,
        dockerignore=dockerignore,
        command=command,
        context=_relative(context, root) if root is not None else "",
        files=files,
        texts=_read_manifests(root, files) if root is not None and files is not None else {},
    )


def _gather_bake(words: Sequence[str], folder: Path, git: Git, command: tuple[str, ...]) -> Surroundings:
    names = [*_values(words, ("-f", "--file")), *BAKE_FILES]
    path, text = next(
        ((folder / name, text) for name in names if (text := _read(folder / name)) is not None), (None, None)
    )
    if path is None or text is None:
        return Surroundings(command=command)
    dockerfiles: dict[str, str] = {}
    contexts: set[Path] = set()
    for name, target in read_bake_file(text).items():
        if (target.context or ".").startswith(("http:", "https:", "git@", "$")) or "$" in (target.dockerfile or ""):
            continue
        context = folder / (target.context or ".")
        found = _read(context / (target.dockerfile or "Dockerfile"))
        if found is not None and found.count("\n") <= MAX_DOCKERFILE_LINES:
            dockerfiles[name] = found
            contexts.add(context.resolve())
    single = next(iter(contexts)) if len(contexts) == 1 else None
    root = _root(folder, git)
    return Surroundings(
        dockerfiles=dockerfiles,
        dockerignore=_read(single / ".dockerignore") or "" if single is not None else None,
        bake=text,
        command=command,
        context=_relative(single, root) if single is not None and root is not None else "",
        files=list_files(root, root, None, git) if root is not None else None,
    )


def _values(words: Sequence[str], names: tuple[str, ...]) -> Iterator[str]:
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if name in names:
            yield value if equals else following


def _context_folder(invocation: Invocation, folder: Path) -> Path | None:
    """The folder that is sent to the builder; None for an address, for standard input and where none is named."""
    named = invocation.context
    if not named or named == "-" or "://" in named or named.startswith("git@"):
        return None
    context = folder / named
    return context if context.is_dir() else None


def _find_dockerfile(invocation: Invocation, folder: Path, context: Path) -> Path:
    if invocation.dockerfile:
        # docker takes the path as it stands, buildah also looks in the context.
        given = folder / invocation.dockerfile
        return given if given.is_file() else context / invocation.dockerfile
    places = (context / "Dockerfile", context / "Containerfile")
    return next((place for place in places if place.is_file()), places[0])


def _read_ignore(dockerfile: Path, context: Path) -> str:
    own = _read(dockerfile.with_name(f"{dockerfile.name}.dockerignore"))
    return own if own is not None else _read(context / ".dockerignore") or ""


def _read(path: Path) -> str | None:
    with suppress(OSError):
        with path.open("rb") as file:
            content = file.read(MAX_TEXT + 1)
        if len(content) <= MAX_TEXT:
            return redact_text(content.decode("utf-8", "replace"))
    return None


def _root(folder: Path, git: Git) -> Path | None:
    printed = git("-C", str(folder), "rev-parse", "--show-toplevel")
    return Path(printed) if printed else None


def _relative(path: Path, base: Path) -> str:
    """A path below a folder with slashes, "" for the folder itself and for what lies elsewhere."""
    with suppress(ValueError):
        found = path.resolve().relative_to(base.resolve()).as_posix()
        return "" if found == "." else found
    return ""


def list_files(context: Path, root: Path, dockerignore: str | None, git: Git = run_git) -> dict[str, FileMark] | None:
    """List the files below a folder as the builder sees them; None where git cannot tell, or there are too many.

    That is what was committed, with what lies on the disk in its place: edited files, and files that git does not know
    but that are sent to the builder all the same, since `.dockerignore` does not keep them out.
    """
    place = _relative(context, root)
    only = [place] if place else []
    # With its branch git always prints something: without, a failure would look like a folder as it was committed.
    status = git(
        "-C", str(root), "status", "--porcelain", "-z", "--branch", "--ignored=matching", "--no-renames", "--", *only
    )
    printed = git("-C", str(root), "ls-tree", "-r", "-l", "-z", "HEAD", "--", *only)
    if not status or not printed:
        return None
    found = dict(_parse_tree(printed))
    rules = read_ignore_rules(dockerignore or "")
    left = MAX_HASHED_FILES
    for line in status.split("\0")[1:]:
        path = line[3:].rstrip("/")
        inside = path[len(place) + 1 :] if place else path
        if not path or not (inside and path.startswith(place)) or rules.is_ignored(inside):
            continue
        found.pop(path, None)
        names = [path] if not (root / path).is_dir() else [f"{path}/{name}" for name in _walk(root / path, left)]
        left -= len(names)
        if left < 0:
            return None
        for name in names:
            if (mark := _hash_file(root / name)) is not None:
                found[name] = mark
            elif (root / name).exists():
                return None
    return found if len(found) <= MAX_FILES else None


def _walk(folder: Path, most: int) -> list[str]:
    """The files of a folder, one more than asked for where there are more."""
    found: list[str] = []
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            found.append(path.relative_to(folder).as_posix())
        if len(found) > most:
            break
    return sorted(found)


def _hash_file(path: Path) -> FileMark | None:
    """Hash a file as git would; None for one that is gone, no plain file, or too large."""
    with suppress(OSError):
        if path.is_symlink():
            content, mode = str(path.readlink()).encode(), "120000-"
        else:
            about = path.stat()
            if not path.is_file() or about.st_size > MAX_HASHED_BYTES:
                return None
            content, mode = path.read_bytes(), "100755-" if about.st_mode & 0o100 else ""
        digest = hashlib.sha1(b"blob %d\0%b" % (len(content), content), usedforsecurity=False).hexdigest()
        return FileMark(f"{mode}{digest[:_DIGEST]}", len(content))
    return None


def _parse_tree(printed: str) -> Iterator[tuple[str, FileMark]]:
    for line in printed.split("\0"):
        head, _, path = line.partition("\t")
        words = head.split()
        if len(words) == 4 and path:
            # The mode counts too: a file that became executable is another one to the builder.
            mode = "" if words[0] == "100644" else f"{words[0]}-"
            yield path, FileMark(f"{mode}{words[2][:_DIGEST]}", int(words[3]) if words[3].isdecimal() else 0)


def _read_manifests(root: Path, files: Mapping[str, FileMark]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, mark in files.items():
        base = PurePosixPath(name).name
        is_wanted = base in MANIFESTS or (base.endswith(".txt") and ("require" in base or "constr" in base))
        path = root / name
        if is_wanted and mark.size_bytes <= MAX_MANIFEST // 4 and not path.is_symlink() and len(found) < MAX_MANIFESTS:
            found[name] = _read(path) or ""
    return found
