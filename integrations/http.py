"""The one place that talks to the outside: checked addresses, redirects by hand, caps on size and time.

An address from a form is a wish of whoever filled it in, so each connection is made to an address that was looked up
and checked in the same step: a name that points elsewhere a moment later (DNS rebinding) gains nothing. Private,
loopback and link-local networks are closed unless the caller opens them; those that hold the secrets of cloud machines
stay closed whatever is opened. Credentials go to the origin they were given for and never follow a redirect to another.
"""

import ipaddress
import socket
import ssl
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

import httpcore
import httpx
import orjson

from cachescope.errors import CachescopeError, InvalidValueError, TooLargeError, UnreadableInputError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

ANSWER_BYTES = 16 * 1024 * 1024
"""The largest answer that is read as a whole."""
MOST_HOPS = 3
_PIECE = 64 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_USER_AGENT = "cachescope"
_LONGEST_PAUSE_SECONDS = 3600.0

_CLOSED: tuple[IPNetwork, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "169.254.0.0/16",  # link-local, where most clouds keep the credentials of their machines
        "100.100.100.200/32",  # Alibaba Cloud's
        "168.63.129.16/32",  # Azure's, a public address
        "192.0.0.192/32",  # Oracle Cloud's
        "224.0.0.0/3",  # multicast and reserved
        "::/128",
        "fe80::/10",
        "fd00:ec2::/32",  # Amazon's, in a private range
        "fd20:ce::254/128",  # Google's
        "ff00::/8",
    )
)
"""Networks that no setting opens."""
_TRANSLATED = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))


class OutgoingError(CachescopeError):
    """A request of ours did not lead to an answer that can be used."""


class ForbiddenAddressError(OutgoingError):
    """An address that we do not call: a closed network, another scheme, a redirect too many."""


class UnreachableError(OutgoingError):
    """Nobody answered, or not in time; another time may do."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Which networks besides the public internet a caller may connect to."""

    networks: tuple[IPNetwork, ...] = ()

    def check(self, address: IPAddress) -> None:
        """Raise ForbiddenAddressError for an address that this caller may not connect to."""
        plain = _unwrapped(address)
        if any(plain in network for network in _CLOSED if network.version == plain.version):
            raise ForbiddenAddressError(
                f"The address {plain} belongs to a network that is never called: link-local, metadata or multicast."
            )
        if any(plain in network for network in self.networks if network.version == plain.version):
            return
        if not plain.is_global:
            raise ForbiddenAddressError(
                f"The address {plain} is not on the public internet. If it is your own server, name its network "
                f"where the source is set up, such as {_example(plain)}."
            )


def _unwrapped(address: IPAddress) -> IPAddress:
    """Return the IPv4 address that is written inside an IPv6 one: it is the one that would be reached."""
    if isinstance(address, ipaddress.IPv6Address):
        if inner := address.ipv4_mapped or address.sixtofour:
            return inner
        if address.teredo:
            return address.teredo[1]
        if any(address in network for network in _TRANSLATED) or (int(address) >> 32 == 0 and int(address) > 1):
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _example(address: IPAddress) -> str:
    return f"{address}/{address.max_prefixlen}"


def read_networks(text: str) -> tuple[IPNetwork, ...]:
    """Read networks such as `10.1.0.0/16, fd00::/8`, separated by commas or spaces; raises InvalidValueError."""
    names = text.replace(",", " ").split()
    if len(names) > 20:
        raise InvalidValueError("networks", "At most 20 networks can be named.")
    try:
        return tuple(ipaddress.ip_network(name, strict=False) for name in names)
    except ValueError as error:
        raise InvalidValueError(
            "networks", f"{str(error)[:120]}: write networks as 10.1.0.0/16, separated by commas."
        ) from error


def read_base_url(text: str, name: str = "base_url") -> str:
    """Read the address of a server, without a stroke at its end; raises InvalidValueError."""
    url = text.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        parts, has_port = urlsplit(""), False
    if parts.scheme not in {"http", "https"} or not parts.hostname or not has_port or len(url) > 500:
        raise InvalidValueError(name, f'"{url[:80]}" is no address of a server, such as https://git.example.org.')
    if "@" in parts.netloc or parts.query or parts.fragment or not url.isprintable() or " " in url:
        raise InvalidValueError(name, "The address of a server holds no password, no question mark and no #.")
    return url


@dataclass(slots=True)
class _Deadline:
    """When the request that is under way must be over; the streams below look at it before each wait."""

    at: float = 0.0

    def cut(self, timeout: float | None) -> float:
        left = self.at - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("The time for this request is over.")
        return left if timeout is None else min(timeout, left)


