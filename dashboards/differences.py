"""Two builds side by side: what went into them and was another, and their steps lined up."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cachescope.aligning import align_steps
from cachescope.evidence import Evidence
from cachescope.matching import normalize
from dashboards import states, theme
from store.models import Build

LINES_SHOWN = 400
FILES_SHOWN = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """Something that went into both builds."""

    name: str
    before: str
    after: str
    diff: Sequence[tuple[str, str]] = ()
    """Lines with their mark (`+`, `-`, `@` or blank), for what is a file."""
    is_code: bool = True

    @property
    def is_same(self) -> bool:
        """Whether it was the same for both."""
        return self.before == self.after and not self.diff


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A step in one of the builds."""

    state: states.State
    seconds: float | None
    text: str
    place: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A step of both builds, or of one."""

    before: Side | None
    after: Side | None
    change: str | None
    """By how much longer it took, in words; None where that is not known or nothing."""
    is_slower: bool = False

    @property
    def is_reworded(self) -> bool:
        """Whether both have it, worded differently."""
        return self.before is not None and self.after is not None and self.before.text != self.after.text

    @property
    def is_same(self) -> bool:
        """Whether nothing about it differs that anybody would look for."""
        if self.before is None or self.after is None or self.is_reworded or self.change:
            return False
        return self.before.state.word == self.after.state.word


@dataclass(slots=True, kw_only=True)
class Group:
    """Pairs that follow each other: such that differ, or such that can be folded away."""

    is_same: bool
    pairs: list[Pair] = field(default_factory=list)


def inputs(before: Build, after: Build, evidence: Evidence) -> list[Input]:
    """What went into two builds, that which differs first."""
    found = [
        Input(name="Commit", before=before.commit_id or "", after=after.commit_id or ""),
        Input(name="Branch", before=before.branch, after=after.branch),
        Input(name="Runner", before=before.runner or "", after=after.runner or ""),
        Input(name="Builder", before=before.builder or "", after=after.builder or "", is_code=False),
        Input(name="Base images", before=_bases(before), after=_bases(after)),
        Input(name="Cache imports", before=_transfers(before.cache_imports), after=_transfers(after.cache_imports)),
        Input(name="Cache exports", before=_transfers(before.cache_exports), after=_transfers(after.cache_exports)),
        Input(name="Build context", before=_size(before), after=_size(after), is_code=False),
        Input(
            name="Command line",
            before=" ".join(evidence.command_before or ()),
            after=" ".join(evidence.command_after or ()),
        ),
    ]
    found += _dockerfiles(evidence)
    if evidence.dockerignore_before is not None and evidence.dockerignore_after is not None:
        found.append(_file(".dockerignore", evidence.dockerignore_before, evidence.dockerignore_after))
    found = [each for each in found if each.before or each.after or each.diff]
    return sorted(found, key=lambda each: each.is_same)


def _dockerfiles(evidence: Evidence) -> list[Input]:
    names = sorted(evidence.dockerfiles_before.keys() & evidence.dockerfiles_after.keys())
    return [
        _file(
            f"Dockerfile of {name}" if name else "Dockerfile",
            evidence.dockerfiles_before[name],
            evidence.dockerfiles_after[name],
        )
        for name in names
    ]


def _file(name: str, before: str, after: str) -> Input:
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=2))[2:]
    diff = [(line[:1], line[1:] if line[:1] in "+- " else line) for line in lines[:LINES_SHOWN]]
    count = [sum(line.startswith(mark) for line in lines) for mark in "+-"]
    same = theme.plural(len(after.splitlines()), "line")
    return Input(
        name=name,
        before=same if not diff else f"{theme.plural(count[1], 'line')} removed",
        after=same if not diff else f"{theme.plural(count[0], 'line')} added",
        diff=diff,
        is_code=False,
    )


def _bases(build: Build) -> str:
    named = [
        f"{image['reference']}{'@' + image['digest'][:19] if image['digest'] else ''}" for image in build.base_images
    ]
    return ", ".join(dict.fromkeys(named))


def _transfers(transfers: Sequence[Any]) -> str:
    ended = {True: "", False: " (failed)", None: ""}
    return ", ".join(f"{one['ref'] or 'no name printed'}{ended[one['succeeded']]}" for one in transfers)


def _size(build: Build) -> str:
    return theme.size(build.context_bytes) if build.context_bytes is not None else ""


def line_up(
    before: Sequence[Any], after: Sequence[Any], steps_before: Sequence[Any], steps_after: Sequence[Any]
) -> list[Group]:
    """Line the steps of two builds up: in the order of the later build, what it lacks where it stood.

    `before` and `after` hold a Side for each step, None for what is no instruction; the last two are the steps of the
    library.
    """
    return _grouped(
        [
            _pair(before[old] if old is not None else None, after[new] if new is not None else None)
            for old, new in align_steps(steps_before, steps_after)
        ]
    )


def _pair(before: Side | None, after: Side | None) -> Pair:
    """Say by how much a step's time differs, where it ran in both and the difference is more than noise."""
    change, is_slower = None, False
    if before is not None and after is not None and before.seconds is not None and after.seconds is not None:
        by = after.seconds - before.seconds
        if abs(by) >= max(1.0, 0.25 * before.seconds):
            change, is_slower = theme.signed(theme.duration(abs(by)), by), by > 0
    if before is not None and after is not None and normalize(before.text) == normalize(after.text):
        before = Side(state=before.state, seconds=before.seconds, text=after.text, place=before.place, url=before.url)
    return Pair(before=before, after=after, change=change, is_slower=is_slower)


def _grouped(pairs: Sequence[Pair]) -> list[Group]:
    groups: list[Group] = []
    for pair in pairs:
        if not groups or groups[-1].is_same != pair.is_same:
            groups.append(Group(is_same=pair.is_same))
        groups[-1].pairs.append(pair)
    return groups
