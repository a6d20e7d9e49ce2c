"""Uploads: what is accepted is kept, what is refused leaves nothing behind, and each refusal says what to do."""

import gzip
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import orjson
import pytest
from backports import zstd
from sqlalchemy import func, select

from cachescope.surroundings import FileMark, Surroundings, write_surroundings
from service.actions.tokens import TokenForm, issue_token
from store.database import reading, transaction
from store.logs import open_logs, read_log
from store.models import Delivery, Repository, StoredLog
from store.queries import accounts, evidence, repositories
from tests import serving
from tests.factories import make_team

LOG = b"#1 [internal] load build definition from Dockerfile\n#1 DONE 0.0s\n\n#2 [1/1] RUN make\n#2 DONE 1.5s\n"


@pytest.fixture
def token(home: Path) -> str:
    """An upload token of a team."""
    with transaction() as session:
        return issue_token(session, make_team(session), TokenForm(name="CI"))[1]


@pytest.fixture
def scoped_token(home: Path, token: str) -> str:
    """An upload token of one repository of the same team."""
    with transaction() as session:
        team = accounts.find_team_by_slug(session, "acme")
        repository = repositories.get_or_create_repository(session, team.id, "acme/api")
        return issue_token(session, team, TokenForm(name="CI", repository_id=repository.id))[1]


def send(client: httpx.Client, token: str | None, body: object = LOG, **given: object) -> httpx.Response:
    """Upload a log; `headers` apart, what is given stands in the query."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    headers |= given.pop("headers", {})
    query = {"repository": "acme/api"} | given
    return client.post(
        "/api/v1/uploads", content=body, headers=headers, params={name: v for name, v in query.items() if v is not None}
    )


def stored() -> tuple[int, int, int]:
    """How many deliveries, logs and repositories there are."""
    with reading() as session:
        return tuple(
            session.scalar(select(func.count()).select_from(table)) for table in (Delivery, StoredLog, Repository)
        )


def kept(delivery_id: str) -> bytes:
    """The log of a delivery as it lies in the store."""
    with reading() as session:
        digest = session.get_one(Delivery, delivery_id).log_digest
    return b"".join(read_log(open_logs(), digest))


def assert_refused(answer: httpx.Response, status: int, *words: str) -> None:
    """Check that an answer is a problem in one sentence or two that names what is wrong."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["type"].startswith("urn:cachescope:problem:")
    assert problem["instance"] == "/api/v1/uploads"
    for word in words:
        assert word in problem["detail"]
    assert problem["detail"].endswith(".")


def test_an_upload_is_on_disk_when_it_is_accepted(client: httpx.Client, token: str) -> None:
    said = {"commit": "ABCDEF1", "branch": "main", "pull_request": "7", "job": "build", "attempt": "2"}
    answer = send(client, token, **said, started_at="2026-11-20T10:11:12+01:00")
    delivery = answer.json()["delivery"]
    assert answer.status_code == 202
    assert delivery["state"] == "new"
    assert delivery["log_bytes"] == len(LOG)
    assert delivery["parameters"] == {
        "repository": "acme/api",
        "commit": "abcdef1",
        "branch": "main",
        "pull_request": 7,
        "job": "build",
        "attempt": 2,
        "started_at": "2026-11-20T09:11:12+00:00",
    }
    assert answer.headers["location"] == delivery["url"] == f"{client.base_url}/api/v1/deliveries/{delivery['id']}"
    assert kept(delivery["id"]) == LOG


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(LOG)),
        ("x-gzip", gzip.compress(LOG)),
        ("zstd", zstd.compress(LOG)),
        ("identity", LOG),
        ("gzip", gzip.compress(LOG[:50]) + gzip.compress(LOG[50:])),
        (None, gzip.compress(LOG)),
        (None, zstd.compress(LOG)),
    ],
    ids=["gzip", "x-gzip", "zstd", "identity", "two gzip files", "gzip unnamed", "zstd unnamed"],
)
def test_a_packed_log_is_unpacked(client: httpx.Client, token: str, encoding: str | None, packed: bytes) -> None:
    answer = send(client, token, packed, headers={"Content-Encoding": encoding} if encoding else {})
    assert answer.status_code == 202, answer.text
    assert kept(answer.json()["delivery"]["id"]) == LOG


def test_a_log_of_powershell_is_kept_as_utf_8(client: httpx.Client, token: str) -> None:
    text = LOG.decode() + "#3 0.1 déjà vu\n"
    answer = send(client, token, text.encode("utf-16"))
    assert kept(answer.json()["delivery"]["id"]).decode() == text


