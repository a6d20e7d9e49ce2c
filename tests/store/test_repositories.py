"""Repositories, images, teams and sources."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from store.models import Base, Break, Build, BuildImage, DailyBuilds, Source, Team
from store.queries import repositories, rollups, sources, teams
from store.settings import StoreSettings
from tests.factories import MORNING, make_repository, make_team, minutes, save_build

NOW = datetime(2026, 11, 20, tzinfo=UTC)


@pytest.fixture
def team(session):
    return make_team(session)


def test_a_repository_is_made_once(session, team):
    first = repositories.get_or_create_repository(session, team.id, "acme/api", default_branch="trunk")
    again = repositories.get_or_create_repository(session, team.id, "acme/api", url="https://git/acme/api")
    assert first is again
    assert (again.default_branch, again.url) == ("trunk", "https://git/acme/api")


def test_two_teams_may_have_a_repository_of_the_same_name(session, team):
    ours = repositories.get_or_create_repository(session, team.id, "acme/api")
    theirs = repositories.get_or_create_repository(session, make_team(session, "other").id, "acme/api")
    assert ours.id != theirs.id
    assert repositories.load_repository(session, [theirs.team_id], ours.id) is None
    assert repositories.load_repository(session, [team.id], ours.id) is ours


def test_another_default_branch_sorts_builds_again(session, team):
    repository = repositories.get_or_create_repository(session, team.id, "acme/api")
    for number, facts in enumerate(
        [{"branch": "main"}, {"branch": "next"}, {"branch": "next", "pull_request": "7"}, {"branch": None}]
    ):
        save_build(session, repository, at=MORNING + minutes(number), **facts)
    rollups.recompute_dirty_days(session)
    repositories.set_default_branch(session, repository, "next")
    rollups.recompute_dirty_days(session)
    expected = ["branch", "default", "pull_request", "default"]
    session.expire_all()
    assert session.scalars(select(Build.branch_class).order_by(Build.id)).all() == expected
    assert session.scalars(select(BuildImage.branch_class).order_by(BuildImage.build_id)).all() == expected
    assert session.scalars(select(Break.branch_class).order_by(Break.build_id)).all() == expected
    sums = session.execute(
        select(DailyBuilds.branch_class, DailyBuilds.builds).order_by(DailyBuilds.branch_class)
    ).all()
    assert [tuple(row) for row in sums] == [("branch", 1), ("default", 2), ("pull_request", 1)]


def test_the_same_default_branch_marks_nothing(session, team):
    repository = repositories.get_or_create_repository(session, team.id, "acme/api")
    save_build(session, repository)
    rollups.recompute_dirty_days(session)
    repositories.set_default_branch(session, repository, "main")
    assert rollups.list_dirty_days(session) == []


def count_rows(session):
    return {
        table.name: session.scalar(select(func.count()).select_from(table))
        for table in Base.metadata.sorted_tables
        if table.name not in ("teams", "logs")
    }


def test_a_deleted_repository_leaves_nothing_behind(session, team):
    kept = repositories.get_or_create_repository(session, team.id, "kept")
    save_build(session, kept)
    rollups.recompute_dirty_days(session)
    before = count_rows(session)
    gone = repositories.get_or_create_repository(session, team.id, "gone")
    for number in range(3):
        save_build(session, gone, at=MORNING + minutes(number))
    rollups.recompute_dirty_days(session)
    save_build(session, gone, at=MORNING + timedelta(days=1))
    repositories.delete_repository(session, gone)
    assert count_rows(session) == before


def test_a_deleted_team_leaves_nothing_behind(session):
    before = count_rows(session)
    gone = make_team(session, "gone")
    save_build(session, repositories.get_or_create_repository(session, gone.id, "one"))
    save_build(session, repositories.get_or_create_repository(session, gone.id, "two"))
    teams.delete_team(session, gone)
    assert count_rows(session) == before
    assert session.scalars(select(Team)).all() == []


def test_a_slug_belongs_to_one_team(session, team):
    with pytest.raises(IntegrityError), session.begin_nested():
        make_team(session)


def test_long_names_of_images_are_cut_so_that_an_index_can_hold_them(session):
    repository = make_repository(session)
    image = repositories.get_or_create_image(
        session, repository.id, dockerfile="д" * 5000, target="t" * 5000, platform="p" * 5000, name="n" * 5000
    )
    assert {len(part) for part in (image.dockerfile, image.target, image.platform, image.name)} == {200}


def test_members_come_and_go(session, team):
    from store.models import User

    user = User(email="ada@example.org", name="Ada")
    session.add(user)
    session.flush()
    teams.add_member(session, team.id, user.id, "viewer")
    teams.add_member(session, team.id, user.id, "owner")
    from store.queries import accounts

    assert list(accounts.load_members(session, team.id)) == [(user, "owner")]
    assert [(found.id, role) for found, role in accounts.load_memberships(session, user.id)] == [(team.id, "owner")]
    assert teams.remove_member(session, team.id, user.id)
    assert not teams.remove_member(session, team.id, user.id)


def test_an_unknown_role_is_refused(session, team):
    with pytest.raises(IntegrityError), session.begin_nested():
        teams.add_member(session, team.id, 1, "king")


def test_the_demo_team_is_found_by_its_mark(session, team):
    assert teams.find_demo(session) is None
    demo = teams.create_team(session, slug="demo", name="Demo", is_demo=True)
    assert teams.find_demo(session) is demo
    assert list(teams.list_teams(session, [team.id, demo.id])) == [team, demo]


def test_a_team_shows_times_in_its_zone(session, team):
    teams.set_time_zone(session, team.id, "Europe/Berlin")
    session.refresh(team)
    assert team.time_zone == "Europe/Berlin"


@pytest.fixture
def source(session, team, monkeypatch):
    monkeypatch.setattr("store.types.get_settings", lambda: StoreSettings(secret_key="k" * 40))
    return sources.create_source(session, team.id, name="GitLab", provider="gitlab", secret="one")


def test_a_former_secret_works_until_its_end(session, source):
    sources.rotate_secret(session, source, "two", NOW + timedelta(days=1))
    assert sources.secrets_at(source, NOW) == ["two", "one"]
    assert sources.secrets_at(source, NOW + timedelta(days=1)) == ["two"]


def test_rotating_again_does_not_lengthen_the_life_of_a_former_secret(session, source):
    sources.rotate_secret(session, source, "two", NOW + timedelta(days=1))
    sources.rotate_secret(session, source, "three", NOW + timedelta(days=9))
    assert sources.secrets_at(source, NOW + timedelta(days=2)) == ["three", "two"]
    for number in range(9):
        sources.rotate_secret(session, source, f"later {number}", NOW + timedelta(days=9))
    assert len(json.loads(source.secrets)) == 5


def test_a_source_belongs_to_its_team(session, team, source):
    assert sources.find_team_source(session, team.id, source.id) is source
    assert sources.find_team_source(session, team.id + 1, source.id) is None
    assert list(sources.list_sources(session, team.id)) == [source]
    assert sources.find_source(session, source.id) is source


def test_a_source_is_switched_off_and_deleted(session, source):
    sources.disable_source(session, source, NOW)
    assert source.disabled_at == NOW
    sources.delete_source(session, source)
    assert session.scalars(select(Source)).all() == []
