"""The build page explains: the causes of its breaks, and its Dockerfile with what each line did."""

import re
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cachescope.model import Build, Step
from cachescope.surroundings import Surroundings
from dashboards.dockerfiles import StatedBuild, annotate
from dashboards.states import EXPECTED, HIT, NOT_CACHEABLE, State
from store.models import Team
from store.queries import evidence
from tests.dashboards.conftest import Site
from tests.dashboards.test_pages import COLD, WARM, noon, save_log
from tests.factories import make_build, make_delivery, make_repository, make_step, save_build
from tests.histories import save_history

Fill = Callable[[Callable[..., object]], None]
FORMATS = Path(__file__).parent.parent / "cachescope" / "formats"
BREAK = State("miss", "break", is_break=True)


def section(page: str, heading: str) -> str:
    """The text of one section of a page, without tags."""
    found = re.search(rf'<section aria-labelledby="{heading}">(.*?)</section>', page, re.DOTALL)
    assert found is not None
    return " ".join(re.sub(r"<[^>]+>", " ", found[1]).split())


def test_a_break_is_explained_with_evidence_files_price_and_cascade(site: Site, fill: Fill) -> None:
    fill(lambda session, team: save_history(session, make_repository(session, "acme/api", team), last=noon()))
    why = section(site.text("/builds/9"), "why")
    assert "break, expected COPY . . 3/5" in why
    assert "Files it reads changed (certain)" in why
    assert "Expected: the commit explains it." in why
    assert re.search(r"It cost 2\d s", why)
    assert "Files: app/" in why
    assert "2 steps ran only because of it" in why
    assert "Without it the efficiency would have been 100 %." in why
    assert "Compare with the baseline" in why
    assert "cachescope exec" not in why, "everything that tells was sent"


def test_what_is_unknown_says_what_would_tell(site: Site, fill: Fill) -> None:
    def save(session: Any, team: Team) -> None:
        repository = make_repository(session, "acme/api", team)
        for days_ago, build in ((2, COLD), (1, WARM), (0, COLD)):
            save_build(session, repository, build, at=noon(days_ago))

    fill(save)
    why = section(site.text("/builds/3"), "why")
    assert "it is one of these:" in why
    assert "would tell" in why
    assert "Sent with the Dockerfile and the list of files , as cachescope exec does" in why


def test_a_build_without_misses_has_nothing_to_explain(site: Site, fill: Fill) -> None:
    def save(session: Any, team: Team) -> None:
        repository = make_repository(session, "acme/api", team)
        for days_ago, build in ((1, COLD), (0, WARM)):
            save_build(session, repository, build, at=noon(days_ago))

    fill(save)
    assert "Nothing missed, so there is nothing to explain." in section(site.text("/builds/2"), "why")


def test_the_dockerfile_shows_what_each_line_did(site: Site, fill: Fill) -> None:
    fill(lambda session, team: save_history(session, make_repository(session, "acme/api", team), last=noon()))
    page = site.text("/builds/9")
    rows = re.findall(
        r'<td class="gutter">(.*?)</td><td class="num">.*?</td><td class="num quiet">(\d+)</td><td><code>(.*?)</code>',
        page,
        re.DOTALL,
    )
    words = [(number, " ".join(re.sub(r"<[^>]+>", "", gutter).split()), text) for gutter, number, text in rows]
    assert words == [
        ("1", "not cacheable", "FROM toolbox:1"),
        ("2", "hit", "WORKDIR /app"),
        ("3", "break, expected", "COPY . ."),
        ("4", "expected miss", "RUN pip install -q -r requirements.txt"),
        ("5", "expected miss", "RUN python3 -m compileall -q app"),
        ("6", "", "CMD [&#34;python3&#34;, &#34;-m&#34;, &#34;app&#34;]"),
    ]


def test_without_a_dockerfile_the_steps_stand_in_its_order(site: Site, fill: Fill) -> None:
    log = (FORMATS / "buildkit_rawjson" / "failed_with_words.log").read_bytes()
    fill(lambda session, team: save_log(session, team, log))
    assert "The Dockerfile of this build was not sent" in section(site.text("/builds/1"), "dockerfile")


