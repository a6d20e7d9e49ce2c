"""The whole circle: an event, the log, the build, the comment and the check; nothing is said twice, nothing is lost."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import func, select, update

from benchmarks import chaos
from service.actions import sources as actions
from service.actions.sources import SourceForm
from service.actions.tokens import TokenForm, issue_token
from service.auth.permissions import Viewer
from store.database import reading, transaction
from store.models import Build, Delivery, FeedbackTask, Source, Team
from tests.factories import make_team
from tests.forge.feedback import bodies, open_pull_request
from tests.forge.serving import forge
from tests.forge.state import Forge
from tests.serving import Installation, installed, wait_for
from tests.test_circle import AFTER, BEFORE, DOCKERFILE, Circle, connect, count, fill, log, run_of
from workers.feedback import get_settings
from workers.tasks.feedback import tell_forges

THIRD = "c" * 40


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty SQLite database: the circle on PostgreSQL is that of the parts, which have tests of their own."""
    template: Path = request.getfixturevalue("sqlite_template")
    (tmp_path / "cachescope.db").write_bytes(template.read_bytes())
    return f"sqlite:///{tmp_path / 'cachescope.db'}"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Forge]:
    monkeypatch.setenv("CACHESCOPE_WORKER_NETWORKS", "127.0.0.0/8")
    get_settings.cache_clear()
    with forge() as opened:
        fill(opened)
        project = opened.repositories["acme/api"]
        project.commits[THIRD] = {"Dockerfile": DOCKERFILE, "app.py": "3\n", "README.md": "b\n"}
        open_pull_request(project, 12, AFTER, branch="topic", base_commit=BEFORE)
        yield opened


def may_write(circle: Circle, **credentials: str) -> Circle:
    """Give the source credentials for writing."""
    with transaction() as session:
        team = session.scalars(select(Team)).one()
        owner = Viewer(name="Ada", roles={team.id: "owner"})
        actions.set_credentials(session, owner, team, circle.source_id, "write", credentials)
    return circle


@pytest.fixture(params=["github", "gitlab"])
def circle(request: pytest.FixtureRequest, made: Forge, client: httpx.Client) -> Circle:
    scheme = "token" if request.param == "gitlab" else ""
    return may_write(connect(made, client, request.param, scheme, token=made.token), token=made.write_token)


def tell() -> None:
    """Work off what is to be told, as if the pauses had passed."""
    with transaction() as session:
        session.execute(update(FeedbackTask).where(FeedbackTask.state == "new").values(next_at=datetime.now(UTC)))
    tell_forges()


def build_main_and_topic(circle: Circle) -> None:
    circle.finish(run_of(1, BEFORE, log(cached=False)))
    circle.finish(run_of(2, AFTER, log(cached=True), branch="topic", pull_request=12))
    tell()


def writes(circle: Circle) -> int:
    return sum(asked.method in {"POST", "PUT", "PATCH"} for asked in circle.forge.requests)


def test_an_event_ends_in_a_comment_with_the_cause_and_a_status(circle: Circle) -> None:
    build_main_and_topic(circle)
    (comment,) = bodies(circle.project, 12)
    assert "Cache broke at `COPY app.py .` (`2/3`): files it reads changed: `app.py`." in comment
    assert "Cost 9.6 s in 2 steps. Expected." in comment
    told = {each["sha"]: each for each in circle.project.written["statuses"]}
    assert set(told) == {BEFORE, AFTER}
    assert told[AFTER]["state"] == "success"


def test_the_next_push_edits_the_same_comment(circle: Circle) -> None:
    build_main_and_topic(circle)
    (before,) = circle.project.written["comments"]
    number, text = before["id"], before["body"]
    open_pull_request(circle.project, 12, THIRD, branch="topic", base_commit=BEFORE)
    circle.finish(run_of(3, THIRD, log(cached=True), branch="topic", pull_request=12))
    tell()
    (comment,) = circle.project.written["comments"]
    assert comment["id"] == number
    assert comment["body"] != text
    assert "`ccccccc…cccc`" in comment["body"]


