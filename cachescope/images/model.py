"""An image as something that has a size: platforms, layers, and the instruction that made each layer."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One filesystem diff; None is what the way of measuring cannot know."""

    digest: str | None = None
    """Of the blob as a registry keeps it."""
    diff_id: str | None = None
    """Of the unpacked tar."""
    instruction: str | None = None
    """As the image's history tells it, without what the builder wrote around it; a squashed layer has a line each."""
    compressed_bytes: int | None = None
    unpacked_bytes: int | None = None
    """The sizes of its files, as `docker history` prints them."""
    base: bool | None = None
    """Whether it came with the base image; None where nothing tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformImage:
    """One platform of an image: what a client of that platform pulls."""

    platform: str
    digest: str | None = None
    """Of its manifest."""
    config_digest: str | None = None
    """Of its configuration: what the classic engine calls the image's id. Two versions never share it."""
    compressed_bytes: int | None = None
    """Σ of the layer blobs; manifest and configuration not counted."""
    unpacked_bytes: int | None = None
    layers: tuple[Layer, ...] = ()
    """From the bottom to the top."""
    base_image: str | None = None
    """The name of the base image where something tells it."""

    @property
    def own_layers(self) -> tuple[Layer, ...]:
        """The layers that are not known to come from the base image."""
        return tuple(layer for layer in self.layers if not layer.base)

    @property
    def own_compressed_bytes(self) -> int | None:
        """The compressed size without the base image; None where the border or a size is unknown."""
        return _own(self.layers, [layer.compressed_bytes for layer in self.own_layers])

    @property
    def own_unpacked_bytes(self) -> int | None:
        """The unpacked size without the base image; None where the border or a size is unknown."""
        return _own(self.layers, [layer.unpacked_bytes for layer in self.own_layers])

    @property
    def base_share(self) -> float | None:
        """The base image's share of the compressed size, else of the unpacked size."""
        for whole, own in (
            (self.compressed_bytes, self.own_compressed_bytes),
            (self.unpacked_bytes, self.own_unpacked_bytes),
        ):
            if whole and own is not None:
                return (whole - own) / whole
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredImage:
    """What one reference names, measured one way."""

    reference: str
    digest: str | None = None
    """Of the index, or of the only manifest where there is no index."""
    platforms: tuple[PlatformImage, ...] = ()
    warnings: tuple[str, ...] = ()


def total(sizes: Iterable[int | None]) -> int | None:
    """Add sizes up; None when one of them is unknown."""
    added = 0
    for size in sizes:
        if size is None:
            return None
        added += size
    return added


def _own(layers: tuple[Layer, ...], sizes: list[int | None]) -> int | None:
    return None if any(layer.base is None for layer in layers) else total(sizes)
