"""What the environment of a CI job says about it: repository, commit, branch, pull request, job, attempt, runner.

Pure functions from a mapping to upload parameters; git and the files of a job come in as callables. For a pull request
the commit is the head of its branch, never the merge commit that some CI systems build, and the branch is its source.

Sources: "Default environment variables" (GitHub Actions), "Predefined CI/CD variables reference" (GitLab),
"Environment variables" (Buildkite), "Built-in environment variables" (CircleCI), "Using environment variables" and the
Git and Branch API plugins (Jenkins), "Predefined variables" (Azure Pipelines).
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

Environment = Mapping[str, str]
Parameters = dict[str, str]
Git = Callable[..., str | None]
"""Runs git with these arguments and returns its one line of output, None when it fails."""

MAX_EVENT_BYTES: Final = 32 * 1024 * 1024

_LONGEST: Final = {
    "repository": 200,
    "branch": 255,
    "base_branch": 255,
    "default_branch": 255,
    "job": 200,
    "runner": 200,
    "image": 300,
    "dockerfile": 500,
    "run_url": 2000,
}
_COMMIT: Final = re.compile(r"[0-9a-fA-F]{7,64}")
# "Merge 3f9c… into 77ab…" is what GitHub and Azure write, "Merge commit '3f9c…' into HEAD" the Git plugin of Jenkins.
_CI_MERGE: Final = re.compile(r"Merge (?:commit ')?([0-9a-f]{40})'? into ")
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,8}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_REMOTE: Final = re.compile(
    r"(?:[a-z][a-z0-9+.-]{0,20}://[^/\s]{0,300}/|(?:[^/@\s]{1,200}@)?[^/:\s]{1,255}:(?!\\))(?P<path>\S{1,1000})"
)


def describe_run(environment: Environment, git: Git, read_file: Callable[[str], bytes], host: str) -> Parameters:
    """Return what is known of the run: from its CI, and from git where there is none."""
    for applies, read in PROVIDERS:
        if applies(environment):
            found = read(environment, read_file)
            if not _COMMIT.fullmatch(found.get("commit") or ""):
                found["commit"] = git_commit(found, git)
            break
    else:
        found = read_git(git)
    found.setdefault("runner", host)
    if not found.get("repository"):
        found["repository"] = repository_name(git("remote", "get-url", "origin") or "")
    return clean(found)


def clean(found: Mapping[str, str | None]) -> Parameters:
    """Keep what an upload takes: a value that is too long is cut, one of the wrong form left out."""
    kept: Parameters = {}
    for name, value in found.items():
        text = _CONTROL.sub("", value or "").strip()[: _LONGEST.get(name, 200)]
        if name == "commit" and not _COMMIT.fullmatch(text):
            continue
        if name in ("pull_request", "attempt") and not _NUMBER.fullmatch(text):
            continue
        if text:
            kept[name] = text
    return kept


def git_commit(found: Mapping[str, str | None], git: Git) -> str | None:
    """Return the commit that is checked out; of a pull request that CI merged into its target, the head."""
    if found.get("pull_request") and (merge := _CI_MERGE.match(git("log", "-1", "--format=%s") or "")):
        return merge[1]
    return git("rev-parse", "--verify", "--quiet", "HEAD")


def read_git(git: Git) -> dict[str, str | None]:
    """Describe a build that no CI runs."""
    default = git("symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD")
    return {
        "repository": repository_name(git("remote", "get-url", "origin") or git("rev-parse", "--show-toplevel") or ""),
        "commit": git("rev-parse", "--verify", "--quiet", "HEAD"),
        "branch": git("symbolic-ref", "--quiet", "--short", "HEAD"),
        "default_branch": default.removeprefix("origin/") if default else None,
    }


def repository_name(remote: str) -> str:
    """Return `owner/name` of a remote's address, without host and credentials; the folder's name of a local path."""
    remote = remote.strip().rstrip("/").removesuffix(".git")
    if match := _REMOTE.fullmatch(remote):
        return match["path"].strip("/")
    return remote.replace("\\", "/").rsplit("/", 1)[-1]


def branch_of(ref: str | None) -> str | None:
    """Return the branch of a full ref; None for a tag or the merge ref of a pull request."""
    if ref and ref.startswith("refs/") and not ref.startswith("refs/heads/"):
        return None
    return ref.removeprefix("refs/heads/") if ref else None


# -- providers ---------------------------------------------------------------------------------------------------------


def read_github(environment: Environment, read_file: Callable[[str], bytes]) -> dict[str, str | None]:
    """GitHub Actions, also Gitea and Forgejo, whose runners set the same variables."""
    get = environment.get
    event = read_event(get("GITHUB_EVENT_PATH"), read_file)
    pull_request = _part(event, "pull_request")
    is_pull_request = bool(pull_request) or get("GITHUB_EVENT_NAME", "").startswith("pull_request")
    repository = get("GITHUB_REPOSITORY")
    run = f"{get('GITHUB_SERVER_URL', 'https://github.com')}/{repository}/actions/runs/{get('GITHUB_RUN_ID')}"
    attempt = get("GITHUB_RUN_ATTEMPT")
    ref = re.fullmatch(r"refs/pull/([0-9]{1,9})/.*", get("GITHUB_REF", ""))
    number = pull_request.get("number")
    return {
        "ci": "gitea" if get("GITEA_ACTIONS") == "true" else "github-actions",
        "repository": repository,
        # Of a pull request GITHUB_SHA is a merge commit that nobody wrote: better none than that.
        "commit": _text(_part(pull_request, "head"), "sha") if is_pull_request else get("GITHUB_SHA"),
        "branch": get("GITHUB_HEAD_REF") or _text(_part(pull_request, "head"), "ref") or branch_of(get("GITHUB_REF")),
        "base_branch": get("GITHUB_BASE_REF") or _text(_part(pull_request, "base"), "ref"),
        "default_branch": _text(_part(event, "repository"), "default_branch"),
        "pull_request": str(number) if isinstance(number, int) else ref[1] if ref else None,
        "job": _joined(get("GITHUB_WORKFLOW"), get("GITHUB_JOB")),
        "attempt": attempt,
        "runner": get("RUNNER_NAME"),
        "run_url": f"{run}/attempts/{attempt}" if attempt and attempt != "1" else run if get("GITHUB_RUN_ID") else None,
    }


def read_gitlab(environment: Environment, _read_file: Callable[[str], bytes]) -> dict[str, str | None]:
    """GitLab CI: branch, tag, merge request, merged results and external pull request pipelines."""
    get = environment.get
    return {
        "ci": "gitlab",
        "repository": get("CI_PROJECT_PATH"),
        # Set in pipelines for merged results, where CI_COMMIT_SHA is the merge.
        "commit": get("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA")
        or get("CI_EXTERNAL_PULL_REQUEST_SOURCE_BRANCH_SHA")
        or get("CI_COMMIT_SHA"),
        "branch": get("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME")
        or get("CI_EXTERNAL_PULL_REQUEST_SOURCE_BRANCH_NAME")
        or get("CI_COMMIT_BRANCH"),
        "base_branch": get("CI_MERGE_REQUEST_TARGET_BRANCH_NAME") or get("CI_EXTERNAL_PULL_REQUEST_TARGET_BRANCH_NAME"),
        "default_branch": get("CI_DEFAULT_BRANCH"),
        "pull_request": get("CI_MERGE_REQUEST_IID") or get("CI_EXTERNAL_PULL_REQUEST_IID"),
        "job": get("CI_JOB_NAME"),
        "runner": get("CI_RUNNER_DESCRIPTION") or get("CI_RUNNER_ID"),
        "run_url": get("CI_JOB_URL"),
    }


def read_buildkite(environment: Environment, _read_file: Callable[[str], bytes]) -> dict[str, str | None]:
    """Buildkite: a fork's branch is `owner:branch`, no pull request is `false`, and retries count from 0."""
    get = environment.get
    is_pull_request = get("BUILDKITE_PULL_REQUEST", "false") != "false"
    retries = get("BUILDKITE_RETRY_COUNT", "")
    branch = get("BUILDKITE_BRANCH", "")
    url, job = get("BUILDKITE_BUILD_URL"), get("BUILDKITE_JOB_ID")
    return {
        "ci": "buildkite",
        "repository": repository_name(get("BUILDKITE_REPO", "")) or get("BUILDKITE_PIPELINE_SLUG"),
        "commit": get("BUILDKITE_COMMIT"),  # `HEAD` for a build that was started by hand: git knows
        "branch": None if branch == get("BUILDKITE_TAG") else branch.split(":", 1)[-1] if is_pull_request else branch,
        "base_branch": get("BUILDKITE_PULL_REQUEST_BASE_BRANCH"),
        "default_branch": get("BUILDKITE_PIPELINE_DEFAULT_BRANCH"),
        "pull_request": get("BUILDKITE_PULL_REQUEST") if is_pull_request else None,
        "job": _joined(get("BUILDKITE_PIPELINE_SLUG"), get("BUILDKITE_STEP_KEY") or get("BUILDKITE_LABEL")),
        "attempt": str(int(retries) + 1) if _NUMBER.fullmatch(retries) or retries == "0" else None,
        "runner": get("BUILDKITE_AGENT_NAME"),
        "run_url": f"{url}#{job}" if url and job else url,
    }


