"""GitHub's REST API as far as it is read: App tokens, runs, jobs, logs by redirect, comparisons, contents."""

import base64
import hashlib
import io
import json
import time
import zipfile
from typing import Annotated, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from fastapi import FastAPI, Header, Query, Request
from fastapi.responses import JSONResponse, Response

from tests.forge.state import CIRun, Forge, Job, Repository

Authorization = Annotated[str, Header()]
Accept = Annotated[str, Header()]


def not_found() -> JSONResponse:
    """What GitHub answers for all that is not there and all that one may not see."""
    return JSONResponse({"message": "Not Found"}, 404)


def bad_credentials() -> JSONResponse:
    """What GitHub answers to a token that does not hold."""
    return JSONResponse({"message": "Bad credentials"}, 401)


def find(forge: Forge, owner: str, name: str, authorization: str) -> Repository | JSONResponse:
    """The repository that a request is about, or why there is none."""
    if authorization and not forge.may_read(authorization):
        return bad_credentials()
    found = forge.repositories.get(f"{owner}/{name}")
    return found if found is not None and authorization else not_found()


def page(forge: Forge, request: Request, rows: list[Any]) -> tuple[list[Any], dict[str, str]]:
    """One page of a list, with the header that names the next one."""
    size = min(int(request.query_params.get("per_page", 30)), 100, forge.page_size)
    number = int(request.query_params.get("page", 1))
    headers = {}
    if number * size < len(rows):
        headers["link"] = f'<{request.url.include_query_params(page=number + 1)}>; rel="next"'
    return rows[(number - 1) * size : number * size], headers


def as_run(repository: Repository, run: CIRun) -> dict[str, Any]:
    """A workflow run in GitHub's words."""
    pulls = [{"number": run.pull_request, "head": {"ref": run.branch}, "base": {"ref": repository.default_branch}}]
    return {
        "id": run.id,
        "name": run.name,
        "head_branch": run.branch,
        "head_sha": run.commit,
        "run_attempt": run.attempt,
        "status": "completed" if run.conclusion else "in_progress",
        "conclusion": run.conclusion,
        "html_url": f"https://github.com/{repository.name}/actions/runs/{run.id}",
        "pull_requests": pulls if run.pull_request else [],
        "created_at": run.jobs[0].started_at if run.jobs else "2026-11-20T10:00:00Z",
        "updated_at": run.jobs[-1].completed_at if run.jobs else "2026-11-20T10:00:00Z",
        "actor": {"login": "ada"},
        "event": "pull_request" if run.pull_request or run.fork else "push",
        "repository": {"id": repository.id, "full_name": repository.name},
        "head_repository": {"id": 999, "owner": {"login": run.fork}} if run.fork else {"id": repository.id},
    }


def as_job(repository: Repository, run: CIRun, job: Job) -> dict[str, Any]:
    """A job in GitHub's words."""
    return {
        "id": job.id,
        "run_id": run.id,
        "run_attempt": run.attempt,
        "workflow_name": run.name,
        "name": job.name,
        "head_branch": run.branch,
        "head_sha": run.commit,
        "status": "completed" if job.conclusion else "in_progress",
        "conclusion": job.conclusion,
        "started_at": job.started_at,
        "completed_at": job.completed_at,
        "runner_name": job.runner,
        "html_url": f"https://github.com/{repository.name}/actions/runs/{run.id}/job/{job.id}",
    }


def job_event(repository: Repository, run: CIRun, job: Job) -> dict[str, Any]:
    """The body of `workflow_job` when a job has ended."""
    return {
        "action": "completed",
        "workflow_job": as_job(repository, run, job),
        "repository": {
            "id": repository.id,
            "full_name": repository.name,
            "default_branch": repository.default_branch,
        },
        "sender": {"login": "ada"},
    }


