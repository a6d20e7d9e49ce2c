"""Azure Repos' API as far as feedback goes: threads, statuses, iterations, and files asked for by a query."""

import base64
from typing import Annotated, Any

from fastapi import FastAPI, Header, Request
from fastapi.responses import JSONResponse, Response

from tests.forge.feedback import OUR_ID, add_comment, files_of
from tests.forge.state import Forge, Repository

Authorization = Annotated[str, Header()]
ROOT = "/{owner}/_apis/git/repositories/{name}"


def wrong(status: int, message: str) -> JSONResponse:
    """An error as Azure DevOps words it."""
    return JSONResponse({"$id": "1", "message": message, "errorCode": 0}, status)


def rows_of(rows: list[Any]) -> dict[str, Any]:
    """A list as Azure DevOps wraps it."""
    return {"count": len(rows), "value": rows}


def user_of(number: int | None) -> str:
    """The id of an identity."""
    return f"00000000-0000-4000-8000-{number or 0:012d}"


def add_routes(app: FastAPI, forge: Forge) -> None:
    """Add what Azure DevOps answers."""

    def known(authorization: str) -> str:
        kind, _, value = authorization.partition(" ")
        return f"Bearer {base64.b64decode(value).decode().partition(':')[2] if kind == 'Basic' else value}"

    def find(request: Request, owner: str, name: str, *, writing: bool = False) -> Repository | Response:
        token = known(request.headers.get("authorization", ""))
        if token == "Bearer expired":
            return Response(
                "<!DOCTYPE html><title>Azure DevOps Services | Sign In</title>", 203, media_type="text/html"
            )
        if not forge.may_read(token):
            return wrong(401, "TF400813: The user is not authorized to access this resource.")
        if writing and not forge.may_write(token):
            return wrong(403, "TF401027: You need the Git 'PullRequestContribute' permission.")
        if request.query_params.get("api-version") != "7.1":
            return wrong(400, "No api-version was supplied for the request.")
        return forge.repositories.get(f"{owner}/{name}") or wrong(404, "TF401019: The Git repository does not exist.")

    def as_pull(pull: dict[str, Any]) -> dict[str, Any]:
        fork = {"forkSource": {"repository": {"id": "x"}}} if pull["fork"] else {}
        return {
            "pullRequestId": pull["number"],
            "status": "active" if pull["state"] == "open" else "completed",
            "sourceRefName": f"refs/heads/{pull['branch']}",
            "targetRefName": f"refs/heads/{pull['base']}",
            "lastMergeSourceCommit": {"commitId": pull["head"]},
        } | fork

    def as_comment(comment: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": 1,
            "content": comment["body"],
            "author": {"id": user_of(comment["author"])},
            "commentType": "text",
            "isDeleted": bool(comment.get("deleted")),
        }

    def thread_of(found: Repository, number: int) -> dict[str, Any] | None:
        return next((each for each in found.written.get("comments", []) if each["id"] == number), None)

    @app.get("/_apis/connectionData")
    def connection(authorization: Authorization = "") -> Any:
        if not forge.may_read(known(authorization)):
            return wrong(401, "TF400813: The user is not authorized to access this resource.")
        return {"authenticatedUser": {"id": user_of(OUR_ID)}}

    @app.get(ROOT + "/pullrequests")
    def pulls(request: Request, owner: str, name: str) -> Any:
        found = find(request, owner, name)
        if isinstance(found, Response):
            return found
        skip, top = int(request.query_params["$skip"]), int(request.query_params["$top"])
        rows = [as_pull(pull) for pull in found.written.get("pulls", [])]
        wanted = request.query_params["searchCriteria.status"]
        return rows_of([row for row in rows if row["status"] == wanted][skip : skip + top])

    @app.get(ROOT + "/pullrequests/{number}")
    def pull(request: Request, owner: str, name: str, number: int) -> Any:
        found = find(request, owner, name)
        if isinstance(found, Response):
            return found
        there = [pull for pull in found.written.get("pulls", []) if pull["number"] == number]
        return as_pull(there[0]) if there else wrong(404, "TF401180: The requested pull request was not found.")

    @app.get(ROOT + "/pullRequests/{number}/threads")
    def threads(request: Request, owner: str, name: str, number: int) -> Any:
        found = find(request, owner, name)
        if isinstance(found, Response):
            return found
        comments = [each for each in found.written.get("comments", []) if each["number"] == number]
        return rows_of([{"id": each["id"], "comments": [as_comment(each)]} for each in comments])

    @app.post(ROOT + "/pullRequests/{number}/threads")
    async def thread(request: Request, owner: str, name: str, number: int) -> Any:
        found = find(request, owner, name, writing=True)
        if isinstance(found, Response):
            return found
        told = await request.json()
        if told["status"] != "closed" or told["comments"][0]["parentCommentId"] != 0:
            return wrong(400, "An open thread keeps the pull request from being completed.")
        made = add_comment(found, number, told["comments"][0]["content"], OUR_ID)
        return {"id": made["id"], "comments": [as_comment(made)]}

    @app.api_route(ROOT + "/pullRequests/{number}/threads/{thread_id}/comments/1", methods=["GET", "PATCH"])
    async def one_comment(request: Request, owner: str, name: str, thread_id: int) -> Any:
        found = find(request, owner, name, writing=request.method == "PATCH")
        if isinstance(found, Response):
            return found
        there = thread_of(found, thread_id)
        if there is None:
            return wrong(404, "The thread does not exist.")
        if request.method == "PATCH":
            there["body"] = (await request.json())["content"]
        return as_comment(there)

    @app.get(ROOT + "/pullRequests/{number}/iterations")
    def iterations(request: Request, owner: str, name: str) -> Any:
        found = find(request, owner, name)
        return found if isinstance(found, Response) else rows_of([{"id": 1}, {"id": 2}])

    @app.get(ROOT + "/pullRequests/{number}/iterations/2/changes")
    def changes(request: Request, owner: str, name: str, number: int) -> Any:
        found = find(request, owner, name)
        if isinstance(found, Response):
            return found
        rows = [{"changeType": "edit", "item": {"path": f"/{path}"}} for _, path in files_of(found, number)]
        return {"changeEntries": rows[: forge.page_size]} | ({"nextSkip": 1} if len(rows) > forge.page_size else {})

    @app.post(ROOT + "/commits/{sha}/statuses", status_code=201)
    async def status(request: Request, owner: str, name: str, sha: str) -> Any:
        found = find(request, owner, name, writing=True)
        if isinstance(found, Response):
            return found
        told = await request.json()
        if told["state"] not in {"succeeded", "failed", "pending", "error"} or not told["context"]["name"]:
            return wrong(400, "The status is not valid.")
        shown = {"sha": sha, "description": told["description"], "target_url": told.get("targetUrl")}
        found.written.setdefault("statuses", []).append(shown | told)
        return told

    @app.get(ROOT + "/items")
    def items(request: Request, owner: str, name: str) -> Any:
        found = find(request, owner, name)
        if isinstance(found, Response):
            return found
        asked = request.query_params
        text = found.commits.get(asked["versionDescriptor.version"], {}).get(asked["path"].lstrip("/"))
        return wrong(404, "TF401174: The item could not be found.") if text is None else Response(text)
