"""Breaks ranked by what they cost, from the daily sums."""

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from store.models import Break, Build, Instruction
from store.queries import breaks, repositories, rollups
from tests.factories import MORNING, make_build, make_repository, make_step, make_team, minutes, save_build

DAY = MORNING.date()


@pytest.fixture
def repository(session):
    return make_repository(session)


def rank(session, repository, **values):
    return breaks.load_ranked_breaks(
        session, repository.team_id, DAY, DAY + timedelta(days=9), repository_id=repository.id, **values
    )


def break_at(session, repository, text, *, expected, at=MORNING, seconds=1.0, cause="cache_lost", **facts):
    """Save a build whose only step breaks, and say why."""
    (build_id,) = save_build(session, repository, make_build(make_step(text, seconds=seconds)), at=at, **facts)
    session.execute(update(Break).where(Break.build_id == build_id).values(expected=expected, cause=cause))
    return build_id


def test_instructions_are_ranked_by_the_time_they_lost(session, repository):
    for number, (text, expected, seconds) in enumerate(
        [
            ("RUN a", False, 5.0),
            ("RUN b", False, 3.0),
            ("RUN b", False, 4.0),
            ("RUN c", True, 90.0),
            ("RUN d", None, 1.0),
        ]
    ):
        break_at(
            session, repository, text, expected=expected, seconds=seconds, at=MORNING + minutes(number), image=text
        )
    rollups.recompute_dirty_days(session)
    ranked = rank(session, repository)
    assert [(r.text, r.lost_seconds, r.rebuild_seconds, r.unexplained_seconds, r.breaks) for r in ranked] == [
        ("RUN b", 7.0, 0.0, 0.0, 2),
        ("RUN a", 5.0, 0.0, 0.0, 1),
        ("RUN d", 0.0, 0.0, 1.0, 1),
        ("RUN c", 0.0, 90.0, 0.0, 1),
    ]


def test_causes_and_the_last_day_are_told(session, repository):
    for day, cause in enumerate(["cache_lost", "cache_lost", "files_changed"]):
        break_at(session, repository, "RUN a", expected=False, cause=cause, at=MORNING + timedelta(days=day))
    rollups.recompute_dirty_days(session)
    (ranked,) = rank(session, repository)
    assert ranked.causes == {"cache_lost": 2, "files_changed": 1}
    assert ranked.last_day == DAY + timedelta(days=2)
    assert (ranked.repository_name, ranked.image_name, ranked.keyword) == ("acme/api", "acme/api", "RUN")


def test_only_the_period_and_the_branch_class_count(session, repository):
    break_at(session, repository, "RUN a", expected=False, at=MORNING - timedelta(days=1), image="a")
    break_at(session, repository, "RUN b", expected=False, branch="fix", image="b")
    rollups.recompute_dirty_days(session)
    assert rank(session, repository) == []
    assert [r.text for r in rank(session, repository, branch_classes=("branch",))] == ["RUN b"]


def test_one_image_can_be_ranked_alone(session, repository):
    for image in ("web", "api"):
        break_at(session, repository, f"RUN {image}", expected=False, image=image)
    rollups.recompute_dirty_days(session)
    images = {image.name: image.id for image in repositories.list_images(session, repository.id)}
    assert [r.text for r in rank(session, repository, image_id=images["api"])] == ["RUN api"]


def test_a_ranking_ends_at_its_limit(session, repository):
    for number in range(4):
        break_at(session, repository, f"RUN {number}", expected=False, image=str(number))
    rollups.recompute_dirty_days(session)
    assert len(rank(session, repository, limit=2)) == 2


def test_a_team_ranks_all_of_its_repositories_and_no_other(session, repository):
    second = repositories.get_or_create_repository(session, repository.team_id, "acme/web")
    stranger = make_repository(session, "other", make_team(session, "other"))
    for number, found in enumerate([repository, second, stranger]):
        break_at(session, found, "RUN a", expected=False, seconds=1.0 + number)
    rollups.recompute_dirty_days(session)
    ranked = breaks.load_ranked_breaks(session, repository.team_id, DAY, DAY)
    assert [r.repository_name for r in ranked] == ["acme/web", "acme/api"]
    assert breaks.load_ranked_breaks(session, stranger.team_id, DAY, DAY, repository_id=repository.id) == []


def test_an_instruction_that_only_hit_is_not_ranked(session, repository):
    save_build(session, repository, make_build(make_step("RUN a", cached=True)))
    rollups.recompute_dirty_days(session)
    assert rank(session, repository) == []


def test_the_breaks_of_a_build_stand_in_the_order_of_its_steps(session, repository):
    save_build(session, repository, make_build(make_step("RUN a"), make_step("RUN b")))
    steps = [make_step(f"RUN {stage}", stage=stage, index=2, total=2) for stage in "ab"]
    (build_id,) = save_build(session, repository, make_build(*steps))
    assert [found.position for found in breaks.load_breaks(session, build_id)] == [0, 1]


def test_the_latest_breaks_of_an_instruction_come_with_their_builds(session, repository):
    ids = [
        break_at(session, repository, "RUN a", expected=False, at=MORNING + timedelta(days=day)) for day in (0, 2, 1)
    ]
    instruction_id = session.scalars(select(Instruction.id)).one()
    found = breaks.load_latest_breaks(session, repository.id, instruction_id, limit=2)
    assert [(b.build_id, build) for b, build in found] == [
        (ids[1], session.get_one(Build, ids[1])),
        (ids[2], session.get_one(Build, ids[2])),
    ]
    assert breaks.load_latest_breaks(session, repository.id + 1, instruction_id) == []
