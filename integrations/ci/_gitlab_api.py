"""Reading from GitLab: traces of jobs, changed files, files.

Source: https://docs.gitlab.com/api/. A running job's trace is a part of it, so the job is asked first whether it has
ended. GitLab sends its webhooks again itself when they are asked for, so there is nothing to reconcile.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from cachescope.evidence import ChangedFile
from integrations.ci import _bodies as read
from integrations.ci._api import FILE_BYTES, Api, NeverError, NotYetError, part
from integrations.ci.base import Access, CIRun
from integrations.http import HttpClient

_ENDED = frozenset({"success", "failed", "canceled", "skipped"})


class GitLabReader:
    """GitLab.com and installations of one's own."""

    cloud_url = "https://gitlab.com"
    credential_fields: Sequence[str] = ("token",)
    needs_credentials = True

    def connect(self, client: HttpClient, access: Access, run: CIRun | None = None) -> Api:
        """Open the API with a personal, project or group token."""
        token = access.credentials.get("token")
        return Api(client, f"{access.base_url or self.cloud_url}/api/v4", {"private-token": token} if token else {})

    def describe(self, api: Api, run: CIRun) -> Mapping[str, object]:
        """Ask for the merge request of the commit, which no job names."""
        commit = run.parameters.get("commit")
        if run.parameters.get("pull_request") or not commit:
            return {}
        told = api.get(f"{_project(run)}/repository/commits/{commit}/merge_requests")
        for merge in read.rows(told):
            if merge.get("state") == "opened" and merge.get("source_branch") == run.parameters.get("branch"):
                return read.pick(
                    pull_request=read.number(merge.get("iid")), base_branch=read.branch(merge.get("target_branch"))
                )
        return {}

    def read_log(self, api: Api, run: CIRun, cap_bytes: int, tries: int) -> Iterator[bytes]:
        """Read the trace of a job that has ended."""
        job_id = run.log_reference.get("job_id")
        if job_id is None:
            raise NeverError("The event does not say which job it is about.")
        place = f"{_project(run)}/jobs/{job_id}"
        job = api.get(place)
        if job is None:
            raise NeverError("There is no such job, or the token may not see it.")
        if read.part(job, "status") not in _ENDED:
            raise NotYetError("The job has not ended yet.")
        pieces = api.pieces(f"{place}/trace", cap_bytes)
        first = next(pieces, b"") if pieces is not None else b""
        if pieces is None or not first:
            if read.part(job, "erased_at"):
                raise NeverError("Its log was erased.")
            raise NotYetError("Its log is not there yet.")
        return _with(first, pieces)

    def fetch_changes(self, api: Api, run: CIRun, before: str, after: str) -> tuple[ChangedFile, ...] | None:
        """What differs between two commits themselves, not since they parted."""
        query = {"from": before, "to": after, "straight": "true"}
        told = api.get(f"{_project(run)}/repository/compare", query)
        diffs = read.part(told, "diffs")
        if not isinstance(diffs, list) or read.part(told, "compare_timeout"):
            return None
        if len(diffs) >= 1000 or any(read.part(row, "overflow") for row in diffs):
            return None
        files: dict[str, str] = {}
        for row in diffs:
            old, new = read.part(row, "old_path"), read.part(row, "new_path")
            if not isinstance(old, str) or not isinstance(new, str):
                return None
            is_new, is_gone = read.part(row, "new_file") is True, read.part(row, "deleted_file") is True
            files[new] = "A" if is_new or old != new else "D" if is_gone else "M"
            if old != new:
                files.setdefault(old, "D")
        return tuple(ChangedFile(path, status) for path, status in sorted(files.items()))

    def fetch_file(self, api: Api, run: CIRun, path: str, commit: str) -> str | None:
        """A file as it is at a commit."""
        answer = api.ask(f"{_project(run)}/repository/files/{part(path)}/raw", {"ref": commit})
        if answer is None or len(answer.content) > FILE_BYTES or b"\0" in answer.content:
            return None
        return answer.content.decode("utf-8", "replace")

    def list_finished(self, api: Api, repositories: Sequence[str], since: datetime) -> Iterator[CIRun]:
        """Nothing: see the module."""
        return iter(())


def _project(run: CIRun) -> str:
    project_id = run.log_reference.get("project_id")
    if project_id is None:
        raise NeverError("The event does not say which project its job belongs to.")
    return f"/projects/{project_id}"


def _with(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest
