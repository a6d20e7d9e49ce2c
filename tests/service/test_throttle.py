"""The door under attack: who floods it is held off, and locks nobody else out."""

import asyncio
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request, Response

from cachescope.errors import InvalidValueError, TooManyAttemptsError
from service import doorkeeper
from service.auth import passwords, throttle
from service.auth.throttle import KNOWN_COOKIE, Throttle, Windows, address_of, is_genuine, recognise, remember_browser
from service.doorkeeper import Pace

EMAIL, PASSWORD = "ada@example.org", "correct horse battery"
HOME, OFFICE = "192.0.2.1", "198.51.100.7"


def try_often(guard: Throttle, address: str, times: int, browser: str | None = None, email: str = EMAIL) -> None:
    for _ in range(times):
        guard.end(guard.begin(address, email, browser))
        guard.failed(address, email, browser)


# -- the counts --------------------------------------------------------------------------------------------------------


def test_an_account_is_closed_to_an_address_that_guesses_and_open_to_another(home: Path) -> None:
    guard = Throttle()
    try_often(guard, OFFICE, 5)
    with pytest.raises(TooManyAttemptsError) as refused:
        guard.begin(OFFICE, EMAIL.upper(), None)
    assert 1 <= refused.value.retry_after_seconds <= 60
    guard.begin(HOME, EMAIL, None)
    guard.begin(OFFICE, "bob@example.org", None)


def test_an_address_that_guesses_at_many_accounts_is_held_off(home: Path) -> None:
    guard = Throttle()
    for number in range(30):
        try_often(guard, OFFICE, 1, email=f"{number}@example.org")
    assert guard.pause_of(OFFICE) is not None
    assert guard.pause_of(HOME) is None
    with pytest.raises(TooManyAttemptsError):
        guard.begin(OFFICE, EMAIL, None)


def test_a_known_browser_signs_in_while_its_address_is_held_off(home: Path) -> None:
    guard = Throttle()
    for number in range(30):
        try_often(guard, OFFICE, 1, email=f"{number}@example.org")
    guard.end(guard.begin(OFFICE, EMAIL, "browser"))
    try_often(guard, OFFICE, 10, "browser")
    with pytest.raises(TooManyAttemptsError):
        guard.begin(OFFICE, EMAIL, "browser")


def test_a_known_browser_guesses_no_more_than_its_own_limit(home: Path) -> None:
    guard = Throttle()
    try_often(guard, HOME, 10, "browser")
    with pytest.raises(TooManyAttemptsError):
        guard.begin(HOME, EMAIL, "browser")


def test_the_account_need_not_exist_to_be_counted(home: Path) -> None:
    guard = Throttle()
    try_often(guard, OFFICE, 5, email="nobody@example.org")
    with pytest.raises(TooManyAttemptsError):
        guard.begin(OFFICE, "nobody@example.org", None)


def test_who_is_in_at_last_starts_anew(home: Path) -> None:
    guard = Throttle()
    try_often(guard, OFFICE, 4)
    guard.succeeded(OFFICE, EMAIL)
    try_often(guard, OFFICE, 5)


def test_one_address_takes_not_all_turns_at_once(home: Path) -> None:
    guard = Throttle()
    for _ in range(throttle.AT_ONCE):
        guard.begin(OFFICE, EMAIL, None)
    with pytest.raises(TooManyAttemptsError, match="at this moment"):
        guard.begin(OFFICE, EMAIL, None)
    guard.begin(HOME, EMAIL, None)
    guard.end(OFFICE)
    guard.begin(OFFICE, EMAIL, None)


def test_many_addresses_at_once_leave_known_browsers_their_turn(home: Path) -> None:
    guard = Throttle()
    for number in range(passwords.LONGEST_LINE):
        guard.begin(f"10.0.0.{number}", EMAIL, None)
    assert guard.is_crowded()
    with pytest.raises(TooManyAttemptsError):
        guard.begin(HOME, EMAIL, None)
    for _ in range(throttle.AT_ONCE):
        place = guard.begin(HOME, EMAIL, "browser")
    with pytest.raises(TooManyAttemptsError):
        guard.begin(HOME, EMAIL, "browser")
    guard.end(place)
    guard.begin(HOME, EMAIL, "browser")


