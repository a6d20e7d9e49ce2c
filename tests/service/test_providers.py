"""The providers of sign-in that settings name: each mistake is one sentence at the start, without a secret in it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cachescope.errors import SettingsError
from integrations.identity.github import GithubProvider
from integrations.identity.oidc import OidcProvider
from service.auth.providers import SignIn, open_sign_in
from service.settings import ServiceSettings, SignInSettings
from tests import serving

GOOD = {"name": "company", "issuer": "https://login.example", "client_id": "c", "client_secret": "a very secret thing"}
CACHESCOPE = str(Path(sys.executable).with_name("cachescope"))
GITHUB = {"name": "github", "kind": "github", "client_id": "c", "client_secret": "s", "groups": {"acme": "acme:owner"}}


@pytest.fixture
def database_url(sqlite_template: Path, tmp_path: Path) -> str:
    """An empty SQLite database: nothing here is the database's."""
    return f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'cachescope.db')}"


@pytest.fixture(autouse=True)
def key(home: Path) -> Path:
    """A server with a secret key."""
    return home


def opened(*providers: Any, public_url: str = "https://cache.example", **more: Any) -> SignIn:
    text = more.pop("text", None) or json.dumps(providers)
    return open_sign_in(SignInSettings(providers=text, **more), ServiceSettings(public_url=public_url))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "Two Words"}, "is no name"),
        ({"client_id": ""}, "client_id"),
        ({"issuer": "login.example"}, "is no address"),
        ({"issuer": "http://login.example"}, "has no TLS"),
        ({"issuer": ""}, "is no address"),
        ({"issuers": "x"}, 'there is no "issuers"'),
        ({"kind": "saml"}, "kind"),
        ({"scopes": ["email"]}, "lack"),
        ({"groups": {"a": "acme"}}, '"acme" is no role'),
        ({"groups": {"a": ["acme:boss"]}}, '"acme:boss" is no role'),
        ({"everybody": ["Acme:owner"]}, "is no role"),
        ({"algorithms": ["HS256"]}, '"HS256" is not taken'),
        ({"algorithms": ["none"]}, '"none" is not taken'),
        ({"algorithms": []}, "is not taken"),
        ({"networks": "10.0.0.0/99"}, "write networks as"),
        ({"admit": "mapped"}, "nobody could sign in"),
        ({"client_secret_file": "/x"}, "not both"),
        ({"client_secret": "", "client_secret_file": "/nowhere/secret"}, "/nowhere/secret, which cannot be read"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_each_mistake_is_one_sentence_that_names_the_provider(change: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        opened(GOOD | change)
    text = str(caught.value)
    assert text.startswith("CACHESCOPE_SIGN_IN_PROVIDERS: ")
    assert "provider" in text
    assert says in text
    assert "\n" not in text
    assert "very secret" not in text


def test_what_is_missing_is_named() -> None:
    with pytest.raises(SettingsError, match="the provider company cannot work: client_id is missing"):
        opened({"name": "company"})
    with pytest.raises(SettingsError, match="provider number 2 cannot work"):
        opened(GOOD, 7)


@pytest.mark.parametrize(
    ("change", "says"),
    [({"client_secret": ""}, "needs a client_secret"), ({"groups": {}}, "nobody"), ({"base_url": "x"}, "no address")],
)
def test_mistakes_about_github_are_named_too(change: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        opened(GITHUB | change)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{}", "must be a JSON list"),
        ("[", "cannot be read"),
        ("/nowhere/providers.toml", "cannot be read: No such file"),
        ("company", "must be a JSON list"),
    ],
)
def test_a_list_that_cannot_be_read_is_one_sentence(text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        opened(text=text)


def test_names_are_given_once() -> None:
    with pytest.raises(SettingsError, match="two providers are named company"):
        opened(GOOD, GOOD)


def test_browsers_must_know_where_to_come_back_to() -> None:
    with pytest.raises(SettingsError, match="CACHESCOPE_WEB_PUBLIC_URL is not set"):
        opened(GOOD, public_url="")


def test_somebody_must_be_able_to_sign_in() -> None:
    with pytest.raises(SettingsError, match="Nobody could sign in"):
        open_sign_in(SignInSettings(passwords=False), ServiceSettings())
    assert not opened(GOOD, passwords=False).has_passwords


@pytest.mark.parametrize("suffix", ["toml", "json"])
def test_providers_and_their_secrets_may_lie_in_files(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "secret").write_text("from a file\n")
    named = {"name": "company", "issuer": "https://login.example/", "client_id": "c"}
    named["client_secret_file"] = str(tmp_path / "secret")
    lines = [f"{name} = {json.dumps(value)}" for name, value in named.items()]
    path = tmp_path / f"providers.{suffix}"
    path.write_text("\n".join(["[[providers]]", *lines]) if suffix == "toml" else json.dumps([named]))
    provider = opened(text=str(path)).providers["company"].provider
    assert isinstance(provider, OidcProvider)
    assert provider.client_secret == "from a file"


@pytest.mark.parametrize(
    ("given", "addresses"),
    [
        ({}, ("https://github.com", "https://api.github.com")),
        ({"base_url": "https://git.example/"}, ("https://git.example", "https://git.example/api/v3")),
        ({"api_url": "https://api.example"}, ("https://github.com", "https://api.example")),
    ],
)
def test_github_may_be_a_server_of_ones_own(given: dict[str, str], addresses: tuple[str, str]) -> None:
    provider = opened(GITHUB | given).providers["github"].provider
    assert isinstance(provider, GithubProvider)
    assert (provider.base_url, provider.api_url) == addresses


def test_the_strongest_role_counts() -> None:
    settings = opened(GOOD | {"groups": {"a": ["x:viewer", "y:owner"], "b": "x:member"}}).providers["company"].settings
    assert settings.roles_of(frozenset({"a", "b", "c"})) == {"x": "member", "y": "owner"}
    assert settings.admits_mapped


@pytest.mark.parametrize("command", [[sys.executable, "-m", "service.server"], [CACHESCOPE, "up"]], ids=["web", "up"])
def test_a_mistake_ends_the_start_with_its_sentence(tmp_path: Path, command: list[str]) -> None:
    settings = {"CACHESCOPE_DATA": str(tmp_path / "data"), "CACHESCOPE_SIGN_IN_PASSWORDS": "false"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CACHESCOPE_")}
    ended = subprocess.run(
        [*command, "--port", "1"],
        cwd=serving.ROOT,
        env=environment | settings,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode in {1, 2}
    assert "Nobody could sign in: CACHESCOPE_SIGN_IN_PASSWORDS is off" in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr
    assert "worker" not in ended.stdout
