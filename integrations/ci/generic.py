"""Any CI system, through Standard Webhooks: a signed `build.log` event carries the log itself.

Reads `{"type": "build.log", "timestamp": …, "data": {"repository": …, "log": "…"}}`, or `log_gzip_base64` in place of
`log`. The signature is `v1,<base64 of HMAC-SHA256>` over `<webhook-id>.<webhook-timestamp>.<body>`; the header may
hold several, separated by spaces. Defined at https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import zlib
from collections.abc import Mapping, Sequence

import orjson

from cachescope.errors import TooLargeError, UnreadableInputError
from integrations.ci._signatures import verify_standard
from integrations.ci.base import CIRun, HookRequest, Ignored, Reader

RATIO_CAP = 200
"""A log may be this many times larger than its compressed form; no real log comes near it."""

_MEMBERS = 64  # each costs a copy of what follows it


class Generic:
    """The generic signed door."""

    schemes = ("standard-webhooks",)
    carries_log = True
    reader: Reader | None = None
    event_headers: frozenset[str] = frozenset()

    def verify(self, request: HookRequest, secrets: Sequence[str], now: float, scheme: str | None = None) -> str:
        """Check id, time stamp and signature; see `Provider.verify`."""
        return verify_standard(request, secrets, now)

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
