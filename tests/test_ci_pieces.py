"""The GitHub action and the GitLab component: their shell is run as CI runs it, against a real service."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import select

from service.actions.tokens import TokenForm, issue_token
from service.app import create_app
from store.database import reading, transaction
from store.logs import open_logs, read_log
from store.models import Delivery
from tests import serving
from tests.factories import make_team

ROOT = Path(__file__).resolve().parent.parent
LOG = min((ROOT / "tests/cachescope/formats/buildkit_plain").glob("*.log"))
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
COMPONENT = (ROOT / "templates/cachescope.yml").read_text()
TOOLS = (
    "bash",
    "cat",
    "curl",
    "cut",
    "dirname",
    "env",
    "mkdir",
    "mktemp",
    "mv",
    "od",
    "rm",
    "sed",
    "sh",
    "tail",
    "tee",
    "tr",
)
"""What a bare machine has, Python not among it."""


@dataclass(frozen=True)
class Server:
    """A service on loopback, and a token for it."""

    url: str
    token: str


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty SQLite database: what is sent does not depend on it."""
    shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "cachescope.db")
    return f"sqlite:///{tmp_path / 'cachescope.db'}"


@pytest.fixture
def server(home: Path) -> Iterator[Server]:
    with transaction() as session:
        token = issue_token(session, make_team(session), TokenForm(name="CI"))[1]
    with serving.serve(create_app()) as url:
        yield Server(url, token)


@pytest.fixture
def bare(tmp_path: Path) -> str:
    """A PATH with neither Python nor Cachescope."""
    folder = tmp_path / "bare"
    folder.mkdir()
    for name in TOOLS:
        if found := shutil.which(name):
            (folder / name).symlink_to(found)
    return str(folder)


@pytest.fixture
def installed() -> str:
    """A PATH with Cachescope."""
    return f"{Path(sys.executable).parent}:{os.environ['PATH']}"


GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_REPOSITORY": "acme/api",
    "GITHUB_SHA": "1" * 40,
    "GITHUB_REF": "refs/heads/fix/#1&x",
    "GITHUB_REF_NAME": "fix/#1&x",
    "GITHUB_JOB": "image",
    "GITHUB_RUN_ID": "77",
    "GITHUB_RUN_ATTEMPT": "1",
    "GITHUB_SERVER_URL": "https://github.com",
    "RUNNER_NAME": "runner 1",
}


def run_action(server: Server, path: str, folder: Path, **given: str) -> subprocess.CompletedProcess[str]:
    """Run the step of the action as the runner does: inputs become the environment that action.yml names."""
    (step,) = ACTION["runs"]["steps"]
    inputs = {name: str(each.get("default", "")) for name, each in ACTION["inputs"].items()}
    inputs |= {"url": server.url, "token": server.token}
    inputs |= {name: value for name, value in given.items() if name in inputs}
    environment = {
        name: inputs[re.fullmatch(r"\$\{\{ inputs\.(\w+) \}\}", value)[1]] for name, value in step["env"].items()
    }
    others = {name: value for name, value in given.items() if name not in inputs}
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        env={"PATH": path, "HOME": str(folder), "RUNNER_TEMP": str(folder), "GITHUB_ACTION_PATH": str(ROOT)}
        | GITHUB
        | environment
        | others,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def sent() -> list[dict[str, Any]]:
    """The parameters of all that arrived, and how long each log is."""
    with reading() as session:
        return [
            dict(delivery.parameters) | {"lines": b"".join(read_log(open_logs(), delivery.log_digest)).count(b"\n")}
            for delivery in session.scalars(select(Delivery).order_by(Delivery.id))
        ]


def lines() -> int:
    return LOG.read_bytes().count(b"\n")


