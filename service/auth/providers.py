"""The providers of sign-in that the settings name, each checked at the start: one mistake, one sentence."""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from cachescope.errors import InvalidValueError, SettingsError
from integrations.http import Reach, read_base_url, read_networks
from integrations.identity.base import Provider
from integrations.identity.github import GithubProvider
from integrations.identity.oidc import ALGORITHMS, OidcProvider
from service.settings import ServiceSettings, SignInSettings
from store.models.accounts import ROLES
from store.settings import get_settings as get_store_settings

SETTING = "CACHESCOPE_SIGN_IN_PROVIDERS"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}\Z")
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,63}\Z")
_MOST_PROVIDERS = 20


class ProviderSettings(BaseModel):
    """One provider, as it stands in the settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="Its part of addresses and what the button says.")
    kind: Literal["oidc", "github"] = Field("oidc", description="OpenID Connect, or GitHub's own sign-in.")
    label: str = Field("", max_length=60, description="What the button says; the name where it is empty.")
    issuer: str = Field("", description="The issuer, exactly as its discovery document says.")
    base_url: str = Field("https://github.com", description="GitHub's address.")
    api_url: str = Field("", description="GitHub's API; of a server of one's own that is base_url with /api/v3.")
    client_id: str = Field(min_length=1, max_length=500, description="What the provider calls us.")
    client_secret: SecretStr = Field(SecretStr(""), description="The secret that it gave us.")
    client_secret_file: str = Field("", description="A file that holds the secret, in place of client_secret.")
    scopes: tuple[str, ...] = Field(("openid", "email", "profile"), description="What is asked for.")
    groups_claim: str = Field("groups", description="Where the groups stand, such as realm_access.roles.")
    groups: dict[str, str | list[str]] = Field(
        default_factory=dict, description='From group to roles: {"platform": ["acme:owner", "tools:viewer"]}.'
    )
    everybody: list[str] = Field(default_factory=list, description="Roles of everybody who signs in there.")
    admit: Literal["", "all", "mapped"] = Field(
        "", description="all, or only who gets a role from a group; mapped where groups are named, and at GitHub."
    )
    create_accounts: bool = Field(True, description="Whether the first sign-in makes an account.")
    link_accounts: bool = Field(True, description="Whether a verified address signs in to the account that has it.")
    trust_email: bool = Field(False, description="Take each address as verified, though the provider does not say so.")
    domains: tuple[str, ...] = Field((), description="Domains whose addresses are let in; empty means any.")
    algorithms: tuple[str, ...] = Field(ALGORITHMS, description="Signatures of id tokens that are taken.")
    networks: str = Field("", description="Private networks in which the provider is, such as 10.1.0.0/16.")
    sign_out: bool = Field(True, description="Whether signing out here leads to the sign-out there.")

    @field_validator("name")
    @classmethod
    def check_name(cls, value: str) -> str:
        """Names stand in addresses."""
        if not _NAME.match(value):
            raise ValueError(f'"{value[:40]}" is no name: use up to 32 lower case letters, digits and hyphens')
        return value

    @field_validator("algorithms")
    @classmethod
    def check_algorithms(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Only signatures that nobody but the provider can make."""
        if not value or (unknown := [name for name in value if name not in ALGORITHMS]):
            named = unknown[0][:20] if value else ""
            raise ValueError(f'the algorithm "{named}" is not taken; known are {", ".join(ALGORITHMS)}')
        return value

    @field_validator("groups", "everybody")
    @classmethod
    def check_roles(cls, value: Any) -> Any:
        """Roles are written as team:role."""
        for roles in value.values() if isinstance(value, dict) else [value]:
            for role in [roles] if isinstance(roles, str) else roles:
                team, _, word = role.partition(":")
                if word not in ROLES or not _SLUG.match(team):
                    raise ValueError(f'"{role[:80]}" is no role: write <team>:owner, <team>:member or <team>:viewer')
        return value

    @model_validator(mode="after")
    def check_whole(self) -> "ProviderSettings":
        """What only several fields together tell."""
        try:
            read_networks(self.networks)
            addresses = [read_base_url(self.issuer, "issuer")] if self.kind == "oidc" else self._github_addresses()
        except InvalidValueError as error:
            raise ValueError(str(error)) from error
        for address in addresses:
            if not address.startswith("https://") and not self.networks:
                raise ValueError(
                    f"{address} has no TLS: use https, or name the private network of the provider in networks"
                )
        if self.client_secret.get_secret_value() and self.client_secret_file:
            raise ValueError("give client_secret or client_secret_file, not both")
        if self.kind == "oidc" and "openid" not in self.scopes:
            raise ValueError('the scopes lack "openid", without which there is no id token')
        if self.kind == "github" and not (self.client_secret.get_secret_value() or self.client_secret_file):
            raise ValueError("GitHub needs a client_secret")
        if self.admits_mapped and not self.groups:
            raise ValueError("nobody could sign in: name groups, or set admit to all")
        return self

    @property
    def admits_mapped(self) -> bool:
        """Whether only people whose groups give them a role are let in."""
        if self.admit:
            return self.admit == "mapped"
        return self.kind == "github" or bool(self.groups)

    def roles_of(self, groups: frozenset[str]) -> dict[str, str]:
        """The strongest role in each team that some groups give, by the team's slug."""
        found: dict[str, str] = {}
        for given in (roles for group, roles in self.groups.items() if group in groups):
            for role in [given] if isinstance(given, str) else given:
                _strengthen(found, role)
        return found

    def roles_of_everybody(self) -> dict[str, str]:
        """The roles that come with signing in at all."""
        found: dict[str, str] = {}
        for role in self.everybody:
            _strengthen(found, role)
        return found

    def open(self) -> Provider:
        """Make the provider; raises SettingsError when the file of its secret cannot be read."""
        secret, reach = self._secret(), Reach(read_networks(self.networks))
        if self.kind == "github":
            base_url, api_url = self._github_addresses()
            return GithubProvider(
                client_id=self.client_id,
                client_secret=secret,
                base_url=base_url,
                api_url=api_url,
                reads_groups=bool(self.groups),
                reach=reach,
            )
        return OidcProvider(
            issuer=self.issuer.strip(),
            client_id=self.client_id,
            client_secret=secret,
            scopes=self.scopes,
            groups_claim=self.groups_claim,
            algorithms=self.algorithms,
            signs_out=self.sign_out,
            reach=reach,
        )

    def _github_addresses(self) -> list[str]:
        base_url = read_base_url(self.base_url, "base_url")
        public = "https://api.github.com" if base_url == "https://github.com" else f"{base_url}/api/v3"
        return [base_url, read_base_url(self.api_url or public, "api_url")]

    def _secret(self) -> str:
        if not self.client_secret_file:
            return self.client_secret.get_secret_value()
        try:
            return Path(self.client_secret_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeError) as error:
            raise SettingsError(
                f"{SETTING}: the provider {self.name} keeps its secret in {self.client_secret_file}, "
                f"which cannot be read: {error}."
            ) from error


