"""The generic signed door: genuine requests pass and are read, anything else is refused."""

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from cachescope.errors import TooLargeError
from integrations.ci import PROVIDERS
from integrations.ci.base import CIRun, HookRequest, Ignored, SignatureRefusedError

CASES = sorted((Path(__file__).parent / "ci/generic").glob("*.json"))
CAP = 1 << 20


@pytest.fixture(params=CASES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def case(request: pytest.FixtureRequest) -> dict[str, Any]:
    """A request with what it must be read as."""
    return {"provider": PROVIDERS[request.param.parent.name]} | json.loads(request.param.read_text())


def request_of(case: dict[str, Any], **changed: str) -> HookRequest:
    headers = {name: changed.get(name, value) for name, value in case["headers"].items()}
    return HookRequest(headers=headers, body=changed.get("body", case["body"]).encode())


def test_a_genuine_request_passes(case: dict[str, Any]) -> None:
    other = "whsec_" + base64.b64encode(b"x" * 32).decode()
    for secrets in ([case["secret"]], [other, case["secret"]]):
        assert case["provider"].verify(request_of(case), secrets, case["now"]) == case["delivery_id"]


def test_an_event_is_read(case: dict[str, Any]) -> None:
    event = case["provider"].read_event(request_of(case), CAP)
    if "ignored" in case["event"]:
        assert event == Ignored(case["event"]["ignored"])
    else:
        assert event == CIRun(parameters=case["event"]["parameters"], log=case["event"]["log"].encode())


def test_every_changed_byte_fails_the_signature(case: dict[str, Any]) -> None:
    body = case["body"]
    for at in range(0, len(body), max(1, len(body) // 50)):
        changed = body[:at] + chr(ord(body[at]) ^ 1) + body[at + 1 :]
        with pytest.raises(SignatureRefusedError):
            case["provider"].verify(request_of(case, body=changed), [case["secret"]], case["now"])


@pytest.mark.parametrize(
    "secrets", [[], ["whsec_" + base64.b64encode(b"x" * 32).decode()], [""], ["no base64!"], ["é"]]
)
def test_another_secret_fails(case: dict[str, Any], secrets: list[str]) -> None:
    with pytest.raises(SignatureRefusedError):
        case["provider"].verify(request_of(case), secrets, case["now"])


def test_each_header_counts(case: dict[str, Any]) -> None:
    for name, value in case["headers"].items():
        for wrong in ("", value[:-1], f"{value}x", value[::-1], "é", "v1,", "v1a," + value[3:], "\x00"):
            with pytest.raises(SignatureRefusedError):
                case["provider"].verify(request_of(case, **{name: wrong}), [case["secret"]], case["now"])


def test_one_of_several_signatures_is_enough(case: dict[str, Any]) -> None:
    signature = case["headers"]["webhook-signature"]
    several = f"v1,AAAA v1a,BBBB {signature}"
    assert case["provider"].verify(request_of(case, **{"webhook-signature": several}), [case["secret"]], case["now"])


@pytest.mark.parametrize(("offset", "is_fresh"), [(-300, True), (300, True), (-301, False), (301, False)])
def test_old_and_future_requests_fail(case: dict[str, Any], offset: int, is_fresh: bool) -> None:
    verify = case["provider"].verify
    if is_fresh:
        assert verify(request_of(case), [case["secret"]], case["now"] + offset)
    else:
        with pytest.raises(SignatureRefusedError, match="300 s"):
            verify(request_of(case), [case["secret"]], case["now"] + offset)


@pytest.mark.parametrize(
    "packed",
    [gzip.compress(b"x" * (CAP + 1)), gzip.compress(b"x" * CAP) + gzip.compress(b"x"), gzip.compress(b"x" * 8 * CAP)],
    ids=["one more", "one more in a second file", "a bomb"],
)
def test_a_log_that_unpacks_to_more_than_its_cap_is_given_up(packed: bytes) -> None:
    data = {"repository": "acme/api", "log_gzip_base64": base64.b64encode(packed).decode()}
    body = json.dumps({"type": "build.log", "data": data}).encode()
    with pytest.raises(TooLargeError, match="more than 1,048,576 bytes"):
        PROVIDERS["generic"].read_event(HookRequest(headers={}, body=body), CAP)
