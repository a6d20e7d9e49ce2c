"""Sends one request of a channel and says what came of it, without telling the address, which is often the secret."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from cachescope.errors import CachescopeError
from integrations.channels.base import Context, PostponedError, RefusedError
from integrations.http import Answer, ForbiddenAddressError, HttpClient, OutgoingError

_LARGEST_ANSWER = 64 * 1024
_SECONDS = 15.0
_WORTH_A_TRY = frozenset({408, 409, 421, 423, 425, 429})


def read_address(text: str) -> str:
    """Read the address that a form gives for a channel; raises ValueError."""
    url = text.strip()
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good or "@" in parts.netloc or len(url) > 2000 or not url.isprintable() or " " in url:
        raise ValueError("An address begins with https:// and holds no password and no blanks.")
    return url


def post(
    context: Context,
    url: str,
    *,
    json: object = None,
    content: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    method: str = "POST",
    cap_bytes: int = _LARGEST_ANSWER,
) -> Answer:
    """Send a request; raises RefusedError or PostponedError unless the answer says success."""
    host = urlsplit(url).hostname or "the receiver"
    try:
        with HttpClient(context.reach) as client:
            answer = client.request(
                method,
                url,
                credentials=headers,
                json=json,
                content=content,
                seconds=_SECONDS,
                cap_bytes=cap_bytes,
            )
    except ForbiddenAddressError as error:
        raise RefusedError(_without_address(error, url, host)) from None
    except OutgoingError as error:
        raise PostponedError(_without_address(error, url, host)) from None
    except CachescopeError as error:
        raise PostponedError(f"The answer of {host} cannot be read: {error}") from None
    if answer.is_success:
        return answer
    said = "".join(letter if letter.isprintable() else " " for letter in answer.content[:200].decode(errors="replace"))
    sentence = f"{host} answered {answer.status}" + (f": {said.strip()}" if said.strip() else "") + "."
    sentence = _without(sentence, url)
    if answer.status >= 500 or answer.status in _WORTH_A_TRY:
        raise PostponedError(sentence, answer.retry_after(context.timestamp))
    if 300 <= answer.status < 400:
        raise RefusedError(f"{host} answered {answer.status}: it leads elsewhere. Give the address that it leads to.")
    raise RefusedError(sentence)


def _without_address(error: Exception, url: str, host: str) -> str:
    text = _without(str(error), url)
    return text if host in text else f"{host}: {text}"


def _without(text: str, url: str) -> str:
    parts = urlsplit(url)
    shown = f"{parts.scheme}://{parts.hostname}/…"
    text = text.replace(url, shown).replace(url.partition("?")[0], shown)
    for secret in {parts.path, parts.query, *parts.path.split("/")}:
        if len(secret) >= 8:
            text = text.replace(secret, "…")
    return text
