"""`GET /badges/{token}/{name}`: one figure of a repository as a picture for its README.

Whoever has the address sees one figure and learns nothing else: neither the name of the repository nor of its team. A
wrong address is answered as any address is that leads nowhere.
"""

import hashlib
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Any, Literal

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session

from cachescope.cli.words import percentage, size
from cachescope.errors import NotFoundError
from service.dependencies import engine_of
from service.errors import responses
from store.database import reading
from store.models import Repository
from store.queries import feedback, rollups

router = APIRouter(tags=["badges"])

SECONDS = 300
"""How long a picture may be kept without asking: proxies of forges do."""
LABELS = {"efficiency.svg": "cache efficiency", "hit-rate.svg": "cache hit rate", "size.svg": "image size"}
GOOD, FAIR, POOR, UNKNOWN = "#0b6e65", "#8a5a12", "#b3222f", "#5b6570"
_NARROW, _WIDE = frozenset("fijlrt.,:;|'! "), frozenset("mwMW%")
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/svg+xml": {}}, "description": "The picture."},
    304: {"description": "The picture that the ETag names is the present one."},
}
_SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" aria-label="{label}: {value}">'
    "<title>{label}: {value}</title>"
    '<clipPath id="r"><rect width="{width}" height="20" rx="3"/></clipPath>'
    '<g clip-path="url(#r)"><rect width="{left}" height="20" fill="#3b424a"/>'
    '<rect x="{left}" width="{right}" height="20" fill="{color}"/></g>'
    '<g fill="#fff" text-anchor="middle" font-family="Verdana,Geneva,DejaVu Sans,sans-serif" font-size="11">'
    '<text x="{label_x}" y="14" textLength="{label_width}">{label}</text>'
    '<text x="{value_x}" y="14" textLength="{value_width}">{value}</text></g></svg>\n'
)


@router.get(
    "/badges/{token}/{name}",
    summary="A figure as a picture",
    response_class=Response,
    responses={**responses(404), **_ANSWERS},
)
def badge(
    request: Request,
    token: str,
    name: str,
    days: Literal["7", "30", "90"] = Query("30", description="The last days of the default branch that count."),
) -> Response:
    """Draw `efficiency.svg`, `hit-rate.svg` or `size.svg`; the address stands on the repository's page."""
    with reading(engine_of(request)) as session:
        repository = feedback.find_badge_repository(session, token) if name in LABELS else None
        if repository is None:
            raise NotFoundError("There is nothing at this address.")
        value, color = _figure(session, repository, name, int(days))
    picture = draw(LABELS[name], value, color).encode()
    tag = f'"{hashlib.sha256(picture).hexdigest()[:32]}"'
    headers = {
        "ETag": tag,
        "Cache-Control": f"public, max-age={SECONDS}, stale-while-revalidate=3600",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
        "X-Robots-Tag": "noindex",
    }
    known = {each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")}
    if tag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(picture, media_type="image/svg+xml", headers=headers)


def _figure(session: Session, repository: Repository, name: str, days: int) -> tuple[str, str]:
    if name == "size.svg":
        compressed = feedback.find_latest_size(session, repository.id)
        return ("unknown", UNKNOWN) if compressed is None else (size(compressed), "#2b5fd9")
    today = datetime.now(UTC).date()
    period = rollups.load_period(session, repository.id, today - timedelta(days=days - 1), today)
    ratio = period.cache_efficiency if name == "efficiency.svg" else period.hit_rate
    return ("unknown", UNKNOWN) if ratio is None else (percentage(ratio), color_of(ratio))


def color_of(ratio: float) -> str:
    """Good from 80 %, fair from 50 %, else poor."""
    return GOOD if ratio >= 0.8 else FAIR if ratio >= 0.5 else POOR


def draw(label: str, value: str, color: str) -> str:
    """Return the picture: a label on the left, a value on the right, both as wide as their text."""
    label_width, value_width = _width(label), _width(value)
    left, right = label_width + 12, value_width + 12
    return _SVG.format(
        label=escape(label),
        value=escape(value),
        color=escape(color),
        width=left + right,
        left=left,
        right=right,
        label_width=label_width,
        value_width=value_width,
        label_x=left / 2,
        value_x=left + right / 2,
    )


def _width(text: str) -> int:
    """About how wide a text is; `textLength` makes it just so in whatever type there is."""
    return round(sum(4.0 if letter in _NARROW else 9.5 if letter in _WIDE else 6.8 for letter in text))
