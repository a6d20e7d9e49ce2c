"""How long others wait while the door is stormed by sign-ins, slow requests and oversized ones.

    python -m benchmarks.flood
    python -m benchmarks.flood --attempts 100000 --bad-requests 10000

A web process as `cachescope up` runs it, on loopback, with an API read asked for every few milliseconds by a client of
its own: first in quiet, then during each attack, which is a process of its own too. Only the ratio of the two medians
(and of the 95th percentiles) within one run means anything on another machine. During the storm of sign-ins the owner
of the account signs in from another address and in a browser that is known.
"""

import argparse
import asyncio
import http.client
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median, quantiles
from types import SimpleNamespace

import httpx

from benchmarks import chaos
from tests.serving import ROOT, Installation, wait_for

EMAIL, PASSWORD = "ada@example.org", "correct horse battery"
PROBE_PAUSE = 0.02
FILL = """
import sys
from service.actions.accounts import OwnerForm, create_setup_link, set_up_owner
from service.actions.tokens import TokenForm, issue_token
from store import migrations
from store.database import get_engine, transaction
from tests.factories import make_repository, save_build

migrations.upgrade(get_engine())
with transaction() as session:
    link = create_setup_link(session).removeprefix("/setup/")
    _, team = set_up_owner(session, link, OwnerForm(name="Ada", email=sys.argv[1], password=sys.argv[2], team="Acme"))
    repository = make_repository(session, "acme/api", team)
    for _ in range(50):
        save_build(session, repository)
    print(issue_token(session, team, TokenForm(name="probe", scope="read"))[1])
"""


# -- the attacks: each sends `count` requests over `connections` connections, and says how they were answered ---------


async def ask(url: httpx.URL, source: str, request: bytes, times: int, seen: Counter[str]) -> int:
    """Send a request several times over one connection; returns how many were sent before it was closed."""
    sent = 0
    try:
        reader, writer = await asyncio.open_connection(url.host, url.port or 80, local_addr=(source, 0))
    except OSError:
        seen["no connection"] += 1
        return 1
    try:
        while sent < times:
            sent += 1
            writer.write(request)
            await writer.drain()
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
            seen[head[9:12].decode()] += 1
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
            await reader.readexactly(length)
            if b"connection: close" in head.lower():
                break
    except (OSError, asyncio.IncompleteReadError, TimeoutError):
        seen["closed"] += 1
    finally:
        writer.close()
    return sent


async def crowd(count: int, connections: int, most: int, one: Callable[[int, int], Awaitable[int]]) -> None:
    """Let so many connections work off so many requests, `most` over each before it is opened anew."""
    left = count

    async def work(number: int) -> None:
        nonlocal left
        while left > 0:
            share = min(left, most)
            left -= share
            sent = await one(number, share)
            left += share - sent

    await asyncio.gather(*(work(number) for number in range(connections)))


