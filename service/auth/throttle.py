"""Who may try a password now: limits by address and by account and address, none by account alone.

Whoever floods an account from anywhere locks nobody out: its owner comes from another address, or in a browser that has
signed in before and says so with a signed cookie. Such a browser has limits of its own. What is counted are failures,
for accounts that exist and for those that do not, so neither an answer nor its time tells which is which.

The counts are those of one process, and there are never more than `MOST_KEYS` of them.
"""

import hashlib
import hmac
import ipaddress
import secrets
import threading
import time
from collections import Counter, OrderedDict

from fastapi import Request, Response
from limits import RateLimitItem, parse_many
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

from cachescope.errors import TooManyAttemptsError
from service.auth.passwords import LONGEST_LINE
from store.settings import get_settings

PER_ADDRESS = parse_many("30/minute;300/hour")
PER_ACCOUNT = parse_many("5/minute;40/hour")
"""Of one account, from one address."""
PER_BROWSER = parse_many("10/minute;60/hour")
"""Of a browser that has signed in before."""
AT_ONCE = 3
"""Comparisons of passwords that one address, or one known browser, may have going on."""
MOST_KEYS = 20_000
KNOWN_COOKIE = "cachescope_known"
KNOWN_SECONDS = 180 * 86_400
BROWSER = "browser "
CROWDED = "Many people sign in at this moment. Try again in a few seconds."
CROWDED_SECONDS = 3
TOO_OFTEN = "Too many sign-ins from here failed. Try again in {}, or in a browser in which you have signed in before."


class Windows(Storage):
    """Counts in memory that end by themselves; when there are too many, the oldest go first."""

    STORAGE_SCHEME = ["cachescope-memory"]  # noqa: RUF012 - as the library declares it

    def __init__(self, most: int = MOST_KEYS) -> None:
        super().__init__()
        self._most = most
        self._lock = threading.Lock()
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()

    @property
    def base_exceptions(self) -> type[Exception]:
        """What may go wrong."""
        return ValueError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Count, and return the sum."""
        now = time.time()
        with self._lock:
            ends, count = self._counts.get(key, (0.0, 0))
            if ends <= now:
                self._counts.pop(key, None)
                ends, count = now + expiry, 0
            self._counts[key] = (ends, count + amount)
            if len(self._counts) > self._most:
                self._counts.popitem(last=False)
            return count + amount

    def get(self, key: str) -> int:
        """The sum so far."""
        ends, count = self._counts.get(key, (0.0, 0))
        return count if ends > time.time() else 0

    def get_expiry(self, key: str) -> float:
        """When the count begins anew, in epoch seconds."""
        return self._counts.get(key, (time.time(), 0))[0]

    def check(self) -> bool:
        """Memory is always there."""
        return True

    def reset(self) -> int:
        """Forget everything; returns how much it was."""
        with self._lock:
            count = len(self._counts)
            self._counts.clear()
        return count

    def clear(self, key: str) -> None:
        """Forget one count."""
        with self._lock:
            self._counts.pop(key, None)


class Throttle:
    """The counts of one application."""

    def __init__(self) -> None:
        self._limiter = FixedWindowRateLimiter(Windows())
        self._lock = threading.Lock()
        self._at_work: Counter[str] = Counter()
        self._strangers = 0

    def pause_of(self, address: str) -> int | None:
        """For how many seconds nobody at an address is listened to who is a stranger; None when they are."""
        return self._pause(PER_ADDRESS, "address", address)

    def begin(self, address: str, email: str, browser: str | None) -> str:
        """Let somebody try a password, and return their place, which `end` gives back. Raises TooManyAttemptsError."""
        pause = self._pause(PER_BROWSER, "browser", browser) if browser else None
        if browser is None or pause is not None:
            browser = None
            account = _account(email)
            pause = self.pause_of(address) or self._pause(PER_ACCOUNT, "account", account, address)
        if pause is not None:
            raise TooManyAttemptsError(TOO_OFTEN.format(_in_words(pause)), pause)
        place = f"{BROWSER}{browser}" if browser else address
        with self._lock:
            if self._at_work[place] >= AT_ONCE or (browser is None and self._strangers >= LONGEST_LINE):
                raise TooManyAttemptsError(CROWDED, CROWDED_SECONDS)
            self._at_work[place] += 1
            self._strangers += browser is None
        return place

    def is_crowded(self) -> bool:
        """Whether as many strangers are trying as may; only browsers that are known find a place now."""
        return self._strangers >= LONGEST_LINE

    def end(self, place: str) -> None:
        """Somebody's password has been compared, whatever came of it."""
        with self._lock:
            self._strangers -= not place.startswith(BROWSER)
            self._at_work[place] -= 1
            if self._at_work[place] <= 0:
                del self._at_work[place]

    def failed(self, address: str, email: str, browser: str | None) -> None:
        """Count a wrong password."""
        for limit in PER_ACCOUNT:  # where a known browser's own limit ends, it is a stranger
            self._limiter.hit(limit, "account", _account(email), address)
        if not browser:
            self.refused(address)
            return
        for limit in PER_BROWSER:
            self._limiter.hit(limit, "browser", browser)

    def refused(self, address: str) -> None:
        """Count a request to sign in that was refused, for whatever reason."""
        for limit in PER_ADDRESS:
            self._limiter.hit(limit, "address", address)

    def succeeded(self, address: str, email: str) -> None:
        """Forget what was counted for an account at an address: its owner mistyped, and is in now."""
        for limit in PER_ACCOUNT:
            self._limiter.clear(limit, "account", _account(email), address)

    def _pause(self, limits: list[RateLimitItem], *names: str) -> int | None:
        full = [limit for limit in limits if not self._limiter.test(limit, *names)]
        if not full:
            return None
        ends = max(self._limiter.get_window_stats(limit, *names).reset_time for limit in full)
        return max(1, round(ends - time.time()))


