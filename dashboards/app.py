"""One router for all pages, the figures and the files they load, and the page that an error becomes."""

from collections.abc import Sequence
from typing import Annotated, Any

import orjson
import structlog
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy.orm import Session

from cachescope.errors import InvalidValueError, NotFoundError, UnknownNameError
from dashboards import assets, frames
from dashboards.charts import CHARTS
from dashboards.charts.base import Chart, Scope
from dashboards.context import Page, PageDep
from dashboards.pages import PAGES
from dashboards.periods import Period, get_period
from dashboards.rendering import HEADERS, environment, query, render
from service.dependencies import get_repository
from service.errors import Problem
from store.models import Repository

router = APIRouter(include_in_schema=False)
for page_router in PAGES.values():
    router.include_router(page_router)


@router.get(assets.PREFIX + "{name}")
def file(request: Request, name: str) -> Response:
    """Serve a file that pages load; its address changes with its content, so it may be kept for ever."""
    found = assets.find(name)
    if found is None:
        raise NotFoundError(f"There is no file {name[:80]} here; reload the page to get the present one.")
    content, encoding = assets.compressed(found, request.headers.get("accept-encoding", ""))
    headers = {
        "Cache-Control": "public, max-age=31536000, immutable",
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(
        content,
        media_type=found.media_type,
        headers=headers | ({"Content-Encoding": encoding} if encoding else {}),
    )


@router.get("/charts/{name}")
def chart(
    page: PageDep,
    name: str,
    *,
    period: Annotated[Period, Depends(get_period)],
    repository: int = Query(),
    image: str = Query("", max_length=18),
    part: str = Query("", max_length=10),
    platform: str = Query("", max_length=200),
) -> Response:
    """Serve a chart: as JSON to the module, as a fragment where a table opens, else as a page of its own."""
    if name not in CHARTS:
        raise UnknownNameError("chart", name[:40], CHARTS)
    found = CHARTS[name]
    of = get_repository(repository, page.session, page.viewer)
    scope = Scope(
        repository_id=of.id,
        first_day=period.first_day,
        last_day=period.last_day,
        image_id=_number(image),
        branch_class=period.branches,
        platform=platform,
    )
    frame = frames.frame(_rows(page.session, found, scope), found.columns)
    summary = found.summary(frame)
    if "text/html" not in page.request.headers.get("accept", ""):
        return _json({"name": name, "title": found.title, "summary": summary, "figure": found.figure(frame)})
    table = found.table(frame)
    if part == "table":
        text = environment().get_template("fragments/chart_table.html").render(table=table, summary=summary)
        return HTMLResponse(text, headers=HEADERS)
    return _chart_page(page, found, of, period, summary=summary, table=table)


def _rows(session: Session, found: Chart, scope: Scope) -> Sequence[Any]:
    return session.execute(found.select(scope)).all()


def _chart_page(page: Page, found: Chart, of: Repository, period: Period, **context: Any) -> Response:
    owner = page.team_of(of)
    url = f"/teams/{owner.slug}/repositories/{of.id}"
    view = query({"days": period.days, "branches": period.branches, "image": page.request.query_params.get("image")})
    return page.show(
        "chart.html",
        owner,
        crumbs=[("Repositories", f"/teams/{owner.slug}/repositories"), (of.name, url + view), (found.title, None)],
        section="repositories",
        json_url=f"{page.request.url.path}?{page.request.url.query}",
        draws=True,
        chart=found,
        repository=of,
        span=period,
        **context,
    )


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json", headers=HEADERS)


def _number(text: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit():
        raise InvalidValueError("image", f'"{text}" is no number of an image.')
    return int(text)


def error_page(request: Request, problem: Problem) -> Response:
    """A problem as a page: what happened and what to do."""
    known = structlog.contextvars.get_contextvars()
    request_id = known.get("request_id") if problem.status >= 500 else None
    response = render(request, "problem.html", status=problem.status, problem=problem, request_id=request_id)
    response.headers.update(problem.headers or {})
    return response


def warm_up() -> None:
    """Do in the background what the first reader would wait for: import pandas, compress plotly.js."""
    frames.warm_up()
    assets.warm_up()