async def sign_ins(url: str, count: int, connections: int, seen: Counter[str], *, many: bool) -> None:
    """Wrong passwords with genuine forms: from one address, or from very many."""
    parts = httpx.URL(url)
    async with httpx.AsyncClient() as visitor:
        page = await visitor.get(f"{url}/sign-in")
    token = page.text.partition('name="form_token" value="')[2].partition('"')[0]
    body = f"form_token={token}&email={EMAIL}&password=wrong-horse-battery".replace("@", "%40").encode()
    cookies = "; ".join(f"{name}={value}" for name, value in page.cookies.items())
    request = (
        f"POST /sign-in HTTP/1.1\r\nHost: {parts.host}:{parts.port}\r\nCookie: {cookies}\r\nAccept: text/html\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    addresses = iter(f"127.{a}.{b}.{c}" for a in range(2, 250) for b in range(250) for c in range(2, 250))

    async def one(_: int, share: int) -> int:
        source = next(addresses) if many else "127.0.0.1"
        return await ask(parts, source, request, share, seen)

    await crowd(count, connections, 4 if many else 100, one)


async def oversized(url: str, count: int, connections: int, seen: Counter[str]) -> None:
    """Bodies and headers that are too large, to pages, the API and uploads in turn."""
    parts = httpx.URL(url)
    host = f"Host: {parts.host}:{parts.port}\r\n"
    requests = [
        f"POST /sign-in HTTP/1.1\r\n{host}Content-Length: 2000000\r\n\r\n".encode() + b"x" * 2_000_000,
        f"POST /api/v1/uploads?repository=a HTTP/1.1\r\n{host}Content-Length: 999999999999\r\n\r\n".encode()
        + b"x" * 300_000,
        f"GET / HTTP/1.1\r\n{host}X-Large: {'y' * 60_000}\r\n\r\n".encode(),
        f"POST /hooks/nobody HTTP/1.1\r\n{host}Content-Type: text/json\r\nContent-Length: 99999999\r\n\r\n".encode()
        + b"x" * 300_000,
    ]

    async def one(number: int, _: int) -> int:
        return await ask(parts, "127.0.0.1", requests[number % 4], 1, seen)

    await crowd(count, connections, 1, one)


async def slow(url: str, count: int, connections: int, seen: Counter[str]) -> None:
    """Headers and bodies of which a byte comes now and then, until the server has had enough."""
    parts = httpx.URL(url)
    host = f"Host: {parts.host}:{parts.port}\r\n"
    heads = [
        f"GET / HTTP/1.1\r\n{host}X-Slow: ".encode(),
        f"POST /sign-in HTTP/1.1\r\n{host}Content-Length: 5000\r\n\r\n".encode(),
    ]

    async def one(number: int, _: int) -> int:
        try:
            reader, writer = await asyncio.open_connection(parts.host, parts.port or 80)
        except OSError:
            seen["no connection"] += 1
            return 1
        try:
            writer.write(heads[number % 2])
            while not reader.at_eof():
                writer.write(b"z")
                await writer.drain()
                try:
                    answered = await asyncio.wait_for(reader.read(4096), 1.0)
                    if answered:
                        seen[answered[9:12].decode()] += 1
                except TimeoutError:
                    continue
        except OSError:
            pass
        seen["closed"] += 1
        writer.close()
        return 1

    await crowd(count, connections, 1, one)


ATTACKS = {
    "sign-ins": lambda url, count, seen: sign_ins(url, count, 64, seen, many=False),
    "sign-ins from many addresses": lambda url, count, seen: sign_ins(url, count, 64, seen, many=True),
    "oversized": lambda url, count, seen: oversized(url, count, 64, seen),
    "slow": lambda url, count, seen: slow(url, count, 2500, seen),
}


def attack(url: str, name: str, count: int) -> None:
    """Run one attack in this process and print what was answered."""
    seen: Counter[str] = Counter()
    asyncio.run(ATTACKS[name](url, count, seen))
    print(json.dumps(seen))


# -- the others --------------------------------------------------------------------------------------------------------


def probe(port: int, token: str, until: Callable[[float, int], bool]) -> list[float]:
    """Ask for the builds of a repository again and again; returns the seconds that each answer took."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    seconds: list[float] = []
    began = time.perf_counter()
    while not until(time.perf_counter() - began, len(seconds)):
        asked = time.perf_counter()
        connection.request("GET", "/api/v1/repositories/1/builds", headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        answer.read()
        seconds.append(time.perf_counter() - asked)
        if answer.status != 200:
            raise AssertionError(f"The read was answered {answer.status}.")
        time.sleep(PROBE_PAUSE)
    connection.close()
    return seconds


def sign_in(url: str, source: str, known: httpx.Cookies | None = None) -> tuple[int, float, httpx.Cookies]:
    """Sign the owner in from an address; returns status, seconds and the cookies of the browser."""
    with httpx.Client(base_url=url, transport=httpx.HTTPTransport(local_address=source), cookies=known) as browser:
        page = browser.get("/sign-in")
        token = page.text.partition('name="form_token" value="')[2].partition('"')[0]
        began = time.perf_counter()
        answer = browser.post("/sign-in", data={"form_token": token, "email": EMAIL, "password": PASSWORD}, timeout=60)
        return answer.status_code, time.perf_counter() - began, browser.cookies


def describe(seconds: list[float]) -> tuple[float, float]:
    """Median and 95th percentile, in milliseconds."""
    return median(seconds) * 1000, quantiles(seconds, n=20)[18] * 1000


def storm(server: SimpleNamespace, name: str, count: int, quiet: tuple[float, float]) -> tuple[float, float]:
    """Measure the others while an attack runs; returns the ratios of medians and of 95th percentiles."""
    words = [sys.executable, "-m", "benchmarks.flood", "--attack", name, "--url", server.url, "--count", str(count)]
    began = time.perf_counter()
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE) as attacker:
        time.sleep(1.0)
        ways = []
        if name.startswith("sign-ins"):
            for way, source, known in (
                ("from another address", "127.1.1.1", None),
                ("in a known browser", "127.0.0.1", server.known),
            ):
                status, seconds, _ = sign_in(server.url, source, known)
                ways.append(f"{way} {'signed in' if status == 303 else f'answered {status}'} in {seconds:.2f} s")
        found = describe(probe(server.port, server.token, lambda _, __: attacker.poll() is not None))
        said = json.loads(attacker.stdout.read() if attacker.stdout else b"{}")
    lasted = time.perf_counter() - began
    ratios = found[0] / quiet[0], found[1] / quiet[1]
    print(
        f"{name:<29} {count:>7} in {lasted:5.0f} s  median {found[0]:6.2f} ms ×{ratios[0]:.2f}"
        f"  p95 {found[1]:6.2f} ms ×{ratios[1]:.2f}  {dict(sorted(said.items()))}"
    )
    for line in ways:
        print(f"{'':<29} the owner {line}")
    return ratios


def run(attempts: int, bad_requests: int, only: str) -> None:
    """Start a server, measure it in quiet and in each storm."""
    with tempfile.TemporaryDirectory() as folder:
        installation = Installation(Path(folder), f"sqlite:///{folder}/cachescope.db", chaos.free_port())
        filled = subprocess.run(
            [sys.executable, "-c", FILL, EMAIL, PASSWORD],
            cwd=ROOT,
            env=installation.environment,
            check=True,
            capture_output=True,
            text=True,
        )
        with (Path(folder) / "web.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "service.server", "--port", str(installation.port), "--log-level", "warning"],
                cwd=ROOT,
                env=installation.environment | {"FORWARDED_ALLOW_IPS": ""},
                stdout=log,
                stderr=log,
            )
            try:
                server = SimpleNamespace(
                    url=installation.url, port=installation.port, token=filled.stdout.split()[-1], known=None
                )
                wait_for(lambda: answers(server.url), "the server")
                server.known = sign_in(server.url, "127.0.0.1")[2]
                server.known.delete("cachescope_session")
                probe(server.port, server.token, lambda seconds, _: seconds > 3)
                quiet = describe(probe(server.port, server.token, lambda seconds, _: seconds > 10))
                print(f"{'quiet':<29} {'':>18}  median {quiet[0]:6.2f} ms        p95 {quiet[1]:6.2f} ms")
                for name in ATTACKS:
                    if only in {"", name}:
                        storm(server, name, attempts if name == "sign-ins" else bad_requests, quiet)
                after = describe(probe(server.port, server.token, lambda seconds, _: seconds > 5))
                print(f"{'quiet again':<29} {'':>18}  median {after[0]:6.2f} ms        p95 {after[1]:6.2f} ms")
                print(f"the log of the server has {(Path(folder) / 'web.log').stat().st_size / 1024:.0f} KiB")
            finally:
                process.terminate()
                process.wait(30)


def answers(url: str) -> bool:
    """Whether the server is there."""
    try:
        return httpx.get(f"{url}/healthz", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attempts", type=int, default=100_000)
    parser.add_argument("--bad-requests", type=int, default=10_000)
    parser.add_argument("--only", choices=["", *ATTACKS], default="")
    parser.add_argument("--attack", choices=sorted(ATTACKS), help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.attack:
        attack(given.url, given.attack, given.count)
    else:
        run(given.attempts, given.bad_requests, given.only)


if __name__ == "__main__":
    main()
