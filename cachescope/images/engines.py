"""What a Docker engine says of an image: `inspect` and `history`, as the Docker SDK returns them (attrs, history()).

The classic store knows the unpacked sizes alone. The containerd store (Docker 29's default) reports in `Size` what the
blobs weigh, so that its unpacked size is the sum of the history; the compressed size of each layer it never tells.
Defined at https://docs.docker.com/reference/api/engine/ (ImageInspect, HistoryResponseItem).
"""

from typing import Any

from cachescope.errors import TooLargeError, UnreadableInputError
from cachescope.images.instructions import HistoryEntry, match_layers, name_bare_commands
from cachescope.images.manifests import (
    LARGEST_SIZE,
    MOST_HISTORY,
    MOST_LAYERS,
    NO_HINTS,
    Hints,
    count_base,
    is_digest,
    platform_name,
)
from cachescope.images.model import Layer, MeasuredImage, PlatformImage, total


def measure_engine_image(reference: str, attrs: object, history: object, hints: Hints = NO_HINTS) -> MeasuredImage:
    """Measure an image by what an engine says of it. Raises UnreadableInputError."""
    if not isinstance(attrs, dict) or not isinstance(attrs.get("RootFS"), dict):
        raise UnreadableInputError("The engine's answer is no image: it has no RootFS.")
    diff_ids = attrs["RootFS"].get("Layers") or []
    if not isinstance(diff_ids, list) or len(diff_ids) > MOST_LAYERS or not all(is_digest(one) for one in diff_ids):
        raise UnreadableInputError("The engine's answer names no layers (RootFS.Layers).")
    entries = read_history(history, _names(attrs.get("RepoTags")))
    origins = match_layers(entries, len(diff_ids))
    sizes: list[int | None] = [
        entries[origin.entry].size_bytes if origin.entry is not None else None for origin in origins
    ]
    told = _size(attrs.get("Size"))
    if is_containerd(attrs) and not sum(entry.size_bytes or 0 for entry in entries):
        sizes = [None] * len(sizes)  # its blobs are there, but were never unpacked
    if any(entry.size_bytes for entry in entries) and total(sizes) != sum(entry.size_bytes or 0 for entry in entries):
        sizes = [None] * len(sizes)  # the history is not this image's, or its layers cannot be told apart
    unpacked = total(sizes) if is_containerd(attrs) or told is None else told
    base = count_base(diff_ids, entries, [origin.entry for origin in origins], hints)
    platform = PlatformImage(
        platform=platform_name(attrs.get("Os"), attrs.get("Architecture"), attrs.get("Variant")),
        digest=_manifest_digest(attrs),
        config_digest=attrs["Id"] if is_digest(attrs.get("Id")) and not is_containerd(attrs) else None,
        unpacked_bytes=unpacked,
        layers=tuple(
            Layer(
                diff_id=diff_id,
                instruction=origin.instruction,
                unpacked_bytes=size,
                base=None if base is None else place < base,
            )
            for place, (diff_id, origin, size) in enumerate(zip(diff_ids, origins, sizes, strict=True))
        ),
        base_image=hints.base_image,
    )
    return MeasuredImage(reference=reference, digest=_pushed_digest(attrs), platforms=(platform,))


def is_containerd(attrs: dict[str, Any]) -> bool:
    """Tell whether an engine keeps its images in containerd: an image's id is then a manifest's digest."""
    return isinstance(attrs.get("Descriptor"), dict) or not attrs.get("GraphDriver")


def read_history(rows: object, own_names: frozenset[str] = frozenset()) -> list[HistoryEntry]:
    """Read an engine's history, which begins with the newest entry, oldest first. Raises UnreadableInputError.

    Tags of the image's own repository are left out: they mark its earlier versions, which are no base.
    """
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UnreadableInputError("The engine's history is no list of entries.")
    if len(rows) > MOST_HISTORY:
        raise TooLargeError(f"The history has {len(rows):,} entries, more than {MOST_HISTORY}.")
    read = [
        HistoryEntry(
            created_by=_text(row.get("CreatedBy")),
            comment=_text(row.get("Comment"))[:1000],
            created_at=float(row["Created"]) if isinstance(row.get("Created"), int) and row["Created"] > 0 else None,
            size_bytes=_size(row.get("Size")),
            tags=tuple(tag for tag in _tags(row.get("Tags")) if own_names and _name(tag) not in own_names),
        )
        for row in reversed(rows)
    ]
    return name_bare_commands(read)


def _manifest_digest(attrs: dict[str, Any]) -> str | None:
    descriptor = attrs.get("Descriptor")
    if isinstance(descriptor, dict) and is_digest(descriptor.get("digest")):
        media = str(descriptor.get("mediaType", ""))
        return str(descriptor["digest"]) if "manifest.v" in media and "list" not in media else None
    return None


def _pushed_digest(attrs: dict[str, Any]) -> str | None:
    """The digest under which the image was pushed or pulled, where it was under one only."""
    rows = attrs.get("RepoDigests")
    known = {str(row).rpartition("@")[2] for row in rows} if isinstance(rows, list) else set()
    found = [digest for digest in known if is_digest(digest)]
    return found[0] if len(found) == 1 else None


def _size(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_SIZE else None


def _text(value: object) -> str:
    return value[: 64 * 1024].replace("\0", "") if isinstance(value, str) else ""


def _tags(rows: object) -> tuple[str, ...]:
    return tuple(str(row)[:300] for row in rows[:100]) if isinstance(rows, list) else ()


def _names(rows: object) -> frozenset[str]:
    return frozenset(_name(tag) for tag in _tags(rows))


def _name(tag: str) -> str:
    """The repository of a tag: without what follows the last colon behind the last stroke."""
    folder, stroke, last = tag.rpartition("/")
    return folder + stroke + last.partition(":")[0]
