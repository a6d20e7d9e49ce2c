"""The installation, for whoever looks after it: people, teams and what they store, queue, workers, what failed."""

from datetime import UTC, datetime

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from cachescope.errors import ConflictError
from dashboards.context import FormDep, Page, PageDep
from dashboards.rendering import query, render
from dashboards.theme import plural, size
from service.actions import administration, audit
from service.actions.administration import Installation
from service.auditing import ACTIONS
from service.auth.forms import form_token
from service.dependencies import settings_of
from store.models import User
from store.queries import teams

router = APIRouter(prefix="/admin", include_in_schema=False)

DONE = {"again": "It is tried again.", "people": "Saved."}


@router.get("", response_class=HTMLResponse)
def show(page: PageDep, done: str = "") -> Response:
    """Show the installation."""
    return _show(page, done=DONE.get(done, ""))


@router.post("/deliveries/{delivery_id}/retry")
def retry(form: FormDep, page: PageDep, delivery_id: str) -> Response:
    """Try a failed delivery again."""
    try:
        administration.retry_delivery(page.session, page.viewer, delivery_id)
    except ConflictError as error:
        return _show(page, message=str(error), status=409)
    return RedirectResponse(f"/admin{query({'done': 'again'})}", 303)


@router.post("/people/{user_id}")
def appoint(form: FormDep, page: PageDep, user_id: int) -> Response:
    """Let somebody look after the installation, or no longer."""
    administration.require(page.viewer)
    user = page.session.get(User, user_id) if 0 < user_id < 1 << 62 else None
    try:
        administration.appoint(page.session, page.viewer, user, is_administrator="appoint" in form)
    except ConflictError as error:
        return _show(page, message=str(error), status=409)
    return RedirectResponse(f"/admin{query({'done': 'people'})}", 303)


def _show(page: Page, *, message: str = "", done: str = "", status: int = 200) -> Response:
    found = administration.load(page.session, page.viewer, settings_of(page.request))
    now = datetime.now(UTC)
    return render(
        page.request,
        "administration.html",
        status=status,
        viewer=page.viewer,
        teams=teams.list_teams(page.session, page.viewer.team_ids),
        form_token=form_token(page.request),
        section="administration",
        crumbs=[("Administration", None)],
        sentence=_sentence(found, now),
        message=message,
        done=done,
        found=found,
        processes=[(each, administration.is_alive(each, now)) for each in found.processes],
        events=[(event, ACTIONS.get(event.action, event.action), audit.describe(event)) for event in found.events],
    )


def _sentence(found: Installation, now: datetime) -> str:
    alive = sum(administration.is_alive(each, now) for each in found.processes if each.kind == "worker")
    waits = sum(found.waiting.values())
    failed = found.states["failed"]
    return (
        f"{plural(len(found.teams), 'team')} and {plural(len(found.people), 'person', 'people')} store "
        f"{size(found.storage.database_bytes + found.storage.log_bytes)}; {plural(alive, 'worker')} "
        f"{'lives' if alive == 1 else 'live'}, {waits or 'nothing'} {'wait' if waits > 1 else 'waits'}, "
        f"{plural(failed, 'delivery', 'deliveries')} failed."
    )
