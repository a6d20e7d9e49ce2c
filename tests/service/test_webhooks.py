"""The signed door: genuine webhooks are kept before they are answered, all others leave nothing behind."""

import base64
import gzip
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from service.actions.sources import SourceForm, create_source, disable_source, rotate_secret
from service.auth.permissions import Viewer
from store.database import reading, transaction
from store.logs import open_logs, read_log
from store.models import Build, Delivery, Source, StoredLog, Team
from store.models.sources import Hook
from store.queries import repositories, sources
from tests.factories import make_team
from workers.hooks import unpack_body
from workers.schedule import read_overdue
from workers.tasks.ingest import ingest

LOG = "#1 [internal] load build definition from Dockerfile\n#1 DONE 0.0s\n\n#2 [1/1] RUN make\n#2 DONE 1.5s\n"
SECRET = "ghp_" + "abcdefghijklmnopqrstuvwxyz0123456789"


@pytest.fixture
def source(home: Path) -> tuple[str, str]:
    """The id of a source and its secret."""
    with transaction() as session:
        team = make_team(session)
        owner = Viewer(name="Ada", roles={team.id: "owner"})
        made, secret = create_source(session, owner, team, SourceForm(name="Jenkins"))
        return made.id, secret


def event(kind: str = "build.log", **said: Any) -> bytes:
    """An event as a CI system sends it."""
    said = {"repository": "acme/api", "branch": "main", "log": LOG} | said
    return json.dumps({"type": kind, "timestamp": "2026-11-20T10:11:12Z", "data": said}).encode()


def sign(secret: str, body: bytes, *, identity: str = "msg_1", at: float | None = None) -> dict[str, str]:
    """The headers of Standard Webhooks, made without our own code."""
    stamp = str(int(time.time() if at is None else at))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{identity}.{stamp}.".encode() + body, hashlib.sha256).digest()
    signature = f"v1,{base64.b64encode(digest).decode()}"
    return {
        "webhook-id": identity,
        "webhook-timestamp": stamp,
        "webhook-signature": signature,
        "content-type": "application/json",
    }


def post(client: httpx.Client, source_id: str, body: bytes, headers: dict[str, str]) -> httpx.Response:
    return client.post(f"/hooks/{source_id}", content=body, headers=headers)


def load(delivery_id: str) -> Delivery:
    with reading() as session:
        return session.get_one(Delivery, delivery_id)


def hook_of(delivery_id: str) -> Hook:
    with reading() as session:
        return session.get_one(Hook, delivery_id)


def count(table: type) -> int:
    with reading() as session:
        return session.scalar(select(func.count()).select_from(table))


def test_a_signed_log_becomes_a_build(client: httpx.Client, source: tuple[str, str]) -> None:
    body = event(commit="abcdef1", pull_request=7, attempt=2, job="image")
    answer = post(client, source[0], body, sign(source[1], body))
    assert answer.status_code == 202
    delivery = load(answer.json()["delivery"])
    assert (delivery.state, delivery.kind, delivery.source_id) == ("new", "hook", source[0])
    ingest(delivery.id)
    delivery = load(delivery.id)
    assert (delivery.state, delivery.error, hook_of(delivery.id).body) == ("done", None, None)
    with reading() as session:
        build = session.scalars(select(Build)).one()
        assert (build.commit_id, build.branch_class) == ("abcdef1", "pull_request")
        assert session.get_one(Team, delivery.team_id).slug == "acme"


def test_a_packed_log_is_unpacked(client: httpx.Client, source: tuple[str, str]) -> None:
    body = event(log=None, log_gzip_base64=base64.b64encode(gzip.compress(LOG.encode())).decode())
    answer = post(client, source[0], body, sign(source[1], body))
    ingest(answer.json()["delivery"])
    assert load(answer.json()["delivery"]).log_bytes == len(LOG)


def test_no_secret_of_a_body_lies_readable_on_disk(client: httpx.Client, source: tuple[str, str]) -> None:
    body = event(log=f"{LOG}#2 0.1 {SECRET}\n")
    delivery = post(client, source[0], body, sign(source[1], body)).json()["delivery"]
    assert SECRET.encode() not in hook_of(delivery).body
    ingest(delivery)
    assert load(delivery).redactions == 1
    assert SECRET.encode() not in b"".join(read_log(open_logs(), load(delivery).log_digest))


