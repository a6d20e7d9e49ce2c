"""The way to a provider and back: begun in one browser, ended in the same one, once.

What must not be known elsewhere (state, nonce and the secret of PKCE) travels in a sealed cookie of ten minutes, so a
visitor who never comes back costs no row. A state that has led to a session is written down, and leads to no other.
"""

import hmac
import secrets
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

import orjson
import structlog
from fastapi import Request, Response
from sqlalchemy.orm import Session

from cachescope.errors import CredentialsRefusedError, NotFoundError, SettingsError
from integrations.identity.base import Attempt, IdentityError, Person, ProviderDownError
from service.actions import identities
from service.auth.providers import KnownProvider, SignIn
from service.auth.sessions import SESSION_COOKIE, open_session
from service.auth.throttle import KNOWN_COOKIE, TOO_OFTEN, Throttle, address_of, is_genuine
from service.auth.tokens import hash_token
from service.dependencies import engine_of, settings_of
from service.settings import ServiceSettings
from store.database import transaction
from store.models.identities import Identity
from store.queries import accounts
from store.queries import identities as rows
from store.types import seal, unseal

logger = structlog.get_logger(__name__)

COOKIE = "cachescope_sign_in"
COOKIE_PATH = "/sign-in/with/"
WAY_SECONDS = 600
_LONGEST_COOKIE = 4096
_LONGEST_CODE = 2048


class ProviderTroubleError(CredentialsRefusedError):
    """Signing in at a provider led to nothing; the sentence says what to do, the log says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """What is remembered of a browser that was sent to a provider."""

    provider: str
    state: str
    nonce: str
    verifier: str
    following: str
    """Where to go once signed in: an address of ours."""
    began_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a browser brought back."""

    state: str
    code: str = ""
    error: str = ""
    issuer: str | None = None


def sign_in_of(request: Request) -> SignIn:
    """The ways to sign in to the application that answers this request."""
    found: SignIn = request.app.state.sign_in
    return found


def find_provider(sign_in: SignIn, name: str) -> KnownProvider:
    """Return a provider by its name; raises NotFoundError."""
    if name not in sign_in.providers:
        raise NotFoundError(f'Nobody signs in with "{name[:40]}" here.')
    return sign_in.providers[name]


def begin(request: Request, provider: str, following: str) -> tuple[str, str]:
    """Return where the browser goes, and the cookie that it takes along; raises ProviderTroubleError."""
    known = find_provider(sign_in_of(request), provider)
    way = Way(
        provider=known.name,
        state=secrets.token_urlsafe(32),
        nonce=secrets.token_urlsafe(32),
        verifier=secrets.token_urlsafe(48),
        following=following if len(following) <= 1000 else "/",
        began_at=datetime.now(UTC).timestamp(),
    )
    try:
        url = known.provider.authorization_url(_attempt(way, settings_of(request)))
    except ProviderDownError as error:
        raise _down(known, error) from error
    return url, seal(orjson.dumps(asdict(way))).decode()


def finish(request: Request, provider: str, answer: Answer) -> tuple[str, str, str]:
    """Check what came back, sign the person in, and return the session's secret, where to go, and the address.

    Raises ProviderTroubleError. Nothing is held open in the database while the provider is asked.
    """
    known = find_provider(sign_in_of(request), provider)
    way = read_way(request.cookies.get(COOKIE, ""), known.name, answer.state)
    if answer.error or not answer.code or len(answer.code) > _LONGEST_CODE:
        logger.info("sign_in_refused_by_provider", provider=known.name, error=answer.error[:200])
        raise ProviderTroubleError(f"{known.label} did not sign you in. Try again, or ask who runs it.")
    person = _counted(request, known, _attempt(way, settings_of(request)), answer)
    until = datetime.now(UTC) + timedelta(seconds=2 * WAY_SECONDS)
    with transaction(engine_of(request)) as session:
        if not rows.use_state(session, hash_token(way.state), until):
            raise ProviderTroubleError("This way to sign in was used already. Begin again.")
        identity = identities.admit(session, known.settings, person)
        token = _open(session, request, known, identity, person.id_token) if identity is not None else None
    if token is None:
        raise ProviderTroubleError(identities.NOT_YOURS)
    return token, way.following, person.email


