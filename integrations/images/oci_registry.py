"""Registries, over the OCI distribution API: index, manifest, configuration, and with `deep` the layers.

Defined at https://github.com/opencontainers/distribution-spec; tokens as Docker's registries hand them out
(https://distribution.github.io/distribution/spec/auth/token/): Docker Hub, GHCR, GitLab, Harbor; Basic for ECR and
plain registries. A registry's own authority is named by SSL_CERT_FILE. What is served is checked against its digest.
"""

import base64
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlencode

from cachescope.errors import TooLargeError, UnreadableInputError, UnsupportedInputError
from cachescope.images.contents import ContentReader, Contents
from cachescope.images.manifests import (
    ACCEPT,
    LARGEST_MANIFEST,
    Config,
    Descriptor,
    Hints,
    Manifest,
    digest_of,
    is_digest,
    is_index,
    load_document,
    measure_document,
    read_index,
    read_manifest,
    with_unpacked,
)
from cachescope.images.model import PlatformImage
from integrations.http import Answer, HttpClient, OutgoingError, Reach, StreamedAnswer, UnreachableError
from integrations.images.base import (
    Credentials,
    ImageNotFoundError,
    Measurement,
    MeasuringError,
    Options,
    split_reference,
)

_CHALLENGE = re.compile(r'([a-zA-Z_]{1,40})="([^"\\]{0,1000})"')
_TOKEN_BYTES = 256 * 1024
_LARGEST_BLOB = 64 << 30
_REFUSED = "Check the user and the password or token, and that they may pull it."


class Registry:
    """One repository of one registry."""

    def __init__(self, client: HttpClient, host: str, repository: str, options: Options) -> None:
        self._client = client
        self._host = host
        self._base = f"{'http' if options.insecure else 'https'}://{host}/v2/{quote(repository)}"
        self._repository = repository
        self._options = options
        self._authorization: str | None = None

    def manifest(self, wanted: str) -> Answer:
        """Fetch a manifest or an index by tag or digest; checked where a digest was asked for."""
        with self._get(f"manifests/{quote(wanted, safe=':')}", {"accept": ACCEPT}) as streamed:
            answer = streamed.read(LARGEST_MANIFEST)
        if is_digest(wanted) and wanted.startswith("sha256:") and digest_of(answer.content) != wanted:
            raise UnreadableInputError(f"The registry served another manifest than {wanted[:19]}….")
        return answer

    def document(self, wanted: Descriptor) -> bytes:
        """Fetch what a descriptor points to, a manifest or a configuration."""
        if wanted.size_bytes > 2 * LARGEST_MANIFEST:
            raise TooLargeError(f"The document {wanted.digest[:19]}… has {wanted.size_bytes:,} bytes: too many.")
        if "manifest" in wanted.media_type or "index" in wanted.media_type:
            return self.manifest(wanted.digest).content
        with self._get(f"blobs/{wanted.digest}", {}) as streamed:
            content = streamed.read(2 * LARGEST_MANIFEST).content
        if wanted.digest.startswith("sha256:") and digest_of(content) != wanted.digest:
            raise UnreadableInputError(f"The registry served another blob than {wanted.digest[:19]}….")
        return content

    @contextmanager
    def blob(self, digest: str, size_bytes: int) -> Iterator[Iterator[bytes]]:
        """Stream a blob."""
        seconds = self._options.seconds * (1 + size_bytes / (16 << 20))
        with self._get(f"blobs/{digest}", {}, seconds=seconds) as streamed:
            yield streamed.pieces(min(size_bytes + 1024, _LARGEST_BLOB))

    @contextmanager
    def _get(self, path: str, headers: Mapping[str, str], *, seconds: float | None = None) -> Iterator[StreamedAnswer]:
        """Ask; where the registry wants to know who we are, say it once and ask again."""
        url = f"{self._base}/{path}"
        for attempt in (1, 2):
            with self._client.stream(
                "GET",
                url,
                headers=headers,
                credentials={"authorization": self._authorization} if self._authorization else None,
                seconds=seconds or self._options.seconds,
            ) as answer:
                if answer.status == 401 and attempt == 1:
                    challenge = answer.headers.get("www-authenticate", "")
                elif answer.status == 200:
                    yield answer
                    return
                else:
                    raise self._refused(answer, path)
            self._authorization = self._authorize(challenge)

    def _authorize(self, challenge: str) -> str:
        scheme, _, rest = challenge.partition(" ")
        credentials = self._options.credentials
        if scheme.lower() == "basic" or not scheme:
            if credentials is None:
                raise MeasuringError(f"{self._host} asks for a user and a password for {self._repository}.")
            return _basic(credentials)
        if scheme.lower() != "bearer":
            raise MeasuringError(f'{self._host} asks for the authentication "{scheme[:40]}", which is not known.')
        told = dict(_CHALLENGE.findall(rest[:4000]))
        realm = told.get("realm", "")
        query = {"service": told.get("service", ""), "scope": f"repository:{self._repository}:pull"}
        if self._base.startswith("https:") and not realm.startswith("https:"):
            raise MeasuringError(f"{self._host} sends its clients to an address without TLS for tokens: {realm[:100]}")
        answer = self._client.request(
            "GET",
            f"{realm}{'&' if '?' in realm else '?'}{urlencode({key: value for key, value in query.items() if value})}",
            credentials={"authorization": _basic(credentials)} if credentials else None,
            seconds=self._options.seconds,
            cap_bytes=_TOKEN_BYTES,
        )
        if answer.status in (400, 401, 403, 404):
            raise MeasuringError(f"{self._host} gives no token for {self._repository} ({answer.status}). {_REFUSED}")
        if not answer.is_success:
            raise MeasuringError(
                f"{self._host} gives no token for {self._repository}: its answer has status {answer.status}.",
                again=True,
                pause_seconds=answer.retry_after(time.time()),
            )
        body: Any = answer.json()
        token = (body.get("token") or body.get("access_token")) if isinstance(body, dict) else None
        if not isinstance(token, str) or not token.isprintable():
            raise MeasuringError(f"{self._host} gave an answer without a token for {self._repository}.", again=True)
        return f"Bearer {token}"

    def _refused(self, streamed: StreamedAnswer, path: str) -> MeasuringError:
        what = f"{self._host}/{self._repository} ({path.replace('manifests/', '')[:80]})"
        match streamed.status:
            case 401 | 403:
                return MeasuringError(f"{self._host} lets us not read {self._repository}. {_REFUSED}")
            case 404:
                return ImageNotFoundError(
                    f"{what} is not there: it was deleted, never pushed, or these credentials may not see it."
                )
            case 406 | 415:
                return MeasuringError(f"{what} is kept in a form that is no image: {ACCEPT} are read.")
            case 429 | 500 | 502 | 503 | 504 | 408:
                pause = Answer(streamed.status, streamed.headers).retry_after(time.time())
                why = "asks us to wait" if streamed.status == 429 else "is not well at the moment"
                return MeasuringError(
                    f"{self._host} {why} (status {streamed.status}).", again=True, pause_seconds=pause
                )
        return MeasuringError(f"{what} cannot be read: the registry's answer has status {streamed.status}.")


