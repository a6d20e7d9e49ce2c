"""Reading the body of an event: every value is checked for its form, and one that does not fit counts as missing.

What a sender says is untrusted even after its signature held: names of branches, jobs and images come from whoever
opened a pull request. Nothing here raises for any value but a body that is no JSON object at all.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import orjson

from cachescope.cli.environment import repository_name
from cachescope.errors import UnreadableInputError
from integrations.ci.base import CIRun, HookRequest, Ignored

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_COMMIT = re.compile(r"[0-9a-fA-F]{7,64}\Z")
_DIGITS = re.compile(r"[0-9]{1,18}\Z")
_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}\Z")  # `.github` is a repository's name
_UUID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\Z")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[T ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?"
    r" ?(Z|UTC|[+-][0-9]{2}:?[0-9]{2})?\Z"
)
_PULL = re.compile(r"(?:refs/)?(?:pull|pulls|merge-requests|pull-requests|changes)/([0-9]{1,9})(?:/[a-z-]{1,20})?\Z")
_EARLIEST, _LATEST = datetime(2000, 1, 1, tzinfo=UTC).timestamp(), datetime(2200, 1, 1, tzinfo=UTC).timestamp()
_NOT_A_NAME = frozenset({"", ".", ".."})


def load_event(request: HookRequest) -> dict[str, Any]:
    """Return the body as an object. Raises UnreadableInputError."""
    try:
        event = orjson.loads(request.body)
    except orjson.JSONDecodeError as error:
        raise UnreadableInputError(f"The body is not JSON: {error}.") from error
    if not isinstance(event, dict):
        raise UnreadableInputError("The body is not an event: it must be a JSON object.")
    return event


def part(value: object, *path: str | int) -> Any:
    """Return what lies at a path of names and positions; None when anything on the way is missing."""
    for step in path:
        match value, step:
            case dict(), str():
                value = value.get(step)
            case list(), int() if step < len(value):
                value = value[step]
            case _:
                return None
    return value


def rows(value: object) -> list[Any]:
    """Return the objects of a list, of the first hundred; an empty list for anything else."""
    return [row for row in value[:100] if isinstance(row, dict)] if isinstance(value, list) else []


def text(value: object, longest: int = 200) -> str | None:
    """Return a text of one line that is not empty, cut to a length; None for anything else."""
    if not isinstance(value, str):
        return None
    return _UNPRINTABLE.sub(" ", value[: longest * 2]).strip()[:longest].strip() or None


def branch(value: object) -> str | None:
    """Return the branch of a short or full ref; None for a tag, for the ref of a pull request and for no ref at all."""
    if not isinstance(value, str) or not 0 < len(value) <= 255 or _UNPRINTABLE.search(value):
        return None
    name = value.removeprefix("refs/heads/")
    if name.startswith("refs/") or _PULL.match(name):
        return None
    return name.strip() or None


def pull_request(ref: object) -> int | None:
    """Return the number in a ref such as refs/pull/7/merge, pull/7 or refs/merge-requests/7/head."""
    found = _PULL.match(ref) if isinstance(ref, str) else None
    return number(found[1]) if found else None


def commit(value: object) -> str | None:
    """Return a commit's id in lower case; None for `HEAD`, for nought only and for anything that is no id."""
    if isinstance(value, str) and _COMMIT.match(value) and value.strip("0"):
        return value.lower()
    return None


