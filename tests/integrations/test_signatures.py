"""Every provider and scheme: a genuine request passes; whatever was changed, swapped, aged or weakened does not."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachescope.errors import UnknownNameError
from integrations.ci import PROVIDERS
from integrations.ci.base import HookRequest, SignatureRefusedError, fold_headers

NOW = 1_790_000_000
BODY = b'{"id": "8bd71c28-4969-3677-8940-3e3a61c46660", "type": "ping"}'
WHSEC = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER_WHSEC = "whsec_" + base64.b64encode(b"x" * 32).decode()

Signer = Callable[[str, bytes, int], dict[str, str]]


def digest(secret: str, signed: bytes) -> str:
    return hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def standard(secret: str, body: bytes, at: int) -> dict[str, str]:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signature = base64.b64encode(hmac.new(key, f"msg_1.{at}.".encode() + body, hashlib.sha256).digest()).decode()
    return {"webhook-id": "msg_1", "webhook-timestamp": str(at), "webhook-signature": f"v1,{signature}"}


def buildkite(secret: str, body: bytes, at: int) -> dict[str, str]:
    signature = digest(secret, f"{at}.".encode() + body)
    return {"x-buildkite-event": "ping", "x-buildkite-signature": f"timestamp={at},signature={signature}"}


@dataclass(frozen=True)
class Case:
    provider: str
    scheme: str
    sign: Signer
    carrier: str
    """The header that proves it."""
    delivery: str | None
    """The id, or None where it is the digest of the body."""
    signs_body: bool = True
    signs_time: bool = False
    secret: str = "It's a Secret to Everybody"
    other: str = "It's a Secret to Nobody"


def hexed(carrier: str, prefix: str, identity: str | None = None) -> Signer:
    def sign(secret: str, body: bytes, at: int) -> dict[str, str]:
        named = {identity: "72d3162e-cc78-11e3-81ab-4c9367dc0958"} if identity else {}
        return {carrier: prefix + digest(secret, body)} | named

    return sign


def told(carrier: str, **more: str) -> Signer:
    return lambda secret, body, at: {carrier: secret} | {name.replace("_", "-"): value for name, value in more.items()}


ID = "72d3162e-cc78-11e3-81ab-4c9367dc0958"
IN_BODY = "8bd71c28-4969-3677-8940-3e3a61c46660"
CASES = [
    Case(
        "github", "signature", hexed("x-hub-signature-256", "sha256=", "x-github-delivery"), "x-hub-signature-256", ID
    ),
    Case("gitea", "signature", hexed("x-gitea-signature", "", "x-gitea-delivery"), "x-gitea-signature", ID),
    Case("forgejo", "signature", hexed("x-forgejo-signature", "", "x-forgejo-delivery"), "x-forgejo-signature", ID),
    Case("bitbucket", "signature", hexed("x-hub-signature", "sha256=", "x-request-uuid"), "x-hub-signature", ID),
    Case("circleci", "signature", hexed("circleci-signature", "v1="), "circleci-signature", IN_BODY),
    Case("buildkite", "signature", buildkite, "x-buildkite-signature", None, signs_time=True),
    Case("buildkite", "token", told("x-buildkite-token"), "x-buildkite-token", None, signs_body=False),
    Case(
        "gitlab",
        "signing-token",
        standard,
        "webhook-signature",
        "msg_1",
        signs_time=True,
        secret=WHSEC,
        other=OTHER_WHSEC,
    ),
    Case("gitlab", "token", told("x-gitlab-token", idempotency_key=ID), "x-gitlab-token", ID, signs_body=False),
    Case(
        "generic",
        "standard-webhooks",
        standard,
        "webhook-signature",
        "msg_1",
        signs_time=True,
        secret=WHSEC,
        other=OTHER_WHSEC,
    ),
    *(
        Case(name, "header", told("authorization"), "authorization", delivery, signs_body=False, secret="Bearer s3cret")
        for name, delivery in (
            ("jenkins", None),
            ("buildbot", None),
            ("azure", IN_BODY),
            ("registry", None),
            ("harbor", None),
            ("docker_hub", None),
        )
    ),
]
NAMES = [f"{case.provider}-{case.scheme}" for case in CASES]


def verify(case: Case, headers: dict[str, str], body: bytes = BODY, *secrets: str, now: float = NOW) -> str:
    request = HookRequest(headers=headers, body=body)
    return PROVIDERS[case.provider].verify(request, secrets or (case.secret,), now, case.scheme)


def refuse(case: Case, headers: dict[str, str], body: bytes = BODY, *secrets: str, now: float = NOW) -> None:
    with pytest.raises(SignatureRefusedError) as refused:
        verify(case, headers, body, *secrets, now=now)
    assert str(refused.value).endswith(".")
    assert case.secret not in str(refused.value)


@pytest.fixture(params=CASES, ids=NAMES)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


def test_every_provider_and_scheme_stands_here() -> None:
    known = {(name, scheme) for name, provider in PROVIDERS.items() for scheme in provider.schemes}
    assert known == {(case.provider, case.scheme) for case in CASES}


def test_a_genuine_request_passes_with_any_of_its_secrets(case: Case) -> None:
    headers = case.sign(case.secret, BODY, NOW)
    expected = case.delivery or hashlib.sha256(BODY).hexdigest()
    for secrets in ((case.secret,), (case.other, case.secret), (case.secret, case.other), ("", case.secret)):
        assert verify(case, headers, BODY, *secrets) == expected


def test_another_secret_is_refused(case: Case) -> None:
    headers = case.sign(case.secret, BODY, NOW)
    for secrets in ((case.other,), ("",), (" ",), ("é",), (case.secret[:-2],), (case.secret + "x",)):
        refuse(case, headers, BODY, *secrets)


def test_what_proves_it_is_compared_as_bytes_in_constant_time_with_every_secret(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[object, object]] = []

    def compare(one: object, other: object) -> bool:
        compared.append((one, other))
        return constant(one, other)

    constant = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", compare)
    headers, counts = case.sign(case.secret, BODY, NOW), []
    for secrets in ((case.secret, case.other), (case.other, case.secret)):
        compared.clear()
        verify(case, headers, BODY, *secrets)
        counts.append(len(compared))
        assert all(isinstance(value, bytes) for pair in compared for value in pair)
        assert any(one == other for one, other in compared)
    assert counts[0] == counts[1] >= 2  # whichever fits first


def test_a_header_that_came_twice_is_told_as_such(case: Case) -> None:
    if case.scheme == "header":
        return
    headers = case.sign(case.secret, BODY, NOW)
    with pytest.raises(SignatureRefusedError, match="came twice"):
        verify(case, headers | {case.carrier: f"{headers[case.carrier]}\n{headers[case.carrier]}"})


def test_no_secret_lets_nobody_in(case: Case) -> None:
    request = HookRequest(headers=case.sign(case.secret, BODY, NOW), body=BODY)
    with pytest.raises(SignatureRefusedError):
        PROVIDERS[case.provider].verify(request, [], NOW, case.scheme)


def test_an_empty_secret_cannot_be_signed_with(case: Case) -> None:
    headers = case.sign("whsec_" if case.secret.startswith("whsec_") else "", BODY, NOW)
    refuse(case, headers, BODY, "", "whsec_", "  ")


def test_every_changed_byte_of_a_signed_body_is_refused(case: Case) -> None:
    if not case.signs_body:
        return
    headers = case.sign(case.secret, BODY, NOW)
    for at in range(len(BODY)):
        refuse(case, headers, BODY[:at] + bytes([BODY[at] ^ 1]) + BODY[at + 1 :])
    refuse(case, headers, BODY + b"\n")
    refuse(case, headers, b"")


def test_every_changed_character_of_the_proof_is_refused(case: Case) -> None:
    headers = case.sign(case.secret, BODY, NOW)
    proof = headers[case.carrier]
    for at in range(len(proof)):
        changed = proof[:at] + ("1" if proof[at] == "0" else "0") + proof[at + 1 :]
        refuse(case, headers | {case.carrier: changed})


@pytest.mark.parametrize("offset", [-301, 301, -86400, 10**9])
def test_a_signed_time_must_be_near(case: Case, offset: int) -> None:
    headers = case.sign(case.secret, BODY, NOW + offset)
    if case.signs_time:
        refuse(case, headers)
    else:
        assert verify(case, headers)


def test_a_signed_time_may_be_five_minutes_off(case: Case) -> None:
    for offset in (-300, 300):
        assert verify(case, case.sign(case.secret, BODY, NOW + offset))


def test_a_proof_that_is_empty_odd_or_sent_twice_is_refused(case: Case) -> None:
    headers = case.sign(case.secret, BODY, NOW)
    proof = headers[case.carrier]
    for wrong in (
        "",
        "é",
        proof + "é",
        "\udce9",
        "sha256=",
        "v1=",
        "v1,",
        "Bearer",
        "Bearer ",
        "Basic ",
        "Basic !",
        ":",
    ):
        refuse(case, headers | {case.carrier: wrong})
    refuse(case, {name: value for name, value in headers.items() if name != case.carrier})
    refuse(case, fold_headers([*headers.items(), (case.carrier.title(), proof)]))
    refuse(case, fold_headers([(case.carrier, "x"), *headers.items()]))


@pytest.mark.parametrize("other", CASES, ids=NAMES)
def test_the_proof_of_another_provider_is_refused(case: Case, other: Case) -> None:
    if case.carrier == other.carrier:
        return
    headers = other.sign(case.secret if case.secret.startswith("whsec_") else other.secret, BODY, NOW)
    refuse(case, headers, BODY, case.secret, other.secret)
    proof = case.sign(case.secret, BODY, NOW)
    moved = {name: value for name, value in proof.items() if name != case.carrier}
    refuse(case, moved | {other.carrier: proof[case.carrier]})


def test_the_way_of_counting_the_digest_is_no_choice_of_the_sender() -> None:
    for provider, name, prefix in (
        ("github", "x-hub-signature", "sha1="),
        ("github", "x-hub-signature-256", "sha1="),
        ("bitbucket", "x-hub-signature", "sha1="),
    ):
        weak = hmac.new(b"secret", BODY, hashlib.sha1).hexdigest()
        with pytest.raises(SignatureRefusedError):
            PROVIDERS[provider].verify(HookRequest(headers={name: prefix + weak}, body=BODY), ["secret"], NOW)


def test_only_the_known_version_of_circleci_counts() -> None:
    right, wrong = digest("secret", BODY), "0" * 64
    for value, passes in (
        (f"v1={right}", True),
        (f"v1={right},v2={wrong}", True),
        (f"v2={wrong}, v1={right}", True),
        (f"v2={right}", False),
        (f"v1={wrong},v2={right}", False),
        (f"v1={wrong},v1={right}", False),
        (f"v1={right},v1={right}", False),
        (right, False),
    ):
        request = HookRequest(headers={"circleci-signature": value}, body=BODY)
        if passes:
            assert PROVIDERS["circleci"].verify(request, ["secret"], NOW) == IN_BODY
        else:
            with pytest.raises(SignatureRefusedError):
                PROVIDERS["circleci"].verify(request, ["secret"], NOW)


@pytest.mark.parametrize(
    ("secret", "body", "signature"),
    [
        ("secret", b"hello world", "734cc62f32841568f45715aeb9f4d7891324e6d948e4c6c60c0621cdac48623a"),
        ("another-secret", b"lalala", "daa220016c8f29a8b214fbfc3671aeec2145cfb1e6790184ffb38b6d0425fa00"),
        (
            "hunter123",
            b"an-important-request-payload",
            "9be2242094a9a8c00c64306f382a7f9d691de910b4a266f67bd314ef18ac49fa",
        ),
        ("secret", b"foo", "773ba44693c7553d6ee20f61ea5d2757a9a4f4a44d2841ae4e95b52e4cd62db4"),
    ],
)
def test_the_examples_of_circleci_pass(secret: str, body: bytes, signature: str) -> None:
    request = HookRequest(headers={"circleci-signature": f"v1={signature}"}, body=body)
    assert PROVIDERS["circleci"].verify(request, [secret], NOW) == hashlib.sha256(body).hexdigest()


def test_the_example_of_github_passes() -> None:
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    request = HookRequest(headers={"x-hub-signature-256": signature}, body=b"Hello, World!")
    delivery = PROVIDERS["github"].verify(request, ["It's a Secret to Everybody"], NOW)
    assert delivery == hashlib.sha256(b"Hello, World!").hexdigest()


def test_the_scheme_of_a_source_is_no_choice_of_the_sender() -> None:
    for case in (case for case in CASES if case.scheme == "token"):
        strong = next(one for one in CASES if one.provider == case.provider and one.scheme != "token")
        refuse(strong, case.sign(strong.secret, BODY, NOW))
        with pytest.raises(SignatureRefusedError):  # the stronger one is the default
            PROVIDERS[case.provider].verify(
                HookRequest(headers=case.sign("token", BODY, NOW), body=BODY), ["token"], NOW
            )
        with pytest.raises(UnknownNameError, match="signature-v9"):
            PROVIDERS[case.provider].verify(HookRequest(headers={}, body=BODY), ["token"], NOW, "signature-v9")


@pytest.mark.parametrize(
    "header", ["timestamp=1", "signature=x", "timestamp=x,signature=" + "0" * 64, "a=1,b=2", "timestamp=1,timestamp=1"]
)
def test_an_odd_signature_of_buildkite_is_refused(header: str) -> None:
    refuse(CASES[5], {"x-buildkite-signature": header})


def test_the_empty_signatures_of_gitea_without_a_secret_are_refused() -> None:
    headers = {"x-gitea-signature": "", "x-hub-signature-256": "sha256=", "x-gitea-delivery": ID}
    for name in ("gitea", "forgejo", "github"):
        with pytest.raises(SignatureRefusedError):
            PROVIDERS[name].verify(HookRequest(headers=headers, body=BODY), ["secret"], NOW)


@pytest.mark.parametrize("identity", ["é", "a b", "x" * 256, "\x00"])
def test_an_odd_id_of_a_delivery_is_refused(identity: str) -> None:
    for case in (case for case in CASES if case.delivery == ID):
        headers = case.sign(case.secret, BODY, NOW)
        refuse(case, {name: identity if value == ID else value for name, value in headers.items()})


def test_gitlab_names_a_delivery_by_its_event_where_it_has_no_key() -> None:
    headers = {"x-gitlab-token": "s", "x-gitlab-event-uuid": ID}
    assert PROVIDERS["gitlab"].verify(HookRequest(headers=headers, body=BODY), ["s"], NOW, "token") == ID


# -- headers that somebody configured ----------------------------------------------------------------------------------

BASIC = "Basic " + base64.b64encode(b"cachescope:pass:word").decode()


@pytest.mark.parametrize(
    ("secret", "headers", "passes"),
    [
        ("cachescope:pass:word", {"authorization": BASIC}, True),
        (BASIC, {"authorization": BASIC}, True),
        (f"Authorization: {BASIC}", {"authorization": BASIC}, True),
        ("s3cret", {"authorization": "s3cret"}, True),
        ("s3cret", {"authorization": "Bearer s3cret"}, True),
        ("s3cret", {"authorization": "bearer s3cret"}, True),
        ("s3cret", {"authorization": "Basic " + base64.b64encode(b":s3cret").decode()}, True),
        ("s3cret", {"authorization": "Basic " + base64.b64encode(b"s3cret:").decode()}, True),
        ("X-Hook-Token: s3cret", {"x-hook-token": "s3cret"}, True),
        ("x-hook-token:s3cret", {"x-hook-token": "s3cret"}, True),
        ("cachescope:wrong", {"authorization": BASIC}, False),
        ("other:pass:word", {"authorization": BASIC}, False),
        ("cachescope", {"authorization": BASIC}, False),
        ("s3cret", {"authorization": "Digest s3cret"}, False),
        ("s3cret", {"x-hook-token": "s3cret"}, False),
        ("s3cret", {"authorization": "Basic s3cret"}, False),
        ("X-Hook-Token: s3cret", {"authorization": "s3cret"}, False),
        ("X-Hook-Token: s3cret", {"x-hook-token": "s3cret2"}, False),
        ("X-Hook-Token: s3cret", {"x-hook-token": ""}, False),
        ("X-Hook-Token:  ", {"x-hook-token": ""}, False),
        ("s3cret", {}, False),
    ],
)
def test_a_configured_header_is_compared_as_somebody_noted_it_down(
    secret: str, headers: dict[str, str], passes: bool
) -> None:
    for case in (case for case in CASES if case.scheme == "header"):
        if passes:
            assert verify(case, headers, BODY, secret)
        else:
            refuse(case, headers, BODY, secret)


@pytest.mark.parametrize(
    ("provider", "body", "identity"),
    [
        ("registry", {"events": [{"id": "320678d8"}]}, "320678d8"),
        ("registry", {"events": [{"id": "1"}, {"id": "2"}]}, None),
        ("registry", [], None),
        ("harbor", {"specversion": "1.0", "id": "66e18103"}, "66e18103"),
        ("harbor", {"id": "66e18103"}, None),
        ("harbor", 7, None),
        ("azure", {"id": "4a5d99d6"}, "4a5d99d6"),
        ("azure", {"id": 7}, None),
        ("azure", [], None),
    ],
)
def test_the_id_of_a_delivery_is_the_one_in_the_body(provider: str, body: object, identity: str | None) -> None:
    content = json.dumps(body).encode()
    request = HookRequest(headers={"authorization": "s3cret"}, body=content)
    assert PROVIDERS[provider].verify(request, ["s3cret"], NOW) == identity or hashlib.sha256(content).hexdigest()


TEXT = st.text(max_size=40)
VALUE = TEXT | st.from_regex(r"(sha256=|v1=|v1,|timestamp=\d+,signature=)[0-9a-f]{64}", fullmatch=True)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_no_headers_make_it_raise_anything_else(case: Case) -> None:
    names = sorted({name for one in CASES for name in one.sign(one.secret, BODY, NOW)})

    @settings(max_examples=60, deadline=None)
    @given(st.dictionaries(st.sampled_from(names), VALUE, max_size=6), st.binary(max_size=30))
    def run(headers: dict[str, str], body: bytes) -> None:
        with pytest.raises(SignatureRefusedError):
            verify(case, headers, body)

    run()


@pytest.mark.parametrize("size", [25, 31, 32])
def test_a_key_may_be_written_without_padding_and_in_the_alphabet_of_addresses(size: int) -> None:
    key = bytes(251 - number for number in range(size))
    headers = standard("whsec_" + base64.b64encode(key).decode(), BODY, NOW)
    written = base64.urlsafe_b64encode(key).decode()
    for secret in (f"whsec_{written}", f"whsec_{written.rstrip('=')}", written.rstrip("=")):
        for provider in ("generic", "gitlab"):
            request = HookRequest(headers=headers, body=BODY)
            assert PROVIDERS[provider].verify(request, [secret], NOW) == "msg_1"


def test_a_secret_that_lacks_padding_may_be_meant_as_it_stands_but_a_whole_one_never() -> None:
    def signed_with(key: bytes) -> HookRequest:
        return HookRequest(headers=standard(base64.b64encode(key).decode(), BODY, NOW), body=BODY)

    generic = PROVIDERS["generic"]
    assert generic.verify(signed_with(b"a-plain-secret"), ["a-plain-secret"], NOW) == "msg_1"
    for key in (WHSEC.encode(), WHSEC.removeprefix("whsec_").encode()):
        with pytest.raises(SignatureRefusedError):
            generic.verify(signed_with(key), [WHSEC], NOW)
