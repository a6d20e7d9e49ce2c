"""What routes ask for: a session, who is asking, and the team or repository in the address, seen through their eyes."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated

import structlog
from fastapi import Depends, Request
from fastapi.security import APIKeyCookie, HTTPBearer
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from cachescope.errors import CredentialsRefusedError, ForbiddenError, NotFoundError, SignInRequiredError
from service.auth.forms import check_form
from service.auth.permissions import Viewer
from service.auth.sessions import SESSION_COOKIE, is_touch_due
from service.auth.tokens import hash_token
from service.metrics import Metrics
from service.settings import ServiceSettings
from store.database import get_engine, reading, transaction
from store.logs import LogStore, open_logs
from store.models.accounts import Team, Token, UserSession
from store.models.repositories import Repository
from store.queries import accounts

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
FORM_HEADER = "x-form-token"
_AFTERWARDS = "cachescope_afterwards"

BEARER_SCHEME = HTTPBearer(
    auto_error=False, description="A token of a team or repository; its scope is upload or read."
)
COOKIE_SCHEME = APIKeyCookie(name=SESSION_COOKIE, auto_error=False, description="The session of a browser.")


def engine_of(request: Request) -> Engine:
    """The database of the application that answers this request."""
    engine: Engine | None = request.app.state.engine
    return engine if engine is not None else get_engine()


def settings_of(request: Request) -> ServiceSettings:
    """The settings of the application that answers this request."""
    settings: ServiceSettings = request.app.state.settings
    return settings


def logs_of(request: Request) -> LogStore:
    """Where the application that answers this request keeps raw logs."""
    logs: LogStore | None = request.app.state.logs
    return logs if logs is not None else open_logs()


def metrics_of(request: Request) -> Metrics:
    """The metrics of the application that answers this request."""
    metrics: Metrics = request.app.state.metrics
    return metrics


def is_https(request: Request) -> bool:
    """Whether the browser came by TLS."""
    return settings_of(request).is_https or request.url.scheme == "https"


def base_url(request: Request) -> str:
    """The address under which the service was called, without a slash at its end."""
    return (settings_of(request).public_url or str(request.base_url)).rstrip("/")


def get_session(request: Request) -> Iterator[Session]:
    """One request is one transaction; a request that may change nothing waits for no writer."""
    opened = reading if request.method in SAFE_METHODS else transaction
    with opened(engine_of(request)) as session:
        yield session
    # Only now: while a request holds one connection it must not wait for a second one, or ten of them wait for ever.
    if waiting := session.info.pop(_AFTERWARDS, []):
        with transaction(engine_of(request)) as writing:
            for function in waiting:
                function(writing)


# Without the scope the commit would come after the answer, and a failed commit would still say 200.
SessionDep = Annotated[Session, Depends(get_session, scope="function")]
SettingsDep = Annotated[ServiceSettings, Depends(settings_of)]


def bearer_of(request: Request) -> str | None:
    """The token of the Authorization header; None where there is no such header.

    Raises CredentialsRefusedError when the header is something else.
    """
    header = request.headers.get("authorization")
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise CredentialsRefusedError("The header Authorization must read `Bearer <token>`.")
    return token.strip()


def find_bearer(session: Session, token: str) -> Token:
    """Return the stored token; raises CredentialsRefusedError when it is unknown, revoked or past its end."""
    found = accounts.find_token(session, hash_token(token), datetime.now(UTC))
    if found is None:
        raise CredentialsRefusedError(
            "This token is unknown, revoked or past its end. Make a new one on the team's settings page."
        )
    return found


def afterwards(session: Session, function: Callable[[Session], object]) -> None:
    """Let a request that only reads write something once it has read: the function gets the session for that."""
    session.info.setdefault(_AFTERWARDS, []).append(function)


def remember_use(session: Session, found: Token | UserSession) -> None:
    """Note the last use of a token, to the hour, or of a browser's session, once the request has been answered."""
    now = datetime.now(UTC)
    if isinstance(found, UserSession):
        if is_touch_due(found):
            afterwards(session, lambda writing: accounts.touch_session(writing, found.id, now))
    elif found.last_used_at is None or now - found.last_used_at > timedelta(hours=1):
        afterwards(session, lambda writing: accounts.touch_token(writing, found.id, now))


def find_viewer(request: Request, session: SessionDep) -> Viewer | None:
    """Say who is asking; None for a visitor. A request that changes something must come from one of our pages."""
    if (bearer := bearer_of(request)) is not None:
        token = find_bearer(session, bearer)
        if token.scope != "read":
            raise ForbiddenError("This is an upload token: it sends logs and reads nothing else. Use a read token.")
        if request.method not in SAFE_METHODS:
            raise ForbiddenError("A read token changes nothing. Sign in to do this.")
        remember_use(session, token)
        return Viewer(name=token.name, roles={token.team_id: "viewer"}, repository_id=token.repository_id)
    cookie = request.cookies.get(SESSION_COOKIE)
    found = accounts.find_session(session, hash_token(cookie), datetime.now(UTC)) if cookie else None
    if found is None:
        return None
    browser, user = found
    remember_use(session, browser)
    if request.url.path.startswith("/api/") and request.method not in SAFE_METHODS:
        check_form(request, request.headers.get(FORM_HEADER))
    roles = {team.id: role for team, role in accounts.load_memberships(session, user.id)}
    structlog.contextvars.bind_contextvars(user_id=user.id)
    return Viewer(
        name=user.name,
        email=user.email,
        roles=roles,
        user_id=user.id,
        session_id=browser.id,
        is_administrator=user.is_administrator,
    )


VisitorDep = Annotated[Viewer | None, Depends(find_viewer)]


def get_viewer(viewer: VisitorDep) -> Viewer:
    """Say who is asking; raises SignInRequiredError for a visitor, which sends a browser to the sign-in page."""
    if viewer is None:
        raise SignInRequiredError("Sign in, or send a read token in the header Authorization.")
    return viewer


ViewerDep = Annotated[Viewer, Depends(get_viewer)]


def get_team(slug: str, session: SessionDep, viewer: ViewerDep) -> Team:
    """The team in the address."""
    team = accounts.find_team_by_slug(session, slug)
    if team is None or team.id not in viewer.roles:
        raise NotFoundError(f'There is no team "{slug[:80]}" here, or you do not belong to it.')
    return team


TeamDep = Annotated[Team, Depends(get_team)]


def get_repository(repository_id: int, session: SessionDep, viewer: ViewerDep) -> Repository:
    """The repository in the address; one of another team is as good as none."""
    repository = session.get(Repository, repository_id) if 0 < repository_id < 1 << 62 else None
    if repository is None or not viewer.may_see(repository.team_id, repository.id):
        raise NotFoundError(f"There is no repository {repository_id} here, or you may not see it.")
    return repository


RepositoryDep = Annotated[Repository, Depends(get_repository)]
OPENAPI_SECURITY = [Depends(BEARER_SCHEME), Depends(COOKIE_SCHEME)]
"""Names both ways to prove who is asking in the OpenAPI document; `find_viewer` does the work."""
