"""Notifications of the OCI registry (distribution): a pushed tag links an image to the build that made it.

One push is many events, most of them for blobs; only the push of a manifest with a tag counts. The registry signs
nothing and sends the static headers of its configuration, such as `Authorization: Bearer …`. It keeps an event and
tries again for ever when it is refused. Defined at https://distribution.github.io/distribution/about/notifications/.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cachescope.errors import UnreadableInputError
from integrations.ci import _bodies as read
from integrations.ci._signatures import delivery_in, verify_configured
from integrations.ci.base import CIRun, HookRequest, Ignored, PushedImage, Reader

_MANIFESTS = (
    "application/vnd.docker.distribution.manifest.",
    "application/vnd.oci.image.manifest.",
    "application/vnd.oci.image.index.",
)


class Registry:
    """The notifications of a registry."""

    schemes = ("header",)
    carries_log = False
    reader: Reader | None = None
    event_headers: frozenset[str] = frozenset()

    def verify(self, request: HookRequest, secrets: Sequence[str], now: float, scheme: str | None = None) -> str:
        """Compare the configured header; the id is that of the event, of which one comes in a request."""
        verify_configured(request, secrets, "A registry")
        try:
            events = read.rows(read.load_event(request).get("events"))
        except UnreadableInputError:
            events = []
        return delivery_in(request, events[0].get("id") if len(events) == 1 else None)

    def read_event(self, request: HookRequest, cap_bytes: int) -> CIRun | Ignored:
        """Read pushed tags; see `Provider.read_event`."""
        event = read.load_event(request)
        if not isinstance(event.get("events"), list):
            raise UnreadableInputError('The body has no list "events": this is no notification of a registry.')
        events = read.rows(event["events"])
        pushed = [one for one in events if _why_not(one) is None]
        if not pushed:
            first = events[0] if events else {}
            return read.ignored(first.get("action"), (_why_not(first) if first else None) or "there is no event in it.")
        images = tuple(_image(one) for one in pushed)
        run = read.job({"ci": "registry", "image": images[0].name}, finished=pushed[0].get("timestamp"))
        return replace(run, kind="image", images=images)


def _why_not(event: dict[str, Any]) -> str | None:
    media = read.part(event, "target", "mediaType")
    if event.get("action") != "push":
        return "only pushes tell of a new image."
    if not isinstance(media, str) or not media.startswith(_MANIFESTS):
        return "it is a blob, a part of an image."
    if read.text(read.part(event, "target", "tag")) is None:
        return "it has no tag; the manifest that names it follows."
    return None


def _image(event: dict[str, Any]) -> PushedImage:
    host = read.text(read.part(event, "request", "host"), 255)
    name = read.text(read.part(event, "target", "repository"), 255)
    return PushedImage(
        name=read.text(f"{host}/{name}" if host and name else name, 300),
        tag=read.text(read.part(event, "target", "tag"), 128),
        digest=read.digest(read.part(event, "target", "digest")),
    )


PROVIDER = Registry()