def read_circleci(environment: Environment, _read_file: Callable[[str], bytes]) -> dict[str, str | None]:
    """CircleCI: the branch of a fork's pull request is `pull/<number>`."""
    get = environment.get
    owner, name = get("CIRCLE_PROJECT_USERNAME"), get("CIRCLE_PROJECT_REPONAME")
    branch = get("CIRCLE_BRANCH", "")
    fork = re.fullmatch(r"pull/([0-9]{1,9})", branch)
    number = get("CIRCLE_PR_NUMBER") or get("CIRCLE_PULL_REQUEST", "").rsplit("/", 1)[-1]
    return {
        "ci": "circleci",
        "repository": repository_name(get("CIRCLE_REPOSITORY_URL", ""))
        or (f"{owner}/{name}" if owner and name else name),
        "commit": get("CIRCLE_SHA1"),
        "branch": branch,
        "pull_request": number or (fork[1] if fork else None),
        "job": get("CIRCLE_JOB"),
        "run_url": get("CIRCLE_BUILD_URL"),
    }


def read_azure(environment: Environment, _read_file: Callable[[str], bytes]) -> dict[str, str | None]:
    """Azure Pipelines: BUILD_SOURCEVERSION of a pull request is the merge, its number depends on who hosts the code."""
    get = environment.get
    name, project = get("BUILD_REPOSITORY_NAME", ""), get("SYSTEM_TEAMPROJECT", "")
    server = get("SYSTEM_COLLECTIONURI") or get("SYSTEM_TEAMFOUNDATIONCOLLECTIONURI")
    build = get("BUILD_BUILDID")
    is_pull_request = get("BUILD_REASON") == "PullRequest"
    return {
        "ci": "azure",
        "repository": f"{project}/{name}"
        if get("BUILD_REPOSITORY_PROVIDER") == "TfsGit" and name and project
        else name,
        "commit": get("SYSTEM_PULLREQUEST_SOURCECOMMITID") if is_pull_request else get("BUILD_SOURCEVERSION"),
        "branch": branch_of(get("SYSTEM_PULLREQUEST_SOURCEBRANCH") if is_pull_request else get("BUILD_SOURCEBRANCH")),
        "base_branch": branch_of(get("SYSTEM_PULLREQUEST_TARGETBRANCH")),
        "pull_request": get("SYSTEM_PULLREQUEST_PULLREQUESTNUMBER") or get("SYSTEM_PULLREQUEST_PULLREQUESTID"),
        "job": _joined(get("BUILD_DEFINITIONNAME"), get("SYSTEM_JOBDISPLAYNAME") or get("AGENT_JOBNAME")),
        "attempt": get("SYSTEM_JOBATTEMPT"),
        "runner": get("AGENT_NAME"),
        "run_url": f"{server.rstrip('/')}/{project}/_build/results?buildId={build}" if server and build else None,
    }


