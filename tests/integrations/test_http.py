"""What goes out: to checked addresses only, without credentials after a redirect, under caps of size and time."""

import gzip
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from cachescope.errors import InvalidValueError, TooLargeError, UnreadableInputError
from integrations.http import (
    Answer,
    ForbiddenAddressError,
    HttpClient,
    Reach,
    UnreachableError,
    look_up,
    read_base_url,
    read_networks,
    retry_after,
)

LOOPBACK = Reach(read_networks("127.0.0.0/8"))
Route = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers as the routes of the test say."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        length = int(self.headers.get("content-length", 0))
        self.content = self.rfile.read(length) if length else b""
        self.server.routes[self.path](self)

    def do_POST(self) -> None:
        self.do_GET()

    def reply(self, status: int = 200, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """A server of a test."""

    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Clients that hang up are the point of some tests."""


class Origin:
    """One origin on loopback."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.server = Server((host, port), Handler)
        self.server.routes, self.server.asked = {}, []
        self.url = f"http://{host}:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def on(self, path: str, route: Route) -> str:
        self.server.routes[path] = route
        return self.url + path

    @property
    def asked(self) -> list[tuple[str, dict[str, str]]]:
        return self.server.asked


@pytest.fixture
def origin() -> Iterator[Origin]:
    made = Origin()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def other() -> Iterator[Origin]:
    made = Origin()
    yield made
    made.server.shutdown()
    made.server.server_close()


def ask(url: str, reach: Reach = LOOPBACK, **options: Any) -> Answer:
    with HttpClient(reach) as client:
        return client.request("GET", url, **options)


# -- addresses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "[fc00::1]",
        "0.0.0.0",
        "[::]",
        "224.0.0.1",
        "168.63.129.16",
    ],
)
def test_no_address_inside_a_network_is_called_unless_it_is_opened(host: str) -> None:
    with pytest.raises((ForbiddenAddressError, UnreachableError), match=r"public internet|never called|looked up"):
        ask(f"http://{host}:9/", Reach())


@pytest.mark.parametrize("host", ["169.254.169.254", "[fd00:ec2::254]", "100.100.100.200", "[::ffff:169.254.169.254]"])
def test_the_metadata_of_cloud_machines_stays_closed_whatever_is_opened(host: str) -> None:
    with pytest.raises(ForbiddenAddressError, match="never called"):
        ask(f"http://{host}/latest/meta-data/", Reach(read_networks("0.0.0.0/0, ::/0")))


def test_a_network_that_is_opened_can_be_called(origin: Origin) -> None:
    url = origin.on("/", lambda handler: handler.reply(body=b"hello"))
    assert ask(url).content == b"hello"


def test_a_public_address_passes_the_check() -> None:
    Reach().check(ipaddress.ip_address("93.184.215.14"))
    Reach().check(ipaddress.ip_address("2606:2800:21f:cb07:6820:80da:af6b:8b2c"))


def test_a_name_that_points_elsewhere_a_moment_later_gains_nothing(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = Origin("127.0.0.2", origin.server.server_port)
    inside.on("/", lambda handler: handler.reply(body=b"secret"))
    origin.on("/", lambda handler: handler.reply(body=b"public"))
    answers = iter(["127.0.0.1", "127.0.0.2", "127.0.0.2"])
    real = socket.getaddrinfo

    def name_server_of_the_attacker(host: str, *rest: Any, **more: Any) -> Any:
        return real(next(answers) if host == "rebinding.example" else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", name_server_of_the_attacker)
    url = f"http://rebinding.example:{origin.server.server_port}/"
    assert ask(url, Reach(read_networks("127.0.0.1/32"))).content == b"public"
    with pytest.raises(ForbiddenAddressError, match=r"127\.0\.0\.2"):
        ask(url, Reach(read_networks("127.0.0.1/32")))
    assert inside.asked == []
    inside.server.shutdown()
    inside.server.server_close()


def test_a_name_without_an_address_cannot_be_reached() -> None:
    with pytest.raises(UnreachableError, match="looked up"):
        ask("http://nowhere.invalid/")


def test_a_closed_port_cannot_be_reached() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(UnreachableError, match="cannot be reached"):
            ask(f"http://127.0.0.1:{taken.getsockname()[1]}/")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "gopher://x/", "http://u:p@127.0.0.1/", "http://", "http://[/"])
