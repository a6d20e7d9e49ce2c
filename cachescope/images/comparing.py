"""What differs between two versions of an image, layer by layer, and which instruction made it grow or shrink."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum
from itertools import pairwise

from cachescope.images.model import Layer, MeasuredImage, PlatformImage

_HASHES = re.compile(r"\b(?:dir|file|multi|archive):[0-9a-f]{64}\b")
_LONG_HASHES = re.compile(r"\b((?:dir|file|multi|archive):[0-9a-f]{8})[0-9a-f]{56}\b")
_MOST_PAIRS = 40_000
"""Beyond this many, layers of two images are paired by their place alone."""
_LONGEST_COMPARED = 2000


class Change(StrEnum):
    """What became of a layer."""

    SAME = "same"
    CHANGED = "changed"
    ADDED = "added"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerChange:
    """One layer, or one instruction's layer, before and after."""

    change: Change
    before: Layer | None
    after: Layer | None

    @property
    def instruction(self) -> str | None:
        """The instruction as it reads now, for a removed one as it read."""
        layer = self.after or self.before
        return layer.instruction if layer else None

    @property
    def is_base(self) -> bool | None:
        """Whether it belongs to the base image."""
        layer = self.after or self.before
        return layer.base if layer else None

    @property
    def compressed_growth(self) -> int | None:
        """In bytes; negative where it shrank."""
        return _difference(
            self.before.compressed_bytes if self.before else 0, self.after.compressed_bytes if self.after else 0
        )

    @property
    def unpacked_growth(self) -> int | None:
        """In bytes; negative where it shrank."""
        return _difference(
            self.before.unpacked_bytes if self.before else 0, self.after.unpacked_bytes if self.after else 0
        )

    @property
    def growth(self) -> int | None:
        """The compressed growth, else the unpacked one."""
        return self.unpacked_growth if self.compressed_growth is None else self.compressed_growth


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformDifference:
    """One platform of two versions."""

    platform: str
    before: PlatformImage
    after: PlatformImage
    layers: tuple[LayerChange, ...]
    """From the bottom to the top of the newer version, removed ones where they stood."""

    @property
    def compressed_growth(self) -> int | None:
        """In bytes."""
        return _difference(self.before.compressed_bytes, self.after.compressed_bytes)

    @property
    def unpacked_growth(self) -> int | None:
        """In bytes."""
        return _difference(self.before.unpacked_bytes, self.after.unpacked_bytes)

    @property
    def pull_churn_bytes(self) -> int | None:
        """Compressed bytes of layers that the older version did not have; each blob counts once."""
        return pull_churn(self.before, self.after)

    @property
    def blamed(self) -> LayerChange | None:
        """The layer that did most of the growth or shrinkage; None where nothing grew or sizes are unknown."""
        grown = self.unpacked_growth if self.compressed_growth is None else self.compressed_growth
        if not grown:
            return None
        sign = 1 if grown > 0 else -1
        known = [(sign * (layer.growth or 0), -place) for place, layer in enumerate(self.layers)]
        most, place = max(known, default=(0, 0))
        return self.layers[-place] if most > 0 else None


def pull_churn(before: PlatformImage, after: PlatformImage) -> int | None:
    """Return the compressed bytes of the layers in `after` that `before` lacks; None where blobs are unknown."""
    had = {layer.digest for layer in before.layers}
    if None in had:
        return None
    new: dict[str, int] = {}
    for layer in after.layers:
        if layer.digest is None or layer.compressed_bytes is None:
            return None
        if layer.digest not in had:
            new[layer.digest] = layer.compressed_bytes
    return sum(new.values())


def engine_pull(before: PlatformImage, after: PlatformImage) -> int | None:
    """Return what a Docker engine with the classic store pulls that holds `before`; None where blobs are unknown.

    It keeps layers by the chain below them, so that everything above the first new layer is pulled again.
    """
    shared = 0
    for old, new in zip(before.layers, after.layers, strict=False):
        if old.digest is None or old.digest != new.digest:
            break
        shared += 1
    sizes: dict[str, int] = {}
    for layer in after.layers[shared:]:
        if layer.digest is None or layer.compressed_bytes is None:
            return None
        sizes[layer.digest] = layer.compressed_bytes
    return sum(sizes.values())


def compare_images(before: MeasuredImage, after: MeasuredImage) -> list[PlatformDifference]:
    """Compare the platforms that both versions have; two images of one platform each are compared whatever its name."""
    if len(before.platforms) == len(after.platforms) == 1:
        return [compare_platforms(before.platforms[0], after.platforms[0])]
    old = {platform.platform: platform for platform in before.platforms}
    return [
        compare_platforms(old[platform.platform], platform) for platform in after.platforms if platform.platform in old
    ]


def compare_platforms(before: PlatformImage, after: PlatformImage) -> PlatformDifference:
    """Line the layers of two versions up: by what they hold, then by their instruction, then by how alike it reads."""
    changes: list[LayerChange] = []
    for old, new in _pair(before.layers, after.layers):
        if old is None or new is None:
            change = Change.ADDED if old is None else Change.REMOVED
        else:
            change = Change.SAME if _is_same(old, new) else Change.CHANGED
        changes.append(LayerChange(change=change, before=old, after=new))
    return PlatformDifference(platform=after.platform, before=before, after=after, layers=tuple(changes))


def short_text(instruction: str) -> str:
    """Return an instruction for people: hashes of what was copied are cut, white space is collapsed."""
    return " ".join(_LONG_HASHES.sub(r"\1…", instruction).split())


