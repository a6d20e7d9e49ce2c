"""The lines to paste that send a build log, for each place where builds run.

They need nothing but curl; where the command line of Cachescope is installed, `cachescope push` reads the same from
the environment by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

ENCODE = """enc() { printf %s "$1" | od -An -v -tx1 | tr -dc 0-9a-f | sed 's/../%&/g'; }"""
"""Writes a word so that it can stand in an address: `#`, `&`, `%` and blanks are common in names of branches."""

BUILD = "docker buildx build --progress=plain . 2>&1 | tee build.log"

_PLAIN = frozenset({"commit", "attempt", "ci", "pull_request"})


@dataclass(frozen=True, slots=True)
class Snippet:
    """One thing to paste."""

    title: str
    text: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """A place where builds run, and what to paste there."""

    name: str
    label: str
    steps: Sequence[Snippet]


def choices(url: str, token: str | None) -> list[Choice]:
    """The choices for a server at an address; `token` stands in the line for a terminal right after it was made."""
    shell = _shell(url, token)
    return [
        Choice("terminal", "A terminal", shell),
        Choice("github", "GitHub Actions", _github(url)),
        Choice("gitlab", "GitLab CI", _gitlab(url)),
        Choice("jenkins", "Jenkins", _jenkins(url)),
        Choice("buildkite", "Buildkite", _buildkite(url)),
        Choice("circleci", "CircleCI", _circleci(url)),
        Choice("azure", "Azure Pipelines", _azure(url)),
        Choice("other", "Any other", _other(url)),
    ]


def curl(url: str, parameters: dict[str, str], credential: str = "$CACHESCOPE_TOKEN") -> str:
    """The commands that send `build.log`; parameters are shell words, encoded for the address by the shell."""
    pairs = "&".join(
        f"{name}={value}" if name in _PLAIN else f'{name}=$(enc "{value}")' for name, value in parameters.items()
    )
    return (
        f"{ENCODE}\n"
        f'curl -sS --max-time 120 -H "Authorization: Bearer {credential}" \\\n'
        f'  --data-binary @build.log "{url}/api/v1/uploads?{pairs}"'
    )


def _shell(url: str, token: str | None) -> list[Snippet]:
    send = curl(
        url,
        {
            "repository": "$(basename \"$PWD\" | tr ' ' -)",
            "commit": "$(git rev-parse HEAD 2>/dev/null)",
            "branch": "$(git branch --show-current 2>/dev/null)",
        },
        token or "$CACHESCOPE_TOKEN",
    )
    return [
        Snippet(
            "Build and keep the log",
            BUILD,
            "Any builder's log will do: buildx, bake, compose, the classic builder, buildah, kaniko.",
        ),
        Snippet("Send it", send),
        Snippet(
            "Or in one, with the command line of Cachescope",
            f"export CACHESCOPE_URL={url} CACHESCOPE_TOKEN={token or '…'}\ncachescope exec -- docker buildx build .",
            "The build's output and exit status pass through unchanged; a server that is down never fails the build.",
        ),
    ]


def _github(url: str) -> list[Snippet]:
    send = curl(
        url,
        {
            "repository": "$GITHUB_REPOSITORY",
            "commit": "$GITHUB_SHA",
            "branch": "${GITHUB_HEAD_REF:-$GITHUB_REF_NAME}",
            "job": "$GITHUB_JOB",
            "attempt": "$GITHUB_RUN_ATTEMPT",
            "runner": "$RUNNER_NAME",
            "ci": "github-actions",
            "run_url": "$GITHUB_SERVER_URL/$GITHUB_REPOSITORY/actions/runs/$GITHUB_RUN_ID",
        },
    )
    step = (
        f"- name: Build\n  run: |\n    set -o pipefail\n    {BUILD}\n"
        "- name: Send the build log\n  if: always()\n  continue-on-error: true\n"
        f"  env:\n    CACHESCOPE_TOKEN: ${{{{ secrets.CACHESCOPE_TOKEN }}}}\n  run: |\n{_indented(send, 4)}"
    )
    return [Snippet("Steps of the job", step, "Add the token to the repository's secrets as CACHESCOPE_TOKEN.")]


def _gitlab(url: str) -> list[Snippet]:
    send = curl(
        url,
        {
            "repository": "$CI_PROJECT_PATH",
            "commit": "$CI_COMMIT_SHA",
            "branch": "${CI_MERGE_REQUEST_SOURCE_BRANCH_NAME:-$CI_COMMIT_REF_NAME}",
            "pull_request": "$CI_MERGE_REQUEST_IID",
            "job": "$CI_JOB_NAME_SLUG",
            "runner": "$CI_RUNNER_ID",
            "ci": "gitlab",
            "run_url": "$CI_JOB_URL",
        },
    )
    job = f"build:\n  script:\n    - set -o pipefail\n    - {BUILD}\n  after_script:\n    - |\n{_indented(send, 6)}"
    return [
        Snippet(".gitlab-ci.yml", job, "Add the token to the project's CI/CD variables as CACHESCOPE_TOKEN, masked.")
    ]


def _jenkins(url: str) -> list[Snippet]:
    send = curl(
        url,
        {
            "repository": "${JOB_NAME%%/*}",
            "commit": "$GIT_COMMIT",
            "branch": "${CHANGE_BRANCH:-${BRANCH_NAME:-$GIT_BRANCH}}",
            "pull_request": "$CHANGE_ID",
            "job": "$BUILD_NUMBER",
            "runner": "$NODE_NAME",
            "ci": "jenkins",
            "run_url": "$BUILD_URL",
        },
    )
    text = (
        "post {\n  always {\n"
        "    withCredentials([string(credentialsId: 'cachescope', variable: 'CACHESCOPE_TOKEN')]) {\n"
        f"      sh '''\n{_indented(send, 8)} || true\n      '''\n    }}\n  }}\n}}"
    )
    return [
        Snippet("The build", f"sh '''#!/bin/bash\n  set -o pipefail\n  {BUILD}\n'''"),
        Snippet("After it", text, "Add the token as a secret text with the id cachescope."),
    ]


def _buildkite(url: str) -> list[Snippet]:
    send = curl(
        url,
        {
            "repository": "$BUILDKITE_PIPELINE_SLUG",
            "commit": "$BUILDKITE_COMMIT",
            "branch": "$BUILDKITE_BRANCH",
            "job": "$BUILDKITE_STEP_KEY",
            "attempt": "$((BUILDKITE_RETRY_COUNT + 1))",
            "runner": "$BUILDKITE_AGENT_NAME",
            "ci": "buildkite",
            "run_url": "$BUILDKITE_BUILD_URL",
        },
    )
    return [Snippet("The command", BUILD), Snippet(".buildkite/hooks/post-command", f"{send} || true")]


def _circleci(url: str) -> list[Snippet]:
    send = curl(
        url,
        {
            "repository": "$CIRCLE_PROJECT_USERNAME/$CIRCLE_PROJECT_REPONAME",
            "commit": "$CIRCLE_SHA1",
            "branch": "$CIRCLE_BRANCH",
            "job": "$CIRCLE_JOB",
            "ci": "circleci",
            "run_url": "$CIRCLE_BUILD_URL",
        },
    )
    steps = (
        f"- run: |\n    set -o pipefail\n    {BUILD}\n- run:\n    name: Send the build log\n    when: always\n"
        f"    command: |\n{_indented(send, 6)} || true"
    )
    return [
        Snippet("Steps of the job", steps, "Add the token to the project's environment variables as CACHESCOPE_TOKEN.")
    ]


def _azure(url: str) -> list[Snippet]:
    send = curl(
        url,
        {
            "repository": "$BUILD_REPOSITORY_NAME",
            "commit": "$BUILD_SOURCEVERSION",
            "branch": "$BUILD_SOURCEBRANCHNAME",
            "job": "$SYSTEM_JOBNAME",
            "attempt": "$SYSTEM_JOBATTEMPT",
            "runner": "$AGENT_NAME",
            "ci": "azure",
            "run_url": "$SYSTEM_COLLECTIONURI$SYSTEM_TEAMPROJECTID/_build/results?buildId=$BUILD_BUILDID",
        },
    )
    steps = (
        f"- bash: |\n    set -o pipefail\n    {BUILD}\n- bash: |\n{_indented(send, 4)} || true\n  condition: always()\n"
        "  env:\n    CACHESCOPE_TOKEN: $(CACHESCOPE_TOKEN)"
    )
    return [
        Snippet("Steps of the job", steps, "Add the token to the pipeline's variables as CACHESCOPE_TOKEN, secret.")
    ]


def _other(url: str) -> list[Snippet]:
    return [
        Snippet("The build", BUILD),
        Snippet(
            "After it, whether it failed or not",
            curl(url, {"repository": "acme/api", "commit": "$COMMIT", "branch": "$BRANCH", "runner": "$HOSTNAME"}),
            "Logs compressed with gzip or zstd are taken too, with the header Content-Encoding. A webhook can send "
            "them as well: make a source in the settings.",
        ),
    ]


def _indented(text: str, width: int) -> str:
    return "\n".join(" " * width + line for line in text.splitlines())


def shown_url(url: str) -> str:
    """An address that can stand between double quotes in a shell."""
    return quote(url, safe=":/[]@-._~")
