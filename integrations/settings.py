"""How messages leave the installation: the mail server, and which private networks channels may reach."""

from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from cachescope.errors import SettingsError
from integrations.channels.base import MailServer
from integrations.http import Reach, read_networks


class AlertSettings(BaseSettings):
    """What whoever runs the server decides about messages."""

    model_config = SettingsConfigDict(env_prefix="CACHESCOPE_ALERT_", extra="ignore", env_ignore_empty=True)

    smtp_host: str = ""
    """Without it no e-mail is sent."""
    smtp_port: Annotated[int, Field(ge=1, le=65535)] = 587
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    smtp_user: str = ""
    smtp_password: SecretStr = SecretStr("")
    smtp_sender: str = "cachescope@localhost"
    networks: str = ""
    """Private networks that channels may reach, such as `10.1.0.0/16`."""
    lease_seconds: Annotated[float, Field(ge=5, le=3600)] = 60.0
    """How long a message stays with a sender that has died."""

    @property
    def reach(self) -> Reach:
        """Where channels may connect to."""
        return Reach(read_networks(self.networks))

    @property
    def mail(self) -> MailServer | None:
        """The mail server; None where there is none."""
        if not self.smtp_host:
            return None
        return MailServer(
            host=self.smtp_host,
            port=self.smtp_port,
            security=self.smtp_security,
            user=self.smtp_user,
            password=self.smtp_password.get_secret_value(),
            sender=self.smtp_sender,
        )


def get_settings() -> AlertSettings:
    """Read the settings; a value that cannot work is one sentence."""
    try:
        return AlertSettings()
    except ValueError as error:
        raise SettingsError(f"The settings of alerts cannot work: {error}") from error
