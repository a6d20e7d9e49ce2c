"""Hints: sent behind the caller's back, and lost without harm when nobody takes them."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import serving
from workers.app import app, broker
from workers.hints import HintSender
from workers.settings import WorkerSettings


@pytest.fixture
def silent_server() -> Iterator[str]:
    """The address of a server that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


@pytest.fixture
def nobody() -> str:
    """An address at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"redis://127.0.0.1:{probe.getsockname()[1]}/0"


def use(url: str) -> None:
    app.conf.update(broker(WorkerSettings(redis_url=url)))
    app._after_fork()


def test_a_hint_reaches_the_queue(home: Path) -> None:
    HintSender().send("some id")
    serving.wait_for(lambda: list((home / "queue").glob("*.msg")), "the hint")


@pytest.mark.redis
def test_a_hint_reaches_redis(home: Path, redis_url: str) -> None:
    use(redis_url)
    HintSender().send("some id")
    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue("cachescope")
        assert queue.get(timeout=10).payload[0] == ["some id"]
        queue.close()


@pytest.mark.parametrize("broken", ["nobody", "silent_server"])
def test_a_dead_broker_holds_nobody_up(
    home: Path, broken: str, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    use(request.getfixturevalue(broken))
    sender = HintSender(most_waiting=10)
    began = time.monotonic()
    for number in range(1000):
        sender.send(str(number))
    assert time.monotonic() - began < 1
    if broken == "nobody":
        serving.wait_for(lambda: sender._silent_until > 0, "the sender to notice")
