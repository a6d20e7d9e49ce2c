"""The pages of data, audit log and administration in a real browser, with long and hostile names."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import update

from service.auditing import note
from store.database import reading, transaction
from store.models import Delivery, Heartbeat, Team, User
from store.queries import retention
from store.queries.retention import Days
from tests.dashboards.browsers import Tab
from tests.dashboards.conftest import Site
from tests.dashboards.test_alerts import EVIL
from tests.factories import make_delivery, make_repository, make_team, save_build

pytestmark = pytest.mark.browser
Fill = Callable[[Callable[..., object]], None]


def save(session: Any, team: Team) -> None:
    """Two repositories, one of them with a hostile name and a rule, things that were done, and one that failed."""
    save_build(session, make_repository(session, "acme/api", team))
    long = make_repository(session, f"acme/{EVIL}{'x' * 160}", team)
    save_build(session, long)
    session.execute(update(Delivery).values(state="done"))
    make_delivery(session, long, state="failed", error=f"{EVIL}{'y' * 300}")
    retention.save_rule(session, team.id, long.id, Days(log_days=3))
    for number in range(60):
        words = f"{EVIL}{'z' * 200} {number}"
        note(session, None, "token.made", team_id=team.id, target=words, scope="upload", name=words)
    note(session, None, "admin.command", target=EVIL)
    other = make_team(session, "other")
    other.name = f"{EVIL}{'t' * 80}"
    now = datetime.now(UTC)
    session.add(Heartbeat(id=f"{'host.' * 20}:1", kind="worker", started_at=now, seen_at=now))
    session.execute(update(User).values(is_administrator=True))
    session.add(User(email=f"{'a' * 60}@{'b' * 100}.example.org", name=EVIL, password_hash=None))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pages_of_data_fit_and_the_checker_finds_nothing_serious(
    site: Site, fill: Fill, open_tab: Callable[..., Tab], axe: str, theme: str
) -> None:
    fill(save)
    tab = open_tab(theme=theme)
    found = []
    repository = "/teams/acme/repositories/2/delete"
    for path in (
        "/teams/acme/data",
        "/teams/acme/audit",
        "/teams/acme/delete",
        repository,
        "/builds/1/delete",
        "/admin",
    ):
        for width in (1280, 390):
            tab.page.set_viewport_size({"width": width, "height": 900})
            tab.open(path)
            tab.check()
            tab.page.evaluate(axe)
            checked = tab.page.evaluate("() => axe.run({resultTypes: ['violations']})")
            found += [
                f"{path} at {width}: {rule['id']} {rule['nodes'][0]['html'][:120]}"
                for rule in checked["violations"]
                if rule["impact"] in {"serious", "critical"}
            ]
    assert found == []


def test_a_repository_is_deleted_by_typing_its_name(site: Site, fill: Fill, open_tab: Callable[..., Tab]) -> None:
    fill(lambda session, team: save_build(session, make_repository(session, "acme/api", team)))
    tab = open_tab()
    tab.open("/teams/acme/data")
    tab.page.get_by_role("link", name="Delete acme/api").click()
    tab.page.locator("input[name=name]").fill("acme/api")
    tab.page.get_by_role("button", name="Delete").click()
    tab.page.get_by_text("The repository is deleted").wait_for()
    tab.check()
    with reading() as session:
        assert session.get_one(Team, site.team_id).slug == "acme"
    with transaction() as session:
        make_repository(session, "acme/api", session.get_one(Team, site.team_id))
