"""Slack: an incoming webhook, or a bot's token, with which the first message changes its face when all is well again.

https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
https://docs.slack.dev/reference/methods/chat.postMessage
"""

from typing import Any

import orjson
from pydantic import BaseModel, Field, SecretStr, model_validator

from integrations.channels._posting import post, read_address
from integrations.channels.base import Context, Notice, PostponedError, Receipt, RefusedError

API = "https://slack.com/api"
COLOURS = {"opened": "#C62F3B", "reopened": "#C62F3B", "reminder": "#B7791F", "resolved": "#0F8A7E"}
_TEMPORARY = frozenset({"ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable"})


class SlackConfig(BaseModel):
    """The address of an incoming webhook, or a bot's token with the channel it writes to."""

    url: SecretStr = Field(default=SecretStr(""), title="Address of the incoming webhook")
    token: SecretStr = Field(default=SecretStr(""), title="Or a bot's token (chat:write)")
    channel: str = Field(default="", title="The bot's channel, such as #builds", max_length=100)

    @model_validator(mode="after")
    def one_way(self) -> "SlackConfig":
        """One of both ways must be whole."""
        if self.url.get_secret_value():
            read_address(self.url.get_secret_value())
        elif not (self.token.get_secret_value() and self.channel.strip()):
            raise ValueError("Give the address of an incoming webhook, or a bot's token with its channel.")
        return self


class Slack:
    """Messages as an attachment with a colour."""

    title = "Slack"
    Config = SlackConfig

    def render(self, config: SlackConfig, notice: Notice) -> dict[str, Any]:
        """Blocks of plain text, in which nothing from outside can be a link or a mention, and the link."""
        title = {"type": "plain_text", "text": notice.title[:3000], "emoji": False}
        blocks: list[dict[str, Any]] = [{"type": "header" if len(notice.title) <= 150 else "section", "text": title}]
        if notice.lines:
            lines = {"type": "plain_text", "text": "\n".join(notice.lines)[:3000], "emoji": False}
            blocks.append({"type": "section", "text": lines})
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": f"<{notice.url}|{escape(notice.link)}>"}})
        return {
            "text": escape(notice.title)[:3000],
            "mrkdwn": False,
            "unfurl_links": False,
            "attachments": [{"color": COLOURS.get(notice.kind, "#5B6570"), "blocks": blocks}],
        }

    def send(self, config: SlackConfig, notice: Notice, context: Context) -> Receipt:
        """Post it; with a token a message that all is well is written over the first one instead."""
        body = self.render(config, notice)
        if url := config.url.get_secret_value():
            answer = post(context, url, json=body)
            return Receipt(f"{answer.status} {answer.content[:40].decode(errors='replace')}")
        former = context.former if notice.kind == "resolved" else None
        method = "chat.update" if former else "chat.postMessage"
        body |= {"channel": former["channel"], "ts": former["ts"]} if former else {"channel": config.channel.strip()}
        headers = {"Authorization": f"Bearer {config.token.get_secret_value()}"}
        answer = post(context, f"{API}/{method}", json=body, headers=headers)
        try:
            said = orjson.loads(answer.content)
        except orjson.JSONDecodeError:
            raise PostponedError("Slack answered with something that is no JSON.") from None
        if not (isinstance(said, dict) and said.get("ok")):
            reason = str(said.get("error", "no reason") if isinstance(said, dict) else "no reason")[:80]
            failed = PostponedError if reason in _TEMPORARY else RefusedError
            raise failed(f"Slack refused the message: {reason}.")
        return Receipt("ok", {"channel": said.get("channel"), "ts": said.get("ts")})


def escape(text: str) -> str:
    """Leave no link or mention to what was written elsewhere, in the text that notifications show."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


CHANNEL = Slack()
