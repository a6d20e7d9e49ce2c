"""The JSON API: what it answers about builds, and how it says no."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from openapi_spec_validator import validate

from cachescope.cli.document import document
from cachescope.reading import read_builds
from service.actions.tokens import TokenForm, issue_token
from service.app import create_app
from store.database import transaction
from store.models import Delivery
from store.queries import repositories
from tests.factories import make_build, make_step, make_team, save_build
from tests.histories import save_history
from tests.serving import ROOT
from workers.schedule import roll_up_dirty_days
from workers.tasks.ingest import ingest

LOGS = sorted((ROOT / "tests/cachescope/formats/buildkit_plain").glob("*.log"))


@pytest.fixture
def team(home: Path) -> SimpleNamespace:
    """A team with tokens to send and to read with."""
    with transaction() as session:
        made = make_team(session)
        send, read = (issue_token(session, made, TokenForm(name=scope, scope=scope))[1] for scope in ("upload", "read"))
        repository = repositories.get_or_create_repository(session, made.id, "acme/api")
        return SimpleNamespace(id=made.id, send=send, read=read, repository_id=repository.id)


@pytest.fixture
def get(client: httpx.Client, team: SimpleNamespace) -> Callable[..., httpx.Response]:
    """Asks with the read token."""
    client.headers["authorization"] = f"Bearer {team.read}"
    return lambda path, **given: client.get(f"/api/v1/{path}", **given)


@pytest.fixture
def builds(team: SimpleNamespace) -> list[int]:
    """Five builds of the last days on two branches, one of them failed."""
    with transaction() as session:
        repository = repositories.get_or_create_repository(session, team.id, "acme/api")
        start = datetime.now(UTC) - timedelta(days=3)
        made = [
            save_build(
                session, repository, at=start + timedelta(hours=number), branch="main" if number < 3 else "topic"
            )[0]
            for number in range(4)
        ]
        failed = make_build(make_step("COPY . ."), outcome="failed")
        made += save_build(session, repository, failed, at=start + timedelta(hours=4))
    roll_up_dirty_days()
    return made


@pytest.mark.parametrize("path", LOGS[:4], ids=lambda path: path.stem)
def test_a_build_is_what_analyze_says_with_its_ids(
    client: httpx.Client, team: SimpleNamespace, get: Callable[..., httpx.Response], path: Path
) -> None:
    headers = {"authorization": f"Bearer {team.send}"}
    sent = client.post("/api/v1/uploads?repository=acme/api", content=path.read_bytes(), headers=headers).json()
    ingest(sent["delivery"]["id"])
    delivery = get(f"deliveries/{sent['delivery']['id']}").json()
    expected = json.loads(json.dumps(document(read_builds([path.read_bytes()]), "x")))["builds"]
    assert delivery["state"] == "done"
    assert len(delivery["builds"]) == len(expected)
    for link, said in zip(delivery["builds"], expected, strict=True):
        answer = client.get(link["url"]).json()
        assert {name: answer[name] for name in said} == said
        assert answer["delivery_id"] == delivery["id"]
        assert answer["repository_id"] == team.repository_id


def test_builds_are_listed_page_by_page(
    get: Callable[..., httpx.Response], team: SimpleNamespace, builds: list[int]
) -> None:
    page = get(f"repositories/{team.repository_id}/builds", params={"limit": 2}).json()
    seen = [build["id"] for build in page["builds"]]
    while page["next"]:
        page = httpx.get(page["next"], headers={"authorization": f"Bearer {team.read}"}).json()
        seen += [build["id"] for build in page["builds"]]
    assert seen == builds[::-1]


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ({"branch": "topic"}, [3]),
        ({"outcome": "failed"}, [4]),
        ({"branch": "main", "outcome": "succeeded"}, [2, 1, 0]),
        ({"to": "2020-01-01"}, []),
        ({"from": "2020-01-01"}, [4, 3, 2, 1, 0]),
    ],
    ids=str,
)
def test_builds_are_filtered(
    get: Callable[..., httpx.Response],
    team: SimpleNamespace,
    builds: list[int],
    query: dict[str, str],
    numbers: list[int],
) -> None:
    found = get(f"repositories/{team.repository_id}/builds", params=query).json()["builds"]
    assert [build["id"] for build in found] == [builds[number] for number in numbers]


def test_figures_add_up(get: Callable[..., httpx.Response], team: SimpleNamespace, builds: list[int]) -> None:
    days = get(f"repositories/{team.repository_id}/days").json()
    overview = get("teams/acme/overview").json()
    assert days["figures"]["builds"] == sum(day["figures"]["builds"] for day in days["days"]) == 4
    assert overview["figures"] == days["figures"] == overview["repositories"][0]["figures"]
    assert overview["repositories"][0]["last_build_id"] == builds[-1]
    everything = get("teams/acme/overview", params={"branch_class": ["default", "branch"]}).json()
    assert everything["figures"]["builds"] == 5


def test_breaks_are_ranked(get: Callable[..., httpx.Response], team: SimpleNamespace, builds: list[int]) -> None:
    ranked = get(f"repositories/{team.repository_id}/breaks").json()["breaks"]
    assert ranked
    assert {"text", "causes", "lost_seconds"} <= set(ranked[0])


def test_a_repository_says_what_it_builds(
    get: Callable[..., httpx.Response], team: SimpleNamespace, builds: list[int]
) -> None:
    answer = get(f"repositories/{team.repository_id}").json()
    assert (answer["team"], answer["name"]) == ("acme", "acme/api")
    assert len(answer["images"]) == 1
    image = answer["images"][0]["id"]
    of_image = get(f"repositories/{team.repository_id}/builds", params={"image": image}).json()["builds"]
    assert len(of_image) == 5


def test_the_raw_log_is_sent_once(
    client: httpx.Client, team: SimpleNamespace, get: Callable[..., httpx.Response]
) -> None:
    log = LOGS[0].read_bytes()
    headers = {"authorization": f"Bearer {team.send}"}
    sent = client.post("/api/v1/uploads?repository=acme/api", content=log, headers=headers).json()["delivery"]
    ingest(sent["id"])
    build_id = get(f"deliveries/{sent['id']}").json()["builds"][0]["id"]
    address = f"builds/{build_id}/log"
    answer = get(address)
    assert answer.content == log
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    for tag in (answer.headers["etag"], f'"other", W/{answer.headers["etag"]}'):
        again = get(address, headers={"if-none-match": tag})
        assert (again.status_code, again.content) == (304, b"")


def test_a_build_whose_log_is_gone_says_so(get: Callable[..., httpx.Response], builds: list[int]) -> None:
    answer = get(f"builds/{builds[0]}/log")
    assert answer.status_code == 404
    assert "no longer kept" in answer.json()["detail"]


@pytest.mark.parametrize(
    "address",
    [
        "repositories/1/builds?before=x",
        "repositories/1/builds?before=99999999999999999999999-1",
        "repositories/1/builds?outcome=banana",
        "repositories/1/builds?limit=0",
        "repositories/1/builds?from=0001-01-01",
        "repositories/1/days?from=2026-02-02&to=2026-01-01",
        "repositories/1/days?from=1980-01-01",
        "teams/acme/overview?to=0001-01-01",
        "teams/acme/overview?branch_class=all",
        "repositories/one",
        "builds/x",
    ],
)
def test_a_question_that_makes_no_sense_is_a_problem(get: Callable[..., httpx.Response], address: str) -> None:
    answer = get(address)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"].endswith(".")


@pytest.mark.parametrize("address", [f"repositories/{9**30}", f"builds/{9**30}", "builds/-1", "repositories/0"])
def test_numbers_that_no_row_has_are_not_found(get: Callable[..., httpx.Response], address: str) -> None:
    assert get(address).status_code == 404


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("PUT", "/api/v1/uploads", 405)])
def test_what_the_framework_refuses_is_a_problem_too(client: httpx.Client, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert answer.status_code == answer.json()["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("is_announced", [True, False])
def test_a_form_of_many_megabytes_is_refused_unread(client: httpx.Client, is_announced: bool) -> None:
    body = b'{"name": "' + b"x" * (3 << 20)
    content = body if is_announced else iter([body])
    answer = client.post("/api/v1/teams/acme/tokens", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"].endswith("/api/v1/uploads.")


def test_the_document_describes_every_route_and_its_problems() -> None:
    app = create_app()
    described = app.openapi()
    validate(described)
    assert "HTTPValidationError" not in json.dumps(described)
    for path, operations in described["paths"].items():
        for operation in operations.values():
            assert operation["summary"], path
            assert operation["description"], path
            if path.startswith("/api/"):
                assert "401" in operation["responses"], path
    schema = described["components"]["schemas"]
    assert {"BuildDocument", "DeliveryAnswer", "ProblemDocument"} <= set(schema)


def test_deliveries_are_listed_by_state(
    get: Callable[..., httpx.Response], team: SimpleNamespace, builds: list[int]
) -> None:
    with transaction() as session:
        newest = session.get_one(Delivery, get("teams/acme/deliveries?limit=1").json()["deliveries"][0]["id"])
        newest.state = "failed"
    assert [each["id"] for each in get("teams/acme/deliveries?state=failed").json()["deliveries"]] == [newest.id]


# -- two builds side by side, and one instruction over time ------------------------------------------------------------


@pytest.fixture
def history(team: SimpleNamespace) -> list[int]:
    """A cold build, a warm one, and one whose second line was edited."""
    cold = make_build(make_step("COPY . ."), make_step("RUN make", duration_seconds=10.0))
    warm = make_build(make_step("COPY . .", cached=True), make_step("RUN make", cached=True))
    edited = make_build(make_step("COPY . .", cached=True), make_step("RUN make all", duration_seconds=14.0))
    start = datetime.now(UTC) - timedelta(days=3)
    with transaction() as session:
        repository = repositories.get_or_create_repository(session, team.id, "acme/api")
        return [
            save_build(session, repository, build, at=start + timedelta(hours=number), branch="main")[0]
            for number, build in enumerate((cold, warm, edited))
        ]


def test_two_builds_are_compared(get: Callable[..., httpx.Response], history: list[int]) -> None:
    cold, warm, edited = history
    answer = get(f"builds/{warm}/compare/{cold}").json()
    assert (answer["before"]["id"], answer["after"]["id"]) == (cold, warm)
    assert [(pair["change"], pair["after"]["text"]) for pair in answer["steps"]] == [
        ("cache", "COPY . ."),
        ("cache", "RUN make"),
    ]
    assert answer["steps"][1]["before"]["seconds"] == 10.0
    assert answer["steps"][1]["seconds_more"] is None
    assert {"name": "branch", "target": None, "is_same": True, "before": "main", "after": "main"} in answer["inputs"]
    assert (answer["changed_files"], answer["more_changed_files"]) == (None, 0)
    longer = get(f"builds/{edited}/compare/{cold}").json()["steps"][1]
    assert (longer["change"], longer["seconds_more"]) == ("reworded", 4.0)


def test_a_step_that_one_build_lacks_is_added_or_removed(
    get: Callable[..., httpx.Response], team: SimpleNamespace, history: list[int]
) -> None:
    with transaction() as session:
        repository = repositories.get_or_create_repository(session, team.id, "acme/other")
        longer = make_build(make_step("COPY . ."), make_step("RUN make"), make_step("RUN strip /app --all --verbose"))
        other = save_build(session, repository, longer)[0]
    added = get(f"builds/{other}/compare/{history[0]}").json()["steps"]
    assert [(pair["change"], pair["before"] is None) for pair in added][-1] == ("added", True)
    removed = get(f"builds/{history[0]}/compare/{other}").json()["steps"]
    assert [(pair["change"], pair["after"] is None) for pair in removed][-1] == ("removed", True)


def test_a_build_is_compared_with_the_last_good_one(get: Callable[..., httpx.Response], history: list[int]) -> None:
    assert get(f"builds/{history[2]}/compare").json()["before"]["id"] == history[1]
    assert get(f"builds/{history[0]}/compare").status_code == 404


def test_what_went_into_both_builds_is_told(get: Callable[..., httpx.Response], team: SimpleNamespace) -> None:
    with transaction() as session:
        repository = repositories.get_or_create_repository(session, team.id, "acme/toolbox")
        save_history(session, repository, last=datetime.now(UTC))
        found = repository.id
    newest = get(f"repositories/{found}/builds").json()["builds"]
    answer = get(f"builds/{newest[0]['id']}/compare/{newest[1]['id']}").json()
    inputs = {one["name"]: one for one in answer["inputs"]}
    assert not inputs["commit"]["is_same"]
    assert inputs["dockerfile"]["before"].startswith("FROM toolbox:1")
    assert [one["is_same"] for one in answer["inputs"]] == sorted(one["is_same"] for one in answer["inputs"])
    assert answer["changed_files"]
    assert answer["changed_files"][0].keys() == {"path", "status"}


def test_an_instruction_tells_its_history_page_by_page(
    get: Callable[..., httpx.Response], team: SimpleNamespace, history: list[int]
) -> None:
    page = get(f"builds/{history[1]}/steps/1", params={"limit": 2}).json()
    assert (page["keyword"], page["executions_timed"]) == ("RUN", 2)
    assert page["reference_seconds"] == pytest.approx(11.6)
    assert page["figures"] == {"hits": 1, "misses": 1, "breaks": 1, "median_seconds": 14.0}
    seen = page["executions"]
    page = httpx.get(page["next"], headers={"authorization": f"Bearer {team.read}"}).json()
    assert page["next"] is None
    seen += page["executions"]
    assert [one["build_id"] for one in seen] == history[::-1]
    assert [one["seconds"] for one in seen] == [14.0, None, 10.0]
    assert [one["cause"] for one in seen][1] is None


@pytest.mark.parametrize("position", ["0", "99", "-1", "9999999999"])
def test_a_step_that_is_no_instruction_has_no_history(
    get: Callable[..., httpx.Response], team: SimpleNamespace, position: str
) -> None:
    with transaction() as session:
        repository = repositories.get_or_create_repository(session, team.id, "acme/api")
        internal = make_build(make_step("[internal] load metadata", kind="internal", instruction=None))
        build = save_build(session, repository, internal)[0]
    answer = get(f"builds/{build}/steps/{position}")
    assert answer.status_code == 404
    assert answer.json()["detail"] == f"Build {build} has no instruction at step {position}."
