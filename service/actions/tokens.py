"""Tokens that CI jobs and scripts use: made, listed and revoked by the members of a team."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from cachescope.errors import InvalidValueError, NotFoundError
from service.auditing import note
from service.auth.permissions import Viewer
from service.auth.tokens import hash_token, make_token
from store.models.accounts import TOKEN_SCOPES, Team, Token
from store.queries import accounts, repositories


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenForm:
    """What somebody asks for who makes a token."""

    name: str
    scope: str = "upload"
    repository_id: int | None = None
    expires_at: datetime | None = None


def list_tokens(session: Session, viewer: Viewer, team: Team) -> Sequence[Token]:
    """The working tokens of a team, newest first."""
    viewer.require(team.id, "member", "see the tokens")
    return accounts.list_tokens(session, team.id)


def create_token(session: Session, viewer: Viewer, team: Team, form: TokenForm) -> tuple[Token, str]:
    """Make a token and return it with its text, which is shown this once and never stored."""
    viewer.require(team.id, "member", "make tokens")
    if form.repository_id is not None and repositories.load_repository(session, [team.id], form.repository_id) is None:
        raise InvalidValueError("repository_id", f"This team has no repository {form.repository_id}.")
    note(session, viewer, "token.made", team_id=team.id, target=form.name.strip(), scope=form.scope)
    return issue_token(session, team, form, created_by_id=viewer.user_id)


def issue_token(
    session: Session, team: Team, form: TokenForm, *, created_by_id: int | None = None
) -> tuple[Token, str]:
    """Make a token for whoever runs the server: the first start and the `admin` command need no viewer."""
    name = " ".join(form.name.split())
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise InvalidValueError("name", "The name of a token must have 1 to 100 printable characters.")
    if form.scope not in TOKEN_SCOPES:
        raise InvalidValueError(
            "scope", f'The scope is "{form.scope[:40]}"; it must be one of {", ".join(TOKEN_SCOPES)}.'
        )
    if form.expires_at is not None and form.expires_at <= datetime.now(UTC):
        raise InvalidValueError("expires_at", "The end of a token must lie in the future.")
    text = make_token()
    token = accounts.save_token(
        session,
        team.id,
        name=name,
        scope=form.scope,
        token_hash=hash_token(text),
        hint=text[-4:],
        repository_id=form.repository_id,
        expires_at=form.expires_at,
        created_by_id=created_by_id,
    )
    return token, text


def revoke_token(session: Session, viewer: Viewer, team: Team, token_id: str) -> None:
    """End a token at once."""
    viewer.require(team.id, "member", "revoke tokens")
    if not accounts.revoke_token(session, team.id, token_id, datetime.now(UTC)):
        raise NotFoundError("This team has no such token, or it has been revoked already.")
    token = session.get_one(Token, token_id)
    note(session, viewer, "token.revoked", team_id=team.id, target=token.name, scope=token.scope)
