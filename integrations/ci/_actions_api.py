"""Reading from GitHub and from Gitea, whose API of Actions follows GitHub's: logs, changed files, files, recent runs.

Source: https://docs.github.com/en/rest/actions and Gitea's /api/swagger. A log is answered with a redirect to another
origin, which refuses credentials; a log that is not there yet looks like one that never will be (404).
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from cachescope.evidence import ChangedFile
from integrations.ci import _bodies as read
from integrations.ci._actions import PULL_REQUESTS, own_pull_request, pull_request_in_path, read_job
from integrations.ci._api import FILE_BYTES, Api, NeverError, NotYetError, path_of
from integrations.ci._app_tokens import installation_token
from integrations.ci._archives import read_archive
from integrations.ci.base import Access, CIRun
from integrations.http import HttpClient

MOST_FILES = 300
"""A comparison names no more files; at exactly so many it is taken as cut."""
_ARCHIVE_AFTER = 2
"""From this try on a missing log is looked for in the archive of its run as well."""
_STATUS = {"added": "A", "removed": "D", "modified": "M", "changed": "M", "copied": "A", "renamed": "A", "deleted": "D"}


class ActionsReader:
    """The part that both have in common."""

    cloud_url = ""
    credential_fields: Sequence[str] = ("token",)
    needs_credentials = True
    prefix = "/api/v1"
    page_size: Mapping[str, str | int] = {"limit": 50}
    ci = "gitea"

    def connect(self, client: HttpClient, access: Access, run: CIRun | None = None) -> Api:
        """Open the API with a token."""
        return Api(client, access.base_url + self.prefix, _token(access.credentials))

    def describe(self, api: Api, run: CIRun) -> Mapping[str, object]:
        """Ask the run for the pull request that started it, which no job names."""
        repository, run_id = repository_of(run), run.log_reference.get("run_id")
        told = api.get(f"/repos/{repository}/actions/runs/{run_id}") if run_id else None
        if told is None:
            return {}
        pull = None
        if not _is_of_default_branch(told, run.parameters.get("default_branch")):
            here = {"id": run.log_reference.get("repository_id")}
            pull = own_pull_request(told, here) or self._pull_of_commit(api, run, told)
        number = read.number(read.part(pull, "number")) or pull_request_in_path(read.part(told, "path"))
        found = {
            "actor": read.text(read.part(told, "actor", "login")),
            "pull_request": number,
            "base_branch": read.branch(read.part(pull, "base", "ref")),
            "branch": _branch_of_fork(told) if number is None else None,
        }
        return read.pick(**found)

    def _pull_of_commit(self, api: Api, run: CIRun, told: object) -> dict[str, Any] | None:
        """A run of a fork's pull request names none; the commit does, and so does the branch that has moved on."""
        commit = run.parameters.get("commit")
        if not commit or read.part(told, "event") not in PULL_REQUESTS:
            return None
        pulls = read.rows(api.get(f"/repos/{repository_of(run)}/commits/{commit}/pulls"))
        whence = (read.part(told, "head_branch"), read.part(told, "head_repository", "id"))
        last = [pull for pull in pulls if read.part(pull, "head", "sha") == commit]
        moved = [
            pull
            for pull in pulls
            if None not in whence and (read.part(pull, "head", "ref"), read.part(pull, "head", "repo", "id")) == whence
        ]
        return next(iter(last + moved), None)

    def read_log(self, api: Api, run: CIRun, cap_bytes: int, tries: int) -> Iterator[bytes]:
        """Read the log of a job; one that stays away is looked for in the archive of its run."""
        repository, reference = repository_of(run), run.log_reference
        if job_id := reference.get("job_id"):
            self.refuse_later(api, run)
            pieces = api.pieces(f"/repos/{repository}/actions/jobs/{job_id}/logs", cap_bytes)
            if pieces is not None:
                return pieces
            if tries < _ARCHIVE_AFTER:
                raise NotYetError("Its log is not there yet.")
        archive = self._archive(api, run, cap_bytes)
        if archive is None:
            raise NotYetError("Its log is not there (yet): it is being written, or it was deleted.")
        return read_archive(archive, str(run.parameters.get("job") or "") if job_id else "", cap_bytes)

    def refuse_later(self, api: Api, run: CIRun) -> None:
        """Raise NeverError where the log of a job is that of a later attempt: up to Gitea 1.26 its id comes back.

        Source: services/actions/rerun.go of 1.26, which sets the task of the job to none.
        """
        path = f"/repos/{repository_of(run)}/actions/jobs/{run.log_reference['job_id']}"
        now = read.number(read.part(api.get(path), "run_attempt"), 1, 100_000)
        attempt = run.parameters.get("attempt")
        if now is not None and isinstance(attempt, int) and now > attempt:
            raise NeverError(f"The job was run again, and its log is that of attempt {now}, not of {attempt}.")

    def _archive(self, api: Api, run: CIRun, cap_bytes: int) -> Iterator[bytes] | None:
        run_id, attempt = run.log_reference.get("run_id"), run.parameters.get("attempt") or 1
        if run_id is None:
            return None
        start = f"/repos/{repository_of(run)}/actions/runs/{run_id}"
        return api.pieces(f"{start}/attempts/{attempt}/logs", cap_bytes, accept="*/*")

    def fetch_file(self, api: Api, run: CIRun, path: str, commit: str) -> str | None:
        """A file as it is at a commit."""
        answer = api.ask(f"/repos/{repository_of(run)}/raw/{path_of(path)}", {"ref": commit}, accept="*/*")
        return None if answer is None else _text(answer.content)

    def fetch_changes(self, api: Api, run: CIRun, before: str, after: str) -> tuple[ChangedFile, ...] | None:
        """What the commits between two commits touched; both must lie on one line."""
        start = f"/repos/{repository_of(run)}/compare"
        told = api.get(f"{start}/{before}...{after}")
        back = api.get(f"{start}/{after}...{before}") if told is not None else None
        commits = read.part(told, "commits")
        if not isinstance(commits, list) or read.part(back, "total_commits") != 0:
            return None  # behind or beside each other: the commits between them do not tell what differs
        if read.part(told, "total_commits") != len(commits):
            return None
        files: dict[str, str] = {}
        for commit in commits:
            named = read.part(commit, "files")
            if not isinstance(named, list):
                return None
            for row in named:
                if name := read.part(row, "filename"):
                    files[str(name)] = _STATUS.get(str(read.part(row, "status")), "M")
        return tuple(ChangedFile(path, status) for path, status in sorted(files.items()))

    def list_finished(self, api: Api, repositories: Sequence[str], since: datetime) -> Iterator[CIRun]:
        """The jobs of the runs that ended after a time."""
        for name in repositories:
            if read.full_name(name) is None:
                continue
            for run in api.rows(f"/repos/{name}/actions/runs", "workflow_runs", self.page_size):
                ended = read.time(run.get("updated_at") or run.get("completed_at") or run.get("created_at"))
                created = read.time(run.get("created_at") or run.get("started_at"))
                if created is not None and (since - created).days >= 2:
                    break  # newest first; what began two days before has ended, or is told by its own event
                if run.get("status") == "completed" and ended is not None and ended >= since:
                    yield from self._jobs(api, name, run)

    def _jobs(self, api: Api, name: str, run: dict[str, Any]) -> Iterator[CIRun]:
        run_id = read.identity(run.get("id"))
        home = read.part(run, "repository") or {"full_name": name}
        for job in api.rows(f"/repos/{name}/actions/runs/{run_id}/jobs", "jobs", self.page_size):
            if job.get("status") == "completed" and not _is_copy(job, run):
                event = {"action": "completed", "workflow_job": job, "repository": home}
                told = read_job(event, self.ci)
                if isinstance(told, CIRun):
                    yield told


