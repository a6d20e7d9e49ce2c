"""BuildKit's build records: `.dockerbuild` archives, `buildx history inspect` and metadata files.

A `.dockerbuild` (`buildx history export`, Docker's build summary in GitHub Actions) is a tar, often in gzip, of an OCI
layout: `index.json`, a manifest per build, its config the history record (JSON), a layer with the status stream
(protobuf messages, each behind its length). `history inspect --format json` and `--metadata-file` are one JSON object:

    {"Name": "turnstile", "Ref": "ha1k…", "StartedAt": "2026-11-23T17:07:28.1885Z", "Status": "completed", …}
    {"buildx.build.ref": "ci/ci0/p4sk…", "containerimage.digest": "sha256:a417…", "image.name": "registry/app:1"}

Written by github.com/docker/buildx (commands/history, util/desktop/bundle). Nothing is unpacked by name: members are
looked up by the digests that the index names.
"""

import io
import re
import struct
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, unquote

import orjson

from cachescope.errors import TooLargeError, UnreadableInputError
from cachescope.formats._buildkit import TEXT_CAP, is_cancellation
from cachescope.formats._solve_status import StatusStream, read_time
from cachescope.formats._wire import read_status
from cachescope.formats.base import LogParser
from cachescope.model import BaseImage, Build, BuiltImage, Outcome, StepStatus
from cachescope.prefixes.base import LinePrefix

SIZE_CAP = 24 * 1024 * 1024
"""A record is kept in memory whole, packed and unpacked, up to here; its logs are clipped by the builder."""
_MEMBER_CAP = 10_000
_RECORD_CAP = 1_000
_DEPTH = 4
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_DOCUMENT = re.compile(rb"\s{0,64}\{")
_DOCUMENT_KEYS = re.compile(
    rb'"(?:buildx\.build\.(?:ref|provenance)[^"\n]{0,64}|containerimage\.[a-z.]{1,32}|NumCompletedSteps|NumTotalSteps)"\s{0,4}:|"Ref"\s{0,4}:\s{0,4}"[a-z0-9]{25}"'
)
_STATUS = "application/vnd.buildkit.status.v0"
_RECORD = "application/vnd.buildkit.historyrecord.v0"
_OUTCOMES = {
    "completed": Outcome.SUCCEEDED,
    "failed": Outcome.FAILED,
    "error": Outcome.FAILED,
    "canceled": Outcome.CANCELED,
    "running": Outcome.INCOMPLETE,
}


class _BuildkitRecord:
    needles = ()

    def sniff(self, head: bytes, prefix: LinePrefix) -> float:
        """Return 0: records are no lines of text."""
        return 0.0

    def parser(self, prefix: LinePrefix) -> LogParser:
        """Raise LookupError: nobody asks a format that claims no log."""
        raise LookupError("A build record is no text of lines: read_document() reads it.")

    def claims(self, head: bytes) -> bool:
        """Tell whether a file that begins so is an archive of records or one of buildx's JSON documents."""
        if head[:2] == b"\x1f\x8b":
            head = _unzip_head(head)
        if head[257:262] == b"ustar":
            name = head[:100].rstrip(b"\0")
            return name.removeprefix(b"./").startswith((b"blobs/", b"index.json", b"oci-layout"))
        return (
            _DOCUMENT.match(head) is not None
            and not head.lstrip().startswith(b'{"vertexes"')
            and (_DOCUMENT_KEYS.search(head[: 64 * 1024]) is not None)
        )

    def read_document(self, content: bytes) -> list[tuple[str | None, Build]]:
        """Read the builds of an archive or document, each with its member's name (the digest of its manifest).

        Raises UnreadableInputError for what only looks like one, TooLargeError past 24 MiB.
        """
        if len(content) > SIZE_CAP:
            raise TooLargeError(f"The build record is larger than {SIZE_CAP // 1024**2} MiB.")
        if content[:2] == b"\x1f\x8b":
            content = _unzip(content)
        if content[257:262] == b"ustar":
            return list(_archive(content))
        return [(None, build) for build in _document(content)]


