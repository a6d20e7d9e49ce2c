"""Raw logs in a folder and in an S3-compatible bucket."""

import hashlib
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachescope.errors import NotFoundError, SettingsError, UnreadableInputError
from store.logs import BucketStore, FolderStore, LogStore, open_logs, read_lines, read_log, write_log
from store.models import StoredLog
from store.queries import logs as log_queries
from store.settings import StoreSettings
from tests.factories import make_delivery, make_repository

NOW = datetime.now(UTC)
LATER = NOW + timedelta(days=1)
LOG = b"#1 [internal] load build definition from Dockerfile\n#1 DONE 0.1s\n"


@pytest.fixture(scope="module")
def bucket_server() -> Iterator[str]:
    """An S3-compatible server with a bucket named logs."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    import httpx

    httpx.put(f"http://{host}:{port}/logs").raise_for_status()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["folder", "bucket"])
def logs(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LogStore:
    """An empty store of either kind."""
    if request.param == "folder":
        return FolderStore(tmp_path / "logs")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    return BucketStore(
        f"s3://logs/{request.node.name[:40]}-{time.monotonic_ns()}", endpoint=request.getfixturevalue("bucket_server")
    )


def test_a_log_is_read_as_it_was_written(logs):
    written = write_log(logs, [LOG[:10], LOG[10:]])
    assert b"".join(read_log(logs, written.digest)) == LOG
    assert written.digest == hashlib.sha256(LOG).hexdigest()
    assert written.unpacked_bytes == len(LOG)


def test_a_large_log_is_read_in_bounded_pieces_and_takes_little_room(logs):
    pieces = [b"#%d DONE 0.1s\n" % number * 1000 for number in range(400)]
    written = write_log(logs, pieces)
    read = list(read_log(logs, written.digest))
    assert b"".join(read) == b"".join(pieces)
    assert max(map(len, read)) <= 1 << 20
    assert written.stored_bytes < written.unpacked_bytes / 20


def test_an_empty_log_is_a_log(logs):
    assert b"".join(read_log(logs, write_log(logs, []).digest)) == b""


def test_the_same_log_twice_is_stored_once(logs):
    assert write_log(logs, [LOG]) == write_log(logs, [LOG])
    assert b"".join(read_log(logs, hashlib.sha256(LOG).hexdigest())) == LOG


def test_what_was_not_finished_is_not_stored(logs):
    with logs.writing() as writer:
        writer.write(LOG)
    with pytest.raises(NotFoundError, match="is not stored"):
        list(read_log(logs, hashlib.sha256(LOG).hexdigest()))


def test_an_old_log_is_deleted(logs):
    digest = write_log(logs, [LOG]).digest
    assert logs.delete(digest, LATER)
    with pytest.raises(NotFoundError):
        list(read_log(logs, digest))


def test_a_log_that_was_just_written_again_is_not_deleted(logs):
    digest = write_log(logs, [LOG]).digest
    assert not logs.delete(digest, NOW - timedelta(hours=1))
    assert b"".join(read_log(logs, digest)) == LOG


def test_deleting_a_log_that_is_not_there_is_no_error(logs):
    assert logs.delete("0" * 64, LATER)


@pytest.mark.parametrize(
    "name", ["", "../../etc/passwd", "0" * 63, "0" * 65, "A" * 64, "0" * 64 + "\n", "g" * 64, "/" + "0" * 63]
)
def test_a_name_that_is_no_digest_is_refused(logs, name):
    with pytest.raises(ValueError, match="is no SHA-256 digest"):
        list(read_log(logs, name))
    with pytest.raises(ValueError, match="is no SHA-256 digest"):
        logs.delete(name, LATER)


@pytest.mark.parametrize("damage", [lambda packed: packed[:-4], lambda packed: b"junk" + packed, lambda _: b""])
def test_a_damaged_file_is_noticed(tmp_path, damage):
    logs = FolderStore(tmp_path)
    digest = write_log(logs, [os.urandom(5000)]).digest
    path = logs.path(digest)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UnreadableInputError, match="is damaged"):
        list(read_log(logs, digest))


def test_a_file_under_a_wrong_name_is_noticed(tmp_path):
    logs = FolderStore(tmp_path)
    one, two = write_log(logs, [b"one"]).digest, write_log(logs, [b"two"]).digest
    logs.path(one).replace(logs.path(two))
    with pytest.raises(UnreadableInputError, match="do not fit its name"):
        list(read_log(logs, two))


def test_a_writer_that_raises_leaves_no_file_behind(tmp_path):
    logs = FolderStore(tmp_path)

    def fail() -> None:
        with logs.writing() as writer:
            writer.write(LOG)
            raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        fail()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_files_of_killed_processes_are_swept_away(tmp_path):
    logs = FolderStore(tmp_path)
    digest = write_log(logs, [LOG]).digest
    (tmp_path / "incoming" / "left").write_bytes(b"half a log")
    assert logs.delete_left_behind(NOW - timedelta(hours=1)) == 0
    assert logs.delete_left_behind(LATER) == 1
    assert b"".join(read_log(logs, digest)) == LOG


def test_lines_are_read_from_the_middle(tmp_path):
    logs = FolderStore(tmp_path)
    digest = write_log(logs, [b"one\r\ntwo\nth", b"ree\n\nfive"]).digest
    assert read_lines(logs, digest, 2, 2) == [b"two", b"three"]
    assert read_lines(logs, digest, 4, 10) == [b"", b"five"]
    assert read_lines(logs, digest, 1, 1) == [b"one"]
    assert read_lines(logs, digest, 6, 10) == []
    assert read_lines(logs, digest, 0, -1) == []


def test_a_line_without_end_is_cut(tmp_path):
    logs = FolderStore(tmp_path)
    digest = write_log(logs, [b"a" * 1_000_000] * 5 + [b"\nlast"]).digest
    assert [len(line) for line in read_lines(logs, digest, 1, 10)] == [256 * 1024, 4]


@settings(max_examples=50)
@given(content=st.binary(max_size=300).map(lambda raw: raw.replace(b"\r", b"\n")), cut=st.integers(0, 300))
def test_lines_do_not_depend_on_where_pieces_are_cut(tmp_path_factory, content, cut):
    logs = FolderStore(tmp_path_factory.mktemp("logs"))
    digest = write_log(logs, [content[:cut], content[cut:]]).digest
    expected = content.split(b"\n")
    assert read_lines(logs, digest, 1, 1000) == (expected[:-1] if expected[-1] == b"" else expected)


def test_the_settings_open_a_folder_or_a_bucket(tmp_path):
    assert isinstance(open_logs(StoreSettings(data=tmp_path)), FolderStore)
    assert isinstance(open_logs(StoreSettings(logs_url="s3://bucket/prefix")), BucketStore)


def test_another_kind_of_address_is_refused():
    with pytest.raises(SettingsError, match="a folder or s3://bucket/prefix"):
        open_logs(StoreSettings(logs_url="ftp://host/logs"))


def save_log(session, logs, content=LOG, **values):
    written = write_log(logs, [content])
    log_queries.save_log(session, written)
    session.flush()
    return written.digest


def test_a_log_to_which_a_delivery_refers_is_kept(session, tmp_path):
    logs = FolderStore(tmp_path)
    repository = make_repository(session)
    digests = [save_log(session, logs, content) for content in (b"log", b"body", b"nobody")]
    make_delivery(session, repository, log_digest=digests[0], body_digest=digests[1])
    assert log_queries.list_unreferenced(session, LATER) == [digests[2]]
    assert [log_queries.delete_unreferenced(session, logs, digest, LATER) for digest in digests] == [False, False, True]
    assert [logs.path(digest).exists() for digest in digests] == [True, True, False]


def test_a_log_that_is_being_sent_again_keeps_its_row(session, tmp_path):
    logs = FolderStore(tmp_path)
    digest = save_log(session, logs)
    session.get_one(StoredLog, digest).created_at = NOW - timedelta(days=3)
    session.flush()
    assert not log_queries.delete_unreferenced(session, logs, digest, NOW - timedelta(days=1))
    assert session.get(StoredLog, digest, populate_existing=True) is not None
    assert logs.path(digest).exists()


def test_the_same_log_saved_twice_is_one_row(session, tmp_path):
    logs = FolderStore(tmp_path)
    assert save_log(session, logs) == save_log(session, logs)
    assert session.query(StoredLog).count() == 1
