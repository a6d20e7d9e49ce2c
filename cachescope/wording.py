"""What an incident is called, what it costs and what to do about it, in the words of whoever reads the message.

Texts are plain: each channel and page escapes them for itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

HOUR = 3_600.0
MEDIUM_SECONDS = 300.0
"""Losses below five minutes a day go to the digest."""

ADVICE = {
    "order_bust": "Put the COPY below the step that it now breaks: copy only the files which that step reads above it.",
    "early_arg": "Move the ARG, ENV or LABEL that changes with each build below the steps that do not need it.",
    "cache_import": "Look at the cache import and export of these builds: nothing that earlier builds wrote was found.",
    "pool_cold": "Give the runners of this pool the cache of the others: a shared cache import or a disk that stays.",
    "partial": "Look for what removes this layer from the cache: a size limit, pruning, an export without mode=max.",
    "erosion": "Look for what removes layers from the cache: a size limit, pruning, runners without a shared cache.",
    "base_retag": "Pin the base image by its digest and let a bot raise it when you want to build anew.",
    "manifest_stamp": "Keep what changes with every build, such as a version or a time stamp, out of this file.",
    "duration": "Compare the output of this step before and after the change: what does it download or compile now?",
    "size": "Look at the layers of the image: something large was added at this commit.",
    "budget": "Make the image smaller, or accept it as the new normal and raise the budget.",
}
_KINDS = {
    "order": "order of instructions",
    "layer_misses": "layer that keeps missing",
    "stamped_manifest": "manifest that changes with every build",
    "base_tags": "base image that moves",
    "cold_cache": "builds without cache",
    "erosion": "layers that vanish",
    "duration": "slower step",
    "size": "larger image",
    "budget": "budget of the team",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentFacts:
    """What the wording of an incident needs."""

    place: str
    """The repository, with the image where it has several; or how many repositories."""
    kind: str
    key: str
    cause: str
    instruction: str | None
    commit: str | None = None
    actor: str | None = None
    victims: Sequence[str] = ()
    seconds_per_build: float = 0.0
    builds_per_day: float = 0.0
    seconds_per_day: float = 0.0
    evidence: str = ""
    fixed_by: str | None = None


def kind_in_words(kind: str) -> str:
    """What a kind of incident is called on pages."""
    return _KINDS.get(kind, kind.replace("_", " "))


def headline(facts: IncidentFacts) -> str:
    """What got worse, where, since which commit by whom: one sentence without its full stop."""
    return f"{facts.place}: {_what(facts)}{since(facts)}"


def resolved_headline(facts: IncidentFacts) -> str:
    """What is well again, and by which commit."""
    by = f", fixed by {short_commit(facts.fixed_by)}" if facts.fixed_by else ""
    return f"{facts.place}: {_well(facts)} again{by}"


def since(facts: IncidentFacts) -> str:
    """` since 3f9c2ab by Ada`, as far as it is known."""
    if not facts.commit:
        return ""
    return f" since {short_commit(facts.commit)}" + (f" by {cut(facts.actor, 60)}" if facts.actor else "")


def price(facts: IncidentFacts, *, is_over: bool = False) -> str:
    """What it costs a build and a day, or did, as a sentence."""
    if facts.cause in {"size", "budget"}:
        return cut(facts.evidence, 300) + "."
    if facts.seconds_per_build <= 0:
        return "What it costs is not known: these logs print no times."
    per_build = f"It {'cost' if is_over else 'costs'} about {duration(facts.seconds_per_build)} per build"
    if facts.seconds_per_day <= 0:
        return per_build + "."
    rate = f"{facts.builds_per_day:.0f}" if facts.builds_per_day >= 10 else f"{facts.builds_per_day:.2g}"
    return f"{per_build}, {duration(facts.seconds_per_day)} a day at {rate} builds a day."


def advice(cause: str) -> str:
    """What to do about a cause, as a sentence."""
    return ADVICE.get(cause, "Compare the builds before and after the change.")


def severity(seconds_per_day: float) -> str:
    """How loudly something is said: high from an hour a day on, medium from five minutes on, else low."""
    if seconds_per_day >= HOUR:
        return "high"
    return "medium" if seconds_per_day >= MEDIUM_SECONDS else "low"


def _what(facts: IncidentFacts) -> str:
    named = cut(facts.instruction, 100) if facts.instruction else "a layer"
    victim = cut(facts.victims[0], 100) if facts.victims else "what stands below"
    match facts.cause:
        case "order_bust":
            return f"{victim} runs in nearly every build, below {named}"
        case "early_arg":
            return f"{named} makes {victim} run in every build"
        case "cache_import":
            return "builds find nothing in cache"
        case "pool_cold":
            return f"builds on the runners {facts.key.removeprefix('pool ')} find nothing in cache"
        case "erosion":
            return "cached layers keep vanishing"
        case "base_retag":
            return f"{named} moves again and again, and everything above it is built anew"
        case "manifest_stamp":
            return f"{named} changes with nearly every build"
        case "duration":
            return f"{named} takes longer than before"
        case "size":
            return "the image has become larger"
        case "budget":
            return "the image is over its budget"
    return f"{named} runs although nothing changed"


def _well(facts: IncidentFacts) -> str:
    named = cut(facts.victims[0] if facts.victims else facts.instruction or "", 100)
    match facts.cause:
        case "cache_import" | "pool_cold":
            return "builds find their cache"
        case "erosion":
            return "cached layers stay"
        case "base_retag":
            return f"{cut(facts.instruction or 'the base image', 100)} rests"
        case "duration":
            return f"{cut(facts.instruction or 'the step', 100)} is as fast as before"
        case "size":
            return "the image is as small as before"
        case "budget":
            return "the image keeps to its budget"
    return f"{named} comes from cache" if named else "layers come from cache"


def short_commit(commit: str | None) -> str:
    """The first seven characters of a commit id; other names are cut."""
    text = commit or "an unknown commit"
    is_hash = len(text) >= 12 and all(letter in "0123456789abcdefABCDEF" for letter in text)
    return text[:7] if is_hash else cut(text, 40)


def cut(text: str, length: int) -> str:
    """Shorten a text in its middle, on one line and without characters that cannot be seen."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    if len(text) <= length:
        return text
    tail = (length - 1) * 2 // 5
    return text[: length - 1 - tail] + "…" + text[len(text) - tail :]


def duration(seconds: float) -> str:
    """`1.3 s`, `38 s`, `41 min`, `1 h 12 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"