def identity(layer: Layer) -> str:
    """Return what an instruction is known by over versions: its text without the hashes of what it copied."""
    return _HASHES.sub("…", layer.instruction or "")


def _is_same(old: Layer, new: Layer) -> bool:
    if old.diff_id is not None and new.diff_id is not None:
        return old.diff_id == new.diff_id
    return old.digest is not None and old.digest == new.digest


def _pair(
    before: Sequence[Layer], after: Sequence[Layer]
) -> "list[tuple[Layer | None, Layer] | tuple[Layer, Layer | None]]":
    """Pair layers in order; those of the base image only with each other."""
    base_before = [layer for layer in before if layer.base]
    base_after = [layer for layer in after if layer.base]
    own_before = [layer for layer in before if not layer.base]
    own_after = [layer for layer in after if not layer.base]
    return [*_align(base_before, base_after, is_base=True), *_align(own_before, own_after)]


def _align(
    before: Sequence[Layer], after: Sequence[Layer], *, is_base: bool = False
) -> "list[tuple[Layer | None, Layer] | tuple[Layer, Layer | None]]":
    if len(before) * len(after) > _MOST_PAIRS:
        return _by_place(before, after)
    keys_before, keys_after = _keys(before), _keys(after)
    pairs: list[tuple[Layer | None, Layer] | tuple[Layer, Layer | None]] = []
    for kind, i1, i2, j1, j2 in SequenceMatcher(None, keys_before, keys_after, autojunk=False).get_opcodes():
        if kind == "equal":
            pairs += zip(before[i1:i2], after[j1:j2], strict=True)
        elif is_base:
            pairs += _by_place(before[i1:i2], after[j1:j2])
        else:
            pairs += _by_likeness(before[i1:i2], after[j1:j2])
    return pairs


def _keys(layers: Sequence[Layer]) -> list[tuple[str, int]]:
    """Identities, numbered where several layers share one, so that a second `COPY . .` is not the first."""
    seen: dict[str, int] = {}
    keys = []
    for layer in layers:
        text = identity(layer)
        seen[text] = seen.get(text, 0) + 1
        keys.append((text, seen[text]))
    return keys


def _by_place(
    before: Sequence[Layer], after: Sequence[Layer]
) -> "list[tuple[Layer | None, Layer] | tuple[Layer, Layer | None]]":
    shared = min(len(before), len(after))
    pairs: list[tuple[Layer | None, Layer] | tuple[Layer, Layer | None]] = []
    pairs += zip(before[:shared], after[:shared], strict=True)
    pairs += [(old, None) for old in before[shared:]]
    pairs += [(None, new) for new in after[shared:]]
    return pairs


def _by_likeness(
    before: Sequence[Layer], after: Sequence[Layer]
) -> "list[tuple[Layer | None, Layer] | tuple[Layer, Layer | None]]":
    """Within a run of edits pair what reads most alike, in order; the rest is removed and added."""
    pairs: list[tuple[Layer | None, Layer] | tuple[Layer, Layer | None]] = []
    first = 0
    for new in after:
        found = max(range(first, len(before)), key=lambda place: (_likeness(before[place], new), -place), default=None)
        if found is None or _likeness(before[found], new) < 0.6:
            pairs.append((None, new))
            continue
        pairs += [(old, None) for old in before[first:found]]
        pairs.append((before[found], new))
        first = found + 1
    return pairs + [(old, None) for old in before[first:]]


def _likeness(old: Layer, new: Layer) -> float:
    if _is_same(old, new):
        return 2.0
    left, right = identity(old)[:_LONGEST_COMPARED], identity(new)[:_LONGEST_COMPARED]
    if left.partition(" ")[0] != right.partition(" ")[0]:
        return 0.0
    # What the classic builder writes of every COPY (`COPY … in /app`) makes none of them alike.
    left_words, right_words = ([word for word in text.split()[1:] if word not in ("…", "in")] for text in (left, right))
    return SequenceMatcher(None, left_words, right_words, autojunk=False).ratio()


def _difference(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """What one instruction added over a range of versions."""

    instruction: str | None
    is_base: bool
    growth_bytes: int
    largest_step: int
    """The version, by its place in the range, in which most of it came."""


def attribute_growth(versions: Sequence[PlatformImage]) -> list[Growth]:
    """Say over a range of versions, oldest first, what each instruction added, most growth first.

    An instruction that is reworded keeps its identity from version to version. The growths of all add up to that of
    the image, as far as sizes are known.
    """
    names: dict[int, str] = {}
    sums: dict[str, list[tuple[int, int]]] = {}
    texts: dict[str, Layer] = {}
    for step, (before, after) in enumerate(pairwise(versions), start=1):
        carried: dict[int, str] = {}
        for place, change in enumerate(compare_platforms(before, after).layers):
            old, new = change.before, change.after
            name = names.get(id(old)) if old is not None else None
            if name is None:
                base = "base" if change.is_base else "own"
                name = f"{base} {identity(old or new or Layer())} {step}.{place}"
            if new is not None:
                carried[id(new)] = name
                texts[name] = new
            elif old is not None:
                texts.setdefault(name, old)
            if change.growth:
                sums.setdefault(name, []).append((change.growth, step))
        names = carried
    grown = [
        Growth(
            instruction=texts[name].instruction,
            is_base=bool(texts[name].base),
            growth_bytes=sum(growth for growth, _ in steps),
            largest_step=max(steps, key=lambda one: abs(one[0]))[1],
        )
        for name, steps in sums.items()
    ]
    return sorted(grown, key=lambda one: -one.growth_bytes)
