"""Advice from stored histories: worked out after a build, kept, recognised once it was followed."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from cachescope import model
from store.database import reading, transaction
from store.models import AdviceTurn, BuildEvidence, Image, Repository, StoredRecommendation, Team
from store.queries import recommendations
from tests.factories import make_repository, make_step
from tests.histories import PYTHON, save_history
from workers.tasks.advising import MOST_LINES, advise_due, advise_image, only_image, read_patch

NOW = datetime.now(UTC)
MOVED = """--- a/Dockerfile
+++ b/Dockerfile
@@ -1,4 +1,4 @@
 FROM a
-ARG COMMIT
 RUN make
+ARG COMMIT
 CMD run
"""


@pytest.fixture
def repository_id(home: Path) -> int:
    """A repository with nine builds whose Dockerfile copies everything before it installs."""
    with transaction() as session:
        repository = make_repository(session)
        save_history(session, repository, last=NOW - timedelta(days=10))
    return repository.id


def stored() -> list[StoredRecommendation]:
    with reading() as session:
        return list(session.scalars(select(StoredRecommendation).order_by(StoredRecommendation.id)))


def test_a_build_with_a_dockerfile_is_looked_at_soon_and_once(repository_id: int) -> None:
    with reading() as session:
        assert recommendations.is_any_due(session, NOW)
        assert not recommendations.is_any_due(session, NOW - timedelta(days=30))
    advise_due()
    with reading() as session:
        turn = session.scalars(select(AdviceTurn)).one()
        assert (turn.due_at, turn.builds, turn.repository_id) == (None, 9, repository_id)
    first = {row.title: row for row in stored()}["Copy requirements.txt before the pip install"]
    assert (first.name, first.state, first.order_safe, first.builds) == ("copy_before_install", "open", True, 9)
    assert first.saving_seconds == pytest.approx(15.4, abs=0.1)
    assert first.builds_per_week == pytest.approx(7.0, abs=0.1)
    assert "+COPY requirements.txt ./" in (first.patch or "")


def test_advice_given_again_changes_nothing_but_its_figures(repository_id: int) -> None:
    advise_image(1)
    before = {row.id: row.created_at for row in stored()}
    advise_image(1)
    assert {row.id: row.created_at for row in stored()} == before


def test_dismissed_advice_stays_dismissed(repository_id: int) -> None:
    advise_image(1)
    with transaction() as session:
        session.get_one(StoredRecommendation, 1).state = "dismissed"
    advise_image(1)
    assert stored()[0].state == "dismissed"


def test_advice_that_was_followed_is_applied_since_the_build_that_brought_it(repository_id: int) -> None:
    advise_image(1)
    (copy,) = (row for row in stored() if row.name == "copy_before_install")
    better = (
        (PYTHON / "Dockerfile")
        .read_text()
        .replace(
            "COPY . .\nRUN pip install -q -r requirements.txt\n",
            "COPY requirements.txt ./\nRUN pip install -q -r requirements.txt\nCOPY . .\n",
        )
    )
    with transaction() as session:
        followed = save_history(session, session.get_one(Repository, repository_id), last=NOW, dockerfile=better)
    advise_image(1)
    after = {row.id: row for row in stored()}[copy.id]
    assert after.state == "applied"
    assert after.applied_build_id in followed
    with reading() as session:
        effect = recommendations.measure_effect(session, after)
    assert effect is not None
    assert effect.builds_after >= 3
    assert effect.saving_seconds is not None


def test_advice_that_no_longer_holds_is_gone(repository_id: int) -> None:
    advise_image(1)
    with transaction() as session:
        image = session.get_one(Image, 1)
        recommendations.save_proposals(session, image, [], now=NOW, builds=9, builds_per_week=None)
    assert {row.state for row in stored()} == {"gone"}
    advise_image(1)
    assert {row.state for row in stored()} == {"open"}


def test_without_a_dockerfile_nothing_is_advised(home: Path) -> None:
    with transaction() as session:
        save_history(session, make_repository(session), last=NOW, has_evidence=False)
    advise_due()
    advise_image(1)
    advise_image(99)
    assert stored() == []


def test_a_dockerfile_that_nobody_writes_is_not_looked_at(home: Path) -> None:
    with transaction() as session:
        text = (PYTHON / "Dockerfile").read_text() + "RUN x\n" * MOST_LINES
        save_history(session, make_repository(session), last=NOW, dockerfile=text)
    advise_image(1)
    assert stored() == []


def test_one_image_that_cannot_be_read_keeps_no_other_from_its_turn(repository_id: int) -> None:
    with transaction() as session:
        team = session.get_one(Team, session.get_one(Repository, repository_id).team_id)
        save_history(session, make_repository(session, "other", team), last=NOW - timedelta(days=2))
        broken = session.scalars(select(BuildEvidence).where(BuildEvidence.repository_id == repository_id)).first()
        broken.document = {"dockerfiles": 5}
    advise_due()
    assert {row.image_id for row in stored()} == {2}
    with reading() as session:
        assert not recommendations.is_any_due(session, NOW + timedelta(days=1))


def test_of_a_build_of_several_images_the_steps_of_one_are_looked_at() -> None:
    build = model.Build(
        builder="buildkit",
        format="buildkit-plain",
        outcome=model.Outcome.SUCCEEDED,
        steps=(make_step("RUN a", target="api"), make_step("RUN b", target="web")),
    )
    image = Image(target="api", platform="", dockerfile="", name="api")
    assert [step.text for step in only_image(build, image).steps] == ["RUN a"]
    assert only_image(build, Image(target="other", platform="", dockerfile="", name="x")) is build


@pytest.mark.parametrize(
    ("text", "is_made"),
    [
        ("FROM a\nRUN make\nARG COMMIT\nCMD run\n", True),
        ("FROM a\nARG COMMIT\nRUN make\nCMD run\n", False),
        ("FROM a\nUSER me\nRUN   make\nARG COMMIT\nRUN more\nCMD run\n", True),
        ("", False),
    ],
)
def test_an_edit_that_moves_a_line_is_known_by_the_order(text: str, is_made: bool) -> None:
    edit = read_patch(MOVED)
    assert edit is not None
    assert edit.is_made_in(text) == is_made


def test_what_edits_nothing_is_no_edit() -> None:
    assert read_patch(None) is None
    assert read_patch("--- a/x\n+++ b/x\n same\n") is None
