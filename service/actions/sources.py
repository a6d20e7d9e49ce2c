"""Webhook sources: made, listed, given secrets and credentials, and switched off by the owners of a team."""

import base64
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson
from sqlalchemy.orm import Session

from cachescope.errors import InvalidValueError, NotFoundError, UnknownNameError
from cachescope.redaction import redact_text
from integrations.ci import PROVIDERS
from integrations.ci._app_tokens import read_private_key
from integrations.http import read_base_url, read_networks
from service.actions.webhooks import known_sources
from service.auditing import note
from service.auth.permissions import Viewer
from store.database import after_commit
from store.models.accounts import Team
from store.models.deliveries import Delivery
from store.models.sources import Hook, Source
from store.queries import hooks, repositories, sources
from store.queries.hooks import Health
from workers.hooks import unpack_body

FORMER_SECRET_DAYS = 7
"""How long a replaced secret still works, so that a sender can be changed without losing a webhook."""


LONGEST_CREDENTIAL = 10_000
LONGEST_SHOWN = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceForm:
    """What somebody asks for who connects a CI system."""

    name: str
    provider: str = "generic"
    repository_id: int | None = None
    scheme: str = ""
    base_url: str = ""
    networks: str = ""


def list_providers() -> list[str]:
    """The CI systems that a source can be made for, by name."""
    return sorted(PROVIDERS)


def list_sources(session: Session, viewer: Viewer, team: Team) -> Sequence[Source]:
    """The sources of a team by name."""
    viewer.require(team.id, "member", "see the sources")
    return sources.list_sources(session, team.id)


def find_source(session: Session, viewer: Viewer, team: Team, source_id: str) -> Source:
    """A source of a team; raises NotFoundError."""
    viewer.require(team.id, "member", "see the sources")
    return _find(session, team, source_id)


def create_source(session: Session, viewer: Viewer, team: Team, form: SourceForm) -> tuple[Source, str]:
    """Make a source and return it with its secret, which is shown this once and stored encrypted."""
    viewer.require(team.id, "owner", "connect a CI system")
    name = " ".join(form.name.split())
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise InvalidValueError("name", "The name of a source must have 1 to 100 printable characters.")
    if form.provider not in PROVIDERS:
        raise UnknownNameError("provider", form.provider[:40], list_providers())
    if form.repository_id is not None and repositories.load_repository(session, [team.id], form.repository_id) is None:
        raise InvalidValueError("repository_id", f"This team has no repository {form.repository_id}.")
    schemes = PROVIDERS[form.provider].schemes
    if form.scheme and form.scheme not in schemes:
        raise UnknownNameError("scheme", form.scheme[:40], schemes)
    secret = make_secret(form.provider, form.scheme)
    source = sources.create_source(
        session,
        team.id,
        name=name,
        provider=form.provider,
        secret=secret,
        repository_id=form.repository_id,
        scheme=form.scheme or None,
        base_url=read_base_url(form.base_url) if form.base_url.strip() else "",
        networks=_networks(form.networks),
    )
    note(session, viewer, "source.made", team_id=team.id, target=source.name, provider=source.provider)
    return source, secret


def change_source(
    session: Session, viewer: Viewer, team: Team, source_id: str, *, base_url: str, networks: str
) -> Source:
    """Change where the CI system of a source is and which networks it may reach."""
    viewer.require(team.id, "owner", "change a source")
    source = _find(session, team, source_id)
    url = read_base_url(base_url) if base_url.strip() else ""
    if url != source.base_url and (source.read_credentials or source.write_credentials):
        # Or whoever may change the address could have the tokens sent to a server of their own.
        sources.save_credentials(session, source, "read", {})
        sources.save_credentials(session, source, "write", {})
    source.base_url, source.networks = url, _networks(networks)
    note(session, viewer, "source.changed", team_id=team.id, target=source.name, base_url=url, networks=source.networks)
    session.flush()
    return source


def set_credentials(  # noqa: PLR0917 - whose, which, for what
    session: Session, viewer: Viewer, team: Team, source_id: str, purpose: str, given: Mapping[str, str]
) -> None:
    """Give a source what it asks its CI system with, to read logs or to write results; nothing at all forgets it."""
    viewer.require(team.id, "owner", "change credentials")
    source = _find(session, team, source_id)
    if purpose not in {"read", "write"}:
        raise UnknownNameError("purpose", purpose[:40], ("read", "write"))
    reader = PROVIDERS[source.provider].reader
    fields = reader.credential_fields if reader is not None else ("token",)
    kept = {name: value for name in fields if (value := given.get(name, "").strip())}
    for name, value in kept.items():
        if len(value) > LONGEST_CREDENTIAL or (name != "private_key" and not (value.isascii() and value.isprintable())):
            raise InvalidValueError(name, f"This is no {name.replace('_', ' ')}: copy it again, without line ends.")
    if kept.get("private_key") or kept.get("app_id"):
        if not kept.get("app_id", "").isalnum():
            raise InvalidValueError("app_id", "A GitHub App needs both its id and its private key.")
        read_private_key(kept.get("private_key", ""))
        kept.pop("token", None)
    sources.save_credentials(session, source, purpose, kept)
    what = f"credentials to {purpose}"
    note(session, viewer, "source.changed", team_id=team.id, target=source.name, what=what, given=sorted(kept))


