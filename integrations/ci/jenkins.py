"""Jenkins: builds that the Notification plugin tells of, or a step of a pipeline that sends the same body.

Reads `{"name": …, "url": "job/shop/", "build": {"number": 18, "phase": "FINALIZED", "status": "SUCCESS", "scm": …}}`.
COMPLETED comes while the log still grows, FINALIZED at its end. The plugin signs nothing; it sends `Authorization:
Basic` when the address holds a user and a password. Source: jenkinsci/notification-plugin, Protocol.java.
"""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from cachescope.errors import UnreadableInputError
from integrations.ci import _bodies as read
from integrations.ci._other_apis import JenkinsReader
from integrations.ci._signatures import body_digest, verify_configured
from integrations.ci.base import CIRun, HookRequest, Ignored, Reader

_OUTCOMES = {
    "SUCCESS": "succeeded",
    "UNSTABLE": "succeeded",  # built, with tests that failed
    "FAILURE": "failed",
    "ABORTED": "canceled",
}
_JOB_PATH = re.compile(r"/?((?:job/[^/?#\s]{1,200}/?){1,20})")
_CHANGE = re.compile(r"(?:PR|MR)-([0-9]{1,9})(?:-(?:head|merge))?\Z")


class Jenkins:
    """The notifications of Jenkins."""

    schemes = ("header",)
    carries_log = False
    reader: Reader | None = JenkinsReader()
    event_headers: frozenset[str] = frozenset()

    def verify(self, request: HookRequest, secrets: Sequence[str], now: float, scheme: str | None = None) -> str:
        """Compare the configured header; see `Provider.verify`."""
        verify_configured(request, secrets, "Jenkins")
        return body_digest(request)

    def read_event(self, request: HookRequest, cap_bytes: int) -> CIRun | Ignored:
        """Read a finalized build; see `Provider.read_event`."""
        event = read.load_event(request)
        told = event.get("build")
        if not isinstance(told, dict):
            return read.ignored("no build", "this is no notification of a build.")
        phase = read.text(told.get("phase"), 40) or ""
        status = read.text(told.get("status"), 40) or ""
        if phase.upper() == "COMPLETED":
            return read.ignored(phase, "the log may still grow: let the plugin send Job Finalized, or All Events.")
        if phase.upper() not in {"FINALIZED", "FINISHED"}:
            return read.ignored(phase, "it has not finished yet; another event follows.")
        if status.upper() == "NOT_BUILT":
            return read.ignored(status, "it did not run, so it has no log.")
        return _read_build(event, told, _OUTCOMES.get(status.upper()))


def _read_build(event: dict[str, Any], told: dict[str, Any], outcome: str | None) -> CIRun:
    build_number = read.identity(told.get("number"))
    if build_number is None:
        raise UnreadableInputError("The event names a finished build without its number (build.number).")
    path, scm = _job_path(event, told), told.get("scm")
    name = "/".join(unquote(one) for one in path.strip("/").split("/")[1::2]) if path else event.get("name")
    ref = _branch_name(read.part(scm, "branch"))
    change = _CHANGE.match(ref or "") or _CHANGE.match((read.text(name) or "").rpartition("/")[2])
    asked = read.number(read.part(told, "parameters", "CHANGE_ID"))
    is_change = bool(asked or change)
    return read.job(
        {
            "ci": "jenkins",
            "repository": read.repository(read.part(scm, "url")),
            # Of a change that Jenkins merged into its target, this may be a merge that nobody wrote.
            "commit": read.commit(read.part(scm, "commit")),
            "branch": None if is_change and change else read.branch(ref),
            "pull_request": asked or (read.number(change[1]) if change else None),
            "job": read.text(name),
            "outcome": outcome,
            "run_url": read.url(told.get("full_url")),
        },
        started=_seconds(told.get("timestamp")),
        finished=_finish(told),
        reference=read.pick(job_path=path, build_number=build_number),
    )


def _job_path(event: dict[str, Any], told: dict[str, Any]) -> str | None:
    """Return the path of a job below the server's address, such as job/folder/job/shop/."""
    values, full = [value for value in (event.get("url"), told.get("url")) if value is not None], told.get("full_url")
    if not values and isinstance(full, str):
        # A step of a pipeline may know the whole address alone: what stands before the first job is the server's.
        values = ["".join(full.partition("/job/")[1:])]
    for value in values:
        if isinstance(value, str) and (found := _JOB_PATH.match(value)):
            path = found[1].rstrip("/") + "/"
            if not any(unquote(one) in {".", ".."} for one in path.split("/")):
                return path
    return None


def _branch_name(value: object) -> str | None:
    """Return a branch without the name of the remote: `origin/main`, `refs/remotes/origin/main`, `*/main`."""
    if not isinstance(value, str):
        return None
    name = value.removeprefix("refs/remotes/")
    return None if name == "detached" else name.removeprefix("origin/").removeprefix("*/")


def _seconds(value: object) -> float | None:
    milliseconds = read.number(value, 0, 2**53)
    return None if milliseconds is None else milliseconds / 1000


def _finish(told: dict[str, Any]) -> float | None:
    start, duration = _seconds(told.get("timestamp")), _seconds(told.get("duration"))
    return start + duration if start and duration else None


PROVIDER = Jenkins()
