"""What would make an image smaller, each with the bytes that it would save."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cachescope.images.model import Layer, PlatformImage

LEAST_BYTES = 1_000_000
"""Less is not worth a reader's time."""

_CHOWN = re.compile(r"\b(?:chown|chmod|chgrp)\b")
_APT = re.compile(r"\bapt(?:-get)?\b[^&|;\n]{0,300}\binstall\b")
_TOOLS = re.compile(
    r"\b(?:build-essential|gcc|g\+\+|make|cmake|cargo|rustc|golang(?:-go)?|default-jdk|openjdk-\d{1,3}-jdk\S{0,20}"
    r"|maven|gradle|python3-dev|libc6-dev|build-base|musl-dev|autoconf)\b"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeAdvice:
    """One change and what it would save."""

    kind: str
    title: str
    change: str
    instruction: str | None
    saves_bytes: int
    at_most: bool
    """Whether this is an upper bound."""
    unpacked: bool
    """Whether the bytes are unpacked; else compressed."""


def advise(platform: PlatformImage, contents: Mapping[str, Any] | None = None) -> list[SizeAdvice]:
    """Say what to change, most bytes first; `contents` is what lies in the layers, as JSON, where they were read."""
    found = [*_from_layers(platform), *(_from_contents(platform, contents) if contents else [])]
    kinds = {(one.kind, one.instruction) for one in found if not one.at_most}
    kept = [one for one in found if not one.at_most or (one.kind, one.instruction) not in kinds]
    return sorted((one for one in kept if one.saves_bytes >= LEAST_BYTES), key=lambda one: -one.saves_bytes)


def _size(layer: Layer) -> tuple[int, bool]:
    if layer.compressed_bytes is not None:
        return layer.compressed_bytes, False
    return layer.unpacked_bytes or 0, True


def _from_layers(platform: PlatformImage) -> list[SizeAdvice]:
    found = []
    for layer in platform.layers:
        text = layer.instruction or ""
        if layer.base or not text.startswith("RUN"):
            continue
        size, unpacked = _size(layer)
        if _CHOWN.search(text) and not _APT.search(text):
            found.append(
                SizeAdvice(
                    kind="chown",
                    title="Changing owners or modes copies the files into a layer of their own",
                    change="Give them when the files are copied: COPY --chown=… --chmod=…",
                    instruction=text,
                    saves_bytes=size,
                    at_most=True,
                    unpacked=unpacked,
                )
            )
        if _TOOLS.search(text):
            found.append(
                SizeAdvice(
                    kind="multi_stage",
                    title="Build tools are shipped with the image",
                    change="Build in a stage of its own and take only the result: COPY --from=build …",
                    instruction=text,
                    saves_bytes=size,
                    at_most=True,
                    unpacked=unpacked,
                )
            )
        elif _APT.search(text) and "--no-install-recommends" not in text:
            found.append(
                SizeAdvice(
                    kind="no_install_recommends",
                    title="Recommended packages are installed along",
                    change="apt-get install --no-install-recommends …",
                    instruction=text,
                    saves_bytes=size,
                    at_most=True,
                    unpacked=unpacked,
                )
            )
    return found


def _from_contents(platform: PlatformImage, contents: Mapping[str, Any]) -> list[SizeAdvice]:
    found = []
    for cache in contents.get("caches", []):
        layer = platform.layers[cache["layer"]]
        found.append(
            SizeAdvice(
                kind="cache_left",
                title=f"{cache['name'][0].upper()}{cache['name'][1:]} left behind",
                change=str(cache["cure"]),
                instruction=layer.instruction,
                saves_bytes=cache["size_bytes"],
                at_most=False,
                unpacked=True,
            )
        )
    deleted: dict[int, list[dict[str, Any]]] = {}
    for one in contents.get("wasted", []):
        if one["deleted"] and not platform.layers[one["layer"]].base:
            deleted.setdefault(one["layer"], []).append(one)
    for number, files in deleted.items():
        largest = max(files, key=lambda one: one["size_bytes"])
        by = platform.layers[largest["hidden_by"]].instruction
        found.append(
            SizeAdvice(
                kind="added_and_deleted",
                title=f"{largest['path']} is added here and deleted later, and still pulled by everyone",
                change="Delete it in the instruction that adds it, leave it out with .dockerignore, or mount it"
                + (f"; it is deleted by: {by}" if by else ""),
                instruction=platform.layers[number].instruction,
                saves_bytes=sum(one["size_bytes"] for one in files),
                at_most=False,
                unpacked=True,
            )
        )
    for one in contents.get("rewritten", []):
        by = platform.layers[one["rewritten_by"]].instruction or ""
        if _CHOWN.search(by):
            found.append(
                SizeAdvice(
                    kind="chown",
                    title="Changing owners or modes writes files a second time",
                    change="Give them when the files are copied: COPY --chown=… --chmod=…",
                    instruction=by,
                    saves_bytes=one["size_bytes"],
                    at_most=False,
                    unpacked=True,
                )
            )
    return found
