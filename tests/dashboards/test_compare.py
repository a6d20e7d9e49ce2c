"""Two builds side by side, and the history of one instruction."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from cachescope.evidence import ChangedFile, Evidence
from dashboards import differences
from dashboards.differences import Side, inputs, line_up
from dashboards.states import HIT, MISS
from store.models import Build, Team
from tests.dashboards.conftest import Site
from tests.dashboards.test_pages import COLD, WARM, noon
from tests.factories import make_build, make_repository, make_step, make_team, save_build
from tests.histories import PYTHON, save_history

Fill = Callable[[Callable[..., object]], None]


def save_builds(session: Any, team: Team) -> None:
    """Nine builds with everything that is known of them."""
    save_history(session, make_repository(session, "acme/api", team), last=noon())


def words(page: str) -> str:
    """A page without its tags."""
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_the_last_good_build_is_picked(site: Site, fill: Fill) -> None:
    fill(save_builds)
    assert site.get("/builds/9/compare").headers["location"] == "/builds/9/compare/8"
    assert site.get("/builds/9/compare", **{"with": "3"}).headers["location"] == "/builds/9/compare/3"
    assert site.get("/builds/1/compare").status_code == 404
    assert site.get("/builds/9/compare", **{"with": "x"}).status_code == 422


def test_two_builds_stand_side_by_side(site: Site, fill: Fill) -> None:
    fill(save_builds)
    page = words(site.text("/builds/9/compare/1"))
    assert re.search(r"Build 9 against build 1: [23] inputs and \d steps differ", page)
    assert "Commit 0000000000000000000000000000000000000000 0000000000000000000000000000000000000008" in page
    assert "M app/" in page
    assert "identical" in page
    assert "Build 8, last good one, main, succeeded" in page
    assert "against build 9" in words(site.text("/builds/1/compare/9"))


def test_a_dockerfile_that_differs_is_shown_as_a_diff(site: Site, fill: Fill) -> None:
    def save(session: Any, team: Team) -> None:
        repository = make_repository(session, "acme/api", team)
        save_history(session, repository, last=noon())
        other = (PYTHON / "Dockerfile").read_text().replace("toolbox:1", "toolbox:2")
        save_history(session, repository, last=noon(), dockerfile=other)

    fill(save)
    page = site.text("/builds/18/compare/9")
    assert re.search(r'class="removed">.*?<code>FROM toolbox:1</code>', page)
    assert re.search(r'class="added">.*?<code>FROM toolbox:2</code>', page)


def test_builds_of_others_cannot_be_compared(site: Site, fill: Fill) -> None:
    def save(session: Any, team: Team) -> None:
        save_build(session, make_repository(session, "acme/api", team), COLD, at=noon())
        save_build(session, make_repository(session, "theirs", make_team(session, "other")), COLD, at=noon())

    fill(save)
    assert site.get("/builds/1/compare/2").status_code == 404
    assert site.get("/builds/2/compare/1").status_code == 404
    assert site.get("/builds/2/steps/1").status_code == 404


def test_builds_of_two_repositories_can_be_compared(site: Site, fill: Fill) -> None:
    def save(session: Any, team: Team) -> None:
        save_build(session, make_repository(session, "one", team), COLD, at=noon(1))
        save_build(session, make_repository(session, "two", team), WARM, at=noon())

    fill(save)
    assert "hit" in words(site.text("/builds/2/compare/1"))


def side(text: str, state: Any = HIT, seconds: float | None = None) -> Side:
    return Side(state=state, seconds=seconds, text=text, place="", url="/builds/1")


def test_steps_are_lined_up_and_identical_ones_grouped() -> None:
    before = [make_step(text) for text in ("COPY a .", "RUN make", "RUN gone", "RUN test --quick")]
    after = [make_step(text) for text in ("COPY a .", "RUN make", "RUN new", "RUN test --quick --all")]
    sides = [[side(step.text, MISS, seconds) for step, seconds in zip(steps, times, strict=True)]
             for steps, times in ((before, (1.0, 10.0, 1.0, 5.0)), (after, (1.1, 30.0, 1.0, 5.0)))]  # fmt: skip
    groups = line_up(sides[0], sides[1], before, after)
    assert [group.is_same for group in groups] == [True, False]
    shown = [
        (pair.before and pair.before.text, pair.after and pair.after.text, pair.change, pair.is_reworded)
        for pair in groups[1].pairs
    ]
    assert shown == [
        ("RUN make", "RUN make", "+20\u00a0s", False),
        (None, "RUN new", None, False),
        ("RUN gone", None, None, False),
        ("RUN test --quick", "RUN test --quick --all", None, True),
    ]


def test_steps_without_a_partner_stay_in_their_place() -> None:
    before = [make_step(text) for text in ("RUN first", "RUN last")]
    sides = [side(step.text) for step in before]
    (group,) = line_up(sides, [None], before, [make_step("[internal] load", kind="internal", instruction=None)])
    assert [pair.before.text for pair in group.pairs if pair.before] == ["RUN first", "RUN last"]


def test_from_lines_of_a_stage_belong_together() -> None:
    before = [make_step("FROM a:1", stage="base"), make_step("RUN make", stage="base")]
    after = [make_step("FROM a:2", stage="base"), make_step("RUN make", stage="base")]
    groups = line_up([side(s.text) for s in before], [side(s.text) for s in after], before, after)
    assert [pair.is_reworded for group in groups for pair in group.pairs] == [True, False]


def stored(**values: Any) -> Build:
    given = {"branch": "main", "base_images": [], "cache_imports": [], "cache_exports": []}
    return Build(**given | values)


def test_inputs_that_differ_come_first() -> None:
    transfer = {"ref": "acme/cache", "succeeded": False, "seconds": 1.0}
    found = inputs(
        stored(commit_id="aaa", runner="ci-1", builder="buildkit", context_bytes=1000),
        stored(commit_id="bbb", runner="ci-1", builder="buildkit", context_bytes=2000, cache_imports=[transfer]),
        Evidence(
            dockerfiles_before={"": "FROM a\n", "api": "FROM c\n"},
            dockerfiles_after={"": "FROM b\n", "api": "FROM c\n"},
            dockerignore_before="",
            dockerignore_after="dist\n",
            changed_files=(ChangedFile("a"),),
            command_before=("docker", "build"),
            command_after=("docker", "build"),
        ),
    )
    assert [(each.name, each.is_same) for each in found] == [
        ("Commit", False),
        ("Cache imports", False),
        ("Build context", False),
        ("Dockerfile", False),
        (".dockerignore", False),
        ("Branch", True),
        ("Runner", True),
        ("Builder", True),
        ("Command line", True),
        ("Dockerfile of api", True),
    ]
    assert found[1].after == "acme/cache (failed)"
    assert [mark for mark, _ in found[3].diff] == ["@", "-", "+"]


def test_a_diff_of_a_long_file_is_cut() -> None:
    evidence = Evidence(dockerfiles_before={"": "a\n" * 900}, dockerfiles_after={"": "b\n" * 900})
    (found,) = (each for each in inputs(stored(), stored(), evidence) if each.name == "Dockerfile")
    assert len(found.diff) == differences.LINES_SHOWN


# -- the history of an instruction -------------------------------------------------------------------------------------


def test_a_step_shows_what_its_instruction_did(site: Site, fill: Fill) -> None:
    def save(session: Any, team: Team) -> None:
        repository = make_repository(session, "acme/api", team)
        for days_ago, build in ((3, COLD), (2, WARM), (1, COLD), (0, WARM)):
            save_build(session, repository, build, at=noon(days_ago))

    fill(save)
    page = words(site.text("/builds/3/steps/2"))
    assert "RUN npm ci hit in 2 of its last 4 executions; when it runs it takes 1 min 40 s" in page
    assert site.text("/builds/3/steps/2").count('href="/builds/4/steps/2"') == 1
    assert 'href="/builds/3/steps/2"' in site.text("/builds/3")


@pytest.mark.parametrize("position", ["0", "99", "-1"])
def test_a_step_that_is_no_instruction_has_no_history(site: Site, fill: Fill, position: str) -> None:
    fill(lambda session, team: save_build(session, make_repository(session, "acme/api", team), COLD, at=noon()))
    assert site.get(f"/builds/1/steps/{position}").status_code == 404


def test_an_instruction_that_was_never_seen_to_run_says_so(site: Site, fill: Fill) -> None:
    build = make_build(make_step("RUN make", cached=True))
    fill(lambda session, team: save_build(session, make_repository(session, "acme/api", team), build, at=noon()))
    page = words(site.text("/builds/1/steps/0"))
    assert "hit in 1 of its last 1 executions." in page
    assert "never seen to run" in page