@pytest.mark.parametrize("path", ["installed", "bare"])
def test_the_action_runs_the_build_and_sends_its_log(
    server: Server, path: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    done = run_action(server, request.getfixturevalue(path), tmp_path, command=f"cat {LOG}", image="api")
    assert (done.returncode, "::warning" in done.stdout) == (0, False), done.stdout + done.stderr
    assert LOG.read_text().splitlines()[0] in done.stdout
    (told,) = sent()
    assert told["lines"] >= lines()
    kept = {name: told.get(name) for name in ("repository", "commit", "branch", "runner", "image", "ci", "outcome")}
    assert kept == {
        "repository": "acme/api",
        "commit": "1" * 40,
        "branch": "fix/#1&x",
        "runner": "runner 1",
        "image": "api",
        "ci": "github-actions",
        "outcome": "succeeded",
    }
    assert told["run_url"] == "https://github.com/acme/api/actions/runs/77"


@pytest.mark.parametrize("path", ["installed", "bare"])
def test_a_build_that_fails_fails_the_step_and_is_sent_as_such(
    server: Server, path: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    command = f"cat {LOG}\nfalse\necho never"
    done = run_action(server, request.getfixturevalue(path), tmp_path, command=command)
    assert done.returncode == 1
    assert "never" not in done.stdout
    assert sent()[0]["outcome"] == "failed"


@pytest.mark.parametrize("path", ["installed", "bare"])
def test_a_server_that_is_away_fails_no_build(path: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    away = Server("http://127.0.0.1:9", "csc_x")
    done = run_action(away, request.getfixturevalue(path), tmp_path, command=f"cat {LOG}")
    assert done.returncode == 0
    assert re.search("was not sent|cannot be reached", done.stdout + done.stderr)


@pytest.mark.parametrize("path", ["installed", "bare"])
def test_logs_that_earlier_steps_wrote_are_sent(
    server: Server, path: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    for name in ("one.log", "two two.log"):
        (tmp_path / name).write_bytes(LOG.read_bytes() + name.encode() + b"\n")
    done = run_action(server, request.getfixturevalue(path), tmp_path, log="one.log\n  two two.log \nnone.log\n")
    assert done.returncode == 0, done.stderr
    assert [told["lines"] for told in sent()] == [lines() + 1] * 2
    assert "There is no build log in none.log" in done.stdout


def test_of_a_pull_request_no_merge_commit_is_told(server: Server, bare: str, tmp_path: Path) -> None:
    pull = {"GITHUB_REF": "refs/pull/12/merge", "GITHUB_HEAD_REF": "topic", "GITHUB_BASE_REF": "main"}
    run_action(server, bare, tmp_path, command=f"cat {LOG}", **pull)
    (told,) = sent()
    assert (told["pull_request"], told["branch"], told["base_branch"]) == (12, "topic", "main")
    assert "commit" not in told


def test_the_last_build_of_the_builder_is_sent(server: Server, bare: str, tmp_path: Path) -> None:
    docker = Path(bare) / "docker"
    docker.write_text(f'#!/bin/sh\n[ "$*" = "buildx history logs --progress=rawjson" ] && cat {LOG} >&2\n')
    docker.chmod(0o755)
    done = run_action(server, bare, tmp_path, history="true")
    assert done.returncode == 0, done.stdout
    assert sent()[0]["lines"] == lines()


def test_a_builder_without_a_history_is_told(server: Server, bare: str, tmp_path: Path) -> None:
    done = run_action(server, bare, tmp_path, history="true")
    assert done.returncode == 0
    assert "::warning title=Cachescope::docker buildx history has no log" in done.stdout
    assert sent() == []


def test_an_action_that_was_given_nothing_says_what_it_needs(server: Server, bare: str, tmp_path: Path) -> None:
    assert "give the action a command, a log, or history: true" in run_action(server, bare, tmp_path).stdout


def test_nothing_that_users_choose_becomes_part_of_the_action_s_shell() -> None:
    (step,) = ACTION["runs"]["steps"]
    assert "${{" not in step["run"]
    assert set(step["env"].values()) == {f"${{{{ inputs.{name} }}}}" for name in ACTION["inputs"]}


def test_the_token_stands_in_no_list_of_processes(server: Server, bare: str, tmp_path: Path) -> None:
    curl = Path(bare) / "curl"
    curl.unlink()
    curl.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/arguments\nexec {shutil.which("curl")} "$@"\n')
    curl.chmod(0o755)
    run_action(server, bare, tmp_path, command=f"cat {LOG}")
    assert len(sent()) == 1
    assert server.token not in (tmp_path / "arguments").read_text()


GITLAB = {
    "CI_PROJECT_PATH": "acme/group/api",
    "CI_COMMIT_SHA": "2" * 40,
    "CI_COMMIT_BRANCH": "fix/#1&x",
    "CI_DEFAULT_BRANCH": "trunk",
    "CI_JOB_NAME": "build image",
    "CI_RUNNER_DESCRIPTION": "runner 1",
    "CI_JOB_URL": "https://gitlab.example/acme/group/api/-/jobs/7",
}


def component(**given: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The component with its inputs put in, as GitLab does it with the text; its header and its one job."""
    head, _, text = COMPONENT.partition("\n---\n")
    inputs = yaml.safe_load(head)["spec"]["inputs"]
    values = {name: given.get(name, each.get("default", "")) for name, each in inputs.items()}
    filled = re.sub(
        r"\$\[\[ inputs\.(\w+) \]\]",
        lambda found: json.dumps(value) if isinstance(value := values[found[1]], list) else value,
        text,
    )
    (job,) = yaml.safe_load(filled).items()
    return inputs, {"name": job[0], **job[1]}


def run_component(server: Server, path: str, folder: Path, given: dict[str, str], **environment: str) -> Any:
    """Run the script of the component's job as a runner with a POSIX shell does."""
    _, job = component(url=server.url, **given)
    variables = {name: str(value) for name, value in job["variables"].items()}
    script = "\n".join(job["script"])
    return subprocess.run(
        ["sh", "-e", "-c", script],
        env={"PATH": path, "CACHESCOPE_TOKEN": server.token, "TMPDIR": str(folder)} | GITLAB | variables | environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_component_runs_the_build_and_sends_its_log(server: Server, bare: str, tmp_path: Path) -> None:
    done = run_component(server, bare, tmp_path, {"command": f"cat {LOG}", "name": "api"})
    assert done.returncode == 0, done.stderr
    (told,) = sent()
    assert told["lines"] == lines()
    kept = {name: told.get(name) for name in ("repository", "commit", "branch", "default_branch", "image", "outcome")}
    assert kept == {
        "repository": "acme/group/api",
        "commit": "2" * 40,
        "branch": "fix/#1&x",
        "default_branch": "trunk",
        "image": "api",
        "outcome": "succeeded",
    }
    assert told["run_url"] == GITLAB["CI_JOB_URL"]


def test_the_component_tells_of_the_merge_request_and_its_own_commit(server: Server, bare: str, tmp_path: Path) -> None:
    merge = {
        "CI_MERGE_REQUEST_IID": "12",
        "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "topic",
        "CI_MERGE_REQUEST_SOURCE_BRANCH_SHA": "3" * 40,
        "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
    }
    run_component(server, bare, tmp_path, {"command": f"cat {LOG}"}, **merge)
    (told,) = sent()
    assert (told["pull_request"], told["branch"], told["commit"]) == (12, "topic", "3" * 40)


def test_a_build_that_fails_fails_the_component_s_job(server: Server, bare: str, tmp_path: Path) -> None:
    done = run_component(server, bare, tmp_path, {"command": f"cat {LOG}; exit 7"})
    assert done.returncode == 7
    assert sent()[0]["outcome"] == "failed"


def test_a_command_that_fails_ends_the_component_s_build(server: Server, bare: str, tmp_path: Path) -> None:
    done = run_component(server, bare, tmp_path, {"command": f"cat {LOG}; false; echo later"})
    assert done.returncode == 1
    assert "later" not in done.stdout


def test_a_server_that_is_away_fails_no_job(bare: str, tmp_path: Path) -> None:
    done = run_component(Server("http://127.0.0.1:9", "csc_x"), bare, tmp_path, {"command": f"cat {LOG}"})
    assert done.returncode == 0
    assert "the build log was not sent" in done.stdout


def test_every_input_of_the_component_is_used_and_described() -> None:
    inputs, job = component(url="https://cache.example.org", command='docker build --build-arg "A: b" . # quick')
    assert all(each["description"] for each in inputs.values())
    assert set(re.findall(r"inputs\.(\w+)", COMPONENT)) == set(inputs)
    assert job["variables"]["CACHESCOPE_COMMAND"] == 'docker build --build-arg "A: b" . # quick'
    assert job["services"] == ["docker:28-dind"]
    assert "CACHESCOPE_TOKEN" not in job["variables"]


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page of the docs."""
    text = (ROOT / "docs/ci" / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_the_workflows_in_the_docs_use_inputs_that_the_action_has() -> None:
    found = [yaml.safe_load(block) for block in blocks("github.md", "yaml")]
    steps = [step for workflow in found for job in workflow["jobs"].values() for step in job["steps"]]
    ours = [step for step in steps if "cachescope@" in step.get("uses", "")]
    assert len(ours) == 2
    for step in ours:
        required = {name for name, each in ACTION["inputs"].items() if each.get("required")}
        assert required <= set(step["with"]) <= set(ACTION["inputs"])


def test_the_include_in_the_docs_uses_inputs_that_the_component_has() -> None:
    inputs, _ = component()
    included = yaml.safe_load(blocks("gitlab.md", "yaml")[0])["include"][0]
    assert set(included["inputs"]) <= set(inputs)
    assert {name for name, each in inputs.items() if "default" not in each} <= set(included["inputs"])


JOB = component(url="https://cache.example.org")[1]
"""The job of the component, with the default of every input."""


def lint(tool: str, *arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a linter of CI pieces, which asks nothing of the network."""
    return subprocess.run(
        [Path(sys.executable).parent / tool, *map(str, arguments)],
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "NO_COLOR": "1"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def lint_schema(schema: str, text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Hold a YAML text against the schema that the vendor, or SchemaStore for it, publishes."""
    (folder / "piece.yml").write_text(text)
    return lint("check-jsonschema", "--builtin-schema", f"vendor.{schema}", "piece.yml", folder=folder)


def lint_security(path: str, text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Look in an action or workflow for what GitHub's parser refuses and what an attacker could use.

    Readers of the docs are not asked to pin versions by hash.
    """
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text(text)
    policy = {"rules": {"unpinned-uses": {"config": {"policies": {"*": "ref-pin"}}}}}
    (folder / "zizmor.yml").write_text(yaml.safe_dump(policy))
    return lint("zizmor", "--offline", "--no-progress", "--config", "zizmor.yml", path, folder=folder)


def header() -> str:
    """What of the component stands before its job: GitLab reads it as a document of its own."""
    return COMPONENT.partition("\n---\n")[0]


def job() -> str:
    """The component's job as GitLab sees it, with the inputs put in."""
    return yaml.safe_dump({JOB["name"]: {key: value for key, value in JOB.items() if key != "name"}})


CORRECT = [
    ("github-actions", (ROOT / "action.yml").read_text()),
    ("gitlab-ci", header()),
    ("gitlab-ci", job()),
    *[("github-workflows", block) for block in blocks("github.md", "yaml")],
    *[("gitlab-ci", block) for block in blocks("gitlab.md", "yaml")],
    *[("circle-ci", block) for block in blocks("circleci.md", "yaml")],
]


@pytest.mark.parametrize(("schema", "text"), CORRECT, ids=[f"{schema}-{n}" for n, (schema, _) in enumerate(CORRECT)])
def test_every_piece_fits_the_schema_of_its_ci_system(schema: str, text: str, tmp_path: Path) -> None:
    done = lint_schema(schema, text, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("schema", "text", "right", "wrong"),
    [
        ("github-actions", (ROOT / "action.yml").read_text(), "using: composite", "using: composit"),
        ("github-actions", (ROOT / "action.yml").read_text(), "required: true", "requried: true"),
        ("github-workflows", blocks("github.md", "yaml")[0], "runs-on:", "runs_on:"),
        ("gitlab-ci", header(), "type: array", "type: list"),
        ("gitlab-ci", job(), "script:", "scripts:"),
        ("gitlab-ci", blocks("gitlab.md", "yaml")[0], "component:", "components:"),
        ("circle-ci", blocks("circleci.md", "yaml")[0], "type: string", "type: text"),
    ],
)
def test_a_spoilt_piece_fits_no_schema(schema: str, text: str, right: str, wrong: str, tmp_path: Path) -> None:
    assert right in text
    assert lint_schema(schema, text.replace(right, wrong), tmp_path).returncode == 1


def test_the_action_gives_an_attacker_no_hold(tmp_path: Path) -> None:
    done = lint_security("action.yml", (ROOT / "action.yml").read_text(), tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("number", range(len(blocks("github.md", "yaml"))))
def test_the_workflows_in_the_docs_give_an_attacker_no_hold(number: int, tmp_path: Path) -> None:
    done = lint_security(".github/workflows/image.yml", blocks("github.md", "yaml")[number], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_action_whose_shell_takes_an_input_as_text_is_found(tmp_path: Path) -> None:
    text = (ROOT / "action.yml").read_text()
    spoilt = text.replace('bash "$GITHUB_ACTION_PATH/action/run.sh"', 'bash run.sh "${{ inputs.command }}"')
    assert spoilt != text
    done = lint_security("action.yml", spoilt, tmp_path)
    assert done.returncode != 0
    assert "template-injection" in done.stdout


SCRIPTS = [
    ("bash", (ROOT / "action/run.sh").read_text()),
    ("bash", ACTION["runs"]["steps"][0]["run"]),
    ("sh", "\n".join(JOB["script"])),
    (
        "bash",
        yaml.safe_load(blocks("circleci.md", "yaml")[0])["commands"]["build-and-send"]["steps"][0]["run"]["command"],
    ),
    ("sh", re.findall(r"sh '''(.*?)'''", blocks("jenkins.md", "groovy")[0], re.DOTALL)[0]),
]


def lint_shell(shell: str, text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Check a script as one of a shell; what comes from the environment is not assigned in it."""
    (folder / "script").write_text(text)
    return lint("shellcheck", f"--shell={shell}", "--norc", "script", folder=folder)


@pytest.mark.parametrize(("shell", "text"), SCRIPTS, ids=["run.sh", "action", "component", "circleci", "jenkins"])
def test_the_shell_of_every_piece_passes_shellcheck(shell: str, text: str, tmp_path: Path) -> None:
    done = lint_shell(shell, text, tmp_path)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("number", "right", "wrong"),
    [
        (0, '"$CACHESCOPE_TOKEN"', "$CACHESCOPE_TOKEN | cat $1"),
        (2, '"$work/build.log"', "$work/build.log"),
        (2, "[ ", "[[ "),
    ],
    ids=["unquoted", "unquoted-component", "bashism"],
)
def test_a_spoilt_script_does_not_pass_shellcheck(number: int, right: str, wrong: str, tmp_path: Path) -> None:
    shell, text = SCRIPTS[number]
    assert right in text
    assert lint_shell(shell, text.replace(right, wrong), tmp_path).returncode == 1


@pytest.fixture
def with_venv(tmp_path: Path) -> str:
    """A PATH whose Python makes environments that hold Cachescope at once, and whose docker prints a log."""
    folder = tmp_path / "tools"
    folder.mkdir()
    cachescope = Path(sys.executable).parent / "cachescope"
    scripts = {
        "python3": f'mkdir -p "$3/bin" && ln -s {cachescope} "$3/bin/" && ln -s "$(command -v true)" "$3/bin/pip"',
        "docker": f"cat {LOG}",
    }
    for name, text in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def run_shell(script: str, path: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        env={"PATH": path, "HOME": str(folder)} | environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_shell_of_the_circleci_page_sends_the_log(server: Server, with_venv: str, tmp_path: Path) -> None:
    config = yaml.safe_load(blocks("circleci.md", "yaml")[0])
    (step,) = config["commands"]["build-and-send"]["steps"]
    used = config["jobs"]["image"]["steps"][1]["build-and-send"]
    environment = {**step["run"]["environment"], "BUILD": used["command"], "CACHESCOPE_URL": server.url}
    circleci = {
        "CIRCLECI": "true",
        "CIRCLE_PROJECT_USERNAME": "acme",
        "CIRCLE_PROJECT_REPONAME": "api",
        "CIRCLE_SHA1": "4" * 40,
        "CIRCLE_BRANCH": "topic",
        "CIRCLE_JOB": "image",
    }
    done = run_shell(
        step["run"]["command"], with_venv, tmp_path, CACHESCOPE_TOKEN=server.token, **environment, **circleci
    )
    assert done.returncode == 0, done.stderr
    (told,) = sent()
    assert (told["ci"], told["repository"], told["branch"], told["commit"]) == (
        "circleci",
        "acme/api",
        "topic",
        "4" * 40,
    )


def test_the_shell_of_the_jenkins_page_sends_the_log(server: Server, with_venv: str, tmp_path: Path) -> None:
    (pipeline,) = blocks("jenkins.md", "groovy")
    (script,) = re.findall(r"sh '''(.*?)'''", pipeline, re.DOTALL)
    jenkins = {
        "JENKINS_URL": "https://ci.example.org/",
        "JOB_NAME": "acme/api/topic",
        "BUILD_NUMBER": "7",
        "GIT_URL": "https://git.example.org/acme/api.git",
        "GIT_COMMIT": "5" * 40,
        "BRANCH_NAME": "topic",
        "BUILDKIT_PROGRESS": "plain",
    }
    done = run_shell(script, with_venv, tmp_path, CACHESCOPE_URL=server.url, CACHESCOPE_TOKEN=server.token, **jenkins)
    assert done.returncode == 0, done.stderr
    (told,) = sent()
    assert (told["ci"], told["repository"], told["branch"], told["commit"]) == (
        "jenkins",
        "acme/api",
        "topic",
        "5" * 40,
    )