def test_the_same_webhook_twice_is_one_delivery(client: httpx.Client, source: tuple[str, str]) -> None:
    body = event()
    first = post(client, source[0], body, sign(source[1], body)).json()
    again = post(client, source[0], body, sign(source[1], body))
    assert again.status_code == 202
    assert again.json() == {"delivery": first["delivery"], "repeated": True}
    assert count(Delivery) == count(Hook) == 1


@pytest.mark.parametrize("body", [event("build.started"), json.dumps({"type": 7}).encode()], ids=["unknown", "odd"])
def test_an_event_without_a_log_is_taken_and_shown_as_ignored(
    client: httpx.Client, source: tuple[str, str], body: bytes
) -> None:
    answer = post(client, source[0], body, sign(source[1], body))
    assert answer.status_code == 202
    ingest(answer.json()["delivery"])
    delivery = load(answer.json()["delivery"])
    assert delivery.state == "ignored"
    assert "carry no build log" in delivery.error
    assert unpack_body(hook_of(delivery.id).body) == body


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "not JSON"),
        (b"[]", "not an event"),
        (json.dumps({"type": "build.log", "data": 1}).encode(), '"data"'),
        (event(log=7), '"log"'),
        (event(log=None), '"log"'),
        (event(repository=None), "data.repository"),
        (event(outcome="banana"), "banana"),
        (event(branch=["main"]), "branch"),
        (event(attempt=True), "attempt"),
        (event(log=None, log_gzip_base64="no base64!"), "base64"),
        (event(log=None, log_gzip_base64=base64.b64encode(b"no gzip").decode()), "gzip"),
        (event(log=None, log_gzip_base64=base64.b64encode(gzip.compress(bytes(300 << 20))).decode()), "more than"),
        (event(log=""), "empty"),
        (event(log="\x00\x01" * 500), "not text"),
    ],
    ids=[
        "cut",
        "list",
        "data",
        "number",
        "no log",
        "no name",
        "enum",
        "array",
        "bool",
        "b64",
        "gzip",
        "bomb",
        "empty",
        "noise",
    ],
)
def test_a_signed_event_that_cannot_be_read_fails_visibly_and_is_kept(
    client: httpx.Client, source: tuple[str, str], body: bytes, words: str
) -> None:
    answer = post(client, source[0], body, sign(source[1], body))
    assert answer.status_code == 202
    ingest(answer.json()["delivery"])
    delivery = load(answer.json()["delivery"])
    assert delivery.state == "failed"
    assert words in delivery.error
    assert delivery.attempts == 1
    assert hook_of(delivery.id).body is not None or delivery.body_digest is not None


def test_a_source_of_one_repository_takes_no_other(client: httpx.Client, source: tuple[str, str]) -> None:
    with transaction() as session:
        made = session.get_one(Source, source[0])
        made.repository_id = repositories.get_or_create_repository(session, made.team_id, "acme/shop").id
    wrong, right = event(), event(repository=None)
    ids = []
    for name, body in (("1", wrong), ("2", right)):
        ids.append(post(client, source[0], body, sign(source[1], body, identity=name)).json()["delivery"])
        ingest(ids[-1])
    assert load(ids[0]).state == "failed"
    assert "acme/shop only" in load(ids[0]).error
    assert load(ids[1]).state == "done"


# -- what is refused ---------------------------------------------------------------------------------------------------


def assert_refused(answer: httpx.Response, status: int, word: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert word in answer.json()["detail"]
    assert count(Delivery) == count(StoredLog) == 0


def refused_signatures(client: httpx.Client) -> dict[str, float]:
    lines = [
        line for line in client.get("/metrics").text.splitlines() if line.startswith("cachescope_bad_signatures_total{")
    ]
    return {line.split('"')[1]: float(line.rpartition(" ")[2]) for line in lines}


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,é"},
        {"webhook-signature": "v2,"},
        {"webhook-id": "msg_2"},
        {"webhook-id": "msg.1"},
        {"webhook-timestamp": "1"},
        {"webhook-timestamp": "9" * 30},
        {"webhook-timestamp": "-1"},
        {"webhook-timestamp": "1e9"},
    ],
    ids=lambda change: "{}-{}".format(*next(iter(change.items())))[:30],
)
def test_a_request_that_was_not_signed_so_is_refused_and_counted(
    client: httpx.Client, source: tuple[str, str], change: dict[str, str]
) -> None:
    body = event()
    headers = {name: value.encode() for name, value in (sign(source[1], body) | change).items()}
    assert_refused(client.post(f"/hooks/{source[0]}", content=body, headers=headers), 401, "not signed")
    assert refused_signatures(client) == {source[0]: 1.0}


