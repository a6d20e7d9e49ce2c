"""From a stored log to its builds: once, whoever comes in whatever order, and visibly when it fails."""

import os
import threading
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from store.database import reading, transaction
from store.logs import FolderStore, open_logs, write_log
from store.models import Build, DailyBuilds, Delivery, DirtyDay, Heartbeat, Repository
from store.queries import deliveries, heartbeats, logs
from tests import serving
from tests.factories import make_delivery, make_repository
from workers import heartbeats as life
from workers import pipeline, schedule
from workers.app import app
from workers.leases import kept_lease
from workers.tasks.ingest import claim_next, ingest

LOG = b"#1 [internal] load build definition from Dockerfile\n#1 DONE 0.0s\n\n#2 [1/1] RUN make\n#2 DONE 1.5s\n"
LEASE = timedelta(seconds=30)
NO_BUILD = b"npm test\nall is well\n"


@pytest.fixture
def delivery_id(home: Path) -> str:
    """A delivery that waits for a worker."""
    return deliver(LOG)


def deliver(*pieces: bytes, **values: object) -> str:
    written = write_log(open_logs(), pieces)
    with transaction() as session:
        logs.save_log(session, written)
        repository = session.scalars(select(Repository)).first() or make_repository(session)
        given = {"log_digest": written.digest, "parameters": {"branch": "main"}, "next_at": datetime.now(UTC)}
        return make_delivery(session, repository, **given | values).id


def load(delivery_id: str) -> Delivery:
    with reading() as session:
        return session.get_one(Delivery, delivery_id)


def count(table: type) -> int:
    with reading() as session:
        return session.scalar(select(func.count()).select_from(table))


def hints(home: Path) -> int:
    """How many hints wait in the queue of files."""
    return len(list((home / "queue").glob("*.msg")))


def test_a_log_becomes_builds_and_sums(delivery_id: str) -> None:
    ingest(delivery_id)
    delivery = load(delivery_id)
    assert (delivery.state, delivery.error, delivery.attempts, delivery.lines) == ("done", None, 1, 5)
    assert delivery.read_with == pipeline.reader_version()
    assert delivery.finished_at is not None
    assert count(Build) == count(DirtyDay) == 1
    schedule.roll_up_dirty_days()
    assert (count(DirtyDay), count(DailyBuilds)) == (0, 1)


def test_a_hint_that_comes_twice_changes_nothing(delivery_id: str) -> None:
    ingest(delivery_id)
    ingest(delivery_id)
    ingest("a delivery that never was")
    assert count(Build) == 1
    assert load(delivery_id).attempts == 1


def test_a_worker_that_was_woken_reads_all_that_is_due(home: Path) -> None:
    ids = [deliver(LOG) for _ in range(3)]
    ingest()
    assert [load(each).state for each in ids] == ["done"] * 3


