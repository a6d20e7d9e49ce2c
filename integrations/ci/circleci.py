"""CircleCI: finished jobs and workflows.

Signed by `circleci-signature: v1=<hex of HMAC-SHA256 over the body>`, a list of which only the newest known version
counts: what stands under `v2=` proves nothing here. Pipelines of the GitHub App and of GitLab have no `vcs`; what they
were triggered with says the same. Defined at https://circleci.com/docs/guides/integration/outbound-webhooks/.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cachescope.errors import UnreadableInputError
from integrations.ci import _bodies as read
from integrations.ci._other_apis import CircleCIReader
from integrations.ci._signatures import delivery_in, hex_digest, is_any, keys_of, read_header
from integrations.ci.base import CIRun, HookRequest, Ignored, Reader, SignatureRefusedError

_OUTCOMES = {
    "success": "succeeded",
    "failed": "failed",
    "error": "failed",
    "failing": "failed",
    "timedout": "failed",
    "infrastructure_fail": "failed",
    "canceled": "canceled",
    "cancelled": "canceled",
}
_SIGNATURE = re.compile(r"[0-9a-f]{64}\Z")
_PROJECT = re.compile(
    r"(?:gh|github|bb|bitbucket|circleci)/[A-Za-z0-9][A-Za-z0-9._-]{0,99}/[A-Za-z0-9._][A-Za-z0-9._-]{0,99}\Z"
)
_NAMED = ("gh/", "github/", "bb/", "bitbucket/")
_TRIGGERS = ("git", "github_app", "gitlab", "bitbucket", "bitbucket_dc", "github")


class CircleCI:
    """The outbound webhooks of CircleCI."""

    schemes = ("signature",)
    carries_log = False
    reader: Reader | None = CircleCIReader()
    event_headers = frozenset({"circleci-event-type"})

    def verify(self, request: HookRequest, secrets: Sequence[str], now: float, scheme: str | None = None) -> str:
        """Check the `v1` signature; the id of the delivery stands in the body. See `Provider.verify`."""
        value = read_header(request, "circleci-signature", "set a secret where the webhook is configured.")
        sent = [entry.strip()[3:] for entry in value.split(",") if entry.strip().startswith("v1=")]
        if len(sent) != 1 or not _SIGNATURE.match(sent[0]):
            raise SignatureRefusedError("The header circleci-signature must hold one `v1=` and 64 hexadecimal digits.")
        if not is_any([sent[0].encode()], [hex_digest(key, request.body) for key in keys_of(secrets)]):
            raise SignatureRefusedError(
                "The signature in circleci-signature fits no secret of this source, or the body was changed on its way."
            )
        return delivery_in(request, _id_of(request))

    def read_event(self, request: HookRequest, cap_bytes: int) -> CIRun | Ignored:
        """Read a finished job or workflow; see `Provider.read_event`."""
        event = read.load_event(request)
        kind = read.text(event.get("type"), 60) or "unknown event"
        if kind not in {"job-completed", "workflow-completed"}:
            return read.ignored(kind, "events of this kind carry no build log.")
        # One sample of the documentation calls a job a workflow: what is in the body decides.
        if isinstance(event.get("job"), dict):
            return _read_job(event, event["job"])
        if isinstance(event.get("workflow"), dict) and kind == "workflow-completed":
            return _read_workflow(event, event["workflow"])
        raise UnreadableInputError('The event of a finished job has no object "job".')


def _id_of(request: HookRequest) -> object:
    try:
        return read.load_event(request).get("id")
    except UnreadableInputError:
        return None


def _read_job(event: dict[str, Any], told: dict[str, Any]) -> CIRun | Ignored:
    status = read.text(told.get("status"), 40)
    if left := _unfinished("job-completed", status):
        return left
    job_number = read.identity(told.get("number"))
    project = read.part(event, "project", "slug")
    if job_number is None:
        raise UnreadableInputError("The event names a finished job without its number (job.number).")
    return read.job(
        _common(event)
        | {
            "job": read.text(told.get("name")),
            "outcome": _OUTCOMES[str(status)],
            "run_url": read.url(told.get("url")) or read.url(read.part(event, "workflow", "url")),
        },
        started=told.get("started_at"),
        finished=told.get("stopped_at") or event.get("happened_at"),
        reference=read.pick(
            project=project if isinstance(project, str) and _PROJECT.match(project) else None,
            job_number=job_number,
            job_id=read.uuid(told.get("id")),
        ),
    )


def _read_workflow(event: dict[str, Any], told: dict[str, Any]) -> CIRun | Ignored:
    status = read.text(told.get("status"), 40)
    if left := _unfinished("workflow-completed", status):
        return left
    run = read.job(
        _common(event)
        | {
            "job": read.text(told.get("name")),
            "outcome": _OUTCOMES[str(status)],
            "run_url": read.url(told.get("url")),
        },
        started=told.get("created_at"),
        finished=told.get("stopped_at") or event.get("happened_at"),
        reference=read.pick(workflow_id=read.uuid(told.get("id"))),
    )
    return replace(run, kind="run")


def _unfinished(kind: str, status: str | None) -> Ignored | None:
    if status in _OUTCOMES:
        return None
    if status in {"unauthorized", "not_run", "blocked", "skipped"}:
        return read.ignored(f"{kind}: {status}", "it did not run, so it has no log.")
    return read.ignored(f"{kind}: {status}", "this status is not known as the end of a job.")


def _common(event: dict[str, Any]) -> dict[str, str | int | None]:
    vcs = read.part(event, "pipeline", "vcs")
    triggers = [read.part(event, "pipeline", "trigger_parameters", name) for name in _TRIGGERS]
    head = _first([read.part(vcs, "branch"), *(read.part(one, "branch") for one in triggers)])
    shas = [read.part(one, name) for one in triggers for name in ("checkout_sha", "commit_sha")]
    return {
        "ci": "circleci",
        "repository": _repository(event, vcs, triggers),
        "commit": read.commit(_first([read.part(vcs, "revision"), *shas])),
        "branch": read.branch(head),
        "default_branch": read.branch(_first([read.part(one, "default_branch") for one in triggers])),
        "pull_request": read.pull_request(head),  # that of a fork is the branch pull/7
    }


def _first(values: list[object]) -> object:
    return next((value for value in values if value), None)


def _repository(event: dict[str, Any], vcs: object, triggers: list[Any]) -> str | None:
    slug, full_name = read.part(event, "project", "slug"), read.part(triggers[1], "repo_full_name")
    addresses = [read.part(one, name) for one in triggers for name in ("repo_url", "checkout_url")]
    origins = [read.part(vcs, "target_repository_url"), read.part(vcs, "origin_repository_url")]
    for value in [*origins, full_name, *addresses]:
        if found := read.repository(value):
            return found
    if isinstance(slug, str) and slug.startswith(_NAMED):
        return read.repository(slug.partition("/")[2])
    owner, name = read.part(event, "organization", "name"), read.part(event, "project", "name")
    return read.repository(f"{owner}/{name}") if isinstance(owner, str) and isinstance(name, str) else None


PROVIDER = CircleCI()
