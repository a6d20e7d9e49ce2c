"""Looking after the installation: what administrators see and do, on their page and at the terminal."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Request
from sqlalchemy import select, update
from typer.testing import CliRunner

from asgi import app
from cachescope.errors import ConflictError, InvalidValueError, NotFoundError
from service.actions import administration
from service.admin import command
from service.auth.permissions import Viewer
from service.auth.sessions import SESSION_COOKIE, open_session
from service.settings import ServiceSettings
from store.database import reading, transaction
from store.logs import open_logs, write_log
from store.models import AuditEvent, Build, Delivery, Heartbeat, Repository, Team, User
from store.queries import accounts, logs, teams
from tests import serving
from tests.factories import make_delivery, make_repository, make_team, save_build

ADA, BOB = "ada@example.org", "bob@example.org"
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def filled(home: Path) -> str:
    """An administrator in one team, somebody else in another, and a delivery of the other that failed."""
    with transaction() as session:
        acme, other = make_team(session), make_team(session, "other")
        for email, team in ((ADA, acme), (BOB, other)):
            user = accounts.create_user(session, email=email, name=email[:3].capitalize(), password_hash=None)
            teams.add_member(session, team.id, user.id, "owner")
        session.execute(update(User).where(User.email == ADA).values(is_administrator=True))
        repository = make_repository(session, "other/api", other)
        save_build(session, repository)
        session.execute(update(Delivery).values(state="done"))
        now = datetime.now(UTC)
        session.add(Heartbeat(id="one:1", kind="worker", started_at=now, seen_at=now))
        silent = now - timedelta(hours=2)
        session.add(Heartbeat(id="one:2", kind="worker", started_at=silent, seen_at=silent))
    written = write_log(open_logs(), [b"#1 what a log holds\n" * 1000])
    with transaction() as session:
        logs.save_log(session, written)
        repository = session.scalars(select(Repository)).one()
        failed = make_delivery(
            session, repository, log_digest=written.digest, state="failed", error="no parser <b>knows</b> it"
        )
        return failed.id


def run(*words: str) -> str:
    done = CliRunner().invoke(command, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output.strip()


def test_the_terminal_lists_what_there_is(filled: str) -> None:
    listed = run("teams").splitlines()
    assert [line.split()[:4] for line in listed[1:]] == [["other", "1", "1", "2"], ["acme", "1", "0", "0"]]
    assert [line.split()[0] for line in run("users").splitlines()[1:]] == [ADA, BOB]
    assert "CACHESCOPE_WEB_MAX_LOG_BYTES" in run("limits")
    assert "1 raw logs take" in run("storage")
    assert "0.0 MB." not in run("storage").splitlines()[0]
    seen = run("queue")
    assert "0 logs to read" in seen
    assert [line.split()[:3] for line in seen.splitlines()[-2:]] == [
        ["one:1", "worker", "lives"],
        ["one:2", "worker", "silent"],
    ]
    assert filled in run("failed")


@on_sqlite
def test_names_from_outside_do_not_steer_the_terminal(filled: str) -> None:
    with transaction() as session:
        session.execute(update(Delivery).values(error="\x1b[2Jgone\nnext"))
    assert "?[2Jgone?next" in run("failed")


@on_sqlite
def test_the_terminal_appoints_and_dismisses(filled: str) -> None:
    with pytest.raises(ConflictError, match="alone looks after"):
        run("administrator", ADA, "--remove")
    run("administrator", BOB)
    run("administrator", ADA, "--remove")
    with reading() as session:
        assert session.scalars(select(User.email).where(User.is_administrator)).all() == [BOB]
        noted = session.scalars(select(AuditEvent.target).order_by(AuditEvent.id)).all()
        assert noted == [BOB, ADA]
    with pytest.raises(NotFoundError):
        run("administrator", "nobody@example.org")


@on_sqlite
def test_the_terminal_deletes_what_was_named_twice(filled: str) -> None:
    with pytest.raises(InvalidValueError, match="something else"):
        run("delete", "--team", "other")
    with pytest.raises(NotFoundError, match="no build 9"):
        run("delete", "--team", "other", "--build", "9", "--name", "9")
    run("delete", "--team", "other", "--build", "1", "--name", "1")
    run("delete", "--team", "other", "--repository", "other/api", "--name", "other/api")
    run("delete", "--team", "acme", "--name", "acme")
    with reading() as session:
        assert session.scalars(select(Build)).all() == []
        assert session.scalars(select(Team.slug).where(Team.deleted_at.is_(None))).all() == ["other"]
        assert "terminal" in session.scalars(select(AuditEvent.actor)).first()


@pytest.fixture
def site(filled: str) -> Any:
    """Browsers by the address of who is signed in."""
    with serving.serve(app) as url:
        browsers = {}
        for number, email in enumerate((ADA, BOB), 1):
            with transaction() as session:
                cookie = open_session(
                    session, number, Request({"type": "http", "client": None, "headers": []}), ServiceSettings()
                )
            browsers[email] = httpx.Client(base_url=url, cookies={SESSION_COOKIE: cookie}, timeout=60)
        yield browsers
        for browser in browsers.values():
            browser.close()


def post(browser: httpx.Client, path: str, **fields: str) -> httpx.Response:
    html = browser.get("/account", headers={"accept": "text/html"}).text
    token = html.partition('name="form_token" value="')[2].partition('"')[0]
    return browser.post(path, data={"form_token": token, **fields}, headers={"accept": "text/html"})


@on_sqlite
def test_administrators_see_all_teams_and_what_failed(site: dict[str, httpx.Client], filled: str) -> None:
    page = site[ADA].get("/admin", headers={"accept": "text/html"}).text.replace("\u00a0", " ")
    for words in (
        "other",
        "acme",
        BOB,
        "no parser &lt;b&gt;knows&lt;/b&gt; it",
        "2 teams and 2 people",
        "1 worker lives",
    ):
        assert words in page
    assert 'href="/admin"' in site[ADA].get("/teams/acme/settings", headers={"accept": "text/html"}).text


@on_sqlite
def test_for_anybody_else_there_is_no_such_page(site: dict[str, httpx.Client], filled: str) -> None:
    assert site[BOB].get("/admin").status_code == 404
    assert post(site[BOB], f"/admin/deliveries/{filled}/retry").status_code == 404
    assert post(site[BOB], "/admin/people/2", appoint="1").status_code == 404
    assert 'href="/admin"' not in site[BOB].get("/teams/other/settings", headers={"accept": "text/html"}).text
    assert site[ADA].get("/teams/other").status_code == 404, "whoever looks after the installation sees no team by that"


@on_sqlite
def test_a_failed_delivery_of_any_team_is_tried_again(site: dict[str, httpx.Client], filled: str) -> None:
    assert post(site[ADA], f"/admin/deliveries/{filled}/retry").headers["location"] == "/admin?done=again"
    with reading() as session:
        assert session.get_one(Delivery, filled).state != "failed"
    assert post(site[ADA], f"/admin/deliveries/{filled}/retry").status_code == 409
    assert post(site[ADA], "/admin/deliveries/none/retry").status_code == 404


@on_sqlite
def test_administrators_appoint_others_and_one_always_stays(site: dict[str, httpx.Client], filled: str) -> None:
    assert post(site[ADA], "/admin/people/1", dismiss="1").status_code == 409
    assert post(site[ADA], "/admin/people/2", appoint="1").headers["location"] == "/admin?done=people"
    assert site[BOB].get("/admin").status_code == 200
    assert post(site[BOB], "/admin/people/1", dismiss="1").status_code == 303
    assert site[ADA].get("/admin").status_code == 404
    assert post(site[BOB], "/admin/people/99", appoint="1").status_code == 404


@on_sqlite
def test_nothing_is_loaded_for_whoever_may_not_see_it(filled: str) -> None:
    with reading() as session, pytest.raises(NotFoundError):
        administration.load(session, Viewer(name="Bob", user_id=2), ServiceSettings())
