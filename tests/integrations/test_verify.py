"""`cachescope verify` judges a recorded request as the server would."""

import base64
import hashlib
import hmac
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from cachescope.cli.main import run
from integrations import verify

BODY = b"Hello, World!"
HEADERS = {"X-HUB-Signature-256": "sha256=" + hmac.new(b"s3cret", BODY, hashlib.sha256).hexdigest()}


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    path = tmp_path / "secrets"
    path.write_bytes(b"\xef\xbb\xbfwrong\r\n\r\ns3cret\r\n")
    return path


def record(folder: Path, headers: Any = None, body: Any = None, **more: Any) -> Path:
    path = folder / "request.json"
    encoded = base64.b64encode(BODY).decode() if body is None else body
    path.write_text(json.dumps({"headers": HEADERS if headers is None else headers, "body_b64": encoded} | more))
    return path


def judge(request: Path | str, secrets: Path, provider: str = "github", *more: str) -> int:
    return run(["verify", "--provider", provider, "--secret-file", str(secrets), *more, str(request)])


def test_a_genuine_request_is_accepted(tmp_path: Path, secrets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert judge(record(tmp_path, HEADERS | {"X-GitHub-Delivery": "abc-1"}), secrets) == 0
    assert capsys.readouterr().out == "accepted abc-1\n"
    assert judge(record(tmp_path), secrets) == 0
    assert capsys.readouterr().out == f"accepted {hashlib.sha256(BODY).hexdigest()}\n"


def test_a_wrapped_body_is_read(tmp_path: Path, secrets: Path) -> None:
    assert judge(record(tmp_path, body="SGVsbG8s\nIFdvcmxkIQ==\n"), secrets) == 0


def test_standard_input_is_read(
    tmp_path: Path, secrets: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(record(tmp_path).read_bytes())))
    assert judge("-", secrets) == 0
    assert capsys.readouterr().out.startswith("accepted ")


def test_a_forged_request_is_refused_with_the_reason(
    tmp_path: Path, secrets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judge(record(tmp_path, body=base64.b64encode(b"Hello, World?").decode()), secrets) == 1
    assert capsys.readouterr().out.startswith("refused: The signature in X-Hub-Signature-256 fits no secret")


@pytest.mark.parametrize(
    "headers",
    [
        {name: [value, value] for name, value in HEADERS.items()},
        HEADERS | {"x-hub-signature-256": "sha256=" + "0" * 64},
        HEADERS | {"x-hub-signature-256": HEADERS["X-HUB-Signature-256"]},
        {"X-Hub-Signature": HEADERS["X-HUB-Signature-256"]},
        {"X-Hub-Signature-256": ""},
        {"X-Hub-Signature-256": "sha256=é"},
        {},
    ],
)
def test_a_header_that_came_twice_or_elsewhere_is_refused(tmp_path: Path, secrets: Path, headers: Any) -> None:
    assert judge(record(tmp_path, headers), secrets) == 1


def test_a_name_that_stands_twice_in_the_file_came_twice(
    tmp_path: Path, secrets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, value = next(iter(HEADERS.items()))
    path = tmp_path / "twice.json"
    path.write_text(
        f'{{"headers": {{"{name}": "x", "{name}": "y", "{name}": "{value}"}}, "body_b64": "SGVsbG8sIFdvcmxkIQ=="}}'
    )
    assert judge(path, secrets) == 1
    assert "came twice" in capsys.readouterr().out


def test_the_clock_can_be_set(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
    body = base64.b64encode(b'{"test": 2432232314}').decode()
    headers = {
        "Webhook-Id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "Webhook-Timestamp": "1614265330",
        "Webhook-Signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    path = record(tmp_path, headers, body)
    for provider in ("generic", "gitlab"):
        assert judge(path, secrets, provider, "--now", "1614265630") == 0
        assert judge(path, secrets, provider, "--now", "1614265631") == 1
        assert judge(path, secrets, provider) == 1


def test_a_scheme_can_be_chosen(tmp_path: Path, secrets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = record(tmp_path, {"X-Gitlab-Token": "s3cret"})
    assert judge(path, secrets, "gitlab", "--scheme", "token") == 0
    assert judge(path, secrets, "gitlab") == 1
    assert judge(path, secrets, "gitlab", "--scheme", "sha1") == 2
    assert 'Unknown scheme "sha1". Known: signing-token, token.' in capsys.readouterr().err


def test_what_the_route_would_not_take_is_said_beside_the_judgement(
    tmp_path: Path, secrets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind, words in (
        ("application/x-www-form-urlencoded", 'answers 415 to the Content-Type "application/x-www-form-urlencoded"'),
        ("application/json; charset=utf-8", ""),
        ("application/vnd.docker.distribution.events.v2+json", ""),
    ):
        assert (
            judge(
                record(tmp_path, {"X-Gitlab-Token": "s3cret", "Content-Type": kind}),
                secrets,
                "gitlab",
                "--scheme",
                "token",
            )
            == 0
        )
        captured = capsys.readouterr()
        assert captured.out.startswith("accepted ")
        assert words in captured.err
        assert bool(captured.err) is bool(words)


def test_names_are_written_with_hyphens(tmp_path: Path, secrets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = record(tmp_path, {"Authorization": "s3cret"})
    assert judge(path, secrets, "docker-hub") == 0
    assert judge(path, secrets, "docker_hub") == 2
    assert "docker-hub" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "must be an object"),
        (b'{"headers": {}}', "must be an object"),
        (b'{"headers": [], "body_b64": ""}', "must be an object"),
        (b'{"headers": {}, "body_b64": 7}', "must be an object"),
        (b'{"headers": {}, "body_b64": "!"}', "not base64"),
        (b'{"headers": {}, "body_b64": "\xc3\xa9"}', "not base64"),
        (b'{"headers": {"a": 7}, "body_b64": ""}', "must be a text"),
        (b'{"headers": {"a": [7]}, "body_b64": ""}', "must be a text"),
        (b'{"headers": {"a": {}}, "body_b64": ""}', "must be a text"),
    ],
)
def test_a_request_that_cannot_be_read_ends_with_2(
    tmp_path: Path, secrets: Path, capsys: pytest.CaptureFixture[str], content: bytes, words: str
) -> None:
    path = tmp_path / "request.json"
    path.write_bytes(content)
    assert judge(path, secrets) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""


def test_what_is_not_there_or_unusable_ends_with_2(
    tmp_path: Path, secrets: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = record(tmp_path)
    assert judge(tmp_path / "nothing", secrets) == 2
    assert judge(tmp_path, secrets) == 2
    assert judge(path, tmp_path / "nothing") == 2
    assert judge(path, secrets, "hudson") == 2
    assert judge(path, secrets, "github", "--now", "soon") == 2
    assert judge(path, secrets, "github", "--now", "nan") == 2
    for content in (b"", b"\n \r\n", b"\xff\xfe"):
        secrets.write_bytes(content)
        assert judge(path, secrets) == 2
    secrets.write_bytes(b"s3cret")
    monkeypatch.setattr(verify, "LARGEST_BYTES", 10)
    assert judge(path, secrets) == 2
    assert "larger than 10 bytes" in capsys.readouterr().err


def test_no_secret_is_ever_printed(tmp_path: Path, secrets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for provider in ("github", "gitlab", "jenkins", "circleci", "buildkite"):
        judge(record(tmp_path, {}), secrets, provider)
    captured = capsys.readouterr()
    assert "s3cret" not in captured.out + captured.err
