"""Indexes, manifests and configurations of OCI and Docker, read with suspicion.

Defined at https://github.com/opencontainers/image-spec (index, manifest, config) and, with the same fields, by Docker's
manifest schema 2; https://docs.docker.com/build/metadata/attestations/attestation-storage/ says how BuildKit marks the
attestations that lie among the platforms of an index.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import orjson

from cachescope.errors import TooLargeError, UnreadableInputError, UnsupportedInputError
from cachescope.images.bases import count_base_entries, count_base_layers
from cachescope.images.instructions import HistoryEntry, match_layers, name_bare_commands
from cachescope.images.model import Layer, MeasuredImage, PlatformImage, total

LARGEST_MANIFEST = 4 * 1024 * 1024
"""In bytes, as registries themselves limit it; a configuration may have twice as many."""
MOST_LAYERS = 4096
MOST_PLATFORMS = 256
MOST_HISTORY = 16_384
LARGEST_SIZE = 1 << 50
"""A petabyte: a descriptor that says more lies."""

INDEX_TYPES = frozenset(
    {"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"}
)
MANIFEST_TYPES = frozenset(
    {"application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"}
)
CONFIG_TYPES = frozenset({"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"})
ACCEPT = ", ".join(sorted(INDEX_TYPES | MANIFEST_TYPES))
"""What a client asks a registry for."""
BASE_DIGEST = "org.opencontainers.image.base.digest"
BASE_NAME = "org.opencontainers.image.base.name"

_DIGEST = re.compile(r"sha(?:256:[0-9a-f]{64}|512:[0-9a-f]{128})")
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d{1,9})?(Z|[+-]\d\d:\d\d)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """What points to a blob: its type, digest and size."""

    media_type: str
    digest: str
    size_bytes: int
    platform: str | None = None
    is_attestation: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One platform's manifest."""

    digest: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    base_digest: str | None = None
    base_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One platform's configuration, as far as sizes need it."""

    platform: str
    diff_ids: tuple[str, ...]
    history: tuple[HistoryEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """What is known of an image from elsewhere."""

    base_diff_ids: Sequence[str] | None = None
    """The layers of its base image, from the bottom."""
    base_layer_digests: Sequence[str] | None = None
    """The blobs of its base image, from the bottom."""
    base_image: str | None = None
    own_instructions: int | None = None
    """How many instructions the last stage of its Dockerfile has below FROM."""


NO_HINTS = Hints()


def digest_of(content: bytes) -> str:
    """Return the digest of a blob."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def is_digest(text: object) -> bool:
    """Tell whether a text is a digest as registries write them."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def load_document(content: bytes, what: str, cap_bytes: int = LARGEST_MANIFEST) -> dict[str, Any]:
    """Return a JSON object; raises TooLargeError past the cap and UnreadableInputError for anything else."""
    if len(content) > cap_bytes:
        raise TooLargeError(f"The {what} is larger than {cap_bytes // 1024**2} MiB, which none needs to be.")
    try:
        found = orjson.loads(content.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        raise UnreadableInputError(f"The {what} is not JSON: {str(error)[:200]}.") from error
    if not isinstance(found, dict):
        raise UnreadableInputError(f"The {what} is JSON, but no object.")
    return found


def is_index(document: dict[str, Any]) -> bool:
    """Tell an index from a manifest."""
    media = document.get("mediaType")
    return media in INDEX_TYPES or (media not in MANIFEST_TYPES and isinstance(document.get("manifests"), list))


def check_manifest_type(document: dict[str, Any], media_type: str | None) -> None:
    """Raise UnsupportedInputError for what is neither an index nor a manifest of an image."""
    told = document.get("mediaType") or (media_type or "").partition(";")[0].strip()
    if document.get("schemaVersion") == 1:
        raise UnsupportedInputError(
            "This is a manifest of Docker's schema 1, which says no sizes. Push it again with a builder of today."
        )
    if told and told not in INDEX_TYPES | MANIFEST_TYPES | {"application/json"}:
        raise UnsupportedInputError(
            f'The media type "{str(told)[:120]}" is no image. Known: {", ".join(sorted(INDEX_TYPES | MANIFEST_TYPES))}.'
        )


def read_index(document: dict[str, Any]) -> list[Descriptor]:
    """Return the manifests of an index, attestations among them."""
    rows = document.get("manifests")
    if not isinstance(rows, list):
        raise UnreadableInputError('The index has no list "manifests".')
    if len(rows) > MOST_PLATFORMS:
        raise TooLargeError(f"The index names {len(rows):,} manifests, more than {MOST_PLATFORMS}.")
    return [_descriptor(row) for row in rows]


def read_manifest(document: dict[str, Any], digest: str) -> Manifest:
    """Return a manifest's configuration and layers. Raises UnreadableInputError."""
    layers = document.get("layers")
    if not isinstance(layers, list):
        raise UnreadableInputError('The manifest has no list "layers".')
    if len(layers) > MOST_LAYERS:
        raise TooLargeError(f"The manifest names {len(layers):,} layers, more than {MOST_LAYERS}.")
    config = _descriptor(document.get("config"))
    artifact = document.get("artifactType")
    if config.media_type not in CONFIG_TYPES or isinstance(artifact, str):
        kind = artifact if isinstance(artifact, str) else config.media_type
        raise UnsupportedInputError(f'The manifest is no image: its configuration is "{kind[:120]}".')
    told = document.get("annotations")
    annotations = told if isinstance(told, dict) else {}
    base_digest = annotations.get(BASE_DIGEST)
    return Manifest(
        digest=digest,
        config=config,
        layers=tuple(_descriptor(layer) for layer in layers),
        base_digest=base_digest if is_digest(base_digest) else None,
        base_name=_text(annotations.get(BASE_NAME), 300),
    )


def read_config(document: dict[str, Any]) -> Config:
    """Return a configuration's platform, layers and history. Raises UnreadableInputError."""
    rootfs = document.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if diff_ids is None and isinstance(rootfs, dict):
        diff_ids = []
    if not isinstance(diff_ids, list) or len(diff_ids) > MOST_LAYERS or not all(is_digest(one) for one in diff_ids):
        raise UnreadableInputError("The configuration names no layers (rootfs.diff_ids): this is no image.")
    rows = document.get("history")
    rows = rows if isinstance(rows, list) else []
    if len(rows) > MOST_HISTORY:
        raise TooLargeError(f"The history has {len(rows):,} entries, more than {MOST_HISTORY}.")
    return Config(
        platform=platform_name(document.get("os"), document.get("architecture"), document.get("variant")),
        diff_ids=tuple(diff_ids),
        history=tuple(name_bare_commands([_entry(row) for row in rows if isinstance(row, dict)])),
    )


def platform_name(system: object, architecture: object, variant: object = None) -> str:
    """Write a platform as Docker does: `linux/arm/v7`."""
    words = [_text(word, 40) for word in (system, architecture, variant)]
    return "/".join(word for word in words if word) or "unknown"


def measure_platform(manifest: Manifest, config: Config | None, hints: Hints = NO_HINTS) -> PlatformImage:
    """Bring a manifest and its configuration together."""
    blobs = manifest.layers
    diff_ids: Sequence[str | None] = config.diff_ids if config else ()
    # A configuration of other layers than the manifest's is none of this image.
    fits = config is not None and len(diff_ids) == len(blobs)
    if config is None or not fits:
        config, diff_ids = None, [None] * len(blobs)
    history = config.history if config else ()
    origins = match_layers(history, len(blobs))
    base = None
    if hints.base_layer_digests is not None:
        base = count_base_layers([blob.digest for blob in blobs], hints.base_layer_digests)
    base = count_base(diff_ids, history, [origin.entry for origin in origins], hints) if base is None else base
    return PlatformImage(
        platform=config.platform if config else "unknown",
        digest=manifest.digest,
        config_digest=manifest.config.digest,
        compressed_bytes=sum(blob.size_bytes for blob in blobs),
        unpacked_bytes=None,
        layers=tuple(
            Layer(
                digest=blob.digest,
                diff_id=diff_id,
                instruction=origin.instruction,
                compressed_bytes=blob.size_bytes,
                base=None if base is None else place < base,
            )
            for place, (blob, diff_id, origin) in enumerate(zip(blobs, diff_ids, origins, strict=True))
        ),
        base_image=hints.base_image or manifest.base_name,
    )


def count_base(
    diff_ids: Sequence[str | None],
    history: Sequence[HistoryEntry],
    entries: Sequence[int | None],
    hints: Hints,
) -> int | None:
    """Return how many layers came with the base image: by its layers where they are known, else by the history."""
    known = count_base_layers(diff_ids, hints.base_diff_ids)
    if known is not None:
        return known
    border = count_base_entries(history, hints.own_instructions)
    if border is None or any(entry is None for entry in entries):
        return None
    return sum(entry is not None and entry < border for entry in entries)


Fetch = Callable[[Descriptor], bytes]
"""Returns the content of a manifest or configuration; raises what its source raises."""


def measure_document(
    reference: str,
    content: bytes,
    fetch: Fetch,
    *,
    media_type: str | None = None,
    digest: str | None = None,
    hints: Callable[[Manifest, Config], Hints] = lambda _manifest, _config: NO_HINTS,
) -> MeasuredImage:
    """Measure what a reference led to, an index or a manifest; `fetch` brings what these point to.

    Attestations are no platforms. A platform that cannot be fetched is listed without sizes, and a warning says why.
    """
    document = load_document(content, "manifest")
    check_manifest_type(document, media_type)
    digest = digest or digest_of(content)
    if not is_index(document):
        platform, warning = _measure_one(read_manifest(document, digest), fetch, hints)
        return MeasuredImage(
            reference=reference, digest=digest, platforms=(platform,), warnings=(warning,) if warning else ()
        )
    platforms, warnings = [], []
    for row in read_index(document):
        if row.is_attestation or row.media_type not in MANIFEST_TYPES:
            continue
        try:
            inner = load_document(fetch(row), "manifest")
            check_manifest_type(inner, row.media_type)
            manifest = read_manifest(inner, row.digest)
        except UnsupportedInputError:
            continue  # a signature, a chart, …: no image
        except UnreadableInputError as error:
            warnings.append(f"{row.platform or row.digest[:19]}: {error}")
            platforms.append(PlatformImage(platform=row.platform or "unknown", digest=row.digest))
            continue
        platform, warning = _measure_one(manifest, fetch, hints, row.platform)
        warnings += [warning] if warning else []
        platforms.append(platform)
    return MeasuredImage(reference=reference, digest=digest, platforms=tuple(platforms), warnings=tuple(warnings))


def _measure_one(
    manifest: Manifest,
    fetch: Fetch,
    hints: Callable[[Manifest, Config], Hints],
    platform: str | None = None,
) -> tuple[PlatformImage, str | None]:
    config, warning = None, None
    try:
        config = read_config(load_document(fetch(manifest.config), "configuration", 2 * LARGEST_MANIFEST))
        if len(config.diff_ids) != len(manifest.layers):
            warning = "The configuration and the manifest name different numbers of layers."
    except UnreadableInputError as error:
        warning = str(error)
    measured = measure_platform(manifest, config, hints(manifest, config) if config else NO_HINTS)
    if platform and measured.platform == "unknown":
        measured = replace(measured, platform=platform)
    return measured, f"{measured.platform}: {warning}" if warning else None


def with_unpacked(platform: PlatformImage, sizes: Sequence[int | None]) -> PlatformImage:
    """Add the unpacked size of each layer, from the bottom."""
    layers = tuple(replace(layer, unpacked_bytes=size) for layer, size in zip(platform.layers, sizes, strict=True))
    return replace(platform, unpacked_bytes=total(sizes), layers=layers)


def _descriptor(row: Any) -> Descriptor:
    match row:
        case {"mediaType": str(media_type), "digest": str(digest), "size": int(size)} if (
            is_digest(digest) and 0 <= size <= LARGEST_SIZE and not isinstance(size, bool)
        ):
            told = row.get("annotations")
            annotations = told if isinstance(told, dict) else {}
            platform = row.get("platform")
            named = None
            if isinstance(platform, dict):
                named = platform_name(platform.get("os"), platform.get("architecture"), platform.get("variant"))
            return Descriptor(
                media_type=media_type[:200],
                digest=digest,
                size_bytes=size,
                platform=named,
                is_attestation="attestation" in str(annotations.get("vnd.docker.reference.type", ""))
                or named == "unknown/unknown",
            )
    raise UnreadableInputError("A descriptor lacks its mediaType, its digest or its size.")


def _entry(row: dict[str, Any]) -> HistoryEntry:
    return HistoryEntry(
        created_by=_text(row.get("created_by"), 64 * 1024) or "",
        comment=_text(row.get("comment"), 1000) or "",
        created_at=read_time(row.get("created")),
        is_empty=bool(row.get("empty_layer", False)),
    )


def read_time(text: object) -> float | None:
    """Return an RFC 3339 time in epoch seconds."""
    found = _TIME.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    try:
        moment = datetime.fromisoformat(found[1] + ("+00:00" if found[2] == "Z" else found[2])).timestamp()
    except (ValueError, OverflowError):
        return None
    return moment if moment > 0 else None  # year 0001 is how "unknown" is written


def _text(value: object, longest: int) -> str | None:
    return value[:longest].replace("\0", "") if isinstance(value, str) and value else None
