"""Buildkite: finished command jobs, by webhook or as the events of Amazon EventBridge.

Two schemes: `signature` is `X-Buildkite-Signature: timestamp=<seconds>,signature=<hex of HMAC-SHA256 over
"<seconds>.<body>">`; `token` compares X-Buildkite-Token. The job in a body may be in a later state than the event says.
Defined at https://buildkite.com/docs/apis/webhooks/pipelines.
"""

import re
from collections.abc import Sequence
from typing import Any

from cachescope.errors import UnknownNameError, UnreadableInputError
from integrations.ci import _bodies as read
from integrations.ci._other_apis import BuildkiteReader
from integrations.ci._signatures import (
    body_digest,
    hex_digest,
    is_any,
    keys_of,
    read_header,
    refuse_stale,
    verify_token,
)
from integrations.ci.base import CIRun, HookRequest, Ignored, Reader, SignatureRefusedError

_OUTCOMES = {
    "passed": "succeeded",
    "failed": "failed",
    "timed_out": "failed",
    "timing_out": "failed",
    "canceled": "canceled",
    "canceling": "canceled",
}
_NEVER_RAN = frozenset({"skipped", "broken", "expired", "blocked", "unblocked", "waiting_failed", "blocked_failed"})
_SIGNATURE = re.compile(r"[0-9a-f]{64}\Z")
_ORGANIZATION = re.compile(r"https://[^/]{1,255}/(?:v2/organizations/)?([A-Za-z0-9][A-Za-z0-9-]{0,99})/")


class Buildkite:
    """The webhooks of Buildkite."""

    schemes = ("signature", "token")
    carries_log = False
    reader: Reader | None = BuildkiteReader()
    event_headers = frozenset({"x-buildkite-event"})

    def verify(self, request: HookRequest, secrets: Sequence[str], now: float, scheme: str | None = None) -> str:
        """Check the signature, or the token where that scheme is asked for; see `Provider.verify`."""
        match scheme or self.schemes[0]:
            case "signature":
                _verify_signature(request, secrets, now)
            case "token":
                verify_token(request, secrets, "X-Buildkite-Token", "choose to send the token in this header.")
            case _:
                raise UnknownNameError("scheme", str(scheme)[:40], self.schemes)
        return body_digest(request)

    def read_event(self, request: HookRequest, cap_bytes: int) -> CIRun | Ignored:
        """Read a finished job; see `Provider.read_event`."""
        event = read.load_event(request)
        if isinstance(detail := event.get("detail"), dict) and "detail-type" in event:
            kind = read.text(event.get("detail-type"), 60) or "unknown event"
            return _read_job(detail) if kind == "Job Finished" else _ignore(kind)
        kind = read.text(event.get("event"), 60) or request.headers.get("x-buildkite-event") or "unknown event"
        return _read_job(event) if kind == "job.finished" else _ignore(kind)


def _verify_signature(request: HookRequest, secrets: Sequence[str], now: float) -> None:
    name = "X-Buildkite-Signature"
    value = read_header(request, name, "choose to send a signature in this header.")
    fields = [field.strip().partition("=") for field in value.split(",")]
    said = {key: field for key, _, field in fields}
    if len(fields) != 2 or said.keys() != {"timestamp", "signature"} or not _SIGNATURE.match(said["signature"]):
        raise SignatureRefusedError(f"The header {name} must be `timestamp=<seconds>,signature=<64 digits>`.")
    refuse_stale(said["timestamp"], now, f"The timestamp in {name}")
    signed = f"{said['timestamp']}.".encode() + request.body
    if not is_any([said["signature"].encode()], [hex_digest(key, signed) for key in keys_of(secrets)]):
        raise SignatureRefusedError(
            f"The signature in {name} fits no secret of this source, or the body was changed on its way."
        )


def _ignore(kind: str) -> Ignored:
    if kind.lower().startswith(("job.", "job ")):
        return read.ignored(kind, "it has not finished yet; another event follows.")
    if kind.lower().startswith(("build.", "build ")):
        return read.ignored(kind, "events of builds carry no jobs: choose job.finished.")
    return read.ignored(kind, "events of this kind carry no build log.")


def _read_job(event: dict[str, Any]) -> CIRun | Ignored:
    told, build, pipeline = event.get("job"), event.get("build"), event.get("pipeline")
    if not isinstance(told, dict):
        raise UnreadableInputError('The event of a finished job has no object "job".')
    kind, state = read.text(told.get("type"), 40) or "script", read.text(told.get("state"), 40)
    if kind not in {"script", "command"}:
        return read.ignored(f"job.finished: {kind}", "only steps with commands have a log.")
    if state in _NEVER_RAN:
        return read.ignored(f"job.finished: {state}", "it did not run, so it has no log.")
    job_id = read.uuid(told.get("id")) or read.uuid(told.get("uuid"))
    if job_id is None:
        raise UnreadableInputError("The event names a finished job without its id (job.id).")
    pull = read.part(build, "pull_request")
    pull_number = read.number(read.part(pull, "id"))
    head = read.part(build, "branch")
    if pull_number and isinstance(head, str):
        head = head.split(":", 1)[-1]  # that of a fork is owner:branch
    retries = read.number(told.get("retries_count"), 0, 99_999)
    return read.job(
        {
            "ci": "buildkite",
            "repository": read.repository(read.part(pipeline, "repository") or read.part(pipeline, "repo")),
            "commit": read.commit(read.part(build, "commit")),
            "branch": None if head == read.part(build, "tag") else read.branch(head),  # a tag stands in both
            "base_branch": read.branch(read.part(pull, "base")),
            "default_branch": read.branch(read.part(pipeline, "default_branch")),
            "pull_request": pull_number,
            "job": read.joined(
                read.part(pipeline, "slug"), told.get("name") or told.get("label") or told.get("step_key")
            ),
            "attempt": (retries or 0) + 1 if "retries_count" in told else None,
            "runner": read.text(read.part(told, "agent", "name")),
            "outcome": _outcome(told, state),
            "run_url": read.url(told.get("web_url")) or read.url(read.part(build, "web_url")),
        },
        started=told.get("started_at"),
        finished=told.get("finished_at"),
        reference=read.pick(
            organization=read.slug(read.part(event, "organization", "slug"))
            or _organization(read.part(pipeline, "url"))
            or _organization(read.part(build, "url")),
            pipeline=read.slug(read.part(pipeline, "slug")),
            build_number=read.identity(read.part(build, "number")),
            job_id=job_id,
        ),
    )


def _outcome(told: dict[str, Any], state: str | None) -> str | None:
    """Return how a job ended; `finished` leaves that to its exit status."""
    if state in _OUTCOMES:
        return _OUTCOMES[state]
    if isinstance(passed := told.get("passed"), bool):
        return "succeeded" if passed else "failed"
    exit_status = read.number(told.get("exit_status"), 0, 255)
    if exit_status is None:
        return None
    return "failed" if exit_status else "succeeded"


def _organization(address: object) -> str | None:
    found = _ORGANIZATION.match(address) if isinstance(address, str) else None
    return found[1] if found else None


PROVIDER = Buildkite()
