"""Reads Protocol Buffers without a schema compiler: the few messages that BuildKit's status stream is made of.

Wire format: https://protobuf.dev/programming-guides/encoding/; messages: BuildKit's api/services/control/control.proto.
"""

from collections.abc import Iterator
from typing import Any

_FIELD_CAP = 100_000
_DEEPEST_TIME = 10**11
"""Seconds since the epoch beyond which a time is nonsense."""


def read_fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field, up to the first byte that makes no sense."""
    at, end = 0, len(content)
    for _ in range(_FIELD_CAP):
        if at >= end:
            return
        key, at = _varint(content, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(content, at)
            if at > end:
                return
            yield key >> 3, value
        elif kind == 2:
            size, at = _varint(content, at)
            if at + size > end:
                return
            yield key >> 3, content[at : at + size]
            at += size
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            return


def read_status(content: bytes) -> dict[str, Any]:
    """Return a StatusResponse in the words of rawjson, with times as seconds since the epoch."""
    message: dict[str, list[dict[str, Any]]] = {"vertexes": [], "statuses": [], "logs": [], "warnings": []}
    for number, value in read_fields(content):
        if not isinstance(value, bytes):
            continue
        match number:
            case 1:
                message["vertexes"].append(_vertex(value))
            case 2:
                message["statuses"].append(_status(value))
            case 3:
                message["logs"].append(_log(value))
            case 4:
                message["warnings"].append(_warning(value))
    return message


def _vertex(content: bytes) -> dict[str, Any]:
    vertex: dict[str, Any] = {"inputs": []}
    for number, value in read_fields(content):
        match number, value:
            case 1, bytes():
                vertex["digest"] = _text(value)
            case 2, bytes():
                vertex["inputs"].append(_text(value))
            case 3, bytes():
                vertex["name"] = _text(value)
            case 4, int():
                vertex["cached"] = value != 0
            case 5, bytes():
                vertex["started"] = _time(value)
            case 6, bytes():
                vertex["completed"] = _time(value)
            case 7, bytes():
                vertex["error"] = _text(value)
            case 8, bytes():
                vertex["progressGroup"] = _group(value)
    return vertex


def _group(content: bytes) -> dict[str, Any]:
    fields = dict(read_fields(content))
    return {"id": _text(fields.get(1)), "name": _text(fields.get(2)), "weak": bool(fields.get(3))}


def _status(content: bytes) -> dict[str, Any]:
    fields = dict(read_fields(content))
    return {"id": _text(fields.get(1)), "vertex": _text(fields.get(2)), "current": fields.get(4, 0)}


def _log(content: bytes) -> dict[str, Any]:
    fields = dict(read_fields(content))
    return {"vertex": _text(fields.get(1)), "data": fields.get(4, b"")}


def _warning(content: bytes) -> dict[str, Any]:
    fields = dict(read_fields(content))
    return {"vertex": _text(fields.get(1)), "short": fields.get(3, b"")}


def _time(content: bytes) -> float | None:
    fields = dict(read_fields(content))
    seconds, nanos = fields.get(1, 0), fields.get(2, 0)
    if not isinstance(seconds, int) or not isinstance(nanos, int) or not 0 < seconds < _DEEPEST_TIME:
        return None
    return seconds + (nanos % 10**9) / 1e9


def _text(value: int | bytes | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else ""


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """Return a number of at most ten bytes and where it ends; behind the content where it is cut."""
    result = 0
    for shift in range(0, 70, 7):
        if at >= len(content):
            return 0, len(content) + 1
        byte = content[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
    return 0, len(content) + 1
