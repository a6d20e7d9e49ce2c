"""Image sizes over the API: sent by CI jobs, kept once, compared, scoped by team."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from integrations.images import IMAGES
from integrations.images.base import Options
from integrations.measure import compared_document, measured_document
from service.auth.tokens import hash_token
from store.database import transaction
from store.models import Repository, Team, Token
from tests.factories import make_team

FILES = Path(__file__).parent.parent / "integrations/images/files"


@pytest.fixture
def team(client: httpx.Client) -> int:
    """A team with an upload token `u` and a read token `r`, and another team with `other`."""
    with transaction() as session:
        team, other = make_team(session), make_team(session, "globex")
        for owner, text, scope in ((team, "u", "upload"), (team, "r", "read"), (other, "other", "read")):
            token = Token(id=text, team_id=owner.id, name=text, scope=scope, token_hash=hash_token(text), hint=text)
            session.add(token)
        return team.id


def document(number: int, name: str = "") -> dict[str, Any]:
    found = measured_document(IMAGES["files"].measure(str(FILES / f"v{number:02d}" / name), Options()))
    return found | {"reference": f"ghcr.io/acme/catalog:v{number}"}


def push(client: httpx.Client, body: Any, **said: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    query = {"repository": "acme/catalog", "branch": "main"} | said
    return client.post("/api/v1/images", params=query, content=content, headers={"Authorization": "Bearer u"})


def get(client: httpx.Client, path: str, token: str = "r", **query: object) -> httpx.Response:
    return client.get(path, params=query, headers={"Authorization": f"Bearer {token}"})


def test_versions_are_kept_and_say_what_each_changed(client, team):
    for number in (5, 6, 7):
        saved = push(client, document(number), commit=f"{number}abcdef0")
        assert saved.status_code == 201, saved.text
    place = f"/api/v1/repositories/1/images/{saved.json()['image_id']}"
    found = get(client, f"{place}/versions").json()
    assert [one["tag"] for one in found["versions"]] == ["v5", "v6", "v7"]
    assert [one["commit_id"] for one in found["versions"]] == ["5abcdef0", "6abcdef0", "7abcdef0"]
    assert found["versions"][1]["blamed"]["instruction"].startswith("RUN apt-get update")
    assert found["versions"][2]["pull_churn_bytes"] == 33_011_495
    ids = [one["id"] for one in found["versions"]]
    difference = get(client, f"{place}/difference", before=ids[0], after=ids[2]).json()
    assert difference["compressed_growth_bytes"] == 190_523_440 - 102_834_937
    details = get(client, f"{place}/versions/{ids[0]}").json()
    assert sum(layer["compressed_bytes"] for layer in details["layers"]) == 102_834_937


def test_a_version_that_comes_twice_is_kept_once(client, team):
    first, second = push(client, document(3)), push(client, document(3))
    assert first.json() == second.json()
    listed = get(client, "/api/v1/repositories/1/images").json()["images"]
    assert [one["newest"]["tag"] for one in listed] == ["v3"]


def test_a_pull_request_is_no_version_of_the_default_branch(client, team):
    push(client, document(5))
    place = f"/api/v1/repositories/1/images/{push(client, document(6), pull_request='7').json()['image_id']}"
    assert [one["tag"] for one in get(client, f"{place}/versions").json()["versions"]] == ["v5"]
    every = get(client, f"{place}/versions", branch_class=["default", "pull_request"]).json()["versions"]
    assert [(one["tag"], one["pull_request"]) for one in every] == [("v5", None), ("v6", "7")]


def test_layers_that_two_images_share_are_told_with_both(client, team):
    push(client, document(5))
    push(client, document(5) | {"reference": "ghcr.io/acme/other:1"})
    found = get(client, "/api/v1/teams/acme/shared-layers").json()["layers"]
    assert found[0]["images"] == ["ghcr.io/acme/catalog", "ghcr.io/acme/other"]
    assert found[0]["base"] is True


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        {"reference": "x"},
        {"reference": "x", "platforms": []},
        {"reference": "x", "platforms": [{"platform": "p", "layers": [{"compressed_bytes": -1}]}]},
        {"reference": "x", "platforms": [{"platform": "p", "layers": [{"digest": "sha256:1"}]}]},
        {"reference": "x", "platforms": [{"platform": "p", "layers": [{}] * 5000}]},
    ],
)
def test_what_is_no_measurement_is_refused(client, team, body):
    answer = push(client, body)
    assert answer.status_code in (400, 415, 422), answer.text
    assert answer.json()["detail"].endswith(".")


def test_a_body_without_end_is_refused(client, team):
    assert push(client, b" " * (9 << 20)).status_code == 413


def test_nobody_else_sees_sizes_and_a_read_token_sends_none(client, team):
    image_id = push(client, document(5)).json()["image_id"]
    for path in ("", f"/{image_id}/versions"):
        assert get(client, f"/api/v1/repositories/1/images{path}", token="other").status_code == 404
    assert get(client, "/api/v1/teams/acme/shared-layers", token="other").status_code == 404
    answer = client.post("/api/v1/images", content=b"{}", headers={"Authorization": "Bearer r"})
    assert answer.status_code == 403
    assert client.post("/api/v1/images", content=b"{}").status_code == 401


def test_an_image_or_version_that_is_not_there_is_not_found(client, team):
    image_id = push(client, document(5)).json()["image_id"]
    place = f"/api/v1/repositories/1/images/{image_id}"
    assert get(client, "/api/v1/repositories/1/images/99/versions").status_code == 404
    assert get(client, f"{place}/versions/99").status_code == 404
    assert get(client, f"{place}/versions", platform="linux/s390x").status_code == 404


def test_deleting_a_team_takes_its_sizes_along(client, team):
    push(client, document(5))
    with transaction() as session:
        session.delete(session.get_one(Team, team))
    with transaction() as session:
        assert session.query(Repository).count() == 0


def test_two_documents_of_the_command_line_say_what_differs():
    before, after = (IMAGES["files"].measure(str(FILES / f"v{number:02d}"), Options()) for number in (6, 7))
    found = compared_document(before, after)["difference"][0]
    assert found["compressed_growth_bytes"] == 30_009_555
    assert found["blamed"]["instruction"] == "COPY . ."
