"""What a builder calls a step: its stage, platform and Dockerfile instruction, and whether a cache serves it.

BuildKit's names are put together in its `dockerfile2llb` (`[stage 2/9] RUN …`), buildx adds the bake target in front.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

from cachescope.model import StepKind

METADATA_KEYWORDS = frozenset(
    {
        "ARG",
        "CMD",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "HEALTHCHECK",
        "LABEL",
        "MAINTAINER",
        "ONBUILD",
        "SHELL",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
    }
)
"""Instructions that only write the image's configuration: classic builder, buildah and kaniko log them as steps."""
KEYWORDS = METADATA_KEYWORDS | {"ADD", "COPY", "FROM", "RUN", "WORKDIR"}

# `[linux/amd64->arm64 gen  2/3] RUN …`; BuildKit pads the index to the width of the total, CIs may mask digits.
_NUMBERED = re.compile(r"\[(?:([^\[\]\n]{1,512}) )? {0,9}(\d{1,9}|[\d*]{1,12})/(\d{1,9}|[\d*]{1,12})\] (.*)", re.DOTALL)
_BRACKETED = re.compile(r"\[([^\[\]\n]{1,512})\] ?(.*)", re.DOTALL)
_PLATFORM = re.compile(
    r"[a-z0-9]{2,20}/[A-Za-z0-9_/.*-]{1,60}(?:->[A-Za-z0-9_/.*-]{1,60})?|[a-z0-9]{2,20}->[a-z0-9/]{2,60}"
)
_EXPORTS = (
    "exporting to ",
    "importing to docker",
    "pushing ",
    "sending tarball",
    "merging manifest list",
    "copying files",
    "exporting layers",
)
_CACHE_EXPORTS = (
    "exporting cache",
    "exporting inline cache",
    "exporting to GitHub Actions Cache",
    "exporting content cache",
    "preparing build cache for export",
)
_LONG_NAME = 1024
"""Longer names are not kept: 4,096 of them would fill the memory."""
_FRONTENDS = ("resolve image config for ", "docker-image://")


@dataclass(frozen=True, slots=True)
class StepName:
    """The parts of a step's name."""

    kind: StepKind
    text: str
    instruction: str | None = None
    target: str | None = None
    stage: str | None = None
    platform: str | None = None
    index: int | None = None
    total: int | None = None


def keyword_of(text: str) -> str | None:
    """Return the Dockerfile keyword that a text begins with, in capitals; None where it begins with none."""
    word = text.split(None, 1)[0].upper() if text and not text.isspace() else ""
    return word if word in KEYWORDS else None


def is_cacheable(builder: str | None, instruction: str | None) -> bool:
    """Tell whether a step of this instruction counts in the hit rate (definitions: "not cacheable").

    FROM never counts; what only writes configuration counts nowhere but in BuildKit, which makes no steps of it (its
    ONBUILD steps are the triggers themselves).
    """
    if instruction is None or instruction == "FROM":
        return False
    return builder == "buildkit" or instruction not in METADATA_KEYWORDS


def is_platform(word: str) -> bool:
    """Tell whether a word of a step name is a platform: `linux/arm/v7`, `linux/amd64->arm64`."""
    return _PLATFORM.fullmatch(word) is not None


def parse_step_name(name: str, targets: Collection[str] = ()) -> StepName:
    """Take a BuildKit step name apart.

    `targets` are the bake targets or compose services that the build is known to have: `[web 2/3]` is a stage named
    web unless a target has that name.
    """
    if len(name) > _LONG_NAME:
        return _parse(name, targets)
    return _parse_known(name, frozenset(targets))


def _parse(name: str, targets: Collection[str]) -> StepName:
    numbered = _NUMBERED.match(name) if name[:1] == "[" and name[1:10] != "internal]" else None
    if numbered is None:
        return _internal_name(name, targets)
    place, index, total, text = numbered.groups()
    text = text.rstrip()
    target, platform, stage = split_place(place, targets) if place else (None, None, None)
    instruction = keyword_of(text)
    return StepName(
        kind=StepKind.OTHER if instruction is None else StepKind.INSTRUCTION,
        text=text,
        instruction=instruction,
        target=target,
        stage=stage,
        platform=platform,
        index=int(index) if index.isdigit() else None,
        total=int(total) if total.isdigit() else None,
    )


_parse_known = lru_cache(maxsize=4096)(_parse)
"""The names of steps recur from build to build."""


def split_place(place: str, targets: Collection[str]) -> tuple[str | None, str | None, str | None]:
    """Split what stands before `2/9` into target, platform and stage."""
    words = place.split()
    platform = next((word for word in words if is_platform(word)), None) if "/" in place or "->" in place else None
    if platform is not None:
        words.remove(platform)
    if len(words) > 1:
        return words[0], platform, " ".join(words[1:])
    if words and words[0] in targets:
        return words[0], platform, None
    return None, platform, words[0] if words else None


def target_of(name: str) -> str | None:
    """Return the bake target or compose service that an internal step's name proves: `[web internal] load …`."""
    bracketed = _BRACKETED.match(name) if name.startswith("[") else None
    if bracketed is None or bracketed[1][-1:].isdigit():
        return None
    words = [word for word in bracketed[1].split() if not is_platform(word)]
    if len(words) == 2 and words[1] in ("internal", "auth"):
        return words[0]
    if len(words) == 1 and bracketed[2].startswith(
        (*_EXPORTS, *_CACHE_EXPORTS, *_FRONTENDS, "importing cache manifest")
    ):
        return words[0]
    return None


def _internal_name(name: str, targets: Collection[str]) -> StepName:
    if name.startswith("[internal] "):
        return StepName(StepKind.INTERNAL, name.rstrip())
    text, target, platform = name.rstrip(), target_of(name), None
    bracketed = _BRACKETED.match(text)
    words: list[str] = []
    if bracketed is not None:
        words = bracketed[1].split()
        platform = next((word for word in words if is_platform(word)), None)
        if target is None and words and words[0] in targets:
            target = words[0]
    plain = bracketed[2] if bracketed is not None and target is not None and words[-1] != "internal" else text
    return StepName(kind=_internal_kind(plain, words), text=text, target=target, platform=platform)


def _internal_kind(text: str, words: list[str]) -> StepKind:
    if text.startswith("importing cache manifest"):
        return StepKind.CACHE_IMPORT
    if text.startswith(_CACHE_EXPORTS):
        return StepKind.CACHE_EXPORT
    if text.startswith(_EXPORTS):
        return StepKind.EXPORT
    if text.startswith(_FRONTENDS):
        return StepKind.FRONTEND
    if words and (words[-1] in ("internal", "auth") or words[0] in ("internal", "auth", "context")):
        return StepKind.INTERNAL
    return StepKind.INTERNAL if text.startswith("resolving provenance") else StepKind.OTHER