def test_nothing_but_http_is_called(url: str) -> None:
    with pytest.raises(ForbiddenAddressError):
        ask(url)


def test_the_environment_names_no_proxy_for_us(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert ask(origin.on("/", lambda handler: handler.reply(body=b"direct"))).content == b"direct"


def test_only_few_addresses_of_a_name_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"10.0.0.{number}", 80)) for number in range(50)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: rows)
    assert len(look_up("many.example", 80)) == 4


# -- redirects ---------------------------------------------------------------------------------------------------------


def redirect(target: str, status: int = 302) -> Route:
    return lambda handler: handler.reply(status, Location=target)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_origin_is_followed_without_credentials(
    origin: Origin, other: Origin, status: int
) -> None:
    target = other.on("/blob", lambda handler: handler.reply(body=b"log"))
    start = origin.on("/log", redirect(target, status))
    answer = ask(start, credentials={"authorization": "Bearer t", "private-token": "t"})
    assert answer.content == b"log"
    assert origin.asked[0][1]["authorization"] == "Bearer t"
    assert not {"authorization", "private-token"} & {name.lower() for name in other.asked[0][1]}


def test_a_redirect_within_the_origin_keeps_the_credentials(origin: Origin) -> None:
    origin.on("/new", lambda handler: handler.reply(body=handler.headers["authorization"].encode()))
    assert ask(origin.on("/old", redirect("/new", 301)), credentials={"authorization": "t"}).content == b"t"


@pytest.mark.parametrize("target", ["http://169.254.169.254/latest/", "http://127.0.0.2:9/", "http://10.0.0.1/"])
def test_a_redirect_into_a_closed_network_is_not_followed(origin: Origin, target: str) -> None:
    with pytest.raises(ForbiddenAddressError):
        ask(origin.on("/log", redirect(target)), Reach(read_networks("127.0.0.1/32")))


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/", "http://a:b@127.0.0.1/", "http://[/"])
def test_a_redirect_to_another_scheme_is_not_followed(origin: Origin, target: str) -> None:
    with pytest.raises(ForbiddenAddressError):
        ask(origin.on("/log", redirect(target)))


def test_a_redirect_that_gives_up_tls_is_not_followed() -> None:
    from integrations.http import _next

    with pytest.raises(ForbiddenAddressError, match="without TLS"):
        _next("https://git.example/log?token=secret", "http://git.example/log")


def test_a_ring_of_redirects_ends(origin: Origin) -> None:
    with pytest.raises(ForbiddenAddressError, match="too many"):
        ask(origin.on("/ring", redirect("/ring")))
    assert len(origin.asked) == 4


def test_a_redirect_of_a_post_is_returned_as_it_is(origin: Origin, other: Origin) -> None:
    url = origin.on("/post", redirect(other.on("/", lambda handler: handler.reply())))
    with HttpClient(LOOPBACK) as client:
        assert client.request("POST", url, json={"a": 1}).status == 302
    assert other.asked == []


# -- sizes and times ---------------------------------------------------------------------------------------------------


