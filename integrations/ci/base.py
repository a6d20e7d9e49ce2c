"""What a CI provider must be able to do: say whether a webhook is genuine, and read the run that it tells of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

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


@dataclass(frozen=True, slots=True, kw_only=True)
class CIRun:
    """What one event says about one CI execution: every field may be missing, and none of them is checked yet."""

    parameters: Mapping[str, object]
    """By the names that `POST /api/v1/uploads` uses: repository, commit, branch, pull_request, job, attempt, …"""
    log: bytes | None = None
    """The log where the event itself carries it, unpacked and not yet redacted."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """An event that tells of no build log, and why it is left aside."""

    reason: str


class Provider(Protocol):
    """One CI system. What it says is hostile until `verify` has returned, and untrusted afterwards."""

    def verify(self, request: HookRequest, secrets: Sequence[str], now: float) -> str:
        """Return the id of the delivery when one of the secrets signed it; `now` is in epoch seconds.

        Compares in constant time, on bytes, and looks only at the headers of its own scheme.
        Raises SignatureRefusedError.
        """
        ...

    def read_event(self, request: HookRequest, cap_bytes: int) -> CIRun | Ignored:
        """Read a verified request; a log in it is unpacked up to the cap.

        Raises UnreadableInputError when the body is not what the provider documents.
        """
        ...
