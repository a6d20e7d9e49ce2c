"""Harbor: a pushed artifact, as its own JSON or as a CloudEvent, links an image to the build that made it.

Harbor signs nothing; what is typed into Auth Header is sent as `Authorization`. An artifact without a tag has its
digest in the tag's place. Defined at
https://goharbor.io/docs/latest/working-with-projects/project-configuration/configure-webhooks/.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cachescope.errors import UnreadableInputError
from integrations.ci import _bodies as read
from integrations.ci._signatures import delivery_in, verify_configured
from integrations.ci.base import CIRun, HookRequest, Ignored, PushedImage, Reader

_PUSHES = frozenset({"PUSH_ARTIFACT", "pushImage", "harbor.artifact.pushed"})


class Harbor:
    """The webhooks of Harbor."""

    schemes = ("header",)
    carries_log = False
    reader: Reader | None = None
    event_headers: frozenset[str] = frozenset()

    def verify(self, request: HookRequest, secrets: Sequence[str], now: float, scheme: str | None = None) -> str:
        """Compare the configured header; a CloudEvent names its id in the body. See `Provider.verify`."""
        verify_configured(request, secrets, "Harbor")
        try:
            event = read.load_event(request)
        except UnreadableInputError:
            event = {}
        return delivery_in(request, event.get("id") if "specversion" in event else None)

    def read_event(self, request: HookRequest, cap_bytes: int) -> CIRun | Ignored:
        """Read a pushed artifact; see `Provider.read_event`."""
        event = read.load_event(request)
        kind = read.text(event.get("type"), 60) or "unknown event"
        if kind not in _PUSHES:
            return read.ignored(kind, "only pushed artifacts tell of a new image.")
        told = event.get("data") if "specversion" in event else event.get("event_data")
        images = tuple(_image(one, told) for one in read.rows(read.part(told, "resources")))
        if not images:
            raise UnreadableInputError("The event of a pushed artifact names none (resources).")
        run = read.job({"ci": "harbor", "image": images[0].name}, finished=event.get("occur_at") or event.get("time"))
        return replace(run, kind="image", images=images)


def _image(resource: dict[str, Any], told: object) -> PushedImage:
    digest, tag = read.digest(resource.get("digest")), read.text(resource.get("tag"), 128)
    address = read.text(resource.get("resource_url"), 500)
    if address is not None:
        folder, stroke, last = address.partition("@")[0].rpartition("/")
        name: str | None = folder + stroke + last.partition(":")[0]
    else:
        name = read.text(read.part(told, "repository", "repo_full_name"), 300)
    is_digest = tag is not None and tag.startswith("sha256:")
    return PushedImage(name=read.text(name, 300), tag=None if is_digest else tag, digest=digest)


PROVIDER = Harbor()
