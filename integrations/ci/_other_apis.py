"""Reading logs from systems that are asked for nothing else: Buildkite, CircleCI, Jenkins, Azure, Bitbucket.

Each class names where its API is documented. None of them compares commits, so changed files stay unknown; each sends
its webhooks again by itself, or is asked by its users to, so there is nothing to reconcile.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import unquote

import orjson

from cachescope.errors import TooLargeError, UnreadableInputError
from cachescope.evidence import ChangedFile
from integrations.ci import _bodies as read
from integrations.ci._api import Api, NeverError, NotYetError, part, path_of
from integrations.ci._buildbot_api import authorization
from integrations.ci.base import Access, CIRun
from integrations.http import ForbiddenAddressError, HttpClient

_MOST_LOGS = 200
_PRESIGNED_CAP = 64 * 1024 * 1024


class LogReader:
    """What these systems have in common: a log and nothing else."""

    cloud_url = ""
    credential_fields: Sequence[str] = ("token",)
    needs_credentials = True

    def connect(self, client: HttpClient, access: Access, run: CIRun | None = None) -> Api:
        """Open the API with a bearer token, or with a user and a token."""
        return Api(client, access.base_url or self.cloud_url, authorization(access.credentials))

    def describe(self, api: Api, run: CIRun) -> Mapping[str, object]:
        """Nothing more is asked for."""
        return {}

    def fetch_changes(self, api: Api, run: CIRun, before: str, after: str) -> tuple[ChangedFile, ...] | None:
        """Nothing: the repository is elsewhere."""
        return None

    def fetch_file(self, api: Api, run: CIRun, path: str, commit: str) -> str | None:
        """Nothing: the repository is elsewhere."""
        return None

    def list_finished(self, api: Api, repositories: Sequence[str], since: datetime) -> Iterator[CIRun]:
        """Nothing: see the module."""
        return iter(())


class BuildkiteReader(LogReader):
    """Buildkite: https://buildkite.com/docs/apis/rest-api/jobs#get-a-jobs-log-output; scope `read_build_logs`."""

    cloud_url = "https://api.buildkite.com"

    def read_log(self, api: Api, run: CIRun, cap_bytes: int, tries: int) -> Iterator[bytes]:
        """Read the log of a job."""
        names = _needed(run, "organization", "pipeline", "build_number", "job_id")
        path = "/v2/organizations/{}/pipelines/{}/builds/{}/jobs/{}/log".format(*map(part, names))
        return _found(api.pieces(path, cap_bytes))


class JenkinsReader(LogReader):
    """Jenkins: `<build>/consoleText`, with a user and an API token."""

    credential_fields: Sequence[str] = ("user", "token")
    needs_credentials = False

    def read_log(self, api: Api, run: CIRun, cap_bytes: int, tries: int) -> Iterator[bytes]:
        """Read the console of a build; its path was checked when the event was read."""
        job_path, number = _needed(run, "job_path", "build_number")
        # The path comes quoted as Jenkins writes it; what it stands for is quoted anew, part by part.
        parts = [unquote(one) for one in str(job_path).split("/")]
        return _found(api.pieces(f"/{path_of('/'.join(parts))}/{number}/consoleText", cap_bytes))


class CircleCIReader(LogReader):
    """CircleCI: v1.1 names each step's output at a presigned address, which must see no credentials of ours.

    The one address that is taken from an answer: it goes through the same checks as any other. Documented in
    CircleCI's "analyze pipelines during an incident".
    """

    cloud_url = "https://circleci.com"

    def connect(self, client: HttpClient, access: Access, run: CIRun | None = None) -> Api:
        """Open the API with a personal token."""
        token = access.credentials.get("token")
        return Api(client, access.base_url or self.cloud_url, {"circle-token": token} if token else {})

    def read_log(self, api: Api, run: CIRun, cap_bytes: int, tries: int) -> Iterator[bytes]:
        """Read the outputs of all steps of a job, one after another."""
        project, number = _needed(run, "project", "job_number")
        told = api.get(f"/api/v1.1/project/{path_of(project)}/{number}")
        if told is None:
            raise NotYetError("Its log is not there yet.")
        actions = [action for step in read.rows(read.part(told, "steps")) for action in read.rows(step.get("actions"))]
        urls = [url for action in actions if isinstance(url := action.get("output_url"), str)]
        if not urls:
            raise NotYetError("Its steps name no output yet.")
        return self._outputs(api, urls[:_MOST_LOGS], cap_bytes)

    def _outputs(self, api: Api, urls: Sequence[str], cap_bytes: int) -> Iterator[bytes]:
        left = cap_bytes
        for url in urls:
            if not url.startswith("https://") and not url.startswith(f"{api.url}/"):
                raise ForbiddenAddressError("CircleCI names an address without TLS for the output of a step.")
            answer = api.client.request("GET", url, cap_bytes=min(left, _PRESIGNED_CAP))
            if not answer.is_success:
                continue  # these addresses last for minutes; another step's may still hold
            try:
                rows = orjson.loads(answer.content)
            except orjson.JSONDecodeError as error:
                raise UnreadableInputError(f"The output of a step is not JSON: {error}.") from error
            for row in rows if isinstance(rows, list) else []:
                message = read.part(row, "message")
                if isinstance(message, str):
                    piece = message.replace("\r\n", "\n").encode("utf-8", "replace")
                    left -= len(piece)
                    if left < 0:
                        raise TooLargeError("The outputs of the steps are larger than a log may be.")
                    yield piece
            yield b"\n"


