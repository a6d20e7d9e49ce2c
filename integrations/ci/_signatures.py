"""The ways in which CI systems prove who they are: a digest of the body, a signed time stamp, a header's value.

Everything is compared as bytes and in constant time: `compare_digest` raises for text that is not ASCII, and a sender
must not learn from the time how much of a guess was right. All pairs are compared, whichever fits first.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence

from integrations.ci.base import TOLERANCE_SECONDS, HookRequest, SignatureRefusedError

WHSEC = "whsec_"
"""The mark that secrets of Standard Webhooks begin with."""

_MOST_SIGNATURES = 16
_DELIVERY = re.compile(r"[\x21-\x7e]{1,255}\Z")
_ID = re.compile(r"[\x21-\x2d\x2f-\x7e]{1,255}\Z")  # printable, without the full stop that separates the signed parts
_TIMESTAMP = re.compile(r"[0-9]{1,12}\Z")
_HEX = re.compile(r"[0-9a-f]{64}\Z")
_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}):[ \t]*(.+)\Z")


def read_header(request: HookRequest, name: str, way_out: str) -> str:
    """Return a header that must be there; an empty one and one that is not ASCII are refused."""
    value = request.headers.get(name.lower(), "")
    if not value:
        raise SignatureRefusedError(f"The header {name} is missing or empty: {way_out}")
    if not value.isascii():
        raise SignatureRefusedError(f"The header {name} holds a character that is not ASCII.")
    if "\n" in value:
        raise SignatureRefusedError(f"The header {name} came twice: let only the sender set it, and no proxy.")
    return value


def is_any(sent: Sequence[bytes], expected: Sequence[bytes]) -> bool:
    """Whether one of the sent values is one of the expected ones."""
    fits = [hmac.compare_digest(one, other) for one in sent for other in expected]
    return any(fits)


def keys_of(secrets: Sequence[str]) -> list[bytes]:
    """Return the secrets as keys; an empty one is none, or anybody could sign with it."""
    return [secret.encode("utf-8", "surrogatepass") for secret in secrets if secret.strip()]


def hex_digest(key: bytes, signed: bytes) -> bytes:
    """Return the HMAC-SHA256 in lower-case hex."""
    return hmac.new(key, signed, hashlib.sha256).hexdigest().encode()


def verify_digest(request: HookRequest, secrets: Sequence[str], name: str, prefix: str, way_out: str) -> None:
    """Check a header that holds the HMAC-SHA256 of the body in hex, after a prefix such as `sha256=`.

    Raises SignatureRefusedError.
    """
    value = read_header(request, name, way_out)
    if not value.startswith(prefix) or not _HEX.match(sent := value[len(prefix) :]):
        raise SignatureRefusedError(f"The header {name} must be `{prefix}` and 64 hexadecimal digits: {way_out}")
    if not is_any([sent.encode()], [hex_digest(key, request.body) for key in keys_of(secrets)]):
        raise SignatureRefusedError(
            f"The signature in {name} fits no secret of this source, or the body was changed on its way."
        )


def refuse_stale(timestamp: str, now: float, where: str) -> None:
    """Refuse a time stamp that is no number or further away from our clock than the tolerance."""
    if not _TIMESTAMP.match(timestamp):
        raise SignatureRefusedError(f"{where} must be whole seconds since 1970.")
    if abs(now - int(timestamp)) > TOLERANCE_SECONDS:
        raise SignatureRefusedError(
            f"The time stamp {timestamp} is more than {TOLERANCE_SECONDS} s away from our clock: "
            "set the sender's clock, and sign anew at each attempt."
        )


def verify_standard(request: HookRequest, secrets: Sequence[str], now: float) -> str:
    """Check id, time stamp and signature of Standard Webhooks and return the id.

    Defined at https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md.
    Raises SignatureRefusedError.
    """
    way_out = "send all three headers of Standard Webhooks."
    delivery_id = read_header(request, "webhook-id", way_out)
    timestamp = read_header(request, "webhook-timestamp", way_out)
    signatures = read_header(request, "webhook-signature", way_out)
    if not _ID.match(delivery_id):
        raise SignatureRefusedError("The header webhook-id must be 1 to 255 printable characters without a full stop.")
    refuse_stale(timestamp, now, "The header webhook-timestamp")
    signed = f"{delivery_id}.{timestamp}.".encode() + request.body
    keys = [key for secret in secrets if secret.removeprefix(WHSEC).strip() for key in _decode_keys(secret)]
    expected = [base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()) for key in keys]
    sent = [part.removeprefix("v1,").encode() for part in signatures.split(" ") if part.startswith("v1,")]
    if not is_any(sent[:_MOST_SIGNATURES], expected):
        raise SignatureRefusedError(
            "No signature fits: sign `<webhook-id>.<webhook-timestamp>.<body>` with HMAC-SHA256 and the secret "
            "of this source, and send `v1,<base64>`."
        )
    return delivery_id


def verify_token(request: HookRequest, secrets: Sequence[str], name: str, way_out: str) -> None:
    """Check a header that holds the secret itself. Raises SignatureRefusedError."""
    value = read_header(request, name, way_out)
    if not is_any([value.encode()], keys_of(secrets)):
        raise SignatureRefusedError(f"The token in {name} is none of this source.")


def verify_configured(request: HookRequest, secrets: Sequence[str], sender: str) -> None:
    """Check the header that somebody configured at a sender which signs nothing.

    A secret is a line `Header-Name: value`, which is compared with that header, or what `Authorization` is to hold:
    its whole value, its bearer token, its `user:password`, or the one of these two that is not empty.
    Raises SignatureRefusedError.
    """
    authorization = request.headers.get("authorization", "")
    if not authorization.isascii():
        raise SignatureRefusedError("The header Authorization holds a character that is not ASCII.")
    sent = _authorization_forms(authorization)
    keys = keys_of(secrets)
    fits = [is_any(sent, keys)]
    for secret in secrets:
        if line := _LINE.match(secret):
            value = request.headers.get(line[1].lower(), "")
            fits.append(is_any([value.encode("utf-8", "surrogatepass")], keys_of([line[2].strip()])))
    if not any(fits):
        raise SignatureRefusedError(
            f"No header holds a secret of this source: {sender} signs nothing, so let it send `Authorization` or a "
            "header of your own with the secret in it."
        )


def delivery_of(request: HookRequest, *names: str) -> str:
    """Return the id of the delivery from the first of these headers that is there, else the digest of the body.

    Raises SignatureRefusedError for an id that is not 1 to 255 printable ASCII characters.
    """
    for name in names:
        if value := request.headers.get(name.lower(), ""):
            if not _DELIVERY.match(value):
                raise SignatureRefusedError(f"The header {name} must be 1 to 255 printable characters.")
            return value
    return body_digest(request)


def delivery_in(request: HookRequest, value: object) -> str:
    """Return the id that a body names when it is a plain one, else the digest of the body."""
    return value if isinstance(value, str) and _DELIVERY.match(value) else body_digest(request)


def body_digest(request: HookRequest) -> str:
    """Return the SHA-256 of the body in hex."""
    return hashlib.sha256(request.body).hexdigest()


def _decode_keys(secret: str) -> list[bytes]:
    """Decode the base64 after `whsec_`; what is none, or lacks its padding, may be meant as its bytes as well."""
    encoded = secret.removeprefix(WHSEC)
    try:
        return [base64.b64decode(encoded, validate=True)]
    except (binascii.Error, ValueError):
        keys = [secret.encode("utf-8", "surrogatepass")]
    try:
        # As some senders write it: without `=` at its end, with `-` and `_`.
        return [*keys, base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)]
    except (binascii.Error, ValueError):
        return keys


def _authorization_forms(value: str) -> list[bytes]:
    """Return every form in which somebody may have noted down what is sent as `Authorization`."""
    if not value:
        return []
    forms = [value.encode()]
    scheme, _, rest = value.partition(" ")
    rest = rest.strip(" ")
    if scheme.lower() == "bearer" and rest:
        forms.append(rest.encode())
    if scheme.lower() == "basic" and rest:
        try:
            pair = base64.b64decode(rest, validate=True)
        except (binascii.Error, ValueError):
            return forms
        user, _, password = pair.partition(b":")
        forms.append(pair)
        if not user or not password:
            forms.append(user or password)
    return [form for form in forms if form]
