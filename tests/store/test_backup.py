"""A backup holds everything, goes into either database, and what was cut off or comes from elsewhere is refused."""

import io
import json
import random
import re
import shutil
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from cachescope.errors import NotFoundError, UnreadableInputError
from dashboards import app as pages
from dashboards.charts import CHARTS
from service.actions import tokens as token_actions
from service.actions.tokens import TokenForm
from service.app import create_app
from service.auth.sessions import SESSION_COOKIE
from service.auth.tokens import hash_token
from store import migrations
from store.backup import restore_backup, write_backup
from store.database import get_engine, make_engine, reading, transaction
from store.logs import FolderStore, open_logs, read_log, write_log
from store.models import AuditEvent, Base, Build, Delivery, Source, UserSession
from store.queries import accounts, logs, retention, rollups, teams
from store.queries.retention import Days
from tests import serving
from tests.conftest import DATABASES, _new_database
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
from workers.tasks.ingest import ingest

CROSSED = [
    pytest.param("sqlite", "postgresql", marks=pytest.mark.postgresql),
    pytest.param("postgresql", "sqlite", marks=pytest.mark.postgresql),
]
"""A backup of either database goes into the other one."""
COOKIE = "the-cookie-of-an-owner"
LOG = b"#1 [internal] load build definition\n#1 DONE 0.1s\n#2 [1/1] RUN make %d\n#2 DONE 1s\n"


