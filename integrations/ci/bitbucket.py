"""Bitbucket Cloud: commit statuses that Bitbucket Pipelines set; there is no event of a pipeline itself.

Other tools set statuses as well, and so do we: only one whose address is that of a pipeline has a log. Signed by
`X-Hub-Signature: sha256=<hex of HMAC-SHA256 over the body>`, the header in which GitHub once sent SHA-1. Defined at
https://support.atlassian.com/bitbucket-cloud/docs/event-payloads/.
"""

import re
from collections.abc import Sequence

from integrations.ci import _bodies as read
from integrations.ci._other_apis import BitbucketReader
from integrations.ci._signatures import delivery_of, verify_digest
from integrations.ci.base import CIRun, HookRequest, Ignored, Reader

_OUTCOMES = {"SUCCESSFUL": "succeeded", "FAILED": "failed", "STOPPED": "canceled"}
_PIPELINE = re.compile(
    r"https://bitbucket\.org/([^/]{1,100})/([^/]{1,100})/(?:addon/)?pipelines/(?:home#!/)?results/([0-9]{1,9})"
)
_COMMIT = re.compile(r".{0,500}/commit/([0-9a-f]{7,64})\Z")


class Bitbucket:
    """The webhooks of Bitbucket."""

    schemes = ("signature",)
    carries_log = False
    reader: Reader | None = BitbucketReader()
    event_headers = frozenset({"x-event-key", "x-request-uuid", "x-attempt-number"})

    def verify(self, request: HookRequest, secrets: Sequence[str], now: float, scheme: str | None = None) -> str:
        """Check the SHA-256 signature; Data Center calls the delivery X-Request-Id. See `Provider.verify`."""
        verify_digest(request, secrets, "X-Hub-Signature", "sha256=", "set a secret where the webhook is configured.")
        return delivery_of(request, "X-Request-UUID", "X-Request-Id")

    def read_event(self, request: HookRequest, cap_bytes: int) -> CIRun | Ignored:
        """Read the last status of a pipeline; see `Provider.read_event`."""
        event = read.load_event(request)
        told = event.get("commit_status")
        if not isinstance(told, dict):
            kind = request.headers.get("x-event-key") or read.guess(event)
            return read.ignored(kind, "events of this kind carry no build log.")
        state = read.text(told.get("state"), 40)
        name = f"commit_status {state or ''}".strip()
        if state not in _OUTCOMES:
            return read.ignored(name, "it has not finished yet; another event follows.")
        address = told.get("url")
        pipeline = _PIPELINE.match(address) if isinstance(address, str) else None
        if pipeline is None:
            return read.ignored(name, "another tool than Bitbucket Pipelines set it, so there is no log to ask for.")
        link = read.part(told, "links", "commit", "href")
        linked = _COMMIT.match(link) if isinstance(link, str) else None
        return read.job(
            {
                "ci": "bitbucket",
                "repository": read.repository(read.part(event, "repository", "full_name")),
                "commit": read.commit(read.part(told, "commit", "hash")) or read.commit(linked and linked[1]),
                "branch": read.branch(told.get("refname")),
                "job": read.text(told.get("name")) or read.text(told.get("key")),
                "outcome": _OUTCOMES[state],
                "run_url": read.url(address),
            },
            started=told.get("created_on"),
            finished=told.get("updated_on"),
            reference=read.pick(
                workspace=read.slug(pipeline[1]),
                repository=read.slug(pipeline[2]),
                build_number=read.identity(pipeline[3]),
            ),
        )


PROVIDER = Bitbucket()
