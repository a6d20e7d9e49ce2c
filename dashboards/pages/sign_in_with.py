"""Signing in at a provider: the way there and the way back.

The way there is a link, not a form: the Content-Security-Policy lets forms lead to ourselves alone, redirects included.
"""

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from cachescope.errors import CredentialsRefusedError
from dashboards.pages.sign_in import local, show_sign_in
from service.auth import single_sign_on
from service.auth.sessions import set_session_cookie
from service.auth.throttle import remember_browser
from service.dependencies import SettingsDep, is_https

router = APIRouter(prefix="/sign-in/with/{provider}", include_in_schema=False)

_LONGEST_STATE = 200


@router.get("")
def begin(request: Request, provider: str, next: str = "/") -> Response:  # noqa: A002 - the parameter's name
    """Lead to the provider."""
    try:
        url, cookie = single_sign_on.begin(request, provider, local(next))
    except CredentialsRefusedError as error:
        return show_sign_in(request, status=502, next=local(next), message=str(error))
    response = RedirectResponse(url, 303, headers={"Cache-Control": "no-store"})
    single_sign_on.set_cookie(response, cookie, is_https=is_https(request))
    return response


@router.get("/back")
def finish(
    request: Request,
    provider: str,
    settings: SettingsDep,
    *,
    state: str = "",
    code: str = "",
    error: str = "",
    iss: str | None = None,
) -> Response:
    """Take in whoever comes back with a proof of who they are; begin again otherwise."""
    answer = single_sign_on.Answer(state=state[:_LONGEST_STATE], code=code, error=error, issuer=iss)
    try:
        token, following, email = single_sign_on.finish(request, provider, answer)
    except CredentialsRefusedError as refusal:
        response = show_sign_in(request, status=401, message=str(refusal))
    else:
        response = RedirectResponse(local(following), 303, headers={"Cache-Control": "no-store"})
        set_session_cookie(response, token, settings, is_https=is_https(request))
        remember_browser(response, email, is_https=is_https(request))
    single_sign_on.clear_cookie(response)
    return response
