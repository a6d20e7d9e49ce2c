"""What a sender may say about a log: names, lengths and values; what cannot be taken is refused with one sentence."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from urllib.parse import urlsplit

from cachescope.errors import InvalidValueError, UnknownNameError
from cachescope.redaction import redact_text

OUTCOMES = ("succeeded", "failed", "canceled")

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_HEX = re.compile(r"[0-9a-fA-F]{7,64}\Z")
_NUMBER = re.compile(r"[0-9]{1,10}\Z")
_CI = re.compile(r"[a-z0-9][a-z0-9-]{0,49}\Z")

Value = str | int
Check = Callable[[str, str], Value]


def _text(longest: int) -> Check:
    def check(name: str, value: str) -> str:
        if len(value) > longest:
            raise InvalidValueError(name, f"{name} has {len(value)} characters; at most {longest} are taken.")
        if _UNPRINTABLE.search(value):
            raise InvalidValueError(name, f"{name} holds a character that cannot be printed. Send plain text.")
        return redact_text(value)

    return check


def _number(least: int, most: int) -> Check:
    def check(name: str, value: str) -> int:
        if not _NUMBER.match(value) or not least <= int(value) <= most:
            raise InvalidValueError(
                name, f'{name} is "{value[:40]}"; it must be a whole number from {least} to {most}.'
            )
        return int(value)

    return check


def _commit(name: str, value: str) -> str:
    if not _HEX.match(value):
        raise InvalidValueError(
            name, f'{name} is "{value[:80]}"; it must be the commit\'s id, 7 to 64 hexadecimal digits.'
        )
    return value.lower()


def _outcome(name: str, value: str) -> str:
    if value not in OUTCOMES:
        raise InvalidValueError(name, f'{name} is "{value[:40]}"; it must be one of {", ".join(OUTCOMES)}.')
    return value


def _ci(name: str, value: str) -> str:
    if not _CI.match(value):
        raise InvalidValueError(name, f'{name} is "{value[:80]}"; it must be a name such as github-actions or gitlab.')
    return value


def _moment(name: str, value: str) -> str:
    try:
        moment = datetime.fromisoformat(value[:40])
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or not 2000 <= moment.year < 2200:
        raise InvalidValueError(
            name, f'{name} is "{value[:40]}"; it must be a time with its zone, such as 2026-11-20T10:11:12Z.'
        )
    return moment.astimezone(UTC).isoformat()


def _url(name: str, value: str) -> str:
    checked = str(_text(2000)(name, value))
    try:
        parts = urlsplit(checked)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise InvalidValueError(
            name, f'{name} is "{value[:80]}"; it must be an address that begins with https:// or http://.'
        )
    return checked


CHECKS: Mapping[str, Check] = {
    "repository": _text(200),
    "commit": _commit,
    "branch": _text(255),
    "base_branch": _text(255),
    "default_branch": _text(255),
    "pull_request": _number(1, 2**31 - 1),
    "job": _text(200),
    "attempt": _number(1, 100_000),
    "started_at": _moment,
    "runner": _text(200),
    "actor": _text(200),
    "image": _text(300),
    "dockerfile": _text(500),
    "outcome": _outcome,
    "ci": _ci,
    "run_url": _url,
}
"""Every parameter by name; an empty value is the same as none."""


def read_parameters(given: Mapping[str, object], *, allow_unknown: bool = False) -> dict[str, Value]:
    """Check what a sender says about a log and return what was said, cleaned.

    Raises InvalidValueError for a value that cannot be taken and, unless unknown names are to be passed over,
    UnknownNameError for a name that nobody knows: a misspelt one would otherwise be lost in silence.
    """
    parameters: dict[str, Value] = {}
    for name, value in given.items():
        check = CHECKS.get(name)
        if check is None:
            if allow_unknown:
                continue
            raise UnknownNameError("parameter", name[:80], [*CHECKS, "idempotency_key"])
        if value is None or value == "":
            continue
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise InvalidValueError(name, f"{name} must be a text or a whole number.")
        if text := str(value).strip():
            parameters[name] = check(name, text)
    return parameters


def read_idempotency_key(value: str | None) -> str | None:
    """Check the key under which a repeated request is recognised; None when there is none."""
    if value is None or not value.strip():
        return None
    return str(_text(200)("idempotency_key", value.strip()))
