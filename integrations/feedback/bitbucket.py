"""Bitbucket Cloud: comments on pull requests, and build statuses of commits.

Defined at https://developer.atlassian.com/cloud/bitbucket/rest/. Its Markdown shows HTML as text, so the hidden line is
a reference that nothing refers to. Pull requests name twelve digits of a commit. Access tokens of a repository have no
user that could be asked for; what they wrote, nobody else can edit.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

from cachescope.feedback import Conclusion, describe
from integrations.ci import _bodies as read
from integrations.feedback.base import (
    MOST_PAGES,
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

_PAGE = 50
"""The most that every list of Bitbucket gives."""
_FILES = 500
"""The most files that one page of a comparison names; no other is asked for."""
_KEY = 40
"""How long the key of a status may be."""
_HASH = 40


class Bitbucket:
    """One repository of Bitbucket Cloud."""

    check_kind = "status"

    def __init__(self, api: Api, repository: str) -> None:
        self._api = api
        self._name = repository
        self._root = f"/2.0/repositories/{checked_repository(repository)}"
        self._user: str | None = None
        self._is_user_known = False

    def read_pull_request(self, number: int) -> PullRequest | None:
        """Look up a pull request; see `Forge`."""
        found = self._api.json("GET", f"{self._root}/pullrequests/{number}", missing=(404,))
        head = _head(found)
        if head is not None and len(head) < _HASH:
            whole = self._api.json("GET", f"{self._root}/commit/{head}", missing=(404,))
            head = read.commit(read.part(whole, "hash")) or head  # that of a fork is not here
        return _pull_request(found, head)

    def find_pull_request(self, commit: str) -> PullRequest | None:
        """Find the open pull request whose last commit this is; see `Forge`.

        That of any of its commits is told to those alone who have installed an application for it.
        """
        checked_commit(commit)
        for page in self._pages(f"{self._root}/pullrequests?state=OPEN"):
            for row in page:
                head = _head(row)
                if head is not None and commit.startswith(head):
                    return _pull_request(row, commit)
        return None

    def find_comment(self, number: int, marker: str) -> str | None:
        """Find our comment; see `Forge`."""
        hidden, user = _hidden(marker), self._our_user()
        if user is None:
            return None
        for page in self._pages(f"{self._root}/pullrequests/{number}/comments"):
            for comment in page:
                is_marked = str(read.part(comment, "content", "raw")).startswith(hidden)
                if is_marked and comment.get("deleted") is not True and _author(comment) == user:
                    return str(number_of(comment.get("id")))
        return None

    def write_comment(self, number: int, body: str) -> str:
        """Write a comment; see `Forge`."""
        path = f"{self._root}/pullrequests/{number}/comments"
        found = number_of(read.part(self._api.json("POST", path, json=_content(body)), "id"))
        if found is None:
            raise FeedbackRefusedError("The forge did not say what id it gave to what we wrote.")
        return str(found)

    def edit_comment(self, number: int, comment_id: str, body: str) -> bool:
        """Edit a comment; see `Forge`."""
        path = f"{self._root}/pullrequests/{number}/comments/{int(comment_id)}"
        found = self._api.json("GET", path, missing=(404, 410))
        if not isinstance(found, dict) or found.get("deleted") is True:
            return False
        if (user := self._our_user()) is not None and _author(found) != user:
            return False
        # Bitbucket lets nobody but its author edit a comment.
        gone = (404, 410) if user is not None else (403, 404, 410)
        return self._api.call("PUT", path, json=_content(body), missing=gone) is not None

    def write_check(self, commit: str, check: Check, former_id: str | None) -> str | None:
        """Write a status; see `Forge`. One with the same key is overwritten, and each must have an address."""
        sha = checked_commit(commit)
        body = {
            "key": "cachescope-" + hashlib.sha256(check.name.encode()).hexdigest()[: _KEY - len("cachescope-")],
            "name": check.name,
            "state": "FAILED" if check.verdict.conclusion == Conclusion.FAILURE else "SUCCESSFUL",
            "description": describe(check.verdict),
            "url": check.url or f"https://bitbucket.org/{self._name}/commits/{sha}",
        }
        self._api.call("POST", f"{self._root}/commit/{sha}/statuses/build", json=body)
        return None

    def list_changed_files(self, number: int) -> ChangedFiles:
        """List the files of a pull request; see `Forge`. It is answered with a redirect to their comparison."""
        told = self._api.json("GET", f"{self._root}/pullrequests/{number}/diffstat?pagelen={_FILES}")
        paths = [
            path
            for row in _values(told)
            for side in ("new", "old")
            if (path := read.text(read.part(row, side, "path"), 4096))
        ]
        return ChangedFiles(paths=tuple(dict.fromkeys(paths)), is_complete=not read.part(told, "next"))

    def read_file(self, path: str, ref: str, cap_bytes: int = 1_000_000) -> str | None:
        """Read a file; see `Forge`."""
        address = f"{self._root}/src/{quoted_path(ref).replace('/', '%2F')}/{quoted_path(path)}"
        return text_of(self._api.call("GET", address, missing=(404,)), cap_bytes)

    def _pages(self, path: str) -> Iterator[list[dict[str, Any]]]:
        """Yield the rows of a list page by page; the address of the next one is not believed, but counted."""
        mark = "&" if "?" in path else "?"
        for number in range(1, MOST_PAGES + 1):
            told = self._api.json("GET", f"{path}{mark}pagelen={_PAGE}&page={number}")
            rows = _values(told)
            yield rows
            if not rows or not read.part(told, "next"):
                return

    def _our_user(self) -> str | None:
        """Who we are; None where the token belongs to a repository, project or workspace and to no user."""
        if not self._is_user_known:
            told = self._api.json("GET", "/2.0/user", missing=(401, 403, 404))
            self._user, self._is_user_known = read.text(read.part(told, "uuid"), 100), True
        return self._user


def _values(told: object) -> list[dict[str, Any]]:
    rows = read.part(told, "values")
    if not isinstance(rows, list):
        raise FeedbackRefusedError("The forge answered no list.")
    return [row for row in rows if isinstance(row, dict)]


def _head(found: object) -> str | None:
    return read.commit(read.part(found, "source", "commit", "hash"))


def _author(comment: dict[str, Any]) -> object:
    return read.part(comment, "user", "uuid")


def _pull_request(found: object, head: str | None) -> PullRequest | None:
    number = number_of(read.part(found, "id"))
    if number is None or head is None:
        return None
    ours, theirs = (read.part(found, side, "repository", "full_name") for side in ("destination", "source"))
    return PullRequest(
        number=number,
        head=head,
        base=read.branch(read.part(found, "destination", "branch", "name")) or "",
        is_open=read.part(found, "state") == "OPEN",
        # Where the fork was deleted there is no repository at all.
        is_foreign=theirs is None or theirs != ours,
    )


def _hidden(marker: str) -> str:
    """Return the line by which a comment is found again as Bitbucket hides it."""
    return f"[//]: # ({marker.removeprefix('<!--').removesuffix('-->').strip()})"


def _content(body: str) -> dict[str, object]:
    """Return a comment without the two pieces of HTML that ours begin and end with."""
    first, *lines = body.split("\n")
    plain = [
        line.removeprefix("<sub>").removesuffix("</sub>")
        if line.startswith("<sub>") and line.endswith("</sub>")
        else line
        for line in lines
    ]
    return {"content": {"raw": "\n".join([_hidden(first), *plain])}}


def make_bitbucket(api: Api, repository: str, *, app_id: str | None) -> Forge:
    """Make the forge of a repository of Bitbucket."""
    return Bitbucket(api, repository)


FORGE = make_bitbucket