@pytest.mark.parametrize("offset", [-301, 360])
def test_a_stale_webhook_is_refused(client: httpx.Client, source: tuple[str, str], offset: int) -> None:
    body = event()
    assert_refused(post(client, source[0], body, sign(source[1], body, at=time.time() + offset)), 401, "clock")


def test_a_changed_byte_is_refused(client: httpx.Client, source: tuple[str, str]) -> None:
    body = event()
    assert_refused(post(client, source[0], body.replace(b"main", b"mane"), sign(source[1], body)), 401, "not signed")


def test_an_unknown_source_answers_like_a_wrong_signature(client: httpx.Client, source: tuple[str, str]) -> None:
    body = event()
    wrong = post(client, source[0], body, sign("whsec_" + base64.b64encode(b"x" * 32).decode(), body))
    unknown = post(client, "nobody", body, sign(source[1], body))
    different = {"instance", "request_id"}
    assert {k: v for k, v in wrong.json().items() if k not in different} == {
        k: v for k, v in unknown.json().items() if k not in different
    }
    assert wrong.status_code == unknown.status_code == 401
    assert refused_signatures(client) == {source[0]: 1.0, "unknown": 1.0}


def test_a_source_that_is_off_is_as_good_as_none(client: httpx.Client, source: tuple[str, str]) -> None:
    with transaction() as session:
        team = session.scalars(select(Team)).one()
        disable_source(session, Viewer(name="Ada", roles={team.id: "owner"}), team, source[0])
    body = event()
    assert_refused(post(client, source[0], body, sign(source[1], body)), 401, "not signed")


def test_a_replaced_secret_works_for_another_week(client: httpx.Client, source: tuple[str, str]) -> None:
    with transaction() as session:
        team = session.scalars(select(Team)).one()
        new = rotate_secret(session, Viewer(name="Ada", roles={team.id: "owner"}), team, source[0])
        assert new in sources.secrets_at(sources.find_source(session, source[0]), team.created_at)
    body = event()
    for number, secret in enumerate((source[1], new)):
        assert post(client, source[0], body, sign(secret, body, identity=f"msg_{number}")).status_code == 202


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "", "application/jsonp"])
def test_only_json_is_taken(client: httpx.Client, source: tuple[str, str], kind: str) -> None:
    body = event()
    assert_refused(post(client, source[0], body, sign(source[1], body) | {"content-type": kind}), 415, "JSON")


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/cloudevents+json"])
def test_every_kind_of_json_is_taken(client: httpx.Client, source: tuple[str, str], kind: str) -> None:
    body = event()
    assert post(client, source[0], body, sign(source[1], body) | {"content-type": kind}).status_code == 202


def test_more_than_25_mb_are_refused(client: httpx.Client, source: tuple[str, str]) -> None:
    body = event(log="x" * (25 << 20))
    assert_refused(post(client, source[0], body, sign(source[1], body)), 413, "/api/v1/uploads")

    def pieces() -> Any:
        yield from (b" " * (1 << 20) for _ in range(26))

    assert_refused(client.post(f"/hooks/{source[0]}", content=pieces(), headers=sign(source[1], b"")), 413, "25 MiB")


def test_a_webhook_whose_hint_is_lost_is_read_from_the_database(client: httpx.Client, source: tuple[str, str]) -> None:
    body = event()
    delivery = post(client, source[0], body, sign(source[1], body)).json()["delivery"]
    until = time.monotonic() + 10
    while load(delivery).state != "done" and time.monotonic() < until:
        read_overdue()
        time.sleep(0.1)
    assert load(delivery).state == "done"
