"""In front of everything: who is refused again and again waits for a turn, and costs almost nothing meanwhile.

A flood of wrong passwords is refused before its body is read, so that nothing is parsed, looked up, hashed or written
down for it; refusals of any other kind are slowed down once there are very many of them from one address. Turns come
at a steady pace, whoever asks, which leaves the processor to everybody else. Nobody is turned away for good: the
counts end by themselves, and they are those of an address, never of an account.
"""

import asyncio
from http.cookies import CookieError, SimpleCookie

import structlog
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cachescope.errors import TooManyAttemptsError
from service.auth.throttle import (
    CROWDED,
    CROWDED_SECONDS,
    KNOWN_COOKIE,
    TOO_OFTEN,
    Throttle,
    Windows,
    address_of,
    is_genuine,
)
from service.errors import problem_response, to_problem, wants_page
from service.metrics import Metrics

logger = structlog.get_logger("service.requests")

SIGN_IN = frozenset({"/sign-in", "/forgotten"})
MOST_REFUSALS = 300
"""In a minute, from one address, before it waits: more than any script that is merely wrong."""
REFUSALS_PER_SECOND = 50.0
ATTEMPTS_PER_SECOND = 500.0
LONGEST_TURN = 5.0
"""In seconds; who would wait longer is answered at once and has to connect anew."""
_TELL_EVERY = 10.0


class Pace:
    """Turns at a steady pace."""

    def __init__(self, per_second: float) -> None:
        self._gap = 1.0 / per_second
        self._next = 0.0

    async def turn(self) -> bool:
        """Wait for the next turn; False, at once, when that would take too long."""
        now = asyncio.get_running_loop().time()
        turn = max(now, self._next)
        if turn - now > LONGEST_TURN:
            return False
        self._next = turn + self._gap
        await asyncio.sleep(turn - now)
        return True


class Doorkeeper:
    """Slow down whoever is refused again and again."""

    def __init__(self, app: ASGIApp, throttle: Throttle, metrics: Metrics) -> None:
        self.app = app
        self.throttle = throttle
        self.metrics = metrics
        self._attempts, self._refusals = Pace(ATTEMPTS_PER_SECOND), Pace(REFUSALS_PER_SECOND)
        self._windows = Windows()
        self._held_off, self._told_at = 0, 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        address = address_of(scope.get("client"))
        is_attempt = scope["path"] in SIGN_IN and scope["method"] != "HEAD"
        pause = self.throttle.pause_of(address) if is_attempt else None
        if pause is None and is_attempt and scope["method"] == "POST" and self.throttle.is_crowded():
            pause = CROWDED_SECONDS
        if pause is not None and not _is_known(scope):
            is_my_turn = await (self._refusals if _is_heavy(scope) else self._attempts).turn()
            if scope["method"] != "GET" or not is_my_turn:
                await self._hold_off(scope, receive, send, pause, closes=not is_my_turn)
                return

        if scope["path"] == "/forgotten" and scope["method"] == "POST":
            self.throttle.refused(address)  # nobody forgets thirty passwords a minute

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and 400 <= message["status"] < 500:
                if (
                    is_attempt and scope["method"] != "GET" and message["status"] != 401
                ):  # counted where the password was compared
                    self.throttle.refused(address)
                if self._windows.incr(address, 60) > MOST_REFUSALS:
                    await self._refusals.turn()
            await send(message)

        await self.app(scope, receive, answer)

    async def _hold_off(self, scope: Scope, receive: Receive, send: Send, pause: int, *, closes: bool) -> None:
        self.metrics.held_off.inc()
        self._held_off += 1
        now = asyncio.get_running_loop().time()
        if now - self._told_at > _TELL_EVERY:  # one line for very many: a flood must not fill the disk either
            logger.warning("sign_ins_held_off", count=self._held_off, address=address_of(scope.get("client")))
            self._told_at, self._held_off = now, 0
        sentence = CROWDED if pause == CROWDED_SECONDS else TOO_OFTEN.format(f"{pause} s")
        request, problem = Request(scope), to_problem(TooManyAttemptsError(sentence, pause))
        response: Response = problem_response(request, problem)
        if wants_page(request):
            page = f'<!doctype html><html lang="en"><title>Too many sign-ins</title><p>{problem.detail}</p></html>'
            response = HTMLResponse(page, problem.status, problem.headers)
        if closes:
            response.headers["Connection"] = "close"
        await response(scope, receive, send)


def _is_heavy(scope: Scope) -> bool:
    """Whether more comes than any form of a sign-in holds: reading past it costs more than the answer."""
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"0")
    return b"transfer-encoding" in headers or not length.isdigit() or len(length) > 4


def _is_known(scope: Scope) -> bool:
    for name, value in scope["headers"]:
        if name == b"cookie" and KNOWN_COOKIE.encode() in value[:8192]:
            try:
                found = SimpleCookie(value[:8192].decode("latin-1")).get(KNOWN_COOKIE)
            except CookieError:
                return False
            return found is not None and is_genuine(found.value)
    return False
