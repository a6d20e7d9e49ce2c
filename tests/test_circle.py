"""The circle: an event comes in, the forge is asked for the log, a build with its causes comes out; nothing is lost."""

import gzip
import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import func, select, update

from service.actions import sources as actions
from service.actions.sources import SourceForm
from service.auth.permissions import Viewer
from store.database import reading, transaction
from store.models import Break, Build, Delivery, Repository, Source, StoredLog
from store.models.sources import Hook
from tests.factories import make_team
from tests.forge import bitbucket, forgejo, github, gitlab
from tests.forge.serving import forge
from tests.forge.state import CIRun, Forge, Job
from tests.forge.state import Repository as Project
from workers.reconciling import reconcile_next
from workers.tasks.ingest import ingest

BEFORE, AFTER = "a" * 40, "b" * 40
DOCKERFILE = "FROM busybox\nCOPY app.py .\nRUN make\n"
NO_BUILD = b"npm test\nok 1\nok 2\n"


def log(*, cached: bool) -> bytes:
    """A log of BuildKit as GitHub's runner writes it; the second build misses from the COPY on."""
    lines = [
        "#1 [internal] load build definition from Dockerfile",
        "#1 transferring dockerfile: 76B done",
        "#1 DONE 0.0s",
        "",
        "#2 [internal] load metadata for docker.io/library/busybox:latest",
        "#2 DONE 0.4s",
        "",
        "#3 [1/3] FROM docker.io/library/busybox:latest@sha256:" + "1" * 64,
        "#3 CACHED" if cached else "#3 DONE 1.0s",
        "",
        "#4 [2/3] COPY app.py .",
        "#4 DONE 0.1s",
        "",
        "#5 [3/3] RUN make",
        "#5 DONE 9.5s",
        "",
        "#6 exporting to image",
        "#6 exporting layers done",
        "#6 writing image sha256:" + "2" * 64 + " done",
        "#6 DONE 0.1s",
    ]
    return "".join(f"2026-11-20T10:00:{number:02d}.0000000Z {line}\n" for number, line in enumerate(lines)).encode()


@dataclass
class Circle:
    """A forge, a source that is connected to it, and the service."""

    forge: Forge
    client: httpx.Client
    source_id: str
    secret: str
    provider: str = "github"
    sent: int = 0
    deliveries: list[str] = field(default_factory=list)

    @property
    def project(self) -> Project:
        return self.forge.repositories["acme/api"]

    def send(self, event: dict[str, Any], kind: str = "workflow_job", identity: str | None = None) -> httpx.Response:
        """Send a webhook as the forge does."""
        body = json.dumps(event).encode()
        self.sent += 1
        identity = identity or f"delivery-{self.sent}"
        headers = {"content-type": "application/json"}
        if self.provider == "github":
            signature = hmac.new(self.secret.encode(), body, hashlib.sha256).hexdigest()
            headers |= {"x-github-event": kind, "x-github-delivery": identity}
            headers["x-hub-signature-256"] = f"sha256={signature}"
        elif self.provider in {"gitea", "forgejo"}:
            headers |= {f"x-{self.provider}-event": kind, f"x-{self.provider}-delivery": identity}
            headers[f"x-{self.provider}-signature"] = hmac.new(self.secret.encode(), body, hashlib.sha256).hexdigest()
        elif self.provider == "bitbucket":
            headers |= {"x-event-key": kind, "x-request-uuid": identity}
            headers["x-hub-signature"] = f"sha256={hmac.new(self.secret.encode(), body, hashlib.sha256).hexdigest()}"
        else:
            headers |= {"x-gitlab-event": "Job Hook", "x-gitlab-token": self.secret, "idempotency-key": identity}
        answer = self.client.post(f"/hooks/{self.source_id}", content=body, headers=headers)
        assert answer.status_code == 202, answer.text
        self.deliveries.append(answer.json()["delivery"])
        return answer

    def finish(self, run: CIRun) -> Delivery:
        """Let a run end: its jobs are told, and what was told is worked off."""
        if run not in self.project.runs:
            self.project.runs.append(run)
        if self.provider == "forgejo":  # tells of runs alone
            self.send(forgejo.run_event(self.project, run), "action_run_success")
            return self.work()
        if self.provider == "bitbucket":  # tells of statuses alone
            self.send(bitbucket.status_event(self.project, run), "repo:commit_status_updated")
            return self.work()
        module = gitlab if self.provider == "gitlab" else github
        for job in run.jobs:
            self.send(module.job_event(self.project, run, job))
        return self.work()

    def work(self) -> Delivery:
        """Work off what is due."""
        ingest(*self.deliveries[-1:])
        return self.delivery()

    def delivery(self, number: int = -1) -> Delivery:
        with reading() as session:
            return session.get_one(Delivery, self.deliveries[number])

    def let_time_pass(self, seconds: float) -> None:
        """Make all that waits due so many seconds earlier, as if they had passed."""
        shift = timedelta(seconds=seconds)
        with transaction() as session:
            for delivery in session.scalars(select(Delivery).where(Delivery.state == "new")):
                delivery.next_at -= shift
                delivery.received_at -= shift
            for source in session.scalars(select(Source)):
                source.resume_at = source.resume_at and source.resume_at - shift
                source.asked_at = source.asked_at and source.asked_at - shift
        ingest()


