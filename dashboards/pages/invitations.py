"""Links that somebody was given: an invitation to a team, a new password for an account."""

from typing import Any

from fastapi import APIRouter, BackgroundTasks, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy import Engine

from cachescope.errors import ForbiddenError, InvalidValueError
from dashboards.context import FormDep
from dashboards.rendering import render
from service.actions import invitations, people
from service.actions.letters import is_mail_set_up
from service.auth.forms import form_token, remember_visitor
from service.auth.passwords import SHORTEST
from service.auth.permissions import Viewer
from service.auth.sessions import open_session, set_session_cookie
from service.auth.single_sign_on import sign_in_of
from service.dependencies import SessionDep, SettingsDep, VisitorDep, base_url, engine_of, is_https
from store.database import transaction

router = APIRouter(include_in_schema=False)

SENT = "If somebody has an account with this address, a link is on its way to it. It works for two hours."
NO_PASSWORDS = "Passwords are switched off here: sign in at your company."


@router.get("/invitations/{token}", response_class=HTMLResponse)
def show_invitation(request: Request, token: str, session: SessionDep, viewer: VisitorDep) -> Response:
    """Show who invites whom to which team; looking does not use the link up."""
    return _invitation(request, session, token, viewer)


@router.post("/invitations/{token}")
def accept_invitation(
    *,
    request: Request,
    form: FormDep,
    token: str,
    session: SessionDep,
    viewer: VisitorDep,
    settings: SettingsDep,
) -> Response:
    """Join the team: with the account that is signed in, else with one that is made now."""
    if viewer is not None and viewer.user_id is not None:
        try:
            team = invitations.accept(session, viewer, token)
        except ForbiddenError as error:
            return _invitation(request, session, token, viewer, message=str(error), status=403)
        return RedirectResponse(f"/teams/{team.slug}", 303)
    if not sign_in_of(request).has_passwords:
        return _invitation(request, session, token, None, message=NO_PASSWORDS, status=403)
    fields = {name: form.get(name, "") for name in ("name", "email", "password")}
    try:
        user, team = invitations.accept_with_account(session, token, invitations.AccountForm(**fields))
    except InvalidValueError as error:
        return _invitation(request, session, token, None, message=str(error), form=fields, status=422)
    response = RedirectResponse(f"/teams/{team.slug}", 303)
    secret = open_session(session, user.id, request, settings)
    set_session_cookie(response, secret, settings, is_https=is_https(request))
    return response


@router.get("/forgotten", response_class=HTMLResponse)
def forgotten(request: Request) -> Response:
    """Ask for the address of an account whose password is forgotten, or say who can help."""
    return _form(request, "forgotten.html", sends_mail=_sends_links(request), message="", done="")


@router.post("/forgotten")
def send_link(request: Request, form: FormDep, later: BackgroundTasks) -> Response:
    """Send a link, after the answer: neither what it says nor how long it takes tells whether there is an account."""
    if _sends_links(request):
        later.add_task(_send_link, engine_of(request), form.get("email", ""), base_url(request))
    response = _form(request, "forgotten.html", sends_mail=True, message="", done=SENT)
    response.background = later
    return response


@router.get("/reset/{token}", response_class=HTMLResponse)
def show_reset(request: Request, token: str, session: SessionDep) -> Response:
    """Show the form for a new password, if the link still works."""
    return _reset(request, people.find_reset(session, token).email)


@router.post("/reset/{token}")
def reset_password(request: Request, form: FormDep, token: str, session: SessionDep, settings: SettingsDep) -> Response:
    """Set the password, end all sessions and begin a new one here."""
    if not sign_in_of(request).has_passwords:
        raise ForbiddenError(NO_PASSWORDS)
    try:
        user = people.reset_password(session, token, form.get("password", ""))
    except InvalidValueError as error:
        return _reset(request, people.find_reset(session, token).email, str(error), 422)
    response = RedirectResponse("/", 303)
    secret = open_session(session, user.id, request, settings)
    set_session_cookie(response, secret, settings, is_https=is_https(request))
    return response


def _send_link(engine: Engine, email: str, address: str) -> None:
    with transaction(engine) as session:
        people.send_reset_link(session, email, base_url=address)


def _sends_links(request: Request) -> bool:
    return is_mail_set_up() and sign_in_of(request).has_passwords


def _invitation(
    request: Request,
    session: SessionDep,
    token: str,
    viewer: Viewer | None,
    *,
    status: int = 200,
    message: str = "",
    form: dict[str, str] | None = None,
) -> Response:
    link, team, inviter = invitations.look_at(session, token)
    person = viewer if viewer is not None and viewer.user_id is not None else None
    is_wrong = person is not None and link.email not in {None, person.email}
    if is_wrong and not message:
        message = f"This invitation is for {link.email}. Sign out, and open the link again."
    return _form(
        request,
        "invitation.html",
        status=status,
        viewer=person,
        invited_to=team.name,
        invited_email=link.email,
        inviter=inviter,
        role=link.role,
        wrong_account=is_wrong,
        message=message,
        form={name: (form or {}).get(name, "")[:254] for name in ("name", "email")},
        has_passwords=sign_in_of(request).has_passwords,
        shortest_password=SHORTEST,
    )


def _reset(request: Request, email: str, message: str = "", status: int = 200) -> Response:
    return _form(request, "reset.html", status=status, email=email, message=message, shortest_password=SHORTEST)


def _form(request: Request, template: str, *, status: int = 200, **context: Any) -> Response:
    response = render(request, template, status=status, form_token=form_token(request), **context)
    remember_visitor(request, response, is_https=is_https(request))
    return response
