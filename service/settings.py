"""How the web process answers: every setting under `CACHESCOPE_WEB_…`."""

import re
from functools import lru_cache
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from cachescope.errors import InvalidValueError, SettingsError
from integrations.http import IPNetwork, read_base_url, read_networks

_HOST = re.compile(r"(?:\*\.)?[A-Za-z0-9][A-Za-z0-9.-]{0,252}\Z|\[[0-9A-Fa-f:.]{2,45}\]\Z")


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

    hosts: str = Field(
        default="",
        description="Names under which the service answers, such as cache.example.org, *.internal.example; "
        "empty means any. The name of public_url is always among them.",
    )
    proxies: str = Field(
        default="127.0.0.0/8, ::1/128",
        description="Networks of the proxies in front, whose X-Forwarded-For and X-Forwarded-Proto are believed.",
    )
    token_requests_per_minute: Annotated[int, Field(ge=0)] = Field(
        default=6000, description="Requests that one token may send; 0 means any number."
    )
    address_requests_per_minute: Annotated[int, Field(ge=0)] = Field(
        default=6000, description="Requests without a token that one address may send; 0 means any number."
    )

    @field_validator("public_url")
    @classmethod
    def check_url(cls, value: str) -> str:
        """Only an address of a server can stand in links."""
        try:
            return read_base_url(value, "public_url") if value.strip() else ""
        except InvalidValueError as error:
            raise ValueError(str(error)) from error

    @field_validator("proxies")
    @classmethod
    def check_proxies(cls, value: str) -> str:
        """Read the networks once, so that a mistake shows at the start."""
        try:
            read_networks(value)
        except InvalidValueError as error:
            raise ValueError(str(error)) from error
        return value

    @field_validator("hosts")
    @classmethod
    def check_hosts(cls, value: str) -> str:
        """Names have no port, no scheme and at most a star in front."""
        for name in value.replace(",", " ").split():
            if not _HOST.match(name):
                raise ValueError(f'"{name[:80]}" is no name of a server: write cache.example.org or *.example.org')
        return value

    @property
    def trusted_proxies(self) -> tuple[IPNetwork, ...]:
        """The networks of the proxies in front."""
        return read_networks(self.proxies)

    @property
    def trusted_hosts(self) -> tuple[str, ...]:
        """The names under which the service answers; none means any."""
        names = [name.lower().rstrip(".") for name in self.hosts.replace(",", " ").split()]
        own = urlsplit(self.public_url).hostname
        return tuple(dict.fromkeys([*names, *([own] if own and names else [])]))

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
        raise SettingsError(_sentence("CACHESCOPE_WEB_", error)) from error


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
        raise SettingsError(_sentence("CACHESCOPE_SIGN_IN_", error)) from error


def _sentence(prefix: str, error: ValueError) -> str:
    """Say the first mistake with the name of its setting, without the value: it may be a secret."""
    if not isinstance(error, ValidationError):
        return f"A setting of {prefix}… cannot work: {error}"
    first = error.errors(include_input=False, include_url=False)[0]
    name = f"{prefix}{first['loc'][0]}".upper() if first["loc"] else f"A setting of {prefix}…"
    return f"{name} cannot work: {first['msg'].removeprefix('Value error, ').rstrip('.')}."
