"""The pages in a real browser: the way from signing in to a build, figures, keys, and nothing out of place."""

from collections.abc import Callable
from typing import Any

import pytest

from cachescope.model import Outcome, StepStatus
from cachescope.recommendations.base import Recommendation
from service.auth.passwords import hash_password
from store.models import Image, StoredRecommendation, Team
from store.queries.recommendations import Proposal, save_proposals
from tests.dashboards.browsers import Tab
from tests.dashboards.conftest import Site, add_reader
from tests.dashboards.test_pages import COLD, WARM, noon, save_history, save_log
from tests.factories import make_build, make_repository, make_step, save_build
from tests.histories import save_history as save_real_history

pytestmark = pytest.mark.browser
Fill = Callable[[Callable[..., object]], None]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_way_from_signing_in_to_a_build(
    site: Site, fill: Fill, open_tab: Callable[..., Tab], width: int, theme: str
) -> None:
    def save(session: Any, team: Team) -> None:
        save_history(session, team)
        add_reader(session, team, "member", hash_password("correct horse battery"), "another cookie")

    fill(save)
    tab = open_tab(width=width, theme=theme, signed_in=False)
    page = tab.page
    tab.open("/teams/acme")
    tab.check()
    page.get_by_label("Email address").fill("member@example.org")
    page.get_by_label("Password").fill("correct horse battery")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/teams/acme")
    tab.settle()
    tab.check()
    page.get_by_role("rowheader").get_by_role("link", name="acme/api").click()
    page.wait_for_url("**/repositories/1")
    tab.settle()
    tab.check()
    assert page.locator(".plot .main-svg").count() >= 5
    page.locator("#builds ~ .table tbody a[href='/builds/3']").click()
    page.wait_for_url("**/builds/3")
    tab.settle()
    tab.check()
    assert "Cache broke at" in page.locator("h1").inner_text()
    assert page.locator(".timeline svg rect").count() >= 3


def test_a_filter_redraws_the_page_in_place(site: Site, fill: Fill, open_tab: Callable[..., Tab]) -> None:
    fill(save_history)
    tab = open_tab()
    tab.open("/teams/acme/repositories/1")
    tab.page.evaluate("() => { window.stayed = document.querySelector('#efficiency .main-svg') }")
    with tab.page.expect_response(lambda answer: "/charts/efficiency" in answer.url and "days=7" in answer.url):
        tab.page.get_by_role("link", name="7 days").click()
    tab.page.wait_for_url("**/repositories/1?days=7")
    assert tab.page.evaluate("() => document.body.contains(window.stayed)")
    tab.page.get_by_label("Outcome").select_option("failed")
    tab.page.wait_for_url("**outcome=failed**")
    assert "No build fits these filters." in tab.page.locator("main").inner_text()
    tab.page.go_back()
    tab.page.wait_for_function("() => document.querySelectorAll('#builds ~ .table tbody tr').length === 4")
    tab.check()


def test_the_theme_changes_without_a_reload_and_figures_with_it(
    site: Site, fill: Fill, open_tab: Callable[..., Tab]
) -> None:
    fill(save_history)
    tab = open_tab()
    tab.open("/teams/acme/repositories/1")
    colour = "() => getComputedStyle(document.querySelector('#efficiency .xtick text')).fill"
    light = tab.page.evaluate(colour)
    tab.page.get_by_role("button", name="Dark").click()
    tab.page.wait_for_function(f"(before) => ({colour})() !== before", arg=light)
    assert tab.page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgba(0, 0, 0, 0)"
    tab.page.reload()
    assert tab.page.locator("html").get_attribute("data-theme") == "dark"
    tab.settle()
    tab.check()


def test_everything_is_reached_by_keys(site: Site, fill: Fill, open_tab: Callable[..., Tab]) -> None:
    fill(save_history)
    tab = open_tab()
    tab.open("/teams/acme")
    keys = tab.page.keyboard
    keys.press("?")
    assert tab.page.get_by_role("dialog").is_visible()
    keys.press("Escape")
    keys.press("/")
    assert tab.page.evaluate("() => document.activeElement.id") == "search"
    keys.type("api")
    keys.press("Enter")
    tab.page.wait_for_url("**/repositories/1")
    keys.press("g")
    keys.press("s")
    tab.page.wait_for_url("**/settings")
    keys.press("Tab")
    assert tab.page.evaluate("() => document.activeElement.className") == "skip"
    assert tab.troubles == []


