"""A packed log on its way to a server: sent, again after a failure that may pass, and never twice."""

import hashlib
import itertools
import random
import re
import secrets
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import orjson
from backports import zstd

from cachescope.cli.packing import PIECE, PackedLog
from cachescope.cli.words import duration, printable
from cachescope.errors import SettingsError, UploadError

MAX_ANSWER_BYTES: Final = 1024 * 1024
ATTEMPTS: Final = 5
FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 30.0
_NUMBER: Final = re.compile(r"\[Errno -?[0-9]{1,5}\] ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where logs go, and the token that opens the door."""

    url: str
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """The server's receipt."""

    id: str
    url: str
    page: str
    state: str
    build_pages: tuple[str, ...] = ()


def find_server(url: str | None, token: str | None, environment: Mapping[str, str]) -> Server:
    """Take address and token from the options, the environment or the settings file, in this order.

    Raises SettingsError when one is missing or cannot work.
    """
    path = settings_path(environment)
    stored = read_settings(path)
    url = url or environment.get("CACHESCOPE_URL") or stored.get("url")
    token = token or environment.get("CACHESCOPE_TOKEN") or stored.get("token")
    if not url:
        raise SettingsError(
            f'No server is set. Give --url, or set CACHESCOPE_URL, or write `url = "https://…"` into {path}.'
        )
    try:
        parts = urlsplit(url)
        works = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        works = False
    if not works:
        raise SettingsError(f'The server\'s address "{url}" cannot be used: it must begin with https:// or http://.')
    if not token:
        raise SettingsError(
            f"No upload token is set. Make one on the team's settings page of {url} and set CACHESCOPE_TOKEN, "
            f'or write `token = "…"` into {path}.'
        )
    if not token.isascii() or not token.isprintable() or " " in token.strip():
        raise SettingsError("The upload token holds a character that no token has. Copy it again.")
    return Server(url=url.rstrip("/"), token=token.strip())


def settings_path(environment: Mapping[str, str]) -> Path:
    """Return where the settings file is looked for."""
    if given := environment.get("CACHESCOPE_CONFIG"):
        return Path(given)
    folder = environment.get("XDG_CONFIG_HOME") or (Path(environment.get("HOME", "~")).expanduser() / ".config")
    return Path(folder) / "cachescope" / "config.toml"


def read_settings(path: Path) -> dict[str, str]:
    """Read the settings file; one that is not there is empty."""
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}
    except (OSError, ValueError) as error:
        raise SettingsError(f"The settings file {path} cannot be read: {error}.") from error
    return {name: value for name, value in settings.items() if isinstance(value, str)}


def idempotency_key(log: PackedLog, parameters: Mapping[str, str]) -> str:
    """Return a key that is the same for the same log of the same run only."""
    identity = orjson.dumps([log.digest, sorted(parameters.items())])
    return hashlib.sha256(identity).hexdigest()[:40]


def send_log(
    log: PackedLog,
    server: Server,
    parameters: Mapping[str, str],
    *,
    evidence: bytes | None = None,
    attempts: int = ATTEMPTS,
    timeout: httpx.Timeout | None = None,
    notify: Callable[[str], None] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Delivery:
    """Send a packed log; raises UploadError when it was refused or could not be sent in all attempts.

    `evidence` is the JSON document of what surrounds the build; it makes the body a form of two parts.
    """
    body_headers, read_body = make_body(log, evidence)
    query = {**parameters, "idempotency_key": parameters.get("idempotency_key") or idempotency_key(log, parameters)}
    timeout = timeout or httpx.Timeout(30.0, connect=10.0)
    with httpx.Client(timeout=timeout, headers={"Authorization": f"Bearer {server.token}"}) as client:
        for attempt in range(1, attempts + 1):
            try:
                answer = client.send(
                    client.build_request(
                        "POST",
                        f"{server.url}/api/v1/uploads",
                        params=query,
                        content=read_body(),
                        headers=body_headers,
                    ),
                    stream=True,
                )
                body = read_answer(answer)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                problem, pause = f"{server.url} cannot be reached: {explain(error)}.", None
                if isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol)):
                    raise UploadError(problem) from error
            else:
                if answer.status_code in (200, 201, 202):
                    return read_delivery(body, server)
                problem = f"{server.url} refused the log: {problem_text(answer, body)}"
                if answer.status_code not in (408, 425, 429) and answer.status_code < 500:
                    raise UploadError(problem)
                pause = answer.headers.get("retry-after")
            if attempt == attempts:
                break
            seconds = pause_seconds(attempt, pause)
            notify(f"{problem} Trying again in {duration(seconds)} ({attempt} of {attempts}).")
            sleep(seconds)
    raise UploadError(problem)


