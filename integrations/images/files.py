"""A folder of documents kept of an image: `oci.{index,manifest,config}.json`, `*.attrs.json` and `*.history.json`.

The first three are what a registry serves, byte for byte (`docker buildx imagetools inspect --raw`); the others are
what the Docker SDK returns (`image.attrs`, `image.history()`). One file of a folder may be named instead of the folder
where it holds the image of several builders. A `buildx.metadata.json` (`docker buildx build --metadata-file`) beside
them says what the base image was called. Manifests and configurations of one index are told apart by their digests.
"""

from pathlib import Path
from urllib.parse import unquote

import orjson

from cachescope.errors import TooLargeError, UnreadableInputError
from cachescope.images.engines import measure_engine_image
from cachescope.images.manifests import (
    LARGEST_MANIFEST,
    Config,
    Descriptor,
    Hints,
    Manifest,
    digest_of,
    load_document,
    measure_document,
)
from cachescope.images.model import MeasuredImage
from integrations.images.base import Measurement, MeasuringError, Options

_LARGEST = 2 * LARGEST_MANIFEST
_MOST_FILES = 1000


class FileImages:
    """Measures what lies in a folder."""

    def measure(self, reference: str, options: Options) -> Measurement:
        """Measure an image by its documents; those of a registry come first, then those of engines by name."""
        if options.deep:
            raise MeasuringError("--deep reads layers, and a folder of documents holds none. Use --archive.")
        path = Path(reference)
        if path.is_dir():
            folder, chosen = path, None
        elif path.is_file():
            folder, chosen = path.parent, path
        else:
            raise MeasuringError(f"There is no folder or file {reference}.")
        hints = _with_metadata(options.hints, folder)
        stem = chosen.name.partition(".")[0] if chosen else None
        if stem in (None, "oci") and (found := _registry_documents(folder)):
            return Measurement(image=_measure_registry(reference, found, hints))
        for attrs in sorted(folder.glob("*.attrs.json"))[:_MOST_FILES]:
            history = attrs.with_name(attrs.name.replace(".attrs.", ".history."))
            if history.is_file() and stem in (None, attrs.name.partition(".")[0]):
                return Measurement(image=_measure_engine(reference, attrs, history, hints))
        raise MeasuringError(
            f"{reference} holds no oci.manifest.json with oci.config.json, and no *.attrs.json with *.history.json."
        )


def _registry_documents(folder: Path) -> dict[str, list[bytes]]:
    """The documents of a registry by kind; empty where no manifest is among them."""
    found = {
        kind: [_read(path) for path in sorted(folder.glob(f"oci.{kind}*.json"))[:_MOST_FILES]]
        for kind in ("index", "manifest", "config")
    }
    return found if found["manifest"] or found["index"] else {}


def _measure_registry(reference: str, documents: dict[str, list[bytes]], hints: Hints) -> MeasuredImage:
    blobs = {digest_of(content): content for kind in ("manifest", "config") for content in documents[kind]}

    def fetch(wanted: Descriptor) -> bytes:
        if wanted.digest in blobs:
            return blobs[wanted.digest]
        # A file that was written anew (other line ends, indented) has another digest: take it where it is the only one.
        kind = "config" if "config" in wanted.media_type or "container.image" in wanted.media_type else "manifest"
        if len(documents[kind]) == 1 and (kind == "config" or _is_lonely(documents)):
            return documents[kind][0]
        raise UnreadableInputError(f"The folder holds no file with the digest {wanted.digest[:19]}….")

    def known(_manifest: Manifest, _config: Config) -> Hints:
        return hints

    top = (documents["index"] or documents["manifest"])[0]
    return measure_document(reference, top, fetch, hints=known)


def _is_lonely(documents: dict[str, list[bytes]]) -> bool:
    """Whether the index names one image: its only manifest is then the one in the folder."""
    rows = load_document(documents["index"][0], "index").get("manifests") if documents["index"] else []
    platforms = [row for row in rows or [] if isinstance(row, dict) and "unknown" not in str(row.get("platform"))]
    return len(platforms) <= 1


def _measure_engine(reference: str, attrs: Path, history: Path, hints: Hints) -> MeasuredImage:
    try:
        read = [orjson.loads(_read(path)) for path in (attrs, history)]
    except orjson.JSONDecodeError as error:
        raise UnreadableInputError(f"{attrs} or {history.name} is not JSON: {str(error)[:200]}.") from error
    # `docker image inspect` prints a list of one.
    told = read[0][0] if isinstance(read[0], list) and len(read[0]) == 1 else read[0]
    return measure_engine_image(reference, told, read[1], hints)


def _with_metadata(hints: Hints, folder: Path) -> Hints:
    path = folder / "buildx.metadata.json"
    if hints.base_image is not None or not path.is_file():
        return hints
    try:
        name = base_image_of(_read(path))
    except UnreadableInputError:
        return hints
    return Hints(
        base_diff_ids=hints.base_diff_ids,
        base_layer_digests=hints.base_layer_digests,
        base_image=name,
        own_instructions=hints.own_instructions,
    )


def base_image_of(metadata: bytes) -> str | None:
    """Return the name of the base image from a build's metadata, where its provenance names only one."""
    told = load_document(metadata, "build's metadata", _LARGEST).get("buildx.build.provenance")
    rows = told.get("materials") if isinstance(told, dict) else None
    names = set()
    for row in rows if isinstance(rows, list) else []:
        uri = row.get("uri") if isinstance(row, dict) else None
        if isinstance(uri, str) and uri.startswith("pkg:docker/"):
            name, _, version = unquote(uri.removeprefix("pkg:docker/").partition("?")[0]).partition("@")
            if not name.startswith("docker/dockerfile"):
                names.add(f"{name}:{version}" if version else name)
    return names.pop() if len(names) == 1 else None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise UnreadableInputError(f"Cannot read {path}: {error.strerror or error}.") from error
    if len(content) > _LARGEST:
        raise TooLargeError(f"{path} is larger than {_LARGEST // 1024**2} MiB.")
    return content


IMAGES = FileImages()
