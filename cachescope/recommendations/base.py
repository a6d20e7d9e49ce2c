"""What a recommendation is: a plug-in that reads a repository's history and says what to change, or nothing."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Protocol

from cachescope.history import History

MIN_SECONDS = 0.2
"""A saving per build below this is not worth an edit, however short the builds are."""

MIN_SHARE = 0.03
"""The same as a share of what the builds spend on misses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """One proposal, with what speaks for it and what it would save."""

    title: str
    why: str
    evidence: tuple[str, ...]
    """Sentences from this repository's own history."""
    patch: str | None
    """A unified diff that `git apply` takes from the root of the build context; None where no file is to be edited."""
    order_safe: bool
    """Whether the edit provably builds the same image; else a build must check it."""
    saving_seconds_per_build: float | None
    """None where the saving is not one of time (a stale layer, an unpinned base)."""
    interval: tuple[float, float] | None = None
    """Where the saving per build lies with 95 % probability, as far as the history tells."""


class Adviser(Protocol):
    """One kind of proposal; the module's name is its name and its docstring its help page."""

    def advise(self, history: History) -> Iterable[Recommendation]:
        """Look through a history; yields nothing when in doubt."""


def is_worthwhile(history: History, saving_seconds: float) -> bool:
    """Tell whether a saving per build is more than noise beside what the builds spend on misses."""
    spent = [
        sum(step.duration_seconds or 0.0 for step in past.build.steps if step.cacheable and step.cached is False)
        for past in history.builds[1:]
    ]
    return bool(spent) and saving_seconds >= max(MIN_SECONDS, MIN_SHARE * fmean(spent))


def edit_lines(history: History, edits: Sequence[tuple[int, int, Sequence[str]]]) -> str:
    """Return a Dockerfile whose lines first to last (from 1, inclusive) are replaced; an empty range inserts before."""
    lines = history.dockerfile.text.split("\n")
    for first, last, new in sorted(edits, reverse=True):
        lines[first - 1 : last] = new
    return "\n".join(lines)


def make_patch(path: str, old: str | None, new: str) -> str:
    """Return the unified diff between two texts of one file; `old` is None for a file that is new."""
    before = (old or "").splitlines(keepends=True)
    after = new.splitlines(keepends=True)
    source = f"a/{path}" if old is not None else "/dev/null"
    found = []
    for line in difflib.unified_diff(before, after, source, f"b/{path}"):
        found.append(line)
        if not line.endswith("\n"):
            found.append("\n\\ No newline at end of file\n")
    return "".join(found)


def join_words(words: Sequence[str], limit: int = 5) -> str:
    """Write a list for a sentence, cut where it is long."""
    shown = ", ".join(words[:limit])
    return f"{shown} and {len(words) - limit} more" if len(words) > limit else shown
