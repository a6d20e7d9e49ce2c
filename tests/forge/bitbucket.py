"""Bitbucket Cloud's API as far as feedback goes: pages in the body, twelve digits of commits, comments by their author.

Tokens of a repository (`installation_tokens`) may write and have no user: `/2.0/user` refuses them, as documented.
"""

import base64
from typing import Annotated, Any

from fastapi import FastAPI, Header, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response

from tests.forge.feedback import OUR_ID, add_comment, files_of
from tests.forge.state import CIRun, Forge, Repository

Authorization = Annotated[str, Header()]
ROOT = "/2.0/repositories/{owner}/{name}"


def wrong(status: int, message: str) -> JSONResponse:
    """An error as Bitbucket words it."""
    return JSONResponse({"type": "error", "error": {"message": message}}, status)


def uuid_of(user: int) -> str:
    """Bitbucket writes UUIDs in braces."""
    return f"{{00000000-0000-4000-8000-{user:012d}}}"


def status_event(repository: Repository, run: CIRun) -> dict[str, Any]:
    """The body of `repo:commit_status_updated` that Bitbucket Pipelines causes at the end of a run."""
    return {
        "repository": {"full_name": repository.name},
        "commit_status": {
            "type": "build",
            "key": str(run.id),
            "name": f"Pipeline #{run.id} for {run.branch}",
            "state": {"success": "SUCCESSFUL", "failure": "FAILED"}.get(run.conclusion or "", "STOPPED"),
            "refname": run.branch,
            "url": f"https://bitbucket.org/{repository.name}/pipelines/results/{run.id}",
            "created_on": run.jobs[0].started_at,
            "updated_on": run.jobs[-1].completed_at,
            "commit": {"hash": run.commit},
        },
    }


