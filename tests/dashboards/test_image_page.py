"""The page of an image: what it weighs, what made it so, and what somebody else wrote into it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from cachescope.images.model import Layer, MeasuredImage, PlatformImage
from dashboards import treemap
from integrations.images import IMAGES
from integrations.images.base import Options
from store.database import reading, transaction
from store.models import Measuring, SizedImage, Team
from store.queries import image_sizes, measurings
from store.queries.image_sizes import Release
from tests.dashboards.conftest import Site, add_reader
from tests.factories import make_repository

FILES = Path(__file__).parent.parent / "integrations/images/files"
NOW = datetime.now(UTC).replace(microsecond=0)


def save_versions(session: Session, sized: SizedImage, numbers: range, name: str = "") -> None:
    for number in numbers:
        path = FILES / f"v{number:02d}" / name
        measured = IMAGES["files"].measure(str(path), Options()).image
        release = Release(seen_at=NOW - timedelta(days=20 - number), tag=f"v{number}", branch="main")
        image = replace(measured, reference=f"{sized.name}:v{number}")
        image_sizes.save_measured(session, sized, image, way="registry", release=release)


@pytest.fixture
def page(site: Site) -> str:
    """The address of an image of twelve versions."""
    with transaction() as session:
        repository = make_repository(session, team=session.get_one(Team, site.team_id))
        sized = image_sizes.get_or_create_sized_image(session, repository, "ghcr.io/acme/catalog")
        sized.from_registry, sized.budget_bytes = True, 150_000_000
        save_versions(session, sized, range(1, 13))
        return f"/teams/acme/repositories/{repository.id}/images/{sized.id}"


def test_the_first_sentence_says_what_it_weighs_and_what_changed_it_most(site: Site, page: str) -> None:
    html = site.text(page)
    assert "ghcr.io/acme/catalog v12 weighs 42 MB compressed, 79 % of it the base image." in html
    assert "The largest shrinkage of the last 12 versions was −145 MB in v10" in html


def test_a_row_of_versions_says_growth_instruction_churn_and_budget(site: Site, page: str) -> None:
    html = site.text(page)
    row = html.partition('id="versions"')[2].partition(">v7<")[2].partition("</tr>")[0]
    assert "over budget" in row
    assert "+30 MB" in row
    assert "COPY . ." in row
    assert "33 MB" in row


def test_any_two_versions_are_compared_layer_by_layer(site: Site, page: str) -> None:
    with reading() as session:
        rows = image_sizes.load_versions(session, int(page.rpartition("/")[2]), "linux/amd64")
    html = site.text(page, before=rows[4].row.id, after=rows[5].row.id)
    section = html.partition('id="difference"')[2].partition("</section>")[0]
    assert "v5 → v6: +58 MB compressed" in section
    assert "most of it" in section.partition("RUN apt-get update")[0]


def test_the_team_and_the_repository_show_the_size(site: Site, page: str) -> None:
    for place in ("/teams/acme", page.rpartition("/images")[0]):
        html = site.text(place)
        assert "42 MB" in html
        assert page in html


def test_what_somebody_typed_into_a_dockerfile_is_only_text(site: Site) -> None:
    with transaction() as session:
        repository = make_repository(session, team=session.get_one(Team, site.team_id))
        sized = image_sizes.get_or_create_sized_image(session, repository, "x" * 200)
        hostile = "RUN echo '</script><script>alert(1)</script>' ghp_" + "a1B2" * 9
        layer = Layer(diff_id=f"sha256:{'1' * 64}", instruction=hostile, unpacked_bytes=5, base=False)
        image = PlatformImage(platform="<b>", unpacked_bytes=5, layers=(layer,))
        measured = MeasuredImage(reference="x:<i>", platforms=(image,))
        image_sizes.save_measured(session, sized, measured, way="engine", release=Release(seen_at=NOW, tag="<i>"))
        url = f"/teams/acme/repositories/{repository.id}/images/{sized.id}"
    html = site.text(url)
    assert "<script>alert" not in html
    assert "ghp_a1B2" not in html
    assert "<i>" not in html


def test_an_image_that_could_not_be_measured_says_why(site: Site) -> None:
    with transaction() as session:
        repository = make_repository(session, team=session.get_one(Team, site.team_id))
        sized = image_sizes.get_or_create_sized_image(session, repository, "ghcr.io/acme/gone")
        asked = measurings.request_measuring(session, sized, "v1", "push", NOW, tag="v1")
        row = session.get_one(Measuring, asked)
        row.state, row.error = "failed", "It was deleted."
        url = f"/teams/acme/repositories/{repository.id}/images/{sized.id}"
    html = site.text(url)
    assert "could not be measured: It was deleted." in html
    assert "failed" in html


def test_a_member_follows_an_image_and_sets_its_budget(site: Site) -> None:
    with transaction() as session:
        repository = make_repository(session, team=session.get_one(Team, site.team_id))
        place = f"/teams/acme/repositories/{repository.id}"
    made = site.post(f"{place}/images", page=place, name="ghcr.io/acme/api:1", from_registry="on", measure="1")
    assert made.status_code == 303
    url = made.headers["location"]
    saved = site.post(
        f"{place}/images",
        page=url,
        name="ghcr.io/acme/api",
        from_registry="on",
        user="ci",
        password="secret",
        budget_megabytes="12.5",
        budget_growth="10",
    )
    assert saved.status_code == 303, saved.text
    kept = site.post(f"{place}/images", page=url, name="ghcr.io/acme/api", from_registry="on", user="ci")
    assert kept.status_code == 303
    assert "secret" not in site.text(url)
    with reading() as session:
        (sized,) = image_sizes.list_sized_images(session, int(place.rpartition("/")[2]))
        (asked,) = measurings.list_measurings(session, sized.id)
        assert (sized.name, sized.user, sized.password, sized.budget_bytes) == (
            "ghcr.io/acme/api",
            "ci",
            "secret",
            None,
        )
        assert (asked.wanted, asked.reason) == ("latest", "asked")


@pytest.mark.parametrize(
    "fields",
    [{"budget_megabytes": "many"}, {"every_minutes": "1"}, {"networks": "everywhere"}, {"user": "", "name": "api"}],
)
def test_a_form_that_cannot_be_is_refused_in_a_sentence(site: Site, page: str, fields: dict[str, str]) -> None:
    given = {"name": "ghcr.io/acme/catalog", "from_registry": "on"} | fields
    answer = site.post(page.rpartition("/")[0], page=page, **given)
    assert answer.status_code == 422
    assert "</html>" in answer.text


def test_a_viewer_sees_sizes_and_changes_nothing(site: Site, page: str) -> None:
    with transaction() as session:
        add_reader(session, session.get_one(Team, site.team_id), "viewer", cookie="viewer")
    site.client.cookies.set("cachescope_session", "viewer")
    assert "Budget and registry" not in site.text(page)
    assert site.post(page + "/measure", page="/teams/acme").status_code == 403


def test_an_image_of_another_repository_is_not_found(site: Site, page: str) -> None:
    with transaction() as session:
        other = make_repository(session, "acme/other", team=session.get_one(Team, site.team_id))
        number = other.id
    address = f"/teams/acme/repositories/{number}/images/{page.rpartition('/')[2]}"
    assert site.get(address).status_code == 404


def test_tiles_fill_the_figure_and_each_is_as_large_as_its_layer() -> None:
    sizes = [500, 300, 100, 50, 50]
    items = [treemap.Item(number=n, text=f"RUN {n}", size_bytes=size, age=n) for n, size in enumerate(sizes, 1)]
    found = treemap.tiles(items)
    whole = treemap.WIDTH * treemap.HEIGHT
    for tile, size in zip(found, sizes, strict=True):
        assert (tile.width + 1.5) * (tile.height + 1.5) == pytest.approx(whole * size / 1000, rel=0.02)
        assert 0 <= tile.x <= treemap.WIDTH - tile.width
        assert 0 <= tile.y <= treemap.HEIGHT - tile.height
    assert treemap.tiles([treemap.Item(number=1, text="", size_bytes=0, age=None)]) == []
