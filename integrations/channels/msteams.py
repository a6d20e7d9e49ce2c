"""Microsoft Teams: an adaptive card to the address of a workflow ("Send webhook alerts to a channel").

https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using
"""

from typing import Any

from pydantic import BaseModel, Field, SecretStr, field_validator

from integrations.channels._posting import post, read_address
from integrations.channels.base import Context, Notice, Receipt

_COLOURS = {"opened": "Attention", "reopened": "Attention", "reminder": "Warning", "resolved": "Good"}


class TeamsConfig(BaseModel):
    """The address of the workflow."""

    url: SecretStr = Field(title="Address of the workflow's webhook")

    @field_validator("url")
    @classmethod
    def readable(cls, value: SecretStr) -> SecretStr:
        """An address that can be called."""
        return SecretStr(read_address(value.get_secret_value()))


class Teams:
    """A card with the sentence, the lines and the link."""

    title = "Microsoft Teams"
    Config = TeamsConfig

    def render(self, config: TeamsConfig, notice: Notice) -> dict[str, Any]:
        """An adaptive card; its texts know a little Markdown, which is escaped."""
        head = {
            "type": "TextBlock",
            "text": escape(notice.title),
            "weight": "Bolder",
            "wrap": True,
            "color": _COLOURS.get(notice.kind, "Default"),
        }
        lines = [{"type": "TextBlock", "text": escape(line), "wrap": True} for line in notice.lines]
        card = {
            "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
            "type": "AdaptiveCard",
            "version": "1.4",
            "body": [head, *lines],
            "actions": [{"type": "Action.OpenUrl", "title": notice.link, "url": notice.url}],
        }
        attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
        return {"type": "message", "attachments": [attachment]}

    def send(self, config: TeamsConfig, notice: Notice, context: Context) -> Receipt:
        """Post the card."""
        answer = post(context, config.url.get_secret_value(), json=self.render(config, notice))
        return Receipt(str(answer.status))


def escape(text: str) -> str:
    """Take from Markdown the signs that it knows."""
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]()#+!~>|<" else letter for letter in text)


CHANNEL = Teams()