def add_secret(session: Session, viewer: Viewer, team: Team, source_id: str, secret: str) -> None:
    """Take a secret that the CI system has made itself; the former ones work for another week."""
    viewer.require(team.id, "owner", "change secrets")
    secret = secret.strip()
    if not 16 <= len(secret) <= 500 or not secret.isprintable():
        raise InvalidValueError("secret", "A secret must have 16 to 500 printable characters on one line.")
    until = datetime.now(UTC) + timedelta(days=FORMER_SECRET_DAYS)
    source = _find(session, team, source_id)
    sources.rotate_secret(session, source, secret, until)
    note(session, viewer, "source.changed", team_id=team.id, target=source.name, what="secret")


def rotate_secret(session: Session, viewer: Viewer, team: Team, source_id: str) -> str:
    """Give a source a new secret and return it; the former one works for another week."""
    viewer.require(team.id, "owner", "change secrets")
    source = _find(session, team, source_id)
    secret = make_secret(source.provider, source.scheme or "")
    until = datetime.now(UTC) + timedelta(days=FORMER_SECRET_DAYS)
    sources.rotate_secret(session, source, secret, until)
    note(session, viewer, "source.changed", team_id=team.id, target=source.name, what="secret")
    return secret


def disable_source(session: Session, viewer: Viewer, team: Team, source_id: str) -> None:
    """Switch a source off: its webhooks are refused like those of a source that never was."""
    viewer.require(team.id, "owner", "switch a source off")
    source = _find(session, team, source_id)
    sources.disable_source(session, source, datetime.now(UTC))
    note(session, viewer, "source.disabled", team_id=team.id, target=source.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderFacts:
    """What a source of a provider can be given."""

    name: str
    schemes: Sequence[str]
    credential_fields: Sequence[str]
    """Empty where its logs cannot be fetched."""
    needs_credentials: bool
    needs_server: bool


def describe_provider(name: str) -> ProviderFacts:
    """What a source of a provider can be given; raises UnknownNameError."""
    if name not in PROVIDERS:
        raise UnknownNameError("provider", name[:40], list_providers())
    reader = PROVIDERS[name].reader
    return ProviderFacts(
        name=name,
        schemes=PROVIDERS[name].schemes,
        credential_fields=reader.credential_fields if reader is not None else (),
        needs_credentials=reader is not None and reader.needs_credentials,
        needs_server=reader is not None and not reader.cloud_url,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRequest:
    """A webhook as it came, without secrets."""

    delivery: Delivery
    headers: dict[str, str]
    body: str | None
    """None once it has been forgotten, and for a run that was found by asking."""
    body_bytes: int
    is_found: bool


def list_requests(session: Session, viewer: Viewer, team: Team, source_id: str) -> Sequence[tuple[Delivery, Hook]]:
    """The latest webhooks of a source, newest first."""
    return hooks.list_latest(session, find_source(session, viewer, team, source_id).id)


def find_request(session: Session, viewer: Viewer, team: Team, source_id: str, delivery_id: str) -> KeptRequest:
    """One webhook of a source, with what looks like a secret taken out; raises NotFoundError."""
    source = find_source(session, viewer, team, source_id)
    delivery, hook = session.get(Delivery, delivery_id), hooks.find_hook(session, delivery_id)
    if delivery is None or hook is None or delivery.source_id != source.id:
        raise NotFoundError("This source has no such webhook.")
    body = unpack_body(hook.body) if hook.body is not None else None
    return KeptRequest(
        delivery=delivery,
        headers={name: redact_text(str(value)) for name, value in sorted(hook.headers.items())},
        body=_shown_body(body) if body is not None else None,
        body_bytes=hook.body_bytes,
        is_found=hook.is_found,
    )


def _shown_body(body: bytes) -> str:
    try:
        text = orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2).decode()
    except ValueError:
        text = body.decode("utf-8", "replace")
    return redact_text(text[:LONGEST_SHOWN]) + ("\n…" if len(text) > LONGEST_SHOWN else "")


def load_health(session: Session, viewer: Viewer, team: Team, source_id: str) -> Health:
    """How a source has fared in the last week."""
    source = find_source(session, viewer, team, source_id)
    return hooks.load_health(session, source.id, datetime.now(UTC) - timedelta(days=7))


def make_secret(provider: str = "generic", scheme: str = "") -> str:
    """Make a secret in the form that a provider takes: Standard Webhooks have `whsec_` and base64, others any text."""
    if (scheme or PROVIDERS[provider].schemes[0]) in {"standard-webhooks", "signing-token"}:
        return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_hex(32)


def _networks(text: str) -> str:
    return ", ".join(str(network) for network in read_networks(text))


def _find(session: Session, team: Team, source_id: str) -> Source:
    # Whoever looks a source up here may be about to change it: the door is to see that at once.
    after_commit(session, lambda: known_sources.forget(source_id))
    source = sources.find_team_source(session, team.id, source_id)
    if source is None:
        raise NotFoundError("This team has no such source.")
    return source
