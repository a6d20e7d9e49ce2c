"""Docker Hub: a pushed tag links an image to the build that made it.

Docker Hub signs nothing and sends no header of its own: put a user and a password into the address, which are sent as
Basic authentication where the sender supports that, or let a proxy in front add the header. `callback_url` is never
called. Defined at https://docs.docker.com/docker-hub/repos/manage/webhooks/.
"""

from collections.abc import Sequence
from dataclasses import replace

from integrations.ci import _bodies as read
from integrations.ci._signatures import body_digest, verify_configured
from integrations.ci.base import CIRun, HookRequest, Ignored, PushedImage, Reader


class DockerHub:
    """The webhooks of Docker Hub."""

    schemes = ("header",)
    carries_log = False
    reader: Reader | None = None
    event_headers: frozenset[str] = frozenset()

    def verify(self, request: HookRequest, secrets: Sequence[str], now: float, scheme: str | None = None) -> str:
        """Compare the configured header; see `Provider.verify`."""
        verify_configured(request, secrets, "Docker Hub")
        return body_digest(request)

    def read_event(self, request: HookRequest, cap_bytes: int) -> CIRun | Ignored:
        """Read a pushed tag; see `Provider.read_event`."""
        event = read.load_event(request)
        name = read.text(read.part(event, "repository", "repo_name"), 300)
        tag = read.text(read.part(event, "push_data", "tag"), 128)
        if name is None or tag is None:
            return read.ignored("no tag", "this is no push of a tag.")
        run = read.job({"ci": "docker-hub", "image": name}, finished=read.part(event, "push_data", "pushed_at"))
        return replace(run, kind="image", images=(PushedImage(name=name, tag=tag, digest=None),))


PROVIDER = DockerHub()
