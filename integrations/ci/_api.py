"""Asking the API of a CI system: one server, its credentials, and what each kind of answer means."""

import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from cachescope.errors import CachescopeError
from integrations.http import Answer, HttpClient, StreamedAnswer, UnreachableError, retry_after

MOST_PAGES = 10
FILE_BYTES = 1024 * 1024
"""The largest Dockerfile that is looked at."""
LOG_SECONDS = 600.0
_ERROR_BYTES = 64 * 1024

Query = Mapping[str, str | int]


class NotYetError(CachescopeError):
    """What was asked for is not there and may still come, such as the log of a job that has just ended."""


class NeverError(CachescopeError):
    """What was asked for will never be there; the sentence says why."""


class DeniedError(CachescopeError):
    """The credentials of a source do not hold, or do not suffice."""


class PausedError(CachescopeError):
    """A CI system wants to be left alone for a while: its rate limit is used up, or it is too busy."""

    def __init__(self, sentence: str, seconds: float | None = None) -> None:
        super().__init__(sentence)
        self.seconds = seconds
        """How long, where it said so."""


@dataclass(slots=True)
class Api:
    """The API of one source; `credentials` are headers that go to its server alone."""

    client: HttpClient
    url: str
    """Where the API begins, without a stroke at its end."""
    credentials: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def get(self, path: str, query: Query | None = None, *, accept: str = "") -> Any:
        """Ask for JSON; None where nothing is there."""
        answer = self.ask(path, query, accept=accept)
        return None if answer is None else answer.json()

    def ask(self, path: str, query: Query | None = None, *, accept: str = "") -> Answer | None:
        """Ask for a whole answer of success; None for 404 and 410. Raises the errors of this module."""
        headers = dict(self.headers) | ({"accept": accept} if accept else {})
        answer = self.client.request(
            "GET", self.address(path, query or {}), headers=headers, credentials=self.credentials
        )
        return None if is_missing(answer) else answer

    def rows(self, path: str, name: str | None = None, query: Query | None = None) -> Iterator[dict[str, Any]]:
        """The rows of a list over its pages, of which the first ten are read; `name` is the list's own in an object.

        Pages are counted: the address of the next one would be told by the answer, and is not believed.
        """
        for number in range(1, MOST_PAGES + 1):
            answer = self.ask(path, {**(query or {}), "page": number})
            found = answer.json() if answer is not None else None
            rows = found.get(name) if isinstance(found, dict) and name else found
            if not isinstance(rows, list):
                return
            yield from (row for row in rows if isinstance(row, dict))
            if not rows or answer is None or not _has_next(answer):
                return

    def pieces(self, path: str, cap_bytes: int, *, accept: str = "text/plain") -> Generator[bytes, None, None] | None:
        """Read a log as it comes; None for 404 and 410. Raises TooLargeError past the cap."""
        stream = self._pieces(path, cap_bytes, accept)
        if next(stream) == b"found":
            return stream
        stream.close()
        return None

    def _pieces(self, path: str, cap_bytes: int, accept: str) -> Generator[bytes, None, None]:
        with self.client.stream(
            "GET",
            self.address(path, {}),
            headers=dict(self.headers) | {"accept": accept},
            credentials=self.credentials,
            seconds=LOG_SECONDS,
        ) as answer:
            if answer.status != 200 and is_missing(_brief(answer)):
                yield b"missing"
                return
            yield b"found"
            yield from answer.pieces(cap_bytes)

    def address(self, path: str, query: Query) -> str:
        """The address of a path, whose parts are quoted already."""
        return f"{self.url}{path}" + (f"?{urlencode(query)}" if query else "")


def part(value: object) -> str:
    """Quote one part of a path: a stroke in it becomes %2F."""
    return quote(str(value), safe="")


def path_of(value: object) -> str:
    """Quote a path of several parts; `..` and empty parts are left out, for they would lead elsewhere."""
    return "/".join(quote(one, safe="") for one in str(value).split("/") if one not in {"", ".", ".."})


def _brief(answer: StreamedAnswer) -> Answer:
    try:
        return answer.read(_ERROR_BYTES)
    except CachescopeError:  # the words of an error are of no use when there are too many
        return Answer(answer.status, answer.headers)


def _has_next(answer: Answer) -> bool:
    link, next_page = answer.headers.get("link", ""), answer.headers.get("x-next-page", "")
    return 'rel="next"' in link or bool(next_page.strip())


def is_missing(answer: Answer) -> bool:
    """Whether nothing is there; raises for every other answer that is not one of success."""
    if answer.is_success:
        return False
    status, text = answer.status, answer.content[:2000].decode("utf-8", "replace")
    if status in {404, 410}:
        return True
    pause = retry_after(answer.headers, time.time())
    if status == 429 or (status == 403 and (pause is not None or "rate limit" in text.lower())):
        raise PausedError("Its rate limit is used up: it is asked again when the limit begins anew.", pause)
    if status == 503 and pause is not None:
        raise PausedError("It is too busy and asks for patience.", pause)
    if status in {401, 403}:
        raise DeniedError(
            f"It refuses our credentials (status {status}). Check the token of the source, its end and its permissions."
        )
    if status == 500 and any(word in text for word in ("does not exist", "no such file", "not found")):
        return True  # Gitea says so of a log that was deleted
    if status >= 500:
        raise UnreachableError(f"It answered with the status {status}.")
    if 300 <= status < 400:
        raise NeverError(f"It sends us elsewhere (status {status}) without saying where.")
    raise NeverError(f"It does not understand our question (status {status}).")
