"""At the border of every request: who really asks, under which name, how often, and what browsers may do with answers.

A proxy in front of us is believed about the address and the scheme of its client only where the settings name its
network: anybody can write `X-Forwarded-For`. Everything behind this one, limits and logs included, sees the address
that is left.
"""

import hashlib
import ipaddress
import re
import threading
import time
from collections import OrderedDict

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from integrations.http import IPAddress, IPNetwork
from service.doorkeeper import REFUSALS_PER_SECOND, SIGN_IN, Pace
from service.errors import Problem, problem_response
from service.settings import ServiceSettings

PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
"""What machines ask by whatever name they know; none of it belongs to a team."""
UNCOUNTED = ("/hooks/", "/assets/")
"""Webhooks come in bursts from one address and have limits of their own; files are kept by browsers."""
WINDOW_SECONDS = 60
MOST_KEYS = 50_000
_MOST_HOPS = 20
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}\Z|\[[0-9A-Fa-f:.]{2,45}\]\Z")

HEADERS = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}
"""What every answer carries that does not say otherwise; pages bring a policy of their own."""
HSTS = "max-age=31536000"


class Counts:
    """How often each key came in the minute that runs; when there are too many keys, the oldest are forgotten."""

    def __init__(self, most: int = MOST_KEYS) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._counts: OrderedDict[bytes, tuple[float, int]] = OrderedDict()

    def add(self, key: bytes, now: float) -> tuple[int, float]:
        """Count once more; returns the sum and the seconds until it begins anew."""
        with self._lock:
            ends, count = self._counts.get(key, (0.0, 0))
            if ends <= now:
                self._counts.pop(key, None)
                ends, count = now + WINDOW_SECONDS, 0
            self._counts[key] = (ends, count + 1)
            if len(self._counts) > self._most:
                self._counts.popitem(last=False)
            return count + 1, ends - now


class Borders:
    """Look at every request before anything else does."""

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self.app = app
        self._proxies = settings.trusted_proxies
        self._hosts = settings.trusted_hosts
        self._is_https = settings.is_https
        self._per_token, self._per_address = settings.token_requests_per_minute, settings.address_requests_per_minute
        self._counts = Counts()
        self._pace = Pace(REFUSALS_PER_SECOND)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        believe_proxies(scope, headers, self._proxies)
        is_https = self._is_https or scope["scheme"] == "https"

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    given.setdefault(name, value)
                if is_https:
                    given.setdefault("strict-transport-security", HSTS)
            await send(message)

        problem = None
        if scope["path"] not in PROBES:
            problem = self._wrong_host(headers) or self._too_often(scope, headers)
        if problem is not None:
            await self._pace.turn()  # a flood of these must not take the time of everybody else
            await problem_response(Request(scope), problem)(scope, receive, answer)
            return
        await self.app(scope, receive, answer)

    def _wrong_host(self, headers: Headers) -> Problem | None:
        name = host_of(headers.get("host", ""))
        if not self._hosts or any(fits(name, known) for known in self._hosts):
            return None
        detail = "This server does not answer under this name. Use its own, or add the name to CACHESCOPE_WEB_HOSTS."
        return Problem(status=421, code="wrong-host", title="Wrong host", detail=detail)

    def _too_often(self, scope: Scope, headers: Headers) -> Problem | None:
        if scope["path"].startswith(UNCOUNTED) or (scope["method"] == "POST" and scope["path"] in SIGN_IN):
            return None
        token = headers.get("authorization", "")
        most = self._per_token if token else self._per_address
        if not most:
            return None
        # Made-up tokens are refused, and refusals are counted by their address elsewhere.
        who = token or (scope["client"] or ("",))[0]
        key = hashlib.sha256(f"{bool(token)} {who}".encode("utf-8", "surrogateescape")).digest()
        count, seconds = self._counts.add(key, time.monotonic())
        if count <= most:
            return None
        pause = str(max(1, round(seconds)))
        detail = f"More than {most} requests came in a minute. Wait {pause} seconds, then go on more slowly."
        return Problem(
            status=429,
            code="too-many-requests",
            title="Too many requests",
            detail=detail,
            headers={"Retry-After": pause},
        )


def believe_proxies(scope: Scope, headers: Headers, proxies: tuple[IPNetwork, ...]) -> None:
    """Put the address and the scheme of the client in place of the proxy's, as far as proxies that we know vouch."""
    peer = read_address((scope["client"] or ("",))[0])
    if not proxies or peer is None or not is_in(peer, proxies):
        return
    hops = [name.strip() for name in ",".join(headers.getlist("x-forwarded-for"))[-2000:].split(",")]
    for name in hops[: -_MOST_HOPS - 1 : -1]:
        address = read_address(name)
        if address is None:
            break
        scope["client"] = (str(address), 0)
        if not is_in(address, proxies):
            break
    scheme = headers.get("x-forwarded-proto", "").rpartition(",")[2].strip().lower()
    if scheme in {"http", "https"}:
        scope["scheme"] = scheme


def read_address(text: str) -> IPAddress | None:
    """Return an address, without the port that some proxies write beside it; None for anything else."""
    plain = text.strip()[:60]
    if plain.startswith("["):
        plain = plain[1:].partition("]")[0]
    elif plain.count(":") == 1:
        plain = plain.partition(":")[0]
    try:
        address = ipaddress.ip_address(plain.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_in(address: IPAddress, networks: tuple[IPNetwork, ...]) -> bool:
    """Whether an address lies in one of some networks."""
    return any(address in network for network in networks if network.version == address.version)


def host_of(header: str) -> str:
    """Return the name in a Host header, in lower case and without the port; empty where there is no name."""
    name = header.strip()
    if not name.startswith("["):
        name = name.partition(":")[0]
    elif "]" in name:
        name = name[: name.index("]") + 1]
    return name.lower().rstrip(".") if _HOST.match(name) else ""


def fits(name: str, known: str) -> bool:
    """Whether a name is the one that is known, or lies below `*.example.org`."""
    return name.endswith(known[1:]) and name != known[2:] if known.startswith("*.") else name == known
