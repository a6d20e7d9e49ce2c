"""Tokens of a GitHub App: a signed claim of the App is exchanged for a token of one installation, good for an hour.

The token is text of any length and form: since 2026 it is no longer 40 characters. Defined at
https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app.
"""

import base64
import hashlib
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson

from cachescope.errors import InvalidValueError
from integrations.ci._api import Api, DeniedError, NeverError, is_missing
from integrations.http import Answer

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

CLAIM_SECONDS = 540
"""GitHub takes claims of at most ten minutes; clocks differ."""
_EARLY_SECONDS = 300.0
"""A token is renewed when it would end within so long."""

_kept: dict[tuple[str, str], tuple[str, float]] = {}
_lock = threading.Lock()


def read_private_key(text: str) -> "RSAPrivateKey":
    """Read the private key of an App as GitHub hands it out; raises InvalidValueError."""
    # `cachescope verify` loads this module where only the library is installed.
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        key = load_pem_private_key(text.strip().encode(), password=None)
    except (ValueError, TypeError) as error:
        raise InvalidValueError(
            "private_key", "This is no private key: paste the whole .pem file that GitHub made, with its BEGIN and END."
        ) from error
    if not isinstance(key, RSAPrivateKey):
        raise InvalidValueError("private_key", "The private key of a GitHub App is an RSA key; this one is not.")
    return key


def make_claim(app_id: str, private_key: str, now: float) -> str:
    """Sign who we are: a JSON web token with RS256."""
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415

    header = {"alg": "RS256", "typ": "JWT"}
    claims = {"iat": int(now) - 60, "exp": int(now) + CLAIM_SECONDS, "iss": app_id}
    signed = b".".join(_encode(orjson.dumps(part)) for part in (header, claims))
    signature = read_private_key(private_key).sign(signed, PKCS1v15(), SHA256())
    return (signed + b"." + _encode(signature)).decode()


def installation_token(api: Api, credentials: Mapping[str, str], repository: object, installation: object) -> str:
    """Return a token of the installation that an event names, else of the one that holds a repository.

    Raises DeniedError when the App is not known, not installed, or its key does not hold.
    """
    app_id, private_key = credentials["app_id"], credentials["private_key"]
    fingerprint = hashlib.sha256(f"{api.url}\0{app_id}\0{private_key}".encode()).hexdigest()
    place = (fingerprint, str(installation or repository))
    with _lock:
        token, ends_at = _kept.get(place, ("", 0.0))
    if ends_at - _EARLY_SECONDS > time.time():
        return token
    claim = {"authorization": f"Bearer {make_claim(app_id, private_key, time.time())}"}
    number = installation or _find_installation(api, claim, repository)
    answer = _ask(api, "POST", f"/app/installations/{number}/access_tokens", claim)
    told: Any = answer.json()
    if not isinstance(told, dict) or not isinstance(told.get("token"), str):
        raise NeverError("The answer to our App holds no token.")
    with _lock:
        if len(_kept) > 1000:
            _kept.clear()
        _kept[place] = (told["token"], _end_of(told.get("expires_at")))
    return str(told["token"])


def _find_installation(api: Api, claim: Mapping[str, str], repository: object) -> int:
    if not repository:
        raise DeniedError("It is not known for which repository the App is to ask.")
    told = _ask(api, "GET", f"/repos/{repository}/installation", claim).json()
    number = told.get("id") if isinstance(told, dict) else None
    if not isinstance(number, int):
        raise NeverError("The answer to our App names no installation.")
    return number


def _ask(api: Api, method: str, path: str, claim: Mapping[str, str]) -> Answer:
    answer = api.client.request(method, api.address(path, {}), headers=api.headers, credentials=claim)
    if is_missing(answer):
        raise DeniedError("The GitHub App is not installed for this repository, or it was removed: install it again.")
    return answer


def _end_of(value: object) -> float:
    try:
        return datetime.fromisoformat(str(value)).timestamp()
    except ValueError:
        return time.time() + _EARLY_SECONDS + 60


def _encode(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")
