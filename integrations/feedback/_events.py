"""Events of pull and merge requests that somebody opened or pushed to: the time for a forecast.

The body names the pull request only; what it changes is asked of the forge. Read after the signature was checked.
"""

from dataclasses import dataclass
from typing import Any

from cachescope.errors import UnreadableInputError
from integrations.ci import _bodies as read
from integrations.ci.base import HookRequest

_PUSHED = frozenset({"opened", "reopened", "synchronize", "synchronized", "ready_for_review"})
"""The words of GitHub, of Gitea and of Forgejo."""
_SIGNS = (b'"pull_request"', b'"merge_request"', b'"pullrequest"', b'"git.pullrequest.')
_BITBUCKET_MORE = frozenset({"approval", "changes_request", "comment"})


@dataclass(frozen=True, slots=True)
class PullRequestEvent:
    """A pull request with a new last commit."""

    repository: str
    number: int


def names_pull_request(body: bytes) -> bool:
    """Whether a body may be such an event; as cheap as a question to every webhook must be."""
    return any(sign in body for sign in _SIGNS)


def read_pull_request_event(provider: str, body: bytes) -> PullRequestEvent | None:
    """Read an event; None for every other one, and for a body that nobody can read."""
    try:
        event = read.load_event(HookRequest(headers={}, body=body))
    except UnreadableInputError:
        return None
    if provider in {"github", "gitea", "forgejo"}:
        return _read_pull_request(event)
    if provider == "bitbucket":
        return _read_bitbucket(event)
    if provider == "azure":
        return _read_azure(event)
    return _read_merge_request(event) if provider == "gitlab" else None


def _read_pull_request(event: dict[str, Any]) -> PullRequestEvent | None:
    action, pull = event.get("action"), event.get("pull_request")
    if not isinstance(action, str) or action not in _PUSHED or not isinstance(pull, dict):
        return None
    return _event(read.part(event, "repository", "full_name"), event.get("number") or pull.get("number"))


def _read_merge_request(event: dict[str, Any]) -> PullRequestEvent | None:
    told = event.get("object_attributes")
    if event.get("object_kind") != "merge_request":
        return None
    action = read.part(told, "action")
    # An update tells of new commits only where it names the one before.
    if action not in {"open", "reopen"} and not (action == "update" and read.part(told, "oldrev")):
        return None
    return _event(read.part(event, "project", "path_with_namespace"), read.part(told, "iid"))


def _read_bitbucket(event: dict[str, Any]) -> PullRequestEvent | None:
    """Read `pullrequest:created` and `:updated`, which look alike; what else is told of one has a part of its own."""
    pull = event.get("pullrequest")
    if read.part(pull, "state") != "OPEN" or _BITBUCKET_MORE & event.keys():
        return None
    return _event(read.part(event, "repository", "full_name"), read.part(pull, "id"))


def _read_azure(event: dict[str, Any]) -> PullRequestEvent | None:
    told, kind = event.get("resource"), event.get("eventType")
    if kind not in {"git.pullrequest.created", "git.pullrequest.updated"} or read.part(told, "status") != "active":
        return None
    project, name = (read.part(told, "repository", *path) for path in (("project", "name"), ("name",)))
    return _event(f"{project}/{name}" if project and name else None, read.part(told, "pullRequestId"))


def _event(repository: object, number: object) -> PullRequestEvent | None:
    name, found = read.repository(repository), read.number(number)
    return None if name is None or found is None else PullRequestEvent(name, found)
