"""How the web process answers: every setting under `CACHESCOPE_WEB_…`."""

from functools import lru_cache
from typing import Annotated

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from cachescope.errors import SettingsError


class ServiceSettings(BaseSettings):
    """Addresses, caps and lifetimes."""

    model_config = SettingsConfigDict(env_prefix="CACHESCOPE_WEB_", extra="ignore", frozen=True, env_ignore_empty=True)

    public_url: str = Field(
        default="",
        description="Where browsers and CI jobs reach the service, such as https://cache.example.org; "
        "empty means the address that each request came to.",
    )
    max_log_bytes: int = Field(default=256 * 1024 * 1024, ge=1024, description="Largest log after decompression.")
    max_hook_bytes: int = Field(default=25 * 1024 * 1024, ge=1024, description="Largest webhook body.")
    session_days: Annotated[int, Field(ge=1, le=365)] = Field(
        default=30, description="Days after which a browser must sign in again."
    )
    setup_link_hours: Annotated[int, Field(ge=1, le=24 * 30)] = Field(
        default=72, description="Hours that a one-time link works."
    )

    @property
    def is_https(self) -> bool:
        """Whether browsers come by TLS as far as the settings tell."""
        return self.public_url.startswith("https://")


@lru_cache(maxsize=1)
def get_settings() -> ServiceSettings:
    """The settings of this process, read once; a value that cannot work is one sentence."""
    try:
        return ServiceSettings()
    except ValueError as error:
        raise SettingsError(f"The web settings cannot work: {error}") from error


class SignInSettings(BaseSettings):
    """How people prove who they are: by a password of ours, at other providers, or both."""

    model_config = SettingsConfigDict(
        env_prefix="CACHESCOPE_SIGN_IN_", extra="ignore", frozen=True, env_ignore_empty=True
    )

    providers: SecretStr = Field(
        default=SecretStr(""),
        description="Providers as a JSON list, or the path of a .toml or .json file that holds them.",
    )
    passwords: bool = Field(default=True, description="Whether accounts with passwords of ours can sign in.")
    session_hours: Annotated[int, Field(ge=1, le=24 * 365)] = Field(
        default=24, description="Hours after which who signed in at a provider must do so again."
    )


@lru_cache(maxsize=1)
def get_sign_in_settings() -> SignInSettings:
    """The settings of sign-in of this process, read once; a value that cannot work is one sentence."""
    try:
        return SignInSettings()
    except ValueError as error:
        raise SettingsError(f"The settings of sign-in cannot work: {error}") from error
