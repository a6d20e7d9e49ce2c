"""Whoever asks: their name, their browsers, the tokens that they made."""

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel, Field

from service.actions import people
from service.browsers import describe_browser
from service.dependencies import OPENAPI_SECURITY, SessionDep, ViewerDep
from service.errors import responses

router = APIRouter(prefix="/api/v1/account", tags=["account"], dependencies=OPENAPI_SECURITY)


class AccountToken(BaseModel):
    """A token that you made, without its text."""

    id: str
    team: str = Field(description="Slug of its team.")
    name: str
    scope: str
    hint: str = Field(description="The last four characters.")
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None


class AccountAnswer(BaseModel):
    """Your account."""

    user_id: int
    name: str
    email: str
    has_password: bool
    tokens: list[AccountToken]


class BrowserAnswer(BaseModel):
    """A browser in which you are signed in."""

    id: int
    browser: str = Field(examples=["Firefox on Linux"])
    address: str | None
    is_this: bool = Field(description="Whether it is the one that asks.")
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime


class BrowsersAnswer(BaseModel):
    """The browsers in which you are signed in, the last seen first."""

    sessions: list[BrowserAnswer]


@router.get("", summary="Your account", responses=responses(401, 403))
def get_account(session: SessionDep, viewer: ViewerDep) -> AccountAnswer:
    """Describe who is signed in."""
    user = people.find_self(session, viewer)
    names = ("id", "name", "scope", "hint", "created_at", "last_used_at", "expires_at")
    return AccountAnswer(
        user_id=user.id,
        name=user.name,
        email=user.email,
        has_password=user.password_hash is not None,
        tokens=[
            AccountToken.model_validate({name: getattr(token, name) for name in names} | {"team": team.slug})
            for token, team in people.list_tokens(session, viewer)
        ],
    )


@router.get("/sessions", summary="Where you are signed in", responses=responses(401, 403))
def list_sessions(session: SessionDep, viewer: ViewerDep) -> BrowsersAnswer:
    """List the browsers in which you are signed in."""
    return BrowsersAnswer(
        sessions=[
            BrowserAnswer(
                id=each.id,
                browser=describe_browser(each.user_agent),
                address=each.address,
                is_this=each.id == viewer.session_id,
                created_at=each.created_at,
                last_seen_at=each.last_seen_at,
                expires_at=each.expires_at,
            )
            for each in people.list_sessions(session, viewer)
        ]
    )


@router.delete(
    "/sessions/{session_id}", status_code=204, summary="Sign a browser out", responses=responses(401, 403, 404)
)
def end_session(session: SessionDep, viewer: ViewerDep, session_id: int) -> None:
    """End one of your sessions."""
    people.end_session(session, viewer, session_id)
