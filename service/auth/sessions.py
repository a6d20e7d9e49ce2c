"""Sessions of browsers: a random cookie whose hash is stored, so that each can be listed and ended."""

from datetime import UTC, datetime, timedelta

from fastapi import Request, Response
from sqlalchemy.orm import Session

from service.auditing import note_everywhere
from service.auth.tokens import hash_token, make_link_token
from service.settings import ServiceSettings
from store.models.accounts import User, UserSession

SESSION_COOKIE = "cachescope_session"
_SEEN_EVERY = timedelta(minutes=5)


def open_session(session: Session, user_id: int, request: Request, settings: ServiceSettings) -> str:
    """Begin a session for somebody who has proven who they are; returns what the cookie must hold."""
    token = make_link_token()
    note_everywhere(session, session.get_one(User, user_id), "session.opened")
    session.add(
        UserSession(
            token_hash=hash_token(token),
            user_id=user_id,
            expires_at=datetime.now(UTC) + timedelta(days=settings.session_days),
            address=request.client.host if request.client else None,
            user_agent=request.headers.get("user-agent", "")[:300],
        )
    )
    return token


def set_session_cookie(response: Response, token: str, settings: ServiceSettings, *, is_https: bool) -> None:
    """Hand the session to the browser: out of reach of scripts and of requests that other sites start."""
    response.set_cookie(
        SESSION_COOKIE,
        token,
        max_age=settings.session_days * 86_400,
        httponly=True,
        samesite="lax",
        secure=is_https,
        path="/",
    )


def clear_session_cookie(response: Response) -> None:
    """Take the session from the browser."""
    response.delete_cookie(SESSION_COOKIE, path="/", httponly=True, samesite="lax")


def is_touch_due(found: UserSession) -> bool:
    """Whether the time of last use is old enough to be worth a write."""
    return datetime.now(UTC) - found.last_seen_at > _SEEN_EVERY
