"""Who did what in a team: the newest first, by what was done and by whom."""

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, Response

from dashboards.context import PageDep
from dashboards.periods import read_day
from dashboards.rendering import query
from service.actions import audit
from service.auditing import ACTIONS
from service.dependencies import TeamDep
from store.queries.audit import AuditFilter

router = APIRouter(prefix="/teams/{slug}/audit", include_in_schema=False)

PAGE = 50


@router.get("", response_class=HTMLResponse)
def show(
    page: PageDep,
    team: TeamDep,
    *,
    action: str = Query("", max_length=60),
    actor: str = Query("", max_length=300),
    first_day: str = Query("", alias="from", max_length=10),
    last_day: str = Query("", alias="to", max_length=10),
    before: str = Query("", max_length=18),
) -> Response:
    """Show a page of the audit log; filters that make no sense filter nothing."""
    wanted = AuditFilter(
        team_id=team.id,
        action=action if action in ACTIONS else "",
        actor=actor.strip(),
        first=read_day(first_day),
        last=read_day(last_day),
    )
    start = int(before) if before.isascii() and before.isdigit() else None
    found = audit.load_events(page.session, page.viewer, team, wanted, before=start, limit=PAGE + 1)
    shown = found[:PAGE]
    chosen = {"action": wanted.action, "actor": wanted.actor, "from": wanted.first, "to": wanted.last}
    return page.show(
        "audit.html",
        team,
        crumbs=[("Settings", f"/teams/{team.slug}/settings"), ("Audit log", None)],
        section="settings",
        json_url=f"/api/v1/teams/{team.slug}/audit{query(chosen)}",
        csv_url=f"/api/v1/teams/{team.slug}/audit.csv{query(chosen)}",
        chosen=chosen,
        is_filtered=any(chosen.values()),
        actions=sorted(ACTIONS.items(), key=lambda item: item[1]),
        events=[
            {
                "at": event.at,
                "words": ACTIONS.get(event.action, event.action),
                "actor": event.actor,
                "address": event.address or "–",
                "target": event.target,
                "details": audit.describe(event),
            }
            for event in shown
        ],
        next_url=query({**chosen, "before": shown[-1].id}) if len(found) > PAGE else None,
        newest_url=query(chosen) or f"/teams/{team.slug}/audit" if before else None,
    )
