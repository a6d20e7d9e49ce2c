"""The first page of a team: the line to paste for the reader's CI; it waits for the log and turns into its build."""

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, JSONResponse, Response

from cachescope.errors import InvalidValueError
from dashboards import snippets
from dashboards.context import FormDep, Page, PageDep
from dashboards.rendering import HEADERS, query
from service.actions import deliveries, tokens
from service.dependencies import TeamDep, base_url
from store.models import Team
from store.queries import builds as build_rows
from store.queries import repositories as repository_rows

router = APIRouter(prefix="/teams/{slug}/send", include_in_schema=False)

WAITING = "Waiting for the first log. This page turns into its build as soon as it has been read."


@router.get("", response_class=HTMLResponse)
def send(page: PageDep, team: TeamDep, ci: str = Query("terminal", max_length=20)) -> Response:
    """Show what to paste."""
    return _show(page, team, ci)


@router.post("")
def make_token(form: FormDep, page: PageDep, team: TeamDep, ci: str = Query("terminal", max_length=20)) -> Response:
    """Make an upload token and show it inside the line."""
    known = tokens.list_tokens(page.session, page.viewer, team)
    try:
        form_ = tokens.TokenForm(name=f"CI {len(known) + 1}" if known else "CI", scope="upload")
        _, text = tokens.create_token(page.session, page.viewer, team, form_)
    except InvalidValueError as error:
        return _show(page, team, ci, message=str(error), status=422)
    return _show(page, team, ci, token=text)


@router.get("/state")
def state(page: PageDep, team: TeamDep, since: int = Query(0, ge=0, le=1 << 50)) -> Response:
    """Say where the first build that came after a moment is; what the waiting page asks for again and again."""
    return JSONResponse(_state(page, team, since), headers=HEADERS)


def _state(page: Page, team: Team, since: int) -> dict[str, str]:
    for delivery in deliveries.list_deliveries(page.session, page.viewer, team, limit=5):
        if delivery.received_at.timestamp() * 1000 < since:
            break
        if delivery.state == "failed" or (delivery.state == "done" and not _builds(page, delivery.id)):
            return {"url": f"/deliveries/{delivery.id}"}
        if delivery.state == "done":
            return {"url": f"/builds/{_builds(page, delivery.id)[0].id}"}
        if delivery.state in {"new", "working"}:
            return {"text": "A log has arrived and is being read."}
    return {"text": WAITING}


def _builds(page: Page, delivery_id: str) -> Any:
    return build_rows.load_builds_of_delivery(page.session, delivery_id)


def _show(
    page: Page, team: Team, ci: str, *, token: str | None = None, message: str = "", status: int = 200
) -> Response:
    page.session.flush()
    choices = snippets.choices(snippets.shown_url(base_url(page.request)), token)
    chosen = next((choice for choice in choices if choice.name == ci), choices[0])
    has_repositories = bool(repository_rows.list_repositories(page.session, team.id))
    is_member = page.viewer.may(team.id, "member")
    since = round(datetime.now(UTC).timestamp() * 1000) if has_repositories else 0
    if has_repositories:
        sentence = f"Paste this where builds run, and their logs come to {team.name}."
    else:
        sentence = f"{team.name} has no build yet: paste this where builds run, and the first one opens here."
    return page.show(
        "send.html",
        team,
        status=status,
        crumbs=[("Send a log", None)],
        section="send",
        sentence=sentence,
        message=message,
        choices=choices,
        chosen=chosen,
        token=token,
        tokens=len(tokens.list_tokens(page.session, page.viewer, team)) if is_member else 0,
        may_make_token=is_member,
        waits=True,
        wait_url=f"/teams/{team.slug}/send/state{query({'since': since or None})}",
        wait_text=WAITING if not has_repositories else WAITING.replace("first", "next"),
        has_builds=has_repositories,
    )