def run_of(number: int, commit: str, content: bytes | None, **values: Any) -> CIRun:
    job = Job(number * 10, log=content, **{k: values.pop(k) for k in ("misses", "conclusion") if k in values})
    return CIRun(number, commit, jobs=[job], **values)


def count(table: Any) -> int:
    with reading() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def fill(made: Forge) -> None:
    made.repositories["acme/api"] = Project(
        "acme/api",
        id=12,
        commits={
            BEFORE: {"Dockerfile": DOCKERFILE, "app.py": "1\n", "README.md": "a\n"},
            AFTER: {"Dockerfile": DOCKERFILE, "app.py": "2\n", "README.md": "b\n"},
        },
    )


def connect(made: Forge, client: httpx.Client, provider: str, scheme: str = "", **credentials: str) -> Circle:
    with transaction() as session:
        team = make_team(session)
        owner = Viewer(name="Ada", roles={team.id: "owner"})
        form = SourceForm(name="CI", provider=provider, scheme=scheme, base_url=made.url, networks="127.0.0.0/8")
        source, secret = actions.create_source(session, owner, team, form)
        if credentials:
            actions.set_credentials(session, owner, team, source.id, "read", credentials)
    return Circle(made, client, source.id, secret, provider)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Forge]:
    """A forge with one repository."""
    monkeypatch.setenv("CACHESCOPE_WORKER_NETWORKS", "127.0.0.0/8")
    with forge() as opened:
        fill(opened)
        yield opened


@pytest.fixture
def circle(made: Forge, client: httpx.Client) -> Circle:
    """A GitHub source that reads with a token."""
    return connect(made, client, "github", token=made.token)


def test_an_event_becomes_a_build_with_its_cause_and_the_files_behind_it(circle: Circle) -> None:
    assert circle.finish(run_of(1, BEFORE, log(cached=False))).state == "done"
    delivery = circle.finish(run_of(2, AFTER, log(cached=True)))
    assert (delivery.state, delivery.error) == ("done", None)
    with reading() as session:
        builds = session.scalars(select(Build).order_by(Build.id)).all()
        assert [(build.commit_id, build.branch, build.outcome) for build in builds] == [
            (BEFORE, "main", "succeeded"),
            (AFTER, "main", "succeeded"),
        ]
        found = session.scalars(select(Break).where(Break.build_id == builds[1].id)).all()
        assert [(each.cause, each.files) for each in found] == [("files_changed", ["app.py"])]
        assert session.scalars(select(Repository)).one().default_branch == "main"


def test_no_credentials_reach_the_store_of_logs(circle: Circle) -> None:
    circle.finish(run_of(1, BEFORE, log(cached=False)))
    assert [asked.status for asked in circle.forge.blob_requests] == [200]
    assert "authorization" not in circle.forge.blob_requests[0].headers
    assert all(asked.headers["authorization"] == f"Bearer {circle.forge.token}" for asked in circle.forge.requests)


