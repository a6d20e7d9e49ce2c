"""GitHub and GitHub Enterprise Server, by webhook or App: jobs of GitHub Actions and pushed container packages.

Reads `workflow_job` (one log each), `workflow_run` (names the pull request) and `package`/`registry_package` of
containers. Signed by `X-Hub-Signature-256: sha256=<hex of HMAC-SHA256 over the body>`; the SHA-1 header is never read.
Defined at https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from integrations.ci import _bodies as read
from integrations.ci._actions import read_job, read_run
from integrations.ci._actions_api import GitHubReader
from integrations.ci._signatures import delivery_of, verify_digest
from integrations.ci.base import CIRun, HookRequest, Ignored, PushedImage, Reader

_KINDS = (
    "workflow_job",
    "deployment_status",
    "deployment",
    "check_run",
    "workflow_run",
    "check_suite",
    "registry_package",
    "package",
    "pull_request",
)
_SIGNS = {"zen": "ping", "pusher": "push", "context": "status", "workflow": "workflow_dispatch"}
_REASONS = {
    "ping": "the address was set up; nothing was built.",
    "check_run": "it repeats what workflow_job says.",
    "check_suite": "it repeats what workflow_run says.",
}


class GitHub:
    """The webhooks of GitHub."""

    schemes = ("signature",)
    carries_log = False
    reader: Reader | None = GitHubReader()
    event_headers = frozenset({"x-github-event", "x-github-delivery"})

    def verify(self, request: HookRequest, secrets: Sequence[str], now: float, scheme: str | None = None) -> str:
        """Check the SHA-256 signature; see `Provider.verify`."""
        verify_digest(
            request, secrets, "X-Hub-Signature-256", "sha256=", "set a secret where the webhook is configured."
        )
        return delivery_of(request, "X-GitHub-Delivery")

    def read_event(self, request: HookRequest, cap_bytes: int) -> CIRun | Ignored:
        """Read a finished job or run, or a pushed image; see `Provider.read_event`."""
        event = read.load_event(request)
        kind = request.headers.get("x-github-event") or _kind_of(event)
        if kind == "workflow_job" and isinstance(event.get("workflow_job"), dict):
            return read_job(event, "github-actions")
        if kind == "workflow_run" and isinstance(event.get("workflow_run"), dict):
            return read_run(event, "github-actions")
        if kind in {"package", "registry_package"}:
            return _read_package(event, kind)
        return read.ignored(kind, _REASONS.get(kind, "events of this kind carry no build log."))


def _kind_of(event: dict[str, Any]) -> str:
    """Tell the kind of a body without its header.

    A job may carry its deployment, a deployment the run that made it, every delivery to an App its installation: so
    the order counts.
    """
    if found := next((kind for kind in _KINDS if kind in event), None):
        return found
    if found := next((kind for sign, kind in _SIGNS.items() if sign in event), None):
        return found
    return "installation" if "installation" in event and "repository" not in event else "unknown event"


def _read_package(event: dict[str, Any], kind: str) -> CIRun | Ignored:
    package, name = event.get(kind), f"{kind} {read.text(event.get('action'), 40) or ''}".strip()
    version = read.part(package, "package_version")
    container = read.part(version, "container_metadata")
    if event.get("action") != "published":
        return read.ignored(name, "only a published image is of use.")
    if not isinstance(container, dict):
        return read.ignored(name, f"a package of {read.text(read.part(package, 'package_type'), 40)} is no image.")
    tag = read.text(read.part(container, "tag", "name"), 128)
    digests = (read.part(version, "version"), read.part(container, "tag", "digest"))
    digest = next((found for one in digests if (found := read.digest(one))), None)
    if tag is None and digest is None:
        return read.ignored(name, "the image has neither a tag nor a digest.")
    address = read.text(read.part(version, "package_url"), 300)
    image = PushedImage(name=_image_name(address), tag=tag, digest=digest)
    run = read.job(
        {
            "ci": "github-actions",
            "repository": read.repository(read.part(event, "repository", "full_name")),
            "commit": _commit_of(version, container),
            "image": image.name,
        },
        finished=read.part(version, "created_at"),
    )
    return replace(run, kind="image", images=(image,))


def _commit_of(version: object, container: dict[str, Any]) -> str | None:
    """Return the commit that the image is labelled with, else the target; that may be a digest, which is longer."""
    label = read.part(container, "labels", "all_labels", "org.opencontainers.image.revision")
    for value in (label, read.part(container, "labels", "revision"), read.part(version, "target_oid")):
        if (found := read.commit(value)) and len(found) == 40:
            return found
    return None


def _image_name(address: str | None) -> str | None:
    """Return the address of an image without its tag: `ghcr.io/acme/shop:` and `ghcr.io/acme/shop:1.4` alike."""
    if address is None:
        return None
    folder, stroke, last = address.rpartition("/")
    return read.text(folder + stroke + last.partition(":")[0], 300)


PROVIDER = GitHub()
