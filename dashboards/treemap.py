"""The layers of an image as areas: bytes are the size, the fill says how lately a layer has changed."""

from collections.abc import Sequence
from dataclasses import dataclass

from dashboards import theme

WIDTH, HEIGHT = 1000, 220
_LETTER = 6.8
_LEAST_SHARE = 0.002
"""Smaller layers are drawn together: nobody could see or hit them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One layer."""

    number: int
    """From 1 at the bottom."""
    text: str
    size_bytes: int
    age: int | None
    """For how many versions it has been the same; None for a layer of the base image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One rectangle of the figure."""

    x: float
    y: float
    width: float
    height: float
    look: str
    """The name of its fill: base, new, recent or old."""
    title: str
    lines: tuple[str, ...]
    """What fits into it."""
    target: str
    """The anchor of its row."""


def look_of(age: int | None) -> str:
    """Return the fill of a layer by the number of versions for which it has not changed."""
    if age is None:
        return "base"
    return "new" if age == 0 else "recent" if age < 5 else "old"


WORDS = {
    "new": "changed in this version",
    "recent": "changed in the last five",
    "old": "older",
    "base": "base image",
}


def tiles(items: Sequence[Item]) -> list[Tile]:
    """Lay layers out as squares as they can be, the largest first."""
    whole = sum(item.size_bytes for item in items)
    if whole <= 0:
        return []
    large = sorted(
        (item for item in items if item.size_bytes >= whole * _LEAST_SHARE), key=lambda item: -item.size_bytes
    )
    scale = WIDTH * HEIGHT / sum(item.size_bytes for item in large)
    found: list[Tile] = []
    x, y, width, height = 0.0, 0.0, float(WIDTH), float(HEIGHT)
    rest = list(large)
    while rest:
        side = min(width, height)
        row = _best_row([item.size_bytes * scale for item in rest], side)
        thickness = sum(item.size_bytes for item in rest[:row]) * scale / side
        at = y if width >= height else x
        for item in rest[:row]:
            length = item.size_bytes * scale / thickness
            if width >= height:
                found.append(_tile(item, x, at, thickness, length))
            else:
                found.append(_tile(item, at, y, length, thickness))
            at += length
        if width >= height:
            x, width = x + thickness, width - thickness
        else:
            y, height = y + thickness, height - thickness
        rest = rest[row:]
    return found


def _best_row(areas: Sequence[float], side: float) -> int:
    """Return how many of the next areas make the best row along a side: the one whose worst shape is squarest."""
    best, worst = 1, float("inf")
    for count in range(1, len(areas) + 1):
        total = sum(areas[:count])
        thickness = total / side
        shape = max(max(area / thickness / thickness, thickness * thickness / area) for area in areas[:count])
        if shape > worst:
            break
        best, worst = count, shape
    return best


def _tile(item: Item, x: float, y: float, width: float, height: float) -> Tile:
    letters = int((width - 12) / _LETTER)
    lines: tuple[str, ...] = ()
    if letters >= 6 and height >= 22:
        lines = (theme.size(item.size_bytes),)
        if height >= 38 and letters >= 8:
            lines = (*lines, theme.cut_middle(item.text, letters))
    return Tile(
        x=round(x, 1),
        y=round(y, 1),
        width=round(max(width - 1.5, 0.5), 1),
        height=round(max(height - 1.5, 0.5), 1),
        look=look_of(item.age),
        title=f"Layer {item.number}: {theme.size(item.size_bytes)}, {item.text} ({WORDS[look_of(item.age)]})",
        lines=lines,
        target=f"#layer-{item.number}",
    )
