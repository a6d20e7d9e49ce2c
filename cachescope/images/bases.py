"""Where the base image ends and the own layers begin."""

import re
from collections.abc import Sequence

from cachescope.images.instructions import HistoryEntry

# What buildah notes at the first own entry; of its intermediate images it notes the id alone.
_NAMED = re.compile(r"FROM (?![0-9a-f]{12,64}$)\S")
_IMPORTED = ("imported from", "debuerreotype", "bazel", "nix")


def count_base_layers(diff_ids: Sequence[str | None], base_diff_ids: Sequence[str] | None) -> int | None:
    """Return how many layers at the bottom are those of a known base image; None where they are not its layers."""
    if base_diff_ids is None or len(base_diff_ids) > len(diff_ids):
        return None
    return len(base_diff_ids) if list(diff_ids[: len(base_diff_ids)]) == list(base_diff_ids) else None


def count_base_entries(history: Sequence[HistoryEntry], own_instructions: int | None = None) -> int | None:
    """Return how many entries of a history came with the base image; None where nothing tells.

    `own_instructions` is how many instructions below its FROM the last stage of the Dockerfile has. Without it: an
    entry that has the base image's tags (classic builder), buildah's note of the FROM, a bottom that was imported or
    made by another builder, and a CMD with more instructions above it, since that is how base images end.
    """
    if not history:
        return None
    if own_instructions is not None and own_instructions <= len(history):
        return len(history) - own_instructions
    tagged = [place for place, entry in enumerate(history[:-1]) if entry.tags]
    if tagged:
        return tagged[-1] + 1
    noted = next((place for place, entry in enumerate(history) if _NAMED.match(entry.comment)), None)
    if noted is not None:
        return 0 if history[noted].comment.startswith("FROM scratch") else noted
    found = max(_foreign_bottom(history), _after_command(history))
    return found if found or _begins_itself(history) else None


def _foreign_bottom(history: Sequence[HistoryEntry]) -> int:
    """Count the entries at the bottom that no Dockerfile wrote, or that another builder wrote than the top."""
    imported = 0
    for place, entry in enumerate(history):
        if entry.comment.lower().startswith(_IMPORTED) or (entry.created_by.startswith("#") and not entry.keyword):
            imported = place + 1
    top = _builder(history[-1])
    other = 0
    if top:
        while other < len(history) and _builder(history[other]) not in ("", top):
            other += 1
        if other < len(history) and any(_builder(entry) != top for entry in history[other:]):
            other = 0
    return max(imported, other)


def _builder(entry: HistoryEntry) -> str:
    if entry.comment.startswith("buildkit."):
        return "buildkit"
    if "#(nop)" in entry.created_by or entry.created_by.startswith(("/bin/sh -c", "|")):
        return "classic"
    return ""


def _after_command(history: Sequence[HistoryEntry]) -> int:
    """Count the entries up to the last CMD above which files are written again."""
    writes = False
    for place in range(len(history) - 1, -1, -1):
        keyword = history[place].keyword
        if keyword == "CMD" and writes:
            return place + 1
        writes = writes or keyword in ("RUN", "COPY", "ADD", "WORKDIR")
    return 0


def _begins_itself(history: Sequence[HistoryEntry]) -> bool:
    """Tell whether the bottom is what FROM scratch leads to: files are added to nothing."""
    written = (entry.keyword for entry in history if entry.keyword not in (None, "ARG", "LABEL", "ENV"))
    return next(written, None) in ("ADD", "COPY", "WORKDIR")