def _is_of_default_branch(told: object, default_branch: object) -> bool:
    """Whether a push to the default branch, or a schedule, started a run.

    Its list of pull requests holds what would bring that branch elsewhere: that is not what was built.
    """
    event, head = read.part(told, "event"), read.part(told, "head_branch")
    return event not in {None, *PULL_REQUESTS} and head is not None and head == default_branch


def _branch_of_fork(told: object) -> str | None:
    """Return the branch of a run of another repository's commits, with its owner: its `main` is not ours."""
    here, there = read.part(told, "repository", "id"), read.part(told, "head_repository")
    head = read.branch(read.part(told, "head_branch"))
    if here is None or head is None or not isinstance(told, dict) or "head_repository" not in told:
        return None
    if read.part(there, "id") == here:
        return None
    return f"{read.slug(read.part(there, 'owner', 'login')) or 'fork'}:{head}"[:255]


def _is_copy(job: dict[str, Any], run: dict[str, Any]) -> bool:
    """Whether a job was taken over from an earlier attempt, in which it was told of, by one that ran others again.

    Source: execRerunPlan in services/actions/rerun.go of Gitea 1.27, which copies such jobs with their times.
    """
    attempt = read.number(run.get("run_attempt"), 2, 100_000)
    started, began = read.time(job.get("started_at")), read.time(run.get("run_started_at") or run.get("started_at"))
    is_of_attempt = attempt is not None and read.number(job.get("run_attempt")) == attempt
    return is_of_attempt and started is not None and began is not None and started < began


