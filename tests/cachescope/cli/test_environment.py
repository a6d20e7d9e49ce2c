"""What CI environments say about a run; the variables are those of the providers' documentation."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cachescope.cli.environment import branch_of, clean, describe_run, repository_name
from cachescope.cli.here import run_git

HEAD, MERGE, OTHER = "a" * 40, "b" * 40, "c" * 40


def no_git(*_arguments: str) -> str | None:
    return None


def read_file(path: str) -> bytes:
    return Path(path).read_bytes()


def describe(environment: Mapping[str, str], git: Callable[..., str | None] = no_git) -> dict[str, str]:
    return describe_run(environment, git, read_file, "host-1")


GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_REPOSITORY": "acme/api",
    "GITHUB_SHA": HEAD,
    "GITHUB_REF": "refs/heads/main",
    "GITHUB_EVENT_NAME": "push",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_RUN_ID": "77",
    "GITHUB_RUN_ATTEMPT": "1",
    "GITHUB_WORKFLOW": "ci",
    "GITHUB_JOB": "image",
    "RUNNER_NAME": "ubuntu-7",
}


def test_github_push() -> None:
    assert describe(GITHUB) == {
        "ci": "github-actions",
        "repository": "acme/api",
        "commit": HEAD,
        "branch": "main",
        "job": "ci / image",
        "attempt": "1",
        "runner": "ubuntu-7",
        "run_url": "https://github.com/acme/api/actions/runs/77",
    }


@pytest.fixture
def pull_request(tmp_path: Path) -> dict[str, str]:
    """A pull request from a fork whose branch has the name of the target's."""
    event = tmp_path / "event.json"
    document = {
        "number": 12,
        "pull_request": {
            "number": 12,
            "head": {"sha": HEAD, "ref": "main", "repo": {"full_name": "visitor/api", "fork": True}},
            "base": {"sha": OTHER, "ref": "main", "repo": {"full_name": "acme/api"}},
        },
        "repository": {"full_name": "acme/api", "default_branch": "main"},
    }
    event.write_text(json.dumps(document))
    return GITHUB | {
        "GITHUB_EVENT_NAME": "pull_request",
        "GITHUB_EVENT_PATH": str(event),
        "GITHUB_SHA": MERGE,
        "GITHUB_REF": "refs/pull/12/merge",
        "GITHUB_HEAD_REF": "main",
        "GITHUB_BASE_REF": "main",
        "GITHUB_RUN_ATTEMPT": "3",
    }


def test_github_pull_request_names_the_head_and_not_the_merge(pull_request: dict[str, str]) -> None:
    found = describe(pull_request)
    assert found["commit"] == HEAD
    assert found["branch"] == "main"
    assert found["base_branch"] == "main"
    assert found["default_branch"] == "main"
    assert found["pull_request"] == "12"
    assert found["repository"] == "acme/api"
    assert found["run_url"].endswith("/actions/runs/77/attempts/3")


@pytest.mark.parametrize("event", ["", "not json", "[]", '{"pull_request": 1}'])
def test_github_without_its_event_asks_git_for_the_head(pull_request: dict[str, str], event: str) -> None:
    Path(pull_request["GITHUB_EVENT_PATH"]).write_text(event)
    found = describe(pull_request, lambda *words: f"Merge {HEAD} into {OTHER}" if words[0] == "log" else MERGE)
    assert found["commit"] == HEAD
    assert found["pull_request"] == "12"
    Path(pull_request["GITHUB_EVENT_PATH"]).unlink()
    assert "commit" not in describe(pull_request)


def test_github_tag_has_no_branch() -> None:
    assert "branch" not in describe(GITHUB | {"GITHUB_REF": "refs/tags/v1"})


def test_gitea_is_told_apart() -> None:
    assert describe(GITHUB | {"GITEA_ACTIONS": "true"})["ci"] == "gitea"


GITLAB = {
    "GITLAB_CI": "true",
    "CI_PROJECT_PATH": "group/sub/api",
    "CI_COMMIT_SHA": HEAD,
    "CI_COMMIT_BRANCH": "main",
    "CI_DEFAULT_BRANCH": "main",
    "CI_JOB_NAME": "build-image",
    "CI_JOB_URL": "https://gitlab.example.com/group/sub/api/-/jobs/9",
    "CI_RUNNER_DESCRIPTION": "blue-2",
}


def test_gitlab_branch() -> None:
    assert describe(GITLAB) == {
        "ci": "gitlab",
        "repository": "group/sub/api",
        "commit": HEAD,
        "branch": "main",
        "default_branch": "main",
        "job": "build-image",
        "runner": "blue-2",
        "run_url": "https://gitlab.example.com/group/sub/api/-/jobs/9",
    }