def test_the_same_delivery_again_changes_nothing(circle: Circle) -> None:
    run = run_of(1, BEFORE, log(cached=False))
    circle.project.runs.append(run)
    event = github.job_event(circle.project, run, run.jobs[0])
    circle.send(event, identity="one")
    circle.work()
    asked, rows = len(circle.forge.requests), [count(table) for table in (Delivery, Hook, Build, Break, StoredLog)]
    assert circle.send(event, identity="one").json()["repeated"] is True
    circle.work()
    assert [count(table) for table in (Delivery, Hook, Build, Break, StoredLog)] == rows
    assert len(circle.forge.requests) == asked


def test_the_same_job_under_another_delivery_is_read_once(circle: Circle) -> None:
    run = run_of(1, BEFORE, log(cached=False))
    first = circle.finish(run)
    again = circle.finish(run)
    assert (first.state, again.state) == ("done", "ignored")
    assert f"Delivery {first.id} is about the same job" in again.error
    assert count(Build) == 1


def test_an_event_that_tells_of_no_log_is_ignored_at_the_door(circle: Circle) -> None:
    circle.send({"zen": "Keep it simple.", "hook_id": 1}, kind="ping")
    delivery = circle.delivery()
    assert (delivery.state, delivery.attempts) == ("ignored", 0)
    assert "nothing was built" in delivery.error
    assert circle.forge.requests == []


def test_a_log_that_is_not_there_yet_is_asked_for_again(circle: Circle) -> None:
    delivery = circle.finish(run_of(1, BEFORE, log(cached=False), misses=2, in_zip=False))
    assert (delivery.state, delivery.error) == ("new", "Its log is not there yet.")
    circle.let_time_pass(10)
    assert circle.delivery().state == "new"
    circle.let_time_pass(30)
    assert circle.delivery().state == "done"
    assert count(Build) == 1


def test_a_log_that_never_comes_is_told(circle: Circle) -> None:
    circle.finish(run_of(1, BEFORE, None, in_zip=False))
    for _ in range(8):
        circle.let_time_pass(2000)
    delivery = circle.delivery()
    assert delivery.state == "failed"
    assert "again and again" in delivery.error


def test_a_log_that_only_the_archive_of_its_run_holds_is_taken_from_there(circle: Circle) -> None:
    run = run_of(1, BEFORE, log(cached=False), misses=99)
    run.jobs.append(Job(77, "lint", log=NO_BUILD))
    circle.project.runs.append(run)
    circle.send(github.job_event(circle.project, run, run.jobs[0]))
    circle.work()
    for _ in range(3):
        circle.let_time_pass(200)
    assert circle.delivery().state == "done"
    assert count(Build) == 1


def test_a_job_that_built_no_image_leaves_no_build_and_is_remembered(circle: Circle) -> None:
    run = run_of(1, BEFORE, NO_BUILD)
    delivery = circle.finish(run)
    assert (delivery.state, delivery.log_digest) == ("done", None)
    assert "no image build" in delivery.error
    assert count(Build) == 0
    asked = len(circle.forge.requests)
    assert circle.finish(run).state == "ignored"
    assert len(circle.forge.requests) == asked


def test_a_forge_that_is_down_for_ten_minutes_costs_nothing(circle: Circle) -> None:
    circle.forge.is_down = True
    runs = [run_of(number, BEFORE, log(cached=False)) for number in range(1, 6)]
    for run in runs:
        assert circle.finish(run).state == "new"
    for _ in range(10):
        circle.let_time_pass(60)
    assert {circle.delivery(number).state for number in range(5)} == {"new"}
    with reading() as session:
        assert "503" in session.scalars(select(Source.problem)).one()
    circle.forge.is_down = False
    circle.let_time_pass(700)
    assert [circle.delivery(number).state for number in range(5)] == ["done"] * 5
    assert count(Build) == 5
    with reading() as session:
        assert session.scalars(select(Source.problem)).one() is None


