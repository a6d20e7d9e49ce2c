"""A signed webhook to any program, by the specification of Standard Webhooks.

The headers `webhook-id`, `webhook-timestamp` and `webhook-signature` let the receiver check who sent it and drop what
comes twice. https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hashlib
import hmac
from typing import Any

import orjson
from pydantic import BaseModel, Field, SecretStr, field_validator

from integrations.channels._posting import post, read_address
from integrations.channels.base import Context, Notice, Receipt


class WebhookConfig(BaseModel):
    """Where to, and the secret that both sides know."""

    url: SecretStr = Field(title="Address")
    secret: SecretStr = Field(title="Secret: whsec_ and 24 to 64 bytes in base64")

    @field_validator("url")
    @classmethod
    def readable(cls, value: SecretStr) -> SecretStr:
        """An address that can be called."""
        return SecretStr(read_address(value.get_secret_value()))

    @field_validator("secret")
    @classmethod
    def long_enough(cls, value: SecretStr) -> SecretStr:
        """A secret of the specified length."""
        key_of(value)
        return value


def key_of(secret: SecretStr) -> bytes:
    """The bytes of a secret; raises ValueError."""
    text = secret.get_secret_value().strip().removeprefix("whsec_")
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not 24 <= len(key) <= 64:
        raise ValueError("The secret must be whsec_ followed by 24 to 64 random bytes in base64.")
    return key


class Webhook:
    """A JSON document that says what happened."""

    title = "Signed webhook"
    Config = WebhookConfig

    def render(self, config: WebhookConfig, notice: Notice) -> dict[str, Any]:
        """The event in the form that the specification recommends: type, timestamp, data."""
        return {
            "type": f"incident.{notice.kind}" if notice.kind not in {"digest", "test"} else notice.kind,
            "timestamp": notice.at,
            "data": {
                "title": notice.title,
                "lines": list(notice.lines),
                "url": notice.url,
                "severity": notice.severity,
                **notice.document,
            },
        }

    def send(self, config: WebhookConfig, notice: Notice, context: Context) -> Receipt:
        """Sign the body and post it; the id is the same at every try."""
        body = orjson.dumps(self.render(config, notice))
        stamp = str(int(context.timestamp))
        signed = b".".join((notice.id.encode(), stamp.encode(), body))
        signature = base64.b64encode(hmac.new(key_of(config.secret), signed, hashlib.sha256).digest()).decode()
        headers = {
            "content-type": "application/json",
            "webhook-id": notice.id,
            "webhook-timestamp": stamp,
            "webhook-signature": f"v1,{signature}",
        }
        answer = post(context, config.url.get_secret_value(), content=body, headers=headers)
        return Receipt(str(answer.status))


CHANNEL = Webhook()