def test_gitlab_merged_results_names_the_head() -> None:
    merge_request = {
        "CI_COMMIT_SHA": MERGE,
        "CI_COMMIT_BRANCH": "",
        "CI_MERGE_REQUEST_IID": "5",
        "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "feature/x",
        "CI_MERGE_REQUEST_SOURCE_BRANCH_SHA": HEAD,
        "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
    }
    found = describe(GITLAB | merge_request)
    assert (found["commit"], found["branch"], found["pull_request"]) == (HEAD, "feature/x", "5")
    assert found["base_branch"] == "main"


BUILDKITE = {
    "BUILDKITE": "true",
    "BUILDKITE_REPO": "git@github.com:acme/api.git",
    "BUILDKITE_COMMIT": HEAD,
    "BUILDKITE_BRANCH": "main",
    "BUILDKITE_PULL_REQUEST": "false",
    "BUILDKITE_PIPELINE_SLUG": "api",
    "BUILDKITE_PIPELINE_DEFAULT_BRANCH": "main",
    "BUILDKITE_LABEL": ":docker: image",
    "BUILDKITE_RETRY_COUNT": "0",
    "BUILDKITE_AGENT_NAME": "agent-4",
    "BUILDKITE_BUILD_URL": "https://buildkite.com/acme/api/builds/5",
    "BUILDKITE_JOB_ID": "018f",
}


def test_buildkite_branch() -> None:
    assert describe(BUILDKITE) == {
        "ci": "buildkite",
        "repository": "acme/api",
        "commit": HEAD,
        "branch": "main",
        "default_branch": "main",
        "job": "api / :docker: image",
        "attempt": "1",
        "runner": "agent-4",
        "run_url": "https://buildkite.com/acme/api/builds/5#018f",
    }


def test_buildkite_fork_retry_and_head() -> None:
    fork = {"BUILDKITE_BRANCH": "visitor:patch-1", "BUILDKITE_PULL_REQUEST": "8", "BUILDKITE_RETRY_COUNT": "2"}
    found = describe(
        BUILDKITE | fork | {"BUILDKITE_COMMIT": "HEAD"}, lambda *words: HEAD if words[0] == "rev-parse" else None
    )
    assert (found["branch"], found["pull_request"], found["attempt"]) == ("patch-1", "8", "3")
    assert found["commit"] == HEAD


def test_buildkite_tag_has_no_branch() -> None:
    assert "branch" not in describe(BUILDKITE | {"BUILDKITE_TAG": "v1", "BUILDKITE_BRANCH": "v1"})


CIRCLECI = {
    "CIRCLECI": "true",
    "CIRCLE_PROJECT_USERNAME": "acme",
    "CIRCLE_PROJECT_REPONAME": "api",
    "CIRCLE_SHA1": HEAD,
    "CIRCLE_BRANCH": "main",
    "CIRCLE_JOB": "image",
    "CIRCLE_BUILD_URL": "https://circleci.com/gh/acme/api/12",
}


def test_circleci_branch_and_pull_requests() -> None:
    found = describe(CIRCLECI)
    assert found == {
        "ci": "circleci",
        "repository": "acme/api",
        "commit": HEAD,
        "branch": "main",
        "job": "image",
        "runner": "host-1",
        "run_url": "https://circleci.com/gh/acme/api/12",
    }
    assert describe(CIRCLECI | {"CIRCLE_PULL_REQUEST": "https://github.com/acme/api/pull/31"})["pull_request"] == "31"
    assert describe(CIRCLECI | {"CIRCLE_BRANCH": "pull/31"})["pull_request"] == "31"


AZURE = {
    "TF_BUILD": "True",
    "BUILD_REPOSITORY_NAME": "acme/api",
    "BUILD_REPOSITORY_PROVIDER": "GitHub",
    "BUILD_SOURCEVERSION": HEAD,
    "BUILD_SOURCEBRANCH": "refs/heads/main",
    "BUILD_REASON": "IndividualCI",
    "BUILD_DEFINITIONNAME": "api-ci",
    "BUILD_BUILDID": "42",
    "SYSTEM_COLLECTIONURI": "https://dev.azure.com/acme/",
    "SYSTEM_TEAMPROJECT": "shop",
    "SYSTEM_JOBDISPLAYNAME": "Image",
    "SYSTEM_JOBATTEMPT": "2",
    "AGENT_NAME": "Azure Pipelines 3",
}


