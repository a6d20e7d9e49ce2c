"""What BuildKit's own cache-debug output says of a break, put beside what the causes say.

It settles what the logs leave open and overrules no proof: a key that is the same rules out an edit, an argument and a
file; one that differs says in what. The causes judge first; nothing is named here that they all ruled out, but files,
which the output lists by name.
"""

from collections.abc import Mapping
from dataclasses import replace

from cachescope.cache_keys import KeyChange, compare_keys
from cachescope.causes.base import Verdict, Weight
from cachescope.dockerfile import Instruction
from cachescope.pair import Pair, read_dockerfile

_EDITS = frozenset(("instruction_changed", "build_arg_changed"))
_GONE = frozenset(("cache_lost", "cache_not_imported", "no_cache_requested", "first_build"))
_SOURCE = "BuildKit's cache-debug output"


def heed_keys(pair: Pair, verdicts: Mapping[str, Verdict]) -> tuple[dict[str, Verdict], tuple[str, ...]]:
    """Weigh verdicts against the key of the step before and after; return what is left and what the output tells."""
    change = _key_change(pair)
    if change is None or (change.has_other_contents and not pair.reads_context):
        return dict(verdicts), ()
    proven = {n: v for n, v in verdicts.items() if v.weight == Weight.CERTAIN}
    if change.has_other_contents:
        found = _of_files(pair, change)
        return {"files_changed": found} | proven, found.evidence if proven else ()
    sentence, ruled_out = _read(pair, change)
    kept = {n: v for n, v in verdicts.items() if n in proven or n not in ruled_out} or dict(verdicts)
    known = kept.get("build_arg_changed")
    if known is not None and not proven and _are_arguments(pair, change):
        kept["build_arg_changed"] = replace(known, weight=Weight.CERTAIN, evidence=(), expected=False)
    return kept, (sentence,)


def _key_change(pair: Pair) -> KeyChange | None:
    before, after = pair.background.evidence.cache_keys_before, pair.background.evidence.cache_keys_after
    if before is None or after is None or not pair.is_buildkit or pair.before is None:
        return None
    printed = read_dockerfile(pair.step.text.split("\n", 1)[0]).instructions
    lines: list[Instruction] = [*printed[:1], *([pair.instruction] if pair.instruction is not None else [])]
    return compare_keys(before, after, lines) if lines else None


def _of_files(pair: Pair, change: KeyChange) -> Verdict:
    """Files are told by name; whether the commit changed them is for its list to say."""
    named = f": {', '.join(change.files[:5])}" if change.files else ""
    more = f" and {len(change.files) - 5} more" if len(change.files) > 5 else ""
    listed = pair.changed_files
    unrecorded = listed is not None and not listed
    told = f"{_SOURCE} shows that it was given other files than before{named}{more}."
    rest = ("None of them is in the commit: a mode, or files that git does not record.",) if unrecorded else ()
    return Verdict(weight=Weight.CERTAIN, evidence=(told, *rest), expected=not unrecorded, files=change.files)


def _read(pair: Pair, change: KeyChange) -> tuple[str, frozenset[str]]:
    """Say what the output tells of a step, and which causes that rules out."""
    if change.is_same:
        # A step may still have hit above this one in a former state, with other files.
        files = {"files_changed"} if pair.reads_context else set()
        return f"{_SOURCE} shows that nothing in its key changed.", _EDITS | files
    if change.has_other_place:
        return f"{_SOURCE} shows that it stands on other steps or another image than before.", _GONE
    parts = [f"the value of {', '.join(change.variables)}"] if change.variables else []
    parts += change.parts
    return f"{_SOURCE} shows that in its key {' and '.join(parts)} changed.", _GONE | {"files_changed"}


def _are_arguments(pair: Pair, change: KeyChange) -> bool:
    """Tell whether what changed are build arguments: a Dockerfile that is the same declares one of them."""
    return pair.dockerfile_is_same and not change.parts and bool(pair.scope.declared & {*change.variables})
