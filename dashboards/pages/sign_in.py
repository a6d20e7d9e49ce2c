"""Signing in and out, the first owner's one-time link, and the choice of light or dark."""

from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from cachescope.errors import CredentialsRefusedError, InvalidValueError, TooManyAttemptsError
from dashboards.context import FormDep, PageDep
from dashboards.rendering import THEMES, render
from service.actions import accounts, signing_in
from service.auth import single_sign_on
from service.auth.forms import form_token, remember_visitor
from service.auth.passwords import SHORTEST
from service.auth.sessions import clear_session_cookie, open_session, set_session_cookie
from service.auth.single_sign_on import sign_in_of
from service.auth.throttle import address_of, recognise, remember_browser
from service.dependencies import SessionDep, SettingsDep, VisitorDep, base_url, engine_of, is_https
from service.errors import to_problem
from store.queries import teams

router = APIRouter(include_in_schema=False)


@router.get("/")
def home(page: PageDep) -> Response:
    """Lead to the reader's first team."""
    known = teams.list_teams(page.session, page.viewer.team_ids)
    if not known:
        return render(page.request, "no_team.html", viewer=page.viewer, form_token=form_token(page.request))
    own = [team for team in known if not team.is_demo] or known
    return RedirectResponse(f"/teams/{own[0].slug}", 303)


@router.get("/sign-in", response_class=HTMLResponse)
def sign_in_form(request: Request, viewer: VisitorDep, next: str = "/") -> Response:  # noqa: A002 - the parameter's name
    """Show the form; who is signed in already goes on."""
    if viewer is not None:
        return RedirectResponse(local(next), 303)
    return show_sign_in(request, next=local(next))


@router.post("/sign-in")
async def sign_in(request: Request, form: FormDep, settings: SettingsDep) -> Response:
    """Begin a session, or show the form again with the reason."""
    email, following = form.get("email", ""), local(form.get("next", "/"))
    if not sign_in_of(request).has_passwords:
        return show_sign_in(request, status=403, next=following, message="Passwords are switched off here.")
    try:
        token = await signing_in.sign_in(
            engine_of(request),
            request.app.state.throttle,
            address=address_of(request.scope.get("client")),
            browser=recognise(request, email),
            email=email,
            password=form.get("password", ""),
            begin=lambda session, user: open_session(session, user.id, request, settings),
        )
    except (CredentialsRefusedError, TooManyAttemptsError) as error:
        problem = to_problem(error)
        response = show_sign_in(
            request, status=problem.status, next=following, email=email[:254], message=problem.detail
        )
        response.headers.update(problem.headers or {})
        return response
    response = _signed_in(request, settings, token, following)
    remember_browser(response, email, is_https=is_https(request))
    return response


@router.post("/sign-out")
def sign_out(request: Request, form: FormDep) -> Response:
    """End the session of this browser, and lead on to the sign-out of the provider where it began there."""
    leaving = single_sign_on.sign_out(request, f"{base_url(request)}/sign-in")
    if leaving is None:
        response: Response = RedirectResponse("/sign-in", 303)
    else:
        # A page that leads on: after a form, the Content-Security-Policy allows no redirect to another host.
        response = render(request, "signed_out.html", url=leaving[0], label=leaving[1])
    clear_session_cookie(response)
    return response


@router.get("/setup/{token}", response_class=HTMLResponse)
def setup_form(request: Request, token: str, session: SessionDep) -> Response:
    """Show the form of the first account, if the link still works."""
    if not accounts.is_setup_link_valid(session, token):
        raise CredentialsRefusedError(
            "This link has been used or is too old. Make a new one with `cachescope admin owner-link`."
        )
    waiting = accounts.waiting_team(session)
    return _setup(request, {"name": "", "email": "", "team": waiting.name if waiting else ""}, "")


@router.post("/setup/{token}")
def setup(request: Request, token: str, form: FormDep, session: SessionDep, settings: SettingsDep) -> Response:
    """Make the account and its team, sign in, and lead to the page that waits for the first log."""
    fields = {name: form.get(name, "") for name in ("name", "email", "password", "team")}
    try:
        with session.begin_nested():
            user, team = accounts.set_up_owner(session, token, accounts.OwnerForm(**fields))
    except InvalidValueError as error:
        return _setup(request, fields, str(error), 422)
    secret = open_session(session, user.id, request, settings)
    return _signed_in(request, settings, secret, f"/teams/{team.slug}")


@router.post("/theme")
async def choose_theme(request: Request) -> Response:
    """Remember light, dark or the system's wish; for browsers without JavaScript, the module does it in place."""
    async with request.form(max_files=0, max_fields=4, max_part_size=4096) as form:
        chosen, back = str(form.get("theme", "auto")), str(form.get("back", "/"))
    response = RedirectResponse(local(back), 303)
    if chosen in THEMES:
        response.set_cookie("theme", chosen, max_age=31_536_000, samesite="lax", secure=is_https(request))
    return response


def show_sign_in(
    request: Request,
    *,
    status: int = 200,
    next: str = "/",  # noqa: A002 - the parameter's name
    email: str = "",
    message: str = "",
) -> Response:
    """Show every way to sign in."""
    ways = sign_in_of(request)
    return _form(
        request,
        "sign_in.html",
        status=status,
        next=next,
        email=email,
        message=message,
        has_passwords=ways.has_passwords,
        providers=[{"name": known.name, "label": known.label} for known in ways.providers.values()],
    )


def local(address: str) -> str:
    """An address on this server: anything that a browser could read as another host's becomes the first page."""
    parts = urlsplit(address.replace("\\", "/"))
    if parts.scheme or parts.netloc or not address.startswith("/") or address.startswith(("//", "/\\")):
        return "/"
    return address if address.isprintable() else "/"


def _signed_in(request: Request, settings: SettingsDep, token: str, following: str) -> Response:
    response = RedirectResponse(following, 303)
    set_session_cookie(response, token, settings, is_https=is_https(request))
    return response


def _setup(request: Request, fields: dict[str, str], message: str, status: int = 200) -> Response:
    return _form(
        request,
        "setup.html",
        status=status,
        form={name: value[:254] for name, value in fields.items() if name != "password"},
        message=message,
        shortest_password=SHORTEST,
        asks_team=True,
    )


def _form(request: Request, template: str, *, status: int = 200, **context: Any) -> Response:
    response = render(request, template, status=status, form_token=form_token(request), **context)
    remember_visitor(request, response, is_https=is_https(request))
    return response
