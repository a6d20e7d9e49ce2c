"""Budgets for image size: one alert from the version that passed a budget to the one that keeps to it again."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from store.database import transaction
from store.models import AlertRule, Channel, ImageLayer, ImageSize, Incident, Message, SizedImage
from store.queries import incidents
from store.queries.deliveries import make_id
from tests.factories import make_repository
from workers.tasks.budgeting import megabytes, watch_budgets

MB = 1_000_000


@pytest.fixture
def session(home):
    with transaction() as session:
        yield session


@pytest.fixture
def sized(session: Session) -> SizedImage:
    repository = make_repository(session)
    sized = SizedImage(
        team_id=repository.team_id, repository_id=repository.id, name="ghcr.io/acme/api", budget_bytes=100 * MB
    )
    channel = Channel(id=make_id(), team_id=repository.team_id, name="Room", kind="webhook", config="{}")
    session.add_all([sized, channel])
    session.flush()
    session.add(AlertRule(team_id=repository.team_id, channel_id=channel.id, created_at=_at(-900)))
    session.flush()
    return sized


def _at(minutes: float) -> datetime:
    return datetime.now(UTC) + timedelta(minutes=minutes)


def release(session: Session, sized: SizedImage, size: int, *, minutes: float, branch_class: str = "default") -> None:
    """A version that was measured so many minutes before now; its two layers are the base and what grows."""
    row = ImageSize(
        sized_image_id=sized.id,
        repository_id=sized.repository_id,
        platform="linux/amd64",
        version_key=f"v{minutes}",
        commit_id=f"c{-minutes:.0f}",
        compressed_bytes=size * MB,
        layer_count=2,
        branch_class=branch_class,
        released_at=_at(minutes),
        measured_at=_at(minutes),
    )
    session.add(row)
    session.flush()
    layers = (("ADD rootfs /", 40), ("COPY . .", size - 40))
    for position, (instruction, megabytes_) in enumerate(layers):
        layer = ImageLayer(
            image_size_id=row.id,
            position=position,
            repository_id=sized.repository_id,
            digest=f"{instruction} {megabytes_}",
            instruction=instruction,
            compressed_bytes=megabytes_ * MB,
        )
        session.add(layer)
    session.flush()
    watch_budgets(session, sized)


def alerts(session: Session) -> list[Incident]:
    return list(session.scalars(select(Incident).order_by(Incident.id)))


def said(session: Session) -> list[tuple[str, str]]:
    rows = session.scalars(select(Message).where(Message.state != "canceled").order_by(Message.created_at))
    return [(row.kind, row.notice["title"]) for row in rows]


def test_a_version_over_the_budget_opens_one_alert_that_names_commit_and_instruction(
    session: Session, sized: SizedImage
) -> None:
    release(session, sized, 90, minutes=-50)
    assert alerts(session) == []
    release(session, sized, 112, minutes=-40)
    release(session, sized, 113, minutes=-30)
    (row,) = alerts(session)
    assert (row.kind, row.state, row.instruction, row.commit_id) == ("budget", "open", "COPY . .", "c40")
    assert row.evidence == "ghcr.io/acme/api weighed 112 MB, 12.0 MB more than its budget of 100 MB"
    assert said(session) == [("opened", "acme/api: the image is over its budget since c40")]


def test_it_is_over_with_the_version_that_keeps_to_the_budget(session: Session, sized: SizedImage) -> None:
    release(session, sized, 112, minutes=-40)
    session.execute(Message.__table__.update().values(state="sent"))
    release(session, sized, 99, minutes=-30)
    (row,) = alerts(session)
    assert (row.state, row.fixed_by) == ("resolved", "c30")
    assert said(session)[-1] == ("resolved", "acme/api: the image keeps to its budget again, fixed by c30")


def test_a_budget_that_is_raised_ends_its_alert(session: Session, sized: SizedImage) -> None:
    release(session, sized, 112, minutes=-40)
    sized.budget_bytes = 200 * MB
    watch_budgets(session, sized)
    (row,) = alerts(session)
    assert row.state == "resolved"
    assert incidents.list_events(session, row.id)[-1].note == "Its budget was changed."


def test_growth_of_one_version_has_a_budget_of_its_own(session: Session, sized: SizedImage) -> None:
    sized.budget_bytes, sized.budget_growth = None, 0.1
    release(session, sized, 80, minutes=-40)
    release(session, sized, 95, minutes=-30)
    release(session, sized, 96, minutes=-20)
    (row,) = alerts(session)
    assert row.state == "open"
    assert row.evidence == "ghcr.io/acme/api grew by 15.0 MB to 95.0 MB, 7.0 MB more than one version may grow it to"


def test_pull_requests_and_other_branches_open_nothing(session: Session, sized: SizedImage) -> None:
    release(session, sized, 112, minutes=-40, branch_class="pull_request")
    release(session, sized, 112, minutes=-30, branch_class="branch")
    assert alerts(session) == []


def test_what_was_over_before_anybody_set_the_budget_is_not_told(session: Session, sized: SizedImage) -> None:
    sized.budget_bytes = None
    release(session, sized, 112, minutes=-40)
    release(session, sized, 90, minutes=-30)
    sized.budget_bytes = 100 * MB
    watch_budgets(session, sized)
    assert alerts(session) == []


def test_accepted_stays_so_until_it_is_passed_anew(session: Session, sized: SizedImage) -> None:
    release(session, sized, 112, minutes=-40)
    alerts(session)[0].state = "accepted"
    release(session, sized, 113, minutes=-30)
    assert [row.state for row in alerts(session)] == ["accepted"]
    release(session, sized, 90, minutes=-20)
    release(session, sized, 120, minutes=-10)
    assert [row.state for row in alerts(session)] == ["accepted", "open"]


def test_what_was_closed_by_hand_opens_again_with_the_next_version(session: Session, sized: SizedImage) -> None:
    release(session, sized, 112, minutes=-40)
    alerts(session)[0].state, alerts(session)[0].resolved_at = "resolved", _at(-35)
    watch_budgets(session, sized)
    assert [row.state for row in alerts(session)] == ["resolved"]
    release(session, sized, 113, minutes=-30)
    (row,) = alerts(session)
    assert (row.state, row.reopened) == ("open", 1)


@pytest.mark.parametrize(
    ("size", "text"), [(812_000_000, "812 MB"), (1_340_000, "1.3 MB"), (40_000, "0.04 MB"), (0, "0 MB")]
)
def test_sizes_are_written_short(size: int, text: str) -> None:
    assert megabytes(size) == text
