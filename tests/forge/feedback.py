"""What can be written into the fake forge: comments, check runs and statuses on GitHub and Gitea, notes on GitLab.

Pull requests are put into `Repository.written["pulls"]` by `open_pull_request`. Whatever is written lies in
`written["comments"]`, `["checks"]` and `["statuses"]`, as the API shows it. Comments of other people are put there too.
"""

from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import FastAPI, Header, Request
from fastapi.responses import JSONResponse, Response

from tests.forge import github, gitlab
from tests.forge.state import Forge, Repository

Authorization = Annotated[str, Header()]
OUR_ID = 4242
"""The user behind the token for writing."""


def open_pull_request(
    repository: Repository, number: int, commit: str, *, base: str = "main", branch: str = "feature", **values: Any
) -> dict[str, Any]:
    """Open a pull request, or move one to its next commit; `fork=True` lets it come from another repository."""
    pulls = repository.written.setdefault("pulls", [])
    found = next((pull for pull in pulls if pull["number"] == number), None)
    if found is None:
        found = {"number": number, "state": "open", "fork": False}
        pulls.append(found)
    found |= {"head": commit, "base": base, "branch": branch} | values
    return found


def add_comment(repository: Repository, number: int, body: str, author: int | None = 1) -> dict[str, Any]:
    """Let somebody comment on a pull request; None is somebody whose account is gone."""
    comments = repository.written.setdefault("comments", [])
    made = {"id": 1000 + len(comments), "number": number, "body": body, "author": author, "app": None}
    comments.append(made)
    return made


def bodies(repository: Repository, number: int) -> list[str]:
    """The texts of the comments on a pull request, in their order."""
    return [comment["body"] for comment in repository.written.get("comments", []) if comment["number"] == number]


def files_of(repository: Repository, number: int) -> list[tuple[str, str]]:
    """How which files differ between a pull request and the newest commit of its base."""
    pull = next(pull for pull in repository.written["pulls"] if pull["number"] == number)
    base = pull.get("base_commit") or repository.ancestors(pull["head"])[1]
    return repository.changed(base, pull["head"])


def add_routes(app: FastAPI, forge: Forge) -> None:
    """Add what can be written."""
    for prefix in ("", "/api/v1"):
        _add_github(app, forge, prefix)
    _add_gitlab(app, forge)


def _as_pull(repository: Repository, pull: dict[str, Any]) -> dict[str, Any]:
    head = {"sha": pull["head"], "ref": pull["branch"], "repo": {"id": repository.id + (1000 if pull["fork"] else 0)}}
    base = {"ref": pull["base"], "repo": {"id": repository.id}}
    return {"number": pull["number"], "state": pull["state"], "head": head, "base": base}


def _as_comment(forge: Forge, comment: dict[str, Any]) -> dict[str, Any]:
    app = {"performed_via_github_app": {"id": comment["app"]}} if comment["app"] else {}
    return {"id": comment["id"], "body": comment["body"], "user": {"id": comment["author"]}} | app