def pour(total: int | None, pause: float = 0.0) -> Route:
    """Send so many mebibytes without ever naming a length; None never ends."""

    def route(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        piece, sent = (b"x" * 1023 + b"\n") * (1 if pause else 1024), 0
        while total is None or sent < total:
            handler.wfile.write(piece)
            sent += 1
            time.sleep(pause)

    return route


def test_an_answer_is_read_up_to_its_cap(origin: Origin) -> None:
    with pytest.raises(TooLargeError, match="8 MiB"):
        ask(origin.on("/", pour(100)), cap_bytes=8 << 20)


def test_a_log_of_two_gigabytes_is_given_up_early_and_held_nowhere(origin: Origin) -> None:
    url, sizes = origin.on("/", pour(2048)), []
    with HttpClient(LOOPBACK) as client, client.stream("GET", url) as answer, pytest.raises(TooLargeError):
        sizes.extend(len(piece) for piece in answer.pieces(32 << 20))
    assert (max(sizes, default=0) <= 1 << 20, sum(sizes) <= 32 << 20) == (True, True)


def test_a_log_that_never_ends_is_given_up_in_time(origin: Origin) -> None:
    began = time.monotonic()
    with pytest.raises(UnreachableError, match="in time"):
        ask(origin.on("/", pour(None, pause=0.05)), seconds=0.6)
    assert time.monotonic() - began < 5


def test_headers_that_trickle_are_given_up_in_time(origin: Origin) -> None:
    def trickle(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(200):
            handler.wfile.write(b"X-%d: a\r\n" % number)
            time.sleep(0.05)

    began = time.monotonic()
    with pytest.raises(UnreachableError, match="in time"):
        ask(origin.on("/", trickle), seconds=0.6)
    assert time.monotonic() - began < 5


def test_a_server_that_says_nothing_is_given_up(origin: Origin) -> None:
    url = origin.on("/", lambda handler: time.sleep(2))
    with HttpClient(LOOPBACK, wait_seconds=0.2) as client, pytest.raises(UnreachableError, match="in time"):
        client.request("GET", url)


def test_no_packed_answer_is_asked_for_and_one_that_comes_all_the_same_is_unpacked(origin: Origin) -> None:
    url = origin.on("/", lambda handler: handler.reply(body=gzip.compress(b'{"a":1}'), Content_Encoding="gzip"))
    assert ask(url).json() == {"a": 1}
    assert {name.lower(): value for name, value in origin.asked[0][1].items()}["accept-encoding"] == "identity"


def test_a_packed_answer_that_swells_is_refused(origin: Origin) -> None:
    bomb = gzip.compress(bytes(64 << 20))
    url = origin.on("/", lambda handler: handler.reply(body=bomb, Content_Encoding="gzip"))
    with pytest.raises(TooLargeError, match="unpacks"):
        ask(url, cap_bytes=1 << 20)


@pytest.mark.parametrize(("encoding", "word"), [("br", "did not ask"), ("gzip", "is not gzip")])
def test_an_answer_that_cannot_be_unpacked_says_so(origin: Origin, encoding: str, word: str) -> None:
    url = origin.on("/", lambda handler: handler.reply(body=b"no such thing", Content_Encoding=encoding))
    with pytest.raises(UnreadableInputError, match=word):
        ask(url)


def test_an_answer_that_is_no_json_says_so(origin: Origin) -> None:
    with pytest.raises(UnreadableInputError, match="not JSON"):
        ask(origin.on("/", lambda handler: handler.reply(body=b"<html>"))).json()


def test_a_body_arrives_as_json(origin: Origin) -> None:
    origin.on("/", lambda handler: handler.reply(body=handler.content))
    with HttpClient(LOOPBACK) as client:
        assert client.request("POST", origin.url + "/", json={"text": "ä"}).json() == {"text": "ä"}


# -- pauses, networks, addresses of servers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "99999999"}, 3600.0),
        ({"retry-after": "Fri, 20 Nov 2026 10:00:30 GMT"}, 30.0),
        ({"retry-after": "soon"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1795168860"}, 60.0),
        ({"x-ratelimit-remaining": "5", "x-ratelimit-reset": "1795168860"}, None),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "12"}, 12.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "later"}, None),
    ],
)
def test_the_pause_that_a_server_asks_for_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, 1795168800.0) == seconds  # 2026-11-20T10:00:00Z
    assert Answer(429, headers).retry_after(1795168800.0) == seconds


def test_networks_are_read_and_nonsense_is_refused() -> None:
    assert [str(network) for network in read_networks("10.1.2.3/8, fd00::/8 192.168.0.1")] == [
        "10.0.0.0/8",
        "fd00::/8",
        "192.168.0.1/32",
    ]
    for wrong in ("everything", "10.0.0.0/99", "10.0.0.1 " * 21):
        with pytest.raises(InvalidValueError):
            read_networks(wrong)


def test_the_address_of_a_server_is_read() -> None:
    assert read_base_url(" https://git.example.org:8443/sub/ ") == "https://git.example.org:8443/sub"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "git.example.org",
        "ftp://x",
        "https://",
        "https://u:p@x",
        "https://x?a=1",
        "https://x#a",
        "https://x:0",
        "https://x:99999",
        "https://x /y",
        "https://x/" + "y" * 600,
        "https://[x",
    ],
)
def test_what_is_no_address_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(InvalidValueError):
        read_base_url(url)