def test_a_rate_limit_that_is_used_up_is_respected_by_all_of_the_source(circle: Circle) -> None:
    circle.forge.limit = 0
    circle.finish(run_of(1, BEFORE, log(cached=False)))
    asked = len(circle.forge.requests)
    circle.finish(run_of(2, BEFORE, log(cached=False)))
    circle.let_time_pass(10)
    assert len(circle.forge.requests) == asked, "nobody asks before the limit begins anew"
    circle.forge.limit = None
    circle.let_time_pass(120)
    assert [circle.delivery(number).state for number in (0, 1)] == ["done", "done"]


def test_credentials_that_do_not_hold_are_told_and_tried_again(circle: Circle) -> None:
    circle.forge.token = "another one by now"
    assert circle.finish(run_of(1, BEFORE, log(cached=False))).state == "new"
    with reading() as session:
        assert "refuses our credentials" in session.scalars(select(Source.problem)).one()
    circle.forge.token = "forge-token-for-reading"
    circle.let_time_pass(60)
    assert circle.delivery().state == "done"


def test_without_credentials_the_event_says_what_is_missing(made: Forge, client: httpx.Client) -> None:
    circle = connect(made, client, "github")
    delivery = circle.finish(run_of(1, BEFORE, log(cached=False)))
    assert delivery.state == "ignored"
    assert "give this source a token" in delivery.error
    assert made.requests == []