def _add_github(app: FastAPI, forge: Forge, prefix: str) -> None:
    root = prefix + "/repos/{owner}/{name}"

    def writer(owner: str, name: str, authorization: str) -> Repository | JSONResponse:
        found = github.find(forge, owner, name, authorization)
        if isinstance(found, JSONResponse) or forge.may_write(authorization):
            return found
        return JSONResponse({"message": "Resource not accessible by personal access token"}, 403)

    def is_app(authorization: str) -> bool:
        return authorization.partition(" ")[2] in forge.installation_tokens

    @app.get(prefix + "/user")
    def user(authorization: Authorization = "") -> Any:
        if is_app(authorization):
            return JSONResponse({"message": "Resource not accessible by integration"}, 403)
        if not forge.may_write(authorization):
            return github.bad_credentials()
        return {"id": OUR_ID, "login": "cachescope"}

    @app.get(root + "/pulls/{number}")
    def pull(owner: str, name: str, number: int, authorization: Authorization = "") -> Any:
        found = github.find(forge, owner, name, authorization)
        if isinstance(found, JSONResponse):
            return found
        pulls = [pull for pull in found.written.get("pulls", []) if pull["number"] == number]
        return _as_pull(found, pulls[0]) if pulls else github.not_found()

    @app.get(root + "/pulls/{number}/files")
    def files(request: Request, owner: str, name: str, number: int, authorization: Authorization = "") -> Any:
        found = github.find(forge, owner, name, authorization)
        if isinstance(found, JSONResponse):
            return found
        changed = [{"filename": path, "status": how} for how, path in files_of(found, number)]
        rows, headers = github.page(forge, request, changed)
        return JSONResponse(rows, headers=headers)

    @app.get(root + "/commits/{sha}/pulls")
    def pulls_of_commit(owner: str, name: str, sha: str, authorization: Authorization = "") -> Any:
        found = github.find(forge, owner, name, authorization)
        if isinstance(found, JSONResponse):
            return found
        return [_as_pull(found, pull) for pull in found.written.get("pulls", []) if pull["head"] == sha]

    @app.get(root + "/commits/{sha}/pull")
    def pull_of_commit(owner: str, name: str, sha: str, authorization: Authorization = "") -> Any:
        found = pulls_of_commit(owner, name, sha, authorization)
        return found if isinstance(found, JSONResponse) else (found[0] if found else github.not_found())

    @app.get(root + "/issues/{number}/comments")
    def comments(request: Request, owner: str, name: str, number: int, authorization: Authorization = "") -> Any:
        found = github.find(forge, owner, name, authorization)
        if isinstance(found, JSONResponse):
            return found
        all_of_it = [_as_comment(forge, each) for each in found.written.get("comments", []) if each["number"] == number]
        rows, headers = github.page(forge, request, all_of_it)
        return JSONResponse(rows, headers=headers)

    @app.post(root + "/issues/{number}/comments", status_code=201)
    async def comment(request: Request, owner: str, name: str, number: int, authorization: Authorization = "") -> Any:
        found = writer(owner, name, authorization)
        if isinstance(found, JSONResponse):
            return found
        made = add_comment(found, number, (await request.json())["body"], 0 if is_app(authorization) else OUR_ID)
        made["app"] = forge.app_id if is_app(authorization) else None
        return _as_comment(forge, made)

    @app.api_route(root + "/issues/comments/{comment_id}", methods=["GET", "PATCH"])
    async def one_comment(
        request: Request, owner: str, name: str, comment_id: int, authorization: Authorization = ""
    ) -> Any:
        found = writer(owner, name, authorization)
        if isinstance(found, JSONResponse):
            return found
        there = next((each for each in found.written.get("comments", []) if each["id"] == comment_id), None)
        if there is None:
            return github.not_found()
        if request.method == "PATCH":
            there["body"] = (await request.json())["body"]
        return _as_comment(forge, there)

    @app.post(root + "/statuses/{sha}", status_code=201)
    async def status(request: Request, owner: str, name: str, sha: str, authorization: Authorization = "") -> Any:
        found = writer(owner, name, authorization)
        if isinstance(found, JSONResponse):
            return found
        told = await request.json()
        if len(told["description"]) > 140 or told["state"] not in {"error", "failure", "pending", "success"}:
            return JSONResponse({"message": "Validation Failed"}, 422)
        found.written.setdefault("statuses", []).append({"sha": sha, **told})
        return {"id": len(found.written["statuses"]), **told}

    @app.post(root + "/check-runs", status_code=201)
    async def check_run(request: Request, owner: str, name: str, authorization: Authorization = "") -> Any:
        found = writer(owner, name, authorization)
        if isinstance(found, JSONResponse):
            return found
        if not is_app(authorization):
            return JSONResponse({"message": "You must authenticate via a GitHub App."}, 403)
        checks = found.written.setdefault("checks", [])
        checks.append({"id": 700 + len(checks), **(await request.json())})
        return checks[-1]

    @app.patch(root + "/check-runs/{check_id}")
    async def edit_check_run(
        request: Request, owner: str, name: str, check_id: int, authorization: Authorization = ""
    ) -> Any:
        found = writer(owner, name, authorization)
        if isinstance(found, JSONResponse):
            return found
        there = next((check for check in found.written.get("checks", []) if check["id"] == check_id), None)
        if there is None:
            return github.not_found()
        there |= await request.json()
        return there

    if prefix:

        @app.get(root + "/raw/{path:path}")
        def raw(owner: str, name: str, path: str, ref: str, authorization: Authorization = "") -> Any:
            found = github.find(forge, owner, name, authorization)
            if isinstance(found, JSONResponse):
                return found
            text = found.commits.get(ref, {}).get(path)
            return github.not_found() if text is None else Response(text, media_type="text/plain")