def address_of(client: tuple[str, int] | None) -> str:
    """What counts as one address: an IPv4 address, or the /64 network that one household or machine has of IPv6."""
    host = client[0] if client else ""
    if ":" not in host:
        return host
    try:
        found = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host[:64]
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((found, 64), strict=False))


def remember_browser(response: Response, email: str, *, is_https: bool) -> None:
    """Let a browser show later that this account was signed in with it."""
    nonce = secrets.token_urlsafe(16)
    text = f"{nonce}.{int(time.time())}.{_account(email)}"
    response.set_cookie(
        KNOWN_COOKIE,
        f"{text}.{_sign(text)}",
        max_age=KNOWN_SECONDS,
        httponly=True,
        samesite="lax",
        secure=is_https,
        path="/",
    )


def is_genuine(cookie: str | None) -> bool:
    """Whether a cookie is one of ours, whichever account it is for."""
    return cookie is not None and _read(cookie) is not None


def recognise(request: Request, email: str) -> str | None:
    """The name of a browser that has signed in with this account before; None for any other."""
    found = _read(request.cookies.get(KNOWN_COOKIE, ""))
    return found[0] if found and found[1] == _account(email) else None


def _read(cookie: str) -> tuple[str, str] | None:
    text, _, signature = cookie[:300].rpartition(".")
    if text.count(".") != 2 or not hmac.compare_digest(_sign(text).encode(), signature.encode("utf-8", "replace")):
        return None
    nonce, made, account = text.split(".")
    return (nonce, account) if int(made) + KNOWN_SECONDS > time.time() else None


def _account(email: str) -> str:
    # Keyed, so that the cookie and the counts tell nobody an address.
    return _hash("account", email.strip().lower()[:300])[:24]


def _sign(text: str) -> str:
    return _hash("known browser", text)


def _hash(purpose: str, text: str) -> str:
    key = f"cachescope {purpose}\0{get_settings().secret_keys[0]}".encode()
    return hmac.new(key, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def _in_words(seconds: int) -> str:
    return f"{seconds} s" if seconds < 90 else f"{round(seconds / 60)} min"