def add_routes(app: FastAPI, forge: Forge) -> None:
    """Add what GitHub answers."""

    @app.post("/app/installations/{installation_id}/access_tokens", status_code=201)
    def access_token(installation_id: int, authorization: Authorization = "") -> Any:
        if not _is_signed(forge, authorization.removeprefix("Bearer ")):
            return JSONResponse({"message": "A JSON web token could not be decoded"}, 401)
        if installation_id != forge.installation_id:
            return not_found()
        token = f"ghs_{forge.app_id}_" + "a.b-c" * 20 + str(len(forge.installation_tokens))
        forge.installation_tokens.add(token)
        return {"token": token, "expires_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))}

    @app.get("/repos/{owner}/{name}/installation")
    def installation(owner: str, name: str, authorization: Authorization = "") -> Any:
        if not _is_signed(forge, authorization.removeprefix("Bearer ")):
            return JSONResponse({"message": "A JSON web token could not be decoded"}, 401)
        return {"id": forge.installation_id} if f"{owner}/{name}" in forge.repositories else not_found()

    @app.get("/installation/repositories")
    def installation_repositories(request: Request, authorization: Authorization = "") -> Any:
        if not forge.may_read(authorization):
            return bad_credentials()
        rows, headers = page(forge, request, [{"full_name": name} for name in forge.repositories])
        return JSONResponse({"total_count": len(forge.repositories), "repositories": rows}, headers=headers)

    @app.get("/repos/{owner}/{name}/actions/runs")
    def runs(request: Request, owner: str, name: str, authorization: Authorization = "") -> Any:
        found = find(forge, owner, name, authorization)
        if isinstance(found, JSONResponse):
            return found
        rows, headers = page(forge, request, [as_run(found, run) for run in reversed(found.runs)])
        return JSONResponse({"total_count": len(found.runs), "workflow_runs": rows}, headers=headers)

    @app.get("/repos/{owner}/{name}/actions/runs/{run_id}")
    def one_run(owner: str, name: str, run_id: int, authorization: Authorization = "") -> Any:
        found = find(forge, owner, name, authorization)
        if isinstance(found, JSONResponse):
            return found
        return next((as_run(found, run) for run in found.runs if run.id == run_id), None) or not_found()

    @app.get("/repos/{owner}/{name}/actions/runs/{run_id}/jobs")
    def jobs(request: Request, owner: str, name: str, run_id: int, authorization: Authorization = "") -> Any:
        found = find(forge, owner, name, authorization)
        if isinstance(found, JSONResponse):
            return found
        all_jobs = [as_job(found, run, job) for run in found.runs if run.id == run_id for job in run.jobs]
        rows, headers = page(forge, request, all_jobs)
        return JSONResponse({"total_count": len(all_jobs), "jobs": rows}, headers=headers)

    @app.get("/repos/{owner}/{name}/actions/jobs/{job_id}/logs")
    def job_log(owner: str, name: str, job_id: int, authorization: Authorization = "") -> Any:
        found = find(forge, owner, name, authorization)
        if isinstance(found, JSONResponse):
            return found
        job = next((job for run in found.runs for job in run.jobs if job.id == job_id), None)
        if job is None or job.log is None or job.misses > 0:
            if job is not None:
                job.misses -= 1
            return not_found()
        return _redirect(forge, f"job-{job_id}.txt", job.log)

    @app.get("/repos/{owner}/{name}/actions/runs/{run_id}/attempts/{attempt}/logs")
    def run_logs(owner: str, name: str, run_id: int, attempt: int, authorization: Authorization = "") -> Any:
        found = find(forge, owner, name, authorization)
        if isinstance(found, JSONResponse):
            return found
        run = next((run for run in found.runs if (run.id, run.attempt) == (run_id, attempt)), None)
        if run is None or not run.in_zip:
            return not_found()
        return _redirect(forge, f"run-{run_id}.zip", _zipped(run))

    @app.get("/repos/{owner}/{name}/compare/{range_:path}")
    def compare(
        owner: str,
        name: str,
        range_: str,
        number: Annotated[int, Query(alias="page")] = 1,
        authorization: Authorization = "",
    ) -> Any:
        found = find(forge, owner, name, authorization)
        if isinstance(found, JSONResponse):
            return found
        base, _, head = range_.partition("...")
        if base not in found.commits or head not in found.commits:
            return not_found()
        return _comparison(found, base, head) | ({"files": []} if number > 1 else {})

    @app.get("/repos/{owner}/{name}/contents/{path:path}")
    def contents(  # noqa: PLR0917 - the parts of an address
        owner: str, name: str, path: str, ref: str, authorization: Authorization = "", accept: Accept = ""
    ) -> Any:
        found = find(forge, owner, name, authorization)
        if isinstance(found, JSONResponse):
            return found
        text = found.commits.get(ref, {}).get(path)
        if text is None:
            return not_found()
        if "raw" in accept:
            return Response(text, media_type="application/vnd.github.raw+json")
        return {"type": "file", "encoding": "base64", "content": base64.b64encode(text.encode()).decode()}


def _comparison(repository: Repository, base: str, head: str) -> dict[str, Any]:
    mine, theirs = repository.ancestors(head), repository.ancestors(base)
    merge_base = next(commit for commit in mine if commit in theirs)
    ahead, behind = mine.index(merge_base), theirs.index(merge_base)
    status = "identical" if base == head else "ahead" if not behind else "behind" if not ahead else "diverged"
    files = [
        {"filename": path, "status": how, "sha": _blob_id(repository.commits[head].get(path, "")), "patch": "@@"}
        for how, path in repository.changed(merge_base, head)
    ]
    return {
        "status": status,
        "ahead_by": ahead,
        "behind_by": behind,
        "merge_base_commit": {"sha": merge_base},
        "files": files[: repository.most_files],
    }


def _blob_id(text: str) -> str:
    content = text.encode()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _redirect(forge: Forge, name: str, content: bytes) -> Response:
    forge.blobs[name] = content
    target = forge.redirect_to or f"{forge.blob_url}/{name}?sig=presigned"
    return Response(status_code=302, headers={"location": target})


def _zipped(run: CIRun) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, job in enumerate(run.jobs):
            archive.writestr(f"{number}_{job.name}.txt", job.log or b"")
            archive.writestr(f"{job.name}/1_Set up job.txt", (job.log or b"")[:100])
    return packed.getvalue()


def _is_signed(forge: Forge, token: str) -> bool:
    """Whether this is a JSON web token of our App that holds now and for no longer than ten minutes."""
    try:
        signed, _, signature = token.rpartition(".")
        header, claims = (json.loads(_decoded(part)) for part in signed.split("."))
        forge.app_public_key.verify(_decoded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    except (ValueError, InvalidSignature, AttributeError):
        return False
    now = time.time()
    return (
        header["alg"] == "RS256"
        and str(claims["iss"]) == str(forge.app_id)
        and claims["iat"] <= now <= claims["exp"] <= now + 600
    )


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
