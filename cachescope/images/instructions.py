r"""The history of an image, entry by entry: which instruction made it, and which entries made which layer.

Read are the histories of BuildKit (`RUN /bin/sh -c make # buildkit`), the classic builder and buildah
(`/bin/sh -c #(nop)  CMD ["sh"]`, `|1 A=b /bin/sh -c make`), kaniko (`RUN make`), and of what imports or squashes.
The configuration's `history` is defined at https://github.com/opencontainers/image-spec/blob/main/config.md.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cachescope.instructions import KEYWORDS, METADATA_KEYWORDS

LONGEST_TEXT = 16 * 1024
"""In characters: a heredoc of more is kept up to here."""

_BUILDKIT_MARK = " # buildkit"
_NOTHING = "#(nop)"
# The shell and its flags up to the one that takes the command: `/bin/bash -o pipefail -ec `.
_SHELL = re.compile(
    r"(?:/[\w./-]{0,80}/)?(?:sh|ash|bash|dash|ksh|zsh)((?: (?:-[A-Za-z]{1,9}|\+[A-Za-z]|pipefail)){1,6}) "
)
_WINDOWS_SHELL = re.compile(
    r"(?:cmd(?:\.exe)? /S /C|(?:powershell|pwsh)(?:\.exe)?(?: -[A-Za-z]{1,30}){0,4} -Command) ", re.IGNORECASE
)
_ARGUMENTS = re.compile(r"\|\d{1,4} ")
_SQUASHED = re.compile(r"(?:merge|create new from) sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One entry of an image's history, oldest first."""

    created_by: str = ""
    comment: str = ""
    created_at: float | None = None
    """In epoch seconds."""
    is_empty: bool | None = None
    """Whether it made no layer; None where the history does not say (an engine's)."""
    size_bytes: int | None = None
    """What its layer weighs unpacked, where the history says so."""
    tags: tuple[str, ...] = ()

    @property
    def instruction(self) -> str | None:
        """The instruction it tells of; None where it tells of none."""
        return instruction_of(self.created_by)

    @property
    def keyword(self) -> str | None:
        """The Dockerfile keyword it begins with."""
        word = (self.instruction or "").partition(" ")[0].upper()
        return word if word in KEYWORDS else None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerOrigin:
    """What the history says of one layer."""

    entry: int | None
    """The entry that carries it, by its place in the history."""
    instruction: str | None


def instruction_of(created_by: str) -> str | None:
    """Return the Dockerfile instruction behind a `created_by`; None for an empty one.

    What no Dockerfile made (a base image's script, a builder's own words) is returned as it stands.
    """
    text = created_by[:LONGEST_TEXT].strip()
    marked = text.endswith(_BUILDKIT_MARK)
    if marked:
        text = text.removesuffix(_BUILDKIT_MARK).rstrip()
    if not text:
        return None
    head, found, rest = text.partition(_NOTHING)
    if found and len(head) < 200 and "\n" not in head:
        return rest.strip() or None
    keyword, _, arguments = text.partition(" ")
    if keyword == "RUN":
        return f"RUN {_command(arguments)}"
    if keyword in KEYWORDS:
        return text
    command = _command(text)
    return f"RUN {command}" if command != text else text


def _command(text: str) -> str:
    """Take the shell, and build arguments in front of it, off a command."""
    if numbered := _ARGUMENTS.match(text):
        # Values may hold spaces, and nothing marks their end but the shell that follows.
        rest = text[numbered.end() :]
        shell = _first_shell(rest)
        return rest[shell:] if shell else rest
    shell = _shell_end(text, 0)
    return text[shell:].strip() if shell else text


def _shell_end(text: str, start: int) -> int:
    if (windows := _WINDOWS_SHELL.match(text, start)) is not None:
        return windows.end()
    found = _SHELL.match(text, start)
    return found.end() if found is not None and "c" in found[1] else 0


def _first_shell(text: str) -> int:
    start = 0
    while start >= 0:
        if end := _shell_end(text, start):
            return end
        start = text.find(" ", start) + 1 or -1
    return 0


def name_bare_commands(history: Sequence[HistoryEntry]) -> list[HistoryEntry]:
    """Return a history in which bare commands read as the RUN that they were.

    The classic builder and buildah write `RUN ["make", "all"]` as `make all`. Other tools write words of their own, so
    that this holds only where these two wrote the entries around.
    """
    classic = [place for place, entry in enumerate(history) if _is_classic(entry)]
    if not classic:
        return list(history)
    return [
        replace(entry, created_by=f"RUN {entry.created_by.strip()}")
        if place > classic[0] - 2 and _is_bare(entry)
        else entry
        for place, entry in enumerate(history)
    ]


def _is_classic(entry: HistoryEntry) -> bool:
    return _NOTHING in entry.created_by[:300] or entry.created_by.startswith(("/bin/sh -c ", "|"))


def _is_bare(entry: HistoryEntry) -> bool:
    text = entry.created_by.strip()
    plain = not text.startswith("#") and (not entry.comment or entry.comment.startswith("FROM "))
    return bool(text) and plain and not _is_classic(entry) and entry.keyword is None


def is_squash(entry: HistoryEntry) -> bool:
    """Tell whether an entry is what `docker build --squash` or an export writes over everything before it."""
    return not entry.created_by.strip() and _SQUASHED.search(entry.comment[:300]) is not None


def match_layers(history: Sequence[HistoryEntry], layers: int) -> list[LayerOrigin]:
    """Say for each of an image's layers, from the bottom, which instruction made it.

    The entries that made no layer are left out. Where an entry that only writes configuration carries a layer, or one
    carries all (squashed, `--layers=false`, `--single-snapshot`), the layer belongs to the instructions before it that
    write files and have no layer of their own.
    """
    found = _carrying(history, layers)
    # Where their numbers differ, entries of the top are the ones that are surely of this image.
    carrying: list[int | None] = [None] * (layers - len(found)) + found[len(found) - min(layers, len(found)) :]
    origins = []
    last = -1
    for place in carrying:
        if place is None:
            origins.append(LayerOrigin(entry=None, instruction=None))
            continue
        origins.append(LayerOrigin(entry=place, instruction=_instruction(history, last + 1, place)))
        last = place
    return origins


def _instruction(history: Sequence[HistoryEntry], first: int, place: int) -> str | None:
    entry = history[place]
    if not is_squash(entry) and entry.keyword not in METADATA_KEYWORDS:
        return entry.instruction
    before = [one.instruction for one in history[first:place] if one.keyword in ("RUN", "COPY", "ADD")]
    written = [text for text in before if text]
    return "\n".join(written)[:LONGEST_TEXT] or entry.instruction


def _carrying(history: Sequence[HistoryEntry], layers: int) -> list[int]:
    """Return the places of the entries that carry a layer."""
    if any(entry.is_empty is not None for entry in history):
        return [place for place, entry in enumerate(history) if not entry.is_empty]
    # An engine's history has sizes and no flags: what weighs something is a layer, what writes files is likely one.
    chances = [(_chance(entry), -place, place) for place, entry in enumerate(history)]
    sure = [chance for chance in chances if chance[0] == 3]
    if len(sure) > layers:
        return [place for _, _, place in sure]
    taken = sorted(chances, reverse=True)[:layers]
    return sorted(place for chance, _, place in taken if chance)


def _chance(entry: HistoryEntry) -> int:
    if entry.size_bytes:
        return 3
    keyword = entry.keyword
    if keyword in ("RUN", "COPY", "ADD"):
        return 2
    if keyword in METADATA_KEYWORDS:
        return 0
    return 1
