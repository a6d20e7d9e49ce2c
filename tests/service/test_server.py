"""The connections of the web process: slow, endless and crowding clients are let go, honest ones are not."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
import uvicorn

from service import server
from service.server import GuardedProtocol
from tests import serving

Message = dict[str, Any]


async def echo(scope: Message, receive: Any, send: Any) -> None:
    """Answer with the number of bytes that came; /unread answers before it reads."""
    if scope["type"] != "http":
        return
    size, more = 0, scope["path"] != "/unread"
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    body = str(size).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server with a guarded door on a port of its own."""
    monkeypatch.setattr(GuardedProtocol, "arriving", {})
    monkeypatch.setattr(GuardedProtocol, "sweeps", False)
    monkeypatch.setattr(GuardedProtocol, "most", 4096)
    options = server.configure(app=echo, port=0, lifespan="off", log_config=None)
    assert isinstance(options, uvicorn.Config)
    running = uvicorn.Server(options)
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        serving.wait_for(lambda: running.started, "the server to start")
        yield running.servers[0].sockets[0].getsockname()[1]
    finally:
        running.should_exit = True
        thread.join(serving.PATIENCE_SECONDS)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=serving.PATIENCE_SECONDS)


def answer_to(port: int, request: bytes) -> bytes:
    with closing(connect(port)) as client:
        client.sendall(request)
        return client.recv(4096)


def read_to_end(client: socket.socket) -> bytes:
    found = b""
    try:
        while piece := client.recv(65536):
            found += piece
    except ConnectionError:
        pass
    return found


def send_without_end(client: socket.socket, piece: bytes) -> None:
    for _ in range(10_000):
        client.sendall(piece)


def test_honest_requests_are_answered_one_after_the_other(port: int) -> None:
    with closing(connect(port)) as client:
        for size in (0, 5, 200_000):
            client.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size)
            assert client.recv(4096).endswith(b"\r\n\r\n%d" % size)


def test_large_headers_are_refused(port: int) -> None:
    head = b"GET / HTTP/1.1\r\nhost: a\r\n"
    assert b" 431 " in answer_to(port, head + b"x: " + b"y" * 40_000 + b"\r\n\r\n")
    assert b" 431 " in answer_to(port, head + b"".join(b"x%d: y\r\n" % n for n in range(6000)) + b"\r\n")
    assert b" 200 " in answer_to(port, head + b"x: " + b"y" * 20_000 + b"\r\n\r\n")


def test_a_header_that_does_not_end_is_refused(port: int) -> None:
    with closing(connect(port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nx: ")
        with pytest.raises(ConnectionError):
            send_without_end(client, b"y" * 4096)
        assert GuardedProtocol.arriving == {}


def test_what_is_no_request_is_refused(port: int) -> None:
    assert b" 400 " in answer_to(port, b"\x16\x03\x01 hello\r\n\r\n")


def test_who_asks_for_another_protocol_gets_the_answer_of_this_one(port: int) -> None:
    upgrade = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    assert b" 200 " in answer_to(port, upgrade)


def test_slow_headers_are_let_go(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.5)
    with closing(connect(port)) as silent, closing(connect(port)) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nx: ")
        assert b" 408 " in read_to_end(slow)
        assert read_to_end(silent) == b""


def test_slow_bodies_are_let_go_but_those_of_logs_that_come_along(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "FORM_SECONDS", 0.5)
    monkeypatch.setattr(server, "SLOWEST", 10)
    head = b"POST %s HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n"
    with ExitStack() as opened:
        form, log, stalled = (opened.enter_context(closing(connect(port))) for _ in range(3))
        form.sendall(head % b"/sign-in" + b"x" * 900)
        log.sendall(head % b"/api/v1/uploads" + b"x" * 900)
        stalled.sendall(head % b"/api/v1/uploads" + b"x")
        assert read_to_end(form) == b""
        assert read_to_end(stalled) == b""
        log.sendall(b"x" * 100)
        assert log.recv(4096).endswith(b"1000")


def test_a_body_that_nobody_reads_is_not_listened_to_for_long(port: int) -> None:
    with closing(connect(port)) as client:
        client.sendall(b"POST /unread HTTP/1.1\r\nhost: a\r\ncontent-length: 999999999\r\n\r\n")
        assert b" 200 " in client.recv(4096)
        with pytest.raises(ConnectionError):
            send_without_end(client, b"x" * 65536)


def test_when_there_are_too_many_the_one_that_has_waited_longest_goes(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as opened:
        first = opened.enter_context(closing(connect(port)))
        first.sendall(b"GET / HTTP/1.1\r\nx: ")
        serving.wait_for(lambda: len(GuardedProtocol.arriving) == 1, "the first connection")
        monkeypatch.setattr(GuardedProtocol, "most", 2)
        others = [opened.enter_context(closing(connect(port))) for _ in range(2)]
        assert read_to_end(first) == b""
        for other in others:
            other.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            assert b" 200 " in other.recv(4096)
