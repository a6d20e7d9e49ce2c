"""At the border: proxies that are believed, names that are answered, how often, and headers that every answer has."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Request
from sqlalchemy import select

from cachescope.errors import SettingsError
from dashboards import app as pages
from service import borders
from service.app import create_app
from service.settings import ServiceSettings, get_settings
from store.database import reading
from store.models import Delivery
from tests import serving


@pytest.fixture
def database_url(sqlite_template: Path, tmp_path: Path) -> str:
    """An empty SQLite database: nothing here is the database's."""
    return f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'cachescope.db')}"


@contextmanager
def service(**given: Any) -> Iterator[httpx.Client]:
    app = create_app(ServiceSettings(**given), error_page=pages.error_page)
    app.include_router(pages.router)

    @app.get("/who")
    def who(request: Request) -> dict[str, Any]:
        return {"address": request.client.host if request.client else None, "scheme": request.url.scheme}

    with serving.serve(app) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


@pytest.fixture
def ask(home: Path) -> Callable[..., dict[str, Any]]:
    """Say who the service thinks is asking."""

    def run(headers: list[tuple[str, str]], **given: Any) -> dict[str, Any]:
        with service(**given) as client:
            found: dict[str, Any] = client.get("/who", headers=headers).json()
            return found

    return run


@pytest.mark.parametrize(
    ("said", "address"),
    [
        ([], "127.0.0.1"),
        (["203.0.113.7"], "203.0.113.7"),
        (["198.51.100.1, 203.0.113.7"], "203.0.113.7"),
        (["198.51.100.1, 203.0.113.7, 10.1.2.3"], "203.0.113.7"),
        (["198.51.100.1", "203.0.113.7"], "203.0.113.7"),
        (["203.0.113.7:4711"], "203.0.113.7"),
        (["[2001:db8::7]:4711"], "2001:db8::7"),
        (["2001:db8::7"], "2001:db8::7"),
        (["::ffff:203.0.113.7"], "203.0.113.7"),
        (["203.0.113.7, unknown"], "127.0.0.1"),
        (["203.0.113.7, unknown, 10.1.2.3"], "10.1.2.3"),
        (["10.9.9.9, 10.1.2.3"], "10.9.9.9"),
        ([", ".join(["203.0.113.7"] + ["10.0.0.1"] * 5000)], "10.0.0.1"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_proxy_that_is_trusted_says_who_asks(ask: Callable[..., Any], said: list[str], address: str) -> None:
    found = ask([("x-forwarded-for", text) for text in said], proxies="127.0.0.1, 10.0.0.0/8")
    assert found["address"] == address


def test_nobody_else_is_believed(ask: Callable[..., Any]) -> None:
    forged = [("x-forwarded-for", "203.0.113.7"), ("x-forwarded-proto", "https")]
    for proxies in ("10.0.0.0/8", "2001:db8::/32", " "):
        assert ask(forged, proxies=proxies) == {"address": "127.0.0.1", "scheme": "http"}


@pytest.mark.parametrize(
    ("said", "scheme"), [("https", "https"), ("http, https", "https"), ("ftp", "http"), ("", "http")]
)
def test_the_scheme_is_what_a_trusted_proxy_says(ask: Callable[..., Any], said: str, scheme: str) -> None:
    assert ask([("x-forwarded-proto", said)])["scheme"] == scheme


def test_cookies_and_hsts_follow_the_scheme_of_the_proxy(home: Path) -> None:
    with service() as client:
        plain = client.get("/sign-in", headers={"accept": "text/html"})
        client.cookies.clear()
        secure = client.get("/sign-in", headers={"accept": "text/html", "x-forwarded-proto": "https"})
    assert "strict-transport-security" not in plain.headers
    assert secure.headers["strict-transport-security"] == "max-age=31536000"
    assert "; secure" not in plain.headers["set-cookie"].lower()
    assert "; secure" in secure.headers["set-cookie"].lower()


def test_hsts_follows_the_public_address_too(home: Path) -> None:
    with service(public_url="https://cache.example.org") as client:
        assert "strict-transport-security" in client.get("/healthz").headers


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("cache.example.org", 200),
        ("CACHE.example.org.", 200),
        ("cache.example.org:8443", 200),
        ("a.inner.example", 200),
        ("inner.example", 421),
        ("public.example", 200),
        ("evil.example", 421),
        ("cache.example.org.evil.example", 421),
        ("evil.example@cache.example.org", 421),
        ("127.0.0.1", 421),
        ("", 421),
    ],
)
def test_only_known_names_are_answered(home: Path, host: str, status: int) -> None:
    with service(hosts="cache.example.org, *.inner.example", public_url="https://public.example") as client:
        answer = client.get("/who", headers={"host": host})
        assert answer.status_code == status
        assert client.get("/healthz", headers={"host": host}).status_code == 200
    if status == 421:
        assert answer.json()["detail"].startswith("This server does not answer under this name.")


def test_any_name_is_answered_where_none_was_set(home: Path) -> None:
    with service() as client:
        assert client.get("/who", headers={"host": "anything.example"}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/healthz",
        "/api/v1/teams",
        "/api/v1/openapi.json",
        "/nowhere",
        "/sign-in",
        "/assets/none",
        "/hooks/x",
        "/metrics",
    ],
)
def test_every_answer_tells_browsers_to_frame_nothing_and_run_nothing_inline(home: Path, path: str) -> None:
    with service() as client:
        answer = client.get(path, headers={"accept": "text/html"})
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    assert answer.headers.get_list("referrer-policy") == ["same-origin"]


