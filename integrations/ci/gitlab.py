"""GitLab: finished jobs, and finished pipelines, which name the merge request.

Two schemes: `signing-token` (GitLab 19 and newer) is Standard Webhooks with a `whsec_` token; `token` compares the
header X-Gitlab-Token. A source has one of them, so that nobody can fall back to the weaker one. Defined at
https://docs.gitlab.com/user/project/integrations/webhook_events/.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cachescope.errors import UnknownNameError, UnreadableInputError
from integrations.ci import _bodies as read
from integrations.ci._gitlab_api import GitLabReader
from integrations.ci._signatures import delivery_of, verify_standard, verify_token
from integrations.ci.base import CIRun, HookRequest, Ignored, Reader

_OUTCOMES = {"success": "succeeded", "failed": "failed", "canceled": "canceled"}


class GitLab:
    """The webhooks of GitLab."""

    schemes = ("signing-token", "token")
    carries_log = False
    reader: Reader | None = GitLabReader()
    event_headers = frozenset({"x-gitlab-event", "x-gitlab-event-uuid", "idempotency-key"})

    def verify(self, request: HookRequest, secrets: Sequence[str], now: float, scheme: str | None = None) -> str:
        """Check the signature, or the token where that scheme is asked for; see `Provider.verify`."""
        match scheme or self.schemes[0]:
            case "signing-token":
                return verify_standard(request, secrets, now)
            case "token":
                verify_token(request, secrets, "X-Gitlab-Token", "set a secret token where the webhook is configured.")
                return delivery_of(request, "Idempotency-Key", "X-Gitlab-Event-UUID")
        raise UnknownNameError("scheme", str(scheme)[:40], self.schemes)

    def read_event(self, request: HookRequest, cap_bytes: int) -> CIRun | Ignored:
        """Read a finished job or pipeline; see `Provider.read_event`."""
        event = read.load_event(request)
        kind = read.text(event.get("object_kind"), 40)
        match kind:
            case "build":
                return _read_job(event)
            case "pipeline":
                return _read_pipeline(event)
            case None if told := read.text(event.get("event_name"), 40):  # of groups and of the instance itself
                return read.ignored(told, "events of this kind carry no build log.")
            case None:
                raise UnreadableInputError(
                    "The body has no object_kind: remove the custom webhook template, or keep GitLab's own fields."
                )
        return read.ignored(kind, "events of this kind carry no build log.")


def _read_job(event: dict[str, Any]) -> CIRun | Ignored:
    status = read.text(event.get("build_status"), 40)
    if left := _unfinished("build", status):
        return left
    job_id = read.identity(event.get("build_id"))
    if job_id is None:
        raise UnreadableInputError("The event names a finished job without its id (build_id).")
    ref, retries = event.get("ref"), read.number(event.get("retries_count"), 0, 99_999)
    home = read.url(read.part(event, "project", "web_url")) or read.url(read.part(event, "repository", "homepage"))
    return read.job(
        {
            "ci": "gitlab",
            "repository": _repository(event),
            "commit": read.commit(event.get("sha")),  # commit.id is the pipeline
            "branch": None if event.get("tag") is True else read.branch(ref),
            "default_branch": read.branch(read.part(event, "project", "default_branch")),
            "pull_request": read.pull_request(ref),
            "job": read.text(event.get("build_name")),
            "attempt": None if retries is None else retries + 1,
            "runner": read.text(read.part(event, "runner", "description")),
            "outcome": _OUTCOMES[str(status)],  # build_failure_reason is filled for successes too
            "run_url": f"{home.rstrip('/')}/-/jobs/{job_id}" if home else None,
        },
        started=event.get("build_started_at_iso") or event.get("build_started_at"),
        finished=event.get("build_finished_at_iso") or event.get("build_finished_at"),
        reference=read.pick(
            project_id=read.identity(event.get("project_id")),
            job_id=job_id,
            pipeline_id=read.identity(event.get("pipeline_id")),
        ),
    )


def _read_pipeline(event: dict[str, Any]) -> CIRun | Ignored:
    told, merge = event.get("object_attributes"), event.get("merge_request")
    status = read.text(read.part(told, "status"), 40)
    if left := _unfinished("pipeline", status):
        return left
    pipeline_id = read.identity(read.part(told, "id"))
    if not isinstance(told, dict) or pipeline_id is None:
        raise UnreadableInputError("The event names a finished pipeline without its id (object_attributes.id).")
    ref, home = told.get("ref"), read.url(read.part(event, "project", "web_url"))
    is_tag = told.get("tag") is True
    run = read.job(
        {
            "ci": "gitlab",
            "repository": _repository(event),
            "commit": read.commit(told.get("sha")),
            "branch": None if is_tag else read.branch(ref) or read.branch(read.part(merge, "source_branch")),
            "base_branch": read.branch(read.part(merge, "target_branch")),
            "default_branch": read.branch(read.part(event, "project", "default_branch")),
            "pull_request": read.number(read.part(merge, "iid")) or read.pull_request(ref),
            "job": read.text(told.get("name")),
            "outcome": _OUTCOMES[str(status)],
            "run_url": read.url(told.get("url")) or (f"{home.rstrip('/')}/-/pipelines/{pipeline_id}" if home else None),
        },
        started=told.get("started_at") or told.get("created_at"),
        finished=told.get("finished_at"),
        reference=read.pick(
            project_id=read.identity(read.part(event, "project", "id")),
            pipeline_id=pipeline_id,
        ),
    )
    return replace(run, kind="run")


def _unfinished(kind: str, status: str | None) -> Ignored | None:
    if status in _OUTCOMES:
        return None
    if status in {"skipped", "manual"}:
        return read.ignored(f"{kind} {status}", "it did not run, so it has no log.")
    return read.ignored(f"{kind} {status or ''}".strip(), "it has not finished yet; another event follows.")


def _repository(event: dict[str, Any]) -> str | None:
    """Return the path of the project; `project_name` is a name for people and never read.

    Addresses for SSH come before those for browsers, which may begin with a folder of the instance's own.
    """
    project, told = event.get("project"), event.get("repository")
    for value in (
        read.part(project, "path_with_namespace"),
        read.part(project, "git_ssh_url"),
        read.part(told, "git_ssh_url"),
        read.part(told, "homepage"),
        read.part(told, "git_http_url"),
        read.part(told, "url"),
        read.part(project, "git_http_url"),
        read.part(project, "web_url"),
    ):
        if found := read.repository(value):
            return found
    return None


PROVIDER = GitLab()