def _open(session: Session, request: Request, known: KnownProvider, identity: Identity, id_token: str | None) -> str:
    """Begin the session, in place of whoever used this browser before."""
    if former := request.cookies.get(SESSION_COOKIE):
        accounts.delete_session(session, hash_token(former))
    token = open_session(session, identity.user_id, request, settings_of(request))
    session.flush()
    rows.remember_session(
        session,
        hash_token(token),
        identity,
        provider=known.name,
        id_token=id_token,
        expires_at=datetime.now(UTC) + timedelta(hours=sign_in_of(request).session_hours),
    )
    return token


def read_way(cookie: str, provider: str, state: str) -> Way:
    """Open the sealed cookie of a browser; raises ProviderTroubleError unless it is of this way, and fresh."""
    again = ProviderTroubleError("This sign-in began in another browser, or too long ago. Begin again.")
    if not cookie or len(cookie) > _LONGEST_COOKIE:
        raise again
    try:
        way = Way(**orjson.loads(unseal(cookie.encode("ascii"))))
    except (SettingsError, ValueError, TypeError):
        raise again from None
    age = datetime.now(UTC).timestamp() - way.began_at
    if not hmac.compare_digest(way.state.encode(), state.encode("utf-8", "replace")):
        raise again
    if way.provider != provider or not -60 <= age <= WAY_SECONDS:
        raise again
    return way


def set_cookie(response: Response, value: str, *, is_https: bool) -> None:
    """Let the browser take the way along: it comes back by a link of another site, so `lax`."""
    response.set_cookie(
        COOKIE, value, max_age=WAY_SECONDS, httponly=True, samesite="lax", secure=is_https, path=COOKIE_PATH
    )


def clear_cookie(response: Response) -> None:
    """Take it from the browser."""
    response.delete_cookie(COOKIE, path=COOKIE_PATH, httponly=True, samesite="lax")


def sign_out(request: Request, back: str) -> tuple[str, str] | None:
    """End the session of a browser; where it began at a provider, return its address of sign-out, and its name."""
    token_hash = hash_token(request.cookies.get(SESSION_COOKIE, ""))
    with transaction(engine_of(request)) as session:
        try:
            found = rows.find_session_identity(session, token_hash)
        except SettingsError:  # the key that closed the id token is gone: signing out here must work all the same
            found = None
        began = (found.provider, found.id_token) if found is not None else ("", None)
        accounts.delete_session(session, token_hash)
    known = sign_in_of(request).providers.get(began[0])
    url = known.provider.sign_out_url(began[1], back) if known is not None else None
    return (url, known.label) if known is not None and url else None


def _attempt(way: Way, service: ServiceSettings) -> Attempt:
    return Attempt(
        state=way.state,
        nonce=way.nonce,
        verifier=way.verifier,
        redirect_uri=f"{service.public_url.rstrip('/')}{COOKIE_PATH}{way.provider}/back",
    )


def _counted(request: Request, known: KnownProvider, attempt: Attempt, answer: Answer) -> Person:
    """Ask the provider, unless strangers from this address have sent it too many answers that proved nothing."""
    throttle: Throttle = request.app.state.throttle
    address = address_of((request.client.host, 0) if request.client else None)
    if (pause := throttle.pause_of(address)) is not None and not is_genuine(request.cookies.get(KNOWN_COOKIE)):
        raise ProviderTroubleError(TOO_OFTEN.format(f"{pause} s"))
    try:
        return _identify(known, attempt, answer)
    except ProviderTroubleError:
        throttle.refused(address)
        raise


def _identify(known: KnownProvider, attempt: Attempt, answer: Answer) -> Person:
    try:
        return known.provider.identify(attempt, answer.code, answer.issuer)
    except ProviderDownError as error:
        raise _down(known, error) from error
    except IdentityError as error:
        logger.warning("sign_in_refused", provider=known.name, reason=str(error))
        raise ProviderTroubleError(
            f"What {known.label} answered does not prove who you are. Try again; the server's log says more."
        ) from error


def _down(known: KnownProvider, error: ProviderDownError) -> ProviderTroubleError:
    logger.warning("sign_in_provider_down", provider=known.name, reason=str(error))
    return ProviderTroubleError(f"{known.label} does not answer as it should. Try again in a moment.")
