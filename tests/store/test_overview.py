"""The overview of a team."""

from datetime import timedelta

import pytest

from store.queries import overview, repositories, rollups
from tests.factories import MORNING, make_build, make_repository, make_step, make_team, save_build

DAY = MORNING.date()


@pytest.fixture
def team(session):
    return make_team(session)


def save(session, repository, *, days=0, cached=False, **facts):
    step = make_step("RUN make", cached=cached, seconds=None if cached else 4.0)
    return save_build(session, repository, make_build(step), at=MORNING + timedelta(days=days), **facts)[0]


def test_every_repository_has_a_line_those_without_builds_too(session, team):
    busy, idle = (repositories.get_or_create_repository(session, team.id, name) for name in ("busy", "idle"))
    save(session, busy)
    rollups.recompute_dirty_days(session)
    found = overview.load_overview(session, team.id, DAY, DAY)
    assert [(line.repository, line.period.builds) for line in found.repositories] == [(busy, 1), (idle, 0)]
    assert found.repositories[1].last_build is None


def test_the_period_before_has_as_many_days(session, team):
    repository = repositories.get_or_create_repository(session, team.id, "api")
    for days in range(9):
        save(session, repository, days=days)
    rollups.recompute_dirty_days(session)
    found = overview.load_overview(session, team.id, DAY + timedelta(days=6), DAY + timedelta(days=8))
    assert (found.period.builds, found.previous.builds) == (3, 3)
    assert (found.repositories[0].period.builds, found.repositories[0].previous.builds) == (3, 3)


def test_the_team_is_the_sum_of_its_repositories_not_the_mean_of_their_rates(session, team):
    warm, cold = (repositories.get_or_create_repository(session, team.id, name) for name in ("warm", "cold"))
    for days in range(3):
        save(session, warm, days=days, cached=True)
    save(session, cold)
    rollups.recompute_dirty_days(session)
    found = overview.load_overview(session, team.id, DAY, DAY + timedelta(days=3))
    assert found.period.hit_rate == 0.75


def test_the_line_of_a_day_is_its_efficiency(session, team):
    repository = repositories.get_or_create_repository(session, team.id, "api")
    save(session, repository)
    save(session, repository, days=1, cached=True)
    rollups.recompute_dirty_days(session)
    (line,) = overview.load_overview(session, team.id, DAY, DAY + timedelta(days=3)).repositories
    assert line.efficiency_by_day == ((DAY, 0.0), (DAY + timedelta(days=1), 1.0))


def test_the_last_build_is_shown_whatever_its_branch(session, team):
    repository = repositories.get_or_create_repository(session, team.id, "api")
    save(session, repository, days=1)
    last = save(session, repository, days=2, branch="fix")
    save(session, repository, days=0)
    (line,) = overview.load_overview(session, team.id, DAY, DAY).repositories
    assert line.last_build.id == last


def test_what_lost_most_time_stands_first(session, team):
    from sqlalchemy import update

    from store.models import Break

    for name, days in (("a", 1), ("b", 3), ("c", 2)):
        repository = repositories.get_or_create_repository(session, team.id, name)
        for day in range(days):
            save(session, repository, days=day)
    session.execute(update(Break).values(expected=False))
    rollups.recompute_dirty_days(session)
    found = overview.load_overview(session, team.id, DAY, DAY + timedelta(days=5))
    assert [line.repository.name for line in found.repositories] == ["b", "c", "a"]


def test_another_team_is_not_in_it(session, team):
    stranger = make_repository(session, "other", make_team(session, "other"))
    save(session, stranger)
    rollups.recompute_dirty_days(session)
    found = overview.load_overview(session, team.id, DAY, DAY)
    assert (found.repositories, found.period.builds) == ((), 0)


def test_one_repository_can_be_shown_alone(session, team):
    one, two = (repositories.get_or_create_repository(session, team.id, name) for name in ("one", "two"))
    save(session, one)
    save(session, two)
    rollups.recompute_dirty_days(session)
    found = overview.load_overview(session, team.id, DAY, DAY, repository_id=one.id)
    assert ([line.repository for line in found.repositories], found.period.builds) == ([one], 1)
