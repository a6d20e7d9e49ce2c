"""What every provider of sign-in offers: an address to send the browser to, and who came back from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from cachescope.errors import CachescopeError, UnreadableInputError
from integrations.http import HttpClient, OutgoingError

DOCUMENT_BYTES = 512 * 1024
"""The largest discovery document, set of keys, token or profile that is read."""
MOST_GROUPS = 2_000


class IdentityError(CachescopeError):
    """A provider's answer does not prove who somebody is. The sentence is for the log: people are told less."""


class ProviderDownError(CachescopeError):
    """A provider did not answer, or not with anything that can be used; another time may do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One way to a provider and back: what was sent along with the browser and must come back with it."""

    state: str
    nonce: str
    verifier: str
    """The secret of PKCE, whose hash the provider is told at the start."""
    redirect_uri: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody who has proven to a provider who they are."""

    issuer: str
    subject: str
    """Never given to anybody else by this issuer; addresses and names may be."""
    email: str
    is_email_verified: bool
    name: str
    groups: frozenset[str] = field(default_factory=frozenset)
    id_token: str | None = None
    """What the provider wants to see again at sign-out."""


class Provider(Protocol):
    """Where people sign in."""

    def authorization_url(self, attempt: Attempt) -> str:
        """Where the browser goes; raises ProviderDownError."""
        ...

    def identify(self, attempt: Attempt, code: str, answered_by: str | None) -> Person:
        """Trade the code that the browser brought back for who it is; raises IdentityError and ProviderDownError.

        `answered_by` is the parameter `iss` of the answer, which providers of RFC 9207 send.
        """
        ...

    def sign_out_url(self, id_token: str | None, back: str) -> str | None:
        """Where the browser signs out of the provider as well; None where that is not offered."""
        ...


def ask(client: HttpClient, method: str, url: str, **given: Any) -> Mapping[str, Any]:
    """Send a request whose answer must be a JSON object of success; raises ProviderDownError and IdentityError."""
    found = ask_any(client, method, url, **given)
    if not isinstance(found, dict):
        raise ProviderDownError(f"{url} answered with something that is no JSON object.")
    return found


def ask_any(client: HttpClient, method: str, url: str, **given: Any) -> Any:
    """Send a request whose answer must be JSON of success; a 4xx is a refusal, anything else is trouble over there."""
    try:
        answer = client.request(method, url, seconds=15, cap_bytes=DOCUMENT_BYTES, **given)
        found = answer.json()
    except (OutgoingError, UnreadableInputError) as error:
        raise ProviderDownError(str(error)) from error
    if answer.is_success:
        return found
    said = str(found.get("error", ""))[:100] if isinstance(found, dict) else ""
    if 400 <= answer.status < 500 and answer.status not in {408, 429}:
        raise IdentityError(f"{url} refused with {answer.status} {said!r}.")
    raise ProviderDownError(f"{url} answered {answer.status} {said!r}.")
