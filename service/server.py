"""The web process, `python -m service.server`: uvicorn with a door that slow and crowding clients cannot block.

uvicorn waits for the end of a request for ever and takes headers of any size. Here a request has so many seconds to
come, its headers so many bytes, a body that nobody reads any more is not listened to for long, and when there are too
many connections those go first that have been sending the same request for longest.
"""

import argparse
import contextlib
import logging
import sys
import time
from typing import Any, ClassVar

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cachescope.errors import SettingsError
from service.auth.providers import open_sign_in
from service.doorkeeper import LONGEST_TURN, REFUSALS_PER_SECOND
from service.settings import get_settings, get_sign_in_settings

LARGEST_HEAD = 32 * 1024
"""Bytes of a request's first line and headers."""
HEAD_SECONDS = 10.0
"""For a connection to begin a request, and for its headers to come."""
FORM_SECONDS = 30.0
"""For a body to come, but that of a log, which may take long."""
SLOWEST = 256
"""Bytes a second, over `FORM_SECONDS` at least, below which a log is no longer waited for."""
LARGEST_UNREAD = 256 * 1024
"""Bytes of a body that nobody wants, because the request was answered already."""
BACKLOG = 512
_SLOW = ("/api/v1/uploads", "/api/v1/images", "/hooks/")

logger = logging.getLogger("service.server")


class GuardedProtocol(HttpToolsProtocol):
    """A connection that must get somewhere."""

    arriving: ClassVar[dict["GuardedProtocol", float]] = {}
    """Connections whose request has not come as a whole, oldest first, with the time at which it began."""
    most: ClassVar[int] = 4096
    sweeps: ClassVar[bool] = False
    next_refusal: ClassVar[float] = 0.0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head_bytes = self._raw_bytes = self._body_bytes = self._unread_bytes = 0
        self._is_in_head, self._is_refused = True, False

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._arrives()
        if len(self.connections) > self.most:
            oldest = next(iter(self.arriving))
            oldest.hang_up()
        if not GuardedProtocol.sweeps:
            GuardedProtocol.sweeps = True
            self.loop.call_later(1.0, self._sweep)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.arriving.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless the request is endless or no request at all."""
        self._unset_keepalive_if_required()
        was_in_head = self._is_in_head
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # nothing here speaks another protocol: the request is answered as what else it is
        except httptools.HttpParserError:
            self.refuse(400, "This is no HTTP request.")
            return
        if was_in_head and self._is_in_head:
            self._raw_bytes += len(data)
        if self._is_too_large():
            self.refuse(431, f"The headers are larger than {LARGEST_HEAD // 1024} KiB.")

    def on_message_begin(self) -> None:
        """Begin a request: the clock of its headers runs from now on."""
        super().on_message_begin()
        self._is_in_head = True
        self._head_bytes = self._raw_bytes = self._body_bytes = self._unread_bytes = 0
        self._arrives()

    def on_url(self, url: bytes) -> None:
        """Count the address as part of the headers."""
        self._head_bytes += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        self._head_bytes += len(name) + len(value) + 4
        if not self._is_too_large():
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Hand the request on, unless its headers are too large."""
        if self._is_too_large():
            return
        self._is_in_head = False
        self._arrives()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Pass the body on, and listen no longer to one that nobody reads."""
        if self._is_too_large():
            return
        self._body_bytes += len(body)
        if self.cycle.response_complete:
            self._unread_bytes += len(body)
            if self._unread_bytes > LARGEST_UNREAD:
                self.hang_up()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request has come as a whole."""
        self.arriving.pop(self, None)
        if not self._is_too_large():
            super().on_message_complete()

    def refuse(self, status: int, sentence: str) -> None:
        """Answer and close when it is our turn, without a line in the log: a flood must not fill the disk either."""
        if self._is_refused or self.transport.is_closing():
            return
        self._is_refused = True
        self.transport.pause_reading()
        now = self.loop.time()
        turn = max(now, GuardedProtocol.next_refusal)
        if turn - now > LONGEST_TURN:
            self.hang_up()
            return
        GuardedProtocol.next_refusal = turn + 1 / REFUSALS_PER_SECOND
        self.loop.call_later(turn - now, self._say, status, sentence)

    def _say(self, status: int, sentence: str) -> None:
        if not self.transport.is_closing():
            text = sentence.encode()
            head = f"HTTP/1.1 {status} Refused\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n"
            self.transport.write(f"{head}content-length: {len(text)}\r\n\r\n".encode() + text)
            self.transport.close()

    def hang_up(self) -> None:
        """Close without a word."""
        self.arriving.pop(self, None)
        self.transport.close()

    def is_late(self, now: float) -> bool:
        """Whether the request has taken longer than any honest one."""
        seconds = now - self.arriving[self]
        if self._is_in_head:
            return seconds > HEAD_SECONDS
        if seconds <= FORM_SECONDS or self.flow.read_paused:  # paused: it is us who are slow
            return False
        return not self.scope["path"].startswith(_SLOW) or self._body_bytes < SLOWEST * seconds

    def _is_too_large(self) -> bool:
        # Headers are counted as they are read; one that does not end is not read, so what comes is counted too.
        return max(self._head_bytes, self._raw_bytes) > LARGEST_HEAD

    def _arrives(self) -> None:
        self.arriving.pop(self, None)
        self.arriving[self] = time.monotonic()

    def _sweep(self) -> None:
        now = time.monotonic()
        for connection in [each for each in self.arriving if each.is_late(now)]:
            if connection._is_in_head and connection._raw_bytes:  # noqa: SLF001 - one of its own kind
                connection._say(408, "The request took too long to come.")  # noqa: SLF001
            connection.hang_up()
        if self.connections or self.arriving:
            self.loop.call_later(1.0, self._sweep)
        else:
            GuardedProtocol.sweeps = False


def configure(**options: Any) -> uvicorn.Config:
    """How the web process runs: the same for `cachescope up`, the container and tests."""
    GuardedProtocol.most = min(4096, _raise_file_limit() // 2)
    given = {
        "http": GuardedProtocol,
        "ws": "none",
        "lifespan": "on",
        "access_log": False,
        "backlog": BACKLOG,
        "timeout_keep_alive": 15,
        "server_header": False,
        "proxy_headers": False,  # the application itself knows which proxies to believe
    }
    return uvicorn.Config(**{"app": "asgi:app", **given, **options})


def main(words: list[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m service.server", description="Serve pages and API.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--fd", type=int, help="a listening socket that the parent opened")
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--timeout-graceful-shutdown", type=int, default=10)
    options = vars(parser.parse_args(words))
    try:
        open_sign_in(get_sign_in_settings(), get_settings())  # a mistake is one sentence here, and a traceback later
    except SettingsError as error:
        sys.exit(str(error))
    server = uvicorn.Server(configure(**options))
    server.run()
    if not server.started:
        sys.exit(3)


def _raise_file_limit() -> int:
    """Allow as many open files as the system lets us, and return how many that is: each connection is one."""
    try:
        import resource  # noqa: PLC0415 - there is none on Windows
    except ImportError:
        return 1024
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 16384 if hard == resource.RLIM_INFINITY else min(hard, 16384)
    if soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


if __name__ == "__main__":
    main()
