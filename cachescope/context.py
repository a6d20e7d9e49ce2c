"""Which files of a build context a step reads: COPY and ADD sources, bind mounts, and `.dockerignore`.

Patterns follow Docker's own matcher (https://docs.docker.com/build/concepts/context/#dockerignore-files): `*` and `?`
stay within a folder, `**` crosses folders, `!` brings back, the last matching rule wins, and a rule for a folder goes
for all below it. Patterns are matched in time proportional to pattern times path, whatever they hold.
"""

import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from cachescope.dockerfile import Instruction, mounts

MAX_RULES = 5_000

_SPECIAL = re.compile(r"[*?\[\\]")

_Token = tuple[str, str]
"""What a piece of a pattern is (`char`, `one`, `star`, `any`, `folders`, `set`) and its characters."""


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """A `.dockerignore` file, in order."""

    rules: tuple[tuple[bool, str], ...] = ()
    """Whether the rule brings files back (`!`), and its pattern."""

    def is_ignored(self, path: str) -> bool:
        """Tell whether a path, relative to the context, is kept out of it."""
        ignored = False
        for brings_back, pattern in self.rules:
            if ignored == brings_back and matches_below(pattern, path):
                ignored = not brings_back
        return ignored


def read_ignore_rules(text: str) -> IgnoreRules:
    """Read a `.dockerignore` file; comments and blank lines are left out, paths are cleaned as Docker does."""
    rules = []
    for line in text.removeprefix("\ufeff").splitlines()[:MAX_RULES]:
        if line.startswith("#"):
            continue
        pattern = line.strip()
        brings_back = pattern.startswith("!")
        pattern = pattern[1:].strip() if brings_back else pattern
        if pattern:
            pattern = posixpath.normpath(pattern)
            rules.append((brings_back, pattern.lstrip("/") if len(pattern) > 1 else pattern))
    return IgnoreRules(tuple(rules))


def context_sources(instruction: Instruction) -> list[str]:
    """List the paths of the build context that an instruction reads; files, folders and patterns as written.

    Empty for what reads nothing of the context: `COPY --from`, heredocs, addresses.
    """
    if instruction.keyword == "RUN":
        return [m.get("source", ".") for m in mounts(instruction) if m["type"] == "bind" and not m.get("from")]
    if instruction.keyword not in ("COPY", "ADD") or instruction.flag("from"):
        return []
    return [word.strip("\"'") for word in instruction.words[:-1] if not _is_elsewhere(word)]


def reads(instruction: Instruction, path: str, sources: Sequence[str] | None = None) -> bool:
    """Tell whether an instruction reads a path of the context (`.dockerignore` aside).

    `sources` are its sources with variables put in, where that was done.
    """
    for source in context_sources(instruction) if sources is None else sources:
        if covers(source, path):
            return not any(matches_below(_clean(e), path) for e in instruction.flag_values("exclude") if e)
    return False


def covers(source: str, path: str) -> bool:
    """Tell whether a COPY source is this path, a folder above it, or a pattern for either."""
    source = _clean(source)
    return source == "." or matches_below(source, path)


def matches_below(pattern: str, path: str) -> bool:
    """Tell whether a pattern matches a path or one of the folders above it."""
    if not _SPECIAL.search(pattern):
        return path.startswith(pattern) and path[len(pattern) : len(pattern) + 1] in ("", "/")
    return _simulate(_tokens(pattern), path)


def relative_to(folder: str, path: str) -> str | None:
    """Return a path of the repository as a path of the build context; None when it lies outside."""
    folder = _clean(folder)
    if folder == ".":
        return path
    return path[len(folder) + 1 :] if path.startswith(folder + "/") else None


def _is_elsewhere(word: str) -> bool:
    return word.startswith(("<<", "git@")) or "://" in word


@lru_cache(maxsize=4096)
def _clean(path: str) -> str:
    # A source can never leave the context: leading `/` and `..` are cut off.
    cleaned = posixpath.normpath("/" + path.strip()).lstrip("/")
    return cleaned or "."


@lru_cache(maxsize=4096)
def _tokens(pattern: str) -> tuple[_Token, ...]:
    found: list[_Token] = []
    i = 0
    while i < len(pattern):
        c = pattern[i]
        i += 1
        if c == "*" and pattern[i : i + 1] == "*":
            i += 1
            if pattern[i : i + 1] == "/":
                i += 1
                found.append(("folders", ""))
            else:
                found.append(("any", ""))
        elif c == "*":
            found.append(("star", ""))
        elif c == "?":
            found.append(("one", ""))
        elif c == "[" and (end := pattern.find("]", i + 1)) > 0:
            found.append(("set", pattern[i:end]))
            i = end + 1
        elif c == "\\" and i < len(pattern):
            found.append(("char", pattern[i]))
            i += 1
        else:
            found.append(("char", c))
    return tuple(found)


def _simulate(tokens: Sequence[_Token], path: str) -> bool:
    """Walk the path with the set of all places that the pattern can be at."""
    places = _advance(tokens, {0}, at_folder_start=True)
    for position, c in enumerate(path):
        if c == "/" and len(tokens) in places:
            return True
        moved = set()
        for place in places:
            if place == len(tokens):
                continue
            kind, characters = tokens[place]
            if kind in ("any", "folders") or (kind == "star" and c != "/"):
                moved.add(place)
            elif (
                (kind == "char" and c == characters)
                or (kind == "one" and c != "/")
                or (kind == "set" and c != "/" and _in_set(characters, c))
            ):
                moved.add(place + 1)
        places = _advance(tokens, moved, at_folder_start=c == "/")
        if not places and position < len(path):
            return False
    return len(tokens) in places


def _advance(tokens: Sequence[_Token], places: Iterable[int], *, at_folder_start: bool) -> set[int]:
    """Add the places that are reached without reading: stars may stand for nothing."""
    reached = set()
    for place in places:
        while place not in reached:
            reached.add(place)
            if place == len(tokens):
                break
            kind = tokens[place][0]
            if kind in ("star", "any") or (kind == "folders" and at_folder_start):
                place += 1
            else:
                break
    return reached


def _in_set(characters: str, c: str) -> bool:
    negated = characters[:1] in ("^", "!")
    characters = characters[1:] if negated else characters
    found = False
    i = 0
    while i < len(characters):
        if characters[i + 1 : i + 2] == "-" and i + 2 < len(characters):
            found = found or characters[i] <= c <= characters[i + 2]
            i += 3
        else:
            found = found or characters[i] == c
            i += 1
    return found != negated
