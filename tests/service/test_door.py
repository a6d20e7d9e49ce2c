"""The door: what comes together is committed together, one bad letter spoils no other, refusals alone are counted."""

import time
from concurrent.futures import Future, wait
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select
from sqlalchemy.event import listen
from sqlalchemy.exc import IntegrityError

from integrations.ci.base import SignatureRefusedError
from service.actions.sources import SourceForm, create_source, rotate_secret
from service.actions.webhooks import (
    Door,
    KnownSource,
    Letter,
    Refusals,
    VerifiedHook,
    known_sources,
    verify_hook,
    write_letter,
)
from service.api import webhooks as route
from service.auth.permissions import Viewer
from store.database import get_engine, reading, transaction
from store.logs import open_logs
from store.models import Delivery, Source, Team
from store.models.sources import Hook
from tests.factories import make_team
from tests.service.test_webhooks import event, post, sign


@pytest.fixture
def source(home: Any) -> tuple[str, str]:
    with transaction() as session:
        team = make_team(session)
        made, secret = create_source(session, Viewer(name="Ada", roles={team.id: "owner"}), team, SourceForm(name="CI"))
        return made.id, secret


def letter(source_id: str, identity: str, **values: Any) -> Letter:
    with reading() as session:
        team_id = session.get_one(Source, source_id).team_id
    hook = VerifiedHook(
        source_id=source_id, team_id=team_id, repository_id=None, provider="generic", delivery_id=identity, headers={}
    )
    made = write_letter(hook, b"{}", open_logs())
    return Letter(made.delivery | values, made.hook)


def count(table: Any) -> int:
    with reading() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_what_comes_together_is_committed_together(source: tuple[str, str]) -> None:
    commits: list[object] = []
    listen(get_engine(), "commit", commits.append)
    letters = [letter(source[0], str(number)) for number in range(40)]
    before, door = len(commits), Door()
    answers = [door.submit(get_engine(), one) for one in letters]
    wait(answers, 30)
    assert [answer.result() for answer in answers] == [None] * 40
    assert len(commits) - before < 20
    assert (count(Delivery), count(Hook)) == (40, 40)


def test_the_same_webhook_twice_at_once_is_one_delivery(source: tuple[str, str]) -> None:
    door = Door()
    first, again = letter(source[0], "same"), letter(source[0], "same")
    door._write(get_engine(), batch := [(one, Future()) for one in (first, again)])
    assert [answer.result() for _, answer in batch] == [None, first.delivery["id"]]
    late = door.submit(get_engine(), letter(source[0], "same"))
    assert late.result(30) == first.delivery["id"]
    assert (count(Delivery), count(Hook)) == (1, 1)


def test_one_letter_that_cannot_be_written_spoils_no_other(source: tuple[str, str]) -> None:
    door = Door()
    letters = [letter(source[0], "1"), letter(source[0], "2", team_id=999_999), letter(source[0], "3")]
    door._write(get_engine(), batch := [(one, Future()) for one in letters])
    assert [batch[place][1].result() for place in (0, 2)] == [None, None]
    assert isinstance(batch[1][1].exception(), IntegrityError)
    assert (count(Delivery), count(Hook)) == (2, 2)


def test_a_sender_that_hung_up_is_waited_for_by_nobody(source: tuple[str, str]) -> None:
    door, answer = Door(), Future()
    answer.cancel()
    door._write(get_engine(), [(letter(source[0], "1"), answer)])
    assert count(Delivery) == 1


def test_a_source_that_is_changed_here_is_looked_up_anew_at_once(source: tuple[str, str]) -> None:
    with reading() as session:
        assert known_sources.load(session, source[0])
    assert known_sources.peek(source[0])
    with transaction() as session:
        team = session.scalars(select(Team)).one()
        rotate_secret(session, Viewer(name="Ada", roles={team.id: "owner"}), team, source[0])
    assert known_sources.peek(source[0]) is None


def test_a_secret_that_has_ended_signs_nothing(source: tuple[str, str]) -> None:
    with reading() as session:
        known = known_sources.load(session, source[0])
    assert known is not None
    body = event()
    ended = KnownSource(
        **{name: getattr(known, name) for name in ("id", "team_id", "repository_id", "provider", "scheme", "writes")},
        secrets=((source[1], datetime(2020, 1, 1, tzinfo=UTC)),),
    )
    with pytest.raises(SignatureRefusedError):
        verify_hook(ended, sign(source[1], body), body)
    assert verify_hook(known, sign(source[1], body), body).delivery_id == "msg_1"


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_only_refused_requests_are_counted(
    client: httpx.Client, source: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(route, "refusals", Refusals(most=3))
    body = event("build.started")
    for number in range(6):
        answer = post(client, source[0], body, sign(source[1], body, identity=f"good_{number}"))
        assert answer.status_code == 202, "accepted ones count for nothing"
    for _ in range(3):
        assert post(client, source[0], body, sign("whsec_d3Jvbmc=", body)).status_code == 401
    answer = post(client, source[0], body, sign("whsec_d3Jvbmc=", body))
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert post(client, "another", body, sign("whsec_d3Jvbmc=", body)).status_code == 401, "others are listened to"


def test_a_pause_ends_after_a_minute() -> None:
    refusals = Refusals(most=2, seconds=60)
    for now in (0.0, 1.0):
        assert refusals.pause_of("source", "1.2.3.4", now) is None
        refusals.count("source", "1.2.3.4", now, is_known=False)
    assert refusals.pause_of("source", "1.2.3.4", 2.0) == 58
    assert refusals.pause_of("source", "5.6.7.8", 2.0) is None
    assert refusals.pause_of("source", "1.2.3.4", 60.5) is None
    refusals.count("source", "1.2.3.4", 61.0, is_known=False)
    assert refusals.pause_of("source", "1.2.3.4", 61.5) is None


def test_a_flood_of_wrong_signatures_costs_few_writes() -> None:
    refusals = Refusals(tell_every=2.0)
    told = [refusals.count("source", "1.2.3.4", at / 100, is_known=True) for at in range(500)]
    assert [each for each in told if each] == [1, 200, 200]
    assert refusals.count("nobody", "1.2.3.4", 9.0, is_known=False) == 0


def test_the_counts_of_very_many_addresses_are_not_kept() -> None:
    refusals = Refusals(most=1)
    for number in range(10_002):
        refusals.count("source", str(number), time.monotonic(), is_known=False)
    assert len(refusals._counted) < 10
