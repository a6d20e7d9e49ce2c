"""OpenID Connect: discovery, the authorization code with PKCE, and an id token that is believed only once verified.

Written after OpenID Connect Core 1.0, Discovery 1.0 and RP-Initiated Logout 1.0, RFC 7636 (PKCE), RFC 9207 (`iss` in
the answer) and RFC 9700 (current practice).
"""

import base64
import hmac
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey

from integrations.http import HttpClient, Reach
from integrations.identity.base import MOST_GROUPS, Attempt, IdentityError, Person, ProviderDownError, ask

ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA", "RS384", "PS384", "ES384", "RS512", "PS512", "ES512")
"""Signatures with a key that only the provider has. Neither `none` nor HS256, whose key would be our own secret."""
SKEW_SECONDS = 60
"""By how much the clocks of two machines may differ."""
LONGEST_TOKEN = 64 * 1024
_KEPT_SECONDS = 3600.0
_KEYS_AGAIN_SECONDS = 30.0
_MOST_KEYS = 50

Key = RSAKey | ECKey | OKPKey


@dataclass(slots=True)
class _Kept:
    """What a provider told of itself, until it is asked again."""

    metadata: Mapping[str, Any] | None = None
    metadata_at: float = 0.0
    keys: tuple[Key, ...] = ()
    keys_at: float = -_KEPT_SECONDS