def test_two_workers_share_the_work_without_doing_any_twice(home: Path) -> None:
    ids = [deliver(LOG) for _ in range(12)]
    workers = [threading.Thread(target=ingest) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [load(each).attempts for each in ids] == [1] * 12
    assert count(Build) == 12


def test_a_log_without_a_build_is_remembered_and_said(home: Path) -> None:
    delivery_id = deliver(NO_BUILD)
    ingest(delivery_id)
    delivery = load(delivery_id)
    assert delivery.state == "done"
    assert "no image build" in delivery.error
    assert count(Build) == 0


def test_reading_again_replaces_builds_in_place(delivery_id: str) -> None:
    ingest(delivery_id)
    with reading() as session:
        before = session.scalars(select(Build.id)).all()
    with transaction() as session:
        assert deliveries.requeue(session, delivery_id, datetime.now(UTC), "done")
    ingest(delivery_id)
    with reading() as session:
        assert session.scalars(select(Build.id)).all() == before


def test_a_worker_that_was_too_slow_saves_nothing(delivery_id: str) -> None:
    slow = claim_next(LEASE)
    with transaction() as session:
        session.execute(update(Delivery).values(next_at=datetime.now(UTC) - LEASE, lease_until=None))
    fast = claim_next(LEASE)
    pipeline.work_off(fast)
    with reading() as session:
        kept = session.scalars(select(Build.id)).all()
    pipeline.work_off(slow)
    with reading() as session:
        assert session.scalars(select(Build.id)).all() == kept
    assert (load(delivery_id).state, load(delivery_id).fence) == ("done", 2)


def test_the_lease_is_prolonged_while_somebody_works(delivery_id: str) -> None:
    held = claim_next(timedelta(seconds=1))
    first = load(delivery_id).lease_until
    with kept_lease(held, timedelta(seconds=1)):
        serving.wait_for(lambda: load(delivery_id).lease_until > first + timedelta(seconds=1), "the lease to grow")
        assert claim_next(LEASE) is None


def test_a_lease_that_is_lost_is_not_prolonged(delivery_id: str) -> None:
    held = claim_next(timedelta(seconds=0.1))
    with transaction() as session:
        deliveries.finish(session, held, state="failed")
    with kept_lease(held, timedelta(seconds=0.03)):
        serving.wait_for(
            lambda: not any(each.name == "lease" for each in threading.enumerate()), "the keeper to give up"
        )
    assert load(delivery_id).lease_until is None


def test_a_damaged_log_fails_at_once_with_the_reason(delivery_id: str, home: Path) -> None:
    path = open_logs().path(load(delivery_id).log_digest)
    path.write_bytes(path.read_bytes()[:-4])
    ingest(delivery_id)
    delivery = load(delivery_id)
    assert (delivery.state, delivery.attempts) == ("failed", 1)
    assert "damaged" in delivery.error
    assert count(Build) == 0


def test_what_may_pass_is_tried_again_later_and_then_given_up(
    delivery_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHESCOPE_WORKER_RETRY_SECONDS", "60")
    serving.forget_settings()
    folder = open_logs().path(load(delivery_id).log_digest)
    folder.rename(f"{folder}.away")
    folder.mkdir()  # reading a folder raises an error of the system, not one of ours
    pauses = []
    for attempt in range(1, 7):
        before = datetime.now(UTC)
        ingest(delivery_id)
        delivery = load(delivery_id)
        assert delivery.attempts == attempt
        assert "IsADirectoryError" in delivery.error
        if attempt < 6:
            assert delivery.state == "new"
            pauses.append((delivery.next_at - before).total_seconds())
            ingest(delivery_id)
            assert load(delivery_id).attempts == attempt, "the pause is kept"
            with transaction() as session:
                session.execute(update(Delivery).values(next_at=datetime.now(UTC)))
    assert delivery.state == "failed"
    assert "tried 6 times" in delivery.error
    assert all(1.2 < later / earlier < 3.2 for earlier, later in pairwise(pauses))


def test_a_log_that_ends_its_workers_is_given_up(delivery_id: str) -> None:
    for _ in range(6):
        assert claim_next(LEASE) is not None
        with transaction() as session:
            session.execute(update(Delivery).values(next_at=datetime.now(UTC)))
    ingest()
    delivery = load(delivery_id)
    assert delivery.state == "failed"
    assert "stopped 6 times" in delivery.error


def test_a_worker_hands_the_rest_on_now_and_then(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.tasks.ingest.MOST_IN_A_ROW", 3)
    for _ in range(4):
        deliver(LOG)
    ingest()
    with reading() as session:
        assert deliveries.count_by_state(session) == {"new": 1, "working": 0, "done": 3, "ignored": 0, "failed": 0}
    assert hints(home) == 1


# -- the scheduler -----------------------------------------------------------------------------------------------------


def test_the_scheduler_reads_what_no_worker_comes_for(delivery_id: str) -> None:
    schedule.read_overdue()
    assert load(delivery_id).state == "new", "first the workers have their chance"
    with transaction() as session:
        session.execute(update(Delivery).values(next_at=datetime.now(UTC) - timedelta(seconds=1)))
    schedule.read_overdue()
    assert load(delivery_id).state == "done"


def test_a_sweep_wakes_the_workers_a_few_at_a_time(home: Path) -> None:
    for _ in range(10):
        deliver(LOG)
    sweeper = schedule.Sweeper()
    sweeper.sweep()
    serving.wait_for(lambda: hints(home) == 8, "eight hints")
    sweeper.sweep()
    assert sweeper.pause_seconds == 1.0
    for pause in (2.0, 4.0):
        sweeper.next_at = 0
        sweeper.sweep()
        assert sweeper.pause_seconds == pause
    ingest()
    sweeper.sweep()
    assert sweeper.pause_seconds == 0.0


def test_the_house_is_kept(home: Path) -> None:
    old = datetime.now(UTC) - timedelta(hours=3)
    store = open_logs()
    assert isinstance(store, FolderStore)
    left = write_log(store, [b"nobody's"])
    kept = deliver(LOG)
    with transaction() as session:
        logs.save_log(session, left)
        session.connection().exec_driver_sql("UPDATE logs SET created_at = '2020-01-01 00:00:00+00:00'")
    os.utime(store.path(left.digest), (old.timestamp(), old.timestamp()))
    schedule.keep_house()
    assert not store.path(left.digest).exists()
    assert store.path(load(kept).log_digest).exists()


def test_work_that_fails_is_tried_again() -> None:
    ended, calls = threading.Event(), []

    def work() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise OSError("away")
        ended.set()

    schedule.repeat(ended, 0.01, work).join(10)
    assert len(calls) == 2


def test_a_process_gives_signs_of_life(home: Path) -> None:
    ended = life.start("worker")
    serving.wait_for(lambda: count(Heartbeat) == 1, "a sign of life")
    ended.set()
    with reading() as session:
        assert (datetime.now(UTC) - heartbeats.last_seen(session)["worker"]).total_seconds() < 10


def test_silent_processes_are_forgotten(home: Path) -> None:
    now = datetime.now(UTC)
    with transaction() as session:
        heartbeats.beat(session, "old", "worker", now, now - timedelta(days=2))
        heartbeats.beat(session, "new", "scheduler", now, now)
        assert set(heartbeats.last_seen(session)) == {"scheduler"}
        heartbeats.forget(session, "new")
        assert heartbeats.last_seen(session) == {}


def test_the_queue_is_where_the_settings_say(home: Path) -> None:
    assert app.conf.broker_transport_options["data_folder_in"] == str(home / "queue")
