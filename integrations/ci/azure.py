"""Azure DevOps: `build.complete` of a service hook, of today's pipelines and of the old XAML builds.

Of a pull request `sourceVersion` is the merge; `triggerInfo` names the commit that somebody wrote. Azure signs nothing:
a service hook sends Basic authentication or headers of one's own. Defined at
https://learn.microsoft.com/azure/devops/service-hooks/events#build.complete.
"""

from collections.abc import Sequence
from typing import Any

from cachescope.errors import UnreadableInputError
from integrations.ci import _bodies as read
from integrations.ci._other_apis import AzureReader
from integrations.ci._signatures import delivery_in, verify_configured
from integrations.ci.base import CIRun, HookRequest, Ignored, Reader

_OUTCOMES = {
    "succeeded": "succeeded",
    "partiallysucceeded": "succeeded",  # every step that must not fail went through
    "failed": "failed",
    "canceled": "canceled",
    "stopped": "canceled",
}


class Azure:
    """The service hooks of Azure DevOps."""

    schemes = ("header",)
    carries_log = False
    reader: Reader | None = AzureReader()
    event_headers: frozenset[str] = frozenset()

    def verify(self, request: HookRequest, secrets: Sequence[str], now: float, scheme: str | None = None) -> str:
        """Compare the configured header; the id of the delivery stands in the body. See `Provider.verify`."""
        verify_configured(request, secrets, "Azure DevOps")
        try:
            return delivery_in(request, read.load_event(request).get("id"))
        except UnreadableInputError:
            return delivery_in(request, None)

    def read_event(self, request: HookRequest, cap_bytes: int) -> CIRun | Ignored:
        """Read a completed build; see `Provider.read_event`."""
        event = read.load_event(request)
        kind = read.text(event.get("eventType"), 80) or "unknown event"
        if kind != "build.complete":
            return read.ignored(kind, "choose the event Build completed where the service hook is set up.")
        told = event.get("resource")
        if not isinstance(told, dict):
            raise UnreadableInputError('The event has no object "resource": let it send all resource details.')
        status, result = (read.text(told.get(name), 40) or "" for name in ("status", "result"))
        if (result or status).lower() in {"inprogress", "notstarted", "postponed", "cancelling", "none"}:
            return read.ignored(f"{kind}: {result or status}", "it has not finished yet; another event follows.")
        return _read_build(event, told, _OUTCOMES.get((result or status).lower()))


def _read_build(event: dict[str, Any], told: dict[str, Any], outcome: str | None) -> CIRun:
    build_id = read.identity(told.get("id"))
    if build_id is None:
        raise UnreadableInputError("The event names a completed build without its id (resource.id).")
    trigger, version = told.get("triggerInfo"), told.get("sourceVersion")
    ref = told.get("sourceBranch")
    if isinstance(old := told.get("sourceGetVersion"), str) and old.startswith("LG:"):
        ref, _, version = old.removeprefix("LG:").partition(":")
    pull = read.number(read.part(trigger, "pr.number")) or read.pull_request(ref)
    head = read.part(trigger, "pr.sourceSha")
    return read.job(
        {
            "ci": "azure",
            "repository": _repository(told),
            "commit": read.commit(head) or (None if pull else read.commit(version)),
            "branch": read.branch(read.part(trigger, "pr.sourceBranch")) or read.branch(ref),
            "pull_request": pull,
            "job": read.text(read.part(told, "definition", "name")),
            "outcome": outcome,
            "run_url": read.url(read.part(told, "_links", "web", "href")) or read.url(told.get("url")),
        },
        started=told.get("startTime"),
        finished=told.get("finishTime"),
        reference=read.pick(
            build_id=build_id,
            project_id=read.uuid(read.part(told, "project", "id"))
            or read.uuid(read.part(event, "resourceContainers", "project", "id")),
        ),
    )


def _repository(told: dict[str, Any]) -> str | None:
    """Return the repository; one of Azure Repos is named by its project too, as its own name is not unique."""
    name, project = read.part(told, "repository", "name"), read.part(told, "project", "name")
    if read.part(told, "repository", "type") == "TfsGit" and isinstance(name, str) and isinstance(project, str):
        return read.repository(f"{project}/{name}")
    # Of GitHub and Bitbucket the id is the name, of another server the address, and of Azure Repos a UUID.
    identity = read.part(told, "repository", "id")
    is_named = isinstance(identity, str) and "/" in identity
    return read.repository(name) or (read.repository(identity) if is_named else None)


PROVIDER = Azure()
