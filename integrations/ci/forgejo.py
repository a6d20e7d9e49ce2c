"""Forgejo: runs of Forgejo Actions, told as `action_run_success`, `action_run_failure` and `action_run_recover`.

There are no events of single jobs. `recover` is a success after a failure. Signed by `X-Forgejo-Signature: <hex of
HMAC-SHA256 over the body>`; the same value in X-Gitea-Signature is not read. Source: forgejo services/webhook and
modules/structs/hook.go. The API lists the jobs of a run, and hands out their logs, from Forgejo 16 on
(routers/api/v1/repo/action.go); files and comparisons are asked for as at Gitea.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

import orjson

from cachescope.errors import TooLargeError, UnreadableInputError
from integrations.ci import _bodies as read
from integrations.ci._actions import NEVER_RAN, NOT_YET, OUTCOMES
from integrations.ci._actions_api import ActionsReader, repository_of
from integrations.ci._api import Api, NeverError, NotYetError
from integrations.ci._signatures import delivery_of, verify_digest
from integrations.ci.base import CIRun, HookRequest, Ignored, Reader

_ACTIONS = {"success": "success", "recover": "success", "failure": "failure", "cancelled": "cancelled"}
_UNFINISHED = frozenset({"running", "waiting", "blocked", "unknown"})
_MOST_JOBS = 200
_STAMP = 64
"""Where the time ends at the latest that each line of a log begins with."""
_CLOCKS = timedelta(minutes=1)
"""How far the clocks of runners, which stamp logs, may be behind."""
_PATIENT_TRIES = 2
"""Until this try a run is waited for in which the log of any job is missing; then what is there is taken."""


class ForgejoReader(ActionsReader):
    """Forgejo, whose runs are told in words of its own and whose jobs are known to its API alone."""

    ci = "forgejo"

    def describe(self, api: Api, run: CIRun) -> Mapping[str, object]:
        """Ask for what a webhook leaves out: who started the run, and how often its jobs have been run."""
        run_id = run.log_reference.get("run_id")
        start = f"/repos/{repository_of(run)}/actions/runs/{run_id}"
        told = api.get(start) if run_id else None
        attempts = [_attempt(job) for job in read.rows(api.get(f"{start}/jobs"))] if told is not None else []
        return read.pick(
            actor=read.text(read.part(told, "trigger_user", "login")),
            attempt=max((attempt for attempt in attempts if attempt is not None), default=None),
        )

    def read_log(self, api: Api, run: CIRun, cap_bytes: int, tries: int) -> Iterator[bytes]:
        """Read the logs of the jobs of a run in their order, each as of its last attempt.

        Of a run of which some jobs were run again, only these: the others have been told of.
        """
        repository, run_id = repository_of(run), run.log_reference.get("run_id")
        if run_id is None:
            raise NeverError("The event does not say which run it is about.")
        start = f"/repos/{repository}/actions"
        told = api.get(f"{start}/runs/{run_id}/jobs")
        now = api.get(f"{start}/runs/{run_id}")
        if told is None:
            if now is not None:
                raise NeverError(
                    "It hands out no logs of jobs: that begins with Forgejo 16. Send them with `cachescope push`."
                )
            raise NotYetError("Its jobs are not there (yet).")
        began, again = run.log_reference.get("began"), read.time(read.part(now, "started"))
        if isinstance(began, int) and again is not None and int(again.timestamp()) > began:
            raise NeverError("It was run again, and its logs are those of a later attempt.")
        jobs = [job for job in read.rows(told)[:_MOST_JOBS] if job.get("status") != "skipped"]
        ids = [job_id for job in jobs if (job_id := read.identity(job.get("id"))) is not None]
        is_again = any((_attempt(job) or 1) > 1 for job in jobs)
        since = run.started_at - _CLOCKS if is_again and run.started_at is not None else None
        return _logs(api, [f"{start}/jobs/{job_id}/logs" for job_id in ids], cap_bytes, tries, since)

    def list_finished(self, api: Api, repositories: Sequence[str], since: datetime) -> Iterator[CIRun]:
        """The runs that ended after a time."""
        for name in repositories:
            if read.full_name(name) is None:
                continue
            for told in api.rows(f"/repos/{name}/actions/runs", "workflow_runs", self.page_size):
                created = read.time(told.get("created"))
                if created is not None and (since - created).days >= 2:
                    break  # newest first; what began two days before has ended, or is told by its own event
                run = _read_run({"repository": told.get("repository") or {"full_name": name}}, told)
                if isinstance(run, CIRun) and run.finished_at is not None and run.finished_at >= since:
                    yield run


def _attempt(job: dict[str, Any]) -> int | None:
    return read.number(job.get("attempt"), 1, 100_000)


def _logs(api: Api, paths: Sequence[str], cap_bytes: int, tries: int, since: datetime | None = None) -> Iterator[bytes]:
    """The logs of several jobs as one, under one cap; those that began before a time are left out."""
    left, found = cap_bytes, 0
    for path in paths:
        pieces = api.pieces(path, left)
        if pieces is None:
            if tries < _PATIENT_TRIES:
                raise NotYetError("The log of one of its jobs is not there yet.")
            continue
        found += 1
        first = next(pieces, b"")
        began = read.time(first[:_STAMP].partition(b" ")[0].decode("ascii", "replace"))
        if since is not None and began is not None and began < since:
            pieces.close()
            continue
        for piece in chain([first], pieces):
            left -= len(piece)
            yield piece
        left -= 1
        if left < 0:
            raise TooLargeError("The logs of its jobs are together larger than a log may be.")
        yield b"\n"
    if not found:
        raise NotYetError("No job of it has a log (yet).")


class Forgejo:
    """The webhooks of Forgejo."""

    schemes = ("signature",)
    carries_log = False
    reader: Reader | None = ForgejoReader()
    event_headers = frozenset({"x-forgejo-event", "x-forgejo-delivery"})

    def verify(self, request: HookRequest, secrets: Sequence[str], now: float, scheme: str | None = None) -> str:
        """Check the signature; see `Provider.verify`."""
        verify_digest(request, secrets, "X-Forgejo-Signature", "", "set a secret where the webhook is configured.")
        return delivery_of(request, "X-Forgejo-Delivery")

    def read_event(self, request: HookRequest, cap_bytes: int) -> CIRun | Ignored:
        """Read a finished run; see `Provider.read_event`."""
        event = read.load_event(request)
        told = event.get("run")
        if not isinstance(told, dict):
            return read.ignored(
                request.headers.get("x-forgejo-event") or read.guess(event), "events of this kind carry no build log."
            )
        return _read_run(event, told)


def _read_run(event: dict[str, Any], told: dict[str, Any]) -> CIRun | Ignored:
    action, status = event.get("action"), read.text(told.get("status"), 40)
    name = f"action_run {read.text(action, 40) or ''}".strip()
    conclusion = _ACTIONS.get(action) if isinstance(action, str) else None
    if status in OUTCOMES or status in NEVER_RAN:
        conclusion = status
    if conclusion in NEVER_RAN:
        return read.ignored(name, NEVER_RAN[conclusion])
    if conclusion is None or status in _UNFINISHED:
        return read.ignored(name, NOT_YET)
    run_id = read.identity(told.get("id"))
    if run_id is None:
        raise UnreadableInputError("The event names a finished run without its id (run.id).")
    home = event.get("repository") if isinstance(event.get("repository"), dict) else told.get("repository")
    ref = told.get("prettyref") or told.get("head_branch") or told.get("ref")
    payload = _payload(told)
    pull = read.part(payload, "pull_request")
    run = read.job(
        {
            "ci": "forgejo",
            "repository": read.repository(read.part(home, "full_name")),
            "commit": read.commit(told.get("commit_sha") or told.get("head_sha")),
            "branch": read.branch(read.part(pull, "head", "ref")) or (None if _is_tag(payload) else _branch(ref)),
            "base_branch": read.branch(read.part(pull, "base", "ref")),
            "default_branch": read.branch(read.part(home, "default_branch")),
            "pull_request": read.number(read.part(pull, "number")) or _number(ref),
            "job": read.text(told.get("workflow_id") or told.get("workflow_name")),
            "outcome": OUTCOMES[conclusion],
            "run_url": read.url(told.get("html_url")),
        },
        started=told.get("started") or told.get("run_started_at") or told.get("created"),
        finished=told.get("stopped") or told.get("updated") or told.get("updated_at"),
        reference=read.pick(
            run_id=run_id,
            run_number=read.identity(told.get("index_in_repo")),
            # A run that is run again keeps its id and counts nothing; its start is set anew.
            began=int(began.timestamp()) if (began := read.time(told.get("started"))) is not None else None,
            repository=read.full_name(read.part(home, "full_name")),
        ),
    )
    return replace(run, kind="run")


def _branch(ref: object) -> str | None:
    """Return the branch; a pull request is written `#12` here."""
    return None if isinstance(ref, str) and ref.startswith("#") else read.branch(ref)


def _number(ref: object) -> int | None:
    if isinstance(ref, str) and ref.startswith("#"):
        return read.number(ref[1:])
    return read.pull_request(ref)


def _payload(told: dict[str, Any]) -> object:
    """Return the event that started the run, which lies in the body as JSON within JSON."""
    payload = told.get("event_payload")
    if not isinstance(payload, str):
        return None
    try:
        return orjson.loads(payload)
    except ValueError:  # orjson's error is one; a lone surrogate raises it as well
        return None


def _is_tag(payload: object) -> bool:
    """Whether a tag started the run: `prettyref` writes tags and branches alike."""
    ref = read.part(payload, "ref")
    return read.part(payload, "ref_type") == "tag" or (isinstance(ref, str) and ref.startswith("refs/tags/"))


PROVIDER = Forgejo()
