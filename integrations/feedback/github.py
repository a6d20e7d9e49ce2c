"""GitHub and GitHub Enterprise Server: comments, and check runs for an App, commit statuses for a token.

Only Apps may write check runs. Limits and answers are those of https://docs.github.com/en/rest: a comment takes 65,536
characters, the description of a status 140, the list of a pull request's files ends at 3,000.
"""

from collections.abc import Iterator
from typing import Any

from cachescope.feedback import Conclusion, describe
from integrations.ci import _bodies as read
from integrations.feedback.base import (
    Api,
    ChangedFiles,
    Check,
    FeedbackRefusedError,
    Forge,
    PullRequest,
    checked_commit,
    checked_repository,
    number_of,
    quoted_path,
    text_of,
)

MOST_FILES = 3_000
_HEADERS = {"accept": "application/vnd.github+json", "x-github-api-version": "2022-11-28"}


class GitHub:
    """One repository of GitHub; Gitea speaks a dialect of the same."""

    headers = _HEADERS
    page_size = "per_page"

    def __init__(self, api: Api, repository: str, *, app_id: str | None) -> None:
        self._api = api
        self._root = f"/repos/{checked_repository(repository)}"
        self._app_id = app_id
        self._user_id: int | None = None
        self.check_kind = "check" if app_id is not None else "status"

    def read_pull_request(self, number: int) -> PullRequest | None:
        """Look up a pull request; see `Forge`."""
        found = self._api.json("GET", f"{self._root}/pulls/{number}", missing=(404,), headers=self.headers)
        return pull_request_of(found)

    def find_pull_request(self, commit: str) -> PullRequest | None:
        """Find the open pull request of a commit; see `Forge`."""
        path = f"{self._root}/commits/{checked_commit(commit)}/pulls"
        rows = self._api.json("GET", path, missing=(404, 422), headers=self.headers)
        pulls = [pull for row in read.rows(rows) if (pull := pull_request_of(row)) is not None and pull.is_open]
        # One whose last commit this is: the list also holds those that merely contain it.
        return next((pull for pull in pulls if pull.head == commit), pulls[0] if len(pulls) == 1 else None)

    def find_comment(self, number: int, marker: str) -> str | None:
        """Find our comment; see `Forge`."""
        for page in self._pages(f"{self._root}/issues/{number}/comments"):
            for comment in page:
                if str(comment.get("body", "")).startswith(marker) and self._is_ours(comment):
                    return str(number_of(comment.get("id")))
        return None

    def write_comment(self, number: int, body: str) -> str:
        """Write a comment; see `Forge`."""
        path = f"{self._root}/issues/{number}/comments"
        return self._id(self._api.json("POST", path, json={"body": body}, headers=self.headers))

    def edit_comment(self, number: int, comment_id: str, body: str) -> bool:
        """Edit a comment; see `Forge`."""
        path = f"{self._root}/issues/comments/{int(comment_id)}"
        found = self._api.json("GET", path, missing=(404, 410), headers=self.headers)
        if not isinstance(found, dict) or not self._is_ours(found):
            return False
        edited = self._api.call("PATCH", path, json={"body": body}, missing=(404, 410), headers=self.headers)
        return edited is not None

    def write_check(self, commit: str, check: Check, former_id: str | None) -> str | None:
        """Write a check run or a status; see `Forge`."""
        if self.check_kind == "status":
            self._write_status(commit, check)
            return None
        verdict = check.verdict
        body = {
            "name": check.name,
            "status": "completed",
            "conclusion": str(verdict.conclusion),
            "output": {"title": describe(verdict, 250), "summary": verdict.summary[:65_000]},
        } | ({"details_url": check.url} if check.url else {})
        if former_id is not None:
            path = f"{self._root}/check-runs/{int(former_id)}"
            if self._api.call("PATCH", path, json=body, missing=(404,), headers=self.headers) is not None:
                return former_id
        made = {**body, "head_sha": checked_commit(commit)}
        return self._id(self._api.json("POST", f"{self._root}/check-runs", json=made, headers=self.headers))

    def _write_status(self, commit: str, check: Check) -> None:
        body = {
            # Statuses know no neutral.
            "state": "failure" if check.verdict.conclusion == Conclusion.FAILURE else "success",
            "context": check.name,
            "description": describe(check.verdict),
        } | ({"target_url": check.url} if check.url else {})
        path = f"{self._root}/statuses/{checked_commit(commit)}"
        self._api.call("POST", path, json=body, headers=self.headers)

    def list_changed_files(self, number: int) -> ChangedFiles:
        """List the files of a pull request; see `Forge`."""
        paths: list[str] = []
        count = 0
        for page in self._pages(f"{self._root}/pulls/{number}/files"):
            count += len(page)
            for row in page:
                paths += [
                    path for name in ("filename", "previous_filename") if (path := read.text(row.get(name), 4096))
                ]
        return ChangedFiles(paths=tuple(dict.fromkeys(paths)), is_complete=count < MOST_FILES)

    def read_file(self, path: str, ref: str, cap_bytes: int = 1_000_000) -> str | None:
        """Read a file; see `Forge`."""
        address = f"{self._root}/contents/{quoted_path(path)}?ref={quoted_path(ref)}"
        headers = {**self.headers, "accept": "application/vnd.github.raw+json"}
        return text_of(self._api.call("GET", address, missing=(403, 404), headers=headers), cap_bytes)

    def _pages(self, path: str) -> Iterator[list[dict[str, Any]]]:
        return self._api.pages(path, size=self.page_size, headers=self.headers)

    def _is_ours(self, comment: dict[str, Any]) -> bool:
        if self._app_id is not None:
            app = read.part(comment, "performed_via_github_app")
            # GitHub shows both, and takes either in place of the other.
            return self._app_id in {str(read.part(app, "id")), read.part(app, "client_id")}
        if self._user_id is None:
            self._user_id = number_of(read.part(self._api.json("GET", "/user", headers=self.headers), "id"))
        return self._user_id is not None and read.part(comment, "user", "id") == self._user_id

    def _id(self, made: object) -> str:
        found = number_of(read.part(made, "id"))
        if found is None:
            raise FeedbackRefusedError("The forge did not say what id it gave to what we wrote.")
        return str(found)


def pull_request_of(found: object) -> PullRequest | None:
    """Read a pull request as GitHub and Gitea write it; None for anything else."""
    number, head = number_of(read.part(found, "number")), read.commit(read.part(found, "head", "sha"))
    if number is None or head is None:
        return None
    ours, theirs = read.part(found, "base", "repo", "id"), read.part(found, "head", "repo", "id")
    return PullRequest(
        number=number,
        head=head,
        base=read.branch(read.part(found, "base", "ref")) or "",
        is_open=read.part(found, "state") == "open",
        # Where the fork was deleted there is no repository at all.
        is_foreign=ours is not None and theirs != ours,
    )


def make_github(api: Api, repository: str, *, app_id: str | None) -> Forge:
    """Make the forge of a repository of GitHub."""
    return GitHub(api, repository, app_id=app_id)


FORGE = make_github
