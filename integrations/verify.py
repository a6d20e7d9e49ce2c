"""`cachescope verify`: Say whether a recorded webhook would be accepted, by the same code that the server runs.

The request is a JSON file: `{"headers": {"X-GitHub-Event": "ping", …}, "body_b64": "…"}`. A header may hold a list
of values, which is how one that came twice is written.
"""

import base64
import binascii
import json
import math
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from cachescope.errors import SettingsError, TooLargeError, UnknownNameError, UnreadableInputError
from integrations.ci import PROVIDERS
from integrations.ci.base import HookRequest, Provider, SignatureRefusedError, fold_headers

LARGEST_BYTES = 64 * 1024 * 1024
"""A webhook of 25 MiB, in base64, with room for its headers."""
_JSON = re.compile(r"application/(?:[a-z0-9.+_-]{1,100}\+)?json\Z")
"""What the route takes."""


def command(
    request: Annotated[Path, typer.Argument(help="The recorded request as JSON; - is standard input.", metavar="FILE")],
    provider: Annotated[str, typer.Option(help="CI system, such as github.")],
    secret_file: Annotated[Path, typer.Option(help="File with one secret a line, as the vendor shows it.")],
    scheme: Annotated[str | None, typer.Option(help="How the sender proves who it is, where it has a choice.")] = None,
    now: Annotated[
        float | None, typer.Option(help="Seconds since 1970 to judge time stamps by; else our clock.")
    ] = None,
) -> None:
    """Say whether a recorded webhook would be accepted, by the same code that the server runs."""
    found = find_provider(provider)
    if scheme is not None and scheme not in found.schemes:
        raise UnknownNameError("scheme", scheme[:40], found.schemes)
    if now is not None and not math.isfinite(now):
        raise SettingsError("--now must be seconds since 1970.")
    secrets = read_secrets(secret_file)
    recorded = read_request(request)
    try:
        delivery_id = found.verify(recorded, secrets, time.time() if now is None else now, scheme)
    except SignatureRefusedError as error:
        print(f"refused: {error}")
        raise typer.Exit(1) from None
    print(f"accepted {delivery_id}")
    kind = recorded.headers.get("content-type", "")
    if kind and not _JSON.match(kind.partition(";")[0].strip().lower()):
        print(
            f'The server takes JSON only and answers 415 to the Content-Type "{kind[:80]}": '
            "choose JSON (application/json) where the webhook is set up.",
            file=sys.stderr,
        )


def find_provider(name: str) -> Provider:
    """Return a provider by its name on the command line. Raises UnknownNameError."""
    known = {module.replace("_", "-"): provider for module, provider in PROVIDERS.items()}
    if name not in known:
        raise UnknownNameError("provider", name[:40], known)
    return known[name]


def read_secrets(path: Path) -> list[str]:
    """Return the secrets of a file, one a line. Raises UnreadableInputError."""
    try:
        lines = read_bytes(path).decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UnreadableInputError(f"The secret file {path} is not text in UTF-8: {error.reason}.") from error
    secrets = [line.rstrip("\r") for line in lines if line.strip()]
    if not secrets:
        raise UnreadableInputError(f"The secret file {path} holds no secret: write one a line.")
    return secrets


def read_request(path: Path) -> HookRequest:
    """Return a recorded request. Raises UnreadableInputError."""
    try:
        recorded = json.loads(read_bytes(path), object_pairs_hook=_keep_all)
    except (ValueError, RecursionError) as error:
        raise UnreadableInputError(f"The request {path} is not JSON: {error}.") from error
    match recorded:
        case {"headers": dict(headers), "body_b64": str(encoded)}:
            try:
                body = base64.b64decode("".join(encoded.split()), validate=True)
            except (binascii.Error, ValueError) as error:
                raise UnreadableInputError(f"The field body_b64 of {path} is not base64: {error}.") from error
            return HookRequest(headers=fold_headers(_pairs(headers)), body=body)
    raise UnreadableInputError(f'The request {path} must be an object with an object "headers" and a text "body_b64".')


def read_bytes(path: Path) -> bytes:
    """Return what a file holds, `-` for standard input. Raises UnreadableInputError."""
    try:
        if str(path) == "-":
            content = sys.stdin.buffer.read(LARGEST_BYTES + 1)
        else:
            with path.open("rb") as file:
                content = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise UnreadableInputError(f"Cannot read {path}: {error.strerror or error}.") from error
    if len(content) > LARGEST_BYTES:
        raise TooLargeError(f"{path} is larger than {LARGEST_BYTES:,} bytes.")
    return content


def _keep_all(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object whose repeated names hold a list of their values, where `json` would drop all but the last."""
    grouped: dict[str, list[Any]] = {}
    for name, value in pairs:
        grouped.setdefault(name, []).append(value)
    return {name: values if len(values) > 1 else values[0] for name, values in grouped.items()}


def _pairs(headers: dict[str, object]) -> Iterator[tuple[str, str]]:
    for name, value in headers.items():
        for one in value if isinstance(value, list) else [value]:
            if not isinstance(one, str):
                raise UnreadableInputError(f'The header "{name[:80]}" must be a text or a list of texts.')
            yield name, one
