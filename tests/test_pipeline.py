"""End to end, with real processes: a log goes in by upload and by webhook, its build comes out within two seconds."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from benchmarks import chaos
from service.actions.sources import SourceForm, create_source
from service.actions.tokens import TokenForm, issue_token
from service.auth.permissions import Viewer
from store.database import make_engine, transaction
from tests.factories import make_team
from tests.serving import ROOT, Installation, installed, wait_for

VISIBLE_WITHIN_SECONDS = 2.0
COLD = ROOT / "tests/cachescope/formats/buildkit_plain"


@pytest.fixture(params=["files", pytest.param("redis", marks=pytest.mark.redis)])
def running(request: pytest.FixtureRequest, home: Path, database_url: str) -> Iterator[SimpleNamespace]:
    """A whole installation with a team, its tokens and a source; each database with each queue."""
    with transaction() as session:
        team = make_team(session)
        send, read = (issue_token(session, team, TokenForm(name=scope, scope=scope))[1] for scope in ("upload", "read"))
        owner = Viewer(name="Ada", roles={team.id: "owner"})
        source, secret = create_source(session, owner, team, SourceForm(name="CI"))
    folder = home.parent / "q"
    folder.mkdir()
    home.mkdir(exist_ok=True)
    redis_folder = folder if request.param == "redis" else None
    installation = Installation(home, database_url, chaos.free_port(), redis_folder=redis_folder)
    with installed(installation), httpx.Client(base_url=installation.url, timeout=60) as client:
        yield SimpleNamespace(
            client=client,
            installation=installation,
            send={"authorization": f"Bearer {send}"},
            read={"authorization": f"Bearer {read}"},
            source=source.id,
            secret=secret,
        )


def wait_until_done(running: SimpleNamespace, delivery_id: str) -> dict[str, object]:
    def delivery() -> dict[str, object]:
        return running.client.get(f"/api/v1/deliveries/{delivery_id}", headers=running.read).json()

    return wait_for(lambda: (found := delivery())["state"] not in {"new", "working"} and found, "the delivery")


def test_a_log_is_on_its_page_within_two_seconds(running: SimpleNamespace) -> None:
    logs = sorted(COLD.glob("*.log"))[:5]
    took = []
    for path in logs:
        began = time.monotonic()
        sent = running.client.post(
            "/api/v1/uploads?repository=acme/api", content=path.read_bytes(), headers=running.send
        )
        done = wait_until_done(running, sent.json()["delivery"]["id"])
        took.append(time.monotonic() - began)
        assert done["state"] == "done", done
        build = running.client.get(done["builds"][0]["url"], headers=running.read).json()
        assert build["steps"]
    assert sorted(took)[len(took) // 2] < VISIBLE_WITHIN_SECONDS
    figures = "/api/v1/teams/acme/overview?branch_class=default"
    wait_for(
        lambda: running.client.get(figures, headers=running.read).json()["figures"]["builds"] > 0, "the daily sums"
    )


def test_a_webhook_becomes_a_build(running: SimpleNamespace) -> None:
    log = next(COLD.glob("*.log")).read_text()
    body = json.dumps({"type": "build.log", "data": {"repository": "acme/api", "log": log}}).encode()
    stamp = str(int(time.time()))
    key = base64.b64decode(running.secret.removeprefix("whsec_"))
    signature = base64.b64encode(hmac.new(key, f"m1.{stamp}.".encode() + body, hashlib.sha256).digest()).decode()
    headers = {"webhook-id": "m1", "webhook-timestamp": stamp, "webhook-signature": f"v1,{signature}"}
    headers["content-type"] = "application/json"
    answer = running.client.post(f"/hooks/{running.source}", content=body, headers=headers)
    assert answer.status_code == 202
    done = wait_until_done(running, answer.json()["delivery"])
    assert (done["state"], len(done["builds"])) == ("done", 1)


@pytest.mark.parametrize("lost", [["worker"], ["broker", "worker"]], ids="-".join)
def test_without_workers_a_log_is_read_all_the_same(running: SimpleNamespace, lost: list[str]) -> None:
    for name in lost:
        if name in running.installation.processes:
            running.installation.kill(name)
    began = time.monotonic()
    path = next(COLD.glob("*.log"))
    sent = running.client.post("/api/v1/uploads?repository=acme/api", content=path.read_bytes(), headers=running.send)
    assert time.monotonic() - began < 2.0, "a dead broker slows nobody down"
    assert wait_until_done(running, sent.json()["delivery"]["id"])["state"] == "done"


@pytest.mark.slow
def test_nothing_accepted_is_lost_or_doubled_while_everything_is_killed(database_url: str, tmp_path: Path) -> None:
    engine = make_engine(database_url)
    token = chaos.prepare(engine)
    is_sqlite = database_url.startswith("sqlite")
    folder = tmp_path / "chaos"
    folder.mkdir()
    installation = Installation(
        folder,
        database_url,
        chaos.free_port(),
        redis_folder=None if is_sqlite else folder,
        settings={"CACHESCOPE_WORKER_LEASE_SECONDS": "3"},
    )
    with installed(installation):
        outcome = chaos.run(installation, engine, token, uploads=100, seconds=15, pause=(0.3, 2.0))
    engine.dispose()
    assert outcome.kills.total() > 3
    assert outcome.builds > 50
    assert outcome.faults == []
