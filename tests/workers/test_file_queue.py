"""The queue of files: each message once, in order, whatever was killed in the middle of it."""

import threading
from pathlib import Path
from queue import Empty
from typing import Any

import pytest
from kombu import Connection

from workers.file_queue import LONGEST


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that does not exist yet."""
    return tmp_path / "queue"


def connect(folder: Path) -> Connection:
    places = {name: str(folder) for name in ("data_folder_in", "data_folder_out", "control_folder")}
    return Connection("filesystem://localhost", transport="workers.file_queue:Transport", transport_options=places)


def take_all(folder: Path) -> list[Any]:
    found = []
    with connect(folder) as connection, connection.SimpleQueue("work") as queue:
        while True:
            try:
                message = queue.get_nowait()
            except queue.Empty:
                return found
            found.append(message.payload)
            message.ack()


def put(folder: Path, *payloads: Any) -> None:
    with connect(folder) as connection, connection.SimpleQueue("work") as queue:
        for payload in payloads:
            queue.put(payload)


def test_messages_come_out_once_and_in_order(folder: Path) -> None:
    put(folder, 1, 2, 3)
    assert take_all(folder) == [1, 2, 3]
    assert take_all(folder) == []
    assert list(folder.iterdir()) == []


def test_a_folder_that_is_not_there_is_an_empty_queue(folder: Path) -> None:
    assert take_all(folder) == []
    with connect(folder) as connection, connection.SimpleQueue("work") as queue:
        assert queue.qsize() == 0


def test_half_a_message_is_dropped(folder: Path) -> None:
    put(folder, 1, 2)
    first = min(folder.iterdir())
    first.write_bytes(first.read_bytes()[:20])
    (folder / ".0001_draft.work.msg").write_bytes(b"{")
    assert take_all(folder) == [2]


def test_messages_of_another_queue_stay(folder: Path) -> None:
    put(folder, 1)
    next(folder.iterdir()).rename(folder / "0001_x.other.msg")
    assert take_all(folder) == []
    assert [path.name for path in folder.iterdir()] == ["0001_x.other.msg"]


def test_readers_at_once_get_different_messages(folder: Path) -> None:
    put(folder, *range(60))
    found: list[Any] = []
    readers = [threading.Thread(target=lambda: found.extend(take_all(folder))) for _ in range(3)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert sorted(found) == list(range(60))


def test_a_queue_does_not_grow_for_ever(folder: Path) -> None:
    put(folder, *range(LONGEST + 20))
    assert take_all(folder) == list(range(LONGEST))


def test_a_queue_is_emptied(folder: Path) -> None:
    put(folder, 1, 2)
    with connect(folder) as connection, connection.SimpleQueue("work") as queue:
        assert queue.qsize() == 2
        assert queue.clear() == 2
        with pytest.raises((queue.Empty, Empty)):
            queue.get_nowait()