FORMAT = _BuildkitRecord()


def read_attributes(content: bytes) -> list[dict[str, str]]:
    """Return what each build of a record was asked for, by the names that BuildKit's frontend gives its options.

    Reads archives, metadata files and provenance (SLSA 0.2 and 1, also within an in-toto statement). A provenance that
    leaves the build arguments out (`mode=min`) counts for nothing, and so does what `buildx history inspect` prints:
    it does not tell `--no-cache-filter`. Raises UnreadableInputError for what is no JSON object and no archive,
    TooLargeError past 24 MiB.
    """
    if len(content) > SIZE_CAP:
        raise TooLargeError(f"The build record is larger than {SIZE_CAP // 1024**2} MiB.")
    if content[:2] == b"\x1f\x8b":
        content = _unzip(content)
    if content[257:262] == b"ustar":
        blobs = _Blobs(content)
        records = [
            blobs.json(manifest.get("config")) for _, manifest in _manifests(blobs, blobs.by_name("index.json"), _DEPTH)
        ]
        return [_texts(record.get("FrontendAttrs")) for record in records[:_RECORD_CAP]]
    document = _object(content)
    if not document:
        raise UnreadableInputError("The file is no build record: neither an archive nor a JSON object.")
    answers = [document, *(answer for answer in document.values() if isinstance(answer, dict))]
    found = [_provenance_attributes(answer.get("buildx.build.provenance", answer)) for answer in answers]
    return [attributes for attributes in found if attributes]


def _provenance_attributes(document: object) -> dict[str, str]:
    """Return the options that a provenance tells; {} where it leaves some out."""
    predicate = document.get("predicate", document) if isinstance(document, dict) else None
    old = _member(predicate, "invocation", "parameters", "args")
    new = _member(predicate, "buildDefinition", "externalParameters", "request", "args")
    found = _texts(old if old is not None else new)
    details = _member(predicate, "runDetails", "metadata", "buildkit_completeness", "request")
    is_complete = details is True or _member(predicate, "metadata", "completeness", "parameters") is True
    return found if is_complete or any(name.startswith("build-arg:") for name in found) else {}


def _member(document: object, *names: str) -> object:
    for name in names:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _texts(document: object) -> dict[str, str]:
    pairs = list(document.items())[:_RECORD_CAP] if isinstance(document, dict) else []
    return {name[:TEXT_CAP]: value[:TEXT_CAP] for name, value in pairs if isinstance(value, str)}


