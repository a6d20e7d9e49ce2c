"""The outbox: one worker at a time, the last to claim wins, nothing due is forgotten."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.orm import Session

from cachescope.errors import LeaseLostError
from store.logs import WrittenLog
from store.models import Delivery
from store.queries import deliveries
from store.queries.logs import save_log
from tests.factories import make_delivery, make_repository

NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
LEASE = timedelta(seconds=30)


@pytest.fixture
def delivery(session: Session) -> Delivery:
    """A new delivery that has been due for a minute."""
    return make_delivery(session, make_repository(session), next_at=NOW - timedelta(minutes=1))


def state_of(session: Session, delivery: Delivery) -> str:
    session.refresh(delivery)
    return delivery.state


def test_ids_grow_with_time() -> None:
    ids = [deliveries.make_id(at) for at in (1.0, 2.0, 3e9)]
    assert ids == sorted(ids)
    assert all(each[14] == "7" for each in ids)
    assert deliveries.make_id(2.0, noise=0) < ids[1]


def test_a_delivery_is_claimed_once(session: Session, delivery: Delivery) -> None:
    held = deliveries.claim(session, delivery.id, NOW, LEASE)
    assert (held.fence, held.attempts) == (1, 1)
    assert deliveries.claim(session, delivery.id, NOW, LEASE) is None
    assert deliveries.claim_next_due(session, NOW, LEASE) is None
    assert state_of(session, delivery) == "working"


def test_a_hint_need_not_wait_until_a_new_delivery_is_due(session: Session, delivery: Delivery) -> None:
    before = NOW - timedelta(hours=1)
    assert deliveries.claim_next_due(session, before, LEASE) is None
    assert deliveries.claim(session, delivery.id, before, LEASE) is not None


def test_a_hint_does_not_cut_the_pause_after_a_failure_short(session: Session, delivery: Delivery) -> None:
    held = deliveries.claim(session, delivery.id, NOW, LEASE)
    deliveries.finish(session, held, state="new", next_at=NOW + timedelta(seconds=8))
    assert deliveries.claim(session, delivery.id, NOW, LEASE) is None
    assert deliveries.claim(session, delivery.id, NOW + timedelta(seconds=8), LEASE).attempts == 2


def test_the_longest_due_comes_first(session: Session) -> None:
    repository = make_repository(session)
    late, early = (make_delivery(session, repository, next_at=NOW - timedelta(seconds=age)) for age in (1, 2))
    assert [deliveries.claim_next_due(session, NOW, LEASE).delivery_id for _ in range(2)] == [early.id, late.id]


def test_only_what_is_overdue_is_taken_where_that_is_asked_for(session: Session, delivery: Delivery) -> None:
    assert deliveries.claim_next_due(session, NOW, LEASE, timedelta(minutes=2)) is None
    assert deliveries.claim_next_due(session, NOW, LEASE, timedelta(seconds=30)) is not None


def test_a_silent_worker_loses_its_delivery(session: Session, delivery: Delivery) -> None:
    slow = deliveries.claim(session, delivery.id, NOW, LEASE)
    assert deliveries.claim_next_due(session, NOW + timedelta(seconds=29), LEASE) is None
    fast = deliveries.claim_next_due(session, NOW + timedelta(seconds=31), LEASE)
    assert fast.fence == slow.fence + 1
    assert not deliveries.extend_lease(session, slow, NOW + LEASE)
    for late in (deliveries.finish, deliveries.amend):
        with pytest.raises(LeaseLostError, match=delivery.id):
            late(session, slow, error="too late")
    deliveries.finish(session, fast, state="done", finished_at=NOW)
    assert state_of(session, delivery) == "done"
    assert delivery.error is None


def test_a_worker_that_says_that_it_lives_keeps_its_delivery(session: Session, delivery: Delivery) -> None:
    held = deliveries.claim(session, delivery.id, NOW, LEASE)
    assert deliveries.extend_lease(session, held, NOW + timedelta(minutes=5))
    assert deliveries.claim_next_due(session, NOW + timedelta(minutes=4), LEASE) is None


def test_a_finished_delivery_is_never_due(session: Session, delivery: Delivery) -> None:
    deliveries.finish(session, deliveries.claim(session, delivery.id, NOW, LEASE), state="done", finished_at=NOW)
    later = NOW + timedelta(days=9)
    assert deliveries.claim(session, delivery.id, later, LEASE) is None
    assert deliveries.claim_next_due(session, later, LEASE) is None
    assert deliveries.count_due(session, later, 10) == 0


def test_a_key_is_used_once_in_a_team(session: Session, delivery: Delivery) -> None:
    values = {
        "id": deliveries.make_id(),
        "team_id": delivery.team_id,
        "kind": "upload",
        "idempotency_key": delivery.idempotency_key,
    }
    assert not deliveries.insert(session, values)
    assert deliveries.insert(session, values | {"kind": "hook"})
    assert deliveries.find_by_key(session, delivery.team_id, "upload", delivery.idempotency_key) is delivery


def test_a_failed_delivery_begins_anew(session: Session, delivery: Delivery) -> None:
    held = deliveries.claim(session, delivery.id, NOW, LEASE)
    deliveries.finish(session, held, state="failed", error="no", finished_at=NOW)
    assert not deliveries.requeue(session, delivery.id, NOW, "ignored")
    assert deliveries.requeue(session, delivery.id, NOW, "failed")
    assert state_of(session, delivery) == "new"
    assert (delivery.attempts, delivery.error, delivery.finished_at) == (0, None, None)
    assert deliveries.claim(session, delivery.id, NOW, LEASE).fence == 2


def test_deliveries_are_put_back_in_pages_and_by_the_version_that_read_them(session: Session) -> None:
    repository = make_repository(session)
    digest = _log(session)
    made = [
        make_delivery(session, repository, id=f"{number}", state="done", read_with=version, log_digest=digest)
        for number, version in enumerate(["1", None, "2", "1"])
    ]
    first = deliveries.requeue_many(session, NOW, ["done"], not_read_with="2", limit=2)
    assert first == [made[0].id, made[1].id]
    second = deliveries.requeue_many(session, NOW, ["done"], not_read_with="2", limit=2, after=first[-1])
    assert second == [made[3].id]
    assert deliveries.requeue_many(session, NOW, ["done"], repository_id=repository.id + 1) == []
    assert deliveries.requeue_many(session, NOW, ["done"], team_id=repository.team_id) == [made[2].id]


def test_the_states_are_counted(session: Session, delivery: Delivery) -> None:
    assert deliveries.count_by_state(session) == {"new": 1, "working": 0, "done": 0, "ignored": 0, "failed": 0}
    assert deliveries.count_due(session, NOW, 10) == 1
    assert deliveries.find_oldest_waiting(session) == delivery.received_at


def test_waiting_times_are_those_of_the_newest(session: Session) -> None:
    repository = make_repository(session)
    for seconds in (1, 2, 3):
        at = NOW + timedelta(minutes=seconds)
        values = {"id": deliveries.make_id(at.timestamp()), "received_at": at, "state": "done"}
        make_delivery(session, repository, finished_at=at + timedelta(seconds=seconds), **values)
    assert deliveries.load_waiting_seconds(session, NOW + timedelta(minutes=1.5), 10) == [3.0, 2.0]
    assert deliveries.load_waiting_seconds(session, NOW, 1) == [3.0]


def _log(session: Session) -> str:
    save_log(session, WrittenLog("ab" * 32, 1, 1))
    return "ab" * 32