def test_counts_end_and_never_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    windows = Windows(most=3)
    assert [windows.incr("a", 60) for _ in range(3)] == [1, 2, 3]
    assert windows.get("a") == 3
    assert windows.get_expiry("a") > time.time()
    for name in "bcde":
        windows.incr(name, 60)
    assert windows.get("a") == 0
    windows.incr("e", 60)
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    assert windows.get("e") == 0
    assert windows.incr("e", 60) == 1
    windows.clear("e")
    assert (windows.get("e"), windows.check(), windows.reset()) == (0, True, 2)


@pytest.mark.parametrize(
    ("client", "address"),
    [
        (None, ""),
        (("192.0.2.1", 5), "192.0.2.1"),
        (("::ffff:192.0.2.1", 5), "192.0.2.1"),
        (("2001:db8:1:2:3:4:5:6", 5), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 5), "fe80::/64"),
        (("no:address", 5), "no:address"),
    ],
    ids=str,
)
def test_a_network_of_ipv6_counts_as_one_address(client: Any, address: str) -> None:
    assert address_of(client) == address


def test_turns_come_at_a_steady_pace_and_the_line_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doorkeeper, "LONGEST_TURN", 0.1)

    async def crowd() -> tuple[list[bool], float]:
        pace, began = Pace(50.0), time.monotonic()
        return list(await asyncio.gather(*(pace.turn() for _ in range(20)))), time.monotonic() - began

    # In a thread of its own: a test with a browser may have left a loop running in this one.
    with ThreadPoolExecutor(1) as thread:
        served, seconds = thread.submit(lambda: asyncio.run(crowd())).result()
    assert 4 <= sum(served) < 20
    assert served == sorted(served, reverse=True)
    assert seconds >= 0.06


# -- known browsers ----------------------------------------------------------------------------------------------------


def with_cookie(value: str) -> Request:
    return Request({"type": "http", "headers": [(b"cookie", f"{KNOWN_COOKIE}={value}".encode())]})


@pytest.fixture
def cookie(home: Path) -> str:
    response = Response()
    remember_browser(response, EMAIL, is_https=True)
    found = re.search(rf"{KNOWN_COOKIE}=([^;]+)", response.headers["set-cookie"])
    assert found
    assert {"HttpOnly", "Secure"} <= {part.strip() for part in response.headers["set-cookie"].split(";")}
    return found[1]


def test_a_browser_is_known_to_its_own_account_alone(cookie: str) -> None:
    assert recognise(with_cookie(cookie), EMAIL.upper())
    assert recognise(with_cookie(cookie), "bob@example.org") is None
    assert is_genuine(cookie)
    assert EMAIL not in cookie


@pytest.mark.parametrize("change", ["", "x", "a.b.c.d", "é.1.2.3"])
def test_a_cookie_that_we_did_not_sign_is_nothing(cookie: str, change: str) -> None:
    assert not is_genuine(change)
    assert not is_genuine(cookie[:-1])
    assert not is_genuine("x" + cookie)
    assert not is_genuine(None)


def test_a_browser_is_forgotten_in_the_end(cookie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    later = time.time() + throttle.KNOWN_SECONDS + 1
    monkeypatch.setattr(time, "time", lambda: later)
    assert not is_genuine(cookie)


# -- hashing -----------------------------------------------------------------------------------------------------------


def fill(line: passwords._Line) -> None:
    while True:  # the first is compared in no time where the machine is quick
        line.submit(None, PASSWORD)


def test_a_line_that_is_too_long_turns_people_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "LONGEST_LINE", 1)
    line = passwords._Line("test")
    first = line.submit(None, PASSWORD)
    with pytest.raises(TooManyAttemptsError, match="Try again"):
        fill(line)
    assert first.result() is False


def test_a_password_is_compared_with_what_was_hashed() -> None:
    hashed = passwords.hash_password(PASSWORD)
    assert passwords.is_password_right(hashed, PASSWORD)
    assert not passwords.is_password_right(hashed, PASSWORD + "x")
    assert not passwords.is_password_right("no hash", PASSWORD)
    assert not passwords.needs_new_hash(hashed)
    with pytest.raises(InvalidValueError):
        passwords.hash_password("short")