def test_a_long_log_streams_through(client: httpx.Client, token: str) -> None:
    def pieces() -> Iterator[bytes]:
        for number in range(40):
            yield b"".join(b"#2 0.%d line %d of the output\n" % (number, line) for line in range(4000))

    answer = send(client, token, pieces())
    assert answer.status_code == 202
    assert answer.json()["delivery"]["log_bytes"] == len(b"".join(pieces()))
    assert kept(answer.json()["delivery"]["id"]) == b"".join(pieces())


def test_secrets_are_gone_before_anything_is_stored(client: httpx.Client, token: str) -> None:
    secret = b"ghp_" + b"abcdefghijklmnopqrstuvwxyz0123456789"
    answer = send(client, token, LOG + b"#2 0.1 token " + secret + b"\n", job=f"deploy {secret.decode()}")
    delivery = answer.json()["delivery"]
    assert delivery["redactions"] == 1
    assert secret not in kept(delivery["id"])
    assert secret not in answer.content


def test_the_same_key_gets_the_first_answer_again(client: httpx.Client, token: str) -> None:
    first = send(client, token, idempotency_key="run 7")
    again = send(client, token, gzip.compress(LOG), idempotency_key="run 7", headers={"Content-Encoding": "gzip"})
    assert again.status_code == 202
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert stored()[0] == 1


def test_without_a_key_each_upload_is_its_own(client: httpx.Client, token: str) -> None:
    ids = {send(client, token).json()["delivery"]["id"] for _ in range(2)}
    assert len(ids) == 2
    assert stored()[:2] == (2, 1)


@pytest.mark.parametrize(
    ("change", "differing"),
    [({"body": LOG * 2}, "another log"), ({"branch": "x"}, "parameters")],
    ids=["body", "parameters"],
)
def test_a_key_for_something_else_is_a_conflict(
    client: httpx.Client, token: str, change: dict[str, object], differing: str
) -> None:
    send(client, token, idempotency_key="run 7")
    assert_refused(send(client, token, idempotency_key="run 7", **change), 409, "run 7", differing)
    assert stored()[0] == 1


def test_keys_of_two_teams_do_not_meet(client: httpx.Client, token: str) -> None:
    with transaction() as session:
        other = issue_token(session, make_team(session, "other"), TokenForm(name="CI"))[1]
    ids = {send(client, each, idempotency_key="1").json()["delivery"]["id"] for each in (token, other)}
    assert len(ids) == 2


def test_a_token_of_one_repository_needs_no_name(client: httpx.Client, scoped_token: str) -> None:
    answer = send(client, scoped_token, repository=None)
    assert answer.json()["delivery"]["parameters"]["repository"] == "acme/api"


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_an_empty_body_is_refused(client: httpx.Client, token: str) -> None:
    assert_refused(send(client, token, b""), 422, "The body is empty")
    assert stored() == (0, 0, 0)


def test_a_body_that_says_it_is_too_large_is_refused_unread(client: httpx.Client, token: str) -> None:
    head = (
        f"POST /api/v1/uploads?repository=a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Length: {300 << 20}\r\n\r\n"
    )
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=30) as connection:
        connection.sendall(head.encode())
        answer = connection.recv(100_000)
    assert b" 413 " in answer.splitlines()[0]
    assert b"256 MiB" in answer
    assert stored() == (0, 0, 0)


def test_300_mb_that_nobody_announced_are_refused(client: httpx.Client, token: str) -> None:
    line = b"#2 0.1 the same line again and again, until somebody says that it is enough\n"
    piece = line * (4 * 1024 * 1024 // len(line))
    sent = 0

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(75):
            sent += len(piece)
            yield piece

    try:
        assert_refused(send(client, token, pieces()), 413, "256 MiB")
    except (httpx.WriteError, httpx.ReadError):
        assert sent > 200 << 20  # the server answered and closed before all was sent
    assert stored() == (0, 0, 0)
    assert not list((open_logs().folder / "incoming").iterdir())


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("gzip", gzip.compress), ("zstd", zstd.compress), (None, gzip.compress)],
    ids=["gzip", "zstd", "unnamed"],
)
def test_a_bomb_is_refused(client: httpx.Client, token: str, encoding: str | None, pack: object) -> None:
    packed = pack(b"0\n" * (32 << 20))
    assert len(packed) < 100_000
    answer = send(client, token, packed, headers={"Content-Encoding": encoding} if encoding else {})
    assert_refused(answer, 413, "200 times")
    assert stored() == (0, 0, 0)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("gzip", LOG), ("zstd", LOG), ("gzip", gzip.compress(LOG)[:-9])],
    ids=["no gzip", "no zstd", "cut gzip"],
)
def test_data_that_is_not_what_it_claims_is_refused(
    client: httpx.Client, token: str, encoding: str, body: bytes
) -> None:
    assert_refused(send(client, token, body, headers={"Content-Encoding": encoding}), 422, encoding)
    assert stored() == (0, 0, 0)


