"""Buildbot: finished builds as `HttpStatusPush` sends them.

A body with `"complete": false` comes first. A property is a pair of its value and who set it; times are seconds since
1970. Cancelled builds are told only where the generator has `mode="all"`. Buildbot signs nothing: `auth=` is Basic,
`headers=` is any header. Source: buildbot/reporters/http.py; bodies recorded from Buildbot 4.3.
"""

from collections.abc import Sequence
from typing import Any

from integrations.ci import _bodies as read
from integrations.ci._buildbot_api import BuildbotReader
from integrations.ci._signatures import body_digest, verify_configured
from integrations.ci.base import CIRun, HookRequest, Ignored, Reader

_OUTCOMES = {0: "succeeded", 1: "succeeded", 2: "failed", 4: "failed", 6: "canceled"}  # 1 is with warnings


class Buildbot:
    """The status pushes of Buildbot."""

    schemes = ("header",)
    carries_log = False
    reader: Reader | None = BuildbotReader()
    event_headers: frozenset[str] = frozenset()

    def verify(self, request: HookRequest, secrets: Sequence[str], now: float, scheme: str | None = None) -> str:
        """Compare the configured header; see `Provider.verify`."""
        verify_configured(request, secrets, "Buildbot")
        return body_digest(request)

    def read_event(self, request: HookRequest, cap_bytes: int) -> CIRun | Ignored:
        """Read a finished build; see `Provider.read_event`."""
        return read_finished(read.load_event(request))


def read_finished(event: dict[str, Any]) -> CIRun | Ignored:
    """Read a build as webhooks and the API tell of it."""
    build_id = read.identity(event.get("buildid"))
    if build_id is None:
        return read.ignored("no buildid", "only what Buildbot says of single builds has a log.")
    results = read.number(event.get("results"), 0, 100)
    if event.get("complete") is not True:
        return read.ignored("build started", "it has not finished yet; another event follows.")
    if results == 3:
        return read.ignored("build skipped", "it did not run, so it has no log.")
    if results == 5:
        return read.ignored("build to be retried", "Buildbot runs it again; that build has an event of its own.")
    return _read_build(event, build_id, None if results is None else _OUTCOMES.get(results))


def _read_build(event: dict[str, Any], build_id: int, outcome: str | None) -> CIRun:
    stamp = _source_stamp(event)
    ref = _property(event, "branch") or stamp.get("branch")
    pull = read.number(_property(event, "github.number")) or read.pull_request(ref)
    revision = _property(event, "got_revision")
    if isinstance(revision, dict):  # one for each codebase
        codebase = stamp.get("codebase")
        revision = revision.get(codebase) if isinstance(codebase, str) else None
    name = read.part(event, "builder", "name") or _property(event, "buildername")
    return read.job(
        {
            "ci": "buildbot",
            "repository": read.repository(stamp.get("repository") or _property(event, "repository"))
            or read.repository(stamp.get("project") or _property(event, "project")),
            "commit": read.commit(revision)
            or read.commit(_property(event, "revision"))
            or read.commit(stamp.get("revision")),
            "branch": read.branch(_property(event, "github.head.ref")) or read.branch(ref),
            "base_branch": read.branch(_property(event, "github.base.ref")),
            "pull_request": pull,
            "job": read.text(name),
            "runner": read.text(_property(event, "workername")),
            "outcome": outcome,
            "run_url": read.url(event.get("url")),
        },
        started=event.get("started_at"),
        finished=event.get("complete_at"),
        reference=read.pick(
            build_id=build_id,
            builder_id=read.identity(event.get("builderid")),
            build_number=read.identity(event.get("number")),
        ),
    )


def _property(event: dict[str, Any], name: str) -> Any:
    """Return the value of a property, which comes as `[value, source]`."""
    return read.part(event, "properties", name, 0)


def _source_stamp(event: dict[str, Any]) -> dict[str, Any]:
    """Return what was built: the stamp without a codebase, else the first that names a repository, else the first."""
    stamps = read.rows(read.part(event, "buildset", "sourcestamps"))
    ranked = sorted(stamps, key=lambda stamp: (not stamp.get("repository"), stamp.get("codebase") != ""))
    return ranked[0] if ranked else {}


PROVIDER = Buildbot()
