"""Which events of forges call for a forecast."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.feedback._events import PullRequestEvent, names_pull_request, read_pull_request_event

BODIES = Path(__file__).parent / "ci"


def read(provider: str, event: Any) -> PullRequestEvent | None:
    return read_pull_request_event(provider, json.dumps(event).encode())


def pull(action: str = "opened", **values: Any) -> dict[str, Any]:
    return {
        "action": action,
        "number": 12,
        "pull_request": {"number": 12},
        "repository": {"full_name": "acme/api"},
    } | values


def merge(action: str = "open", **values: Any) -> dict[str, Any]:
    return {
        "object_kind": "merge_request",
        "project": {"path_with_namespace": "acme/group/api"},
        "object_attributes": {"iid": 12, "action": action} | values,
    }


@pytest.mark.parametrize("provider", ["github", "gitea", "forgejo"])
@pytest.mark.parametrize("action", ["opened", "reopened", "synchronize", "synchronized", "ready_for_review"])
def test_a_pull_request_with_new_commits_calls_for_one(provider: str, action: str) -> None:
    assert read(provider, pull(action)) == PullRequestEvent("acme/api", 12)


@pytest.mark.parametrize("action", ["closed", "labeled", "edited", "", None, 7, ["opened"]])
def test_other_actions_do_not(action: Any) -> None:
    assert read("github", pull(action)) is None


@pytest.mark.parametrize("event", [merge(), merge("reopen"), merge("update", oldrev="1" * 40)])
def test_a_merge_request_with_new_commits_calls_for_one(event: dict[str, Any]) -> None:
    assert read("gitlab", event) == PullRequestEvent("acme/group/api", 12)


@pytest.mark.parametrize("event", [merge("update"), merge("merge"), merge() | {"object_kind": "note"}])
def test_other_events_of_gitlab_do_not(event: dict[str, Any]) -> None:
    assert read("gitlab", event) is None


def test_an_active_pull_request_of_azure_calls_for_one() -> None:
    told = {"status": "active", "pullRequestId": 12, "repository": {"name": "api", "project": {"name": "acme"}}}
    event = {"eventType": "git.pullrequest.created", "resource": told}
    assert read("azure", event) == PullRequestEvent("acme/api", 12)
    assert names_pull_request(json.dumps(event).encode())
    assert read("azure", event | {"eventType": "git.pullrequest.updated"}) == PullRequestEvent("acme/api", 12)
    assert read("azure", event | {"eventType": "git.pullrequest.merged"}) is None
    assert read("azure", event | {"resource": {**told, "status": "completed"}}) is None
    assert read("azure", event | {"resource": {**told, "repository": {"name": "api"}}}) is None


def test_a_pull_request_of_bitbucket_calls_for_one_while_it_is_open_and_nobody_merely_speaks_of_it() -> None:
    event = {"pullrequest": {"id": 12, "state": "OPEN"}, "repository": {"full_name": "acme/api"}}
    assert read("bitbucket", event) == PullRequestEvent("acme/api", 12)
    assert names_pull_request(json.dumps(event).encode())
    for more in ("approval", "changes_request", "comment"):
        assert read("bitbucket", event | {more: {}}) is None
    assert read("bitbucket", event | {"pullrequest": {"id": 12, "state": "MERGED"}}) is None
    assert read("bitbucket", event | {"pullrequest": None}) is None


@pytest.mark.parametrize(
    "event",
    [pull(number="x", pull_request={}), pull(number=-1), pull(repository={}), pull(pull_request=None), merge(), [], 1],
)
def test_a_body_of_another_form_does_not(event: Any) -> None:
    assert read("github", event) is None


def test_other_providers_send_none() -> None:
    assert read("jenkins", pull()) is None


@given(st.sampled_from(["github", "gitlab"]), st.binary(max_size=200))
def test_no_body_raises(provider: str, body: bytes) -> None:
    assert read_pull_request_event(provider, body) is None


@pytest.mark.parametrize("provider", ["github", "gitea", "forgejo"])
def test_the_vendors_own_bodies_are_read(provider: str) -> None:
    bodies = [path for path in (BODIES / provider).glob("pull_request_*.json") if ".expected" not in path.name]
    assert bodies
    for path in bodies:
        kept = json.loads(path.read_text())
        found = read(provider, kept.get("body", kept))
        assert found is not None, path.name
        assert found.number > 0
