"""The page on which a repository's members choose what pull requests and commits are told."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from store.database import reading, transaction
from store.models import FeedbackPolicy, FeedbackTask, Source, Team
from store.queries import feedback
from tests.dashboards.conftest import Site, add_reader
from tests.factories import make_repository, make_team, save_build

PAGE = "/teams/acme/repositories/1/feedback"
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
Fill = Callable[[Callable[[Session, Team], object]], None]


@pytest.fixture
def page(site: Site, fill: Fill) -> Site:
    """A repository with a build, and a source that may write."""
    fill(lambda session, team: save_build(session, make_repository(session, team=team)))
    with transaction() as session:
        add_source(session, site.team_id)
    return site


def add_source(session: Session, team_id: int, source_id: str = "s", name: str = "GitHub of acme") -> None:
    session.add(
        Source(id=source_id, team_id=team_id, name=name, provider="github", secrets="[]", write_credentials="{}")
    )


def policy() -> FeedbackPolicy:
    with reading() as session:
        return session.get_one(FeedbackPolicy, 1)


CHOICE = {
    "mode": "fail",
    "measure": "hit_rate",
    "threshold_percent": "72,5",
    "least_seconds": "30",
    "comments": "on",
    "source_id": "s",
}


def test_the_repository_leads_to_its_page(page: Site) -> None:
    assert f'href="{PAGE}"' in page.text("/teams/acme/repositories/1")


def test_the_page_says_what_is_told_before_anything_was_chosen(page: Site) -> None:
    text = page.text(PAGE)
    assert "Builds are told by one comment on each pull request and a check that always passes" in text
    assert "GitHub of acme" in text


def test_a_choice_is_kept_and_shown(page: Site) -> None:
    assert page.post(PAGE, **CHOICE).status_code == 303
    kept = policy()
    assert (kept.mode, kept.measure, kept.threshold, kept.least_seconds) == ("fail", "hit_rate", 0.725, 30.0)
    assert (kept.comments, kept.preflight, kept.source_id) == (True, False, "s")
    text = page.text(PAGE, done="saved")
    assert 'value="72.5"' in text
    assert '<option value="fail" selected>' in text
    assert "it counts from the next build on" in text


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("threshold_percent", "101", "no number from 0 to 100"),
        ("threshold_percent", "nan", "no number from 0 to 100"),
        ("threshold_percent", "٥", "no number"),
        ("least_seconds", "-1", "no number from 0 to 86400"),
        ("least_seconds", "inf", "no number"),
        ("mode", "loud", "is none of off, inform, fail"),
        ("measure", "luck", "is none of efficiency, hit_rate"),
        ("source_id", "theirs", "cannot write for the repository"),
    ],
)
def test_a_choice_that_cannot_be_kept_is_a_sentence(page: Site, field: str, value: str, words: str) -> None:
    with transaction() as session:
        add_source(session, make_team(session, "other").id, "theirs")
    answer = page.post(PAGE, **CHOICE | {field: value})
    assert answer.status_code == 422
    assert words in answer.text


def test_with_everything_off_the_page_says_so(page: Site) -> None:
    page.post(PAGE, **{name: value for name, value in CHOICE.items() if name != "comments"} | {"mode": "off"})
    assert "are told nothing" in page.text(PAGE)


def test_without_a_source_the_page_says_what_is_missing(site: Site, fill: Fill) -> None:
    fill(lambda session, team: save_build(session, make_repository(session, team=team)))
    text = site.text(PAGE)
    assert "no source of this team has credentials for writing" in text
    assert 'href="/teams/acme/sources"' in text


def test_badges_are_made_shown_renewed_and_taken_back(page: Site) -> None:
    assert "badge-1" not in page.text(PAGE)
    assert page.post(f"{PAGE}/badges", PAGE).status_code == 303
    first = policy().badge_token
    text = page.text(PAGE)
    assert f"/badges/{first}/efficiency.svg)" in text
    assert page.client.get(f"/badges/{first}/hit-rate.svg").status_code == 200
    page.post(f"{PAGE}/badges", PAGE)
    assert policy().badge_token != first
    page.post(f"{PAGE}/badges/off", PAGE)
    assert policy().badge_token is None


def test_what_failed_is_shown_with_its_reason_and_tried_again(page: Site) -> None:
    with transaction() as session:
        feedback.enqueue(session, repository_id=1, source_id="s", kind="pull_request", key="12", parameters={}, now=NOW)
        task = session.scalars(select(FeedbackTask)).one()
        task.state, task.error, task.finished_at = "failed", "The forge answered 403 <script>", NOW
        number = task.id
    text = page.text(PAGE)
    assert "Forecast for pull request 12" in text
    assert "The forge answered 403 &lt;script&gt;" in text
    assert page.post(f"{PAGE}/tasks/{number}", PAGE).status_code == 303
    with reading() as session:
        assert session.scalars(select(FeedbackTask.state)).one() == "new"
    assert page.post(f"{PAGE}/tasks/{number}", PAGE).status_code == 404


@pytest.mark.parametrize("role", ["viewer"])
def test_a_viewer_changes_nothing_and_sees_no_address_of_a_badge(page: Site, role: str) -> None:
    page.post(f"{PAGE}/badges", PAGE)
    with transaction() as session:
        add_reader(session, session.get_one(Team, page.team_id), role, cookie="of-a-viewer")
    page.client.cookies.clear()
    page.client.cookies.set("cachescope_session", "of-a-viewer")
    text = page.text(PAGE)
    assert "Members of the team choose this" in text
    assert "/badges/" not in text
    assert page.post(PAGE, "/teams/acme", **CHOICE).status_code == 403


def test_a_repository_of_another_team_does_not_exist(page: Site) -> None:
    with transaction() as session:
        make_repository(session, "other/api", make_team(session, "other"))
    for address in ("/teams/acme/repositories/2/feedback", "/teams/other/repositories/2/feedback"):
        assert page.get(address).status_code == 404
