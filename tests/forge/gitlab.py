"""GitLab's REST API as far as it is read: jobs, traces, pipelines, comparisons, raw files."""

from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import FastAPI, Header, Query
from fastapi.responses import JSONResponse, Response

from tests.forge.state import CIRun, Forge, Job, Repository

Token = Annotated[str, Header(alias="private-token")]
Commit = Annotated[str, Query(alias="from")]

STATUSES = {"success": "success", "failure": "failed", "cancelled": "canceled", None: "running"}


def refused(forge: Forge, token: str) -> JSONResponse | None:
    """What GitLab answers to a token that does not hold."""
    return None if forge.may_read(f"token {token}") else JSONResponse({"message": "401 Unauthorized"}, 401)


def not_found(what: str) -> JSONResponse:
    """What GitLab answers for what is not there."""
    return JSONResponse({"message": f"404 {what} Not Found"}, 404)


def find(forge: Forge, project: str) -> Repository | None:
    """A project by its number or its path."""
    wanted = unquote(project)
    return next((each for each in forge.repositories.values() if wanted in {str(each.id), each.name}), None)


def as_job(run: CIRun, job: Job) -> dict[str, Any]:
    """A job in GitLab's words."""
    return {
        "id": job.id,
        "status": STATUSES[job.conclusion],
        "name": job.name,
        "ref": run.branch,
        "tag": False,
        "commit": {"id": run.commit},
        "pipeline": {"id": run.id, "ref": run.branch, "sha": run.commit},
        "started_at": job.started_at,
        "finished_at": job.completed_at,
    }


def job_event(repository: Repository, run: CIRun, job: Job) -> dict[str, Any]:
    """The body of a Job event when a job has ended."""
    return {
        "object_kind": "build",
        "ref": run.branch,
        "tag": False,
        "sha": run.commit,
        "build_id": job.id,
        "build_name": job.name,
        "build_stage": "build",
        "build_status": STATUSES[job.conclusion],
        "build_started_at": "2026-11-20 10:00:00 UTC",
        "build_finished_at": "2026-11-20 10:02:00 UTC",
        "pipeline_id": run.id,
        "project_id": repository.id,
        "project": {
            "path_with_namespace": repository.name,
            "web_url": f"https://gitlab.example/{repository.name}",
            "default_branch": repository.default_branch,
        },
    }


def add_routes(app: FastAPI, forge: Forge) -> None:
    """Add what GitLab answers."""

    @app.get("/api/v4/projects/{project:path}/jobs/{job_id}")
    def one_job(project: str, job_id: int, token: Token = "") -> Any:
        if wrong := refused(forge, token):
            return wrong
        found = find(forge, project)
        rows = [(run, job) for run in found.runs for job in run.jobs if job.id == job_id] if found else []
        return as_job(*rows[0]) if rows else not_found("Job")

    @app.get("/api/v4/projects/{project:path}/jobs/{job_id}/trace")
    def trace(project: str, job_id: int, token: Token = "") -> Any:
        if wrong := refused(forge, token):
            return wrong
        found = find(forge, project)
        job = next((job for run in found.runs for job in run.jobs if job.id == job_id), None) if found else None
        if job is None or job.log is None:
            return not_found("Job")
        if job.misses > 0:
            job.misses -= 1
            return Response("", media_type="text/plain")
        forge.blobs[f"trace-{job_id}.log"] = job.log
        if forge.redirect_to:
            return Response(status_code=302, headers={"location": forge.redirect_to})
        return Response(job.log, media_type="text/plain")

    @app.get("/api/v4/projects/{project:path}/pipelines/{pipeline_id}/jobs")
    def pipeline_jobs(project: str, pipeline_id: int, token: Token = "") -> Any:
        if wrong := refused(forge, token):
            return wrong
        found = find(forge, project)
        return [as_job(run, job) for run in found.runs if run.id == pipeline_id for job in run.jobs] if found else []

    @app.get("/api/v4/projects/{project:path}/repository/commits/{commit}/merge_requests")
    def merge_requests(project: str, commit: str, token: Token = "") -> Any:
        if wrong := refused(forge, token):
            return wrong
        found = find(forge, project)
        return [
            {
                "iid": run.pull_request,
                "state": "opened",
                "source_branch": run.branch,
                "target_branch": found.default_branch,
            }
            for run in (found.runs if found else [])
            if run.pull_request and found is not None and run.commit == commit
        ]

    @app.get("/api/v4/projects/{project:path}/repository/compare")
    def compare(
        project: str,
        before: Commit,
        after: Annotated[str, Query(alias="to")],
        straight: str = "false",
        token: Token = "",
    ) -> Any:
        if wrong := refused(forge, token):
            return wrong
        found = find(forge, project)
        if found is None or before not in found.commits or after not in found.commits:
            return not_found("Commit")
        if straight != "true":
            mine, theirs = found.ancestors(after), found.ancestors(before)
            before = next(commit for commit in mine if commit in theirs)
        rows = [
            {
                "old_path": path,
                "new_path": path,
                "new_file": how == "added",
                "deleted_file": how == "removed",
                "renamed_file": False,
            }
            for how, path in found.changed(before, after)
        ]
        return {"commits": [], "diffs": rows[: found.most_files], "compare_timeout": len(rows) > found.most_files}

    @app.get("/api/v4/projects/{project:path}/repository/files/{path:path}/raw")
    def raw_file(project: str, path: str, ref: str, token: Token = "") -> Any:
        if wrong := refused(forge, token):
            return wrong
        found = find(forge, project)
        text = found.commits.get(ref, {}).get(unquote(path)) if found else None
        return not_found("File") if text is None else Response(text, media_type="text/plain")