def read_jenkins(environment: Environment, _read_file: Callable[[str], bytes]) -> dict[str, str | None]:
    """Jenkins: CHANGE_* come from multibranch jobs, GIT_* from the Git plugin where the job exports them."""
    get = environment.get
    change = get("CHANGE_ID")
    branch = get("CHANGE_BRANCH") if change else get("BRANCH_NAME") or get("GIT_LOCAL_BRANCH") or get("GIT_BRANCH", "")
    return {
        "ci": "jenkins",
        "repository": repository_name(get("GIT_URL") or get("GIT_URL_1") or ""),
        # Of a change that Jenkins merged into its target, GIT_COMMIT may be the merge: git tells the two apart.
        "commit": None if change else get("GIT_COMMIT"),
        "branch": None if get("TAG_NAME") else branch_of((branch or "").removeprefix("origin/")),
        "base_branch": get("CHANGE_TARGET"),
        "pull_request": change,
        "job": get("JOB_NAME"),
        "runner": get("NODE_NAME"),
        "run_url": get("BUILD_URL"),
    }


PROVIDERS: Final[tuple[tuple[Callable[[Environment], bool], Callable[..., dict[str, str | None]]], ...]] = (
    (lambda environment: environment.get("GITHUB_ACTIONS") == "true", read_github),
    (lambda environment: environment.get("GITLAB_CI") == "true", read_gitlab),
    (lambda environment: environment.get("BUILDKITE") == "true", read_buildkite),
    (lambda environment: environment.get("CIRCLECI") == "true", read_circleci),
    (lambda environment: environment.get("TF_BUILD", "").lower() == "true", read_azure),
    (lambda environment: "JENKINS_URL" in environment or "JENKINS_HOME" in environment, read_jenkins),
)


# -- parts of an event -------------------------------------------------------------------------------------------------


def read_event(path: str | None, read_file: Callable[[str], bytes]) -> dict[str, Any]:
    """Read the event that started a job; an event that cannot be read is an empty one."""
    if not path:
        return {}
    try:
        event = orjson.loads(read_file(path))
    except (OSError, ValueError):
        return {}
    return event if isinstance(event, dict) else {}


def _part(event: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = event.get(name)
    return part if isinstance(part, dict) else {}


def _text(event: Mapping[str, Any], name: str) -> str | None:
    value = event.get(name)
    return value if isinstance(value, str) else None


def _joined(*parts: str | None) -> str:
    return " / ".join(part for part in parts if part)
