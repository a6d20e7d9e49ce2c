"""Gitea: jobs and runs of Gitea Actions, which are told in the words of GitHub.

Signed by `X-Gitea-Signature: <hex of HMAC-SHA256 over the body>`, without a prefix. Gitea sends headers that look like
GitHub's too, empty when the webhook has no secret: they are not read. Source: go-gitea services/webhook/deliver.go.
"""

from collections.abc import Sequence

from integrations.ci import _bodies as read
from integrations.ci._actions import read_job, read_run
from integrations.ci._actions_api import ActionsReader
from integrations.ci._signatures import delivery_of, verify_digest
from integrations.ci.base import CIRun, HookRequest, Ignored, Reader


class Gitea:
    """The webhooks of Gitea."""

    schemes = ("signature",)
    carries_log = False
    reader: Reader | None = ActionsReader()
    event_headers = frozenset({"x-gitea-event", "x-gitea-delivery"})

    def verify(self, request: HookRequest, secrets: Sequence[str], now: float, scheme: str | None = None) -> str:
        """Check the signature; see `Provider.verify`."""
        verify_digest(request, secrets, "X-Gitea-Signature", "", "set a secret where the webhook is configured.")
        return delivery_of(request, "X-Gitea-Delivery")

    def read_event(self, request: HookRequest, cap_bytes: int) -> CIRun | Ignored:
        """Read a finished job or run; see `Provider.read_event`."""
        event = read.load_event(request)
        if isinstance(event.get("workflow_job"), dict):
            return read_job(event, "gitea")
        if isinstance(event.get("workflow_run"), dict):
            return read_run(event, "gitea")
        kind = request.headers.get("x-gitea-event") or read.guess(event)
        return read.ignored(kind, "events of this kind carry no build log.")


PROVIDER = Gitea()