class GitHubReader(ActionsReader):
    """GitHub and GitHub Enterprise Server, by token or App."""

    cloud_url = "https://api.github.com"
    credential_fields: Sequence[str] = ("token", "app_id", "private_key")
    prefix = "/api/v3"
    page_size: Mapping[str, str | int] = {"per_page": 100}
    ci = "github-actions"

    def refuse_later(self, api: Api, run: CIRun) -> None:
        """Never: each attempt of a job has an id of its own."""

    def connect(self, client: HttpClient, access: Access, run: CIRun | None = None) -> Api:
        """Open the API with a token, or with one of the App's installation that the event names."""
        headers = {"x-github-api-version": "2022-11-28", "accept": "application/vnd.github+json"}
        own = access.base_url.removesuffix("/")
        url = own + self.prefix if own and own != self.cloud_url else self.cloud_url
        api = Api(client, url, headers=headers)
        credentials = access.credentials
        if credentials.get("app_id") and credentials.get("private_key"):
            reference = run.log_reference if run is not None else {}
            token = installation_token(api, credentials, reference.get("repository"), reference.get("installation_id"))
            api.credentials = {"authorization": f"Bearer {token}"}
        elif credentials.get("token"):
            api.credentials = {"authorization": f"Bearer {credentials['token']}"}
        return api

    def fetch_file(self, api: Api, run: CIRun, path: str, commit: str) -> str | None:
        """A file as it is at a commit."""
        accept = "application/vnd.github.raw+json"
        answer = api.ask(f"/repos/{repository_of(run)}/contents/{path_of(path)}", {"ref": commit}, accept=accept)
        # A folder is answered with a list whatever was asked for.
        is_list = answer is not None and answer.headers.get("content-type", "").startswith("application/json")
        return None if answer is None or is_list else _text(answer.content)

    def fetch_changes(self, api: Api, run: CIRun, before: str, after: str) -> tuple[ChangedFile, ...] | None:
        """What differs between two commits; GitHub compares with where they parted, so both ways may be asked."""
        start = f"/repos/{repository_of(run)}/compare"
        ahead = api.get(f"{start}/{before}...{after}", {"per_page": 1})
        status = read.part(ahead, "status")
        if status == "identical":
            return ()
        mine = _files(ahead) if status in {"ahead", "diverged"} else {}
        theirs = (
            _files(api.get(f"{start}/{after}...{before}", {"per_page": 1})) if status in {"behind", "diverged"} else {}
        )
        if status not in {"ahead", "behind", "diverged"} or mine is None or theirs is None:
            return None
        changed = {path: one[0] for path, one in mine.items() if theirs.get(path) != one}
        undo = {"A": "D", "D": "A"}
        for path, (letter, _) in theirs.items():
            if path not in mine:
                changed[path] = undo.get(letter, "M")
            elif path in changed and changed[path] != "D":
                changed[path] = "A" if letter == "D" else "M"
        return tuple(ChangedFile(path, letter) for path, letter in sorted(changed.items()))


def _files(told: object) -> dict[str, tuple[str, str]] | None:
    """Status and content of each file by path; None where the list is cut or missing."""
    files = read.part(told, "files")
    if not isinstance(files, list) or len(files) >= MOST_FILES:
        return None
    found: dict[str, tuple[str, str]] = {}
    for row in files:
        name, status = read.part(row, "filename"), str(read.part(row, "status"))
        if not isinstance(name, str) or status == "unchanged":
            continue
        letter = _STATUS.get(status, "M")
        found[name] = (letter, "" if letter == "D" else str(read.part(row, "sha")))
        if status == "renamed" and isinstance(former := read.part(row, "previous_filename"), str):
            found.setdefault(former, ("D", ""))
    return found


def repository_of(run: CIRun) -> str:
    """The repository of a run, as a checked name. Raises NeverError."""
    name = run.log_reference.get("repository")
    if not isinstance(name, str) or read.full_name(name) is None:
        raise NeverError("The event does not say which repository its job belongs to.")
    return name


def _token(credentials: Mapping[str, str]) -> dict[str, str]:
    token = credentials.get("token")
    return {"authorization": f"token {token}"} if token else {}


def _text(content: bytes) -> str | None:
    return None if len(content) > FILE_BYTES or b"\0" in content else content.decode("utf-8", "replace")
