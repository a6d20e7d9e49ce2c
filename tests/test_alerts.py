"""A regression made for real: a builder, its logs over HTTP, and the messages at three receivers."""

import base64
import email
import email.policy
import json
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select
from standardwebhooks.webhooks import Webhook

from service.actions import channels as channel_actions
from service.actions.accounts import create_team
from service.actions.tokens import TokenForm, issue_token
from service.auth.permissions import Viewer
from store.database import reading, transaction
from store.models import AlertRule, Build, Incident, Message, Team
from tests import serving
from tests.engines import BASE, Engine, docker_engine
from tests.integrations.test_channels import mail, receiving
from workers.tasks.ingest import ingest
from workers.tasks.notifying import send_overdue

SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes....").decode()
INSTALL = "RUN sleep 3 && cat packages.txt > installed.txt"
GOOD = f"FROM {BASE}\nWORKDIR /app\nCOPY packages.txt .\n{INSTALL}\nCOPY . .\nRUN cat source.txt > built.txt\n"
BROKEN = f"FROM {BASE}\nWORKDIR /app\nCOPY . .\n{INSTALL}\nRUN cat source.txt > built.txt\n"
GOOD_BUILDS = 20


@pytest.fixture
def database_url(sqlite_template: Path, tmp_path: Path) -> str:
    """One database is enough: what differs on the other is the queries', which have tests of their own."""
    shutil.copy(sqlite_template, tmp_path / "cachescope.db")
    return f"sqlite:///{tmp_path / 'cachescope.db'}"


class Project:
    """A git repository that a real builder builds, each commit in its turn."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self.folder, self.engine = folder, engine
        self.number = 0
        folder.mkdir()
        self.git("init", "-q", "-b", "main")
        (folder / "packages.txt").write_text("left-pad 1.0\n")

    def git(self, *words: str) -> str:
        person = ["-c", "user.name=Ada Lovelace", "-c", "user.email=ada@example.org"]
        done = subprocess.run(["git", *person, *words], cwd=self.folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(self, dockerfile: str) -> str:
        """Change the source, as every commit does; returns the id of the commit."""
        self.number += 1
        (self.folder / "Dockerfile").write_text(dockerfile)
        (self.folder / "source.txt").write_text(f"{self.number}\n")
        self.git("add", "-A")
        self.git("commit", "-q", "-m", f"Change {self.number}")
        return self.git("rev-parse", "HEAD")

    def build(self) -> bytes:
        """Build it; returns the log."""
        words = ("build", "--progress=plain", "--network=none", "-t", "acme/api", ".")
        done = self.engine.run(*words, cwd=self.folder, env={"DOCKER_BUILDKIT": "1", "PATH": "/usr/bin:/bin"})
        assert done.returncode == 0, done.stderr.decode()
        return done.stderr + done.stdout


def add_channels(slack: str, hook: str) -> str:
    """Three channels that are told everything; returns an upload token."""
    with transaction() as session:
        team = create_team(session, "Acme")
        owner = Viewer(name="Ada", roles={team.id: "owner"})
        for kind, config in (
            ("slack", {"url": f"{slack}/services/T0/B0/secret-of-the-room"}),
            ("webhook", {"url": f"{hook}/hook", "secret": SECRET}),
            ("email", {"to": "builds@example.org"}),
        ):
            channel_actions.create_channel(session, owner, team, name=kind, kind=kind, config=config)
        for rule in session.scalars(select(AlertRule)):
            rule.min_seconds_per_day = 0.0
        return issue_token(session, session.get_one(Team, team.id), TokenForm(name="CI"))[1]


def send_messages() -> None:
    """Send what waits, pauses after failures left out."""
    with transaction() as session:
        for message in session.scalars(select(Message).where(Message.state == "new")):
            message.next_at -= timedelta(minutes=1)
    send_overdue()


@pytest.mark.slow
@pytest.mark.docker
def test_a_moved_copy_is_told_with_its_commit_and_resolves_with_the_fix(
    client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHESCOPE_ALERT_NETWORKS", "127.0.0.0/8")
    monkeypatch.setenv("CACHESCOPE_WEB_PUBLIC_URL", "https://cache.example.org")
    serving.forget_settings()
    with (
        docker_engine("overlay2") as engine,
        receiving() as (slack, room),
        receiving() as (hook, calls),
        mail() as (post, box),
    ):
        assert post.mail is not None
        monkeypatch.setenv("CACHESCOPE_ALERT_SMTP_HOST", post.mail.host)
        monkeypatch.setenv("CACHESCOPE_ALERT_SMTP_PORT", str(post.mail.port))
        monkeypatch.setenv("CACHESCOPE_ALERT_SMTP_SECURITY", "none")
        token = add_channels(slack, hook)
        project = Project(tmp_path / "project", engine)

        def build(dockerfile: str) -> str:
            commit = project.commit(dockerfile)
            sent = client.post(
                "/api/v1/uploads",
                params={"repository": "acme/api", "commit": commit, "branch": "main", "actor": "Ada", "runner": "ci-1"},
                content=project.build(),
                headers={"Authorization": f"Bearer {token}"},
            )
            assert sent.status_code == 202, sent.text
            ingest(sent.json()["delivery"]["id"])
            send_messages()
            return commit

        def incidents() -> list[Incident]:
            with reading() as session:
                return list(session.scalars(select(Incident)))

        for _ in range(GOOD_BUILDS):
            build(GOOD)
        assert incidents() == []
        culprit = build(BROKEN)
        for _ in range(5):  # within six builds
            if not incidents():
                build(BROKEN)
        (incident,) = incidents()
        assert incident.commit_id == culprit
        assert incident.instruction == "COPY . ."
        assert incident.victims[0]["text"] == INSTALL
        with reading() as session:
            assert session.get_one(Build, incident.since_build_id).commit_id == culprit
        assert (len(room), len(calls), len(box.letters)) == (1, 1, 1)

        repair = build(GOOD)
        after = [repair, *(build(GOOD) for _ in range(3))]
        (incident,) = incidents()
        assert incident.state == "resolved"
        assert incident.fixed_by in after

    letters = [email.message_from_bytes(letter, policy=email.policy.default) for letter in box.letters]
    told = [json.loads(body) for _, _, body in room]
    verified = [Webhook(SECRET).verify(body, headers) for _, headers, body in calls]
    assert (len(told), len(verified), len(letters)) == (2, 2, 2)
    assert [said["type"] for said in verified] == ["incident.opened", "incident.resolved"]
    assert verified[0]["data"]["commit"] == culprit
    assert verified[1]["data"]["fixed_by"] == incident.fixed_by
    for first in (told[0]["text"], letters[0]["Subject"], letters[0].get_body(("html",)).get_content()):
        assert f"since {culprit[:7]} by Ada" in first
        assert "COPY . ." in first
    for last in (told[1]["text"], letters[1]["Subject"]):
        assert f"fixed by {incident.fixed_by[:7]}" in last
    assert f"https://cache.example.org/alerts/{incident.id}" in letters[0].get_body(("plain",)).get_content()
