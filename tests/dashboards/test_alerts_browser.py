"""The pages of alerts in a real browser: nothing out of place, whatever the names, and nothing that a checker minds."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from store.database import reading, transaction
from store.models import AlertRule, Incident, Team
from tests.dashboards.browsers import Tab
from tests.dashboards.conftest import Site
from tests.dashboards.test_alerts import EVIL, add_channel
from tests.factories import make_repository
from tests.workers.test_detecting import play, story, take

pytestmark = pytest.mark.browser
Fill = Callable[[Callable[..., object]], None]


def save(session: Any, team: Team) -> None:
    """An open alert, a resolved one, and one of hostile and long names."""
    play(session, make_repository(session, "acme/api", team), story(fixed=False))
    play(session, make_repository(session, "acme/web", team), story())
    long = make_repository(session, f"acme/{EVIL}{'x' * 160}", team)
    for told in story(fixed=False):
        take(session, long, told, actor=f"{EVIL}{'a' * 150}")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_alert_pages_fit_and_the_checker_finds_nothing_serious(
    site: Site, fill: Fill, open_tab: Callable[..., Tab], axe: str, theme: str
) -> None:
    channel = add_channel(site)
    with transaction() as session:
        session.scalars(select(AlertRule)).one().created_at = datetime.now(UTC) - timedelta(days=2)
    fill(save)
    with reading() as session:
        numbers = list(session.scalars(select(Incident.id).order_by(Incident.id)))
    assert len(numbers) == 3
    tab = open_tab(theme=theme)
    found = []
    for path in (
        "/teams/acme/alerts",
        *(f"/alerts/{number}" for number in numbers),
        f"/teams/acme/channels?preview=1&channel_id={channel}&min_seconds_per_day=0&kind=webhook",
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


def test_an_alert_is_taken_up_and_given_back_with_two_clicks(
    site: Site, fill: Fill, open_tab: Callable[..., Tab]
) -> None:
    fill(save)
    tab = open_tab()
    tab.open("/teams/acme/alerts")
    tab.page.locator("tbody a").first.click()
    tab.page.get_by_role("button", name="Take it up").click()
    assert "Ada Lovelace" in tab.page.locator(".head .meta").inner_text()
    tab.page.get_by_role("button", name="Undo").click()
    assert tab.page.get_by_role("button", name="Take it up").count() == 1
    tab.settle()
    tab.check()
