"""Deleting: what goes leaves no row and no file, what stays is untouched, and the sums of its days are right."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Table, func, insert, select, update
from sqlalchemy.orm import Session

from cachescope.errors import ForbiddenError, InvalidValueError, NotFoundError
from cachescope.surroundings import Surroundings
from service.actions import deletions as actions
from service.actions.deliveries import find_delivery, list_deliveries
from service.actions.tokens import TokenForm, issue_token
from service.auth.permissions import Viewer
from store.database import get_engine, reading, shorten_journal, transaction
from store.logs import open_logs, write_log
from store.models import AuditEvent, Base, Build, DailyBuilds, Delivery, Incident, Repository, StoredLog, Team
from store.queries import accounts, deletions, evidence, logs, rollups, teams
from tests.factories import (
    MORNING,
    make_build,
    make_delivery,
    make_repository,
    make_step,
    make_team,
    minutes,
    save_build,
)
from tests.test_route_walk import MARK as WORD
from tests.test_route_walk import filled
from workers.tasks.deleting import delete_hidden
from workers.tasks.ingest import ingest

MARK = "zebrafish"
"""Stands in everything that the team to go owns, and in nothing else."""
LOG = b"#1 [internal] load build definition\n#1 DONE 0.1s\n#2 [1/1] RUN echo %s %d\n#2 DONE 1s\n"
OWNER = "owner@example.org"


def owned_tables() -> list[Table]:
    """The tables whose rows hang on a team, by whatever chain of foreign keys, parents first."""
    found: list[Table] = []
    for table in Base.metadata.sorted_tables:
        parents = {key.column.table for key in table.foreign_keys}
        if table.name == "teams" or {"team_id", "repository_id"} & set(table.columns.keys()) or parents & set(found):
            found.append(table)
    return found


def fill(session: Session, slug: str, mark: str) -> Team:
    """A team with builds, and a row in every table that hangs on a team."""
    team = make_team(session, slug)
    team.name = mark
    repository = make_repository(session, f"{mark}/api", team)
    for number in range(3):
        steps = make_step(f"RUN {mark} {number}"), make_step("RUN make", seconds=4.0)
        save_build(session, repository, make_build(*steps), at=MORNING + minutes(number), branch=mark)
    rollups.recompute_dirty_days(session)
    delivery = session.scalars(select(Delivery).where(Delivery.team_id == team.id)).first()
    evidence.save_evidence(session, delivery.id, repository.id, Surroundings(dockerignore=mark))
    user = accounts.create_user(session, email=f"{len(mark)}@example.org", name="Somebody", password_hash=None)
    made: dict[str, dict[str, Any]] = {"users": {"id": user.id}}
    session.flush()
    owned = owned_tables()
    for table in Base.metadata.sorted_tables:
        if table in owned:
            found = row_of(session, table, team.id, repository.id)
            made[table.name] = found or insert_row(session, table, made, mark)
        elif table.name not in {"heartbeats", "logs", "users"}:  # what may refer to a person
            made[table.name] = insert_row(session, table, made, f"common {user.id}")
    return team


def row_of(session: Session, table: Table, team_id: int, repository_id: int) -> dict[str, Any] | None:
    """A row of the team that is there already."""
    own = [("id", team_id)] if table.name == "teams" else [("repository_id", repository_id), ("team_id", team_id)]
    own = [("id", repository_id)] if table.name == "repositories" else own
    for name, value in own:
        if name in table.columns:
            found = session.execute(select(table).where(table.columns[name] == value).limit(1)).first()
            if found is not None:
                return dict(found._mapping)
    return None


def insert_row(session: Session, table: Table, made: dict[str, dict[str, Any]], mark: str) -> dict[str, Any]:
    """Insert a row with the mark in every text, and whatever it may refer to filled in."""
    values: dict[str, Any] = {}
    for column in table.columns:
        (key,) = [*column.foreign_keys][:1] or (None,)
        named = {"repository_id": "repositories", "team_id": "teams"}.get(column.name)
        if key is not None and key.column.table.name in made and key.column.table is not table:
            values[column.name] = made[key.column.table.name][key.column.name]
        elif named:
            values[column.name] = made[named]["id"]
        elif column is not table.autoincrement_column and not (column.nullable and key is not None):
            value = filled(table, column)
            values[column.name] = f"{mark} {column.name}" if value in (WORD, f"id-of-{table.name}") else value
    session.execute(insert(table).values({name: value for name, value in values.items() if value is not None}))
    keys = table.primary_key.columns
    row = session.execute(select(table).order_by(*(c.desc() for c in keys)).limit(1)).one()
    return dict(row._mapping) | {name: values[name] for name in values if name in keys}


@pytest.fixture
def two_teams(home: Path) -> tuple[int, int]:
    """A team to go and one to stay, with one log that both have sent, and others of their own."""
    with transaction() as session:
        gone = fill(session, MARK, MARK)
        kept = fill(session, "kept", "parrot")
        ids = gone.id, kept.id
    for number, words in enumerate([(MARK,), (MARK, "both"), ("parrot", "both")]):
        for word in words:
            send(ids[0] if MARK in words else ids[1], word, number if word != "both" else 9)
    return ids


def send(team_id: int, word: str, number: int) -> str:
    """Send a log and let it be read."""
    written = write_log(open_logs(), [LOG % (word.encode(), number)])
    with transaction() as session:
        logs.save_log(session, written)
        repository = session.scalars(select(Repository).where(Repository.team_id == team_id)).first()
        now = datetime.now(UTC)
        delivery = make_delivery(session, repository, log_digest=written.digest, received_at=now).id
    ingest(delivery)
    return delivery


def everything() -> dict[str, list[dict[str, Any]]]:
    with reading() as session:
        return {
            table.name: [dict(row._mapping) for row in session.execute(select(table))]
            for table in Base.metadata.sorted_tables
        }


def holding(word: str) -> set[str]:
    """The tables in which a word stands anywhere."""
    return {name for name, rows in everything().items() for row in rows if word in str(row.values())}


def files() -> set[str]:
    folder = open_logs().folder
    return {path.name for path in folder.rglob("*") if path.is_file()}


def delete_all() -> None:
    while delete_hidden():
        pass


def viewer(team_id: int, role: str = "owner") -> Viewer:
    return Viewer(name="Ada", email=OWNER, roles={team_id: role}, user_id=None)


def test_every_table_of_a_team_has_a_row_to_lose(two_teams: tuple[int, int]) -> None:
    """The search below proves nothing of a table in which the team had no row."""
    rows = everything()
    assert {table.name for table in owned_tables() if len(rows[table.name]) < 2} == set()
    assert len(holding(MARK)) > 20


def test_a_deleted_team_leaves_no_row_no_file_and_no_sum(two_teams: tuple[int, int]) -> None:
    gone, kept = two_teams
    before = everything()
    mine = {row["id"] for row in before["repositories"] if row["team_id"] == gone}
    with transaction() as session:
        actions.delete_team(session, viewer(gone), session.get_one(Team, gone), MARK)
    delete_all()
    after = everything()
    assert holding(MARK) == set()
    for name, rows in after.items():
        for row in rows:
            assert row.get("team_id") != gone, name
            assert row.get("repository_id") not in mine, name
    kept_before = {name: [row for row in rows if is_of(row, kept, before)] for name, rows in before.items()}
    kept_after = {name: [row for row in rows if is_of(row, kept, before)] for name, rows in after.items()}
    assert kept_after == kept_before
    assert files() == {f"{row['digest']}.zst" for row in after["logs"] if len(row["digest"]) == 64}
    assert len(files()) == 2, "the log that both teams sent, and the other team's own"


def is_of(row: dict[str, Any], team_id: int, before: dict[str, list[dict[str, Any]]]) -> bool:
    repositories = {each["id"] for each in before["repositories"] if each["team_id"] == team_id}
    return row.get("team_id") == team_id or row.get("repository_id") in repositories


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_nothing_of_a_deleted_team_can_be_read_in_the_file_of_the_database(
    two_teams: tuple[int, int], database_url: str
) -> None:
    path = Path(database_url.removeprefix("sqlite:///"))
    shorten_journal()
    assert MARK.encode() in path.read_bytes()
    with transaction() as session:
        actions.delete_team(session, viewer(two_teams[0]), session.get_one(Team, two_teams[0]), MARK)
    delete_all()
    get_engine().dispose()
    left = [file for file in path.parent.glob(f"{path.name}*") if MARK.encode() in file.read_bytes()]
    assert left == []


def test_a_team_is_out_of_sight_at_once(two_teams: tuple[int, int]) -> None:
    gone = two_teams[0]
    with transaction() as session:
        user = accounts.create_user(session, email=OWNER, name="Ada", password_hash=None)
        teams.add_member(session, gone, user.id, "owner")
        actions.delete_team(session, viewer(gone), session.get_one(Team, gone), MARK)
    with reading() as session:
        assert accounts.load_memberships(session, user.id) == []
        assert accounts.find_team_by_slug(session, MARK) is None
        assert teams.list_teams_without_members(session) == []
        assert (
            session.scalars(
                select(Delivery.state).where(Delivery.state.in_(("new", "working")), Delivery.team_id == gone)
            ).all()
            == []
        )
        assert session.scalar(select(func.count()).select_from(Build)) > 0, "the rows go later"
    with transaction() as session:
        make_team(session, MARK)


def test_a_deletion_takes_small_transactions(two_teams: tuple[int, int]) -> None:
    with transaction() as session:
        actions.delete_team(session, viewer(two_teams[0]), session.get_one(Team, two_teams[0]), MARK)
    counts = []
    while True:
        with transaction() as session:
            emptied = deletions.delete_some(session, two_teams[0], builds=1, rows=2)
        counts.append(emptied.rows)
        if emptied.is_done:
            break
    assert len(counts) > 20
    assert max(counts) < 20


def test_a_deleted_repository_leaves_no_row_and_its_team_keeps_the_rest(two_teams: tuple[int, int]) -> None:
    gone = two_teams[0]
    with transaction() as session:
        team = session.get_one(Team, gone)
        other = make_repository(session, "other", team)
        save_build(session, other)
        repository = session.scalars(select(Repository).where(Repository.name == f"{MARK}/api")).one()
        ids, other_id = repository.id, other.id
        delivery = session.scalars(select(Delivery.id).where(Delivery.repository_id == ids)).first()
        actions.delete_repository(session, viewer(gone), team, repository, f"{MARK}/api")
        assert [each.repository_id for each in list_deliveries(session, viewer(gone), team)] == [other_id]
        with pytest.raises(NotFoundError):
            find_delivery(session, viewer(gone), delivery)
        make_repository(session, f"{MARK}/api", team)
    delete_all()
    rows = everything()
    assert [(name, row) for name, found in rows.items() for row in found if row.get("repository_id") == ids] == []
    assert len(rows["teams"]) == 2
    assert {row["name"] for row in rows["repositories"] if row["team_id"] == gone} == {"other", f"{MARK}/api"}
    assert [row["repository_id"] for row in rows["builds"] if row["repository_id"] == other_id] == [other_id]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_log_of_a_repository_that_goes_is_not_taken_for_one_that_is_there(client: httpx.Client) -> None:
    with transaction() as session:
        team = make_team(session)
        _, token = issue_token(session, team, TokenForm(name="CI"))
        team_id = team.id

    def upload(key: str) -> httpx.Response:
        address = f"/api/v1/uploads?repository=acme/api&idempotency_key={key}"
        return client.post(address, content=LOG % (b"x", 1), headers={"authorization": f"Bearer {token}"})

    assert upload("one").status_code == 202
    with transaction() as session:
        repository = session.scalars(select(Repository)).one()
        actions.delete_repository(session, viewer(team_id), session.get_one(Team, team_id), repository, "acme/api")
    refused = upload("one")
    assert (refused.status_code, "being deleted" in refused.json()["detail"]) == (409, True)
    assert upload("two").status_code == 202
    delete_all()
    assert upload("one").status_code == 202


def test_an_incident_of_a_fleet_without_members_goes_with_the_last_of_them(home: Path) -> None:
    with transaction() as session:
        team = make_team(session)
        repository, other = (make_repository(session, name, team) for name in ("one", "two"))
        words = {
            "team_id": team.id,
            "kind": "x",
            "key": "x",
            "metric": "x",
            "cause": "x",
            "evidence": "",
            "confidence": "",
            "opened_at": MORNING,
        }
        lonely, shared, untouched = (Incident(**words) for _ in range(3))
        session.add_all([lonely, shared, untouched])
        session.flush()
        session.add_all(
            [
                Incident(**words, repository_id=repository.id, parent_id=lonely.id),
                Incident(**words, repository_id=repository.id, parent_id=shared.id),
                Incident(**words, repository_id=other.id, parent_id=shared.id),
            ]
        )
        session.flush()
        kept = {shared.id, untouched.id}
        actions.delete_repository(session, viewer(team.id), team, repository, "one")
        found = session.scalars(
            select(Incident.id).where(Incident.team_id == team.id, Incident.repository_id.is_(None))
        )
        assert set(found) == kept


def test_a_deleted_build_takes_its_log_and_corrects_the_sums(home: Path) -> None:
    with transaction() as session:
        team = make_team(session)
        make_repository(session, "acme/api", team)
        team_id = team.id
    send(team_id, "one", 1)
    send(team_id, "two", 2)
    with transaction() as session:
        rollups.recompute_dirty_days(session)
        build = session.scalars(select(Build).order_by(Build.id)).first()
        digest = session.get_one(Delivery, build.delivery_id).log_digest
        assert actions.delete_build(session, viewer(team_id), session.get_one(Team, team_id), build, str(build.id)) == 1
    assert f"{digest}.zst" not in files()
    assert len(files()) == 1
    with transaction() as session:
        rollups.recompute_dirty_days(session)
        assert session.scalar(select(func.sum(DailyBuilds.builds))) == 1
        assert session.scalars(select(StoredLog.digest)).all() != [digest]
        assert session.scalar(select(func.count()).select_from(Delivery)) == 1
        last = session.scalars(select(Build)).one()
        assert last.baseline_build_id is None
        noted = session.scalars(select(AuditEvent)).one()
        assert (noted.action, noted.actor, noted.target) == ("build.deleted", OWNER, "acme/api #1")


def test_a_log_that_was_just_sent_again_is_kept(home: Path) -> None:
    with transaction() as session:
        team_id = make_team(session).id
        make_repository(session, "acme/api", session.get_one(Team, team_id))
    send(team_id, "one", 1)
    with transaction() as session:
        past = datetime.now(UTC) - timedelta(hours=5)
        session.execute(update(Delivery).values(received_at=past, finished_at=past))
        session.execute(update(StoredLog).values(created_at=past))
        build = session.scalars(select(Build)).one()
        actions.delete_build(session, viewer(team_id), session.get_one(Team, team_id), build, str(build.id))
    assert len(files()) == 1, "its file is younger than everything that referred to it: somebody is about to"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_only_owners_delete_and_only_what_they_name(two_teams: tuple[int, int]) -> None:
    gone, _ = two_teams
    with transaction() as session:
        team = session.get_one(Team, gone)
        build = session.scalars(select(Build)).first()
        repository = session.get_one(Repository, build.repository_id)
        with pytest.raises(ForbiddenError):
            actions.delete_team(session, viewer(gone, "member"), team, MARK)
        with pytest.raises(ForbiddenError):
            actions.delete_repository(session, viewer(gone, "member"), team, repository, repository.name)
        with pytest.raises(ForbiddenError):
            actions.delete_build(session, viewer(gone, "member"), team, build, str(build.id))
        with pytest.raises(InvalidValueError, match="something else"):
            actions.delete_team(session, viewer(gone), team, MARK.upper())
