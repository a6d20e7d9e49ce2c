"""What a way of measuring must be able to do: name an image's platforms, layers and sizes, and read its layers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cachescope.errors import CachescopeError
from cachescope.images.contents import Contents
from cachescope.images.manifests import NO_HINTS, Hints
from cachescope.images.model import MeasuredImage
from integrations.http import IPNetwork


class MeasuringError(CachescopeError):
    """An image could not be measured; `again` says whether another time may do."""

    again = False

    def __init__(self, sentence: str, *, again: bool = False, pause_seconds: float | None = None) -> None:
        super().__init__(sentence)
        self.again = again
        self.pause_seconds = pause_seconds


class ImageNotFoundError(MeasuringError):
    """There is no such image, or none that these credentials may see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Who we are at a registry."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to measure."""

    insecure: bool = False
    """Speak plain HTTP with the registry."""
    deep: bool = False
    """Read the layers too."""
    credentials: Credentials | None = None
    networks: tuple[IPNetwork, ...] = ()
    """Networks besides the public internet in which a registry may stand."""
    hints: Hints = NO_HINTS
    seconds: float = 60.0
    """How long one answer may take; reading layers has as much for each 16 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """An image's sizes, and by platform what lies in its layers where they were read."""

    image: MeasuredImage
    contents: Mapping[str, Contents] = field(default_factory=dict)


class ImageSource(Protocol):
    """One way of measuring."""

    def measure(self, reference: str, options: Options) -> Measurement:
        """Measure what a reference names. Raises MeasuringError and UnreadableInputError."""
        ...


def split_reference(reference: str) -> tuple[str, str, str]:
    """Split `registry/repository:tag` or `…@digest` as Docker does, with its defaults; raises MeasuringError."""
    text = reference.strip().removeprefix("docker://")
    if not text or len(text) > 500 or not text.isascii() or not text.isprintable() or " " in text:
        raise MeasuringError(f'"{reference[:100]}" is no reference of an image, such as ghcr.io/acme/api:1.4.')
    name, at, digest = text.partition("@")
    host, slash, rest = name.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        host, rest = "registry-1.docker.io", name
    elif host in DOCKER_HUB:
        host = "registry-1.docker.io"
    folder, slash, last = rest.rpartition("/")
    last, colon, tag = last.partition(":")
    repository = folder + slash + last
    if host == "registry-1.docker.io" and "/" not in repository:
        repository = f"library/{repository}"
    wanted = digest if at else (tag if colon else "latest")
    if not last or not wanted or not _is_path(repository) or not _is_path(wanted.replace(":", "-")):
        raise MeasuringError(f'"{reference[:100]}" is no reference of an image, such as ghcr.io/acme/api:1.4.')
    return host, repository, wanted


DOCKER_HUB = frozenset({"docker.io", "index.docker.io", "registry.hub.docker.com", "registry-1.docker.io"})


_MARKS = str.maketrans("", "", "-_.")


def _is_path(text: str) -> bool:
    return all(part.strip(".") and part.translate(_MARKS).isalnum() for part in text.split("/"))