def _add_gitlab(app: FastAPI, forge: Forge) -> None:
    root = "/api/v4/projects/{project:path}"

    def find(project: str, token: str, *, writing: bool = False) -> Repository | JSONResponse:
        if wrong := gitlab.refused(forge, token):
            return wrong
        if writing and not forge.may_write(f"token {token}"):
            return JSONResponse({"message": "403 Forbidden"}, 403)
        return gitlab.find(forge, unquote(project)) or gitlab.not_found("Project")

    def as_merge(repository: Repository, pull: dict[str, Any]) -> dict[str, Any]:
        return {
            "iid": pull["number"],
            "sha": pull["head"],
            "state": "opened" if pull["state"] == "open" else "merged",
            "source_branch": pull["branch"],
            "target_branch": pull["base"],
            "source_project_id": repository.id + (1000 if pull["fork"] else 0),
            "target_project_id": repository.id,
        }

    def as_note(comment: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": comment["id"],
            "body": comment["body"],
            "author": {"id": comment["author"]},
            "system": comment.get("system", False),
        }

    @app.get("/api/v4/user")
    def user(token: gitlab.Token = "") -> Any:
        return gitlab.refused(forge, token) or {"id": OUR_ID, "username": "cachescope"}

    @app.get(root + "/repository/commits/{sha}/merge_requests")
    def merges_of_commit(project: str, sha: str, token: gitlab.Token = "") -> Any:
        found = find(project, token)
        if isinstance(found, JSONResponse):
            return found
        return [as_merge(found, pull) for pull in found.written.get("pulls", []) if pull["head"] == sha]

    @app.get(root + "/merge_requests/{number}")
    def merge(project: str, number: int, token: gitlab.Token = "") -> Any:
        found = find(project, token)
        if isinstance(found, JSONResponse):
            return found
        pulls = [pull for pull in found.written.get("pulls", []) if pull["number"] == number]
        return as_merge(found, pulls[0]) if pulls else gitlab.not_found("Merge request")

    @app.get(root + "/merge_requests/{number}/diffs")
    def diffs(request: Request, project: str, number: int, token: gitlab.Token = "") -> Any:
        found = find(project, token)
        if isinstance(found, JSONResponse):
            return found
        rows = [{"old_path": path, "new_path": path} for _, path in files_of(found, number)]
        part, headers = github.page(forge, request, rows)
        following = {"x-next-page": str(int(request.query_params.get("page", 1)) + 1) if headers else ""}
        return JSONResponse(part, headers=following)

    @app.get(root + "/merge_requests/{number}/notes")
    def notes(request: Request, project: str, number: int, token: gitlab.Token = "") -> Any:
        found = find(project, token)
        if isinstance(found, JSONResponse):
            return found
        rows = [as_note(each) for each in found.written.get("comments", []) if each["number"] == number]
        part, headers = github.page(forge, request, rows)
        following = {"x-next-page": str(int(request.query_params.get("page", 1)) + 1) if headers else ""}
        return JSONResponse(part, headers=following)

    @app.post(root + "/merge_requests/{number}/notes", status_code=201)
    async def note(request: Request, project: str, number: int, token: gitlab.Token = "") -> Any:
        found = find(project, token, writing=True)
        if isinstance(found, JSONResponse):
            return found
        return as_note(add_comment(found, number, (await request.json())["body"], OUR_ID))

    @app.api_route(root + "/merge_requests/{number}/notes/{note_id}", methods=["GET", "PUT"])
    async def one_note(request: Request, project: str, number: int, note_id: int, token: gitlab.Token = "") -> Any:
        found = find(project, token, writing=request.method == "PUT")
        if isinstance(found, JSONResponse):
            return found
        there = next((each for each in found.written.get("comments", []) if each["id"] == note_id), None)
        if there is None:
            return gitlab.not_found("Note")
        if request.method == "PUT":
            there["body"] = (await request.json())["body"]
        return as_note(there)

    @app.post(root + "/statuses/{sha}", status_code=201)
    async def status(request: Request, project: str, sha: str, token: gitlab.Token = "") -> Any:
        found = find(project, token, writing=True)
        if isinstance(found, JSONResponse):
            return found
        told = await request.json()
        if "pipeline_id" in told and told["pipeline_id"] not in {run.id for run in found.runs}:
            return gitlab.not_found("Pipeline")
        statuses = found.written.setdefault("statuses", [])
        last = next((each for each in reversed(statuses) if (each["sha"], each["name"]) == (sha, told["name"])), None)
        if last is not None and last["state"] == told["state"]:
            said = f"Cannot transition status via :{told['state']} from :{told['state']}"
            return JSONResponse({"message": said}, 400)
        statuses.append({"sha": sha, **told})
        return told
