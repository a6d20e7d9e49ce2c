"""The words of Forgejo: its runs and jobs, of which it tells runs alone."""

from typing import Any

from tests.forge.state import CIRun, Job, Repository


def as_run(repository: Repository, run: CIRun) -> dict[str, Any]:
    """A run as Forgejo's structure `ActionRun` has it."""
    return {
        "id": run.id,
        "title": run.name,
        "repository": {
            "id": repository.id,
            "full_name": repository.name,
            "default_branch": repository.default_branch,
        },
        "workflow_id": "image.yml",
        "index_in_repo": run.id,
        "trigger_user": {"login": "ada"},
        "prettyref": f"#{run.pull_request}" if run.pull_request else run.branch,
        "commit_sha": run.commit,
        "event": "pull_request" if run.pull_request else "push",
        "event_payload": "",
        "status": run.conclusion or "running",
        "started": run.jobs[0].started_at,
        "stopped": run.jobs[-1].completed_at,
        "created": run.jobs[0].started_at,
        "updated": run.jobs[-1].completed_at,
        "html_url": f"https://forgejo.example/{repository.name}/actions/runs/{run.id}",
    }


def as_job(repository: Repository, run: CIRun, job: Job) -> dict[str, Any]:
    """A job as Forgejo's structure `ActionRunJob` has it."""
    return {
        "id": job.id,
        "run_id": run.id,
        "attempt": run.attempt,
        "repo_id": repository.id,
        "name": job.name,
        "needs": [],
        "runs_on": ["docker"],
        "task_id": job.id + 1000,
        "status": job.conclusion or "running",
    }


def run_event(repository: Repository, run: CIRun) -> dict[str, Any]:
    """The body that tells of a run that has ended."""
    return {"action": run.conclusion, "run": as_run(repository, run), "prior_status": "running"}
