"""The demo: real logs that become a team, once, up to today, and are gone again."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from cachescope.cli import main
from cachescope.errors import SettingsError
from cachescope.reading import read_builds
from service.actions.accounts import OwnerForm, create_setup_link, set_up_owner
from service.demo.archive import FIRST_DAY, DemoBuild, example_log, read_archive
from service.demo.command import SLUG, fill_demo, free_slug, moved, refuse_without_database, remove_demo
from service.local import DataFolder
from store.database import reading, transaction
from store.models import Break, Build, DailyBuilds, Delivery, DirtyDay, Repository, Team
from store.queries import accounts, teams
from tests.serving import forget_settings

NOW = datetime(2026, 11, 23, 20, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def archive() -> list[DemoBuild]:
    """All logs that ship with the project."""
    return list(read_archive())


@pytest.fixture
def filled(home: Path, archive: list[DemoBuild]) -> list[DemoBuild]:
    """A server whose demo holds the first builds, and these builds."""
    assert fill_demo(NOW, archive[:24]) == 24
    return archive[:24]


def test_the_archive_holds_weeks_of_two_repositories_on_several_branches(archive: list[DemoBuild]) -> None:
    assert len({build.repository for build in archive}) == 2
    assert archive[-1].offset - archive[0].offset > timedelta(weeks=4)
    assert [build.offset for build in archive] == sorted(build.offset for build in archive)
    assert len({build.branch for build in archive}) > 10
    assert {build.outcome for build in archive} == {"succeeded", "failed"}
    assert len({build.runner for build in archive}) == 2


def test_every_log_of_the_archive_is_one_build_that_ended_as_ci_said(archive: list[DemoBuild]) -> None:
    for build in archive:
        read = read_builds([build.log.encode()])
        assert [str(found.outcome) for found in read.builds] == [build.outcome], build.offset
        assert read.warnings == ()


def test_the_example_shows_hits_and_misses() -> None:
    (build,) = read_builds([example_log().encode()]).builds
    assert any(step.cached for step in build.steps)
    assert any(step.cacheable and not step.cached for step in build.steps)


def test_dates_move_and_times_of_day_stay() -> None:
    log = b"2026-03-02T23:59:59.9Z #1 on 2026-03-02T10:00:00Z\n2026-03-03T00:00:00.1Z #2\nno stamp\n"
    assert datetime(2026, 3, 2, tzinfo=UTC) == FIRST_DAY
    assert b"".join(moved(log, datetime(2026, 12, 31, tzinfo=UTC))) == (
        b"2026-12-31T23:59:59.9Z #1 on 2026-03-02T10:00:00Z\n2027-01-01T00:00:00.1Z #2\nno stamp\n"
    )


def test_every_log_becomes_a_build_and_the_newest_is_of_the_last_day(filled: list[DemoBuild]) -> None:
    with reading() as session:
        started = session.scalars(select(Build.started_at).order_by(Build.started_at)).all()
        assert set(session.scalars(select(Delivery.state))) == {"done"}
        assert set(session.scalars(select(Delivery.kind))) == {"demo"}
    assert len(started) == 24
    assert NOW - timedelta(days=1) <= started[-1] <= NOW
    assert abs((started[-1] - started[0]) - (filled[-1].offset - filled[0].offset)) < timedelta(seconds=5)


def test_sums_are_there_at_once(filled: list[DemoBuild]) -> None:
    with reading() as session:
        assert session.scalar(select(func.count()).select_from(DirtyDay)) == 0
        assert session.scalar(select(func.count()).select_from(DailyBuilds))


def test_what_ci_knew_of_the_commits_decides_the_causes(filled: list[DemoBuild]) -> None:
    with reading() as session:
        causes = dict(session.execute(select(Break.cause, func.count()).group_by(Break.cause)).all())
    assert causes["files_changed"] > 3
    assert causes["first_build"] >= 2
    # A base image that got new content under its old name is one that no log tells of.
    assert causes.get("unknown", 0) < causes["files_changed"] / 4


def test_filling_twice_changes_nothing(filled: list[DemoBuild]) -> None:
    assert fill_demo(NOW + timedelta(days=3), filled) == 0
    with reading() as session:
        assert session.scalar(select(func.count()).select_from(Build)) == 24


def test_everybody_with_an_account_can_look_at_it_whoever_came_first(home: Path, archive: list[DemoBuild]) -> None:
    def join(number: int) -> int:
        form = OwnerForm(
            name="Kim", email=f"kim{number}@example.org", password="long enough for us", team=f"Team {number}"
        )
        with transaction() as session:
            token = create_setup_link(session).rpartition("/")[2]
            return set_up_owner(session, token, form)[0].id

    early = join(1)
    fill_demo(NOW, archive[:1])
    late = join(2)
    with reading() as session:
        for user in (early, late):
            roles = {team.slug: role for team, role in accounts.load_memberships(session, user)}
            assert roles[SLUG] == "viewer"


def test_removing_takes_everything_and_nothing_else(filled: list[DemoBuild]) -> None:
    with transaction() as session:
        own = teams.create_team(session, slug="own", name="Own")
        session.add(Repository(team_id=own.id, name="kept", default_branch="main"))
    assert remove_demo()
    with reading() as session:
        assert session.scalars(select(Repository.name)).all() == ["kept"]
        assert session.scalars(select(Team.slug)).all() == ["own"]
        assert session.scalar(select(func.count()).select_from(Build)) == 0
        assert session.scalar(select(func.count()).select_from(Delivery)) == 0
    assert not remove_demo()


def test_a_team_of_ones_own_named_demo_keeps_its_address(home: Path) -> None:
    with transaction() as session:
        teams.create_team(session, slug="demo", name="Our demo")
        assert free_slug(session) == "demo-2"


def test_without_a_server_the_command_says_where_to_call_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHESCOPE_DATABASE_URL", f"sqlite:///{home}/nothing.db")

    forget_settings()
    with pytest.raises(SettingsError, match=r"nothing\.db is no database .* Start the server first"):
        refuse_without_database()
    assert not (home / "nothing.db").exists()


def test_the_command_fills_and_removes(
    home: Path, archive: list[DemoBuild], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    DataFolder(home).prepare()
    monkeypatch.setattr("service.demo.command.read_archive", lambda: iter(archive[:2]))
    for arguments in (["demo"], ["demo"], ["demo", "--remove"], ["demo", "--remove"]):
        assert main.run(arguments) == 0
    assert capsys.readouterr().out == (
        "The team Demo holds 2 new builds. `cachescope demo --remove` takes it away.\n"
        "The team Demo is there already. `cachescope demo --remove` takes it away.\n"
        "The team Demo is gone.\n"
        "There is no team Demo here.\n"
    )