def test_a_page_that_waits_turns_into_the_build(site: Site, fill: Fill, open_tab: Callable[..., Tab]) -> None:
    tab = open_tab()
    tab.open("/teams/acme")
    tab.page.wait_for_url("**/teams/acme/send")
    content = b"#1 [internal] load\n#1 DONE 0.0s\n\n#2 [1/1] RUN make\n#2 DONE 1.5s\n"
    fill(lambda session, team: save_log(session, team, content))
    tab.page.wait_for_url("**/builds/1")
    tab.check()


def test_a_cell_of_the_heatmap_leads_to_its_build(site: Site, fill: Fill, open_tab: Callable[..., Tab]) -> None:
    fill(save_history)
    tab = open_tab()
    tab.open("/teams/acme/repositories/1")
    plot = tab.page.locator("#heatmap")
    plot.scroll_into_view_if_needed()
    place = tab.page.evaluate(
        """() => { const plot = document.getElementById("heatmap"), box = plot.getBoundingClientRect();
        const {xaxis, yaxis} = plot._fullLayout;
        return [box.x + xaxis._offset + xaxis.c2p(2), box.y + yaxis._offset + yaxis.c2p(1)]; }"""
    )
    tab.page.mouse.move(*place)
    tab.page.wait_for_selector("#heatmap .hoverlayer .hovertext")
    assert "npm ci" in (tab.page.locator("#heatmap .hoverlayer").text_content() or "")
    tab.page.mouse.click(*place)
    tab.page.wait_for_url("**/builds/3")
    tab.check()


EXPLAINED = (
    "/builds/9",
    "/builds/9/compare/1",
    "/builds/9/steps/7",
    "/teams/acme/recommendations",
    "/teams/acme/repositories/1/recommendations",
)


def save_explained(session: Any, team: Team) -> None:
    """Nine real builds with their Dockerfile, and what to change in it: open, dismissed and applied."""
    save_real_history(session, make_repository(session, "acme/api", team), last=noon())
    found = Recommendation(
        title="Copy requirements.txt before the pip install of a service whose name is as long as names get",
        why="`COPY . .` in line 3 changes with every file.",
        evidence=("`RUN pip install` ran again in 8 of 8 builds.",),
        patch="--- a/Dockerfile\n+++ b/Dockerfile\n@@ -1,2 +1,2 @@\n FROM a\n-COPY . .\n+COPY " + "src/ " * 60 + "\n",
        order_safe=True,
        saving_seconds_per_build=60.0,
        interval=(30.0, 90.0),
    )
    proposals = [
        Proposal(name=name, recommendation=found)
        for name in ("copy_before_install", "ignored_files", "missing_cache_mount")
    ]
    image = session.get_one(Image, 1)
    save_proposals(session, image, proposals, now=noon(), builds=9, builds_per_week=7.0)
    dismissed, applied = (session.get_one(StoredRecommendation, number) for number in (2, 3))
    dismissed.state, applied.state, applied.applied_build_id = "dismissed", "applied", 4


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pages_that_explain_fit_and_are_accessible(
    site: Site, fill: Fill, open_tab: Callable[..., Tab], axe: str, theme: str
) -> None:
    fill(save_explained)
    tab = open_tab(theme=theme)
    for path in EXPLAINED:
        for width in (390, 768, 1280, 1600):
            tab.page.set_viewport_size({"width": width, "height": 900})
            tab.open(path)
            for details in tab.page.locator("main details").all():
                details.evaluate("(element) => { element.open = true }")
            tab.check()
            if width in {390, 1280}:
                tab.page.evaluate(axe)
                checked = tab.page.evaluate("() => axe.run({resultTypes: ['violations']})")
                assert [
                    f"{path} at {width}: {rule['id']} {rule['nodes'][0]['html'][:120]}"
                    for rule in checked["violations"]
                    if rule["impact"] in {"serious", "critical"}
                ] == []


def test_from_a_break_to_the_patch_by_keys(site: Site, fill: Fill, open_tab: Callable[..., Tab]) -> None:
    fill(save_explained)
    tab = open_tab()
    tab.open("/builds/9")
    page = tab.page
    page.get_by_role("link", name="How to fix").press("Enter")
    page.wait_for_url("**/repositories/1/recommendations")
    copy = page.get_by_role("button", name="Copy the patch")
    copy.press("Enter")
    page.get_by_role("button", name="Copied").wait_for()
    page.get_by_role("button", name="Dismiss:").press("Enter")
    page.wait_for_url("**#dismissed-1")
    page.get_by_role("button", name="Undo").first.press("Enter")
    page.wait_for_url("**#recommendation-**")
    page.keyboard.press("g")
    page.keyboard.press("c")
    page.wait_for_url("**/teams/acme/recommendations")
    tab.check()