def _unzip_head(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(head, 64 * 1024)
    except zlib.error:
        return b""


def _unzip(content: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpacker.decompress(content, SIZE_CAP + 1)
    except zlib.error as error:
        raise UnreadableInputError(f"The build record is no valid gzip: {error}.") from error
    if len(unpacked) > SIZE_CAP:
        raise TooLargeError(f"The build record unpacks to more than {SIZE_CAP // 1024**2} MiB.")
    return unpacked


def _archive(content: bytes) -> Iterator[tuple[str | None, Build]]:
    blobs = _Blobs(content)
    manifests = list(_manifests(blobs, blobs.by_name("index.json"), _DEPTH))
    if not manifests:
        raise UnreadableInputError("The archive holds no build record.")
    for digest, manifest in manifests[:_RECORD_CAP]:
        record = blobs.json(manifest.get("config"))
        yield digest, _record_build(record, _status_messages(blobs, manifest))


class _Blobs:
    """The members of an archive, found by name."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._places: dict[str, tuple[int, int]] = {}
        try:
            with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
                for member in archive:
                    if member.isfile() and len(self._places) < _MEMBER_CAP:
                        self._places[member.name.removeprefix("./")] = (member.offset_data, member.size)
        except (tarfile.TarError, ValueError, EOFError) as error:
            if not self._places:
                raise UnreadableInputError(f"The build record is no valid archive: {error}.") from error

    def by_name(self, name: str) -> dict[str, Any]:
        start, size = self._places.get(name, (0, 0))
        return _object(self._content[start : start + size])

    def read(self, descriptor: object) -> bytes:
        """Return the blob that a descriptor names."""
        digest = descriptor.get("digest") if isinstance(descriptor, dict) else None
        match = _DIGEST.fullmatch(digest) if isinstance(digest, str) else None
        start, size = self._places.get(f"blobs/sha256/{match[1]}", (0, 0)) if match else (0, 0)
        return self._content[start : start + size]

    def json(self, descriptor: object) -> dict[str, Any]:
        return _object(self.read(descriptor))


def _manifests(blobs: _Blobs, index: dict[str, Any], depth: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the manifests of build records in the order of the index, also of an index inside the index."""
    entries = index.get("manifests")
    if depth == 0 or not isinstance(entries, list):
        return
    for entry in entries[:_RECORD_CAP]:
        manifest = blobs.json(entry)
        config = manifest.get("config")
        if isinstance(config, dict) and config.get("mediaType") == _RECORD:
            yield str(entry.get("digest")), manifest
        else:
            yield from _manifests(blobs, manifest, depth - 1)


def _status_messages(blobs: _Blobs, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    layers = manifest.get("layers")
    for layer in layers if isinstance(layers, list) else []:
        if isinstance(layer, dict) and layer.get("mediaType") == _STATUS:
            content, at = blobs.read(layer), 0
            while at + 4 <= len(content):
                (size,) = struct.unpack_from("<I", content, at)
                yield read_status(content[at + 4 : at + 4 + size])
                at += 4 + size


def _record_build(record: dict[str, Any], messages: Iterator[dict[str, Any]]) -> Build:
    stream = StatusStream("buildkit-record", is_one=True)
    for number, message in enumerate(messages, 1):
        stream.take(message, number)
    found = stream.found()
    if found:
        build = found[0].build
        # The stream of a record announces vertices in no order: when they began is the next best.
        ordered = sorted(build.steps, key=lambda step: (step.started_seconds or 0.0, step.index or 0))
        steps = tuple(replace(step, line=None) for step in ordered)
        build = replace(build, steps=steps, line=None)
    else:
        build = Build(builder="buildkit", format="buildkit-record", outcome=Outcome.INCOMPLETE)
    failure = record.get("error")
    error = failure.get("message") if isinstance(failure, dict) else None
    started, completed = _proto_time(record.get("CreatedAt")), _proto_time(record.get("CompletedAt"))
    outcome = build.outcome
    if isinstance(error, str) and error:
        outcome = Outcome.CANCELED if is_cancellation(error) or failure == 1 else Outcome.FAILED
    elif completed is not None and not any(step.status is StepStatus.FAILED and step.cacheable for step in build.steps):
        outcome = Outcome.SUCCEEDED
    images, exported = build.images, tuple(_exported(record))
    if len(images) == len(exported) == 1 and not images[0].tags:
        # The stream tells the digest, the record the name it was exported under.
        images = (replace(images[0], tags=exported[0].tags),)
    return replace(
        build,
        outcome=outcome,
        error=error[:TEXT_CAP] if isinstance(error, str) and error else None,
        started_at=started if started is not None else build.started_at,
        duration_seconds=(
            round(max(0.0, completed - started), 3)
            if started is not None and completed is not None
            else build.duration_seconds
        ),
        images=images or exported,
    )


def _exported(record: dict[str, Any]) -> Iterator[BuiltImage]:
    answer, exporters = record.get("ExporterResponse"), record.get("Exporters")
    image = _image(answer, None) if isinstance(answer, dict) else None
    if image is not None:
        yield image
        return
    for exporter in exporters[:200] if isinstance(exporters, list) else []:
        attributes = exporter.get("Attrs") if isinstance(exporter, dict) else None
        if isinstance(attributes, dict) and (named := _image({"image.name": attributes.get("name")}, None)) is not None:
            yield named


def _image(answer: dict[str, Any], target: str | None) -> BuiltImage | None:
    digest, names, config = (
        answer.get(f"{key}") for key in ("containerimage.digest", "image.name", "containerimage.config.digest")
    )
    tags = (
        tuple(name.strip()[:TEXT_CAP] for name in names.split(",")[:200] if name.strip())
        if isinstance(names, str)
        else ()
    )
    is_digest = isinstance(digest, str) and _DIGEST.fullmatch(digest)
    has_id = isinstance(config, str) and _DIGEST.fullmatch(config)
    if not is_digest and not tags:
        return None
    return BuiltImage(digest=digest if is_digest else None, id=config if has_id else None, tags=tags, target=target)


def _document(content: bytes) -> Iterator[Build]:
    document = _object(content)
    if not document:
        raise UnreadableInputError("The file begins like a build record and is no valid JSON object.")
    if "NumTotalSteps" in document or "NumCompletedSteps" in document:
        yield _inspected(document)
    elif any(key.startswith(("buildx.build.", "containerimage.")) for key in document):
        yield _metadata({None: document})
    else:
        yield _metadata({name: answer for name, answer in document.items() if isinstance(answer, dict)})


def _inspected(document: dict[str, Any]) -> Build:
    """Read `buildx history inspect --format json`."""
    failure, duration = document.get("Error"), document.get("Duration")
    error = failure.get("Message") if isinstance(failure, dict) else None
    status = document.get("Status")
    return Build(
        builder="buildkit",
        format="buildkit-record",
        outcome=_OUTCOMES.get(status, Outcome.INCOMPLETE) if isinstance(status, str) else Outcome.INCOMPLETE,
        error=error[:TEXT_CAP] if isinstance(error, str) and error else None,
        started_at=read_time(document.get("StartedAt")),
        duration_seconds=round(duration / 1e9, 3) if isinstance(duration, int) and duration >= 0 else None,
        base_images=tuple(_materials(document.get("Materials"))),
    )


def _metadata(answers: dict[str | None, dict[str, Any]]) -> Build:
    """Read a metadata file: one build, or one per bake target."""
    images = [image for target, answer in answers.items() if (image := _image(answer, target)) is not None]
    bases: dict[BaseImage, None] = {}
    for answer in answers.values():
        provenance = answer.get("buildx.build.provenance")
        bases.update(dict.fromkeys(_materials(provenance.get("materials") if isinstance(provenance, dict) else None)))
    return Build(
        builder="buildkit",
        format="buildkit-record",
        outcome=Outcome.SUCCEEDED,
        images=tuple(images),
        base_images=tuple(bases),
    )


def _materials(materials: object) -> Iterator[BaseImage]:
    """Yield the images among a provenance's materials: `pkg:docker/python@3.11-slim?platform=linux%2Famd64`."""
    for material in materials[:1000] if isinstance(materials, list) else []:
        if not isinstance(material, dict):
            continue
        uri = material.get("uri", material.get("URI"))
        if not isinstance(uri, str) or not uri.startswith("pkg:docker/"):
            continue
        name, _, query = uri.removeprefix("pkg:docker/").partition("?")
        repository, _, tag = name.partition("@")
        if repository == "docker/dockerfile":
            continue  # the frontend is no base image
        platform = parse_qs(query).get("platform", [None])[0]
        yield BaseImage(
            reference=unquote(f"{repository}:{tag}" if tag else repository)[:TEXT_CAP],
            digest=_material_digest(material),
            platform=platform,
        )


def _material_digest(material: dict[str, Any]) -> str | None:
    digests = material.get("digest", material.get("Digests"))
    if isinstance(digests, dict):
        digests = [f"{kind}:{value}" for kind, value in digests.items()]
    known = (
        [entry for entry in digests if isinstance(entry, str) and _DIGEST.fullmatch(entry)]
        if isinstance(digests, list)
        else []
    )
    return known[0] if known else None


def _proto_time(value: object) -> float | None:
    seconds = value.get("seconds") if isinstance(value, dict) else None
    nanos = value.get("nanos", 0) if isinstance(value, dict) else 0
    if not isinstance(seconds, int) or not isinstance(nanos, int) or not 0 < seconds < 10**11:
        return None
    return seconds + nanos / 1e9


def _object(content: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
