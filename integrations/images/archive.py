"""Image archives: `docker save`, `podman save`, OCI layouts as a tar or a folder, plain or packed with gzip or zstd.

The layouts are defined at https://github.com/opencontainers/image-spec/blob/main/image-layout.md and, for the older
`manifest.json` beside `<id>/layer.tar`, at https://github.com/moby/docker-image-spec. Nothing is ever extracted; a
packed archive is unpacked to a temporary file, under a cap, because its layers stand in no order.
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Protocol

import orjson

from cachescope.errors import TooLargeError, UnreadableInputError
from cachescope.images.contents import ContentReader, Contents
from cachescope.images.instructions import match_layers
from cachescope.images.manifests import (
    LARGEST_MANIFEST,
    MOST_LAYERS,
    MOST_PLATFORMS,
    NO_HINTS,
    Config,
    Descriptor,
    Hints,
    Manifest,
    count_base,
    digest_of,
    load_document,
    measure_document,
    read_config,
    read_index,
    with_unpacked,
)
from cachescope.images.model import Layer, MeasuredImage, PlatformImage
from cachescope.images.tars import BLOCK, FILE, HARD_LINK, SYMBOLIC_LINK, Source, Tar, Unpacked, is_header
from integrations.images.base import Measurement, MeasuringError, Options

LARGEST_ARCHIVE = 64 << 30
_LARGEST_DOCUMENT = 2 * LARGEST_MANIFEST
_MOST_MEMBERS = 100_000
_PIECE = 1 << 20
_RATIO_CAP = 60
_FREE_BYTES = 256 << 20
"""A packed archive may fill so much of the disk whatever its size, and 60 times its size: images pack two to five."""
_WINDOW = 64 * 1024
_PACKED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")


class Members(Protocol):
    """The files of an archive by name."""

    def names(self) -> Iterable[str]:
        """All names."""
        ...

    def size(self, name: str) -> int | None:
        """The size of one; None where it is not there."""
        ...

    def plain(self, name: str) -> Source | None:
        """The contents of one that is a tar of its own; None for any other."""
        ...

    def pieces(self, name: str) -> Iterator[bytes]:
        """The contents of one."""
        ...


class _Region:
    """A part of a file, read forwards; skipping is seeking."""

    def __init__(self, file: IO[bytes], at: int, size: int) -> None:
        self._file = file
        self.at = at
        self._end = at + size
        self._window = b""
        self._window_at = at

    def read(self, size: int) -> bytes:
        first = self.at - self._window_at
        size = min(size, self._end - self.at)
        if not 0 <= first <= len(self._window) - size:
            self._file.seek(self.at)
            self._window = self._file.read(max(size, min(_WINDOW, self._end - self.at)))
            self._window_at, first = self.at, 0
        found = self._window[first : first + size]
        self.at += len(found)
        return found

    def skip(self, size: int) -> int:
        end = min(self.at + size, self._end)
        skipped, self.at = end - self.at, end
        return skipped


class TarMembers:
    """An archive that is a tar in a file: where each member lies is looked up once."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._places: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        whole = _Region(file, 0, file.seek(0, 2))
        for number, entry in enumerate(Tar(whole)):
            if number >= _MOST_MEMBERS:
                raise TooLargeError(f"The archive has more than {_MOST_MEMBERS:,} members: it is no image.")
            name = _plain(entry.name)
            if entry.kind is FILE:
                self._places[name] = (whole.at, entry.stored)
            elif entry.kind in (SYMBOLIC_LINK, HARD_LINK) and entry.link:
                # `docker save` writes a layer that two images share once, and links to it: `../<id>/layer.tar`.
                folder = name.rpartition("/")[0] if entry.kind is SYMBOLIC_LINK else ""
                self._links[name] = _joined(folder, entry.link)

    def _place(self, name: str) -> tuple[int, int] | None:
        name = _plain(name)
        for _ in range(8):
            if name in self._places:
                return self._places[name]
            if name not in self._links:
                return None
            name = self._links[name]
        return None

    def names(self) -> Iterable[str]:
        """All names."""
        return list(self._places)

    def size(self, name: str) -> int | None:
        """The size of one; None where it is not there."""
        place = self._place(name)
        return place[1] if place else None

    def plain(self, name: str) -> Source | None:
        """The contents of one that is a tar of its own; None for any other."""
        place = self._place(name)
        if place is None:
            return None
        self._file.seek(place[0])
        return _Region(self._file, *place) if is_header(self._file.read(min(BLOCK, place[1]))) else None

    def pieces(self, name: str) -> Iterator[bytes]:
        """The contents of one."""
        place = self._place(name)
        if place is None:
            raise UnreadableInputError(f"The archive lacks {name[:100]}.")
        at, left = place
        while left:
            self._file.seek(at)
            piece = self._file.read(min(_PIECE, left))
            if not piece:
                raise UnreadableInputError("The archive ends too early: it was cut.")
            at += len(piece)
            left -= len(piece)
            yield piece


