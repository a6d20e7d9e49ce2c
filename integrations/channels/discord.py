"""Discord: the webhook of a channel.

https://docs.discord.com/developers/resources/webhook#execute-webhook
"""

from typing import Any
from urllib.parse import urlencode

from pydantic import BaseModel, Field, SecretStr, field_validator

from integrations.channels._posting import post, read_address
from integrations.channels.base import Context, Notice, Receipt

_COLOURS = {"opened": 0xC62F3B, "reopened": 0xC62F3B, "reminder": 0xB7791F, "resolved": 0x0F8A7E}


class DiscordConfig(BaseModel):
    """The address of the webhook."""

    url: SecretStr = Field(title="Address of the webhook")

    @field_validator("url")
    @classmethod
    def readable(cls, value: SecretStr) -> SecretStr:
        """An address that can be called."""
        return SecretStr(read_address(value.get_secret_value()))


class Discord:
    """An embed with the sentence as its title."""

    title = "Discord"
    Config = DiscordConfig

    def render(self, config: DiscordConfig, notice: Notice) -> dict[str, Any]:
        """One embed; nobody is mentioned whatever a text says."""
        return {
            "allowed_mentions": {"parse": []},
            "embeds": [
                {
                    "title": escape(notice.title)[:256],
                    "description": "\n".join(escape(line) for line in notice.lines)[:4000],
                    "url": notice.url,
                    "color": _COLOURS.get(notice.kind, 0x5B6570),
                }
            ],
        }

    def send(self, config: DiscordConfig, notice: Notice, context: Context) -> Receipt:
        """Post it and wait for the answer, which says whether it was taken."""
        url = config.url.get_secret_value()
        waiting = url + ("&" if "?" in url else "?") + urlencode({"wait": "true"})
        return Receipt(str(post(context, waiting, json=self.render(config, notice)).status))


def escape(text: str) -> str:
    """Take from Markdown the signs that it knows, and from names their @."""
    text = "".join(f"\\{letter}" if letter in "\\`*_{}[]()#+-!~>|<" else letter for letter in text)
    return text.replace("@", "@\u200b")


CHANNEL = Discord()