def test_azure_branch() -> None:
    assert describe(AZURE) == {
        "ci": "azure",
        "repository": "acme/api",
        "commit": HEAD,
        "branch": "main",
        "job": "api-ci / Image",
        "attempt": "2",
        "runner": "Azure Pipelines 3",
        "run_url": "https://dev.azure.com/acme/shop/_build/results?buildId=42",
    }


def test_azure_pull_request_names_the_head() -> None:
    pull_request = {
        "BUILD_REASON": "PullRequest",
        "BUILD_REPOSITORY_PROVIDER": "TfsGit",
        "BUILD_REPOSITORY_NAME": "api",
        "BUILD_SOURCEVERSION": MERGE,
        "BUILD_SOURCEBRANCH": "refs/pull/6/merge",
        "SYSTEM_PULLREQUEST_SOURCECOMMITID": HEAD,
        "SYSTEM_PULLREQUEST_SOURCEBRANCH": "refs/heads/feature/x",
        "SYSTEM_PULLREQUEST_TARGETBRANCH": "refs/heads/main",
        "SYSTEM_PULLREQUEST_PULLREQUESTID": "6",
    }
    found = describe(AZURE | pull_request)
    assert (found["repository"], found["commit"], found["branch"]) == ("shop/api", HEAD, "feature/x")
    assert (found["base_branch"], found["pull_request"]) == ("main", "6")


JENKINS = {
    "JENKINS_URL": "https://ci.example.com/",
    "GIT_URL": "https://robot:pw@git.example.com/acme/api.git",
    "GIT_COMMIT": HEAD,
    "GIT_BRANCH": "origin/main",
    "JOB_NAME": "api/main",
    "NODE_NAME": "built-in",
    "BUILD_URL": "https://ci.example.com/job/api/7/",
}


def test_jenkins_branch() -> None:
    assert describe(JENKINS) == {
        "ci": "jenkins",
        "repository": "acme/api",
        "commit": HEAD,
        "branch": "main",
        "job": "api/main",
        "runner": "built-in",
        "run_url": "https://ci.example.com/job/api/7/",
    }


def test_jenkins_change_asks_git_for_the_head() -> None:
    change = {
        "CHANGE_ID": "4",
        "CHANGE_BRANCH": "feature/x",
        "CHANGE_TARGET": "main",
        "BRANCH_NAME": "PR-4",
        "GIT_COMMIT": MERGE,
    }
    found = describe(
        JENKINS | change, lambda *words: f"Merge commit '{HEAD}' into HEAD" if words[0] == "log" else MERGE
    )
    assert (found["commit"], found["branch"], found["pull_request"]) == (HEAD, "feature/x", "4")


def test_git_alone(repository: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path / "code")
    found = describe({}, run_git)
    assert found == {
        "repository": "acme/api",
        "commit": repository("rev-parse", "HEAD"),
        "branch": "feature/x",
        "runner": "host-1",
    }
    repository("update-ref", "refs/remotes/origin/main", "HEAD")
    repository("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
    assert describe({}, run_git)["default_branch"] == "main"


def test_git_of_a_folder_without_a_remote_names_the_folder(
    repository: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path / "code")
    repository("remote", "remove", "origin")
    repository("checkout", "-q", "--detach")
    found = describe({}, run_git)
    assert found["repository"] == "code"
    assert "branch" not in found


def test_no_ci_and_no_git_leave_the_machine() -> None:
    assert describe({}) == {"runner": "host-1"}


@pytest.mark.parametrize(
    ("remote", "name"),
    [
        ("https://github.com/acme/api.git", "acme/api"),
        ("https://token:x@github.com/acme/api/", "acme/api"),
        ("git@github.com:acme/api.git", "acme/api"),
        ("ssh://git@gitlab.example.com:2222/group/sub/api.git", "group/sub/api"),
        ("/srv/git/api.git", "api"),
        ("C:\\work\\api", "api"),
        ("", ""),
    ],
)
def test_a_repository_is_named_without_host_and_credentials(remote: str, name: str) -> None:
    assert repository_name(remote) == name


def test_a_ref_that_is_no_branch_has_none() -> None:
    assert branch_of("refs/heads/a/b") == "a/b"
    assert branch_of("main") == "main"
    assert branch_of("refs/merge-requests/1/head") is None
    assert branch_of(None) is None


def test_what_a_server_would_refuse_is_left_out_or_cut() -> None:
    found = clean(
        {"commit": "HEAD", "attempt": "0", "pull_request": "x", "job": "a\x00b" * 300, "branch": None, "ci": " a "}
    )
    assert found["job"] == ("ab" * 300)[:200]
    assert found["ci"] == "a"
    assert set(found) == {"job", "ci"}
