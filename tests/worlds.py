"""An installation with one of everything: builds, alerts, sizes, advice, channels, sources, people of each role."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fastapi import Request
from sqlalchemy import select
from sqlalchemy.orm import Session

from cachescope.recommendations.base import Recommendation
from cachescope.surroundings import FileMark, Surroundings
from integrations.images import IMAGES
from integrations.images.base import Options
from service.actions import sources
from service.actions.tokens import TokenForm, issue_token
from service.auth.forms import form_token
from service.auth.permissions import Viewer
from service.auth.sessions import SESSION_COOKIE, open_session
from service.dependencies import FORM_HEADER
from service.settings import ServiceSettings
from store.database import transaction
from store.logs import open_logs, write_log
from store.models import (
    AlertRule,
    Build,
    Channel,
    Image,
    ImageSize,
    Incident,
    Membership,
    Message,
    Repository,
    SizedImage,
    StoredRecommendation,
    Team,
    Token,
)
from store.queries import accounts, evidence, feedback, image_sizes, logs, recommendations, teams
from store.queries.image_sizes import Release
from store.queries.recommendations import Proposal
from tests.factories import make_delivery, make_repository, make_team
from tests.workers.test_detecting import make_channel, play, story, take
from workers.schedule import roll_up_dirty_days
from workers.tasks.ingest import ingest

FILES = Path(__file__).parent / "integrations/images/files"
LOG = Path(__file__).parent / "cachescope/formats/buildkit_plain"
ROLES = ("viewer", "member", "owner")
BADGE = "b" * 32
PATCH = "--- a/Dockerfile\n+++ b/Dockerfile\n@@ -1,2 +1,2 @@\n FROM a\n-COPY . .\n+COPY src src\n"

Words = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Credentials:
    """How somebody proves who they are, and that a request came from one of our pages."""

    headers: dict[str, str] = field(default_factory=dict)
    cookies: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class World:
    """What exists, and who asks."""

    ids: dict[str, list[Any]]
    """By the name of the parameter in addresses."""
    credentials: dict[str, Credentials]


def plain(kind: str) -> str:
    """Names that nobody has anything against."""
    return {"repository": "acme/api", "job": "build", "dockerfile": "FROM node:20\nCOPY . .\n"}.get(
        kind, f"some {kind}"
    )


def make_world(words: Words = plain, log: bytes | None = None) -> World:
    """Fill the database of the settings; `words` gives every text that somebody outside chooses."""
    now = datetime.now(UTC).replace(microsecond=0)
    with transaction() as session:
        team = make_team(session)
        team.name = words("team")
        repository = make_repository(session, words("repository"), team)
        rule = make_channel(session, team.id)
        session.get_one(Channel, rule.channel_id).name = words("channel")
        play_stories(session, repository, words, now)
        kept = send(session, repository, words, log or min(LOG.glob("*.log")).read_bytes(), now)
        feedback.save_policy(session, repository.id, now, badge_token=BADGE)
        team_id, repository_id = team.id, repository.id
    ingest(kept)
    roll_up_dirty_days()
    with transaction() as session:
        repository = session.get_one(Repository, repository_id)
        for image in session.scalars(select(Image)):
            image.name = words("image")
        advise(session, words, now)
        measure(session, repository, words, now)
        team = session.get_one(Team, team_id)
        credentials = add_people(session, team, words)
        owner = Viewer(name="Ada", roles={team.id: "owner"})
        source, _ = sources.create_source(
            session, owner, team, sources.SourceForm(name=words("source"), provider="generic")
        )
        session.flush()
        return World(find_ids(session, team, kept, source.id), credentials)


def play_stories(session: Session, repository: Repository, words: Words, now: datetime) -> None:
    """Save the builds of a story that opens an incident, and one of another branch."""
    facts = {"actor": words("actor"), "runner": words("runner"), "job": words("job"), "url": words("url")}
    told = [
        replace(
            build,
            steps=tuple(replace(step, text=f"{step.text} {words('instruction')}") for step in build.steps),
            runner=words("runner"),
        )
        for build in story(fixed=False, began=now - timedelta(hours=8))
    ]
    facts.pop("runner")
    play(session, repository, told, **facts)
    take(session, repository, replace(told[-1], branch=words("branch"), commit="e" * 40), **facts)


def send(session: Session, repository: Repository, words: Words, content: bytes, now: datetime) -> str:
    """Keep a log and what belongs to it as an upload does; returns its delivery."""
    written = write_log(open_logs(), [content])
    logs.save_log(session, written)
    delivery = make_delivery(
        session,
        repository,
        received_at=now,
        next_at=now + timedelta(hours=1),
        log_digest=written.digest,
        log_bytes=len(content),
        parameters={
            "repository": repository.name,
            "branch": words("branch"),
            "job": words("job"),
            "image": words("image"),
        },
    )
    known = Surroundings(
        dockerfiles={"": words("dockerfile")},
        dockerfile_path=words("path"),
        dockerignore=words("path"),
        command=("docker", "build", words("path")),
        files={words("path"): FileMark("0", 1)},
    )
    evidence.save_evidence(session, delivery.id, repository.id, known)
    return delivery.id


def advise(session: Session, words: Words, now: datetime) -> None:
    """Store what an adviser would have said."""
    said = Recommendation(
        title=words("title"),
        why=words("why"),
        evidence=(words("evidence"),),
        patch=PATCH + "+" + words("patch"),
        order_safe=False,
        saving_seconds_per_build=60.0,
        interval=(30.0, 90.0),
    )
    image = session.scalars(select(Image).limit(1)).one()
    proposal = Proposal(name="copy", recommendation=said)
    recommendations.save_proposals(session, image, [proposal], now=now, builds=10, builds_per_week=7.0)


def measure(session: Session, repository: Repository, words: Words, now: datetime) -> None:
    """Follow an image and keep four of its versions."""
    name = words("reference")
    sized = image_sizes.get_or_create_sized_image(session, repository, name)
    sized.from_registry, sized.budget_bytes = True, 150_000_000
    for number in range(1, 5):
        measured = IMAGES["files"].measure(str(FILES / f"v{number:02d}"), Options()).image
        platforms = tuple(
            replace(
                platform,
                layers=tuple(replace(layer, instruction=f"RUN {words('instruction')}") for layer in platform.layers),
            )
            for platform in measured.platforms
        )
        release = Release(seen_at=now - timedelta(days=5 - number), tag=words("tag"), branch="main")
        image_sizes.save_measured(
            session, sized, replace(measured, reference=name, platforms=platforms), way="registry", release=release
        )


def add_people(session: Session, team: Team, words: Words) -> dict[str, Credentials]:
    """Add a person of each role who is signed in, and a token of each kind."""
    found = {"nobody": Credentials()}
    for role in (*ROLES, "administrator"):
        user = accounts.create_user(session, email=f"{role}@example.org", name=words("person"), password_hash=None)
        if role in ROLES:
            teams.add_member(session, team.id, user.id, role)
        else:
            user.is_administrator = True
        cookie = open_session(
            session, user.id, Request({"type": "http", "client": None, "headers": []}), ServiceSettings()
        )
        own = Request({"type": "http", "headers": [(b"cookie", f"{SESSION_COOKIE}={cookie}".encode())]})
        found[role] = Credentials({FORM_HEADER: form_token(own)}, {SESSION_COOKIE: cookie})
    for scope in ("upload", "read"):
        _, text = issue_token(session, team, TokenForm(name=words("token"), scope=scope))
        found[f"{scope} token"] = Credentials({"authorization": f"Bearer {text}"})
    return found


def find_ids(session: Session, team: Team, delivery_id: str, source_id: str) -> dict[str, list[Any]]:
    """What parameters of addresses can be."""

    def all_of(column: Any) -> list[Any]:
        return list(session.scalars(select(column).order_by(column)))

    builds = all_of(Build.id)
    return {
        "slug": [team.slug],
        "repository_id": all_of(Repository.id),
        "build_id": [builds[-1], builds[0]],
        "other_id": [builds[1]],
        "position": [0, 1],
        "delivery_id": [delivery_id],
        "token_id": all_of(Token.id),
        "source_id": [source_id],
        "image_id": all_of(SizedImage.id),
        "version_id": all_of(ImageSize.id),
        "incident_id": all_of(Incident.id),
        "channel_id": all_of(Message.channel_id) or [""],
        "rule_id": all_of(AlertRule.id),
        "message_id": all_of(Message.id),
        "recommendation_id": all_of(StoredRecommendation.id),
        "user_id": all_of(Membership.user_id),
        "token": [BADGE],
    }
