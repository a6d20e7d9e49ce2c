"""What was sent and what became of it: every delivery with its state, its reason, and a retry."""

from typing import Any

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from dashboards import states, theme
from dashboards.context import FormDep, Page, PageDep
from dashboards.rendering import HEADERS, query
from service.actions import deliveries
from service.dependencies import TeamDep
from store.models import Delivery, Repository, Source, Team, Token
from store.queries import builds as build_rows

router = APIRouter(include_in_schema=False)

PAGE = 50
STATES = {
    "new": states.State("canceled", "waiting", help="It waits for a worker."),
    "working": states.State("running", "being read", help="A worker reads it."),
    "done": states.State("hit", "done", help="It has been read."),
    "ignored": states.State("none", "ignored", help="It carried no log of a build."),
    "failed": states.State("failed", "failed", help="It could not be read; it is kept and can be tried again."),
}


@router.get("/teams/{slug}/deliveries", response_class=HTMLResponse)
def list_deliveries(
    page: PageDep, team: TeamDep, state: str = Query("", max_length=20), before: str = Query("", max_length=40)
) -> Response:
    """List the deliveries of a team, newest first."""
    chosen = state if state in STATES else None
    # An address that names a delivery of nobody's, or of another team, shows the newest.
    last = page.session.get(Delivery, before) if before else None
    last = last if last is not None and last.team_id == team.id else None
    more = deliveries.list_deliveries(page.session, page.viewer, team, state=chosen, before=last, limit=PAGE + 1)
    found = more[:PAGE]
    path = page.request.url.path
    choices = [("All", path, chosen is None)]
    choices += [
        (shown.word[0].upper() + shown.word[1:], path + query({"state": name}), name == chosen)
        for name, shown in STATES.items()
    ]
    return page.show(
        "deliveries.html",
        team,
        crumbs=[("Deliveries", None)],
        section="deliveries",
        json_url=f"/api/v1/teams/{team.slug}/deliveries{query({'state': chosen})}",
        sentence=_list_sentence(found, chosen, is_latest=last is None),
        states=choices,
        deliveries=[_row(page, delivery) for delivery in found],
        nothing=f"No delivery is {STATES[chosen].word}." if chosen else "Nothing has been sent yet.",
        newest_url=path + query({"state": chosen}) if last is not None else None,
        older_url=path + query({"state": chosen, "before": found[-1].id}) if len(more) > PAGE else None,
    )


@router.get("/deliveries/{delivery_id}", response_class=HTMLResponse)
def delivery(page: PageDep, delivery_id: str) -> Response:
    """Show one delivery; one that is waited for turns into its build."""
    shown = deliveries.find_delivery(page.session, page.viewer, delivery_id)
    team = page.session.get_one(Team, shown.team_id)
    builds = build_rows.load_builds_of_delivery(page.session, shown.id)
    waits = shown.state in {"new", "working"}
    may_retry = shown.state in {"failed", "ignored"} and page.viewer.may(team.id, "member")
    return page.show(
        "delivery.html",
        team,
        crumbs=[("Deliveries", f"/teams/{team.slug}/deliveries"), (shown.id[:13], None)],
        section="deliveries",
        json_url=f"/api/v1/deliveries/{shown.id}",
        delivery=shown,
        state=STATES[shown.state],
        sentence=_sentence(shown, len(builds)),
        waits=waits,
        may_retry=may_retry and bool(shown.log_digest or shown.body_digest),
        builds=builds,
        details=_details(page, shown),
        warnings=shown.warnings[:40],
    )


@router.get("/deliveries/{delivery_id}/state")
def state(page: PageDep, delivery_id: str) -> Response:
    """Say where to go once a delivery has been read; what its page asks for again and again."""
    shown = deliveries.find_delivery(page.session, page.viewer, delivery_id)
    if shown.state in {"new", "working"}:
        return JSONResponse({"text": f"The log is {STATES[shown.state].word}."}, headers=HEADERS)
    builds = build_rows.load_builds_of_delivery(page.session, shown.id)
    is_one = shown.state == "done" and len(builds) == 1
    url = f"/builds/{builds[0].id}" if is_one else f"/deliveries/{shown.id}"
    return JSONResponse({"url": url}, headers=HEADERS)


