"""Any CI system, through Standard Webhooks: a signed `build.log` event carries the log itself.

Reads `{"type": "build.log", "timestamp": …, "data": {"repository": …, "log": "…"}}`, or `log_gzip_base64` in place of
`log`. The signature is `v1,<base64 of HMAC-SHA256>` over `<webhook-id>.<webhook-timestamp>.<body>`; the header may
hold several, separated by spaces. Defined at https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hashlib
import hmac
import re
import zlib
from collections.abc import Mapping, Sequence

import orjson

from cachescope.errors import TooLargeError, UnreadableInputError
from integrations.ci.base import TOLERANCE_SECONDS, CIRun, HookRequest, Ignored, SignatureRefusedError

SECRET_PREFIX = "whsec_"  # noqa: S105 - the mark that such secrets begin with, no secret
RATIO_CAP = 200
"""A log may be this many times larger than its compressed form; no real log comes near it."""

_MEMBERS = 64  # each costs a copy of what follows it
_ID = re.compile(r"[\x21-\x2d\x2f-\x7e]{1,255}\Z")  # printable, without the full stop that separates the signed parts
_TIMESTAMP = re.compile(r"[0-9]{1,12}\Z")


class Generic:
    """The generic signed door."""

    def verify(self, request: HookRequest, secrets: Sequence[str], now: float) -> str:
        """Check id, time stamp and signature; see `Provider.verify`."""
        delivery_id = request.headers.get("webhook-id", "")
        timestamp = request.headers.get("webhook-timestamp", "")
        signatures = request.headers.get("webhook-signature", "")
        for name, value in (
            ("webhook-id", delivery_id),
            ("webhook-timestamp", timestamp),
            ("webhook-signature", signatures),
        ):
            if not value:
                raise SignatureRefusedError(
                    f"The header {name} is missing: send all three headers of Standard Webhooks."
                )
        if not _ID.match(delivery_id):
            raise SignatureRefusedError(
                "The header webhook-id must be 1 to 255 printable characters without a full stop."
            )
        if not _TIMESTAMP.match(timestamp):
            raise SignatureRefusedError("The header webhook-timestamp must be whole seconds since 1970.")
        if abs(now - int(timestamp)) > TOLERANCE_SECONDS:
            raise SignatureRefusedError(
                f"The time stamp {timestamp} is more than {TOLERANCE_SECONDS} s away from our clock: "
                "set the sender's clock, and sign anew at each attempt."
            )
        signed = f"{delivery_id}.{timestamp}.".encode() + request.body
        expected = [_signature(secret, signed) for secret in secrets]
        sent = [part.removeprefix("v1,").encode() for part in signatures.split(" ") if part.startswith("v1,")]
        # Every pair is compared, so that the time tells nothing about which one nearly matched.
        matches = [hmac.compare_digest(one, other) for one in sent[:16] for other in expected]
        if not any(matches):
            raise SignatureRefusedError(
                "No signature fits: sign `<webhook-id>.<webhook-timestamp>.<body>` with HMAC-SHA256 and the secret "
                "of this source, and send `v1,<base64>`."
            )
        return delivery_id

    def read_event(self, request: HookRequest, cap_bytes: int) -> CIRun | Ignored:
        """Read a `build.log` event; every other type is ignored."""
        try:
            event = orjson.loads(request.body)
        except orjson.JSONDecodeError as error:
            raise UnreadableInputError(f"The body is not JSON: {error}.") from error
        if not isinstance(event, dict):
            raise UnreadableInputError('The body is not an event: it must be an object with "type" and "data".')
        if event.get("type") != "build.log":
            return Ignored(f'Events of the type "{str(event.get("type"))[:80]}" carry no build log.')
        data = event.get("data")
        if not isinstance(data, dict):
            raise UnreadableInputError('The event has no object "data".')
        log = _read_log(data, cap_bytes)
        parameters = {name: value for name, value in data.items() if name not in {"log", "log_gzip_base64"}}
        return CIRun(parameters=parameters, log=log)


def _signature(secret: str, signed: bytes) -> bytes:
    return base64.b64encode(hmac.new(_key(secret), signed, hashlib.sha256).digest())


def _key(secret: str) -> bytes:
    """Decode the base64 after `whsec_`; a secret that is none is used as its bytes."""
    try:
        return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return secret.encode()


def _read_log(data: Mapping[str, object], cap_bytes: int) -> bytes:
    match data:
        case {"log": str(text)}:
            # A lone surrogate is legal in JSON's escapes and cannot be encoded.
            return text.encode("utf-8", "replace")
        case {"log_gzip_base64": str(text)}:
            try:
                packed = base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError) as error:
                raise UnreadableInputError(f"The field log_gzip_base64 is not base64: {error}.") from error
            return _unpack(packed, cap_bytes)
    raise UnreadableInputError('The event carries no log: give "log" or "log_gzip_base64" in "data", as text.')


def _unpack(packed: bytes, cap_bytes: int) -> bytes:
    cap = min(cap_bytes, max(len(packed) * RATIO_CAP, 1 << 20))
    unpacked = bytearray()
    try:
        for _ in range(_MEMBERS):  # gzip files may follow one another
            if not packed:
                return bytes(unpacked)
            member = zlib.decompressobj(wbits=31)
            unpacked += member.decompress(packed, cap + 1 - len(unpacked))
            if len(unpacked) > cap:
                raise TooLargeError(f"The log in log_gzip_base64 unpacks to more than {cap:,} bytes.")
            if not member.eof:
                raise UnreadableInputError("The gzip data in log_gzip_base64 is cut short.")
            packed = member.unused_data
    except zlib.error as error:
        raise UnreadableInputError(f"The field log_gzip_base64 is not gzip: {error}.") from error
    raise UnreadableInputError(f"The field log_gzip_base64 holds more than {_MEMBERS} gzip files: send one.")


PROVIDER = Generic()
