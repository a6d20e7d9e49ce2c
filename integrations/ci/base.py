"""What a CI provider must be able to do: say whether a webhook is genuine, and read the run that it tells of."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from cachescope.errors import CredentialsRefusedError

TOLERANCE_SECONDS = 300
"""How far the time stamp of a signed request may lie from our clock, either way."""


class SignatureRefusedError(CredentialsRefusedError):
    """A webhook is not signed with one of the secrets of its source; the sentence says what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HookRequest:
    """A webhook as it arrived: header names in lower case, the body byte for byte."""

    headers: Mapping[str, str]
    body: bytes


def fold_headers(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return headers with names in lower case; one that came twice holds both values, a line each, and fits nothing."""
    folded: dict[str, str] = {}
    for name, value in pairs:
        name, value = name.strip().lower(), value.strip(" \t")
        folded[name] = f"{folded[name]}\n{value}" if name in folded else value
    return folded


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedImage:
    """An image that a registry took in; what links it to a build is its digest, else its name and tag."""

    name: str | None
    tag: str | None
    digest: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CIRun:
    """What one event says about one CI execution: every field may be missing, and none of them is checked yet."""

    parameters: Mapping[str, object]
    """By the names that `POST /api/v1/uploads` uses: repository, commit, branch, pull_request, job, attempt, …"""
    log: bytes | None = None
    """The log where the event itself carries it, unpacked and not yet redacted."""
    kind: Literal["job", "run", "image"] = "job"
    """A finished job, which has one log; a finished run of several jobs, each with an event of its own; a push."""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    log_reference: Mapping[str, str | int] = field(default_factory=dict)
    """The ids from which the address of the log is built: whole numbers, or texts of a checked form; no addresses."""
    images: tuple[PushedImage, ...] = ()


@dataclass(frozen=True, slots=True)
class Ignored:
    """An event that tells of no build log, and why it is left aside."""

    reason: str


class Provider(Protocol):
    """One CI system. What it says is hostile until `verify` has returned, and untrusted afterwards."""

    schemes: Sequence[str]
    """How this system can prove who it is; the first is taken unless a source says otherwise."""
    carries_log: bool
    """Whether its events hold the log. Until logs can be fetched, a source is made only for those that do."""
    event_headers: frozenset[str]
    """The headers that `read_event` looks at, in lower case: they are kept with the body."""

    def verify(self, request: HookRequest, secrets: Sequence[str], now: float, scheme: str | None = None) -> str:
        """Return the id of the delivery when one of the secrets signed it; `now` is in epoch seconds.

        Compares in constant time, on bytes, and looks only at the headers of the scheme asked for.
        A sender that names no delivery gets the SHA-256 of the body, in hex. Raises SignatureRefusedError.
        """
        ...

    def read_event(self, request: HookRequest, cap_bytes: int) -> CIRun | Ignored:
        """Read a verified request; a log in it is unpacked up to the cap.

        Raises UnreadableInputError when the body is not what the provider documents.
        """
        ...