def built(*steps: Step) -> Build:
    return make_build(*steps)


def test_an_instruction_that_ran_for_several_platforms_shows_the_worst() -> None:
    build = built(
        make_step("FROM a", cached=False, seconds=0.1, stage="base", platform="linux/amd64", index=1, total=2),
        make_step("RUN make", cached=True, stage="base", platform="linux/amd64", index=2, total=2),
        make_step("FROM a", cached=False, seconds=0.1, stage="base", platform="linux/arm64", index=1, total=2),
        make_step("RUN make", seconds=9.0, stage="base", platform="linux/arm64", index=2, total=2),
    )
    states = [NOT_CACHEABLE, HIT, NOT_CACHEABLE, BREAK]
    places = ["amd64 1/2", "amd64 2/2", "arm64 1/2", "arm64 2/2"]
    known = Surroundings(dockerfiles={"": "FROM a AS base\n\nRUN \\\n    make\n"})
    (shown,) = annotate(StatedBuild(build=build, states=states, places=places), known)
    assert [line.number for line in shown.lines] == [1, 2, 3, 4]
    line = shown.lines[2]
    assert (line.state, line.seconds, line.position) == (BREAK, 9.0, 3)
    assert line.help == "amd64 2/2: hit; arm64 2/2: break"
    assert shown.lines[3].is_more


def test_each_target_has_the_lines_of_its_own_dockerfile() -> None:
    build = built(
        make_step("FROM a", cached=False, target="api", index=1, total=2),
        make_step("RUN one", target="api", index=2, total=2),
        make_step("FROM b", cached=False, target="web", index=1, total=2),
        make_step("RUN two", cached=True, target="web", index=2, total=2),
    )
    stated = StatedBuild(build=build, states=[NOT_CACHEABLE, EXPECTED, NOT_CACHEABLE, HIT], places=[""] * 4)
    found = annotate(stated, Surroundings(dockerfiles={"api": "FROM a\nRUN one\n", "web": "FROM b\nRUN two\n"}))
    assert [(file.title, [line.state for line in file.lines]) for file in found] == [
        ("Dockerfile, api", [NOT_CACHEABLE, EXPECTED]),
        ("Dockerfile, web", [NOT_CACHEABLE, HIT]),
    ]


def test_a_dockerfile_that_is_long_is_cut_and_says_so() -> None:
    text = "FROM a\n" + "RUN x\n" * 2000
    (shown,) = annotate(
        StatedBuild(build=built(make_step("RUN x")), states=[HIT], places=[""]), Surroundings(dockerfiles={"": text})
    )
    assert shown.left_out == 501


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", 'RUN echo "<b>" && echo `id`'])
def test_what_a_dockerfile_says_is_text(site: Site, fill: Fill, text: str) -> None:
    def save(session: Any, team: Team) -> None:
        repository = make_repository(session, "acme/api", team)
        delivery = make_delivery(session, repository)
        evidence.save_evidence(
            session, delivery.id, repository.id, Surroundings(dockerfiles={"": f"FROM a\n{text}\n"}, dockerignore="")
        )
        save_build(session, repository, make_build(make_step("RUN make", seconds=2.0)), at=noon() - timedelta(hours=1))
        session.flush()

    fill(save)
    assert "<script>alert" not in site.text("/builds/1")


def test_a_hostile_dockerfile_costs_little() -> None:
    text = "FROM a AS x\n" + "ARG A=1\nRUN echo $A\n" * 1000
    steps = [make_step(f"RUN other {number}", index=number + 1, total=60, stage="elsewhere") for number in range(60)]
    began = time.process_time()
    annotate(
        StatedBuild(build=built(*steps), states=[HIT] * 60, places=[""] * 60), Surroundings(dockerfiles={"": text})
    )
    assert time.process_time() - began < 5
