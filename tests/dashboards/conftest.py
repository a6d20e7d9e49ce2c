"""A signed-in reader in front of the whole application."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy.orm import Session

from dashboards import app as pages
from service.app import create_app
from service.auth.sessions import SESSION_COOKIE
from service.auth.tokens import hash_token
from store.database import transaction
from store.models import Team, User, UserSession
from store.queries import rollups, teams
from tests import serving
from tests.dashboards.browsers import COOKIE, axe, browser, open_tab
from tests.factories import make_team

__all__ = ["COOKIE", "axe", "browser", "open_tab"]


@dataclass(frozen=True, slots=True)
class Site:
    """The application on loopback and a browser's cookies."""

    client: httpx.Client
    team_id: int

    def get(self, path: str, **query: object) -> httpx.Response:
        """Ask for a page as a browser does, without following where it leads."""
        return self.client.get(path, params=query or None, headers={"Accept": "text/html"})

    def text(self, path: str, **query: object) -> str:
        """The HTML of a page that is there, with plain spaces where it has hard ones."""
        answer = self.get(path, **query)
        assert answer.status_code == 200, answer.text
        return answer.text.replace("\u00a0", " ")

    def post(self, path: str, page: str | None = None, **fields: str) -> httpx.Response:
        """Send a form with the token of a page that holds one."""
        html = self.client.get(page or path, headers={"Accept": "text/html"}).text
        token = html.partition('name="form_token" value="')[2].partition('"')[0]
        return self.client.post(path, data={"form_token": token, **fields}, headers={"Accept": "text/html"})


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str | Iterator[str]:
    """An empty SQLite database: what differs on PostgreSQL is the queries', which have tests of their own."""
    shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "cachescope.db")
    return f"sqlite:///{tmp_path / 'cachescope.db'}"


@pytest.fixture
def visitor(home: Path) -> Iterator[httpx.Client]:
    """A browser that is not signed in."""
    app = create_app(error_page=pages.error_page)
    app.include_router(pages.router)
    with serving.serve(app) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


@pytest.fixture
def site(visitor: httpx.Client) -> Site:
    """The owner of the team Acme, signed in."""
    with transaction() as session:
        team = make_team(session)
        add_reader(session, team, "owner")
        team_id = team.id
    visitor.cookies.set(SESSION_COOKIE, COOKIE)
    return Site(visitor, team_id)


def add_reader(session: Session, team: Team, role: str, password_hash: str | None = None, cookie: str = COOKIE) -> User:
    """Add a person who is signed in with a cookie."""
    user = User(email=f"{role}@example.org", name="Ada Lovelace", password_hash=password_hash)
    session.add(user)
    session.flush()
    teams.add_member(session, team.id, user.id, role)
    ends = datetime.now(UTC) + timedelta(days=1)
    session.add(UserSession(token_hash=hash_token(cookie), user_id=user.id, expires_at=ends))
    return user


@pytest.fixture
def fill(site: Site) -> Callable[[Callable[[Session, Team], object]], None]:
    """Save something for the team, and bring the daily sums up to date."""

    def run(save: Callable[[Session, Team], object]) -> None:
        with transaction() as session:
            save(session, session.get_one(Team, site.team_id))
        with transaction() as session:
            rollups.recompute_dirty_days(session, 1000)

    return run
