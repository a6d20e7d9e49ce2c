"""Each kind of channel: what it makes of a notice, what it sends, and what it says when that fails."""

import base64
import email
import email.policy
import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP
from pydantic import ValidationError

from integrations.channels import CHANNELS
from integrations.channels.base import Context, MailServer, Notice, PostponedError, RefusedError
from integrations.http import Reach

FOLDER = Path(__file__).parent / "channels"
NOTICES = [Notice.from_document(document) for document in json.loads((FOLDER / "notices.json").read_text())]
SIMPLE = sorted({*CHANNELS} - {"apprise", "email", "github", "gitlab"})
"""The kinds that send one request."""
SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes....").decode()
PATH = "/services/T000/B000/a-secret-in-the-path"
HERE = Context(reach=Reach((ip_network("127.0.0.0/8"),)), timestamp=1_790_000_000.0)


def config_of(name: str, url: str = "https://hooks.example.org" + PATH) -> Any:
    given: dict[str, dict[str, str]] = {
        "apprise": {"url": "tgram://123456789:abcdefg_hijklmnop/12315544/"},
        "email": {"to": "builds@example.org, ada@example.org"},
        "github": {"repository": "acme/api", "token": "ghp_x", "api": url},
        "gitlab": {"project": "acme/api", "token": "glpat-x", "url": url},
        "pagerduty": {"routing_key": "a-key-of-an-integration", "url": url},
        "webhook": {"url": url, "secret": SECRET},
    }
    return CHANNELS[name].Config.model_validate(given.get(name, {"url": url}))