class _Stream(httpcore.NetworkStream):
    """A connection whose waits end at the deadline, so that a peer that trickles cannot hold us."""

    def __init__(self, inner: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._inner = inner
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._deadline.cut(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._deadline.cut(timeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, self._deadline.cut(timeout)), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    """Opens connections: looks a name up once, checks what it found and connects to just that."""

    def __init__(self, reach: Reach, deadline: _Deadline) -> None:
        self._reach = reach
        self._deadline = deadline
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        failed: Exception | None = None
        for address in look_up(host, port):
            self._reach.check(address)
            try:
                opened = self._inner.connect_tcp(
                    str(address), port, self._deadline.cut(timeout), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
                continue
            return _Stream(opened, self._deadline)
        raise failed or httpcore.ConnectError(f'The name "{host}" has no address.')


def look_up(host: str, port: int) -> list[IPAddress]:
    """Return the addresses of a name, as few as a connection will try; raises httpcore.ConnectError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(f'The name "{host}" cannot be looked up: {error}') from error
    addresses = dict.fromkeys(ipaddress.ip_address(str(row[4][0]).partition("%")[0]) for row in found)
    return list(addresses)[:4]


class _Transport(httpx.BaseTransport):
    """httpx on top of a pool of connections that go through `_Backend`."""

    def __init__(self, reach: Reach, deadline: _Deadline) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=_ssl_context(), max_connections=4, network_backend=_Backend(reach, deadline)
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self._pool.handle_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=request.url.raw_scheme,
                    host=request.url.raw_host,
                    port=request.url.port,
                    target=request.url.raw_path,
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer), extensions=answer.extensions)

    def close(self) -> None:
        self._pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        yield from self._answer.iter_stream()

    def close(self) -> None:
        self._answer.close()


@lru_cache(maxsize=1)
def _ssl_context() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=True)  # SSL_CERT_FILE names the authority of a private forge


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, of any status."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""
    content: bytes = b""

    @property
    def is_success(self) -> bool:
        """Whether the status is one of success."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """The body as JSON; raises UnreadableInputError."""
        try:
            return orjson.loads(self.content)
        except orjson.JSONDecodeError as error:
            raise UnreadableInputError(f"The answer is not JSON: {error}.") from error

    def retry_after(self, now: float) -> float | None:
        """How many seconds a server asks us to wait, at most an hour; None when it does not say."""
        return retry_after(self.headers, now)


@dataclass(slots=True)
class StreamedAnswer:
    """An answer whose body has not been read yet."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    url: str
    """Where it came from after redirects."""
    _pieces: Iterator[bytes]

    def pieces(self, cap_bytes: int) -> Iterator[bytes]:
        """The body as it comes, still packed as `content-encoding` says; raises TooLargeError past the cap."""
        read = 0
        for piece in self._pieces:
            read += len(piece)
            if read > cap_bytes:
                raise TooLargeError(f"The answer is larger than {cap_bytes / (1 << 20):,.0f} MiB.")
            yield piece

    def read(self, cap_bytes: int = ANSWER_BYTES) -> Answer:
        """Read the rest, unpacked, as a whole; raises TooLargeError and UnreadableInputError."""
        content = b"".join(self.pieces(cap_bytes))
        return Answer(self.status, self.headers, _unpacked(content, self.headers, cap_bytes))


def _unpacked(content: bytes, headers: Mapping[str, str], cap_bytes: int) -> bytes:
    """We ask for plain answers; some servers pack them all the same."""
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding in {"", "identity"} or not content:
        return content
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        raise UnreadableInputError(f'The answer is packed as "{encoding[:40]}", which we did not ask for.')
    unpacker = zlib.decompressobj(wbits=47)
    try:
        plain = unpacker.decompress(content, cap_bytes + 1)
    except zlib.error as error:
        raise UnreadableInputError(f"The answer is not {encoding}: {error}.") from error
    if len(plain) > cap_bytes:
        raise TooLargeError(f"The answer unpacks to more than {cap_bytes / (1 << 20):,.0f} MiB.")
    return plain


class HttpClient:
    """Sends requests of one caller; used in a `with` block and by one thread at a time.

    Raises ForbiddenAddressError for what may not be called and UnreachableError for what did not answer; answers of
    any status are returned.
    """

    def __init__(self, reach: Reach | None = None, *, wait_seconds: float = 10.0) -> None:
        self._deadline = _Deadline()
        self._client = httpx.Client(
            transport=_Transport(reach or Reach(), self._deadline),
            timeout=wait_seconds,
            follow_redirects=False,
            trust_env=False,
            headers={"user-agent": _USER_AGENT, "accept-encoding": "identity"},
        )

    def __enter__(self) -> Self:
        """Hand over the client."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close its connections."""
        self._client.close()

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        credentials: Mapping[str, str] | None = None,
        json: object = None,
        content: bytes | None = None,
        seconds: float = 30.0,
        cap_bytes: int = ANSWER_BYTES,
    ) -> Answer:
        """Send a request and read the whole answer; `credentials` are headers for the origin of `url` alone."""
        body = orjson.dumps(json) if json is not None else content
        extra = {"content-type": "application/json"} if json is not None else {}
        with self.stream(
            method, url, headers=extra | dict(headers or {}), credentials=credentials, content=body, seconds=seconds
        ) as answer:
            return answer.read(cap_bytes)

    @contextmanager
    def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        credentials: Mapping[str, str] | None = None,
        content: bytes | None = None,
        seconds: float = 300.0,
    ) -> Iterator[StreamedAnswer]:
        """Send a request and hand over the answer while its body still comes; all of it within `seconds`.

        Redirects of GET are followed, three at most: without credentials where they lead to another origin, and never
        from https to http. A redirect of any other method is returned as it is.
        """
        self._deadline.at = time.monotonic() + seconds
        origin, given = _origin(url), dict(headers or {})
        for _ in range(MOST_HOPS + 1):
            with_credentials = dict(credentials or {}) if _origin(url) == origin else {}
            with _told(url):
                request = self._client.build_request(method, url, headers=given | with_credentials, content=content)
            with self._opened(request, url) as response:
                target = response.headers.get("location") if response.status_code in _REDIRECTS else None
                if method not in {"GET", "HEAD"} or target is None:
                    found = {name.lower(): value for name, value in response.headers.items()}
                    yield StreamedAnswer(response.status_code, found, url, _raw(response, url))
                    return
            url = _next(url, target)
        raise ForbiddenAddressError(f"{_shown(url)} was reached after {MOST_HOPS} redirects and leads on: too many.")

    @contextmanager
    def _opened(self, request: httpx.Request, url: str) -> Iterator[httpx.Response]:
        with _told(url):
            response = self._client.send(request, stream=True)
        try:
            yield response
        finally:
            response.close()


def _raw(response: httpx.Response, url: str) -> Iterator[bytes]:
    with _told(url):
        yield from response.iter_raw(_PIECE)


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Say in our words that a request failed; what the block itself raises passes."""
    try:
        yield
    except (httpcore.TimeoutException, httpx.TimeoutException) as error:
        raise UnreachableError(f"{_shown(url)} did not answer in time.") from error
    except (httpcore.NetworkError, httpcore.ProtocolError, httpx.TransportError, httpx.StreamError, ssl.SSLError) as e:
        raise UnreachableError(f"{_shown(url)} cannot be reached: {str(e)[:200] or type(e).__name__}") from e
    except (httpx.InvalidURL, httpcore.UnsupportedProtocol, UnicodeError) as error:
        raise ForbiddenAddressError(f"{_shown(url)} is no address that can be called: {str(error)[:100]}") from error


def _origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port; raises ForbiddenAddressError for anything but http and https."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ForbiddenAddressError(f'"{url[:100]}" is no address: {error}.') from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        raise ForbiddenAddressError(f'"{_shown(url)}" cannot be called: only http and https can, without a password.')
    return parts.scheme, parts.hostname.lower(), port or {"http": 80, "https": 443}[parts.scheme]


def _next(url: str, location: str) -> str:
    try:
        target = urljoin(url, location.strip())
    except ValueError as error:
        raise ForbiddenAddressError(f"{_shown(url)} redirects to something that is no address: {error}.") from error
    if _origin(url)[0] == "https" and _origin(target)[0] != "https":
        raise ForbiddenAddressError(f"{_shown(url)} redirects to an address without TLS, {_shown(target)}.")
    return target


def _shown(url: str) -> str:
    """An address for people: without its query, which may hold a signature, and without a password."""
    text = "".join(letter if letter.isprintable() else "?" for letter in url.partition("?")[0][:300])
    scheme, stroke, rest = text.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{stroke}{host.rpartition('@')[2]}{slash}{path}"


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """How many seconds `Retry-After` or the rate limit's headers ask to wait, at most an hour.

    `Retry-After` counts; else, where nothing is left of a limit, the moment when it begins anew (`X-RateLimit-Reset`,
    `RateLimit-Reset`, in epoch seconds or as seconds from now).
    """
    if text := headers.get("retry-after", "").strip():
        if text.isascii() and text.isdigit():
            return min(float(text[:9]), _LONGEST_PAUSE_SECONDS)
        try:
            at = parsedate_to_datetime(text)
        except ValueError:
            return None
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return min(max(at.timestamp() - now, 0.0), _LONGEST_PAUSE_SECONDS)
    for prefix in ("x-ratelimit-", "ratelimit-"):
        left, reset = headers.get(f"{prefix}remaining", ""), headers.get(f"{prefix}reset", "").strip()
        if left.strip() == "0" and reset.isascii() and reset.isdigit():
            seconds = int(reset[:12])
            pause = seconds - now if seconds > 1_000_000_000 else seconds
            return min(max(pause, 0.0), _LONGEST_PAUSE_SECONDS)
    return None