@dataclass(frozen=True, slots=True)
class KnownProvider:
    """A provider with what the settings say about it."""

    settings: ProviderSettings
    provider: Provider

    @property
    def name(self) -> str:
        """Its part of addresses."""
        return self.settings.name

    @property
    def issuer(self) -> str:
        """Who vouches for people, as identities name it."""
        found = self.settings.issuer if self.settings.kind == "oidc" else self.settings.base_url
        return found.strip().rstrip("/")

    @property
    def label(self) -> str:
        """What people call it."""
        return self.settings.label or self.settings.name.capitalize()


@dataclass(frozen=True, slots=True)
class SignIn:
    """All ways to sign in to an installation."""

    providers: Mapping[str, KnownProvider] = field(default_factory=dict)
    has_passwords: bool = True
    session_hours: int = 24


def open_sign_in(settings: SignInSettings, service: ServiceSettings) -> SignIn:
    """Read and check the providers; raises SettingsError, one sentence that names the provider and the mistake."""
    known: dict[str, KnownProvider] = {}
    for number, entry in enumerate(_entries(settings.providers.get_secret_value().strip()), 1):
        name = entry.get("name") if isinstance(entry, dict) else None
        who = f"the provider {name[:40]}" if isinstance(name, str) and name else f"provider number {number}"
        try:
            read = ProviderSettings.model_validate(entry)
        except ValidationError as error:
            raise SettingsError(f"{SETTING}: {who} cannot work: {_first_mistake(error)}.") from None
        if read.name in known:
            raise SettingsError(f"{SETTING}: two providers are named {read.name}. Give one of them another name.")
        known[read.name] = KnownProvider(read, read.open())
    if len(known) > _MOST_PROVIDERS:
        raise SettingsError(f"{SETTING}: {len(known)} providers are too many; {_MOST_PROVIDERS} can be named.")
    if known and not service.public_url:
        raise SettingsError(
            "CACHESCOPE_WEB_PUBLIC_URL is not set: providers of sign-in lead browsers back to that address."
        )
    if known:
        _ = get_store_settings().secret_keys  # seals what browsers take along; raises SettingsError
    if not known and not settings.passwords:
        raise SettingsError(
            f"Nobody could sign in: CACHESCOPE_SIGN_IN_PASSWORDS is off and {SETTING} names no provider. Set one."
        )
    return SignIn(known, settings.passwords, settings.session_hours)


def _entries(text: str) -> list[Any]:
    """Read the list from the setting itself, or from the file that it names."""
    if not text:
        return []
    try:
        if text.startswith("["):
            found = json.loads(text)
        elif text.endswith(".toml"):
            found = tomllib.loads(Path(text).read_text(encoding="utf-8")).get("providers")
        elif text.endswith(".json"):
            found = json.loads(Path(text).read_text(encoding="utf-8"))
        else:
            found = None
    except OSError as error:
        raise SettingsError(f"{SETTING} names the file {text[:200]}, which cannot be read: {error.strerror}.") from None
    except ValueError as error:  # both decoders' errors, which quote no value
        raise SettingsError(f"{SETTING} cannot be read: {str(error)[:200]}.") from None
    if not isinstance(found, list):
        raise SettingsError(
            f'{SETTING} must be a JSON list such as [{{"name": "company", …}}], or the path of a .json file with '
            "that list, or of a .toml file with [[providers]]."
        )
    return found


def _first_mistake(error: ValidationError) -> str:
    """Say the first mistake without the value, which may be a secret."""
    first = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    says = first["msg"].removeprefix("Value error, ")
    match first["type"]:
        case "missing":
            return f"{place} is missing"
        case "extra_forbidden":
            return f'there is no "{place}"; known are {", ".join(ProviderSettings.model_fields)}'
        case "value_error":
            return says
    return f"{place}: {says}" if place else says


def _strengthen(found: dict[str, str], role: str) -> None:
    team, _, word = role.partition(":")
    if team not in found or ROLES.index(word) < ROLES.index(found[team]):
        found[team] = word
