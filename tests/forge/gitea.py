"""Gitea's API of Actions as far as it is read: GitHub's words at addresses of its own, logs without a redirect.

Forgejo has the same addresses and words of its own; before version 16 it had neither jobs nor logs.
"""

from typing import Annotated, Any

from fastapi import FastAPI, Header, Request
from fastapi.responses import JSONResponse, Response

from tests.forge import forgejo, github
from tests.forge.state import Forge

Authorization = Annotated[str, Header()]
START = "/api/v1/repos/{owner}/{name}"


def add_routes(app: FastAPI, forge: Forge) -> None:
    """Add what Gitea answers."""

    def words() -> Any:
        return github if forge.forgejo is None else forgejo

    @app.get(START + "/actions/runs")
    def runs(request: Request, owner: str, name: str, authorization: Authorization = "") -> Any:
        found = github.find(forge, owner, name, authorization)
        if isinstance(found, JSONResponse):
            return found
        rows, headers = github.page(forge, request, [words().as_run(found, run) for run in reversed(found.runs)])
        return JSONResponse({"total_count": len(found.runs), "workflow_runs": rows}, headers=headers)

    @app.get(START + "/actions/runs/{run_id}")
    def one_run(owner: str, name: str, run_id: int, authorization: Authorization = "") -> Any:
        found = github.find(forge, owner, name, authorization)
        if isinstance(found, JSONResponse):
            return found
        run = next((run for run in found.runs if run.id == run_id), None)
        return words().as_run(found, run) if run else github.not_found()

    @app.get(START + "/actions/runs/{run_id}/jobs")
    def jobs(request: Request, owner: str, name: str, run_id: int, authorization: Authorization = "") -> Any:
        found = github.find(forge, owner, name, authorization)
        if isinstance(found, JSONResponse):
            return found
        if forge.forgejo is not None and forge.forgejo < 16:
            return github.not_found()
        all_jobs = [words().as_job(found, run, job) for run in found.runs if run.id == run_id for job in run.jobs]
        if forge.forgejo is not None:
            return all_jobs if any(run.id == run_id for run in found.runs) else github.not_found()
        rows, headers = github.page(forge, request, all_jobs)
        return JSONResponse({"total_count": len(all_jobs), "jobs": rows}, headers=headers)

    @app.get(START + "/actions/jobs/{job_id}/logs")
    def job_log(owner: str, name: str, job_id: int, authorization: Authorization = "") -> Any:
        found = github.find(forge, owner, name, authorization)
        if isinstance(found, JSONResponse):
            return found
        job = next((job for run in found.runs for job in run.jobs if job.id == job_id), None)
        if job is None:
            return github.not_found()
        if job.log is None and forge.forgejo is not None:
            return github.not_found()
        if job.log is None:
            return JSONResponse({"message": "open actions_log/a/1.log: file does not exist"}, 500)
        return Response(job.log, media_type="text/plain")

    @app.get(START + "/compare/{range_:path}")
    def compare(owner: str, name: str, range_: str, authorization: Authorization = "") -> Any:
        found = github.find(forge, owner, name, authorization)
        if isinstance(found, JSONResponse):
            return found
        base, _, head = range_.partition("...")
        theirs = found.ancestors(base)
        between = [commit for commit in found.ancestors(head) if commit not in theirs]
        commits = [
            {
                "sha": commit,
                "files": [
                    {"filename": path, "status": how} for how, path in found.changed(found.ancestors(commit)[1], commit)
                ],
            }
            for commit in between
        ]
        return {"total_commits": len(commits), "commits": commits}

    @app.get(START + "/raw/{path:path}")
    def raw(owner: str, name: str, path: str, ref: str, authorization: Authorization = "") -> Any:
        found = github.find(forge, owner, name, authorization)
        if isinstance(found, JSONResponse):
            return found
        text = found.commits.get(ref, {}).get(path)
        return github.not_found() if text is None else Response(text, media_type="text/plain")
