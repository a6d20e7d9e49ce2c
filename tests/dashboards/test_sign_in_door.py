"""The sign-in page under attack, asked over loopback from several addresses."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest

from service import doorkeeper
from service.auth import throttle
from service.auth.passwords import hash_password
from store.database import transaction
from store.queries import accounts

EMAIL, PASSWORD = "ada@example.org", "correct horse battery"
HTML = {"accept": "text/html"}
Opener = Callable[[str], httpx.Client]


@pytest.fixture
def open_browser(visitor: httpx.Client) -> Iterator[Opener]:
    """Open a browser that comes from an address of this machine; one account is there to sign in with."""
    with transaction() as session:
        accounts.create_user(session, email=EMAIL, name="Ada", password_hash=hash_password(PASSWORD))
    with ExitStack() as opened:

        def run(source: str) -> httpx.Client:
            transport = httpx.HTTPTransport(local_address=source)
            return opened.enter_context(httpx.Client(base_url=visitor.base_url, transport=transport, timeout=60))

        yield run


def sign_in(browser: httpx.Client, password: str, email: str = EMAIL) -> httpx.Response:
    page = browser.get("/sign-in", headers=HTML).text
    token = page.partition('name="form_token" value="')[2].partition('"')[0]
    fields = {"form_token": token, "email": email, "password": password}
    return browser.post("/sign-in", data=fields, headers=HTML)


def flood(browser: httpx.Client, times: int = 60) -> httpx.Response:
    """Send what is refused before any password is compared, until nobody listens; returns the last answer."""
    answer = browser.post("/sign-in", data={}, headers=HTML)
    for _ in range(times):
        answer = browser.post("/sign-in", data={}, headers=HTML)
        if answer.status_code == 429:
            return answer
    raise AssertionError(f"Still {answer.status_code} after {times} requests.")


def test_who_is_there_and_who_is_not_get_the_same_answer(open_browser: Opener) -> None:
    browser = open_browser("127.0.0.1")
    texts = set()
    for email in (EMAIL, "nobody@example.org"):
        answer = sign_in(browser, "wrong horse battery", email)
        texts.add((answer.status_code, answer.text.replace(email, "<email>")))
    assert len(texts) == 1
    assert texts.pop()[0] == 401


def test_an_account_that_is_guessed_at_is_open_to_its_owner_elsewhere(open_browser: Opener) -> None:
    attacker, owner = open_browser("127.0.0.1"), open_browser("127.0.0.2")
    statuses = [sign_in(attacker, "wrong horse battery").status_code for _ in range(6)]
    assert statuses == [401] * 5 + [429]
    refused = sign_in(attacker, PASSWORD)
    assert (refused.status_code, int(refused.headers["retry-after"]) > 0) == (429, True)
    assert "Too many sign-ins" in refused.text
    assert sign_in(owner, PASSWORD).status_code == 303


def test_a_flood_at_one_account_is_held_off_before_it_is_read(open_browser: Opener) -> None:
    attacker = open_browser("127.0.0.1")
    for _ in range(40):
        answer = sign_in(attacker, "wrong horse battery")
    assert answer.status_code == 429
    assert "cachescope_sign_ins_held_off_total 0.0" not in attacker.get("/metrics").text


def test_a_flood_is_held_off_and_a_known_browser_of_the_same_address_is_not(open_browser: Opener) -> None:
    owner, attacker = open_browser("127.0.0.1"), open_browser("127.0.0.1")
    assert sign_in(owner, PASSWORD).status_code == 303
    del owner.cookies["cachescope_session"]
    held_off = flood(attacker)
    assert held_off.headers["content-type"].startswith("text/html")
    assert "Try again in" in held_off.text
    problem = attacker.post("/sign-in", data={})
    assert problem.json()["type"] == "urn:cachescope:problem:too-many-requests"
    attacker.cookies.set("cachescope_known", "made.1.up.by-me")
    assert attacker.post("/sign-in", data={}).status_code == 429
    assert attacker.get("/sign-in", headers=HTML).status_code == 200
    assert attacker.get("/healthz").status_code == 200
    assert sign_in(owner, PASSWORD).status_code == 303
    assert sign_in(open_browser("127.0.0.2"), PASSWORD).status_code == 303
    assert "cachescope_sign_ins_held_off_total 0.0" not in attacker.get("/metrics").text


def test_when_even_the_line_is_full_the_connection_is_closed(
    open_browser: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    attacker = open_browser("127.0.0.1")
    flood(attacker)
    monkeypatch.setattr(doorkeeper, "LONGEST_TURN", -1.0)
    answer = attacker.post("/sign-in", data={})
    assert (answer.status_code, answer.headers["connection"]) == (429, "close")


def test_a_flood_of_large_forms_is_held_off_too(open_browser: Opener) -> None:
    attacker = open_browser("127.0.0.1")
    flood(attacker)
    assert attacker.post("/sign-in", content=b"x" * 20_000).status_code == 429


def test_when_as_many_try_as_may_a_known_browser_still_gets_in(
    open_browser: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, stranger = open_browser("127.0.0.1"), open_browser("127.0.0.2")
    assert sign_in(owner, PASSWORD).status_code == 303
    del owner.cookies["cachescope_session"]
    monkeypatch.setattr(throttle.Throttle, "is_crowded", lambda _: True)
    refused = sign_in(stranger, PASSWORD)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "3")
    assert "at this moment" in refused.text
    assert sign_in(owner, PASSWORD).status_code == 303


def test_asking_for_links_again_and_again_is_held_off_too(open_browser: Opener) -> None:
    browser = open_browser("127.0.0.1")
    page = browser.get("/forgotten", headers=HTML)
    assert page.status_code == 200
    statuses = {browser.post("/forgotten", data={}, headers=HTML).status_code for _ in range(40)}
    assert 429 in statuses


def test_refusals_of_any_kind_wait_once_there_are_very_many(
    open_browser: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = []

    async def turn(_: doorkeeper.Pace) -> bool:
        turns.append(1)
        return True

    monkeypatch.setattr(doorkeeper, "MOST_REFUSALS", 3)
    monkeypatch.setattr(doorkeeper.Pace, "turn", turn)
    browser = open_browser("127.0.0.1")
    assert [browser.get("/nothing").status_code for _ in range(5)] == [404] * 5
    assert len(turns) == 2
    assert browser.get("/healthz").status_code == 200
    assert open_browser("127.0.0.2").get("/nothing").status_code == 404
    assert len(turns) == 2