def test_a_token_waits_that_asks_too_often_and_others_do_not(home: Path) -> None:
    with service(token_requests_per_minute=3, address_requests_per_minute=0) as client:
        first, other = {"authorization": "Bearer a"}, {"authorization": "Bearer b"}
        statuses = [client.get("/api/v1/teams", headers=first).status_code for _ in range(5)]
        assert statuses == [401, 401, 401, 429, 429]
        refused = client.get("/api/v1/teams", headers=first)
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.headers["content-type"] == "application/problem+json"
        assert client.get("/api/v1/teams", headers=other).status_code == 401
        assert client.get("/sign-in").status_code == 200


def test_an_address_waits_that_asks_too_often(home: Path) -> None:
    with service(token_requests_per_minute=0, address_requests_per_minute=2) as client:
        there = {"x-forwarded-for": "203.0.113.7"}
        assert [client.get("/who", headers=there).status_code for _ in range(3)] == [200, 200, 429]
        assert client.get("/who", headers={"x-forwarded-for": "203.0.113.8"}).status_code == 200
        assert client.get("/healthz", headers=there).status_code == 200
        assert client.post("/hooks/x", headers=there).status_code != 429
        assert client.get("/api/v1/teams", headers=there | {"authorization": "Bearer a"}).status_code == 401


def test_an_upload_that_comes_too_often_stores_nothing(home: Path) -> None:
    with service(token_requests_per_minute=1) as client:
        for _ in range(2):
            answer = client.post("/api/v1/uploads", content=b"x", headers={"authorization": "Bearer a"})
    assert answer.status_code == 429
    with reading() as session:
        assert session.scalars(select(Delivery)).all() == []


def test_counts_end_and_are_never_too_many() -> None:
    counts = borders.Counts(most=2)
    assert [counts.add(b"a", at)[0] for at in (0.0, 1.0, 59.0, 60.0)] == [1, 2, 3, 1]
    counts.add(b"b", 61.0)
    counts.add(b"c", 61.0)
    assert counts.add(b"a", 62.0)[0] == 1


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("HOSTS", "https://cache.example.org", '"https://cache.example.org" is no name of a server'),
        ("HOSTS", "cache.example.org:8443", "is no name of a server"),
        ("PROXIES", "10.0.0.0/99", "write networks as"),
        ("PUBLIC_URL", "cache.example.org", "is no address of a server"),
        ("TOKEN_REQUESTS_PER_MINUTE", "-1", "greater than or equal to 0"),
        ("SESSION_DAYS", "never", "valid integer"),
    ],
)
def test_each_mistake_in_the_settings_is_one_sentence(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    monkeypatch.setenv(f"CACHESCOPE_WEB_{name}", value)
    get_settings.cache_clear()
    with pytest.raises(SettingsError) as caught:
        get_settings()
    get_settings.cache_clear()
    text = str(caught.value)
    assert text.startswith(f"CACHESCOPE_WEB_{name} cannot work: ")
    assert says in text
    assert "\n" not in text
