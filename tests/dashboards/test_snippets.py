"""The lines to paste: each is run in a shell, with the environment that its CI sets, and sends a log."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dashboards.snippets import choices, shown_url
from service.actions.tokens import TokenForm, issue_token
from store.database import reading, transaction
from store.models import Team
from store.queries import deliveries
from tests import servers
from tests.dashboards.conftest import Site

COMMIT = "3f9c2ab" + "0" * 33
ENVIRONMENTS = {
    "terminal": {},
    "github": {
        "GITHUB_REPOSITORY": "acme/api",
        "GITHUB_SHA": COMMIT,
        "GITHUB_REF_NAME": "main",
        "GITHUB_JOB": "build",
        "GITHUB_RUN_ATTEMPT": "2",
        "RUNNER_NAME": "GitHub Actions 12",
        "GITHUB_SERVER_URL": "https://forge.example",
        "GITHUB_RUN_ID": "77",
    },
    "gitlab": {
        "CI_PROJECT_PATH": "acme/api",
        "CI_COMMIT_SHA": COMMIT,
        "CI_COMMIT_REF_NAME": "main",
        "CI_JOB_NAME_SLUG": "build-api",
        "CI_RUNNER_ID": "12",
        "CI_JOB_URL": "https://forge.example/acme/api/-/jobs/7",
    },
    "jenkins": {
        "JOB_NAME": "api/main",
        "GIT_COMMIT": COMMIT,
        "GIT_BRANCH": "origin/main",
        "BUILD_NUMBER": "7",
        "NODE_NAME": "Built-In Node",
        "BUILD_URL": "https://forge.example/job/api/7/",
    },
    "buildkite": {
        "BUILDKITE_PIPELINE_SLUG": "api",
        "BUILDKITE_COMMIT": COMMIT,
        "BUILDKITE_BRANCH": "main",
        "BUILDKITE_RETRY_COUNT": "0",
        "BUILDKITE_AGENT_NAME": "agent-1",
        "BUILDKITE_BUILD_URL": "https://forge.example/acme/api/builds/7",
    },
    "circleci": {
        "CIRCLE_PROJECT_USERNAME": "acme",
        "CIRCLE_PROJECT_REPONAME": "api",
        "CIRCLE_SHA1": COMMIT,
        "CIRCLE_BRANCH": "main",
        "CIRCLE_JOB": "build",
        "CIRCLE_BUILD_URL": "https://forge.example/gh/acme/api/7",
    },
    "azure": {
        "BUILD_REPOSITORY_NAME": "api",
        "BUILD_SOURCEVERSION": COMMIT,
        "BUILD_SOURCEBRANCHNAME": "main",
        "SYSTEM_JOBNAME": "Build",
        "SYSTEM_JOBATTEMPT": "1",
        "AGENT_NAME": "Azure Pipelines 3",
        "SYSTEM_COLLECTIONURI": "https://forge.example/acme/",
        "SYSTEM_TEAMPROJECTID": "3b1f",
        "BUILD_BUILDID": "7",
    },
    "other": {"COMMIT": COMMIT, "BRANCH": "fix/#12 a&b=50% ✓/main", "HOSTNAME": "box"},
}


def test_every_choice_is_run_here() -> None:
    assert [choice.name for choice in choices("http://localhost", None)] == list(ENVIRONMENTS)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_line_to_paste_sends_a_log(site: Site, tmp_path: Path, name: str) -> None:
    curl, bash = shutil.which("curl"), shutil.which("bash")
    if curl is None or bash is None:
        servers.miss("No curl or no bash on PATH, which the lines to paste need.")
    with transaction() as session:
        token = issue_token(session, session.get_one(Team, site.team_id), TokenForm(name="CI"))[1]
    folder = tmp_path / "my project"
    folder.mkdir()
    (folder / "build.log").write_text("#1 [internal] load\n#1 DONE 0.0s\n")
    choice = next(
        found for found in choices(shown_url(str(site.client.base_url).rstrip("/")), None) if found.name == name
    )
    text = "\n".join(step.text for step in choice.steps)
    command = re.search(r'enc\(\).*?curl -sS .*?@build\.log "[^\n]+"', text, re.DOTALL)
    assert command is not None
    environment = {"PATH": "/usr/bin:/bin", "CACHESCOPE_TOKEN": token, **ENVIRONMENTS[name]}
    ran = subprocess.run([bash, "-c", command[0]], cwd=folder, env=environment, capture_output=True, check=True)
    assert b'"delivery"' in ran.stdout, ran.stdout
    with reading() as session:
        (sent,) = deliveries.load_latest(session, site.team_id)
    if name != "terminal":
        assert sent.parameters["commit"] == COMMIT
        assert sent.parameters["branch"].endswith("main")
    if name == "other":
        assert sent.parameters["branch"] == "fix/#12 a&b=50% ✓/main"
    assert sent.parameters["repository"] in {"acme/api", "api", "my-project"}
    assert " " in sent.parameters.get("runner", "") or name not in {"github", "azure", "jenkins"}