def test_an_unknown_encoding_is_refused(client: httpx.Client, token: str) -> None:
    assert_refused(send(client, token, headers={"Content-Encoding": "br"}), 415, '"br"', "gzip or zstd")


@pytest.mark.parametrize(
    "noise",
    [os.urandom(100_000), bytes(10_000), b"\x7fELF\x02\x01\x01" + bytes(200), os.urandom(300)],
    ids=["random", "zeros", "program", "short"],
)
def test_binary_noise_is_refused(client: httpx.Client, token: str, noise: bytes) -> None:
    assert_refused(send(client, token, noise), 422, "not text")
    assert stored() == (0, 0, 0)


def test_a_log_without_a_build_is_taken_like_any_other(client: httpx.Client, token: str) -> None:
    assert send(client, token, b"npm test\nall is well\n").status_code == 202


@pytest.mark.parametrize("wrong", [None, "csc_unknown", "x y", "csc_ünïcode"])
def test_an_unknown_token_is_refused(client: httpx.Client, token: str, wrong: str | None) -> None:
    headers = {} if wrong is None else {"Authorization": f"Bearer {wrong}".encode()}
    answer = send(client, None, headers=headers)
    assert_refused(answer, 401, "oken")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert stored() == (0, 0, 0)


def test_a_revoked_token_is_refused(client: httpx.Client, token: str) -> None:
    with transaction() as session:
        team = accounts.find_team_by_slug(session, "acme")
        (kept_token,) = accounts.list_tokens(session, team.id)
        accounts.revoke_token(session, team.id, kept_token.id, kept_token.created_at)
    assert_refused(send(client, token), 401, "revoked")


def test_a_read_token_sends_nothing(client: httpx.Client, token: str) -> None:
    with transaction() as session:
        team = accounts.find_team_by_slug(session, "acme")
        read = issue_token(session, team, TokenForm(name="reader", scope="read"))[1]
    assert_refused(send(client, read), 403, "upload token")


def test_a_token_of_one_repository_sends_to_no_other(client: httpx.Client, scoped_token: str) -> None:
    assert_refused(send(client, scoped_token, repository="other/shop"), 403, "acme/api", "other/shop")
    assert stored() == (0, 0, 1)


