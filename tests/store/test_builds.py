"""Lists of builds by key, and what belongs to whom."""

from datetime import timedelta
from itertools import chain

import pytest
from sqlalchemy import select

from cachescope.model import Outcome
from store.models import Build, Image
from store.queries import builds, repositories
from store.queries.builds import BuildFilter
from tests.factories import MORNING, make_build, make_repository, make_step, make_team, minutes, save_build


@pytest.fixture
def repository(session):
    return make_repository(session)


def pages(session, repository, chosen=None, limit=3):
    """Every page of a list, one after another by key."""
    found, before = [], None
    while page := builds.load_builds(session, repository.id, chosen, before=before, limit=limit):
        found.append([build.id for build in page])
        before = builds.key_of(page[-1])
    return found


def test_pages_follow_each_other_newest_first(session, repository):
    ids = [save_build(session, repository, at=MORNING + minutes(number))[0] for number in range(7)]
    assert pages(session, repository) == [ids[6:3:-1], ids[3:0:-1], ids[:1]]


def test_builds_that_started_together_are_on_one_page_only(session, repository):
    ids = [save_build(session, repository)[0] for _ in range(5)]
    assert list(chain(*pages(session, repository, limit=2))) == ids[::-1]


def test_a_build_that_arrives_late_stands_where_it_started(session, repository):
    (late,) = save_build(session, repository, at=MORNING)
    (early,) = save_build(session, repository, at=MORNING - minutes(1))
    assert pages(session, repository) == [[late, early]]


def test_a_list_shows_runs_without_asking_again(session, repository):
    save_build(session, repository, url="https://ci/1")
    session.expire_all()
    (build,) = builds.load_builds(session, repository.id)
    assert build.run.url == "https://ci/1"


FILTERS = {
    "branch": ({"branch": "fix"}, lambda build: build.branch == "fix"),
    "branch class": ({"branch_class": "pull_request"}, lambda build: build.branch_class == "pull_request"),
    "outcome": ({"outcome": "failed"}, lambda build: build.outcome == "failed"),
    "from": ({"first": MORNING + minutes(4)}, lambda build: build.started_at >= MORNING + minutes(4)),
    "to": ({"last": MORNING + minutes(4)}, lambda build: build.started_at < MORNING + minutes(4)),
    "branch and outcome": (
        {"branch": "main", "outcome": "failed"},
        lambda build: build.branch == "main" and build.outcome == "failed",
    ),
}


@pytest.mark.parametrize("with_image", [False, True])
@pytest.mark.parametrize("name", FILTERS)
def test_filters_choose(session, repository, name, with_image):
    for number in range(12):
        outcome = Outcome.FAILED if number % 3 == 0 else Outcome.SUCCEEDED
        save_build(
            session,
            repository,
            make_build(outcome=outcome),
            at=MORNING + minutes(number),
            branch="fix" if number % 2 else "main",
            pull_request="7" if number % 5 == 0 else None,
            image="api" if number % 4 else "web",
        )
    image = session.scalars(select(Image).where(Image.name == "api")).one()
    of_image = {
        row
        for row in session.scalars(select(Build))
        if builds.load_images_of_build(session, row.id)[0].image_id == image.id
    }
    given, is_chosen = FILTERS[name]
    expected = [
        build.id
        for build in session.scalars(select(Build).order_by(Build.started_at.desc(), Build.id.desc()))
        if is_chosen(build) and (not with_image or build in of_image)
    ]
    chosen = BuildFilter(**given, image_id=image.id if with_image else None)
    assert expected
    assert list(chain(*pages(session, repository, chosen))) == expected


def test_another_repository_is_not_listed(session, repository):
    other = repositories.get_or_create_repository(session, repository.team_id, "other")
    save_build(session, other)
    assert pages(session, repository) == []


def test_a_build_of_another_team_is_not_found(session, repository):
    other = make_team(session, "other")
    (build_id,) = save_build(session, repository)
    assert builds.find_build(session, [other.id], build_id) is None
    found = builds.find_build(session, [other.id, repository.team_id], build_id)
    assert found is not None
    assert found.repository.name == "acme/api"


def test_the_builds_of_a_delivery_stand_in_the_order_of_its_log(session, repository):
    ids = save_build(session, repository, make_build(), make_build())
    save_build(session, repository)
    delivery_id = session.get_one(Build, ids[0]).delivery_id
    assert [build.id for build in builds.load_builds_of_delivery(session, delivery_id)] == ids


def test_the_neighbours_of_a_build_are_of_its_branch(session, repository):
    ids = [save_build(session, repository, at=MORNING + minutes(number))[0] for number in (0, 2, 4)]
    save_build(session, repository, at=MORNING + minutes(1), branch="fix")
    found = [builds.load_newer_and_older(session, session.get_one(Build, build_id)) for build_id in ids]
    assert found == [(ids[1], None), (ids[2], ids[0]), (None, ids[1])]


def test_branches_are_listed_once_by_name(session, repository):
    for number, branch in enumerate(["main", "zebra", "main", None, "apple", "рядок"]):
        save_build(session, repository, at=MORNING + minutes(number), branch=branch)
    assert sorted(builds.load_branches(session, repository.id)) == ["apple", "main", "zebra", "рядок"]
    assert len(builds.load_branches(session, repository.id, limit=2)) == 2


def test_ids_of_deleted_builds_are_never_given_again(session, repository):
    (build_id,) = save_build(session, repository)
    builds.delete_builds(session, session.scalars(select(Build)).all())
    (next_id,) = save_build(session, repository)
    assert next_id > build_id


def test_deleting_builds_works_reference_costs_out_again(session, repository):
    (first,) = save_build(session, repository, make_build(make_step("RUN make", seconds=10.0)))
    save_build(session, repository, make_build(make_step("RUN make", seconds=20.0)), at=MORNING + timedelta(hours=1))
    builds.delete_builds(session, [session.get_one(Build, first)])
    (third,) = save_build(
        session, repository, make_build(make_step("RUN make", cached=True)), at=MORNING + timedelta(hours=2)
    )
    session.expire_all()
    assert session.get_one(Build, third).seconds_avoided == 20.0


def test_deleting_no_builds_is_allowed(session):
    builds.delete_builds(session, [])