class AzureReader(LogReader):
    """Azure Pipelines: `_apis/build/builds/{id}/logs`, with a personal access token of the scope `vso.build`."""

    def connect(self, client: HttpClient, access: Access, run: CIRun | None = None) -> Api:
        """Open the API of an organization, such as https://dev.azure.com/acme; the token is a password without user."""
        token = access.credentials.get("token", "")
        return Api(
            client,
            access.base_url,
            {"authorization": "Basic " + base64.b64encode(f":{token}".encode()).decode()} if token else {},
        )

    def read_log(self, api: Api, run: CIRun, cap_bytes: int, tries: int) -> Iterator[bytes]:
        """Read the logs of the tasks of a build in their order; those of jobs repeat them and are left out."""
        project, number = _needed(run, "project_id", "build_id")
        start = f"/{part(project)}/_apis/build/builds/{number}"
        told = api.get(f"{start}/timeline", {"api-version": "7.1"})
        records = [row for row in read.part(told, "records") or [] if isinstance(row, dict)]
        tasks = sorted(
            (row for row in records[:2000] if row.get("type") == "Task" and read.part(row, "log", "id") is not None),
            key=lambda row: str(row.get("startTime") or ""),
        )
        ids = [log_id for row in tasks if (log_id := read.identity(read.part(row, "log", "id"))) is not None]
        if not ids:
            raise NotYetError("No task of this build has a log yet.")
        return _joined(api, [f"{start}/logs/{log_id}" for log_id in ids[:_MOST_LOGS]], cap_bytes)


class BitbucketReader(LogReader):
    """Bitbucket Pipelines: https://developer.atlassian.com/cloud/bitbucket/rest/api-group-pipelines/.

    A log is answered with a redirect to another origin; asked for as JSON it is refused.
    """

    cloud_url = "https://api.bitbucket.org"
    credential_fields: Sequence[str] = ("user", "token")

    def read_log(self, api: Api, run: CIRun, cap_bytes: int, tries: int) -> Iterator[bytes]:
        """Read the logs of all steps of a pipeline."""
        workspace, repository, number = _needed(run, "workspace", "repository", "build_number")
        start = f"/2.0/repositories/{part(workspace)}/{part(repository)}/pipelines/{number}"
        steps = read.rows(read.part(api.get(f"{start}/steps/", {"pagelen": 100}), "values"))
        ids = [found for step in steps if (found := _braced(step.get("uuid"))) is not None]
        if not ids:
            raise NotYetError("No step of this pipeline has a log yet.")
        return _joined(api, [f"{start}/steps/{part(one)}/log" for one in ids], cap_bytes, accept="*/*")


def _braced(value: Any) -> str | None:
    """Bitbucket writes UUIDs in braces."""
    found = read.uuid(value.strip("{}")) if isinstance(value, str) else None
    return f"{{{found}}}" if found else None


def _needed(run: CIRun, *names: str) -> list[str | int]:
    missing = [name for name in names if name not in run.log_reference]
    if missing:
        raise NeverError(f"The event does not say where its log is: {missing[0].replace('_', ' ')} is missing.")
    return [run.log_reference[name] for name in names]


def _found(pieces: Iterator[bytes] | None) -> Iterator[bytes]:
    if pieces is None:
        raise NotYetError("Its log is not there (yet).")
    return pieces


def _joined(api: Api, paths: Sequence[str], cap_bytes: int, *, accept: str = "text/plain") -> Iterator[bytes]:
    left = cap_bytes
    for path in paths:
        for piece in api.pieces(path, left, accept=accept) or ():
            left -= len(piece)
            yield piece
        yield b"\n"
