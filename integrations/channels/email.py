"""E-mail by the mail server of the installation: plain text with HTML beside it."""

import html
import re
import smtplib
import ssl
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

from pydantic import BaseModel, Field, field_validator

from integrations.channels.base import Context, MailServer, Notice, PostponedError, Receipt, RefusedError

_ADDRESS = re.compile(r"[^\s@<>,;:\"()\\]{1,64}@[A-Za-z0-9.\-]{1,253}")
_SECONDS = 20.0
_MOST = 20


class EmailConfig(BaseModel):
    """Who gets it."""

    to: str = Field(title="Addresses, separated by commas", max_length=2000)

    @field_validator("to")
    @classmethod
    def addresses(cls, value: str) -> str:
        """One address or several."""
        found = split(value)
        if not 1 <= len(found) <= _MOST or not all(_ADDRESS.fullmatch(address) for address in found):
            raise ValueError(f"Give 1 to {_MOST} addresses such as builds@example.org, separated by commas.")
        return ", ".join(found)


def split(text: str) -> list[str]:
    """The addresses of a field."""
    return [address for address in text.replace(";", ",").replace(",", " ").split() if address]


class Email:
    """A short letter."""

    title = "E-mail"
    Config = EmailConfig

    def render(self, config: EmailConfig, notice: Notice) -> dict[str, Any]:
        """Subject and both bodies."""
        subject = " ".join(notice.title.split())[:200]
        link = (f"{notice.link}: {notice.url}", "") if notice.url else ()
        plain = "\n".join([notice.title, "", *notice.lines, "", *link])
        lines = "".join(f"<p>{html.escape(line)}</p>" for line in notice.lines)
        return {
            "to": split(config.to),
            "subject": subject,
            "plain": plain,
            "html": (
                '<!doctype html><html lang="en"><head><meta charset="utf-8"></head>'
                '<body style="font:14px/1.5 system-ui,sans-serif;max-width:40em">'
                f'<p style="font-size:16px;font-weight:600">{html.escape(notice.title)}</p>{lines}'
                + (f'<p><a href="{html.escape(notice.url)}">{html.escape(notice.link)}</a></p>' if notice.url else "")
                + "</body></html>"
            ),
        }

    def send(self, config: EmailConfig, notice: Notice, context: Context) -> Receipt:
        """Hand it to the mail server; its Message-ID is made of the delivery's id, so a second copy can be known."""
        if context.mail is None:
            raise RefusedError("No mail server is set up: whoever runs the server sets CACHESCOPE_ALERT_SMTP_HOST.")
        message = self.letter(config, notice, context.mail)
        try:
            refused = _deliver(context.mail, message)
        except smtplib.SMTPResponseException as error:
            failed = RefusedError if 500 <= error.smtp_code < 600 else PostponedError
            raise failed(f"The mail server answered {error.smtp_code}: {_said(error.smtp_error)}") from None
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            failed = RefusedError if all(500 <= code < 600 for code in codes) else PostponedError
            raise failed(f"The mail server took none of the addresses: {codes}.") from None
        except (OSError, smtplib.SMTPException) as error:
            raise PostponedError(f"The mail server cannot be reached: {str(error)[:200]}") from None
        return Receipt(
            "taken by the mail server" + (f", but not for {len(refused)} of the addresses" if refused else "")
        )

    def letter(self, config: EmailConfig, notice: Notice, server: MailServer) -> EmailMessage:
        """The message as it is sent."""
        body = self.render(config, notice)
        domain = server.sender.rpartition("@")[2] or "localhost"
        message = EmailMessage()
        message["Subject"] = body["subject"]
        message["From"] = server.sender
        message["To"] = ", ".join(body["to"])
        message["Date"] = format_datetime(datetime.fromisoformat(notice.at) if notice.at else datetime.now(UTC))
        message["Message-ID"] = f"<{notice.id}@{domain}>"
        message["Auto-Submitted"] = "auto-generated"
        if notice.subject:
            message["References"] = f"<{notice.subject}@{domain}>"
        message.set_content(body["plain"])
        message.add_alternative(body["html"], subtype="html")
        return message


def _deliver(server: MailServer, message: EmailMessage) -> dict[str, tuple[int, bytes]]:
    if server.security == "tls":
        opened: smtplib.SMTP = smtplib.SMTP_SSL(
            server.host, server.port, timeout=_SECONDS, context=ssl.create_default_context()
        )
    else:
        opened = smtplib.SMTP(server.host, server.port, timeout=_SECONDS)
    with opened as client:
        if server.security == "starttls":
            client.starttls(context=ssl.create_default_context())
        if server.user:
            client.login(server.user, server.password)
        return client.send_message(message)


def _said(text: bytes | str) -> str:
    words = text.decode(errors="replace") if isinstance(text, bytes) else text
    return "".join(letter if letter.isprintable() else " " for letter in words[:200])


CHANNEL = Email()
