"""One alert: the chart with the change point, the commit, the instruction, what it costs, what to do, who did what."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import orjson
from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from cachescope import wording
from cachescope.errors import InvalidValueError
from dashboards import evidence, states, theme
from dashboards.context import FormDep, Page, PageDep
from dashboards.pages.alerts import STATES, owner_of
from dashboards.rendering import HEADERS, environment, query
from service.actions import incidents
from service.actions.incidents import Decision
from store.models import Build, Incident, Repository, Team
from store.queries import incidents as rows
from store.queries import messages

router = APIRouter(prefix="/alerts", include_in_schema=False)

BUTTONS = {
    "acknowledge": ("Take it up", "I take care of this: nobody is reminded."),
    "release": ("Give it back", "Nobody takes care of it any more."),
    "accept": ("Accept as normal", "It counts as normal from now on and is not told again."),
    "refuse": ("No longer normal", "It is told again as soon as it is seen again."),
    "resolve": ("Close", "It is over; if it is still seen, it opens again."),
    "reopen": ("Reopen", "It was closed too early."),
    "unmute": ("Unmute", "Tell of it again."),
}
UNDO = {
    "acknowledge": "release",
    "release": "acknowledge",
    "mute": "unmute",
    "accept": "refuse",
    "resolve": "reopen",
    "reopen": "resolve",
}
MUTES = {
    "hours": ("4 hours", timedelta(hours=4)),
    "day": ("a day", timedelta(days=1)),
    "week": ("a week", timedelta(days=7)),
}
MESSAGE_STATES = {
    "new": states.State("canceled", "waiting"),
    "working": states.State("running", "being sent"),
    "sent": states.State("hit", "sent"),
    "failed": states.State("failed", "failed"),
    "canceled": states.State("none", "taken back"),
}
EVENTS = {
    "opened": "opened",
    "resolved": "ended",
    "reopened": "opened again",
    "withdrawn": "withdrawn",
    "acknowledged": "taken up",
    "released": "given back",
    "muted": "muted",
    "unmuted": "unmuted",
    "accepted": "accepted as normal",
    "refused": "no longer accepted",
    "closed": "closed",
    "reopened by hand": "reopened",
}


@router.get("/{incident_id}", response_class=HTMLResponse)
def alert(page: PageDep, incident_id: int, done: str = Query("", max_length=20)) -> Response:
    """Show one alert."""
    incident = incidents.find_incident(page.session, page.viewer, incident_id)
    team = page.session.get_one(Team, incident.team_id)
    words = incidents.in_words(page.session, incident)
    points = rows.load_points(page.session, incident)
    may_decide = page.viewer.may(team.id, "member")
    possible = incidents.possible_actions(incident) if may_decide else []
    undo = UNDO.get(done)
    return page.show(
        "alert.html",
        team,
        crumbs=[("Alerts", f"/teams/{team.slug}/alerts"), (f"Alert {incident.id}", None)],
        section="alerts",
        json_url=f"/api/v1/incidents/{incident.id}",
        draws=bool(points),
        incident=incident,
        words=words,
        state=STATES[incident.state],
        owner=owner_of(page, incident),
        kind=wording.kind_in_words(incident.kind),
        figures=_figures(incident),
        has_chart=bool(points),
        chart_title=evidence.TITLE,
        chart_summary=evidence.summary(points, incident),
        facts=_facts(page, incident),
        image_url=_image_url(team, incident),
        commit_url=_commit_url(page, incident, incident.commit_id),
        fixed_url=_commit_url(page, incident, incident.fixed_by),
        since_build=_build(page, incident.since_build_id),
        found_build=_build(page, incident.found_build_id),
        resolved_build=_build(page, incident.resolved_build_id),
        around=_around(points, incident),
        victims=[(victim, _seconds(incident, at)) for at, victim in enumerate(words.victims)],
        children=[
            (child, incidents.in_words(page.session, child)) for child in rows.load_children(page.session, incident.id)
        ],
        parent=incident.parent_id,
        states=STATES,
        buttons=[(name, *BUTTONS[name]) for name in possible if name in BUTTONS],
        may_mute="mute" in possible,
        mutes=[(name, word) for name, (word, _) in MUTES.items()],
        undo=undo if undo in possible else None,
        done=done if done in {*UNDO, "unmute", "refuse"} else "",
        events=[
            {
                "at": event.at,
                "what": EVENTS.get(event.action, event.action),
                "who": event.actor or "the detector",
                "note": event.note,
                "build": _build(page, event.build_id),
            }
            for event in rows.list_events(page.session, incident.id)
        ],
        messages=[
            {
                "at": message.sent_at or message.created_at,
                "kind": message.kind,
                "channel": message.channel.name,
                "state": MESSAGE_STATES[message.state],
                "answer": message.answer or "",
            }
            for message in messages.list_of_incident(page.session, incident.id)
        ],
    )


@router.get("/{incident_id}/chart")
def chart(page: PageDep, incident_id: int, part: str = Query("", max_length=10)) -> Response:
    """Serve the chart of an alert as JSON, its numbers as a table."""
    incident = incidents.find_incident(page.session, page.viewer, incident_id)
    points = rows.load_points(page.session, incident)
    summary = evidence.summary(points, incident)
    if part == "table" or "text/html" in page.request.headers.get("accept", ""):
        table = evidence.table(points, incident)
        text = environment().get_template("fragments/chart_table.html").render(table=table, summary=summary)
        return HTMLResponse(text, headers=HEADERS)
    drawn = {"name": "alert", "title": evidence.TITLE, "summary": summary, "figure": evidence.figure(points, incident)}
    return Response(orjson.dumps(drawn), media_type="application/json", headers=HEADERS)


@router.post("/{incident_id}/{action}")
def decide(form: FormDep, page: PageDep, incident_id: int, action: str) -> Response:
    """Do what somebody decided."""
    until = form.get("until", "")
    if action == "mute" and until not in {*MUTES, "fixed"}:
        raise InvalidValueError("until", "Choose how long the alert is to be muted.")
    muted_until = datetime.now(UTC) + MUTES[until][1] if action == "mute" and until in MUTES else None
    decision = Decision(action=action, muted_until=muted_until, note=form.get("note", ""))
    incidents.decide(page.session, page.viewer, incident_id, decision)
    return RedirectResponse(f"/alerts/{incident_id}{query({'done': action})}", 303)


def _figures(incident: Incident) -> list[dict[str, Any]]:
    def row(name: str, formula: str, value: str | None, missing: str = "not known") -> dict[str, Any]:
        rest = {"note": "", "change": "", "is_better": None, "missing": missing}
        return {"name": name, "formula": formula, "value": value, **rest}

    ended = incident.resolved_at if incident.state == "resolved" else None
    age = ((ended or datetime.now(UTC)) - (incident.since_at or incident.opened_at)).total_seconds()
    lasting = theme.plural(round(age / 86_400), "day") if age >= 2 * 86_400 else theme.duration(age)
    lasts = row("Lasted" if ended else "Lasts", "Since the change point", lasting)
    if incident.kind == "budget":  # bytes, whose price nobody knows in seconds
        return [lasts]
    return [
        row(
            "Price per day",
            "Seconds lost per build × builds a day of the last week",
            theme.duration(incident.seconds_per_day) if incident.seconds_per_day else None,
        ),
        row(
            "Price per build",
            "Share of builds that are hit × seconds that each of them loses",
            theme.duration(incident.seconds_per_build) if incident.seconds_per_build else None,
        ),
        row("Builds per day", "Of this image, over the last week", f"{incident.builds_per_day:.1f}"),
        lasts,
    ]


def _facts(page: Page, incident: Incident) -> list[tuple[str, str]]:
    facts = [("Sure since", theme.exact(incident.opened_at))]
    if incident.cause != incident.kind:
        facts.insert(0, ("Cause", incident.cause.replace("_", " ")))
    if incident.image is not None and incident.image.name:
        facts.append(("Image", theme.cut_middle(incident.image.name, 80)))
    if incident.stage:
        facts.append(("Stage", theme.cut_middle(incident.stage, 60)))
    if incident.branch:
        facts.append(("First on branch", theme.cut_middle(incident.branch, 80)))
    if incident.state == "muted":
        until = theme.exact(incident.muted_until) if incident.muted_until else "it is fixed"
        facts.append(("Muted until", until))
    if incident.reopened:
        facts.append(("Came back", theme.plural(incident.reopened, "time")))
    return [*facts, ("Confidence", incident.confidence), ("Taken up by", owner_of(page, incident) or "nobody")]


def _commit_url(page: Page, incident: Incident, commit: str | None) -> str | None:
    """Where the forge shows a commit; only addresses of the web are links."""
    if commit is None or incident.repository_id is None or not commit.isalnum():
        return None
    url = page.session.get_one(Repository, incident.repository_id).url or ""
    return f"{url.rstrip('/')}/commit/{commit}" if urlsplit(url).scheme in {"http", "https"} else None


def _image_url(team: Team, incident: Incident) -> str | None:
    """The page of the image whose budget was passed; its number ends the key of such an alert."""
    number = incident.key.rpartition(":")[2]
    if incident.kind != "budget" or not number.isdecimal():
        return None
    return f"/teams/{team.slug}/repositories/{incident.repository_id}/images/{number}"


def _build(page: Page, build_id: int | None) -> dict[str, Any] | None:
    build = page.session.get(Build, build_id) if build_id is not None else None
    if build is None:
        return None
    return {"url": f"/builds/{build.id}", "text": f"Build {build.id}", "at": build.started_at}


def _around(points: Any, incident: Incident) -> list[dict[str, Any]]:
    """The last builds before the change point and the first after it."""
    of_phase = evidence.phases(points, incident)
    chosen = [("before", point) for point in of_phase["before"][-3:]] + [
        ("since the change", point) for point in of_phase["since"][:3]
    ]
    if of_phase["after"]:
        chosen += [("after the fix", point) for point in of_phase["after"][:3]]
    return [
        {
            "url": f"/builds/{point.build_id}",
            "text": f"Build {point.build_id}",
            "phase": phase,
            "at": point.at,
            "branch": point.branch,
            "commit": wording.short_commit(point.commit_id) if point.commit_id else "",
            "hits": f"{point.hits} of {point.hits + point.misses}",
            "seconds": point.seconds,
        }
        for phase, point in chosen
    ]


def _seconds(incident: Incident, at: int) -> float | None:
    seconds = incident.victims[at].get("seconds")
    return float(seconds) if seconds is not None else None