def test_the_table_of_a_figure_opens_under_it(site: Site, fill: Fill, open_tab: Callable[..., Tab]) -> None:
    fill(save_history)
    tab = open_tab()
    tab.open("/teams/acme/repositories/1")
    details = tab.page.locator("figure:has(#efficiency) details")
    details.locator("summary").click()
    details.locator("table").wait_for()
    assert details.locator("tbody tr").count() == 4
    tab.check()


def save_extremes(session: Any, team: Team) -> None:
    """Names of two hundred characters, sixty repositories, a build of 120 steps, one that failed, one without times."""
    team.name = "A team whose name is as long as a name may be, which is a hundred characters, and then stops here"
    many = make_build(
        *(
            make_step(
                f"RUN step {number} --with={'long-option-' * (number % 12)}",
                stage=f"stage-{number // 20}",
                cached=number % 3 == 0,
                started_seconds=float(number),
                seconds=None if number % 3 == 0 else 1.0 + number % 7,
            )
            for number in range(120)
        )
    )
    failed = make_build(
        make_step("RUN " + "x" * 400, status=StepStatus.FAILED, error="e" * 300),
        outcome=Outcome.FAILED,
        error="process did not complete: " + "y" * 300,
    )
    untimed = make_build(make_step("RUN make", seconds=None), duration_seconds=None)
    long = make_repository(session, "o" * 100 + "/" + "r" * 99, team)
    for build, branch in ((many, "b" * 200), (failed, "fix/\u202ebidi"), (untimed, "עברית/ענף-🚀"), (COLD, "main")):
        save_build(session, long, build, at=noon(), branch=branch, runner="r" * 200, actor="a" * 120, job="j" * 200)
    for number in range(60):
        save_build(session, make_repository(session, f"org/service-{number:02}", team), WARM, at=noon())


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_is_wider_than_the_window_whatever_the_names(
    site: Site, fill: Fill, open_tab: Callable[..., Tab], theme: str
) -> None:
    fill(save_extremes)
    tab = open_tab(theme=theme)
    for path in (
        "/teams/acme",
        "/teams/acme/repositories/1?branches=all",
        *(f"/builds/{number}" for number in range(1, 5)),
        "/teams/acme/repositories/1/feedback",
        "/teams/acme/deliveries",
        "/teams/acme/settings",
        "/teams/acme/settings/members",
        "/account",
        "/teams/acme/send?ci=azure",
    ):
        tab.open(path)
        for width in (390, 768, 1280, 1600):
            tab.page.set_viewport_size({"width": width, "height": 900})
            tab.check()


def test_pages_say_the_same_without_javascript(site: Site, fill: Fill, open_tab: Callable[..., Tab]) -> None:
    fill(save_history)
    page = open_tab(java_script_enabled=False).page
    address = str(site.client.base_url).rstrip("/")
    page.goto(f"{address}/teams/acme/repositories/1")
    assert "Figures need JavaScript" in page.locator("main").inner_text()
    page.locator("figure:has(#efficiency) summary").click()
    page.locator("figure:has(#efficiency) details a").click()
    assert page.locator("main table tbody tr").count() == 4
    page.goto(f"{address}/builds/3")
    assert page.locator(".timeline rect").count() >= 3
    page.get_by_role("button", name="Dark").click()
    assert page.locator("html").get_attribute("data-theme") == "dark"
    assert page.url == f"{address}/builds/3"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_accessibility_checker_finds_nothing_serious(
    site: Site, fill: Fill, open_tab: Callable[..., Tab], axe: str, theme: str
) -> None:
    fill(save_history)
    found = []
    tab = open_tab(theme=theme)
    for path in (
        "/teams/acme",
        "/teams/acme/repositories",
        "/teams/acme/repositories/1",
        "/teams/acme/repositories/1/feedback",
        "/builds/3",
        "/builds/4",
        "/teams/acme/deliveries",
        "/teams/acme/send",
        "/teams/acme/settings",
        "/teams/acme/settings/members",
        "/account",
        "/charts/breaks?repository=1",
    ):
        for width in (1280, 390):
            tab.page.set_viewport_size({"width": width, "height": 900})
            tab.open(path)
            tab.page.evaluate(axe)
            checked = tab.page.evaluate("() => axe.run({resultTypes: ['violations']})")
            found += [
                f"{path} at {width}: {rule['id']} {rule['nodes'][0]['html'][:120]}"
                for rule in checked["violations"]
                if rule["impact"] in {"serious", "critical"}
            ]
    assert found == []
