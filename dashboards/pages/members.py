"""Members of a team: who belongs to it and as what, and the invitations that are open."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from cachescope.errors import ConflictError, InvalidValueError
from dashboards.context import FormDep, Page, PageDep
from dashboards.rendering import query
from dashboards.theme import plural
from service.actions import invitations, members
from service.actions.letters import is_mail_set_up
from service.dependencies import TeamDep, base_url
from store.models import Team
from store.models.accounts import ROLES

router = APIRouter(prefix="/teams/{slug}/settings/members", include_in_schema=False)

DONE = {
    "role": "The role is changed, from now on.",
    "removed": "They belong to the team no more: they see nothing of it from now on.",
    "revoked": "The invitation is taken back: its link works no more.",
}
EMPTY = {"email": "", "role": "member", "days": "7"}


@router.get("", response_class=HTMLResponse)
def show_members(page: PageDep, team: TeamDep, done: str = "") -> Response:
    """Show the people of a team, and to its owners the open invitations."""
    return _show(page, team, done=DONE.get(done, ""))


@router.post("/{user_id}/role")
def change_role(form: FormDep, page: PageDep, team: TeamDep, user_id: int) -> Response:
    """Change what a member may do."""
    try:
        members.change_role(page.session, page.viewer, team, user_id, form.get("role", ""))
    except (ConflictError, InvalidValueError) as error:
        return _show(page, team, message=str(error), status=_status(error))
    return _done(team, "role")


@router.post("/{user_id}/remove")
def remove_member(form: FormDep, page: PageDep, team: TeamDep, user_id: int) -> Response:
    """Take a member out of the team, or leave it."""
    try:
        members.remove_member(page.session, page.viewer, team, user_id)
    except ConflictError as error:
        return _show(page, team, message=str(error), status=409)
    return RedirectResponse("/account?done=left", 303) if user_id == page.viewer.user_id else _done(team, "removed")


@router.post("/invitations")
def invite(form: FormDep, page: PageDep, team: TeamDep) -> Response:
    """Make an invitation and show its link, once."""
    fields = {name: form.get(name, "")[:254] for name in EMPTY}
    try:
        wanted = invitations.InvitationForm(role=fields["role"], email=fields["email"], days=_days(fields["days"]))
        link, url = invitations.invite(page.session, page.viewer, team, wanted, base_url=base_url(page.request))
    except (ConflictError, InvalidValueError) as error:
        return _show(page, team, form=fields, message=str(error), status=_status(error))
    shown = {
        "url": url,
        "email": link.email,
        "is_sent": invitations.is_sent(link),
        "until": _until(link.expires_at),
    }
    return _show(page, team, link=shown)


@router.post("/invitations/{invitation_id}/revoke")
def revoke_invitation(form: FormDep, page: PageDep, team: TeamDep, invitation_id: int) -> Response:
    """Let an invitation work no more."""
    invitations.revoke_invitation(page.session, page.viewer, team, invitation_id)
    return _done(team, "revoked")


def _show(page: Page, team: Team, *, status: int = 200, message: str = "", done: str = "", **context: Any) -> Response:
    is_owner = page.viewer.may(team.id, "owner")
    people = members.list_members(page.session, page.viewer, team)
    owners = [person.id for person, role in people if role == "owner"]
    made = invitations.list_invitations(page.session, page.viewer, team) if is_owner else ()
    address = f"/teams/{team.slug}/settings/members"
    return page.show(
        "members.html",
        team,
        status=status,
        crumbs=[("Settings", f"/teams/{team.slug}/settings"), ("Members", None)],
        section="settings",
        json_url=f"/api/v1/teams/{team.slug}/members",
        sentence=(
            f"{team.name} has {plural(len(people), 'member')}, {plural(len(owners), 'owner')} among them."
            if not made
            else f"{team.name} has {plural(len(people), 'member')}; {plural(len(made), 'invitation')} waiting."
        ),
        message=message,
        done=done,
        link=context.get("link"),
        form=context.get("form", EMPTY),
        members=[
            {
                "name": person.name,
                "email": person.email,
                "role": role,
                "is_self": person.id == page.viewer.user_id,
                "is_last_owner": owners == [person.id],
                "url": f"{address}/{person.id}",
            }
            for person, role in people
        ],
        invitations=[
            {
                "email": link.email,
                "role": link.role,
                "created_at": link.created_at,
                "by": name,
                "until": _until(link.expires_at),
                "url": f"{address}/invitations/{link.id}",
            }
            for link, name in made
        ],
        roles=ROLES,
        may_change=is_owner,
        sends_mail=is_mail_set_up(),
    )


def _until(moment: Any) -> str:
    return f"{moment:%-d %B %Y, %H:%M} UTC"


def _days(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 4):
        raise InvalidValueError("days", f'"{text[:20]}" is no number of days.')
    return int(text)


def _status(error: Exception) -> int:
    return 409 if isinstance(error, ConflictError) else 422


def _done(team: Team, what: str) -> Response:
    return RedirectResponse(f"/teams/{team.slug}/settings/members{query({'done': what})}", 303)