def test_a_repository_of_another_team_stays_untouched(client: httpx.Client, token: str) -> None:
    with transaction() as session:
        theirs = repositories.get_or_create_repository(session, make_team(session, "other").id, "other/shop").id
    delivery = send(client, token, repository="other/shop").json()["delivery"]
    assert delivery["repository_id"] != theirs


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"outcome": "banana"}, ["outcome", "banana", "succeeded, failed, canceled"]),
        ({"commit": "main"}, ["commit", "7 to 64 hexadecimal"]),
        ({"commit": "a" * 65}, ["commit"]),
        ({"pull_request": "0"}, ["pull_request", "from 1"]),
        ({"pull_request": "-1"}, ["pull_request"]),
        ({"pull_request": "9" * 5000}, ["pull_request"]),
        ({"pull_request": "٣"}, ["pull_request"]),
        ({"attempt": "one"}, ["attempt", '"one"']),
        ({"branch": "x" * 256}, ["branch", "256", "255"]),
        ({"repository": "a\x00b"}, ["repository", "cannot be printed"]),
        ({"repository": None}, ["repository=<name>"]),
        ({"repository": " "}, ["repository=<name>"]),
        ({"run_url": "javascript:alert(1)"}, ["run_url", "https://"]),
        ({"run_url": "https://[bad"}, ["run_url"]),
        ({"ci": "GitHub Actions!"}, ["ci", "github-actions"]),
        ({"started_at": "2026-11-20T10:11:12"}, ["started_at", "zone"]),
        ({"started_at": "yesterday"}, ["started_at", "yesterday"]),
        ({"pullrequest": "7"}, ["pullrequest", "pull_request"]),
        ({"idempotency_key": "k" * 201}, ["idempotency_key", "200"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_parameter_that_cannot_be_taken_is_named(
    client: httpx.Client, token: str, given: dict[str, str], words: list[str]
) -> None:
    assert_refused(send(client, token, **given), 422, *words)
    assert stored() == (0, 0, 0)


def test_a_sender_that_hangs_up_leaves_nothing(
    client: httpx.Client, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    class HungUpError(Exception):
        pass

    def pieces() -> Iterator[bytes]:
        yield LOG * 40_000
        raise HungUpError

    with pytest.raises(HungUpError):
        send(client, token, pieces())
    serving.wait_for(lambda: "'status': 400" in str([record.msg for record in caplog.records]), "the refusal")
    assert "request_failed" not in caplog.text
    assert stored() == (0, 0, 0)


# -- with evidence -----------------------------------------------------------------------------------------------------


def send_form(client: httpx.Client, token: str, **parts: bytes | str) -> httpx.Response:
    """Upload a log as `curl -F log=@build.log -F dockerfile=@Dockerfile` does."""
    return client.post(
        "/api/v1/uploads",
        files={name: (None, content) for name, content in parts.items()},
        headers={"Authorization": f"Bearer {token}"},
        params={"repository": "acme/api"},
    )


def known(delivery_id: str) -> Surroundings | None:
    """What is stored beside a log."""
    with reading() as session:
        return evidence.load_evidence(session, [delivery_id]).get(delivery_id)


def test_a_log_comes_with_its_dockerfile(client: httpx.Client, token: str) -> None:
    answer = send_form(client, token, dockerfile="FROM a\n", log=LOG, dockerignore="dist\n")
    assert answer.status_code == 202, answer.text
    delivery_id = answer.json()["delivery"]["id"]
    assert kept(delivery_id) == LOG
    assert known(delivery_id) == Surroundings(dockerfiles={"": "FROM a\n"}, dockerignore="dist\n")


def test_evidence_and_log_may_come_packed(client: httpx.Client, token: str) -> None:
    sent = Surroundings(dockerfiles={"": "FROM a"}, files={"a": FileMark("1", 1)}, command=("docker", "build", "."))
    packed = zstd.compress(orjson.dumps(write_surroundings(sent)))
    log = LOG + b"".join(
        b"#2 %.1f %s\n" % (number / 10, bytes(range(97, 123)).hex().encode()) for number in range(40_000)
    )
    answer = send_form(client, token, evidence=packed, log=zstd.compress(log, 1))
    delivery_id = answer.json()["delivery"]["id"]
    assert kept(delivery_id) == log
    assert known(delivery_id) == sent


def test_a_form_with_nothing_but_a_log_is_a_log(client: httpx.Client, token: str) -> None:
    answer = send_form(client, token, log=LOG)
    assert answer.status_code == 202
    assert known(answer.json()["delivery"]["id"]) is None


@pytest.mark.parametrize(
    ("parts", "status", "says"),
    [
        ({"dockerfile": "FROM a"}, 422, 'no part "log"'),
        ({"log": LOG, "evidence": "{"}, 422, "no JSON document"),
        ({"log": LOG, "evidence": "[]"}, 422, "must be a JSON object"),
        ({"log": LOG, "evidence": '{"a": 1}'}, 422, 'no field "a"'),
        ({"log": LOG, "dockerfil": "FROM a"}, 422, '"dockerfil" is unknown'),
        ({"log": LOG, "dockerfile": b"#" * (9 << 20)}, 413, "larger than 8 MiB"),
        ({"log": b"\0" * 5000}, 422, "not text"),
    ],
)
def test_a_form_that_cannot_be_taken_leaves_nothing_behind(
    client: httpx.Client, token: str, parts: dict[str, bytes | str], status: int, says: str
) -> None:
    assert_refused(send_form(client, token, **parts), status, says)
    assert stored()[:2] == (0, 0)


@pytest.mark.parametrize(
    ("kind", "body", "says"),
    [
        ("multipart/form-data", LOG, "no boundary"),
        ("multipart/form-data; boundary=x", b"no form at all", "no multipart"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="log"\r\n\r\n#1', "ends"),
        ("multipart/form-data; boundary=x", b"--x\r\n" + b"A" * 9000 + b": b\r\n\r\n", "header"),
    ],
)
def test_a_broken_form_is_told(client: httpx.Client, token: str, kind: str, body: bytes, says: str) -> None:
    assert_refused(send(client, token, body, headers={"Content-Type": kind}), 422, says)


def test_a_form_is_not_packed_as_a_whole(client: httpx.Client, token: str) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x", "Content-Encoding": "gzip"}
    assert_refused(send(client, token, gzip.compress(b"--x--"), headers=headers), 415, "compress the part")