@pytest.fixture(params=DATABASES)
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An empty database of another machine."""
    if request.param == "sqlite":
        engine = make_engine(f"sqlite:///{tmp_path}/elsewhere/cachescope.db")
        yield engine
        engine.dispose()
        return
    with _new_database(request.getfixturevalue("postgresql_url"), f"restored_{uuid4().hex[:8]}") as url:
        engine = make_engine(url)
        yield engine
        engine.dispose()


@pytest.fixture
def token(home: Path) -> str:
    """An installation with two repositories, builds, logs that were read, and a read token."""
    chosen = random.Random(5)
    with transaction() as session:
        team = make_team(session)
        repositories = [make_repository(session, name, team) for name in ("acme/api", "acme/shöp")]
        for number in range(40):
            steps = [make_step(f"RUN step {n}", cached=chosen.random() < 0.6, seconds=2.5) for n in range(4)]
            at = MORNING + minutes(90 * number)
            save_build(session, repositories[number % 2], make_build(*steps), at=at, commit_id=f"{number:040x}")
        _, text = token_actions.issue_token(session, team, TokenForm(name="reader", scope="read"))
        session.add(Source(id="hook", team_id=team.id, name="CI", provider="generic", secrets='["whsec_abc"]'))
        user = accounts.create_user(session, email="ada@example.org", name="Ada", password_hash=None)
        user.is_administrator = True
        teams.add_member(session, team.id, user.id, "owner")
        ends = datetime.now(UTC) + timedelta(days=9)
        session.add(UserSession(token_hash=hash_token(COOKIE), user_id=user.id, expires_at=ends))
        retention.save_rule(session, team.id, repositories[0].id, Days(log_days=9000))
        for number in range(5):
            at, words = MORNING + minutes(number), {"actor": "ada@example.org", "target": f"number {number}"}
            session.add(AuditEvent(at=at, team_id=team.id, action="token.made", details={"scope": "read"}, **words))
        session.flush()
        rollups.recompute_dirty_days(session, 1000)
    for number in range(5):
        written = write_log(open_logs(), [LOG % number])
        with transaction() as session:
            logs.save_log(session, written)
            repository = make_repository(session, "acme/api", session.get_one(type(team), team.id))
            delivery = make_delivery(session, repository, log_digest=written.digest, idempotency_key=str(number)).id
        ingest(delivery)
    return text


def answers(engine: Engine | None, folder: Path | None, token: str, paths: list[str]) -> dict[str, tuple[int, object]]:
    app = create_app(engine=engine, logs=FolderStore(folder) if folder else None, error_page=pages.error_page)
    app.include_router(pages.router)
    with serving.serve(app) as url, httpx.Client(base_url=url, timeout=60) as client:
        said = {path: client.get(path, headers=headers_for(path, token)) for path in paths}
    return {path: (answer.status_code, without_times(answer, url)) for path, answer in said.items()}


def without_times(answer: httpx.Response, url: str) -> object:
    """What an answer says, apart from the address that was asked, the number of the request and how long ago it was."""
    if answer.headers.get("content-type", "").endswith("parquet"):
        return answer.content
    text = re.sub(r"<time[^>]*>[^<]*</time>", "<time>", answer.text.replace(url, ""))
    if "json" not in answer.headers.get("content-type", ""):
        return text
    said = json.loads(text)
    said.pop("request_id", None)
    return said


def headers_for(path: str, token: str) -> dict[str, str]:
    """Scripts read with a token; pages, and what only owners may see, are for people."""
    is_for_owners = not path.startswith("/api/") or "/audit" in path
    cookie = {"cookie": f"{SESSION_COOKIE}={COOKIE}", "accept": "text/html" if path[:5] != "/api/" else "*/*"}
    return cookie if is_for_owners else {"authorization": f"Bearer {token}"}


def all_paths(session: Session) -> list[str]:
    builds = session.scalars(select(Build.id)).all()
    deliveries = session.scalars(select(Delivery.id)).all()
    paths = [f"/api/v1/builds/{build}{part}" for build in builds for part in ("", "/log")]
    paths += [f"/api/v1/deliveries/{delivery}" for delivery in deliveries]
    for repository in (1, 2, 3):
        parts = ("", "/builds", "/builds?branch=main", "/builds?outcome=failed", "/breaks", "/days")
        paths += [f"/api/v1/repositories/{repository}{part}" for part in parts]
        exports = ("builds.csv", "steps.csv", "builds.parquet", "steps.parquet")
        paths += [f"/api/v1/repositories/{repository}/{name}" for name in (*exports, "recommendations", "images")]
        paths += [f"/teams/acme/repositories/{repository}{part}" for part in ("", "?branch=main", "/feedback")]
        paths += [f"/charts/{name}?repository={repository}&days=30" for name in CHARTS]
    paths += [f"/builds/{build}{part}" for build in builds for part in ("", "/log", "/compare", "/delete")]
    paths += [f"/deliveries/{delivery}" for delivery in deliveries]
    paths += [f"/teams/acme{part}" for part in ("", "/repositories", "/deliveries", "/settings", "/data", "/alerts")]
    paths += [f"/teams/acme/audit{part}" for part in ("?to=2026-11-21", "?action=token.made&to=2026-11-21")]
    return [
        *paths,
        "/api/v1/teams/acme/retention",
        "/api/v1/teams/acme/audit?to=2026-11-21",
        "/api/v1/teams/acme/audit.csv?to=2026-11-21",
        "/api/v1/teams",
        "/api/v1/teams/acme",
        "/api/v1/teams/acme/overview",
        "/api/v1/teams/acme/deliveries",
    ]


@pytest.mark.parametrize(("database_url", "elsewhere"), CROSSED, indirect=True)
def test_a_restored_installation_gives_the_same_answers(
    home: Path, token: str, elsewhere: Engine, tmp_path: Path
) -> None:
    with reading() as session:
        every = sorted(all_paths(session))
        new = [path for path in every if "/audit" in path or "/retention" in path]
        paths = sorted({*random.Random(1).sample(every, k=200 - len(new)), *new})
    before = answers(None, None, token, paths)
    assert sum(status == 200 for status, _ in before.values()) > 120
    assert {before[path][0] for path in new} == {200}
    written = write_backup(get_engine(), open_logs(), tmp_path / "all.tar")
    shutil.rmtree(home / "logs")
    folder = tmp_path / "elsewhere" / "logs"
    restored = restore_backup(elsewhere, FolderStore(folder), tmp_path / "all.tar")
    assert (restored.tables, restored.logs) == (written.tables, written.logs)
    assert written.logs == 5
    assert answers(elsewhere, folder, token, paths) == before


@pytest.mark.parametrize(("database_url", "elsewhere"), [("sqlite", "sqlite"), CROSSED[0]], indirect=True)
def test_new_rows_get_new_ids_after_a_restore(token: str, elsewhere: Engine, tmp_path: Path) -> None:
    write_backup(get_engine(), open_logs(), tmp_path / "all.tar")
    restore_backup(elsewhere, FolderStore(tmp_path / "logs"), tmp_path / "all.tar")
    with transaction(elsewhere) as session:
        highest = session.scalar(select(func.max(Build.id)))
        (new,) = save_build(session, make_repository(session, "acme/new", make_team(session, "other")))
    assert new == highest + 1


@pytest.mark.parametrize(("database_url", "elsewhere"), [("sqlite", "sqlite")], indirect=True)
def test_secrets_stay_encrypted_in_the_file_and_open_after_it(token: str, elsewhere: Engine, tmp_path: Path) -> None:
    write_backup(get_engine(), open_logs(), tmp_path / "all.tar")
    with tarfile.open(tmp_path / "all.tar") as archive:
        restored = archive.extractfile("tables/sources.jsonl.zst").read()
    assert b"whsec_abc" not in restored
    restore_backup(elsewhere, FolderStore(tmp_path / "logs"), tmp_path / "all.tar")
    with reading(elsewhere) as session:
        assert session.get_one(Source, "hook").secrets == '["whsec_abc"]'


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_log_that_is_gone_is_named_and_the_rest_is_kept(token: str, tmp_path: Path) -> None:
    with reading() as session:
        digest = session.scalars(select(Delivery.log_digest).where(Delivery.log_digest.is_not(None))).first()
    assert open_logs().delete(digest, MORNING + timedelta(days=9_999))
    copied = write_backup(get_engine(), open_logs(), tmp_path / "all.tar")
    assert (copied.missing_logs, copied.logs) == ([digest], 4)


@pytest.mark.parametrize(("database_url", "elsewhere"), [("sqlite", "sqlite")], indirect=True)
def test_a_log_is_restored_to_the_byte(token: str, elsewhere: Engine, tmp_path: Path) -> None:
    write_backup(get_engine(), open_logs(), tmp_path / "all.tar")
    store = FolderStore(tmp_path / "logs")
    restore_backup(elsewhere, store, tmp_path / "all.tar")
    with reading() as session:
        for digest in session.scalars(select(Delivery.log_digest).where(Delivery.log_digest.is_not(None))):
            assert b"".join(read_log(store, digest)) == b"".join(read_log(open_logs(), digest))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_database_that_holds_something_is_not_overwritten(token: str, tmp_path: Path) -> None:
    write_backup(get_engine(), open_logs(), tmp_path / "all.tar")
    with pytest.raises(UnreadableInputError, match="is not empty"):
        restore_backup(get_engine(), open_logs(), tmp_path / "all.tar")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_file_that_exists_is_not_overwritten(token: str, tmp_path: Path) -> None:
    (tmp_path / "all.tar").write_text("mine")
    with pytest.raises(UnreadableInputError, match="exists already"):
        write_backup(get_engine(), open_logs(), tmp_path / "all.tar")
    assert (tmp_path / "all.tar").read_text() == "mine"


@pytest.mark.parametrize(("database_url", "elsewhere"), [("sqlite", "sqlite")], indirect=True)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_backup_that_was_cut_off_restores_nothing(
    token: str, elsewhere: Engine, tmp_path: Path, share: float
) -> None:
    write_backup(get_engine(), open_logs(), tmp_path / "all.tar")
    whole = (tmp_path / "all.tar").read_bytes().rstrip(b"\0")
    (tmp_path / "cut.tar").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UnreadableInputError, match="Nothing was restored"):
        restore_backup(elsewhere, FolderStore(tmp_path / "logs"), tmp_path / "cut.tar")
    with elsewhere.connect() as connection:
        for table in Base.metadata.sorted_tables:
            assert connection.execute(select(table).limit(1)).first() is None, table.name


@pytest.mark.parametrize(("database_url", "elsewhere"), [("sqlite", "sqlite")], indirect=True)
def test_a_backup_of_another_schema_is_refused_with_the_way_out(
    home: Path, elsewhere: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_backup(get_engine(), open_logs(), tmp_path / "all.tar")
    migrations.upgrade(elsewhere)
    monkeypatch.setattr("store.backup.FORMAT", 2)
    with pytest.raises(UnreadableInputError, match="that this version can read"):
        restore_backup(elsewhere, FolderStore(tmp_path / "logs"), tmp_path / "all.tar")
    monkeypatch.undo()
    rewrite_manifest(tmp_path / "all.tar", b'{"format": 1, "revision": "2020_01_01"}')
    with pytest.raises(UnreadableInputError, match="cachescope admin migrate"):
        restore_backup(elsewhere, FolderStore(tmp_path / "logs"), tmp_path / "all.tar")


def rewrite_manifest(path: Path, content: bytes) -> None:
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("manifest.json")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize("elsewhere", ["sqlite"], indirect=True)
def test_a_file_that_is_no_backup_is_refused(elsewhere: Engine, tmp_path: Path) -> None:
    (tmp_path / "photo.tar").write_bytes(b"\x89PNG" * 1_000)
    with pytest.raises(UnreadableInputError, match="is no backup"):
        restore_backup(elsewhere, FolderStore(tmp_path / "logs"), tmp_path / "photo.tar")
    with pytest.raises(NotFoundError, match="There is no file"):
        restore_backup(elsewhere, FolderStore(tmp_path / "logs"), tmp_path / "none.tar")
