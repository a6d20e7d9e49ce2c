"""What a forge must be able to do so that a pull request hears of its builds: comment, judge, and say what changed.

Addresses are made of the base URL of the source and of checked names and ids; nothing that a forge answers is ever
called. Every answer but the expected ones becomes one of two errors: try later, or never.
"""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

from cachescope.errors import CachescopeError
from cachescope.feedback import Verdict
from integrations.http import Answer, HttpClient, UnreachableError

MOST_PAGES = 30
PAGE = 100
_SECONDS = 20.0
_COMMIT = re.compile(r"[0-9a-f]{7,64}\Z")


class FeedbackRefusedError(CachescopeError):
    """A forge does not take what we say, and will not take it later either; the sentence says what to mend."""


class ForgeBusyError(CachescopeError):
    """A forge is away or asks for patience."""

    def __init__(self, sentence: str, seconds: float | None = None) -> None:
        super().__init__(sentence)
        self.seconds = seconds
        """How long it asked us to wait; None where it did not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PullRequest:
    """A pull or merge request as the forge knows it now."""

    number: int
    head: str
    """Its last commit."""
    base: str
    """The branch that it is to go into."""
    is_open: bool
    is_foreign: bool
    """Its commits come from another repository, whose owner may not write into ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedFiles:
    """The files of a pull request, as paths of the repository; the former path of a renamed file is one too."""

    paths: tuple[str, ...]
    is_complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A check run or commit status: what it is called and what it says."""

    name: str
    """Plain and short; branch rules refer to it."""
    verdict: Verdict
    url: str | None = None
    pipeline_id: int | None = None
    """GitLab's, where it is known: without it a status may open a pipeline of its own."""


class Forge(Protocol):
    """One repository of a forge, with the right to write."""

    check_kind: str
    """What `write_check` makes: `check` or `status`."""

    def read_pull_request(self, number: int) -> PullRequest | None:
        """Look up a pull request; None where there is none."""
        ...

    def find_pull_request(self, commit: str) -> PullRequest | None:
        """Find the open pull request that a commit belongs to; None where there is none."""
        ...

    def find_comment(self, number: int, marker: str) -> str | None:
        """Find the comment of ours with a marker; one that somebody else wrote with it does not count."""
        ...

    def write_comment(self, number: int, body: str) -> str:
        """Write a comment and return its id."""
        ...

    def edit_comment(self, number: int, comment_id: str, body: str) -> bool:
        """Put another text in place of a comment of ours; False when it is gone or not ours."""
        ...

    def write_check(self, commit: str, check: Check, former_id: str | None) -> str | None:
        """Write a check or status, over the former one where it can be edited; returns its id if it has one."""
        ...

    def list_changed_files(self, number: int) -> ChangedFiles:
        """List the files that a pull request changes, up to the limits of the forge."""
        ...

    def read_file(self, path: str, ref: str, cap_bytes: int = 1_000_000) -> str | None:
        """Read a text file at a commit or branch; None where there is none, and for one that is too large."""
        ...


class ForgeMaker(Protocol):
    """Makes the forge of one repository: the constant that each module of this folder exports."""

    def __call__(self, api: "Api", repository: str, *, app_id: str | None) -> Forge:
        """`repository` is its full name; `app_id` is set where the credentials are those of an App."""
        ...


@dataclass(frozen=True, slots=True)
class Api:
    """A forge's API: its base URL, its credentials, and what its answers mean."""

    client: HttpClient
    base_url: str
    """Of the API, without a stroke at its end."""
    credentials: Mapping[str, str]

    def call(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        missing: Sequence[int] = (),
        headers: Mapping[str, str] | None = None,
    ) -> Answer | None:
        """Send a request; None where the answer is one of the statuses that mean "there is none".

        Raises ForgeBusyError and FeedbackRefusedError.
        """
        try:
            answer = self.client.request(
                method,
                f"{self.base_url}{path}",
                headers=headers,
                credentials=self.credentials,
                json=json,
                seconds=_SECONDS,
            )
        except UnreachableError as error:
            raise ForgeBusyError(str(error)) from error
        if answer.is_success:
            return answer
        pause = answer.retry_after(time.time())
        # GitHub's secondary limits say so in words alone.
        is_limited = answer.status == 403 and (pause is not None or b"rate limit" in answer.content[:2000].lower())
        if answer.status in {408, 425, 429} or answer.status >= 500 or is_limited:
            raise ForgeBusyError(f"The forge answered {answer.status} to {method} {_shown(path)}.", pause)
        if answer.status in missing:
            return None
        raise FeedbackRefusedError(_why(answer, method, path))

    def json(self, method: str, path: str, **options: Any) -> Any:
        """Send a request and return the JSON of its answer; None where there is none."""
        answer = self.call(method, path, **options)
        return None if answer is None else answer.json()

    def pages(
        self, path: str, *, size: str = "per_page", headers: Mapping[str, str] | None = None
    ) -> Iterator[list[dict[str, Any]]]:
        """Yield the objects of a list page by page, as far as anybody reads: the pages are counted by us.

        `size` is what the forge calls the length of a page.
        """
        mark = "&" if "?" in path else "?"
        for number in range(1, MOST_PAGES + 1):
            answer = self.call("GET", f"{path}{mark}{size}={PAGE}&page={number}", headers=headers)
            rows = answer.json() if answer is not None else []
            if not isinstance(rows, list):
                raise FeedbackRefusedError(f"The forge answered no list to GET {_shown(path)}.")
            yield [row for row in rows if isinstance(row, dict)]
            if answer is None or not rows or not _has_next(answer.headers):
                return


def _has_next(headers: Mapping[str, str]) -> bool:
    return 'rel="next"' in headers.get("link", "") or bool(headers.get("x-next-page", "").strip())


def _why(answer: Answer, method: str, path: str) -> str:
    told = {
        401: "the credentials for writing do not hold. Renew them where the source is set up",
        403: "the credentials may not do this. Give them the right to write comments and statuses",
        404: "there is no such thing, or the credentials may not see it",
    }.get(answer.status, "")
    said = re.sub(r"[^\x20-\x7e]+", " ", answer.content[:300].decode(errors="replace")).strip()
    return f"The forge answered {answer.status} to {method} {_shown(path)}" + (f": {told}." if told else f": {said}")


def _shown(path: str) -> str:
    return path.partition("?")[0][:200]


def checked_commit(commit: str) -> str:
    """Return a commit that may stand in an address; raises FeedbackRefusedError for anything else."""
    if not _COMMIT.match(commit):
        raise FeedbackRefusedError(f'"{commit[:40]}" is no commit that a forge knows.')
    return commit


def checked_repository(name: str) -> str:
    """Return `owner/name` that may stand in an address; raises FeedbackRefusedError for anything else."""
    parts = name.split("/")
    if len(parts) < 2 or any(not part or part in {".", ".."} for part in parts):
        raise FeedbackRefusedError(f'"{name[:80]}" is no repository of a forge: its name must read owner/name.')
    return "/".join(quote(part, safe="") for part in parts)


def quoted_path(path: str) -> str:
    """Return the path of a file for an address, its strokes kept."""
    return "/".join(quote(part, safe="") for part in path.split("/") if part not in {"", ".", ".."})


def text_of(answer: Answer | None, cap_bytes: int) -> str | None:
    """Return the text of an answer; None for none, for what is too large and for what is no text."""
    if answer is None or len(answer.content) > cap_bytes:
        return None
    try:
        return answer.content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def number_of(value: object) -> int | None:
    """Return a positive whole number; None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 62 else None
