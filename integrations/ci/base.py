"""What a CI provider must be able to do: say whether a webhook is genuine, and read the run that it tells of."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from cachescope.errors import CredentialsRefusedError
from cachescope.evidence import ChangedFile
from integrations.ci._api import Api
from integrations.http import HttpClient, Reach

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

    @property
    def subject(self) -> str | None:
        """What tells that two events mean the same execution: its ids and the attempt; None for pushes and logs."""
        if self.kind == "image" or self.log is not None:
            return None
        reference = self.log_reference
        named = next((name for name in ("job_id", "run_id", "build_id") if name in reference), None)
        ids = [named] if named else [name for name in sorted(reference) if name != "installation_id"]
        if not ids:
            return None
        # A job's id is its own at each attempt, but not at Gitea; a run's comes back. Forgejo's runs count no attempts.
        comes_back = named == "run_id" or (named == "job_id" and self.parameters.get("ci") == "gitea")
        attempt = reference.get("began") or self.parameters.get("attempt") or 1
        known = " ".join(f"{name}={reference[name]}" for name in ids)
        return f"{self.kind} {known} {attempt}" if comes_back else f"{self.kind} {known}"


@dataclass(frozen=True, slots=True)
class Ignored:
    """An event that tells of no build log, and why it is left aside."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How the API of one source is reached, as its owner set it up."""

    base_url: str = ""
    """The server; empty means the vendor's own."""
    credentials: Mapping[str, str] = field(default_factory=dict)
    """By field: `token`; `user` and `token`; or `app_id` and `private_key` of a GitHub App."""
    reach: Reach = field(default_factory=Reach)


class Reader(Protocol):
    """The reading side of a CI system's API: addresses are built here, from checked ids and the source's own server.

    Everything raises the errors of `integrations.ci._api` and of `integrations.http`.
    """

    cloud_url: str
    """The vendor's own server; empty where everybody runs their own."""
    credential_fields: Sequence[str]
    """What reading wants to know, besides the address."""
    needs_credentials: bool
    """Whether nothing can be read without."""

    def connect(self, client: HttpClient, access: Access, run: CIRun | None = None) -> Api:
        """Open the API with the credentials of a source; those of a GitHub App differ with the run."""

    def describe(self, api: Api, run: CIRun) -> Mapping[str, object]:
        """Ask for what the event did not say, by the names of its parameters: the pull request, its base branch."""

    def read_log(self, api: Api, run: CIRun, cap_bytes: int, tries: int) -> Iterator[bytes]:
        """Read the log of a job or of all jobs of a run; `tries` counts from 0 how often it was not there yet."""

    def fetch_changes(self, api: Api, run: CIRun, before: str, after: str) -> tuple[ChangedFile, ...] | None:
        """What differs between two commits; None where that cannot be told in full."""

    def fetch_file(self, api: Api, run: CIRun, path: str, commit: str) -> str | None:
        """A small text file of a commit; None where there is none."""

    def list_finished(self, api: Api, repositories: Sequence[str], since: datetime) -> Iterator[CIRun]:
        """The executions that ended after a time, newest first; nothing where the vendor sends events again itself."""


class Provider(Protocol):
    """One CI system. What it says is hostile until `verify` has returned, and untrusted afterwards."""

    schemes: Sequence[str]
    """How this system can prove who it is; the first is taken unless a source says otherwise."""
    carries_log: bool
    """Whether its events hold the log."""
    reader: Reader | None
    """How its logs are fetched; None where events hold them, or where there are none, as with registries."""
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
