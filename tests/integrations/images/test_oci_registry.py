"""Registries that are well, ask who we are, are away, or mean harm."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cachescope.errors import CachescopeError
from cachescope.images.manifests import digest_of
from integrations.http import read_networks
from integrations.images import IMAGES
from integrations.images.base import Credentials, ImageNotFoundError, MeasuringError, Options, split_reference

FOLDER = Path(__file__).parent / "oci_registry"
INDEX, MANIFEST, CONFIG = ((FOLDER / f"oci.{kind}.json").read_bytes() for kind in ("index", "manifest", "config"))
LOOPBACK = read_networks("127.0.0.0/8")
Answer = Callable[[BaseHTTPRequestHandler], None]


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def well(handler: BaseHTTPRequestHandler) -> None:
    """Serve one image under any tag."""
    known = {digest_of(content): content for content in (INDEX, MANIFEST, CONFIG)}
    last = handler.path.rpartition("/")[2]
    content = known.get(last, INDEX)
    kind = json.loads(content).get("mediaType", "application/octet-stream")
    send(handler, 200, content, Content_Type=kind)


@contextmanager
def registry(answer: Answer) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """Run a registry of one answer; yields its host and what it was asked."""
    asked: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("Authorization")))
            answer(self)

        do_POST = do_GET  # noqa: N815 - the name that the standard library looks for

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def measure(host: str, **options: object):
    given = Options(insecure=True, networks=LOOPBACK, **options)
    return IMAGES["oci_registry"].measure(f"{host}/acme/api:1", given).image


def test_an_index_leads_to_its_platforms_and_attestations_are_none():
    with registry(well) as (host, asked):
        image = measure(host)
    assert [one.platform for one in image.platforms] == ["linux/amd64"]
    assert image.platforms[0].compressed_bytes == 160_513_885
    assert image.digest == digest_of(INDEX)
    assert len(asked) == 3


def test_a_token_is_fetched_with_our_password_and_only_the_token_goes_to_the_registry():
    def token(handler: BaseHTTPRequestHandler) -> None:
        if handler.path.startswith("/token"):
            send(handler, 200, b'{"token": "t1"}')
        elif handler.headers.get("Authorization") == "Bearer t1":
            well(handler)
        else:
            realm = f'Bearer realm="http://{handler.headers["Host"]}/token",service="registry"'
            send(handler, 401, WWW_Authenticate=realm)

    with registry(token) as (host, asked):
        measure(host, credentials=Credentials(user="ci", password="secret"))
    assert asked[1][0] == "/token?service=registry&scope=repository%3Aacme%2Fapi%3Apull"
    assert asked[1][1] == "Basic " + base64.b64encode(b"ci:secret").decode()
    assert {authorization for _, authorization in asked[2:]} == {"Bearer t1"}


def test_a_token_that_expires_between_two_requests_is_renewed():
    given = []

    def expiring(handler: BaseHTTPRequestHandler) -> None:
        if handler.path.startswith("/token"):
            given.append(0)
            send(handler, 200, json.dumps({"access_token": f"t{len(given)}"}).encode())
        elif handler.headers.get("Authorization") == f"Bearer t{len(given)}" and given[-1] == 0:
            given[-1] = 1
            well(handler)
        else:
            send(handler, 401, WWW_Authenticate=f'Bearer realm="http://{handler.headers["Host"]}/token"')

    with registry(expiring) as (host, _):
        assert measure(host).platforms[0].compressed_bytes == 160_513_885
    assert len(given) == 3


def test_basic_authentication_is_answered_with_the_password():
    def basic(handler: BaseHTTPRequestHandler) -> None:
        if handler.headers.get("Authorization") == "Basic " + base64.b64encode(b"AWS:pass").decode():
            well(handler)
        else:
            send(handler, 401, WWW_Authenticate='Basic realm="ecr"')

    with registry(basic) as (host, _):
        assert measure(host, credentials=Credentials(user="AWS", password="pass")).platforms
        with pytest.raises(MeasuringError, match="asks for a user and a password"):
            measure(host)
        with pytest.raises(MeasuringError, match="lets us not read"):
            measure(host, credentials=Credentials(user="AWS", password="wrong"))


@pytest.mark.parametrize(
    ("status", "headers", "again"),
    [
        (401, {}, False),
        (403, {}, False),
        (404, {}, False),
        (406, {}, False),
        (418, {}, False),
        (429, {"Retry_After": "7"}, True),
        (500, {}, True),
        (503, {}, True),
    ],
)
def test_each_refusal_is_a_sentence_that_says_whether_another_time_may_do(status, headers, again):
    with (
        registry(lambda handler: send(handler, status, **headers)) as (host, _),
        pytest.raises(MeasuringError, match=r"\.$") as caught,
    ):
        measure(host)
    assert caught.value.again is again
    assert caught.value.pause_seconds == (7 if status == 429 else None)
    assert isinstance(caught.value, ImageNotFoundError) == (status == 404)


def test_a_registry_that_is_away_is_tried_again():
    with registry(well) as (host, _):
        pass
    with pytest.raises(MeasuringError, match="cannot be reached") as caught:
        measure(host)
    assert caught.value.again


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"<html>", "not JSON"),
        (b'{"schemaVersion": 1, "fsLayers": []}', "schema 1"),
        (b'{"mediaType": "application/vnd.cncf.helm.config.v1+json"}', "is no image"),
        (b'{"schemaVersion": 2, "layers": [], "config": {"mediaType": "application/vnd.wasm.config.v0+json", '
         b'"digest": "sha256:' + b"0" * 64 + b'", "size": 2}}', "is no image"),
        (b" " * (100 << 20), "larger than"),
        (b'{"manifests": ' + b"[" * 100_000, "not JSON"),
    ],
)  # fmt: skip
def test_a_manifest_that_is_none_is_refused_in_a_sentence(body, sentence):
    def serve(handler: BaseHTTPRequestHandler) -> None:
        with suppress(ConnectionError):  # we hang up at the cap
            send(handler, 200, body, Content_Type="application/vnd.oci.image.manifest.v1+json")

    with registry(serve) as (host, _), pytest.raises(CachescopeError, match=sentence):
        measure(host)


def test_a_manifest_of_another_digest_is_not_believed():
    def lying(handler: BaseHTTPRequestHandler) -> None:
        last = handler.path.rpartition("/")[2]
        send(handler, 200, INDEX if last == "1" else MANIFEST + b" ")

    with registry(lying) as (host, _):
        image = measure(host)
    assert image.platforms[0].compressed_bytes is None
    assert "another manifest" in image.warnings[0]


def test_private_networks_are_closed_unless_they_are_named():
    with registry(well) as (host, asked), pytest.raises(MeasuringError, match="not on the public internet"):
        IMAGES["oci_registry"].measure(f"{host}/acme/api:1", Options(insecure=True))
    assert asked == []


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("ubuntu", ("registry-1.docker.io", "library/ubuntu", "latest")),
        ("docker.io/acme/api:1", ("registry-1.docker.io", "acme/api", "1")),
        ("ghcr.io/acme/api", ("ghcr.io", "acme/api", "latest")),
        ("localhost:5000/a:1", ("localhost:5000", "a", "1")),
        (f"ghcr.io/a/b:1@sha256:{'0' * 64}", ("ghcr.io", "a/b", f"sha256:{'0' * 64}")),
    ],
)
def test_references_are_split_as_docker_does(reference, parts):
    assert split_reference(reference) == parts


@pytest.mark.parametrize("reference", ["", "a b", "ghcr.io/../x:1", "ghcr.io/a:", "ä/b", "h.io/a?b:1", "x" * 600])
def test_what_is_no_reference_is_refused(reference):
    with pytest.raises(MeasuringError, match="no reference"):
        split_reference(reference)
