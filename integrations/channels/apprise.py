"""The long tail of services by Apprise, as far as they live at a fixed address of their own.

Apprise opens its connections itself, past our check of addresses. Kinds of addresses that name a host of the user's
choice (`json://`, `mailto://`, `ntfy://host` …) are therefore not taken: the signed webhook reaches those.
https://appriseit.com/services/
"""

import warnings
from typing import Any

import apprise
from pydantic import BaseModel, Field, SecretStr, field_validator

from integrations.channels.base import Context, Notice, PostponedError, Receipt

SCHEMES = {
    "dingtalk": "DingTalk",
    "feishu": "Feishu",
    "gchat": "Google Chat",
    "ifttt": "IFTTT",
    "join": "Join",
    "lark": "Lark",
    "line": "LINE",
    "opsgenie": "Opsgenie",
    "pbul": "Pushbullet",
    "pover": "Pushover",
    "prowl": "Prowl",
    "spush": "Simplepush",
    "tgram": "Telegram",
    "wecombot": "WeCom",
    "wxteams": "Webex",
    "zulip": "Zulip",
}
_TYPES = {"opened": "failure", "reopened": "failure", "reminder": "warning", "resolved": "success"}


class AppriseConfig(BaseModel):
    """The address in Apprise's spelling."""

    url: SecretStr = Field(title=f"Address as Apprise writes it ({', '.join(f'{name}://' for name in SCHEMES)})")

    @field_validator("url")
    @classmethod
    def known(cls, value: SecretStr) -> SecretStr:
        """An address of a service at a fixed place, whole enough to be used."""
        url = value.get_secret_value().strip()
        scheme = url.partition("://")[0].lower()
        if scheme not in SCHEMES:
            raise ValueError(f"Known services: {', '.join(f'{name}://' for name in SCHEMES)}.")
        if len(url) > 2000 or not url.isprintable() or not _service(url):
            raise ValueError(f"{SCHEMES[scheme]} cannot be reached by this address: something of it is missing.")
        return SecretStr(url)


class AppriseKind:
    """Title and plain text."""

    title = "Other services (Apprise)"
    Config = AppriseConfig

    def render(self, config: AppriseConfig, notice: Notice) -> dict[str, Any]:
        """Title, body and what kind of news it is."""
        body = "\n".join([*notice.lines, f"{notice.link}: {notice.url}"])
        return {"title": notice.title, "body": body, "notify_type": _TYPES.get(notice.kind, "info")}

    def send(self, config: AppriseConfig, notice: Notice, context: Context) -> Receipt:
        """Let Apprise send it; it escapes for the service and says only whether it went well."""
        sent = _service(config.url.get_secret_value()).notify(
            **self.render(config, notice), body_format=apprise.NotifyFormat.TEXT
        )
        if not sent:
            raise PostponedError("The service did not take the message; Apprise does not tell why.")
        return Receipt("taken")


def _service(url: str) -> apprise.Apprise:
    """Apprise with one service; empty when the address is not whole."""
    service = apprise.Apprise()
    with warnings.catch_warnings():  # its modules are loaded now, and one of them uses what Python 3.13 no longer has
        warnings.simplefilter("ignore", DeprecationWarning)
        service.add(url)
    return service


CHANNEL = AppriseKind()