def number(value: object, least: int = 1, most: int = 2**31 - 1) -> int | None:
    """Return a whole number within bounds, also one that was written as text."""
    if isinstance(value, str) and _DIGITS.match(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if least <= value <= most else None


def identity(value: object) -> int | None:
    """Return the number by which a CI system knows something."""
    return number(value, 1, 2**63 - 1)


def uuid(value: object) -> str | None:
    """Return a UUID in lower case."""
    return value.lower() if isinstance(value, str) and _UUID.match(value) else None


def slug(value: object) -> str | None:
    """Return a name that is one part of an address: letters, digits, full stop, dash, underline."""
    return value if isinstance(value, str) and _SLUG.match(value) and value not in _NOT_A_NAME else None


def full_name(value: object) -> str | None:
    """Return `owner/name` of which both are one part of an address."""
    owner, _, name = value.partition("/") if isinstance(value, str) else ("", "", "")
    return f"{owner}/{name}" if slug(owner) and _NAME.match(name) and name not in _NOT_A_NAME else None


def digest(value: object) -> str | None:
    """Return the digest of an image's manifest."""
    return value if isinstance(value, str) and _DIGEST.match(value) else None


def url(value: object) -> str | None:
    """Return an address that begins with http:// or https:// and holds no password; it is shown, never called."""
    if not isinstance(value, str) or len(value) > 2000 or _UNPRINTABLE.search(value) or " " in value:
        return None
    try:
        parts = urlsplit(value)
    except ValueError:
        return None
    return value if parts.scheme in {"http", "https"} and parts.netloc and "@" not in parts.netloc else None


def time(value: object) -> datetime | None:
    """Return a moment of ISO 8601, of `2023-01-10 13:50:05 UTC`, or in seconds since 1970; None before the year 2000.

    Go's zero time and Unix's are how some systems write that there is none. A time without a zone is in UTC.
    """
    if isinstance(value, str) and (found := _TIME.match(value)):
        *whole, fraction, zone = found.groups()
        zone = "+00:00" if zone in {None, "Z", "UTC"} else zone
        micro = (fraction or "0")[:6].ljust(6, "0")
        stamp = "{}-{}-{}T{}:{}:{}".format(*whole)
        try:
            value = datetime.fromisoformat(f"{stamp}.{micro}{zone}").timestamp()
        except (ValueError, OverflowError):
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return datetime.fromtimestamp(value, UTC) if _EARLIEST <= value < _LATEST else None


def repository(value: object) -> str | None:
    """Return `owner/name` of a repository's address or of the name itself."""
    if not isinstance(value, str) or len(value) > 1000 or _UNPRINTABLE.search(value):
        return None
    is_address = ":" in value or "@" in value
    name = repository_name(value) if is_address else value.strip().strip("/").removesuffix(".git")
    return name if len(name) <= 200 and _is_path(name) else None


def _is_path(value: str) -> bool:
    """Whether this is `owner/name`, with groups between them or without an owner, and no address."""
    return ":" not in value and "@" not in value and not any(one.strip() in _NOT_A_NAME for one in value.split("/"))


def joined(*names: object) -> str | None:
    """Return the names that are there with a stroke between them, as the command line names jobs."""
    return text(" / ".join(name for one in names if (name := text(one))))


def pick(**values: str | int | None) -> dict[str, str | int]:
    """Return the values that are there."""
    return {name: value for name, value in values.items() if value is not None}


def guess(event: Mapping[str, object]) -> str:
    """Tell the kind of a body whose header is not there, for the reason why it is left aside."""
    for sign in ("pull_request", "pullrequest", "issue", "release", "push", "comment"):
        if sign in event:
            return sign
    return "push" if "commits" in event or "after" in event else "unknown event"


def ignored(what: object, reason: str) -> Ignored:
    """Return an event that is left aside: what it is, cleaned and cut, and why."""
    # Characters that no Unicode of this Python knows are left out too: the sentence stands in logs and on pages.
    known = "".join(letter for letter in text(what, 80) or "" if letter.isprintable()).strip()
    return Ignored(f'"{known or "?"}": {reason}')


def job(
    parameters: Mapping[str, str | int | None],
    *,
    started: object = None,
    finished: object = None,
    reference: Mapping[str, str | int] | None = None,
) -> CIRun:
    """Return a finished job with what is known of it."""
    return CIRun(
        parameters=pick(**parameters),
        started_at=time(started),
        finished_at=time(finished),
        log_reference=dict(reference or {}),
    )