def test_a_network_that_the_server_does_not_allow_is_not_reached(
    made: Forge, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workers.settings import get_settings

    monkeypatch.setattr(get_settings(), "networks", "10.0.0.0/8")
    circle = connect(made, client, "github", token=made.token)
    delivery = circle.finish(run_of(1, BEFORE, log(cached=False)))
    assert delivery.state == "failed"
    assert "not on the public internet" in delivery.error
    assert made.requests == []


@pytest.mark.parametrize(
    "target", ["http://169.254.169.254/latest/meta-data/", "http://[::1]:1/", "file:///etc/passwd"]
)
def test_a_log_that_redirects_to_where_it_must_not_is_not_fetched(circle: Circle, target: str) -> None:
    circle.forge.redirect_to = target
    delivery = circle.finish(run_of(1, BEFORE, log(cached=False)))
    assert delivery.state == "failed"
    assert count(Build) == count(StoredLog) == 0


def test_a_pull_request_is_asked_for_as_no_job_names_it(circle: Circle) -> None:
    circle.finish(run_of(1, AFTER, log(cached=False), branch="topic", pull_request=7))
    with reading() as session:
        build = session.scalars(select(Build)).one()
        assert (build.branch, build.branch_class) == ("topic", "pull_request")
    assert circle.delivery().parameters["pull_request"] == 7
    assert circle.delivery().parameters["actor"] == "ada"


def test_the_main_branch_of_a_fork_is_no_branch_of_ours(circle: Circle) -> None:
    circle.finish(run_of(1, BEFORE, log(cached=False)))
    circle.finish(run_of(2, AFTER, log(cached=True), fork="mallory"))
    with reading() as session:
        builds = session.scalars(select(Build).order_by(Build.id)).all()
        assert [(build.branch, build.branch_class) for build in builds] == [
            ("main", "default"),
            ("mallory:main", "branch"),
        ]


def test_a_list_of_changed_files_that_is_cut_counts_as_unknown(circle: Circle) -> None:
    circle.project.commits[AFTER] |= {f"file{number}": "x" for number in range(400)}
    circle.finish(run_of(1, BEFORE, log(cached=False)))
    circle.finish(run_of(2, AFTER, log(cached=True)))
    with reading() as session:
        causes = session.scalars(select(Break.files).order_by(Break.build_id.desc())).all()
    assert not causes[0]


def test_a_github_app_asks_with_a_token_of_the_installation(made: Forge, client: httpx.Client) -> None:
    key = rsa.generate_private_key(65537, 2048)
    made.app_public_key = key.public_key()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
    circle = connect(made, client, "github", app_id=str(made.app_id), private_key=pem)
    for number in (1, 2):
        assert circle.finish(run_of(number, BEFORE, log(cached=False))).state == "done"
    asked = made.counted()
    assert asked[f"POST /app/installations/{made.installation_id}/access_tokens"] == 1, "it is kept for an hour"
    assert {each.headers["authorization"] for each in made.requests if each.path.startswith("/repos/acme/api/a")} == {
        f"Bearer {token}" for token in made.installation_tokens
    }


def test_gitlab_goes_the_same_way(made: Forge, client: httpx.Client) -> None:
    circle = connect(made, client, "gitlab", scheme="token", token=made.token)
    circle.finish(run_of(1, BEFORE, log(cached=False)))
    delivery = circle.finish(run_of(2, AFTER, log(cached=True), misses=1))
    assert delivery.state == "new", "the trace was empty"
    circle.let_time_pass(10)
    assert circle.delivery().state == "done"
    with reading() as session:
        found = session.scalars(select(Break).order_by(Break.build_id.desc())).first()
        assert (found.cause, found.files) == ("files_changed", ["app.py"])
    assert all(asked.headers.get("private-token") == made.token for asked in made.requests)


def test_no_secret_of_a_source_lies_readable_in_the_database(circle: Circle) -> None:
    with reading() as session:
        row = session.execute(Source.__table__.select()).mappings().one()
        kept = session.connection().exec_driver_sql("SELECT secrets, read_credentials FROM sources").one()
    assert row["id"] == circle.source_id
    assert not any(secret in text for text in kept for secret in (circle.secret, circle.forge.token))


def test_what_was_told_about_a_source_that_is_deleted_goes_with_it(circle: Circle) -> None:
    circle.finish(run_of(1, BEFORE, log(cached=False)))
    with transaction() as session:
        session.delete(session.get_one(Source, circle.source_id))
    assert (count(Hook), count(Build), count(Delivery)) == (0, 1, 1)


def test_an_old_body_is_forgotten_and_the_event_can_still_be_read_again(circle: Circle) -> None:
    from store.queries import hooks

    circle.finish(run_of(1, BEFORE, log(cached=False)))
    with transaction() as session:
        assert hooks.forget_bodies(session, datetime.now(UTC) + timedelta(days=1)) == 1
        session.execute(update(Delivery).values(state="new", attempts=0, log_digest=None))
    assert circle.work().state == "done"


def ended_now(run: CIRun) -> CIRun:
    for job in run.jobs:
        job.started_at = job.completed_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return run


@pytest.mark.parametrize("provider", ["github", "gitea", "forgejo"])
def test_runs_of_which_no_webhook_came_are_found_by_asking(made: Forge, client: httpx.Client, provider: str) -> None:
    made.forgejo = 16 if provider == "forgejo" else None
    circle = connect(made, client, provider, token=made.token)
    assert circle.finish(ended_now(run_of(1, BEFORE, log(cached=False)))).state == "done"
    circle.project.runs += [ended_now(run_of(number, AFTER, log(cached=True))) for number in range(2, 5)]
    circle.project.runs.append(ended_now(run_of(5, AFTER, log(cached=True), conclusion=None)))
    circle.project.runs[-1].conclusion = None
    assert reconcile_next(grace=timedelta(0)) == circle.source_id
    ingest()
    assert count(Build) == 4, "the run that has not ended is left alone"
    with reading() as session:
        assert session.scalars(select(Hook.is_found).order_by(Hook.is_found)).all() == [False, True, True, True]
    circle.let_time_pass(400)
    assert reconcile_next(grace=timedelta(0)) == circle.source_id
    ingest()
    assert count(Build) == 4, "nothing is found twice"
    circle.finish(circle.project.runs[1])
    assert circle.delivery().state == "ignored", "a webhook that comes late after all changes nothing"


def test_a_source_that_cannot_be_asked_is_asked_again_for_the_same_time(circle: Circle) -> None:
    circle.finish(ended_now(run_of(1, BEFORE, log(cached=False))))
    circle.forge.is_down = True
    circle.project.runs.append(ended_now(run_of(2, AFTER, log(cached=True))))
    assert reconcile_next(grace=timedelta(0)) == circle.source_id
    assert reconcile_next() is None, "not before five minutes have passed"
    circle.forge.is_down = False
    circle.let_time_pass(400)
    assert reconcile_next(grace=timedelta(0)) == circle.source_id
    ingest()
    assert count(Build) == 2


def test_gitea_goes_the_same_way(made: Forge, client: httpx.Client) -> None:
    circle = connect(made, client, "gitea", token=made.token)
    circle.finish(run_of(1, BEFORE, log(cached=False)))
    assert circle.finish(run_of(2, AFTER, log(cached=True), branch="topic", pull_request=7)).state == "done"
    with reading() as session:
        build = session.scalars(select(Build).order_by(Build.id.desc())).first()
        found = session.scalars(select(Break).where(Break.build_id == build.id)).all()
    assert build.branch_class == "pull_request"
    assert [(each.cause, each.files) for each in found] == [("files_changed", ["app.py"])]
    assert {asked.headers["authorization"] for asked in made.requests} == {f"token {made.token}"}


def test_forgejo_goes_the_same_way_though_it_tells_of_runs_alone(made: Forge, client: httpx.Client) -> None:
    made.forgejo = 16
    circle = connect(made, client, "forgejo", token=made.token)
    circle.finish(run_of(1, BEFORE, log(cached=False)))
    run = run_of(2, AFTER, log(cached=True), branch="topic", pull_request=7)
    run.jobs.insert(0, Job(25, name="lint", log=b"no image here\n"))
    run.jobs.append(Job(26, name="deploy", log=None, conclusion="skipped"))
    assert circle.finish(run).state == "done"
    with reading() as session:
        build = session.scalars(select(Build).order_by(Build.id.desc())).first()
        found = session.scalars(select(Break).where(Break.build_id == build.id)).all()
        assert build.run_id is not None
    assert count(Build) == 2
    assert build.branch_class == "pull_request"
    assert [(each.cause, each.files) for each in found] == [("files_changed", ["app.py"])]
    assert {asked.headers["authorization"] for asked in made.requests} == {f"token {made.token}"}
    assert not any(asked.path.endswith("/jobs/26/logs") for asked in made.requests)


def test_a_forgejo_before_16_says_that_it_hands_out_no_logs(made: Forge, client: httpx.Client) -> None:
    made.forgejo = 15
    circle = connect(made, client, "forgejo", token=made.token)
    delivery = circle.finish(run_of(1, BEFORE, log(cached=False)))
    assert delivery.state != "new", "it is not asked again"
    assert "that begins with Forgejo 16" in delivery.error
    assert "cachescope push" in delivery.error


def test_a_run_of_forgejo_waits_for_the_logs_of_all_its_jobs(made: Forge, client: httpx.Client) -> None:
    made.forgejo = 16
    circle = connect(made, client, "forgejo", token=made.token)
    run = run_of(1, BEFORE, log(cached=False))
    run.jobs.append(Job(11, name="late", log=None))
    assert circle.finish(run).state == "new"
    run.jobs[1].log = b"here it is\n"
    circle.let_time_pass(60)
    assert circle.delivery().state == "done"


def test_a_run_of_forgejo_does_without_the_log_of_a_job_that_stays_away(made: Forge, client: httpx.Client) -> None:
    made.forgejo = 16
    circle = connect(made, client, "forgejo", token=made.token)
    run = run_of(1, BEFORE, log(cached=False))
    run.jobs.append(Job(11, name="lost", log=None))
    circle.finish(run)
    for _ in range(2):
        circle.let_time_pass(600)
    assert circle.delivery().state == "done"
    assert count(Build) == 1


def test_a_log_that_is_larger_than_a_log_may_be_is_given_up_and_held_nowhere(
    circle: Circle, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workers import hooks

    monkeypatch.setattr(hooks, "CAP_BYTES", 1 << 20)
    delivery = circle.finish(run_of(1, BEFORE, b"x" * 1023 + b"\n" + b"y" * (1 << 20)))
    assert delivery.state == "failed"
    assert "larger than 1 MiB" in delivery.error
    assert count(StoredLog) == 0


def test_a_packed_log_that_swells_is_given_up(circle: Circle) -> None:
    delivery = circle.finish(run_of(1, BEFORE, gzip.compress(b"log line\n" * (8 << 20))))
    assert delivery.state == "failed"
    assert "200 times" in delivery.error
    assert count(StoredLog) == 0
