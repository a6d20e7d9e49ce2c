"""The pages on which owners choose how long data is kept, and delete."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, select

from store.database import reading, transaction
from store.models import Build, Membership, Repository, Retention, Step, Team
from store.queries import teams
from tests.dashboards.conftest import Site
from tests.factories import make_repository, save_build


@pytest.fixture
def build_id(site: Site, fill: Callable[..., None]) -> int:
    """A build of the team's only repository."""
    fill(lambda session, team: save_build(session, make_repository(session, "acme/api", team)))
    with reading() as session:
        return session.scalars(select(Build.id)).one()


def become(site: Site, role: str) -> None:
    with transaction() as session:
        member = session.scalars(select(Membership)).one()
        teams.add_member(session, member.team_id, member.user_id, role)


def test_what_is_kept_is_chosen_for_the_team_and_for_one_repository(site: Site, build_id: int) -> None:
    assert "Everything that was sent is kept." in site.text("/teams/acme/data")
    answer = site.post("/teams/acme/data", log_days="30", step_days="", build_days="400")
    assert answer.headers["location"] == "/teams/acme/data?done=saved"
    text = site.text("/teams/acme/data?done=saved")
    assert "Kept: raw logs for 30 days, steps for ever, builds for 400 days." in text
    assert "what is older goes within the hour" in text
    site.post("/teams/acme/data", repository_id="1", log_days="1")
    assert "1 repository has a rule of its own" in site.text("/teams/acme/data")
    site.post("/teams/acme/data", repository_id="1", drop="1")
    assert "a rule of" not in site.text("/teams/acme/data").partition("</h1>")[0]
    with reading() as session:
        rule = session.scalars(select(Retention)).one()
        assert (rule.log_days, rule.step_days, rule.build_days) == (30, None, 400)


def test_what_is_no_number_of_days_is_said_and_not_saved(site: Site, build_id: int) -> None:
    answer = site.post("/teams/acme/data", log_days="many")
    assert answer.status_code == 422
    assert "no number of days for raw logs" in answer.text
    assert 'value="many"' in answer.text
    assert site.post("/teams/acme/data", repository_id="99", log_days="1").status_code == 422


def test_a_team_is_deleted_once_its_address_was_typed(site: Site, build_id: int) -> None:
    assert "1 repository with 1 build" in site.text("/teams/acme/delete")
    assert site.post("/teams/acme/delete", name="Acme").status_code == 422
    assert site.post("/teams/acme/delete", name="acme").headers["location"] == "/"
    assert site.get("/teams/acme").status_code == 404
    assert site.get(f"/builds/{build_id}").status_code == 404


def test_a_repository_is_deleted_once_its_name_was_typed(site: Site, build_id: int) -> None:
    address = "/teams/acme/repositories/1/delete"
    assert site.post(address, name="acme").status_code == 422
    assert site.post(address, name="acme/api").headers["location"] == "/teams/acme/data?done=repository-deleted"
    assert site.get("/teams/acme/repositories/1").status_code == 404
    assert site.get(f"/builds/{build_id}").status_code == 404
    assert "No repository yet." in site.text("/teams/acme/data")


def test_a_build_is_deleted_once_its_number_was_typed(site: Site, build_id: int) -> None:
    assert f'href="/builds/{build_id}/delete"' in site.text(f"/builds/{build_id}")
    assert site.post(f"/builds/{build_id}/delete", name="2").status_code == 422
    assert site.post(f"/builds/{build_id}/delete", name="1").headers["location"] == "/teams/acme/repositories/1"
    with reading() as session:
        assert session.scalars(select(Build)).all() == []


@pytest.mark.parametrize("role", ["member", "viewer"])
def test_whoever_is_no_owner_deletes_and_chooses_nothing(site: Site, build_id: int, role: str) -> None:
    page = "/teams/acme/settings"
    become(site, role)
    assert "Owners of the team choose this." in site.text("/teams/acme/data")
    for path, name in (("/teams/acme", "acme"), ("/teams/acme/repositories/1", "acme/api"), ("/builds/1", "1")):
        assert site.get(f"{path}/delete").status_code == 403
        assert site.post(f"{path}/delete", page, name=name).status_code == 403
    assert site.post("/teams/acme/data", page, log_days="1").status_code == 403
    assert "/delete" not in site.text(f"/builds/{build_id}")
    with reading() as session:
        assert session.scalars(select(Team.deleted_at)).all() == [None]
        assert len(session.scalars(select(Repository)).all()) == 1


def test_a_build_whose_steps_went_says_so(site: Site, build_id: int) -> None:
    with transaction() as session:
        session.execute(delete(Step))
    text = site.text(f"/builds/{build_id}")
    assert "The steps of this build are no longer kept; its figures are." in text
    for path in ("/compare", "/log"):
        assert site.get(f"/builds/{build_id}{path}").status_code in {200, 404}
    assert site.client.get(f"/api/v1/builds/{build_id}").json()["steps"] == []


def test_the_api_keeps_and_deletes_as_the_pages_do(site: Site, build_id: int) -> None:
    token = site.client.get("/teams/acme/settings").text.partition('name="form_token" value="')[2].partition('"')[0]
    headers = {"x-form-token": token}

    def ask(method: str, path: str, **options: Any) -> Any:
        return site.client.request(method, f"/api/v1{path}", headers=headers, **options)

    kept = ask("PUT", "/teams/acme/retention", json={"log_days": 7})
    assert kept.json() == {"team": {"log_days": 7, "step_days": None, "build_days": None}, "repositories": []}
    kept = ask("PUT", "/teams/acme/retention", json={"repository_id": 1, "build_days": 9})
    assert kept.json()["repositories"][0]["repository_id"] == 1
    assert ask("GET", "/teams/acme/retention").json() == kept.json()
    assert ask("PUT", "/teams/acme/retention", json={"repository_id": 7}).status_code == 422
    assert ask("DELETE", "/builds/1").status_code == 422
    assert ask("DELETE", "/builds/1", params={"name": "1"}).status_code == 204
    assert ask("DELETE", "/repositories/1", params={"name": "acme/api"}).status_code == 202
    assert ask("DELETE", "/teams/acme", params={"name": "acme"}).status_code == 202
    assert ask("GET", "/teams/acme").status_code == 404