class FolderMembers:
    """An OCI layout as a folder; nothing outside of it is read."""

    def __init__(self, folder: Path, opened: ExitStack) -> None:
        self._folder = folder.resolve()
        self._opened = opened

    def _path(self, name: str) -> Path | None:
        path = (self._folder / _plain(name)).resolve()
        return path if path.is_relative_to(self._folder) and path.is_file() else None

    def names(self) -> Iterable[str]:
        """The names that a layout has in any case."""
        return [name for name in ("oci-layout", "index.json", "manifest.json") if self._path(name)]

    def size(self, name: str) -> int | None:
        """The size of one; None where it is not there."""
        path = self._path(name)
        return path.stat().st_size if path else None

    def plain(self, name: str) -> Source | None:
        """The contents of one that is a tar of its own; None for any other."""
        path = self._path(name)
        if path is None:
            return None
        file = self._opened.enter_context(path.open("rb"))
        return _Region(file, 0, path.stat().st_size) if is_header(file.read(BLOCK)) else None

    def pieces(self, name: str) -> Iterator[bytes]:
        """The contents of one."""
        path = self._path(name)
        if path is None:
            raise UnreadableInputError(f"The folder lacks {name[:100]}.")
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                yield piece


def _plain(name: str) -> str:
    return _joined("", name)


def _joined(folder: str, name: str) -> str:
    parts: list[str] = []
    for part in [*folder.split("/"), *name.split("/")]:
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


class ArchiveImages:
    """Measures images in a file."""

    def measure(self, reference: str, options: Options) -> Measurement:
        """Measure the image of an archive; one that holds several is asked for by `file.tar#name:tag`."""
        path, mark, name = reference.rpartition("#")
        if not mark or (not Path(path).exists() and Path(reference).exists()):
            path, name = reference, ""
        return read_archive(reference, path, name or None, deep=options.deep, hints=options.hints)


def read_archive(
    reference: str, path: str, name: str | None = None, *, deep: bool = False, hints: Hints = NO_HINTS
) -> Measurement:
    """Measure the image in a file or folder. Raises MeasuringError and UnreadableInputError."""
    try:
        with open_members(Path(path)) as members:
            return _read(members, reference, name, deep=deep, hints=hints)
    except OSError as error:
        raise MeasuringError(f"Cannot read {path}: {error.strerror or error}.") from error


@contextmanager
def open_members(path: Path) -> Iterator[Members]:
    """Open an archive; raises OSError and UnreadableInputError."""
    if path.is_dir():
        with ExitStack() as opened:
            yield FolderMembers(path, opened)
        return
    with path.open("rb") as file:
        head = file.read(512)
        file.seek(0)
        if is_header(head):
            yield TarMembers(file)
            return
        if not head.startswith(_PACKED):
            raise UnreadableInputError(f"{path} is no image archive: neither a tar nor one packed with gzip or zstd.")
        cap_bytes = min(LARGEST_ARCHIVE, max(_FREE_BYTES, _RATIO_CAP * path.stat().st_size))
        with tempfile.TemporaryFile(prefix="cachescope-") as plain:
            for piece in Unpacked(iter(lambda: file.read(_PIECE), b""), cap_bytes, "archive"):
                plain.write(piece)
            plain.seek(0)
            yield TarMembers(plain)


def _read(members: Members, reference: str, name: str | None, *, deep: bool, hints: Hints) -> Measurement:
    if members.size("index.json") is not None:
        return _read_layout(members, reference, name, deep=deep, hints=hints)
    if members.size("manifest.json") is not None:
        return _read_saved(members, reference, name, deep=deep, hints=hints)
    raise UnreadableInputError("This is no image archive: it holds neither index.json nor manifest.json.")


def _content(members: Members, name: str) -> bytes:
    size = members.size(name)
    if size is None:
        raise UnreadableInputError(f"The archive lacks {name[:100]}.")
    if size > _LARGEST_DOCUMENT:
        raise TooLargeError(f"{name[:100]} of the archive has {size:,} bytes: too many for a document.")
    return b"".join(members.pieces(name))