@dataclass(slots=True, kw_only=True)
class OidcProvider:
    """One issuer and what it knows us as."""

    issuer: str
    client_id: str
    client_secret: str = ""
    scopes: Sequence[str] = ("openid", "email", "profile")
    groups_claim: str = "groups"
    algorithms: Sequence[str] = ALGORITHMS
    signs_out: bool = True
    reach: Reach = field(default_factory=Reach)
    _kept: _Kept = field(default_factory=_Kept)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def authorization_url(self, attempt: Attempt) -> str:
        """Where the browser goes: only the hash of the PKCE secret is told."""
        with HttpClient(self.reach) as client:
            endpoint = self._endpoint(self._discover(client), "authorization_endpoint")
        url: str = prepare_grant_uri(
            endpoint,
            client_id=self.client_id,
            response_type="code",
            redirect_uri=attempt.redirect_uri,
            scope=" ".join(self.scopes),
            state=attempt.state,
            nonce=attempt.nonce,
            code_challenge=create_s256_code_challenge(attempt.verifier),
            code_challenge_method="S256",
        )
        return url

    def identify(self, attempt: Attempt, code: str, answered_by: str | None) -> Person:
        """Trade the code for an id token, verify it, and add what only the profile tells."""
        with HttpClient(self.reach) as client:
            metadata = self._discover(client)
            if answered_by is not None and answered_by != metadata["issuer"]:
                raise IdentityError(f"The answer came from {answered_by[:200]!r}, not from {self.issuer}.")
            answer = self._trade(client, metadata, attempt, code)
            token = answer.get("id_token")
            if not isinstance(token, str) or len(token) > LONGEST_TOKEN:
                raise IdentityError("The token endpoint gave no id token. Is `openid` among the scopes?")
            claims = self._verified(client, metadata, token, attempt.nonce)
            claims = self._with_profile(client, metadata, claims, answer.get("access_token"))
        return Person(
            issuer=metadata["issuer"],
            subject=claims["sub"],
            email=_text(claims.get("email")),
            is_email_verified=claims.get("email_verified") is True or claims.get("email_verified") == "true",
            name=_text(claims.get("name")) or _text(claims.get("preferred_username")),
            groups=read_groups(claims, self.groups_claim),
            id_token=token,
        )

    def sign_out_url(self, id_token: str | None, back: str) -> str | None:
        """Where the browser signs out there too, if the provider says so and answers."""
        if not self.signs_out:
            return None
        try:
            with HttpClient(self.reach, wait_seconds=3) as client:
                metadata = self._discover(client)
            endpoint = self._endpoint(metadata, "end_session_endpoint")
        except ProviderDownError:
            return None
        fields = {"client_id": self.client_id, "post_logout_redirect_uri": back}
        if id_token:
            fields["id_token_hint"] = id_token
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(fields)}"

    def _discover(self, client: HttpClient) -> Mapping[str, Any]:
        """Return what the provider tells of itself, at most an hour old."""
        with self._lock:
            kept = self._kept
            if kept.metadata is not None and time.monotonic() - kept.metadata_at < _KEPT_SECONDS:
                return kept.metadata
        metadata = ask(client, "GET", f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
        said = metadata.get("issuer")
        if not isinstance(said, str) or said.rstrip("/") != self.issuer.rstrip("/"):
            raise ProviderDownError(f"{self.issuer} says that it is {str(said)[:200]!r}: correct the issuer.")
        with self._lock:
            self._kept.metadata, self._kept.metadata_at = metadata, time.monotonic()
        return metadata

    def _endpoint(self, metadata: Mapping[str, Any], name: str) -> str:
        """Return an address of the provider: by TLS where the issuer is, and never another kind of address."""
        url = metadata.get(name)
        scheme = urlsplit(url).scheme if isinstance(url, str) else ""
        if not isinstance(url, str) or scheme not in {"https", urlsplit(self.issuer).scheme}:
            raise ProviderDownError(f"{self.issuer} names no usable {name}: {str(url)[:200]!r}.")
        return url

    def _trade(self, client: HttpClient, metadata: Mapping[str, Any], attempt: Attempt, code: str) -> Mapping[str, Any]:
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": attempt.redirect_uri,
            "code_verifier": attempt.verifier,
        }
        credentials: dict[str, str] = {}
        ways = metadata.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        if self.client_secret and "client_secret_basic" in ways:
            pair = f"{quote(self.client_id, safe='')}:{quote(self.client_secret, safe='')}"
            credentials = {"authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
        else:
            fields["client_id"] = self.client_id
            if self.client_secret:
                fields["client_secret"] = self.client_secret
        return ask(
            client,
            "POST",
            self._endpoint(metadata, "token_endpoint"),
            content=urlencode(fields).encode(),
            headers={"content-type": "application/x-www-form-urlencoded", "accept": "application/json"},
            credentials=credentials,
        )

    def _verified(self, client: HttpClient, metadata: Mapping[str, Any], token: str, nonce: str) -> dict[str, Any]:
        """Return the claims of an id token; raises IdentityError unless every check holds."""
        try:
            header = jws.extract_compact(token.encode()).headers()
        except (JoseError, ValueError) as error:
            raise IdentityError(f"The id token cannot be read: {error}.") from error
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in self.algorithms:
            raise IdentityError(f"The id token is signed with {str(algorithm)[:40]!r}, which is not allowed.")
        claims = None
        for is_fresh in (False, True):
            # A key that we have never seen may be new: ask once more, though not for every forged token.
            keys = self._keys(client, metadata, is_fresh=is_fresh)
            claims = _opened(token, [key for key in keys if key_id is None or key.kid == key_id], str(algorithm))
            if claims is not None:
                break
        if claims is None:
            raise IdentityError("The signature of the id token fits none of the provider's keys.")
        check_claims(claims, issuer=metadata["issuer"], client_id=self.client_id, nonce=nonce, now=time.time())
        return claims

    def _keys(self, client: HttpClient, metadata: Mapping[str, Any], *, is_fresh: bool) -> tuple[Key, ...]:
        with self._lock:
            age = time.monotonic() - self._kept.keys_at
            if age < (_KEYS_AGAIN_SECONDS if is_fresh else _KEPT_SECONDS):
                return self._kept.keys
        keys = read_keys(ask(client, "GET", self._endpoint(metadata, "jwks_uri")))
        with self._lock:
            self._kept.keys, self._kept.keys_at = keys, time.monotonic()
        return keys

    def _with_profile(
        self, client: HttpClient, metadata: Mapping[str, Any], claims: dict[str, Any], access_token: object
    ) -> dict[str, Any]:
        """Ask for the profile where the id token lacks the address or the groups: many keep tokens short."""
        is_enough = "email" in claims and (self.groups_claim in claims or claim(claims, self.groups_claim) is not None)
        if is_enough or not metadata.get("userinfo_endpoint") or not isinstance(access_token, str):
            return claims
        profile = ask(
            client,
            "GET",
            self._endpoint(metadata, "userinfo_endpoint"),
            credentials={"authorization": f"Bearer {access_token}"},
            headers={"accept": "application/json"},
        )
        if profile.get("sub") != claims["sub"]:
            raise IdentityError("The profile belongs to somebody else than the id token.")
        return {**profile, **claims}


def check_claims(claims: Mapping[str, Any], *, issuer: str, client_id: str, nonce: str, now: float) -> None:
    """Raise IdentityError unless an id token was made by this issuer, for us, for this attempt, and just now."""
    if claims.get("iss") != issuer:
        raise IdentityError(f"The id token was issued by {str(claims.get('iss'))[:200]!r}, not by {issuer}.")
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if client_id not in audiences:
        raise IdentityError(f"The id token is meant for {str(audience)[:200]!r}, not for us.")
    if (len(audiences) > 1 or "azp" in claims) and claims.get("azp") != client_id:
        raise IdentityError(f"The id token was given to {str(claims.get('azp'))[:200]!r}, not to us.")
    ends, began = _time(claims, "exp"), _time(claims, "iat")
    if now >= ends + SKEW_SECONDS:
        raise IdentityError(f"The id token ended {now - ends:.0f} seconds ago.")
    if began > now + SKEW_SECONDS:
        raise IdentityError(f"The id token was made {began - now:.0f} seconds in the future: compare the clocks.")
    if "nbf" in claims and _time(claims, "nbf") > now + SKEW_SECONDS:
        raise IdentityError("The id token is not valid yet: compare the clocks.")
    said = claims.get("nonce")
    if not isinstance(said, str) or not hmac.compare_digest(said.encode(), nonce.encode()):
        raise IdentityError("The id token was made for another attempt to sign in: its nonce differs.")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 1 <= len(subject) <= 255:
        raise IdentityError("The id token does not say whom it is about.")


def read_keys(document: Mapping[str, Any]) -> tuple[Key, ...]:
    """Read the public keys of a JSON Web Key Set; keys of other kinds and for other uses are left out."""
    found: list[Key] = []
    entries = document.get("keys")
    for entry in entries[:_MOST_KEYS] if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
            continue
        try:
            (key,) = KeySet.import_key_set({"keys": [entry]}).keys
        except (JoseError, ValueError, TypeError, KeyError):
            continue
        if isinstance(key, RSAKey | ECKey | OKPKey):
            found.append(key)
    return tuple(found)


def read_groups(claims: Mapping[str, Any], name: str) -> frozenset[str]:
    """Return the groups of a claim: a list of names, or one name."""
    value = claim(claims, name)
    names = value if isinstance(value, list) else [value]
    return frozenset(group for group in names[:MOST_GROUPS] if isinstance(group, str) and group)


def claim(claims: Mapping[str, Any], name: str) -> Any:
    """Return a claim by its name; where there is none, `realm_access.roles` looks for `roles` in `realm_access`."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _opened(token: str, keys: Sequence[Key], algorithm: str) -> dict[str, Any] | None:
    for key in keys:
        try:
            return jwt.decode(token, key, algorithms=[algorithm]).claims
        except (JoseError, ValueError, TypeError):
            continue  # another kind of key, or not the one that signed
    return None


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise IdentityError(f"The id token does not say {name}, a time.")
    return float(value)


def _text(value: object) -> str:
    return value[:300] if isinstance(value, str) else ""
