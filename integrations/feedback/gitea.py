"""Gitea: comments and commit statuses, as GitHub has them but for a few addresses.

Defined at https://docs.gitea.com/api/. There are no check runs, and the pull request of a commit is one, not a list.
"""

from integrations.feedback.base import Api, Forge, PullRequest, checked_commit, quoted_path, text_of
from integrations.feedback.github import GitHub, pull_request_of


class Gitea(GitHub):
    """One repository of Gitea or Forgejo."""

    headers = {"accept": "application/json"}  # noqa: RUF012 - never written to
    page_size = "limit"

    def __init__(self, api: Api, repository: str, *, app_id: str | None = None) -> None:
        super().__init__(api, repository, app_id=None)

    def find_pull_request(self, commit: str) -> PullRequest | None:
        """Find the open pull request of a commit; see `Forge`. Gitea 1.21 and newer tell."""
        path = f"{self._root}/commits/{checked_commit(commit)}/pull"
        found = pull_request_of(self._api.json("GET", path, missing=(404, 405), headers=self.headers))
        return found if found is not None and found.is_open else None

    def read_file(self, path: str, ref: str, cap_bytes: int = 1_000_000) -> str | None:
        """Read a file; see `Forge`."""
        address = f"{self._root}/raw/{quoted_path(path)}?ref={quoted_path(ref)}"
        return text_of(self._api.call("GET", address, missing=(404,)), cap_bytes)


def make_gitea(api: Api, repository: str, *, app_id: str | None) -> Forge:
    """Make the forge of a repository of Gitea."""
    return Gitea(api, repository, app_id=app_id)


FORGE = make_gitea
