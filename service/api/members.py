"""The people of a team: listed, given a role, removed, invited; and new teams."""

from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from service.actions import invitations, members
from service.api.teams import TeamAnswer
from service.dependencies import OPENAPI_SECURITY, SessionDep, TeamDep, ViewerDep, base_url
from service.errors import responses
from store.models.accounts import SignInLink

router = APIRouter(prefix="/api/v1/teams", tags=["members"], dependencies=OPENAPI_SECURITY)

Role = Literal["owner", "member", "viewer"]


class NewTeam(BaseModel):
    """A team that is to be made."""

    name: str = Field(max_length=200, examples=["Shop"])


class MemberAnswer(BaseModel):
    """One member of a team."""

    user_id: int = Field(examples=[7])
    name: str = Field(examples=["Ada Lovelace"])
    email: str = Field(examples=["ada@example.org"])
    role: Role


class MembersAnswer(BaseModel):
    """The members of a team, by name."""

    members: list[MemberAnswer]


class NewRole(BaseModel):
    """What a member may do from now on."""

    role: str = Field(max_length=40, examples=["viewer"])


class InvitationAnswer(BaseModel):
    """An open invitation, without its link."""

    id: int
    email: str | None = Field(description="Only the account of this address can accept; null for whoever has the link.")
    role: Role
    invited_by: str | None
    created_at: datetime
    expires_at: datetime


class InvitationsAnswer(BaseModel):
    """The open invitations of a team, newest first."""

    invitations: list[InvitationAnswer]


class NewInvitation(BaseModel):
    """Who is to be invited, and as what."""

    email: str = Field(default="", max_length=254, examples=["ada@example.org"])
    role: str = Field(default="member", max_length=40, examples=["member"])
    days: int = Field(default=7, ge=1, le=invitations.LONGEST_DAYS)


class NewInvitationAnswer(InvitationAnswer):
    """An invitation that was just made."""

    url: str = Field(description="Shown this once; only its hash is kept.")
    is_sent: bool = Field(description="Whether it goes out by e-mail.")


@router.post("", status_code=201, summary="Make a team", responses=responses(401, 403, 409, 422))
def found_team(session: SessionDep, viewer: ViewerDep, asked: NewTeam) -> TeamAnswer:
    """Make a team that you own."""
    team = members.found_team(session, viewer, asked.name)
    return TeamAnswer(slug=team.slug, name=team.name, role="owner", is_demo=False, time_zone=team.time_zone)


@router.get("/{slug}/members", summary="A team's members", responses=responses(401, 403, 404))
def list_members(session: SessionDep, viewer: ViewerDep, team: TeamDep) -> MembersAnswer:
    """List the people of a team with their roles."""
    found = members.list_members(session, viewer, team)
    return MembersAnswer(
        members=[
            MemberAnswer.model_validate({"user_id": user.id, "name": user.name, "email": user.email, "role": role})
            for user, role in found
        ]
    )


@router.patch("/{slug}/members/{user_id}", summary="Change a role", responses=responses(401, 403, 404, 409, 422))
def change_role(session: SessionDep, viewer: ViewerDep, team: TeamDep, user_id: int, asked: NewRole) -> MemberAnswer:
    """Change what a member may do; the last owner stays one."""
    user = members.change_role(session, viewer, team, user_id, asked.role)
    return MemberAnswer.model_validate({"user_id": user.id, "name": user.name, "email": user.email, "role": asked.role})


@router.delete(
    "/{slug}/members/{user_id}",
    status_code=204,
    summary="Remove a member, or leave",
    responses=responses(401, 403, 404, 409),
)
def remove_member(session: SessionDep, viewer: ViewerDep, team: TeamDep, user_id: int) -> None:
    """Take a member out of the team at once; with your own id you leave it."""
    members.remove_member(session, viewer, team, user_id)


@router.get("/{slug}/invitations", summary="A team's open invitations", responses=responses(401, 403, 404))
def list_invitations(session: SessionDep, viewer: ViewerDep, team: TeamDep) -> InvitationsAnswer:
    """List the invitations that can still be accepted, without their links."""
    found = invitations.list_invitations(session, viewer, team)
    return InvitationsAnswer(invitations=[InvitationAnswer.model_validate(_fields(link, by)) for link, by in found])


@router.post(
    "/{slug}/invitations", status_code=201, summary="Invite somebody", responses=responses(401, 403, 404, 409, 422)
)
def invite(
    request: Request, session: SessionDep, viewer: ViewerDep, team: TeamDep, asked: NewInvitation
) -> NewInvitationAnswer:
    """Make an invitation and show its link, once; it goes out by e-mail where the server can send any."""
    form = invitations.InvitationForm(role=asked.role, email=asked.email, days=asked.days)
    link, url = invitations.invite(session, viewer, team, form, base_url=base_url(request))
    fields = _fields(link, viewer.name) | {"url": url, "is_sent": invitations.is_sent(link)}
    return NewInvitationAnswer.model_validate(fields)


@router.delete(
    "/{slug}/invitations/{invitation_id}",
    status_code=204,
    summary="Take an invitation back",
    responses=responses(401, 403, 404),
)
def revoke_invitation(session: SessionDep, viewer: ViewerDep, team: TeamDep, invitation_id: int) -> None:
    """Let the link of an invitation work no more."""
    invitations.revoke_invitation(session, viewer, team, invitation_id)


def _fields(link: SignInLink, by: str | None) -> dict[str, object]:
    names = ("id", "email", "role", "created_at", "expires_at")
    return {name: getattr(link, name) for name in names} | {"invited_by": by}
