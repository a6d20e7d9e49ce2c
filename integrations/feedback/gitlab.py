"""GitLab: notes on merge requests, and commit statuses, which show up as jobs of the pipeline.

Defined at https://docs.gitlab.com/api/notes/, /api/commits/ and /api/merge_requests/. A project is addressed by its
path, encoded as one part of the address.
"""

from typing import Any
from urllib.parse import quote

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
    text_of,
)

MOST_FILES = 1_000
"""What an instance shows of a merge request unless its administrator chose otherwise."""


class GitLab:
    """One project of GitLab."""

    check_kind = "status"

    def __init__(self, api: Api, repository: str) -> None:
        self._api = api
        checked_repository(repository)
        self._root = f"/projects/{quote(repository, safe='')}"
        self._user_id: int | None = None

    def read_pull_request(self, number: int) -> PullRequest | None:
        """Look up a merge request; see `Forge`."""
        return _merge_request(self._api.json("GET", f"{self._root}/merge_requests/{number}", missing=(404,)))

    def find_pull_request(self, commit: str) -> PullRequest | None:
        """Find the open merge request of a commit; see `Forge`."""
        path = f"{self._root}/repository/commits/{checked_commit(commit)}/merge_requests"
        rows = self._api.json("GET", path, missing=(404,))
        found = [merge for row in read.rows(rows) if (merge := _merge_request(row)) is not None and merge.is_open]
        return next((merge for merge in found if merge.head == commit), found[0] if len(found) == 1 else None)

    def find_comment(self, number: int, marker: str) -> str | None:
        """Find our note; see `Forge`."""
        for page in self._api.pages(f"{self._root}/merge_requests/{number}/notes?sort=asc&order_by=created_at"):
            for note in page:
                if str(note.get("body", "")).startswith(marker) and self._is_ours(note):
                    return str(number_of(note.get("id")))
        return None

    def write_comment(self, number: int, body: str) -> str:
        """Write a note; see `Forge`."""
        made = self._api.json("POST", f"{self._root}/merge_requests/{number}/notes", json={"body": body})
        found = number_of(read.part(made, "id"))
        if found is None:
            raise FeedbackRefusedError("The forge did not say what id it gave to what we wrote.")
        return str(found)

    def edit_comment(self, number: int, comment_id: str, body: str) -> bool:
        """Edit a note; see `Forge`."""
        path = f"{self._root}/merge_requests/{number}/notes/{int(comment_id)}"
        found = self._api.json("GET", path, missing=(404,))
        if not isinstance(found, dict) or not self._is_ours(found):
            return False
        return self._api.call("PUT", path, json={"body": body}, missing=(404,)) is not None

    def write_check(self, commit: str, check: Check, former_id: str | None) -> str | None:
        """Write a status; see `Forge`. GitLab refuses one that says what the last one said, which is as well."""
        body = {
            "state": "failed" if check.verdict.conclusion == Conclusion.FAILURE else "success",
            "name": check.name,
            "description": describe(check.verdict, 250),
        }
        if check.url:
            body["target_url"] = check.url
        path = f"{self._root}/statuses/{checked_commit(commit)}"
        if check.pipeline_id is not None:
            in_pipeline = {**body, "pipeline_id": check.pipeline_id}
            # A pipeline that is gone, or that this commit does not belong to, is left out.
            if self._api.call("POST", path, json=in_pipeline, missing=(400, 404)) is not None:
                return None
        try:
            self._api.call("POST", path, json=body)
        except FeedbackRefusedError as error:
            if "Cannot transition status" not in str(error):
                raise
        return None

    def list_changed_files(self, number: int) -> ChangedFiles:
        """List the files of a merge request; see `Forge`."""
        paths: list[str] = []
        count = 0
        for page in self._api.pages(f"{self._root}/merge_requests/{number}/diffs"):
            count += len(page)
            for row in page:
                paths += [path for name in ("new_path", "old_path") if (path := read.text(row.get(name), 4096))]
        return ChangedFiles(paths=tuple(dict.fromkeys(paths)), is_complete=count < MOST_FILES)

    def read_file(self, path: str, ref: str, cap_bytes: int = 1_000_000) -> str | None:
        """Read a file; see `Forge`."""
        address = f"{self._root}/repository/files/{quote(path, safe='')}/raw?ref={quote(ref, safe='')}"
        return text_of(self._api.call("GET", address, missing=(404,)), cap_bytes)

    def _is_ours(self, note: dict[str, Any]) -> bool:
        if self._user_id is None:
            self._user_id = number_of(read.part(self._api.json("GET", "/user"), "id"))
        is_written = note.get("system") is not True
        return is_written and self._user_id is not None and read.part(note, "author", "id") == self._user_id


def _merge_request(found: object) -> PullRequest | None:
    number, head = number_of(read.part(found, "iid")), read.commit(read.part(found, "sha"))
    if number is None or head is None:
        return None
    return PullRequest(
        number=number,
        head=head,
        base=read.branch(read.part(found, "target_branch")) or "",
        is_open=read.part(found, "state") == "opened",
        is_foreign=read.part(found, "source_project_id") != read.part(found, "target_project_id"),
    )


def make_gitlab(api: Api, repository: str, *, app_id: str | None) -> Forge:
    """Make the forge of a project of GitLab."""
    return GitLab(api, repository)


FORGE = make_gitlab