def _blob(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/", 1)


def _read_layout(members: Members, reference: str, name: str | None, *, deep: bool, hints: Hints) -> Measurement:
    content = _content(members, "index.json")
    document = load_document(content, "index.json")
    rows = [row for row in document.get("manifests") or [] if isinstance(row, dict)][:MOST_PLATFORMS]
    names = [_names(row) for row in rows]
    chosen = [row for row, known in zip(rows, names, strict=True) if name is None or name in known]
    if not chosen:
        known = sorted(word for words in names for word in words)
        raise MeasuringError(f'The archive holds no image "{(name or "")[:100]}". It holds: {", ".join(known)[:500]}.')
    distinct = {str(row.get("digest")) for row in chosen if "platform" not in row}
    if len(distinct) > 1 and name is None:
        example = min((word for words in names for word in words), default="name")
        raise MeasuringError(f"The archive holds several images: name one, such as {reference}#{example}.")
    top, digest = content, None
    if len({str(row.get("digest")) for row in chosen}) == 1:
        row = read_index({"manifests": chosen[:1]})[0]
        top, digest = _content(members, _blob(row.digest)), row.digest

    def fetch(wanted: Descriptor) -> bytes:
        return _content(members, _blob(wanted.digest))

    def known_hints(_manifest: Manifest, _config: Config) -> Hints:
        return hints

    image = measure_document(reference, top, fetch, digest=digest, hints=known_hints)
    is_saved = members.size("manifest.json") is not None
    return _with_contents(members, image, is_saved=is_saved, deep=deep)


def _names(row: dict[str, Any]) -> set[str]:
    told = row.get("annotations")
    annotations = told if isinstance(told, dict) else {}
    keys = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
    return {str(annotations[key])[:300] for key in keys if key in annotations}


def _with_contents(members: Members, image: MeasuredImage, *, is_saved: bool, deep: bool) -> Measurement:
    platforms, contents = [], {}
    for platform in image.platforms:
        if not all(layer.digest and members.size(_blob(layer.digest)) is not None for layer in platform.layers):
            platforms.append(platform)  # `docker save` of one platform keeps the index of all
            continue

        names = [_blob(layer.digest or "") for layer in platform.layers]
        sizes, held = _read_layers(members, platform, names)
        if deep:
            contents[platform.platform] = held
        # `docker save` writes the layers of the classic store unpacked: that is not what a registry keeps of them.
        if is_saved and all(layer.digest == layer.diff_id for layer in platform.layers):
            platform = replace(
                platform,
                digest=None,
                compressed_bytes=None,
                layers=tuple(replace(layer, digest=None, compressed_bytes=None) for layer in platform.layers),
            )
        platforms.append(with_unpacked(platform, sizes))
    whole = [platform for platform in platforms if platform.unpacked_bytes is not None]
    digest = image.digest if all(platform.digest for platform in platforms) else None
    # What an archive lacks was not saved: it is no platform of the archive.
    return Measurement(image=replace(image, digest=digest, platforms=tuple(whole or platforms)), contents=contents)


def _read_layers(members: Members, platform: PlatformImage, names: Sequence[str]) -> tuple[list[int | None], Contents]:
    reader = ContentReader()
    sizes: list[int | None] = []
    for place, name in enumerate(names):
        source = members.plain(name)
        if source is not None:
            sizes.append(reader.read_plain_layer(place, source))
        else:
            sizes.append(reader.read_layer(place, members.pieces(name)))
    return sizes, reader.report([layer.base for layer in platform.layers])


def _read_saved(members: Members, reference: str, name: str | None, *, deep: bool, hints: Hints) -> Measurement:
    try:
        rows = orjson.loads(_content(members, "manifest.json"))
    except orjson.JSONDecodeError as error:
        raise UnreadableInputError(f"manifest.json of the archive is not JSON: {str(error)[:200]}.") from error
    known = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    chosen = [row for row in known if name is None or name in (row.get("RepoTags") or [])]
    if len(chosen) != 1:
        tags = sorted(str(tag) for row in known for tag in row.get("RepoTags") or [])
        held = ", ".join(tags)[:500] or "no tags"
        raise MeasuringError(
            f'The archive holds no image "{(name or "")[:100]}". It holds: {held}.'
            if not chosen
            else f"The archive holds {len(chosen)} images: name one, such as {reference}#{(tags or ['name'])[0]}."
        )
    match chosen[0]:
        case {"Config": str(config_name), "Layers": list(layer_names)} if len(layer_names) <= MOST_LAYERS:
            pass
        case _:
            raise UnreadableInputError("manifest.json of the archive names no Config and no Layers.")
    content = _content(members, config_name)
    config = read_config(load_document(content, "configuration", _LARGEST_DOCUMENT))
    if len(config.diff_ids) != len(layer_names):
        raise UnreadableInputError("The configuration of the archive and its manifest.json name different layers.")
    origins = match_layers(config.history, len(config.diff_ids))
    base = count_base(config.diff_ids, config.history, [origin.entry for origin in origins], hints)
    platform = PlatformImage(
        platform=config.platform,
        config_digest=digest_of(content),
        layers=tuple(
            Layer(
                diff_id=diff_id,
                instruction=origin.instruction,
                base=None if base is None else place < base,
            )
            for place, (diff_id, origin) in enumerate(zip(config.diff_ids, origins, strict=True))
        ),
        base_image=hints.base_image,
    )
    sizes, held_contents = _read_layers(members, platform, [str(layer_name) for layer_name in layer_names])
    image = MeasuredImage(reference=reference, platforms=(with_unpacked(platform, sizes),))
    contents = {platform.platform: held_contents} if deep else {}
    return Measurement(image=image, contents=contents)


IMAGES = ArchiveImages()