def add_routes(app: FastAPI, forge: Forge) -> None:
    """Add what Bitbucket answers."""

    def token_of(authorization: str) -> str:
        kind, _, value = authorization.partition(" ")
        if kind == "Basic":
            return base64.b64decode(value).decode().partition(":")[2]
        return value

    def find(owner: str, name: str, authorization: str, *, writing: bool = False) -> Repository | JSONResponse:
        known = f"Bearer {token_of(authorization)}"
        if not forge.may_read(known):
            return wrong(401, "Token is invalid, expired, or not supported for this endpoint.")
        if writing and not forge.may_write(known):
            return wrong(403, "Your credentials lack one or more required privilege scopes.")
        return forge.repositories.get(f"{owner}/{name}") or wrong(404, "Repository not found")

    def page(request: Request, rows: list[Any]) -> JSONResponse:
        asked = request.query_params
        size, number = min(int(asked.get("pagelen", 10)), forge.page_size), int(asked.get("page", 1))
        told: dict[str, Any] = {"values": rows[(number - 1) * size : number * size], "page": number, "pagelen": size}
        if number * size < len(rows):
            told["next"] = "http://169.254.169.254/next"  # nobody is to follow it
        return JSONResponse(told)

    def as_pull(repository: Repository, pull: dict[str, Any]) -> dict[str, Any]:
        here = {"full_name": repository.name, "uuid": uuid_of(repository.id)}
        return {
            "type": "pullrequest",
            "id": pull["number"],
            "state": "OPEN" if pull["state"] == "open" else "DECLINED",
            "source": {
                "branch": {"name": pull["branch"]},
                "commit": {"hash": pull["head"][:12]},
                "repository": {"full_name": "someone/fork"} if pull["fork"] else here,
            },
            "destination": {"branch": {"name": pull["base"]}, "repository": here},
        }

    def as_comment(comment: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": comment["id"],
            "content": {"raw": comment["body"]},
            "user": None if comment["author"] is None else {"uuid": uuid_of(comment["author"])},
            "deleted": bool(comment.get("deleted")),
        }

    @app.get("/2.0/user")
    def user(authorization: Authorization = "") -> Any:
        token = token_of(authorization)
        if token in forge.installation_tokens or not forge.may_read(f"Bearer {token}"):
            return wrong(401, "Token is invalid, expired, or not supported for this endpoint.")
        return {"uuid": uuid_of(OUR_ID)}

    @app.get(ROOT + "/pipelines/{number}/steps/")
    def steps(request: Request, owner: str, name: str, number: int, authorization: Authorization = "") -> Any:
        found = find(owner, name, authorization)
        if isinstance(found, JSONResponse):
            return found
        return page(request, [{"uuid": uuid_of(job.id)} for run in found.runs if run.id == number for job in run.jobs])

    @app.get(ROOT + "/pipelines/{number}/steps/{step}/log")
    def step_log(owner: str, name: str, number: int, step: str, authorization: Authorization = "") -> Any:
        found = find(owner, name, authorization)
        if isinstance(found, JSONResponse):
            return found
        jobs = [job for run in found.runs if run.id == number for job in run.jobs if uuid_of(job.id) == step]
        if not jobs or jobs[0].log is None:
            return wrong(404, "Log not found")
        forge.blobs[f"pipelines/{number}"] = jobs[0].log
        return RedirectResponse(f"{forge.blob_url}/pipelines/{number}", 307)

    @app.get(ROOT + "/commit/{sha}")
    def commit(owner: str, name: str, sha: str, authorization: Authorization = "") -> Any:
        found = find(owner, name, authorization)
        if isinstance(found, JSONResponse):
            return found
        whole = next((each for each in found.commits if each.startswith(sha)), None)
        return {"hash": whole} if whole else wrong(404, "Commit not found")

    @app.get(ROOT + "/pullrequests")
    def pulls(request: Request, owner: str, name: str, state: str = "", authorization: Authorization = "") -> Any:
        found = find(owner, name, authorization)
        if isinstance(found, JSONResponse):
            return found
        rows = [as_pull(found, pull) for pull in found.written.get("pulls", [])]
        return page(request, [row for row in rows if row["state"] == state])

    @app.get(ROOT + "/pullrequests/{number}")
    def pull(owner: str, name: str, number: int, authorization: Authorization = "") -> Any:
        found = find(owner, name, authorization)
        if isinstance(found, JSONResponse):
            return found
        there = [pull for pull in found.written.get("pulls", []) if pull["number"] == number]
        return as_pull(found, there[0]) if there else wrong(404, "PullRequest matching query does not exist.")

    @app.get(ROOT + "/pullrequests/{number}/diffstat")
    def diffstat(request: Request, owner: str, name: str, number: int, authorization: Authorization = "") -> Any:
        found = find(owner, name, authorization)
        if isinstance(found, JSONResponse):
            return found
        return RedirectResponse(f"/2.0/repositories/{owner}/{name}/diffstat/{number}?{request.url.query}", 302)

    @app.get(ROOT + "/diffstat/{number}")
    def files(request: Request, owner: str, name: str, number: int, authorization: Authorization = "") -> Any:
        found = find(owner, name, authorization)
        if isinstance(found, JSONResponse):
            return found
        rows = [
            {"status": "modified", "old": {"path": path}, "new": {"path": path}} for _, path in files_of(found, number)
        ]
        return page(request, rows)

    @app.get(ROOT + "/pullrequests/{number}/comments")
    def comments(request: Request, owner: str, name: str, number: int, authorization: Authorization = "") -> Any:
        found = find(owner, name, authorization)
        if isinstance(found, JSONResponse):
            return found
        return page(
            request, [as_comment(each) for each in found.written.get("comments", []) if each["number"] == number]
        )

    @app.post(ROOT + "/pullrequests/{number}/comments", status_code=201)
    async def comment(request: Request, owner: str, name: str, number: int, authorization: Authorization = "") -> Any:
        found = find(owner, name, authorization, writing=True)
        if isinstance(found, JSONResponse):
            return found
        is_token = token_of(authorization) in forge.installation_tokens
        return as_comment(
            add_comment(found, number, (await request.json())["content"]["raw"], 7 if is_token else OUR_ID)
        )

    @app.api_route(ROOT + "/pullrequests/{number}/comments/{comment_id}", methods=["GET", "PUT"])
    async def one_comment(
        request: Request, owner: str, name: str, comment_id: int, authorization: Authorization = ""
    ) -> Any:
        found = find(owner, name, authorization, writing=request.method == "PUT")
        if isinstance(found, JSONResponse):
            return found
        there = next((each for each in found.written.get("comments", []) if each["id"] == comment_id), None)
        if there is None:
            return wrong(404, "Resource not found")
        if request.method == "PUT":
            author = 7 if token_of(authorization) in forge.installation_tokens else OUR_ID
            if there["author"] != author:
                return wrong(403, "You may only edit your own comments.")
            there["body"] = (await request.json())["content"]["raw"]
        return as_comment(there)

    @app.post(ROOT + "/commit/{sha}/statuses/build", status_code=201)
    async def status(request: Request, owner: str, name: str, sha: str, authorization: Authorization = "") -> Any:
        found = find(owner, name, authorization, writing=True)
        if isinstance(found, JSONResponse):
            return found
        told = await request.json()
        states = {"SUCCESSFUL", "FAILED", "INPROGRESS", "STOPPED"}
        if not told.get("url") or not 0 < len(told.get("key", "")) <= 40 or told.get("state") not in states:
            return wrong(400, "Bad request")
        statuses = found.written.setdefault("statuses", [])
        statuses[:] = [each for each in statuses if (each["sha"], each["key"]) != (sha, told["key"])]
        statuses.append({"sha": sha, "target_url": told["url"], **told})
        return told

    @app.get(ROOT + "/src/{ref}/{path:path}")
    def source(owner: str, name: str, ref: str, path: str, authorization: Authorization = "") -> Any:
        found = find(owner, name, authorization)
        if isinstance(found, JSONResponse):
            return found
        text = found.commits.get(ref, {}).get(path)
        return wrong(404, "No such file or directory") if text is None else Response(text, media_type="text/plain")