def make_body(log: PackedLog, evidence: bytes | None) -> tuple[dict[str, str], Callable[[], Iterator[bytes]]]:
    """Return the headers of a request and what reads its body, from the beginning at each call."""
    if evidence is None:
        headers = {
            "Content-Type": "text/plain; charset=utf-8",
            "Content-Encoding": "zstd",
            "Content-Length": str(log.packed_bytes),
        }
        return headers, lambda: read_pieces(log)
    boundary = secrets.token_hex(16)
    start = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="evidence"\r\n\r\n'.encode()
        + zstd.compress(evidence, 9)
        + f'\r\n--{boundary}\r\nContent-Disposition: form-data; name="log"\r\n\r\n'.encode()
    )
    end = f"\r\n--{boundary}--\r\n".encode()
    headers = {
        "Content-Type": f"multipart/form-data; boundary={boundary}",
        "Content-Length": str(len(start) + log.packed_bytes + len(end)),
    }
    return headers, lambda: itertools.chain([start], read_pieces(log), [end])


def read_pieces(log: PackedLog) -> Iterator[bytes]:
    """Yield the packed log from its beginning."""
    log.file.seek(0)
    while piece := log.file.read(PIECE):
        yield piece


def read_answer(answer: httpx.Response) -> bytes:
    """Read an answer up to a cap: what answers may be anything."""
    body = bytearray()
    try:
        for piece in answer.iter_bytes(PIECE):
            body += piece
            if len(body) > MAX_ANSWER_BYTES:
                break
    finally:
        answer.close()
    return bytes(body)


def explain(error: Exception) -> str:
    """Say in words what stopped a connection."""
    match error:
        case httpx.ConnectTimeout():
            return "nothing answers there"
        case httpx.TimeoutException():
            return "it did not answer in time"
    text = _NUMBER.sub("", printable(str(error))).strip().rstrip(".") or type(error).__name__
    return text[0].lower() + text[1:]


def problem_text(answer: httpx.Response, body: bytes) -> str:
    """Return the sentence of a problem document (RFC 9457), or what can be said without one."""
    try:
        document = orjson.loads(body)
    except ValueError:
        document = None
    if isinstance(document, dict):
        for name in ("detail", "title"):
            if isinstance(text := document.get(name), str) and text:
                return printable(text[:500])
    if answer.is_redirect:
        target = printable(answer.headers.get("location", "")[:200])
        return f"it redirects to {target}. Set the server's own address."
    return f"it answered with status {answer.status_code} and nothing that Cachescope says. Is this the right address?"


def pause_seconds(attempt: int, retry_after: str | None) -> float:
    """Return how long to wait: as long as the server asks, within reason, else twice as long each time."""
    if retry_after and retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 6:
        return min(float(retry_after), LONGEST_PAUSE_SECONDS)
    exact = FIRST_PAUSE_SECONDS * 2.0 ** (attempt - 1)
    return float(min(exact * random.uniform(0.8, 1.2), LONGEST_PAUSE_SECONDS))  # noqa: S311  # spreads clients, guards nothing


def read_delivery(body: bytes, server: Server) -> Delivery:
    """Read a receipt; raises UploadError for an answer that is none."""
    try:
        document: Any = orjson.loads(body)
        found = document["delivery"]
        identity = str(found["id"])
        builds = [build.get("page") for build in found.get("builds") or []]
        return Delivery(
            id=identity,
            url=str(found.get("url") or f"{server.url}/api/v1/deliveries/{identity}"),
            page=str(found.get("page") or f"{server.url}/deliveries/{identity}"),
            state=str(found.get("state") or "new"),
            build_pages=tuple(str(page) for page in builds if page),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UploadError(f"{server.url} gave an answer that is no receipt. Is this a Cachescope server?") from error


def wait_for_builds(delivery: Delivery, server: Server, seconds: float) -> Delivery:
    """Ask until a worker has read the log, at most so long; returns what is known then."""
    end = time.monotonic() + seconds
    address = f"{server.url}/api/v1/deliveries/{delivery.id}"
    with httpx.Client(timeout=5.0, headers={"Authorization": f"Bearer {server.token}"}) as client:
        while delivery.state in ("new", "working") and time.monotonic() < end:
            time.sleep(0.2)
            try:
                answer = client.get(address)
            except httpx.HTTPError:
                continue
            if answer.status_code != 200:
                break
            document = orjson.loads(answer.content)
            delivery = read_delivery(orjson.dumps({"delivery": document.get("delivery", document)}), server)
    return delivery
