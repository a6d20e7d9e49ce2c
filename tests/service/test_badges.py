"""Pictures with one figure: for whoever has the address, and for nobody else."""

import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import httpx
import pytest

from service.actions.feedback import renew_badges, withdraw_badges
from service.api.badges import FAIR, GOOD, POOR, UNKNOWN, color_of, draw
from service.auth.permissions import Viewer
from store.database import transaction
from store.models import Repository
from store.models.image_sizes import ImageSize, SizedImage
from store.queries import rollups
from tests.factories import make_build, make_repository, make_step, save_build

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def token(home: object) -> str:
    """The badges of a repository whose last build hit three of four."""
    with transaction() as session:
        repository = make_repository(session)
        steps = [make_step(f"RUN {name}", seconds=10.0) for name in "abcd"]
        save_build(session, repository, make_build(*steps), at=datetime.now(UTC) - timedelta(days=40))
        warm = [make_step(f"RUN {name}", cached=True) for name in "abc"]
        save_build(session, repository, make_build(*warm, steps[3]), at=datetime.now(UTC) - timedelta(hours=2))
        viewer = Viewer(name="Ada", roles={repository.team_id: "member"})
        made = renew_badges(session, viewer, repository)
    with transaction() as session:
        rollups.recompute_dirty_days(session, 1000)
    return made


def shown(answer: httpx.Response) -> str:
    """The value that a picture shows; fails where the picture is no XML."""
    assert answer.status_code == 200, answer.text
    return [text.text for text in ET.fromstring(answer.text).iter(f"{SVG}text")][1]


@pytest.mark.parametrize(("name", "value"), [("efficiency", "75 %"), ("hit-rate", "75 %"), ("size", "unknown")])
def test_a_badge_shows_its_figure_without_signing_in(client: httpx.Client, token: str, name: str, value: str) -> None:
    answer = client.get(f"/badges/{token}/{name}.svg")
    assert answer.headers["content-type"] == "image/svg+xml"
    assert shown(answer) == value


def test_more_days_may_count(client: httpx.Client, token: str) -> None:
    assert shown(client.get(f"/badges/{token}/hit-rate.svg?days=90")) == "38 %"


def test_the_size_is_that_of_the_newest_version_of_the_default_branch(client: httpx.Client, token: str) -> None:
    now = datetime.now(UTC)
    with transaction() as session:
        repository = session.get_one(Repository, 1)
        sized = SizedImage(team_id=repository.team_id, repository_id=1, name="ghcr.io/acme/api")
        session.add(sized)
        session.flush()
        for number, branch_class in enumerate(["default", "default", "pull_request"]):
            session.add(
                ImageSize(
                    sized_image_id=sized.id,
                    repository_id=1,
                    platform="linux/amd64",
                    version_key=str(number),
                    compressed_bytes=(number + 1) * 100_000_000,
                    branch_class=branch_class,
                    released_at=now + timedelta(minutes=number),
                )
            )
    assert shown(client.get(f"/badges/{token}/size.svg")) == "200 MB"


def test_a_picture_may_be_kept_and_is_asked_for_again_by_its_tag(client: httpx.Client, token: str) -> None:
    first = client.get(f"/badges/{token}/efficiency.svg")
    assert re.fullmatch(r"public, max-age=\d+, stale-while-revalidate=\d+", first.headers["cache-control"])
    for known in (first.headers["etag"], f'"other", W/{first.headers["etag"]}', "*"):
        again = client.get(f"/badges/{token}/efficiency.svg", headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert client.get(f"/badges/{token}/efficiency.svg", headers={"if-none-match": '"x"'}).status_code == 200


def test_a_picture_can_run_nothing_and_names_nobody(client: httpx.Client, token: str) -> None:
    answer = client.get(f"/badges/{token}/efficiency.svg")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "acme" not in answer.text
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", ["{token}/price.svg", "{token}x/size.svg", "x/size.svg", "1/size.svg", "%00/size.svg"])
def test_a_wrong_address_looks_like_any_that_leads_nowhere(client: httpx.Client, token: str, path: str) -> None:
    nowhere = client.get("/nothing/here.svg")
    wrong = client.get("/badges/" + path.format(token=token))
    kept = ("type", "title", "status", "detail")
    assert [wrong.json()[name] for name in kept] == [nowhere.json()[name] for name in kept]
    ignored = {"x-request-id", "date", "content-length", "server-timing"}
    assert {n: v for n, v in wrong.headers.items() if n not in ignored} == {
        n: v for n, v in nowhere.headers.items() if n not in ignored
    }


def test_a_renewed_or_withdrawn_address_leads_nowhere(client: httpx.Client, token: str) -> None:
    with transaction() as session:
        repository = session.get_one(Repository, 1)
        viewer = Viewer(name="Ada", roles={repository.team_id: "member"})
        second = renew_badges(session, viewer, repository)
    assert client.get(f"/badges/{token}/size.svg").status_code == 404
    assert client.get(f"/badges/{second}/size.svg").status_code == 200
    with transaction() as session:
        withdraw_badges(session, viewer, session.get_one(Repository, 1))
    assert client.get(f"/badges/{second}/size.svg").status_code == 404


def test_an_address_cannot_be_guessed(token: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{32}", token), "24 random bytes"


def test_texts_stay_texts_in_a_picture() -> None:
    picture = draw('<script>"&', "</text><a>", GOOD)
    found = [text.text for text in ET.fromstring(picture).iter(f"{SVG}text")]
    assert found == ['<script>"&', "</text><a>"]


@pytest.mark.parametrize(("ratio", "color"), [(1.0, GOOD), (0.8, GOOD), (0.79, FAIR), (0.5, FAIR), (0.49, POOR)])
def test_the_colour_goes_by_the_figure(ratio: float, color: str) -> None:
    assert color_of(ratio) == color


@pytest.mark.parametrize("color", [GOOD, FAIR, POOR, UNKNOWN, "#2b5fd9", "#3b424a"])
def test_white_letters_can_be_read_on_every_colour(color: str) -> None:
    def light(part: int) -> float:
        share = part / 255
        return share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4

    red, green, blue = (light(int(color[at : at + 2], 16)) for at in (1, 3, 5))
    assert 1.05 / (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05) >= 4.5
