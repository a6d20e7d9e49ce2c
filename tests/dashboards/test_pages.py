"""What each page says, who may see it, and what it makes of hostile names."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from sqlalchemy.orm import Session

from cachescope.model import CacheTransfer, Outcome, StepStatus
from cachescope.reading import read_builds
from dashboards.periods import today
from dashboards.rendering import CONTENT_SECURITY_POLICY
from service.actions import accounts
from service.auth.sessions import SESSION_COOKIE
from store.database import reading, transaction
from store.logs import open_logs, write_log
from store.models import Build, Delivery, Repository, Team
from store.queries import deliveries, logs, readings, teams
from store.queries.runs import RunFacts
from tests.dashboards.conftest import COOKIE, Site, add_reader
from tests.factories import make_build, make_delivery, make_repository, make_step, make_team, save_build

FORMATS = Path(__file__).parent.parent / "cachescope" / "formats"
Fill = Callable[[Callable[..., object]], None]

COLD = make_build(
    make_step("FROM docker.io/library/node:22", cached=False, seconds=0.1),
    make_step("COPY package.json ."),
    make_step("RUN npm ci", seconds=100.0),
    make_step("COPY . .", seconds=0.5),
)
WARM = make_build(
    make_step("FROM docker.io/library/node:22", cached=False, seconds=0.1),
    make_step("COPY package.json .", cached=True),
    make_step("RUN npm ci", cached=True),
    make_step("COPY . .", cached=True),
)


def noon(days_ago: int = 0) -> datetime:
    day = today() - timedelta(days=days_ago)
    return datetime(day.year, day.month, day.day, 0, 1, tzinfo=UTC)


def save_history(session: Any, team: Team, name: str = "acme/api", **facts: Any) -> Repository:
    """A cold build three days ago, then a warm one each day."""
    repository = make_repository(session, name, team)
    for days_ago, build in ((3, COLD), (2, WARM), (1, COLD), (0, WARM)):
        save_build(session, repository, build, at=noon(days_ago), **facts)
    return repository


def save_log(session: Any, team: Team, content: bytes, name: str = "acme/api", **facts: Any) -> list[int]:
    """Send a real log all the way: stored, read and saved."""
    repository = make_repository(session, name, team)
    written = write_log(open_logs(), [content])
    logs.save_log(session, written)
    delivery = make_delivery(
        session, repository, log_digest=written.digest, log_bytes=len(content), state="done", received_at=noon()
    )
    return readings.save_reading(
        session, delivery, repository, read_builds([content]), RunFacts(**{"branch": "main"} | facts)
    )


def first_build() -> Build:
    with reading() as session:
        return session.get_one(Build, 1)


def test_a_visitor_is_led_to_the_sign_in_page_and_back(visitor: httpx.Client) -> None:
    answer = visitor.get("/teams/acme?days=7", headers={"Accept": "text/html"})
    assert answer.status_code == 303
    assert answer.headers["location"] == "/sign-in?next=%2Fteams%2Facme%3Fdays%3D7"


def test_the_one_time_link_makes_the_owner_once(visitor: httpx.Client) -> None:
    with transaction() as session:
        path = accounts.create_setup_link(session)
    site = Site(visitor, 0)
    fields = {"name": "Ada", "email": "ada@example.org", "team": "Acme"}
    short = site.post(path, password="short", **fields)
    assert short.status_code == 422
    assert "ada@example.org" in short.text
    made = site.post(path, password="correct horse battery", **fields)
    assert (made.status_code, made.headers["location"]) == (303, "/teams/acme")
    assert "HttpOnly" in made.headers["set-cookie"]
    assert site.get("/teams/acme").headers["location"] == "/teams/acme/send"
    again = site.get(path)
    assert again.status_code == 401
    assert "cachescope" in again.text

    assert site.post("/sign-out", page="/teams/acme/send").headers["location"] == "/sign-in"
    assert site.get("/teams/acme").status_code == 303
    wrong = site.post("/sign-in", email="ada@example.org", password="wrong horse battery", next="/")
    assert wrong.status_code == 401
    assert "do not belong together" in wrong.text
    right = site.post("/sign-in", email="ADA@example.org", password="correct horse battery", next="/teams/acme?days=7")
    assert (right.status_code, right.headers["location"]) == (303, "/teams/acme?days=7")
    assert site.get("/sign-in").headers["location"] == "/"
    assert site.get("/").headers["location"] == "/teams/acme"


def test_the_first_owner_finds_what_was_sent_before(visitor: httpx.Client) -> None:
    with transaction() as session:
        path = accounts.create_setup_link(session)
        save_history(session, make_team(session, "my-team"))
    site = Site(visitor, 0)
    assert 'value="My-team"' in site.text(path)
    made = site.post(path, name="Ada", email="ada@example.org", team="Acme", password="correct horse battery")
    assert made.headers["location"] == "/teams/my-team"
    assert "acme/api" in site.text("/teams/my-team", branches="all")


@pytest.mark.parametrize(
    "address", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:1", "/a\nb"]
)
def test_signing_in_never_leads_to_another_host(site: Site, address: str) -> None:
    assert site.get("/sign-in", next=address).headers["location"] == "/"


@pytest.mark.parametrize(
    "path",
    ["/teams/acme/settings", "/teams/acme/settings/tokens", "/teams/acme/send", "/sign-out", "/deliveries/x/retry"],
)
def test_a_form_from_elsewhere_is_refused(site: Site, path: str) -> None:
    answer = site.client.post(path, data={"name": "x", "form_token": "guessed"}, headers={"Accept": "text/html"})
    assert answer.status_code == 403
    assert "came from another site" in answer.text


def test_a_read_token_opens_no_page(site: Site) -> None:
    made = site.post("/teams/acme/settings/tokens", page="/teams/acme/settings", name="Grafana", scope="read")
    token = re.search(r'id="secret-1" tabindex="0">([^<]+)<', made.text)
    assert token is not None
    site.client.cookies.clear()
    answer = site.client.get("/teams/acme", headers={"Authorization": f"Bearer {token[1]}"})
    assert answer.status_code == 401
    assert site.client.get("/api/v1/teams", headers={"Authorization": f"Bearer {token[1]}"}).status_code == 200


def test_a_new_team_gets_the_line_to_paste_and_then_its_build(site: Site, fill: Fill) -> None:
    page = site.text("/teams/acme/send")
    assert "/api/v1/uploads?repository=" in page
    assert site.get("/teams/acme/send/state").json() == {
        "text": "Waiting for the first log. This page turns into its build as soon as it has been read."
    }
    fill(lambda session, team: save_log(session, team, (FORMATS / "buildkit_plain" / "docker_28.log").read_bytes()))
    assert site.get("/teams/acme/send/state").json() == {"url": "/builds/1"}
    assert site.get("/teams/acme").status_code == 200


def test_a_log_that_failed_is_shown_to_who_waits_for_it(site: Site, fill: Fill) -> None:
    fill(lambda session, team: make_delivery(session, make_repository(session, "a", team), state="failed", id="d-1"))
    assert site.get("/teams/acme/send/state").json() == {"url": "/deliveries/d-1"}


@pytest.mark.parametrize(
    "ci", ["terminal", "github", "gitlab", "jenkins", "buildkite", "circleci", "azure", "other", "?"]
)
def test_every_ci_gets_its_own_lines_without_a_secret(site: Site, ci: str) -> None:
    page = site.text("/teams/acme/send", ci=ci)
    assert "CACHESCOPE_TOKEN" in page
    assert "/api/v1/uploads" in page


def test_a_token_made_for_the_line_stands_in_it_once(site: Site) -> None:
    page = site.post("/teams/acme/send", page="/teams/acme/send")
    token = re.search(r'id="token" tabindex="0">([^<]+)<', page.text)
    assert token is not None
    assert f"Bearer {token[1]}" in page.text
    assert token[1] not in site.text("/teams/acme/send")


def test_the_overview_says_how_well_the_cache_works_and_what_broke_it(site: Site, fill: Fill) -> None:
    fill(save_history)
    page = site.text("/teams/acme")
    assert "Acme" in page
    assert "<strong>50 %</strong> from cache, by time" in page
    assert "lost to unexpected misses" in page
    assert 'href="/teams/acme/repositories/1"' in page
    assert "npm ci" in page or "COPY package.json" in page
    assert 'href="/api/v1/teams/acme/overview?from=' in page
    assert site.client.get("/api/v1/teams/acme/overview").status_code == 200


def test_the_overview_of_a_quiet_time_says_that_there_was_no_build(site: Site, fill: Fill) -> None:
    fill(lambda session, team: save_build(session, make_repository(session, "acme/api", team), COLD, at=noon(60)))
    page = site.text("/teams/acme", days=7)
    assert "had no build in the last 7 days" in page
    assert "no builds" in page
    assert "Look at all branches" in page


def test_repositories_are_found_by_a_part_of_their_name(site: Site, fill: Fill) -> None:
    fill(lambda session, team: [save_history(session, team, name) for name in ("acme/api", "acme/web", "other")])
    page = site.text("/teams/acme/repositories", q="ACME")
    assert "2 repositories with “ACME”" in page
    assert ">other<" not in page
    assert site.get("/teams/acme/repositories", q="web").headers["location"] == "/teams/acme/repositories/2"
    assert "No repository of Acme has “nowhere”" in site.text("/teams/acme/repositories", q="nowhere")


def test_a_repository_page_tells_its_figures_and_lists_its_builds(site: Site, fill: Fill) -> None:
    fill(save_history)
    page = site.text("/teams/acme/repositories/1")
    assert "acme/api" in page
    assert page.count('href="/builds/') == 4
    for chart in ("efficiency", "build_duration", "last_builds", "breaks", "heatmap"):
        assert f'data-chart="/charts/{chart}?repository=1&amp;days=30&amp;branches=default"' in page


def test_a_repository_page_tells_what_each_cache_cost_and_saved(site: Site, fill: Fill) -> None:
    def save(session: Session, team: Team) -> None:
        repository = make_repository(session, "acme/api", team)
        registry = CacheTransfer(ref="r.example.org/acme/api:cache", succeeded=True, seconds=4.0)
        for day in (3, 2, 1):
            at = datetime.now(UTC) - timedelta(days=day)
            save_build(session, repository, make_build(cache_imports=(registry,)), at=at)
        save_build(session, repository, make_build(), at=datetime.now(UTC) - timedelta(hours=1))

    fill(save)
    page = site.text("/teams/acme/repositories/1", branches="all")
    row = page.partition("What caches cost and save")[2].partition("<tbody>")[2].partition("</tr>")[0]
    assert ">registry<" in row
    assert 'data-label="Builds">3<' in row
    assert "12 s" in row
    assert "What caches cost and save" not in site.text("/teams/acme/repositories/1", days=1, branches="pull_request")


def test_the_range_and_the_branches_of_a_page_stand_in_its_address(site: Site, fill: Fill) -> None:
    fill(lambda session, team: save_history(session, team, branch="feature/x", default_branch="main"))
    assert "had no build in the last 30 days" in site.text("/teams/acme/repositories/1")
    page = site.text("/teams/acme/repositories/1", days=7, branches="branch")
    assert 'aria-current="true">7 days<' in page
    assert 'aria-current="true">Other branches<' in page
    assert "branches=branch" in page
    assert page.count('href="/builds/') == 4
    assert 'aria-current="true">Default branch<' in site.text("/teams/acme/repositories/1", branches="nonsense")


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({}, 6),
        ({"branch": "feature/x"}, 1),
        ({"branch": "nowhere"}, 0),
        ({"outcome": "failed", "branches": "all"}, 1),
        ({"outcome": "nonsense"}, 6),
        ({"from": "2"}, 6),
        ({"from": str(today() - timedelta(days=1))}, 4),
        ({"to": str(today() - timedelta(days=3))}, 1),
        ({"from": "0001-01-01", "to": "9999-12-31"}, 6),
        ({"before": "x-y"}, 6),
        ({"before": "99999999999999999999-1"}, 6),
    ],
)
def test_the_list_of_builds_is_filtered_by_its_address(
    site: Site, fill: Fill, query: dict[str, str], count: int
) -> None:
    def save(session: Any, team: Team) -> None:
        repository = save_history(session, team)
        save_build(session, repository, WARM, at=noon(), branch="feature/x")
        failed = make_build(make_step("RUN make", status=StepStatus.FAILED), outcome=Outcome.FAILED)
        save_build(session, repository, failed, at=noon())
        save_build(session, repository, WARM, at=noon())

    fill(save)
    page = site.text("/teams/acme/repositories/1", **query)
    assert len(re.findall(r'<th scope="row" class="nowrap"><a href="/builds/', page)) == count


def test_older_builds_follow_by_key_and_none_is_missed(site: Site, fill: Fill) -> None:
    def save(session: Any, team: Team) -> None:
        repository = make_repository(session, "acme/api", team)
        for number in range(95):
            save_build(session, repository, WARM, at=noon() - timedelta(minutes=number // 3))

    fill(save)
    path, seen = "/teams/acme/repositories/1", []
    while path:
        page = site.text(path)
        seen += re.findall(r'<th scope="row" class="nowrap"><a href="/builds/(\d+)"', page)
        older = re.search(r'href="([^"]+)#builds" data-in-place rel="next"', page)
        path = older[1].replace("&amp;", "&") if older else ""
    assert len(seen) == len(set(seen)) == 95


def test_one_image_of_several_can_be_looked_at(site: Site, fill: Fill) -> None:
    def save(session: Any, team: Team) -> None:
        repository = make_repository(session, "acme/api", team)
        for image in ("api", "worker"):
            save_build(session, repository, WARM, at=noon(), image=image)

    fill(save)
    page = site.text("/teams/acme/repositories/1")
    images = re.findall(r'<option value="(\d+)">(\w+)', page)
    assert {name for _, name in images} == {"api", "worker"}
    page = site.text("/teams/acme/repositories/1", image=images[0][0])
    assert page.count('href="/builds/') == 1
    assert f"image={images[0][0]}" in page


def test_a_build_page_says_where_the_cache_broke_and_what_that_cost(site: Site, fill: Fill) -> None:
    fill(save_history)
    page = site.text("/builds/3")
    assert "Cache broke at" in page
    assert "<strong>1 min 42 s</strong> in 3 steps" in page
    assert "the log does not tell why" in page
    assert "0 of 3" in page
    assert "s-miss" in page
    assert "below COPY package.json ." in page
    assert 'id="step-2"' in page
    assert '<svg width="100%"' in page
    assert 'href="#step-2"' in page


def test_a_warm_build_says_that_everything_came_from_cache(site: Site, fill: Fill) -> None:
    fill(save_history)
    page = site.text("/builds/4")
    assert "Every cacheable step, 3 of 3, came from cache." in page
    assert "100 %" in page
    assert "baseline" in page


def test_a_structured_log_is_shown_as_text_and_as_it_came(site: Site, fill: Fill) -> None:
    content = (FORMATS / "buildkit_rawjson" / "failed_with_words.log").read_bytes()
    fill(lambda session, team: save_log(session, team, content))
    page = site.text("/builds/1/log")
    assert "Decoded from BuildKit" in page
    assert "&#34;vertexes&#34;" not in page
    raw = site.text("/builds/1/log", **{"as": "json"})
    assert "&#34;vertexes&#34;" in raw
    assert "As text" in raw


@pytest.mark.parametrize("kind", ["buildkit_plain", "buildkit_rawjson", "buildkit_tty", "classic", "buildah", "kaniko"])
def test_every_real_log_becomes_a_page(site: Site, fill: Fill, kind: str) -> None:
    saved: list[int] = []
    for log in sorted((FORMATS / kind).glob("*.log")):
        content = log.read_bytes()
        fill(lambda session, team, content=content: saved.extend(save_log(session, team, content)))
    assert saved
    for build_id in saved:
        page = site.text(f"/builds/{build_id}")
        assert 'class="sentence"' in page
        # Nothing that is not known is shown as the word that Python has for it.
        assert "None" not in re.sub(r"<code.*?</code>|<bdi.*?</bdi>|title=\"[^\"]*\"", "", page, flags=re.DOTALL)
        assert site.get(f"/builds/{build_id}/log").status_code == 200


def test_the_log_is_shown_as_text_with_anchors_and_steps(site: Site, fill: Fill) -> None:
    content = (
        b"#1 [internal] load <script>alert(1)</script>\n#1 DONE 0.0s\n\n#2 [1/1] RUN make\n"
        b"\x1b[31m#2 0.1 red\x1b[0m\n#2 DONE 1.5s\n"
    )
    fill(lambda session, team: save_log(session, team, content))
    page = site.text("/builds/1/log")
    assert 'id="L4"' in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
    assert "\x1b" not in page
    assert 'href="/builds/1/log?line=4#L4"' in page
    found = site.text("/builds/1/log", q="RUN")
    assert "1 line with “RUN”." in found
    assert "<mark>RUN</mark>" in found
    assert "No line holds “nowhere”." in site.text("/builds/1/log", q="nowhere")
    assert "ends before line" in site.text("/builds/1/log", line=99999)
    assert 'class="log nowrap"' in site.text("/builds/1/log", wrap=0)


def test_a_long_log_comes_in_pages(site: Site, fill: Fill) -> None:
    lines = "".join(f"#2 0.1 line {number}\n" for number in range(3000))
    content = f"#1 [internal] load\n#1 DONE 0.0s\n\n#2 [1/1] RUN make\n{lines}#2 DONE 1.5s\n".encode()
    fill(lambda session, team: save_log(session, team, content))
    page = site.text("/builds/1/log", line=1500)
    assert page.count('class="logline') == 400
    assert "Lines above" in page
    assert "Lines below" in page
    assert "Next matches" in site.text("/builds/1/log", q="line")


def test_a_build_whose_log_is_gone_still_has_its_page(site: Site, fill: Fill) -> None:
    fill(save_history)
    assert "no longer kept" in site.text("/builds/1")
    assert site.get("/builds/1/log").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/teams/other",
        "/teams/other/repositories",
        "/teams/other/repositories/1",
        "/teams/acme/repositories/1",
        "/teams/other/settings",
        "/teams/other/send",
        "/teams/other/deliveries",
        "/builds/1",
        "/builds/1/log",
        "/builds/99999999999999999999",
        "/deliveries/theirs",
        "/deliveries/theirs/state",
        "/charts/efficiency?repository=1",
        "/nowhere",
    ],
)
def test_what_belongs_to_another_team_is_not_there(site: Site, path: str) -> None:
    with transaction() as session:
        other = make_team(session, "other")
        repository = make_repository(session, "other/secret", other)
        save_build(session, repository, COLD, at=noon())
        make_delivery(session, repository, id="theirs")
    answer = site.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert "other/secret" not in answer.text


HOSTILE = "<img src=x onerror=alert(1)>\"'&"


def test_names_from_outside_are_text_and_nothing_else(site: Site, fill: Fill) -> None:
    def save(session: Any, team: Team) -> None:
        build = make_build(
            make_step(f"RUN echo {HOSTILE}", stage=HOSTILE, error=HOSTILE, status=StepStatus.FAILED),
            outcome=Outcome.FAILED,
            error=HOSTILE,
            warnings=(HOSTILE,),
        )
        repository = make_repository(session, HOSTILE, team)
        save_build(
            session,
            repository,
            build,
            at=noon(),
            branch=HOSTILE,
            commit_id=HOSTILE,
            actor=HOSTILE,
            runner=HOSTILE,
            url="javascript:alert(1)",
            job=HOSTILE,
        )
        team.name = HOSTILE

    fill(save)
    for path in (
        "/teams/acme",
        "/teams/acme/repositories",
        "/teams/acme/repositories/1?branches=all",
        f"/teams/acme/repositories?q={quote(HOSTILE)}x",
        "/teams/acme/deliveries",
        "/teams/acme/settings",
        "/teams/acme/send",
        "/builds/1",
        "/charts/breaks?repository=1&branches=all",
        "/charts/heatmap?repository=1&branches=all&part=table",
    ):
        page = site.text(path)
        assert "<img" not in page, path
        assert "javascript:" not in page, path


@pytest.mark.parametrize("branch", ["x" * 200, "fix/\u202ebidi", "עברית/ענף", "🚀-launch", "a b&c=d#e"])
def test_odd_branch_names_are_isolated_and_lead_back_to_their_builds(site: Site, fill: Fill, branch: str) -> None:
    fill(lambda session, team: save_history(session, team, branch=branch))
    page = site.text("/builds/1")
    assert "<bdi" in page
    link = re.search(r'<a class="plain" href="(/teams/acme/repositories/1\?branch=[^"]+)"', page)
    assert link is not None
    assert site.text(link[1].replace("&amp;", "&")).count('href="/builds/') == 4


def test_deliveries_are_listed_with_their_state_and_reason(site: Site, fill: Fill) -> None:
    def save(session: Any, team: Team) -> None:
        repository = make_repository(session, "acme/api", team)
        for state in ("new", "working", "done", "ignored", "failed"):
            make_delivery(session, repository, id=f"d-{state}", state=state, error=f"why {state}", attempts=2)

    fill(save)
    page = site.text("/teams/acme/deliveries")
    assert "The latest 5 deliveries: 1 failed, 2 not read yet." in page
    assert "why failed" in page
    page = site.text("/teams/acme/deliveries", state="failed")
    assert page.count('href="/deliveries/d-') == 1
    for state in ("new", "working", "done", "ignored", "failed"):
        shown = site.text(f"/deliveries/d-{state}")
        assert f"why {state}" in shown
        assert ('data-wait="' in shown) == (state in {"new", "working"})
        answer = site.get(f"/deliveries/d-{state}/state").json()
        assert ("url" in answer) == (state not in {"new", "working"})


def test_deliveries_are_paged_by_key(site: Site, fill: Fill) -> None:
    def save(session: Any, team: Team) -> None:
        repository = make_repository(session, "acme/api", team)
        for number in range(120):
            make_delivery(session, repository, id=f"d-{number:03}", state="done", received_at=noon())
        make_delivery(session, make_repository(session, "theirs", make_team(session, "other")), id="theirs")

    fill(save)
    seen: list[str] = []
    page = site.text("/teams/acme/deliveries")
    while True:
        seen += re.findall(r'<th scope="row" class="nowrap"><a href="/deliveries/(d-\d+)"', page)
        older = re.search(r'href="([^"]+)" data-in-place>Older deliveries', page)
        if older is None:
            break
        page = site.text(older[1].replace("&amp;", "&"))
        assert "Newest" in page
    assert seen == [f"d-{number:03}" for number in reversed(range(120))]
    assert "d-119" in site.text("/teams/acme/deliveries", before="theirs")


def test_a_failed_delivery_can_be_tried_again(site: Site, fill: Fill) -> None:
    def save(session: Any, team: Team) -> None:
        save_log(session, team, b"no build in here\n")
        delivery = deliveries.load_latest(session, team.id)[0]
        delivery.state, delivery.error = "failed", "The worker ran out of memory."

    fill(save)
    with reading() as session:
        delivery_id = deliveries.load_latest(session, site.team_id)[0].id
    assert "Try again" in site.text(f"/deliveries/{delivery_id}")
    answer = site.post(f"/deliveries/{delivery_id}/retry", page=f"/deliveries/{delivery_id}")
    assert answer.headers["location"] == f"/deliveries/{delivery_id}"
    with reading() as session:
        assert session.get_one(Delivery, delivery_id).state == "new"


def test_a_token_is_shown_once_and_can_be_revoked(site: Site) -> None:
    settings = "/teams/acme/settings"
    made = site.post(f"{settings}/tokens", page=settings, name="CI of api", scope="upload")
    token = re.search(r'id="secret-1" tabindex="0">([^<]+)<', made.text)
    assert token is not None
    page = site.text(settings)
    assert token[1] not in page
    assert f"…{token[1][-4:]}" in page
    revoke = re.search(r'action="([^"]+/revoke)"', page)
    assert revoke is not None
    assert site.post(revoke[1], page=settings).headers["location"] == f"{settings}?done=token-revoked"
    page = site.text(settings, done="token-revoked")
    assert "The token is revoked" in page
    assert "CI of api" not in page
    wrong = site.post(f"{settings}/tokens", page=settings, name="x", scope="everything")
    assert wrong.status_code == 422
    assert site.post(f"{settings}/tokens", page=settings, name="x", repository_id="9" * 30).status_code == 422


def test_a_source_shows_its_secret_once(site: Site) -> None:
    settings = "/teams/acme/settings"
    made = site.post(f"{settings}/sources", page=settings, name="Forge", provider="generic")
    secret = re.search(r"whsec_[A-Za-z0-9+/=]+", made.text)
    assert secret is not None
    assert "/hooks/" in made.text
    page = site.text(settings)
    assert secret[0] not in page
    rotate, off = (re.search(rf'action="([^"]+/{word})"', page) for word in ("rotate", "off"))
    assert rotate is not None
    assert off is not None
    again = site.post(rotate[1], page=settings)
    assert "whsec_" in again.text
    assert secret[0] not in again.text
    assert site.post(off[1], page=settings).headers["location"] == f"{settings}?done=source-off"
    assert site.post(f"{settings}/sources", page=settings, name="x", provider="kanico").status_code == 422


def test_the_team_can_be_renamed_by_its_owner(site: Site) -> None:
    settings = "/teams/acme/settings"
    assert (
        site.post(settings, name="Acme  Ltd", time_zone="Europe/Berlin").headers["location"] == f"{settings}?done=saved"
    )
    page = site.text(settings)
    assert 'value="Acme Ltd"' in page
    assert "no time zone “" not in page
    assert site.post(settings, name="Acme", time_zone="Mars/Olympus").status_code == 422
    assert site.post(settings, name="", time_zone="UTC").status_code == 422


def test_a_viewer_sees_and_changes_nothing(visitor: httpx.Client) -> None:
    with transaction() as session:
        team = make_team(session)
        add_reader(session, team, "viewer")
        team_id = team.id
    visitor.cookies.set(SESSION_COOKIE, COOKIE)
    site = Site(visitor, team_id)
    page = site.text("/teams/acme/settings")
    assert "Make a token" not in page
    assert site.post("/teams/acme/settings", name="Mine", time_zone="UTC", page="/teams/acme/send").status_code == 403
    assert site.post("/teams/acme/settings/tokens", name="x", page="/teams/acme/send").status_code == 403
    assert site.post("/teams/acme/send").status_code == 403


def test_somebody_without_a_team_is_told_so(visitor: httpx.Client) -> None:
    with transaction() as session:
        team = make_team(session)
        user = add_reader(session, team, "viewer")
        teams.remove_member(session, team.id, user.id)
    visitor.cookies.set(SESSION_COOKIE, COOKIE)
    assert "You belong to no team yet." in Site(visitor, 0).text("/")


def test_a_demonstration_says_that_it_is_one(site: Site, fill: Fill) -> None:
    def save(session: Any, team: Team) -> None:
        team.is_demo = True
        save_history(session, team)

    fill(save)
    assert "This team is a demonstration" in site.text("/teams/acme")


def test_the_choice_of_light_or_dark_is_remembered(site: Site) -> None:
    answer = site.client.post("/theme", data={"theme": "dark", "back": "/teams/acme/settings"})
    assert answer.headers["location"] == "/teams/acme/settings"
    assert 'data-theme="dark"' in site.text("/teams/acme/settings")
    site.client.post("/theme", data={"theme": "pink", "back": "//evil.example"})
    assert 'data-theme="dark"' in site.text("/teams/acme/settings")


PAGES = [
    "/sign-in",
    "/teams/acme",
    "/teams/acme/repositories",
    "/teams/acme/repositories/1",
    "/builds/3",
    "/teams/acme/deliveries",
    "/teams/acme/send",
    "/teams/acme/settings",
    "/charts/efficiency?repository=1",
    "/nowhere",
]


@pytest.mark.parametrize("path", PAGES)
def test_no_page_holds_inline_code_or_names_another_host(site: Site, fill: Fill, path: str) -> None:
    fill(save_history)
    if path == "/sign-in":
        site.client.cookies.clear()
    answer = site.get(path)
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    page = answer.text
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=", page)
    assert all("src=" in tag or 'type="application/json"' in tag for tag in re.findall(r"<script[^>]*>", page))
    links = re.findall(r'(?:src|href|action|data-chart|data-table)="([^"]*)"', page)
    assert links
    assert all(link.startswith(("/", "#", "?")) and not link.startswith("//") for link in links)


@pytest.mark.parametrize("path", PAGES)
def test_every_id_of_a_page_is_there_once_and_labels_find_theirs(site: Site, fill: Fill, path: str) -> None:
    fill(save_history)
    page = site.get(path).text
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:aria-labelledby|\sfor)="([^"]+)"', page)) <= set(ids)


@pytest.mark.parametrize("path", [path for path in PAGES if path not in {"/sign-in", "/nowhere", "/teams/acme/send"}])
def test_a_page_that_has_a_json_twin_names_it(site: Site, fill: Fill, path: str) -> None:
    fill(save_history)
    found = re.search(r'rel="alternate" type="application/json" href="([^"]+)"', site.text(path))
    assert found is not None
    answer = site.client.get(found[1].replace("&amp;", "&"), headers={"Accept": "application/json"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/json")


def test_a_chart_comes_as_json_as_a_table_and_as_a_page(site: Site, fill: Fill) -> None:
    fill(save_history)
    path = "/charts/efficiency?repository=1&days=7"
    chart = site.client.get(path, headers={"Accept": "application/json"}).json()
    assert chart["name"] == "efficiency"
    assert chart["figure"]["data"]
    assert chart["summary"].startswith("Efficiency")
    fragment = site.text(f"{path}&part=table")
    assert fragment.startswith("<table>")
    assert "<table>" in site.text(path)
    assert site.get("/charts/nowhere?repository=1").status_code == 422
    assert site.get("/charts/efficiency?repository=1&image=x").status_code == 422
    assert site.client.get("/charts/efficiency?repository=1&image=77").json()["figure"] is None


def test_what_goes_wrong_inside_is_a_page_that_tells_nothing_of_the_inside(
    site: Site, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(save_history)
    monkeypatch.delattr("dashboards.pages.team.load_overview")
    answer = site.get("/teams/acme")
    assert answer.status_code == 500
    assert "Something went wrong here" in answer.text
    assert "load_overview" not in answer.text


def test_days_are_those_of_the_team_when_builds_are_filtered(site: Site, fill: Fill) -> None:
    late = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)

    def save(session: Any, team: Team) -> None:
        team.time_zone = "Europe/Berlin"
        save_build(session, make_repository(session, "acme/api", team), WARM, at=late)

    fill(save)
    day = date(2026, 3, 2)
    assert 'href="/builds/1"' in site.text("/teams/acme/repositories/1", **{"from": day, "to": day})
    assert 'href="/builds/1"' not in site.text("/teams/acme/repositories/1", to=day - timedelta(days=1))
