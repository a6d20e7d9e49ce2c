"""PagerDuty and whatever takes its Events API v2: one incident there for one here, resolved with it.

https://developer.pagerduty.com/docs/send-alert-event
"""

from typing import Any

from pydantic import BaseModel, Field, SecretStr, field_validator

from integrations.channels._posting import post, read_address
from integrations.channels.base import Context, Notice, Receipt

_SEVERITIES = {"high": "error", "medium": "warning", "low": "info"}


class PagerDutyConfig(BaseModel):
    """The key of an integration, and where events go."""

    routing_key: SecretStr = Field(title="Integration key (Events API v2)", min_length=1, max_length=200)
    url: str = Field(default="https://events.pagerduty.com/v2/enqueue", title="Address")

    @field_validator("url")
    @classmethod
    def readable(cls, value: str) -> str:
        """An address that can be called."""
        return read_address(value)


class PagerDuty:
    """Events with the incident as their key: what comes twice changes nothing there."""

    title = "PagerDuty events"
    Config = PagerDutyConfig

    def render(self, config: PagerDutyConfig, notice: Notice) -> dict[str, Any]:
        """An event that triggers or resolves."""
        return {
            "event_action": "resolve" if notice.kind == "resolved" else "trigger",
            "dedup_key": f"cachescope-{notice.subject or notice.id}",
            "client": "Cachescope",
            "client_url": notice.url,
            "links": [{"href": notice.url, "text": notice.link}],
            "payload": {
                "summary": notice.title[:1024],
                "source": str(notice.document.get("repository") or "cachescope"),
                "severity": _SEVERITIES[notice.severity],
                "timestamp": notice.at or None,
                "custom_details": {"lines": list(notice.lines), **notice.document},
            },
        }

    def send(self, config: PagerDutyConfig, notice: Notice, context: Context) -> Receipt:
        """Send the event with the key of the integration."""
        body = {"routing_key": config.routing_key.get_secret_value(), **self.render(config, notice)}
        return Receipt(str(post(context, config.url, json=body).status))


CHANNEL = PagerDuty()
