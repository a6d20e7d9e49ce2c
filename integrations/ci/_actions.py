"""The events of GitHub Actions, which Gitea sends in the same form.

Decides on `action` and `conclusion` and takes every other field as one that may be missing: `started_at` is set on
queued jobs, and old bodies have no attempt, branch or workflow. Defined at
https://docs.github.com/en/webhooks/webhook-events-and-payloads#workflow_job.
"""

from dataclasses import replace
from typing import Any, Final

from cachescope.errors import UnreadableInputError
from integrations.ci import _bodies as read
from integrations.ci.base import CIRun, Ignored

OUTCOMES: Final = {
    "success": "succeeded",
    "failure": "failed",
    "timed_out": "failed",
    "startup_failure": "failed",
    "cancelled": "canceled",
}
NEVER_RAN: Final = {
    "skipped": "it was skipped, so it has no log.",
    "action_required": "it waits for somebody's approval.",
    "stale": "it was given up before it ran.",
}
PULL_REQUESTS: Final = frozenset({"pull_request", "pull_request_target", "pull_request_review"})
"""The events of pull requests that start runs."""
NOT_YET: Final = "it has not finished yet; another event follows."


def read_job(event: dict[str, Any], ci: str) -> CIRun | Ignored:
    """Read a `workflow_job` event. Raises UnreadableInputError when a finished job has no id."""
    told, action, conclusion = (
        event["workflow_job"],
        event.get("action"),
        read.part(event, "workflow_job", "conclusion"),
    )
    name = f"workflow_job {read.text(action, 40) or ''}".strip()
    if action != "completed":
        return read.ignored(name, NOT_YET)
    if isinstance(conclusion, str) and conclusion in NEVER_RAN:
        return read.ignored(f"{name}: {conclusion}", NEVER_RAN[conclusion])
    job_id = read.identity(read.part(told, "id"))
    if job_id is None:
        raise UnreadableInputError("The event names a finished job without its id (workflow_job.id).")
    return read.job(
        _common(event, told, ci)
        | {
            "job": read.joined(told.get("workflow_name"), told.get("name")),
            "runner": read.text(told.get("runner_name")),
        },
        started=told.get("started_at"),
        finished=told.get("completed_at"),
        reference=_reference(event, job_id=job_id, run_id=read.identity(told.get("run_id"))),
    )


def read_run(event: dict[str, Any], ci: str) -> CIRun | Ignored:
    """Read a `workflow_run` event: it names the pull request, which no job does, and no log of its own."""
    told, action = event["workflow_run"], event.get("action")
    conclusion = read.part(told, "conclusion")
    name = f"workflow_run {read.text(action, 40) or ''}".strip()
    if action != "completed":
        return read.ignored(name, NOT_YET)
    if isinstance(conclusion, str) and conclusion in NEVER_RAN:
        return read.ignored(f"{name}: {conclusion}", NEVER_RAN[conclusion])
    run_id = read.identity(read.part(told, "id"))
    if run_id is None:
        raise UnreadableInputError("The event names a finished run without its id (workflow_run.id).")
    pull = own_pull_request(told, read.part(event, "repository"))
    run = read.job(
        _common(event, told, ci)
        | {
            "job": read.joined(read.part(event, "workflow", "name") or told.get("name")),
            "pull_request": read.number(read.part(pull, "number"))
            or read.pull_request(told.get("head_branch"))
            or pull_request_in_path(told.get("path")),
            "base_branch": read.branch(read.part(pull, "base", "ref")),
        },
        started=told.get("run_started_at") or told.get("started_at") or told.get("created_at"),
        finished=told.get("completed_at") or told.get("updated_at"),
        reference=_reference(event, run_id=run_id),
    )
    return replace(run, kind="run")


def pull_request_in_path(path: object) -> int | None:
    """Return the number in the path of a run at Gitea, which ends with the ref: `ci.yml@refs/pull/7/head`."""
    return read.pull_request(path.rpartition("@")[2]) if isinstance(path, str) else None


def own_pull_request(told: object, repository: object) -> dict[str, Any] | None:
    """Return the pull request into this repository: the list may also hold those that forks opened among themselves."""
    here = read.identity(read.part(repository, "id"))
    for pull in read.rows(read.part(told, "pull_requests")):
        into = read.identity(read.part(pull, "base", "repo", "id"))
        if here is None or into in {None, here}:
            return dict(pull)
    return None


def _common(event: dict[str, Any], told: dict[str, Any], ci: str) -> dict[str, str | int | None]:
    conclusion = told.get("conclusion")
    head = told.get("head_branch")
    return {
        "ci": ci,
        "repository": read.repository(read.part(event, "repository", "full_name")),
        "commit": read.commit(told.get("head_sha")),
        "branch": read.branch(head),
        "default_branch": read.branch(read.part(event, "repository", "default_branch")),
        "pull_request": read.pull_request(head),
        "attempt": read.number(told.get("run_attempt"), 1, 100_000),
        "outcome": OUTCOMES.get(conclusion) if isinstance(conclusion, str) else None,
        "run_url": read.url(told.get("html_url")),
    }


def _reference(event: dict[str, Any], **ids: int | None) -> dict[str, str | int]:
    return read.pick(
        repository=read.full_name(read.part(event, "repository", "full_name")),
        repository_id=read.identity(read.part(event, "repository", "id")),
        installation_id=read.identity(read.part(event, "installation", "id")),
        **ids,
    )
