"""Form tokens: a form is taken only from a page that we gave to the same browser.

The token of a form is an HMAC keyed by the session cookie, so nothing needs to be stored; before anybody has signed
in, a random cookie of its own takes the session's place. Browsers that say where a request comes from
(`Sec-Fetch-Site`, `Origin`) are believed too: a request from another site is refused whatever it carries.
"""

import hashlib
import hmac
import secrets
from urllib.parse import urlsplit

from fastapi import Request, Response

from cachescope.errors import ForbiddenError
from service.auth.sessions import SESSION_COOKIE

FORM_COOKIE = "cachescope_form"
FORM_FIELD = "form_token"


def form_token(request: Request) -> str:
    """Return the token that every form of this page must carry in the hidden field `form_token`.

    For a visitor who is not signed in, the page's response must pass through `remember_visitor`.
    """
    return _sign(_browser_secret(request))


def remember_visitor(request: Request, response: Response, *, is_https: bool) -> None:
    """Give a browser without a session the cookie that its form's token was made from."""
    if SESSION_COOKIE not in request.cookies and request.cookies.get(FORM_COOKIE) != _browser_secret(request):
        response.set_cookie(
            FORM_COOKIE, _browser_secret(request), httponly=True, samesite="strict", secure=is_https, max_age=86_400
        )


def check_form(request: Request, token: str | None) -> None:
    """Raise ForbiddenError unless the form came from one of our pages in this browser."""
    site = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin")
    is_foreign = site not in {"same-origin", "none"} or (
        origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    )
    known = request.cookies.get(SESSION_COOKIE) or request.cookies.get(FORM_COOKIE)
    if is_foreign or not known or not hmac.compare_digest(_sign(known).encode(), (token or "").encode()):
        raise ForbiddenError(
            "This form is out of date or came from another site. Go back, reload the page and send it again."
        )


def _browser_secret(request: Request) -> str:
    if known := request.cookies.get(SESSION_COOKIE) or request.cookies.get(FORM_COOKIE):
        return known
    if not hasattr(request.state, "form_secret"):
        request.state.form_secret = secrets.token_urlsafe(32)
    secret: str = request.state.form_secret
    return secret


def _sign(secret: str) -> str:
    return hmac.new(secret.encode("utf-8", "replace"), b"cachescope form", hashlib.sha256).hexdigest()
