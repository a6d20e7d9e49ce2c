"""The personal page: name, address, password, browsers, teams and tokens of whoever is signed in."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from cachescope.errors import ConflictError, CredentialsRefusedError, InvalidValueError
from dashboards.context import FormDep, Page, PageDep
from dashboards.rendering import query, render
from dashboards.theme import day, plural
from service.actions import members, people
from service.actions.letters import is_mail_set_up
from service.auth.forms import form_token, remember_visitor
from service.auth.passwords import SHORTEST
from service.auth.single_sign_on import sign_in_of
from service.auth.throttle import Throttle, address_of
from service.browsers import describe_browser
from service.dependencies import SessionDep, base_url, is_https
from store.queries import accounts, identities, teams

router = APIRouter(prefix="/account", include_in_schema=False)

DONE = {
    "name": "Your name is saved.",
    "email": "You sign in with the new address from now on.",
    "email-sent": "A link is on its way to the new address. Nothing changes until you open it.",
    "password": "Your password is changed, and every other browser is signed out.",
    "ended": "That browser is signed out.",
    "left": "You belong to that team no more.",
}


@router.get("", response_class=HTMLResponse)
def account(page: PageDep, done: str = "") -> Response:
    """Show what belongs to a person and to no team."""
    return _show(page, done=DONE.get(done, ""))


@router.post("/name")
def rename(form: FormDep, page: PageDep) -> Response:
    """Change one's name."""
    try:
        people.rename(page.session, page.viewer, form.get("name", ""))
    except InvalidValueError as error:
        return _show(page, message=str(error), status=422)
    return _done("name")


@router.post("/email")
def change_email(form: FormDep, page: PageDep) -> Response:
    """Change one's address, or send a link to the new one."""
    email, password = form.get("email", ""), form.get("password", "")
    try:
        with _guessing(page):
            is_changed = people.change_email(
                page.session, page.viewer, email, password, base_url=base_url(page.request)
            )
    except (InvalidValueError, CredentialsRefusedError, ConflictError) as error:
        return _show(page, message=str(error), status=422)
    return _done("email" if is_changed else "email-sent")


@router.get("/email/{token}", response_class=HTMLResponse)
def ask_for_confirmation(request: Request, token: str, session: SessionDep) -> Response:
    """Ask before a new address is taken over: a program that looks at the links of a letter must not."""
    email = people.find_confirmation(session, token)
    response = render(request, "confirm_email.html", email=email, form_token=form_token(request))
    remember_visitor(request, response, is_https=is_https(request))
    return response


@router.post("/email/{token}")
def confirm_email(form: FormDep, token: str, session: SessionDep) -> Response:
    """Take over a new address."""
    people.confirm_email(session, token)
    return _done("email")


@router.post("/password")
def change_password(form: FormDep, page: PageDep) -> Response:
    """Change one's password and sign all other browsers out."""
    try:
        with _guessing(page):
            people.change_password(page.session, page.viewer, form.get("present", ""), form.get("new", ""))
    except (InvalidValueError, CredentialsRefusedError, ConflictError) as error:
        return _show(page, message=str(error), status=422)
    return _done("password")


@router.post("/sessions/end-others")
def end_other_sessions(form: FormDep, page: PageDep) -> Response:
    """Sign out everywhere else."""
    count = people.end_other_sessions(page.session, page.viewer)
    return _show(page, done=f"{plural(count, 'other browser')} signed out.")


@router.post("/sessions/{session_id}/end")
def end_session(form: FormDep, page: PageDep, session_id: int) -> Response:
    """Sign one browser out."""
    people.end_session(page.session, page.viewer, session_id)
    return _done("ended")


@router.post("/teams")
def found_team(form: FormDep, page: PageDep) -> Response:
    """Make a new team and lead to the page that waits for its first log."""
    try:
        team = members.found_team(page.session, page.viewer, form.get("team", ""))
    except (InvalidValueError, ConflictError) as error:
        return _show(page, message=str(error), status=422, new_team=form.get("team", "")[:120])
    return RedirectResponse(f"/teams/{team.slug}", 303)


@contextmanager
def _guessing(page: Page) -> Iterator[None]:
    """Count wrong passwords: whoever sits at somebody else's browser must not find theirs out."""
    throttle: Throttle = page.request.app.state.throttle
    address, email = address_of(page.request.scope.get("client")), page.viewer.email or ""
    browser = f"session {page.viewer.session_id}"
    place = throttle.begin(address, email, browser)
    try:
        yield
    except CredentialsRefusedError:
        throttle.failed(address, email, browser)
        raise
    finally:
        throttle.end(place)


def _show(page: Page, *, status: int = 200, message: str = "", done: str = "", **context: Any) -> Response:
    page.session.flush()
    user = people.find_self(page.session, page.viewer)
    known = accounts.load_memberships(page.session, user.id)
    browsers = people.list_sessions(page.session, page.viewer)
    has_passwords = sign_in_of(page.request).has_passwords
    return render(
        page.request,
        "account.html",
        status=status,
        viewer=page.viewer,
        teams=teams.list_teams(page.session, [team.id for team, _ in known]),
        form_token=form_token(page.request),
        crumbs=[("Your account", None)],
        section="account",
        json_url="/api/v1/account",
        sentence=(
            f"You are {user.name}, {user.email}: in {plural(len(known), 'team')}, "
            f"signed in with {plural(len(browsers), 'browser')}."
        ),
        message=message,
        done=done,
        name=user.name,
        email=user.email,
        has_password=user.password_hash is not None,
        has_passwords=has_passwords,
        ways=[
            *_ways(has_password=user.password_hash is not None, has_passwords=has_passwords),
            *_identities(page, user.id),
        ],
        sends_mail=is_mail_set_up(),
        shortest_password=SHORTEST,
        new_team=context.get("new_team", ""),
        sessions=[
            {
                "id": each.id,
                "browser": describe_browser(each.user_agent),
                "user_agent": each.user_agent or "",
                "address": each.address,
                "created_at": each.created_at,
                "last_seen_at": each.last_seen_at,
                "is_this": each.id == page.viewer.session_id,
            }
            for each in browsers
        ],
        memberships=[{"slug": team.slug, "name": team.name, "role": role} for team, role in known],
        tokens=[
            {
                "name": token.name,
                "team": team,
                "scope": token.scope,
                "hint": token.hint,
                "created_at": token.created_at,
                "last_used_at": token.last_used_at,
            }
            for token, team in people.list_tokens(page.session, page.viewer)
        ],
    )


def _ways(*, has_password: bool, has_passwords: bool) -> list[str]:
    if has_password and has_passwords:
        return ["You sign in with a password of this server."]
    if has_password:
        return ["Passwords are switched off here: yours opens nothing at present."]
    return ["You have no password here: you sign in at your company."]


def _identities(page: Page, user_id: int) -> list[str]:
    """Where else the account is signed in to, by the names that the sign-in page uses."""
    labels = {known.issuer: known.label for known in sign_in_of(page.request).providers.values()}
    found = []
    for known in identities.list_identities(page.session, user_id):
        name = labels.get(known.issuer.rstrip("/"), known.issuer)
        found.append(f"{name} signs you in as {known.email}, first on {day(known.created_at)}.")
    return found


def _done(what: str) -> Response:
    return RedirectResponse(f"/account{query({'done': what})}", 303)