def test_the_same_delivery_again_writes_nothing(circle: Circle) -> None:
    build_main_and_topic(circle)
    run = circle.project.runs[-1]
    before, rows = writes(circle), [count(table) for table in (Delivery, Build, FeedbackTask)]
    from tests.forge import github, gitlab

    module = github if circle.provider == "github" else gitlab
    again = circle.send(module.job_event(circle.project, run, run.jobs[0]), identity="delivery-2")
    assert again.json()["repeated"] is True
    circle.work()
    tell()
    assert [count(table) for table in (Delivery, Build, FeedbackTask)] == rows
    assert writes(circle) == before
    assert len(bodies(circle.project, 12)) == 1


def test_a_forge_that_is_down_for_ten_minutes_hears_of_everything_afterwards(circle: Circle) -> None:
    build_main_and_topic(circle)
    circle.forge.is_down = True
    open_pull_request(circle.project, 12, THIRD, branch="topic", base_commit=BEFORE)
    assert circle.finish(run_of(3, THIRD, log(cached=True), branch="topic", pull_request=12)).state == "new"
    for _ in range(10):
        circle.let_time_pass(60)
        tell()
    circle.forge.is_down = False
    circle.let_time_pass(700)
    assert circle.delivery().state == "done"
    circle.forge.is_down = True
    for _ in range(10):
        tell()
    circle.forge.is_down = False
    tell()
    (comment,) = bodies(circle.project, 12)
    assert "`ccccccc…cccc`" in comment
    assert {each["sha"] for each in circle.project.written["statuses"]} == {BEFORE, AFTER, THIRD}
    with reading() as session:
        assert set(session.scalars(select(FeedbackTask.state))) == {"done"}


def test_a_source_that_may_only_read_tells_nobody(made: Forge, client: httpx.Client) -> None:
    circle = connect(made, client, "github", token=made.token)
    build_main_and_topic(circle)
    assert count(FeedbackTask) == 0
    assert writes(circle) == 0


def test_an_app_writes_a_check_run_and_knows_its_comment(made: Forge, client: httpx.Client) -> None:
    key = rsa.generate_private_key(65537, 2048)
    made.app_public_key = key.public_key()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
    app = {"app_id": str(made.app_id), "private_key": pem}
    circle = may_write(connect(made, client, "github", **app), **app)
    build_main_and_topic(circle)
    checks = {check["head_sha"]: check for check in circle.project.written["checks"]}
    assert set(checks) == {BEFORE, AFTER}
    assert checks[AFTER]["conclusion"] == "success"
    assert "Cache broke at `COPY app.py .`" in checks[AFTER]["output"]["summary"]
    assert circle.project.written["comments"][0]["app"] == made.app_id
    open_pull_request(circle.project, 12, THIRD, branch="topic", base_commit=BEFORE)
    circle.finish(run_of(3, THIRD, log(cached=True), branch="topic", pull_request=12))
    tell()
    assert len(bodies(circle.project, 12)) == 1


def test_bitbucket_is_told_by_the_commit_alone_and_its_comment_follows(made: Forge, client: httpx.Client) -> None:
    circle = may_write(connect(made, client, "bitbucket", token=made.token), token=made.write_token)
    build_main_and_topic(circle)
    (before,) = list(circle.project.written["comments"])
    number, text = before["id"], before["body"]
    assert text.startswith("[//]: # (cachescope:")
    assert "Cache broke at `COPY app.py .`" in text
    assert "<" not in text
    told = {each["sha"]: each["state"] for each in circle.project.written["statuses"]}
    assert told == {BEFORE: "SUCCESSFUL", AFTER: "SUCCESSFUL"}
    open_pull_request(circle.project, 12, THIRD, branch="topic", base_commit=BEFORE)
    circle.finish(run_of(3, THIRD, log(cached=True), branch="topic"))
    tell()
    (comment,) = circle.project.written["comments"]
    assert comment["id"] == number
    assert comment["body"] != text


def test_a_pull_request_of_bitbucket_is_told_what_it_will_bust(made: Forge, client: httpx.Client) -> None:
    circle = may_write(connect(made, client, "bitbucket", token=made.token), token=made.write_token)
    circle.finish(run_of(1, BEFORE, log(cached=False)))
    with transaction() as session:
        session.execute(update(rows_of_images()).values(started_at=datetime.now(UTC)))
    event = {"pullrequest": {"id": 12, "state": "OPEN"}, "repository": {"full_name": "acme/api"}}
    circle.send(event, "pullrequest:created")
    assert circle.work().error == "Pull request 12 is told what it will do to the cache."
    tell()
    (comment,) = bodies(circle.project, 12)
    assert "`COPY app.py .` and 1 step below it: `app.py` changed; usually 9.6 s" in comment


