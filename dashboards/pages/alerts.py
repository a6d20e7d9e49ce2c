"""Alerts of a team: what has become worse for good, what it costs, who takes care of it."""

from typing import Any

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, Response

from cachescope import wording
from dashboards import states, theme
from dashboards.context import Page, PageDep
from dashboards.rendering import query
from service.actions import incidents
from service.dependencies import TeamDep
from store.models import Incident, User
from store.queries import repositories

router = APIRouter(include_in_schema=False)

PAGE = 50
STATES = {
    "open": states.State("miss", "open", help="Nobody has taken it up yet."),
    "acknowledged": states.State("expected", "taken up", help="Somebody takes care of it; nobody is reminded."),
    "muted": states.State("canceled", "muted", help="Nobody is told of it for now."),
    "accepted": states.State("none", "accepted", help="It counts as normal from now on."),
    "resolved": states.State("hit", "resolved", help="It is over."),
}
CHOICES = {
    "active": "Active",
    "open": "Open",
    "acknowledged": "Taken up",
    "muted": "Muted",
    "accepted": "Accepted",
    "resolved": "Resolved",
}


@router.get("/teams/{slug}/alerts", response_class=HTMLResponse)
def list_alerts(
    page: PageDep,
    team: TeamDep,
    state: str = Query("active", max_length=20),
    repository: str = Query("", max_length=18),
    before: str = Query("", max_length=18),
) -> Response:
    """List the alerts of a team."""
    chosen = state if state in CHOICES else "active"
    known = repositories.list_repositories(page.session, team.id)
    repository_id = next((each.id for each in known if str(each.id) == repository), None)
    last = int(before) if before.isascii() and before.isdigit() else None
    found = incidents.list_incidents(
        page.session, page.viewer, team, state=chosen, repository_id=repository_id, before=last, limit=PAGE
    )
    path = page.request.url.path
    view = {"repository": repository_id}
    return page.show(
        "alerts.html",
        team,
        crumbs=[("Alerts", None)],
        section="alerts",
        json_url=f"/api/v1/teams/{team.slug}/incidents{query({'state': chosen, **view})}",
        sentence=_sentence(found, chosen),
        states=[(word, path + query({"state": name, **view}), name == chosen) for name, word in CHOICES.items()],
        alerts=[_row(page, incident) for incident in found],
        repositories=known,
        repository_id=repository_id,
        chosen=chosen,
        nothing="Nothing has become worse." if chosen == "active" else f"No alert is {CHOICES[chosen].lower()}.",
        more_url=path + query({"state": chosen, **view, "before": found[-1].id}) if len(found) == PAGE else None,
    )


def _sentence(found: Any, chosen: str) -> str:
    if not found:
        return "No alert is open." if chosen == "active" else "Nothing to see here."
    if chosen != "active":
        return f"{theme.plural(len(found), 'alert')} {CHOICES[chosen].lower()}, newest first."
    lost = sum(incident.seconds_per_day for incident in found)
    waiting = sum(incident.state == "open" for incident in found)
    waits = f"nobody has taken up {waiting} of them" if waiting else "somebody takes care of each"
    return f"{theme.plural(len(found), 'alert')} cost {theme.duration(lost)} a day; {waits}."


def _row(page: Page, incident: Incident) -> dict[str, Any]:
    words = incidents.in_words(page.session, incident)
    return {
        "url": f"/alerts/{incident.id}",
        "title": words.title.partition(": ")[2] or words.title,
        "place": words.place,
        "kind": wording.kind_in_words(incident.kind),
        "state": STATES[incident.state],
        "price": incident.seconds_per_day or None,
        "opened_at": incident.opened_at,
        "resolved_at": incident.resolved_at,
        "owner": owner_of(page, incident),
        "repository_url": f"/teams/{page.request.path_params['slug']}/repositories/{incident.repository_id}"
        if incident.repository_id is not None
        else None,
    }


def owner_of(page: Page, incident: Incident) -> str:
    """The name of whoever took an alert up."""
    owner = page.session.get(User, incident.owner_id) if incident.owner_id is not None else None
    return owner.name if owner is not None else ""
