"""The page of recommendations: what to change, what it saves, and what it saved."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cachescope.recommendations.base import Recommendation
from store.database import transaction
from store.models import Image, StoredRecommendation, Team
from store.queries import recommendations
from store.queries.recommendations import Proposal
from tests.dashboards.conftest import COOKIE, Site, add_reader
from tests.dashboards.test_pages import noon
from tests.factories import make_build, make_repository, make_step, make_team, save_build
from tests.histories import save_history

Fill = Callable[[Callable[..., object]], None]
NOW = datetime.now(UTC)
PATCH = "--- a/Dockerfile\n+++ b/Dockerfile\n@@ -1,2 +1,2 @@\n FROM a\n-COPY . .\n+COPY src src\n"


def advise(session: Any, team: Team, **values: Any) -> None:
    """Store what an adviser would have said about an image with ten builds."""
    repository = make_repository(session, "acme/api", team)
    for day in range(10):
        seconds = 30.0 if day < 5 else 10.0
        save_build(session, repository, make_build(make_step("RUN make", seconds=seconds)), at=noon(10 - day))
    given = {
        "title": "Copy <less>",
        "why": "`COPY . .` takes everything.",
        "evidence": ("It changed in 9 of 10 builds.",),
        "patch": PATCH,
        "order_safe": False,
        "saving_seconds_per_build": 60.0,
        "interval": (30.0, 90.0),
    }
    proposals = [
        Proposal(name="copy", recommendation=Recommendation(**given | values)),
        Proposal(
            name="other", recommendation=Recommendation(**given | {"title": "Small", "saving_seconds_per_build": 1.0})
        ),
        Proposal(
            name="pin",
            recommendation=Recommendation(
                **given | {"title": "Pin it", "saving_seconds_per_build": None, "interval": None, "patch": None}
            ),
        ),
    ]
    recommendations.save_proposals(
        session, session.get_one(Image, 1), proposals, now=NOW, builds=10, builds_per_week=7.0
    )


def words(page: str) -> str:
    """A page without its tags."""
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


@pytest.mark.parametrize("path", ["/teams/acme/recommendations", "/teams/acme/repositories/1/recommendations"])
def test_recommendations_stand_in_the_order_of_what_they_save(site: Site, fill: Fill, path: str) -> None:
    fill(advise)
    html = site.text(path)
    page = words(html)
    assert re.search(r"3 changes are recommended for [aA]cme(/api)? ; the best saves about 7 min 00 s a week\.", page)
    assert page.index("Copy &lt;less&gt;") < page.index("Small") < page.index("Pin it")
    assert "7 min 00 s a week: 1 min 00 s a build (between 30 s and 1 min 30 s), predicted from 10 builds." in page
    assert "check it with a build" in page
    assert "<code>COPY . .</code> takes everything." in html
    assert f'<pre class="hidden" id="patch-1">{PATCH}</pre>' in html
    assert "Saves no time by itself." in page


def test_a_recommendation_is_dismissed_and_taken_back(site: Site, fill: Fill) -> None:
    fill(advise)
    path = "/teams/acme/repositories/1/recommendations"
    gone = site.post("/recommendations/1/dismiss", page=path)
    assert (gone.status_code, gone.headers["location"]) == (303, f"{path}#dismissed-1")
    page = words(site.text(path))
    assert "2 changes are recommended" in page
    assert "Dismissed Copy &lt;less&gt;" in page
    assert site.post("/recommendations/1/dismiss", page=path).status_code == 409
    assert site.post("/recommendations/1/restore", page=path).headers["location"] == f"{path}#recommendation-1"
    assert "3 changes are recommended" in words(site.text(path))


def test_only_members_decide(site: Site, fill: Fill) -> None:
    def save(session: Any, team: Team) -> None:
        advise(session, team)
        add_reader(session, team, "viewer", cookie="the cookie of a viewer")

    fill(save)
    site.client.cookies.clear()
    site.client.cookies.set("cachescope_session", "the cookie of a viewer")
    path = "/teams/acme/recommendations"
    assert "Dismiss" not in site.text(path)
    assert site.post("/recommendations/1/dismiss", page=path).status_code == 403


def test_recommendations_of_others_do_not_exist(site: Site, fill: Fill) -> None:
    fill(lambda session, team: advise(session, make_team(session, "other")))
    assert site.post("/recommendations/1/dismiss", page="/teams/acme/settings").status_code == 404
    assert site.post(f"/recommendations/{1 << 70}/dismiss", page="/teams/acme/settings").status_code == 404
    assert site.get("/teams/acme/repositories/1/recommendations").status_code == 404
    assert "Copy" not in words(site.text("/teams/acme/recommendations"))


def test_the_effect_is_measured_once_it_was_applied(site: Site, fill: Fill) -> None:
    fill(advise)
    with transaction() as session:
        row = session.get_one(StoredRecommendation, 1)
        row.state, row.applied_build_id = "applied", 6
    page = words(site.text("/teams/acme/recommendations"))
    assert "in force since build 6" in page
    assert (
        "A build spends 20 s less on misses than before (10 s instead of 30 s, means of 4 builds and 5 builds); "
        "predicted were 1 min 00 s."
        in page.replace(" ;", ";")
        or "means of 4 and 5 builds" in page
    )
    with transaction() as session:
        session.get_one(StoredRecommendation, 1).applied_build_id = 9
    assert "Not enough data yet to say what it saved (1 of 3 builds since)." in words(
        site.text("/teams/acme/recommendations")
    )


@pytest.mark.parametrize(
    ("has_evidence", "says"),
    [(False, "no log of this team came with its Dockerfile"), (True, "After three successful builds")],
)
def test_without_recommendations_the_page_says_why(site: Site, fill: Fill, has_evidence: bool, says: str) -> None:
    def save(session: Any, team: Team) -> None:
        repository = make_repository(session, "acme/api", team)
        save_history(session, repository, last=noon() - timedelta(days=1), has_evidence=has_evidence)

    fill(save)
    assert says in words(site.text("/teams/acme/recommendations"))


def test_the_same_is_told_as_json(site: Site, fill: Fill) -> None:
    fill(advise)
    with transaction() as session:
        row = session.get_one(StoredRecommendation, 2)
        row.state, row.applied_build_id = "applied", 6
    for path in ("/api/v1/teams/acme/recommendations", "/api/v1/repositories/1/recommendations"):
        first, second, third = site.client.get(path).json()["recommendations"]
        assert (first["title"], first["patch"], first["interval"]) == ("Copy <less>", PATCH, [30.0, 90.0])
        assert second["effect"] == {
            "builds_before": 5,
            "builds_after": 4,
            "seconds_before": 30.0,
            "seconds_after": 10.0,
        }
        assert (third["saving_seconds_per_build"], third["interval"], third["effect"]) == (None, None, None)
        assert site.get(first["page"]).headers["location"].endswith("/repositories/1/recommendations#recommendation-1")
    assert 'href="/api/v1/teams/acme/recommendations"' in site.text("/teams/acme/recommendations")


def test_the_repository_leads_to_its_recommendations(site: Site, fill: Fill) -> None:
    fill(advise)
    page = site.text("/teams/acme/repositories/1", branches="all")
    assert 'href="/teams/acme/repositories/1/recommendations">3 recommendations' in page


def test_the_build_page_leads_to_what_can_be_changed(site: Site, fill: Fill) -> None:
    fill(advise)
    assert 'href="/teams/acme/repositories/1/recommendations">How to fix' in site.text("/builds/10")
    assert site.client.cookies["cachescope_session"] == COOKIE
