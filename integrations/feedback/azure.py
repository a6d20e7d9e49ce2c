"""Azure Repos: threads of pull requests, and statuses of commits.

Defined at https://learn.microsoft.com/rest/api/azure/devops/git/. A repository is named by its project too. A comment
of ours is the first of a thread, which is closed at once: open ones may keep a pull request from being completed.
Whoever has no valid token is shown a page to sign in.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from cachescope.errors import UnreadableInputError
from cachescope.feedback import Conclusion, describe
from integrations.ci import _bodies as read
from integrations.feedback.base import (
    MOST_PAGES,
    PAGE,
    Api,
    ChangedFiles,
    Check,
    FeedbackRefusedError,
    Forge,
    PullRequest,
    checked_commit,
    checked_repository,
    number_of,
    text_of,
)

_VERSION = "7.1"
_FILES = 2_000
"""How many changed files are asked for at once; no more are read."""
_FIRST = 1
"""The number of a thread's first comment."""


class Azure:
    """One repository of Azure Repos."""

    check_kind = "status"

    def __init__(self, api: Api, repository: str) -> None:
        self._api = api
        project, _, name = checked_repository(repository).partition("/")
        if "/" in name:
            raise FeedbackRefusedError(
                f'"{repository[:80]}" is no repository of Azure Repos: it must read project/name.'
            )
        self._root = f"/{project}/_apis/git/repositories/{name}"
        self._user: str | None = None

    def read_pull_request(self, number: int) -> PullRequest | None:
        """Look up a pull request; see `Forge`."""
        return _pull_request(self._json("GET", f"/pullrequests/{number}", missing=(404,)))

    def find_pull_request(self, commit: str) -> PullRequest | None:
        """Find the open pull request whose last commit this is; see `Forge`."""
        checked_commit(commit)
        for number in range(MOST_PAGES):
            asked: dict[str, str | int] = {"searchCriteria.status": "active", "$top": PAGE, "$skip": number * PAGE}
            rows = _rows(self._json("GET", "/pullrequests", asked))
            for row in rows:
                pull = _pull_request(row)
                if pull is not None and pull.head == commit:
                    return pull
            if len(rows) < PAGE:
                return None
        return None

    def find_comment(self, number: int, marker: str) -> str | None:
        """Find our thread; see `Forge`."""
        for thread in _rows(self._json("GET", f"/pullRequests/{number}/threads")):
            first = read.part(thread, "comments", 0)
            if str(read.part(first, "content")).startswith(marker) and self._is_ours(first):
                return str(number_of(thread.get("id")))
        return None

    def write_comment(self, number: int, body: str) -> str:
        """Begin a thread; see `Forge`."""
        comment = {"parentCommentId": 0, "content": body, "commentType": "text"}
        path = f"/pullRequests/{number}/threads"
        found = number_of(read.part(self._json("POST", path, json={"comments": [comment], "status": "closed"}), "id"))
        if found is None:
            raise FeedbackRefusedError("The forge did not say what id it gave to what we wrote.")
        return str(found)

    def edit_comment(self, number: int, comment_id: str, body: str) -> bool:
        """Edit the first comment of a thread; see `Forge`."""
        path = f"/pullRequests/{number}/threads/{int(comment_id)}/comments/{_FIRST}"
        if not self._is_ours(self._json("GET", path, missing=(404,))):
            return False
        return self._json("PATCH", path, json={"content": body}, missing=(404,)) is not None

    def write_check(self, commit: str, check: Check, former_id: str | None) -> str | None:
        """Write a status; see `Forge`. The last one of a name counts."""
        body = {
            "state": "failed" if check.verdict.conclusion == Conclusion.FAILURE else "succeeded",
            "description": describe(check.verdict),
            "context": {"genre": "cachescope", "name": check.name.removeprefix("cachescope/")},
        } | ({"targetUrl": check.url} if check.url else {})
        self._json("POST", f"/commits/{checked_commit(commit)}/statuses", json=body)
        return None

    def list_changed_files(self, number: int) -> ChangedFiles:
        """List the files of a pull request as of its last push; see `Forge`."""
        pushes = [number_of(row.get("id")) for row in _rows(self._json("GET", f"/pullRequests/{number}/iterations"))]
        last = max((push for push in pushes if push is not None), default=None)
        if last is None:
            return ChangedFiles(paths=(), is_complete=False)
        path = f"/pullRequests/{number}/iterations/{last}/changes"
        told = self._json("GET", path, {"$top": _FILES, "$compareTo": 0})
        found = read.part(told, "changeEntries")
        rows = [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
        paths = [
            path.lstrip("/")
            for row in rows
            for path in (read.text(read.part(row, "item", "path"), 4096), read.text(row.get("originalPath"), 4096))
            if path
        ]
        return ChangedFiles(paths=tuple(dict.fromkeys(paths)), is_complete=not read.part(told, "nextSkip"))

    def read_file(self, path: str, ref: str, cap_bytes: int = 1_000_000) -> str | None:
        """Read a file; see `Forge`."""
        kind = "commit" if read.commit(ref) and len(ref) >= 40 else "branch"
        asked = {
            "path": "/" + "/".join(part for part in path.split("/") if part not in {"", ".", ".."}),
            "versionDescriptor.version": ref,
            "versionDescriptor.versionType": kind,
            "$format": "octetStream",
        }
        address = f"{self._root}/items?{_query(asked)}"
        return text_of(self._api.call("GET", address, missing=(404,)), cap_bytes)

    def _json(self, method: str, path: str, query: Mapping[str, str | int] | None = None, **options: Any) -> Any:
        return self._ask(method, f"{self._root}{path}?{_query(query or {})}", **options)

    def _ask(self, method: str, address: str, **options: Any) -> Any:
        try:
            return self._api.json(method, address, **options)
        except UnreadableInputError as error:
            raise FeedbackRefusedError(
                f"The forge answered a page to {method} {address.partition('?')[0][:200]}: the credentials for writing "
                "do not hold. Renew them where the source is set up."
            ) from error

    def _is_ours(self, comment: object) -> bool:
        if self._user is None:
            told = self._ask("GET", "/_apis/connectionData")
            self._user = read.text(read.part(told, "authenticatedUser", "id"), 100)
        is_there = read.part(comment, "isDeleted") is not True
        return is_there and self._user is not None and read.part(comment, "author", "id") == self._user


def _query(asked: Mapping[str, str | int]) -> str:
    return urlencode({**asked, "api-version": _VERSION}, quote_via=quote, safe="")


def _rows(told: object) -> list[dict[str, Any]]:
    rows = read.part(told, "value")
    if not isinstance(rows, list):
        raise FeedbackRefusedError("The forge answered no list.")
    return [row for row in rows if isinstance(row, dict)]


def _pull_request(found: object) -> PullRequest | None:
    number, head = (
        number_of(read.part(found, "pullRequestId")),
        read.commit(read.part(found, "lastMergeSourceCommit", "commitId")),
    )
    if number is None or head is None:
        return None
    return PullRequest(
        number=number,
        head=head,
        base=read.branch(read.part(found, "targetRefName")) or "",
        is_open=read.part(found, "status") == "active",
        is_foreign=read.part(found, "forkSource") is not None,
    )


def make_azure(api: Api, repository: str, *, app_id: str | None) -> Forge:
    """Make the forge of a repository of Azure Repos."""
    return Azure(api, repository)


FORGE = make_azure
