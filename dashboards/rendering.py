"""Templates to answers: the Jinja environment, what every page gets, and the headers of every page."""

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from dashboards import assets, theme

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""No inline script, no inline style, no other host. plotly would add style elements to the page; `base.html` holds the
elements that tell it not to, `page.css` the few rules it needs, and `page.js` turns its style
attributes into properties."""

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "private, no-cache",
    "Vary": "Cookie, Accept",
}
THEMES = ("auto", "light", "dark")


@cache
def environment() -> Environment:
    """The templates, with the number formats as filters; what is not marked as safe is escaped."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "percent": theme.percent,
        "duration": theme.duration,
        "size": theme.size,
        "count": theme.count,
        "day": theme.day,
        "cut": theme.cut_middle,
        "island": island,
        "query": query,
        "ticks": ticks,
        "quoted": lambda text: quote(str(text), safe=""),
    }
    made.globals |= {
        "asset": lambda name: assets.asset(name).path,
        "plural": theme.plural,
        "points": theme.points,
        "change": theme.change,
        "not_enough": theme.not_enough,
        "ago": theme.ago,
        "exact": theme.exact,
        "figure_template": theme.template(),
        "guarded_styles": assets.guarded_styles,
    }
    return made


def island(value: Any) -> Markup:
    """JSON that can stand inside a script element: no character of it can end the element or open a comment."""
    text = orjson.dumps(value).decode()
    for character, escape in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(character, escape)
    return Markup(text)  # noqa: S704 - escaped above


def ticks(text: str) -> Markup:
    """A sentence whose parts between backticks are code."""
    parts = str(text).split("`")
    if len(parts) % 2 == 0:
        return Markup.escape(text)
    code, plain = Markup("<code>{}</code>"), Markup("{}")
    return Markup("").join((code if place % 2 else plain).format(part) for place, part in enumerate(parts))


def query(parameters: dict[str, Any]) -> str:
    """The query string of the parameters that have a value, with its question mark."""
    kept = {name: str(value) for name, value in parameters.items() if value not in (None, "")}
    return "?" + urlencode(kept) if kept else ""


def theme_of(request: Request) -> str:
    """The theme that the reader chose; `auto` follows the system."""
    chosen = request.cookies.get("theme", "auto")
    return chosen if chosen in THEMES else "auto"


def render(request: Request, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    """Render a page with what every page gets, and send it with the headers that every page has."""
    page = {
        "request": request,
        "path": request.url.path,
        "theme": theme_of(request),
        "now": datetime.now(UTC),
        "zone": "UTC",
        "viewer": None,
        "team": None,
        "teams": (),
        "crumbs": (),
        "section": "",
        "json_url": None,
        "csrf": "",
        "draws": False,
        **context,
    }
    return HTMLResponse(environment().get_template(template).render(page), status_code=status, headers=HEADERS)