def event_of_pull_request(circle: Circle) -> dict[str, object]:
    if circle.provider == "github":
        return {"action": "synchronize", "number": 12, "pull_request": {}, "repository": {"full_name": "acme/api"}}
    return {
        "object_kind": "merge_request",
        "project": {"path_with_namespace": "acme/api"},
        "object_attributes": {"iid": 12, "action": "open"},
    }


def test_a_pull_request_is_told_what_it_will_bust_before_its_build(circle: Circle) -> None:
    circle.finish(run_of(1, BEFORE, log(cached=False)))
    with transaction() as session:
        session.execute(update(rows_of_images()).values(started_at=datetime.now(UTC)))
    circle.send(event_of_pull_request(circle), kind="pull_request")
    delivery = circle.work()
    assert (delivery.state, delivery.error) == ("done", "Pull request 12 is told what it will do to the cache.")
    tell()
    (comment,) = bodies(circle.project, 12)
    assert "`COPY app.py .` and 1 step below it: `app.py` changed; usually 9.6 s" in comment


def rows_of_images() -> type:
    from store.models import BuildImage

    return BuildImage


def test_a_pull_request_of_a_repository_that_never_sent_a_build_is_left_aside(circle: Circle) -> None:
    circle.send(event_of_pull_request(circle), kind="pull_request")
    assert circle.work().state == "ignored"
    assert count(FeedbackTask) == 0


def test_nothing_that_is_told_holds_a_credential(circle: Circle) -> None:
    build_main_and_topic(circle)
    with reading() as session:
        source = session.scalars(select(Source)).one()
        assert session.scalar(select(func.count()).select_from(FeedbackTask)) == 2
    secrets = [circle.secret, circle.forge.token, circle.forge.write_token]
    assert source.write_credentials
    for asked in circle.forge.requests:
        assert not any(secret.encode() in asked.body for secret in secrets)


def test_real_processes_tell_of_an_uploaded_log(made: Forge, home: Path, database_url: str) -> None:
    open_pull_request(made.repositories["acme/api"], 12, AFTER, branch="topic", base_commit=BEFORE)
    with transaction() as session:
        team = make_team(session)
        token = issue_token(session, team, TokenForm(name="CI"))[1]
        owner = Viewer(name="Ada", roles={team.id: "owner"})
        form = SourceForm(name="GitHub", provider="github", base_url=made.url, networks="127.0.0.0/8")
        source, _ = actions.create_source(session, owner, team, form)
        actions.set_credentials(session, owner, team, source.id, "write", {"token": made.write_token})
    (home.parent / "q").mkdir()
    home.mkdir(exist_ok=True)
    settings = {"CACHESCOPE_WORKER_NETWORKS": "127.0.0.0/8", "CACHESCOPE_WEB_PUBLIC_URL": "https://cache.example.org"}
    installation = Installation(home, database_url, chaos.free_port(), settings=settings)
    with installed(installation), httpx.Client(base_url=installation.url, timeout=60) as client:
        for commit, branch, pull, cached in ((BEFORE, "main", "", False), (AFTER, "topic", "12", True)):
            about = {"repository": "acme/api", "commit": commit, "branch": branch, "ci": "github-actions"}
            answer = client.post(
                "/api/v1/uploads",
                params=about | ({"pull_request": pull} if pull else {}),
                content=log(cached=cached),
                headers={"authorization": f"Bearer {token}"},
            )
            assert answer.status_code == 202, answer.text
            wait_for(lambda commit=commit: commit in statuses(made), f"the status of {commit[:7]}")
        wait_for(lambda: bodies(made.repositories["acme/api"], 12), "the comment")
    (comment,) = bodies(made.repositories["acme/api"], 12)
    assert "Cache broke at `COPY app.py .`" in comment
    assert "https://cache.example.org/builds/2" in comment


def statuses(made: Forge) -> set[str]:
    return {each["sha"] for each in made.repositories["acme/api"].written.get("statuses", [])}
