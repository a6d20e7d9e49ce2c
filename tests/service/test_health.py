"""Health and figures: what is missing is said, and no secret is ever among it."""

import logging
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import orjson
import pytest
import structlog

from service.actions.tokens import TokenForm, issue_token
from service.app import create_app
from store.database import transaction
from store.queries import heartbeats
from tests import serving
from tests.factories import make_delivery, make_repository, make_team
from workers.logs import mask_secrets
from workers.tasks.ingest import ingest

LOG = b"#1 [internal] load build definition from Dockerfile\n#1 DONE 0.0s\n\n#2 [1/1] RUN make\n#2 DONE 1.5s\n"


def beat(*kinds: str, seconds_ago: float = 0) -> None:
    now = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    with transaction() as session:
        for kind in kinds:
            heartbeats.beat(session, f"{kind}:1", kind, now, now)


def test_the_process_says_that_it_lives(client: httpx.Client) -> None:
    assert client.get("/healthz").text == "ok\n"


def test_a_service_with_all_its_parts_is_ready(client: httpx.Client) -> None:
    beat("worker", "scheduler")
    answer = client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ready",
        "database": "ok",
        "queue": "ok",
        "worker": "ok",
        "scheduler": "ok",
        "waiting": 0,
    }


@pytest.mark.parametrize("missing", ["worker", "scheduler"])
def test_a_missing_process_is_named(client: httpx.Client, missing: str) -> None:
    beat(*{"worker", "scheduler"} - {missing})
    beat(missing, seconds_ago=60)
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert (answer.json()["status"], answer.json()[missing]) == ("degraded", "missing")


def test_what_waits_is_counted(client: httpx.Client) -> None:
    with transaction() as session:
        make_delivery(session, make_repository(session), next_at=datetime.now(UTC))
    assert client.get("/readyz").json()["waiting"] == 1


@pytest.mark.parametrize("address", ["redis://127.0.0.1:{}/0", "redis+socket:///nowhere/redis.sock", "redis://[::1"])
def test_a_queue_that_is_away_is_named(client: httpx.Client, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("REDIS_URL", address.format(probe.getsockname()[1]))
        serving.workers.settings.get_settings.cache_clear()
        beat("worker", "scheduler")
        answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["queue"] == "failing"


def test_a_database_that_is_away_is_named(client: httpx.Client, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHESCOPE_DATABASE_URL", f"sqlite:///{home.parent / 'empty.db'}")
    serving.store.settings.get_settings.cache_clear()
    serving.store.database.get_engine.cache_clear()
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert (answer.json()["status"], answer.json()["database"]) == ("unready", "failing")
    assert client.get("/healthz").status_code == 200
    problem = client.get("/api/v1/teams", headers={"authorization": "Bearer x"})
    assert problem.status_code == 503
    assert problem.headers["retry-after"] == "5"
    serving.store.database.get_engine().dispose()


def test_the_figures_count_what_happened(client: httpx.Client) -> None:
    with transaction() as session:
        token = issue_token(session, make_team(session), TokenForm(name="CI"))[1]
    headers = {"authorization": f"Bearer {token}"}
    address = "/api/v1/uploads?repository=acme/api&idempotency_key=1"
    ids = [client.post(address, content=LOG, headers=headers).json()["delivery"]["id"] for _ in range(2)]
    client.post(address, content=b"", headers=headers)
    before = client.get("/metrics").text
    ingest(ids[0])
    after = client.get("/metrics").text
    for line in (
        'cachescope_uploads_total{outcome="accepted"} 1.0',
        'cachescope_uploads_total{outcome="repeated"} 1.0',
        'cachescope_uploads_total{outcome="refused"} 1.0',
        f"cachescope_upload_bytes_total {float(len(LOG))}",
        'cachescope_deliveries{state="new"} 1.0',
        'cachescope_request_seconds_count{method="POST",route="/api/v1/uploads",status="2xx"} 2.0',
    ):
        assert line in before
    assert 'cachescope_deliveries{state="done"} 1.0' in after
    assert 'cachescope_upload_to_visible_seconds{quantile="0.5"}' in after
    assert "acme" not in after


def test_a_request_is_logged_with_its_id_and_without_its_secrets(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    answer = client.get("/setup/one-time-secret?token=another", headers={"x-request-id": "ours-1"})
    assert answer.headers["x-request-id"] == "ours-1"
    assert answer.json()["request_id"] == "ours-1"
    # The service logs a request once it is answered, so the client may be here first.
    lines = serving.wait_for(
        lambda: [str(line.__dict__) for line in caplog.records if line.name == "service.requests"],
        "the request's line",
    )
    said = " ".join(lines)
    assert "ours-1" in said
    assert "one-time-secret" not in said
    assert "another" not in said


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "<script>"])
def test_a_request_id_that_makes_no_sense_is_replaced(client: httpx.Client, given: str) -> None:
    answer = client.get("/healthz", headers={"x-request-id": given})
    assert answer.headers["x-request-id"] != given
    assert len(answer.headers["x-request-id"]) == 32


def test_fields_named_like_secrets_are_masked() -> None:
    event = {"event": "x", "Authorization": "Bearer abc", "upload_token": "abc", "token_id": "7", "password": "p"}
    masked = mask_secrets(None, "", dict(event))
    assert masked == event | dict.fromkeys(("Authorization", "upload_token", "password"), "[not logged]")


def test_logs_are_json_where_nobody_watches(client: httpx.Client, capsys: pytest.CaptureFixture[str]) -> None:
    handler = logging.getLogger().handlers[0]
    text = handler.format(logging.LogRecord("x", logging.INFO, "f", 1, "said %s", ("so",), None))
    assert orjson.loads(text)["event"] == "said so"
    assert structlog.is_configured()


def test_an_unforeseen_failure_tells_nothing_of_the_inside(
    home: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    app = create_app()

    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError("the inside")

    with serving.serve(app) as url:
        answer = httpx.get(f"{url}/broken")
    assert answer.status_code == 500
    assert "inside." not in answer.text
    assert "the inside" not in answer.text
    assert "request's id" in answer.json()["detail"]


def test_pages_of_errors_are_drawn_by_whoever_draws_pages(home: Path) -> None:
    from fastapi.responses import HTMLResponse

    app = create_app(error_page=lambda request, problem: HTMLResponse(f"<p>{problem.title}", problem.status))
    with serving.serve(app) as url:
        page = httpx.get(f"{url}/nothing", headers={"accept": "text/html"})
        answer = httpx.get(f"{url}/api/v1/nothing", headers={"accept": "text/html"})
    assert (page.status_code, page.text) == (404, "<p>Not found")
    assert answer.headers["content-type"] == "application/problem+json"


def test_what_starts_with_the_server_does_not_start_at_import(home: Path) -> None:
    started: list[Callable[[], object]] = []
    app = create_app(on_start=[lambda: started.append(len)])
    assert not started
    with serving.serve(app):
        assert started == [len]
