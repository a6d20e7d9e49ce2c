"""Webhook sources: made, listed, given new secrets and switched off by the owners of a team."""

import base64
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from cachescope.errors import InvalidValueError, NotFoundError, UnknownNameError
from integrations.ci import PROVIDERS
from service.auth.permissions import Viewer
from store.models.accounts import Team
from store.models.sources import Source
from store.queries import repositories, sources

FORMER_SECRET_DAYS = 7
"""How long a replaced secret still works, so that a sender can be changed without losing a webhook."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceForm:
    """What somebody asks for who connects a CI system."""

    name: str
    provider: str = "generic"
    repository_id: int | None = None


def list_providers() -> list[str]:
    """The CI systems that a source can be made for, by name: those whose events carry the log themselves."""
    return sorted(name for name, provider in PROVIDERS.items() if provider.carries_log)


def list_sources(session: Session, viewer: Viewer, team: Team) -> Sequence[Source]:
    """The sources of a team by name."""
    viewer.require(team.id, "member", "see the sources")
    return sources.list_sources(session, team.id)


def create_source(session: Session, viewer: Viewer, team: Team, form: SourceForm) -> tuple[Source, str]:
    """Make a source and return it with its secret, which is shown this once and stored encrypted."""
    viewer.require(team.id, "owner", "connect a CI system")
    name = " ".join(form.name.split())
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise InvalidValueError("name", "The name of a source must have 1 to 100 printable characters.")
    if form.provider not in list_providers():
        raise UnknownNameError("provider", form.provider[:40], list_providers())
    if form.repository_id is not None and repositories.load_repository(session, [team.id], form.repository_id) is None:
        raise InvalidValueError("repository_id", f"This team has no repository {form.repository_id}.")
    secret = make_secret()
    source = sources.create_source(
        session, team.id, name=name, provider=form.provider, secret=secret, repository_id=form.repository_id
    )
    return source, secret


def rotate_secret(session: Session, viewer: Viewer, team: Team, source_id: str) -> str:
    """Give a source a new secret and return it; the former one works for another week."""
    viewer.require(team.id, "owner", "change secrets")
    secret = make_secret()
    until = datetime.now(UTC) + timedelta(days=FORMER_SECRET_DAYS)
    sources.rotate_secret(session, _find(session, team, source_id), secret, until)
    return secret


def disable_source(session: Session, viewer: Viewer, team: Team, source_id: str) -> None:
    """Switch a source off: its webhooks are refused like those of a source that never was."""
    viewer.require(team.id, "owner", "switch a source off")
    sources.disable_source(session, _find(session, team, source_id), datetime.now(UTC))


def make_secret() -> str:
    """Make a secret in the form of Standard Webhooks: `whsec_` and 32 bytes in base64."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def _find(session: Session, team: Team, source_id: str) -> Source:
    source = sources.find_team_source(session, team.id, source_id)
    if source is None:
        raise NotFoundError("This team has no such source.")
    return source