def _basic(credentials: Credentials) -> str:
    both = f"{credentials.user}:{credentials.password}".encode()
    return f"Basic {base64.b64encode(both).decode()}"


class RegistryImages:
    """Measures images where they were pushed to."""

    def measure(self, reference: str, options: Options) -> Measurement:
        """Measure by manifests and configurations alone; with `deep` every layer of every platform is streamed too."""
        host, repository, wanted = split_reference(reference)
        try:
            with HttpClient(Reach(options.networks), wait_seconds=min(options.seconds, 20.0)) as client:
                return self._measure(Registry(client, host, repository, options), reference, wanted, options)
        except UnreachableError as error:
            raise MeasuringError(str(error), again=True) from error
        except OutgoingError as error:
            raise MeasuringError(str(error)) from error

    def _measure(self, registry: Registry, reference: str, wanted: str, options: Options) -> Measurement:
        answer = registry.manifest(wanted)

        def hints(manifest: Manifest, _config: Config) -> Hints:
            base = _base_layers(registry, manifest.base_digest) if options.hints.base_layer_digests is None else None
            return replace(options.hints, base_layer_digests=base) if base else options.hints

        media_type = answer.headers.get("content-type")
        told = answer.headers.get("docker-content-digest")
        digest = digest_of(answer.content)
        if told is not None and is_digest(told) and told.startswith("sha512:"):
            digest = told
        image = measure_document(
            reference, answer.content, registry.document, media_type=media_type, digest=digest, hints=hints
        )
        if not options.deep:
            return Measurement(image=image)
        contents = {}
        platforms = []
        for platform in image.platforms:
            platform, held = read_layers(registry, platform)
            platforms.append(platform)
            contents[platform.platform] = held
        return Measurement(image=replace(image, platforms=tuple(platforms)), contents=contents)


def read_layers(registry: Registry, platform: PlatformImage) -> tuple[PlatformImage, Contents]:
    """Stream the layers of a platform; returns it with unpacked sizes, and what lies in the layers."""
    reader = ContentReader()
    sizes: list[int | None] = []
    for number, layer in enumerate(platform.layers):
        if layer.digest is None or layer.compressed_bytes is None:
            sizes.append(None)
            continue
        with registry.blob(layer.digest, layer.compressed_bytes) as pieces:
            sizes.append(reader.read_layer(number, pieces))
    return with_unpacked(platform, sizes), reader.report([layer.base for layer in platform.layers])


def _base_layers(registry: Registry, digest: str | None) -> list[str] | None:
    """The blobs of the base image that an annotation names, where the registry keeps it in the same repository."""
    if digest is None:
        return None
    try:
        document = load_document(registry.manifest(digest).content, "base image's manifest")
        if is_index(document):
            return None if read_index(document) else []
        return [layer.digest for layer in read_manifest(document, digest).layers]
    except (MeasuringError, UnreadableInputError, UnsupportedInputError, OutgoingError):
        return None


IMAGES = RegistryImages()