@router.post("/deliveries/{delivery_id}/retry")
def retry(form: FormDep, page: PageDep, delivery_id: str) -> Response:
    """Put a failed delivery back to the start of its way."""
    deliveries.retry_delivery(page.session, page.viewer, delivery_id)
    return RedirectResponse(f"/deliveries/{delivery_id}", 303)


def _list_sentence(found: Any, chosen: str | None, *, is_latest: bool) -> str:
    if not found:
        return "Nothing to see here."
    which = "The latest" if is_latest else "Older:"
    failed = sum(delivery.state == "failed" for delivery in found)
    waiting = sum(delivery.state in {"new", "working"} for delivery in found)
    many = theme.plural(len(found), "delivery", "deliveries")
    if chosen:
        return f"{which} {many} in the state “{STATES[chosen].word}”."
    rest = "all of them have been read" if not failed and not waiting else f"{failed} failed, {waiting} not read yet"
    return f"{which} {many}: {rest}."


def _row(page: Page, delivery: Delivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "received_at": delivery.received_at,
        "state": STATES[delivery.state],
        "repository": _repository(page, delivery),
        "by": _sender(page, delivery),
        "log_bytes": delivery.log_bytes,
        "attempts": delivery.attempts,
        "error": delivery.error,
    }


def _repository(page: Page, delivery: Delivery) -> str:
    if delivery.repository_id is not None:
        return page.session.get_one(Repository, delivery.repository_id).name
    return str(delivery.parameters.get("repository") or "not told")


def _sender(page: Page, delivery: Delivery) -> str:
    if delivery.source_id is not None and (source := page.session.get(Source, delivery.source_id)):
        return f"source {theme.cut_middle(source.name, 40)}"
    if delivery.token_id is not None and (token := page.session.get(Token, delivery.token_id)):
        return f"token {theme.cut_middle(token.name, 40)}"
    return {"upload": "upload", "hook": "webhook", "demo": "the demo"}[delivery.kind]


def _sentence(delivery: Delivery, builds: int) -> str:
    match delivery.state:
        case "new":
            return "This log has been accepted and waits to be read."
        case "working":
            return "This log is being read."
        case "done" if builds:
            return f"This log has been read: it holds {theme.plural(builds, 'build')}."
        case "done":
            return "This log has been read: it holds no build."
        case "ignored":
            return "This delivery was ignored: it carries no log of a build."
    return f"This log could not be read after {theme.plural(delivery.attempts, 'try', 'tries')}; it is kept."


def _details(page: Page, delivery: Delivery) -> list[tuple[str, str]]:
    facts = [
        ("Id", delivery.id),
        ("Repository", _repository(page, delivery)),
        ("Sent by", _sender(page, delivery)),
        ("Received", theme.exact(delivery.received_at)),
    ]
    if delivery.finished_at:
        took = (delivery.finished_at - delivery.received_at).total_seconds()
        facts.append(("Finished", f"{theme.exact(delivery.finished_at)}, {theme.duration(took)} later"))
    if delivery.state in {"new", "working"}:
        facts.append(("Tried next", theme.exact(delivery.next_at)))
    if delivery.log_bytes is not None:
        lines = f", {theme.plural(delivery.lines, 'line')}" if delivery.lines is not None else ""
        facts.append(("Log", f"{theme.size(delivery.log_bytes)} unpacked{lines}"))
    if delivery.wrapper:
        facts.append(("Written by", delivery.wrapper.replace("_", "-")))
    secrets = theme.plural(delivery.redactions, "secret") if delivery.redactions else "no secret found"
    facts += [("Taken out before storing", secrets), ("Tries", str(delivery.attempts))]
    facts += [
        (name.replace("_", " ").capitalize(), theme.cut_middle(str(value), 200))
        for name, value in sorted(delivery.parameters.items())
        if name != "repository" and isinstance(value, str | int | float) and str(value)
    ]
    return facts