class Receiver(BaseHTTPRequestHandler):
    """Answers as it is told and keeps what came."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.came.append(
            (
                f"{self.command} {self.path}" if self.command != "POST" else self.path,
                {k.lower(): v for k, v in self.headers.items()},
                body,
            )
        )
        status, headers, answer = self.server.answers.pop(0) if self.server.answers else (200, {}, b"ok")
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_PATCH = do_PUT = do_POST  # noqa: N815 - the base class calls them so

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def receiving(*answers: tuple[int, dict[str, str], bytes]) -> Iterator[tuple[str, list[Any]]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.came, server.answers = [], list(answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.came
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("name", sorted(CHANNELS))
def test_every_sample_renders_to_its_json(name: str, golden: Callable[[Path, Any], None]) -> None:
    config = config_of(name)
    golden(FOLDER / f"{name}.json", [CHANNELS[name].render(config, notice) for notice in NOTICES])


@pytest.mark.parametrize("name", SIMPLE)
def test_a_channel_posts_what_it_renders(name: str) -> None:
    with receiving() as (url, came):
        CHANNELS[name].send(config_of(name, url + PATH), NOTICES[0], HERE)
    path, headers, body = came[0]
    assert path.startswith(PATH)
    assert headers["content-type"] == "application/json"
    rendered = CHANNELS[name].render(config_of(name), NOTICES[0])
    assert {**json.loads(body), **rendered} == json.loads(body)


@pytest.mark.parametrize("name", SIMPLE)
@pytest.mark.parametrize("status", [400, 401, 404, 410])
def test_a_refusal_is_final_and_tells_no_secret(name: str, status: int) -> None:
    with receiving((status, {}, b"no such hook " + PATH.encode())) as (url, _), pytest.raises(RefusedError) as caught:
        CHANNELS[name].send(config_of(name, url + PATH), NOTICES[0], HERE)
    assert str(status) in str(caught.value)
    assert "a-secret-in-the-path" not in str(caught.value)


@pytest.mark.parametrize("name", SIMPLE)
@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_failure_of_the_receiver_is_tried_again(name: str, status: int) -> None:
    answer = (status, {"Retry-After": "17"}, b"")
    with receiving(answer) as (url, _), pytest.raises(PostponedError) as caught:
        CHANNELS[name].send(config_of(name, url + PATH), NOTICES[0], HERE)
    assert caught.value.after_seconds == 17


@pytest.mark.parametrize("name", SIMPLE)
def test_private_addresses_are_refused_unless_allowed(name: str) -> None:
    with receiving() as (url, came), pytest.raises(RefusedError) as caught:
        CHANNELS[name].send(config_of(name, url + PATH), NOTICES[0], Context(timestamp=1.0))
    assert came == []
    assert "not on the public internet" in str(caught.value)


@pytest.mark.parametrize("name", SIMPLE)
def test_a_receiver_that_is_away_is_tried_again_and_its_address_stays_secret(name: str) -> None:
    with receiving() as (url, _):
        pass
    with pytest.raises(PostponedError) as caught:
        CHANNELS[name].send(config_of(name, url + PATH), NOTICES[0], HERE)
    assert "127.0.0.1" in str(caught.value)
    assert "a-secret-in-the-path" not in str(caught.value)


def test_a_receiver_that_leads_elsewhere_is_not_followed() -> None:
    answer = (302, {"Location": "http://169.254.169.254/"}, b"")
    with receiving(answer) as (url, came), pytest.raises(RefusedError, match="leads elsewhere"):
        CHANNELS["discord"].send(config_of("discord", url + PATH), NOTICES[0], HERE)
    assert len(came) == 1


def test_a_signed_webhook_can_be_verified_with_the_secret() -> None:
    with receiving() as (url, came):
        CHANNELS["webhook"].send(config_of("webhook", url + PATH), NOTICES[0], HERE)
    _, headers, body = came[0]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert headers["webhook-id"] == NOTICES[0].id


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("webhook", {"url": "https://a.example/x", "secret": "short"}),
        ("webhook", {"url": "ftp://a.example/x", "secret": SECRET}),
        ("slack", {}),
        ("slack", {"token": "xoxb-1"}),
        ("email", {"to": "nobody"}),
        ("email", {"to": "a@example.org\r\nBcc: b@example.org <c"}),
        ("apprise", {"url": "json://169.254.169.254/"}),
        ("apprise", {"url": "tgram://"}),
        ("discord", {"url": "https://user:password@a.example/x"}),
    ],
)
def test_settings_that_cannot_work_are_refused(kind: str, config: dict[str, str]) -> None:
    with pytest.raises((ValidationError, ValueError)):
        CHANNELS[kind].Config.model_validate(config)


class Mailbox:
    """Takes mail, or answers with what it is told."""

    def __init__(self, answer: str = "250 OK") -> None:
        self.answer = answer
        self.letters: list[bytes] = []

    async def handle_DATA(self, _server: SMTP, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd calls it so
        self.letters.append(envelope.content)
        return self.answer


@contextmanager
def mail(answer: str = "250 OK") -> Iterator[tuple[Context, Mailbox]]:
    box = Mailbox(answer)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield Context(mail=MailServer(host="127.0.0.1", port=port, security="none")), box
    finally:
        controller.stop()


def test_a_letter_has_plain_text_and_html_and_no_header_from_outside() -> None:
    with mail() as (context, box):
        CHANNELS["email"].send(config_of("email"), NOTICES[1], context)
    letter = email.message_from_bytes(box.letters[0], policy=email.policy.default)
    assert letter["Bcc"] is None
    assert letter["Message-ID"] == f"<{NOTICES[1].id}@localhost>"
    assert [part.get_content_type() for part in letter.iter_parts()] == ["text/plain", "text/html"]
    html = letter.get_body(("html",)).get_content()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "https://cache.example.org/alerts/7" in letter.get_body(("plain",)).get_content()


@pytest.mark.parametrize(("answer", "error"), [("451 later", PostponedError), ("550 never", RefusedError)])
def test_what_the_mail_server_says_decides_whether_it_is_tried_again(answer: str, error: type[Exception]) -> None:
    with mail(answer) as (context, _), pytest.raises(error, match=answer[:3]):
        CHANNELS["email"].send(config_of("email"), NOTICES[0], context)


def test_without_a_mail_server_no_letter_can_be_sent() -> None:
    with pytest.raises(RefusedError, match="CACHESCOPE_ALERT_SMTP_HOST"):
        CHANNELS["email"].send(config_of("email"), NOTICES[0], Context())


def test_a_mail_server_that_is_away_is_tried_again() -> None:
    server = MailServer(host="127.0.0.1", port=1, security="none")
    with pytest.raises(PostponedError, match="cannot be reached"):
        CHANNELS["email"].send(config_of("email"), NOTICES[0], Context(mail=server))


def test_slack_with_a_token_writes_over_its_first_message(monkeypatch: pytest.MonkeyPatch) -> None:
    config = CHANNELS["slack"].Config.model_validate({"token": "xoxb-secret", "channel": "#builds"})
    said = (200, {"Content-Type": "application/json"}, b'{"ok":true,"channel":"C1","ts":"17.1"}')
    with receiving(said, said, (200, {}, b'{"ok":false,"error":"channel_not_found"}')) as (url, came):
        monkeypatch.setattr("integrations.channels.slack.API", url)
        first = CHANNELS["slack"].send(config, NOTICES[0], HERE)
        former = Context(reach=HERE.reach, former=first.reference)
        CHANNELS["slack"].send(config, NOTICES[1], former)
        with pytest.raises(RefusedError, match="channel_not_found"):
            CHANNELS["slack"].send(config, NOTICES[0], HERE)
    assert [path for path, _, _ in came] == ["/chat.postMessage", "/chat.update", "/chat.postMessage"]
    assert json.loads(came[1][2])["ts"] == "17.1"
    assert came[0][1]["authorization"] == "Bearer xoxb-secret"


def test_no_setting_shows_its_secret() -> None:
    for name in sorted({*CHANNELS} - {"github", "gitlab", "pagerduty"}):  # whose address is public
        assert "a-secret-in-the-path" not in repr(config_of(name))
        assert "thirty-two" not in repr(config_of(name))


@pytest.mark.parametrize(
    ("kind", "number", "comments", "change"),
    [
        ("github", "number", "/repos/acme/api/issues/5/comments", "PATCH"),
        ("gitlab", "iid", "/api/v4/projects/acme%2Fapi/issues/5/notes", "PUT"),
    ],
)
def test_an_issue_is_opened_and_closed_with_a_comment(kind: str, number: str, comments: str, change: str) -> None:
    made = json.dumps({number: 5}).encode()
    with receiving((200, {}, b"[]"), (201, {}, made), (201, {}, b"{}"), (200, {}, b"{}")) as (url, came):
        config = config_of(kind, url)
        first = CHANNELS[kind].send(config, NOTICES[0], HERE)
        CHANNELS[kind].send(config, NOTICES[1], Context(reach=HERE.reach, former=first.reference))
    assert first.reference == {"number": 5}
    assert came[2][0] == comments
    assert came[3][0].startswith(f"{change} ")
    assert "<script>" not in came[2][2].decode()
    assert "@everyone" not in came[2][2].decode()


@pytest.mark.parametrize(("kind", "number", "text"), [("github", "number", "body"), ("gitlab", "iid", "description")])
def test_an_issue_that_an_earlier_try_opened_is_found(kind: str, number: str, text: str) -> None:
    there = [{number: 9, text: f"… <!-- cachescope {NOTICES[0].id} -->"}]
    with receiving((200, {}, json.dumps(there).encode())) as (url, came):
        receipt = CHANNELS[kind].send(config_of(kind, url), NOTICES[0], HERE)
    assert receipt.reference == {"number": 9}
    assert len(came) == 1
