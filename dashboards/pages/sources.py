"""Connecting a CI system: choose it, follow its steps, see the first webhook arrive; then how it fares."""

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from cachescope.errors import ConflictError, InvalidValueError, UnknownNameError
from dashboards import theme
from dashboards.context import FormDep, Page, PageDep
from dashboards.guides import Guide, find_guide, in_order
from dashboards.pages.deliveries import STATES
from dashboards.rendering import HEADERS, query
from service.actions import deliveries, sources
from service.dependencies import TeamDep, base_url
from store.models import Source, Team
from store.queries import repositories

router = APIRouter(prefix="/teams/{slug}/sources", include_in_schema=False)

WAITING = "Waiting for the first webhook. It appears here by itself."
NEXT = "The next webhook appears here by itself."
DONE = {
    "read": "Kept. Logs are fetched with it from now on; send an event again that came before.",
    "write": "Kept. Results are written with it from now on.",
    "address": "Saved.",
    "own-secret": "Kept. The former secret works for another week.",
    "off": "The source is off: its webhooks are refused.",
    "again": "It is being worked off again.",
}
LABELS = {
    "token": "Token",
    "user": "User",
    "app_id": "App id",
    "private_key": "Private key of the App (the whole .pem file)",
}


@router.get("", response_class=HTMLResponse)
def list_sources(page: PageDep, team: TeamDep) -> Response:
    """List the sources of a team and how they fare."""
    found = sources.list_sources(page.session, page.viewer, team)
    rows = [_row(page, team, source) for source in found]
    bad = sum(bool(row["problem"]) for row in rows)
    sentence = (
        f"{theme.plural(len(rows), 'CI system')} sent to {team.name}: "
        + (f"{bad} need a look." if bad else "all of them are well.")
        if rows
        else f"No CI system is connected to {team.name} yet: choose yours."
    )
    return page.show(
        "sources.html",
        team,
        crumbs=[("CI systems", None)],
        section="settings",
        sentence=sentence,
        rows=rows,
        choices=_choices(team, None),
        may_change=page.viewer.may(team.id, "owner"),
    )


@router.get("/new", response_class=HTMLResponse)
def new_source(page: PageDep, team: TeamDep, provider: str = Query("github", max_length=20)) -> Response:
    """Show the first step for a CI system: its name and where it is."""
    return _show_new(page, team, provider if provider in sources.list_providers() else "github")


@router.post("/new")
def create_source(form: FormDep, page: PageDep, team: TeamDep) -> Response:
    """Make a source, and show its address, its secret and the steps."""
    provider = form.get("provider", "")
    try:
        wanted = sources.SourceForm(
            name=form.get("name", ""),
            provider=provider,
            repository_id=_number(form.get("repository_id", "")),
            scheme=form.get("scheme", ""),
            base_url=form.get("base_url", ""),
            networks=form.get("networks", ""),
        )
        _require_server(find_guide(provider), wanted.base_url)
        source, secret = sources.create_source(page.session, page.viewer, team, wanted)
    except (InvalidValueError, UnknownNameError) as error:
        known = provider if provider in sources.list_providers() else "github"
        return _show_new(page, team, known, message=str(error), form=form)
    return _show(page, team, source, secret=secret)


@router.get("/{source_id}", response_class=HTMLResponse)
def source(page: PageDep, team: TeamDep, source_id: str, done: str = Query("", max_length=20)) -> Response:
    """Show a source: its steps until the first webhook has come, then how it fares."""
    found = sources.find_source(page.session, page.viewer, team, source_id)
    return _show(page, team, found, done=DONE.get(done, ""))


@router.get("/{source_id}/state")
def state(page: PageDep, team: TeamDep, source_id: str, since: int = Query(0, ge=0, le=1 << 50)) -> Response:
    """Say whether a webhook has come since a moment; what the waiting page asks for again and again."""
    found = sources.find_source(page.session, page.viewer, team, source_id)
    health = sources.load_health(page.session, page.viewer, team, source_id)
    if health.last_at is not None and health.last_at.timestamp() * 1000 >= since:
        return JSONResponse({"url": f"/teams/{team.slug}/sources/{found.id}"}, headers=HEADERS)
    if found.refused_at is not None and found.refused_at.timestamp() * 1000 >= since:
        return JSONResponse({"text": f"A webhook came and was refused: {found.refused_reason}"}, headers=HEADERS)
    return JSONResponse({"text": WAITING if health.last_at is None else NEXT}, headers=HEADERS)


@router.post("/{source_id}/credentials/{purpose}")
def set_credentials(form: FormDep, page: PageDep, team: TeamDep, source_id: str, purpose: str) -> Response:
    """Keep a token to read logs or to write results with."""
    try:
        sources.set_credentials(page.session, page.viewer, team, source_id, purpose, form)
    except (InvalidValueError, UnknownNameError) as error:
        return _again(page, team, source_id, str(error))
    return _done(team, source_id, purpose)


@router.post("/{source_id}/address")
def change_source(form: FormDep, page: PageDep, team: TeamDep, source_id: str) -> Response:
    """Change where the CI system is."""
    try:
        sources.change_source(
            page.session,
            page.viewer,
            team,
            source_id,
            base_url=form.get("base_url", ""),
            networks=form.get("networks", ""),
        )
    except InvalidValueError as error:
        return _again(page, team, source_id, str(error))
    return _done(team, source_id, "address")


@router.post("/{source_id}/secret")
def rotate_secret(form: FormDep, page: PageDep, team: TeamDep, source_id: str) -> Response:
    """Make a new secret and show it, once."""
    secret = sources.rotate_secret(page.session, page.viewer, team, source_id)
    return _show(page, team, sources.find_source(page.session, page.viewer, team, source_id), secret=secret)


@router.post("/{source_id}/own-secret")
def add_secret(form: FormDep, page: PageDep, team: TeamDep, source_id: str) -> Response:
    """Take a secret that the CI system made."""
    try:
        sources.add_secret(page.session, page.viewer, team, source_id, form.get("secret", ""))
    except InvalidValueError as error:
        return _again(page, team, source_id, str(error))
    return _done(team, source_id, "own-secret")


@router.post("/{source_id}/off")
def disable_source(form: FormDep, page: PageDep, team: TeamDep, source_id: str) -> Response:
    """Refuse the webhooks of a source from now on."""
    sources.disable_source(page.session, page.viewer, team, source_id)
    return _done(team, source_id, "off")


@router.get("/{source_id}/requests/{delivery_id}", response_class=HTMLResponse)
def show_request(page: PageDep, team: TeamDep, source_id: str, delivery_id: str) -> Response:
    """Show a webhook as it came: headers and body without secrets, outcome, reason."""
    found = sources.find_request(page.session, page.viewer, team, source_id, delivery_id)
    owner = sources.find_source(page.session, page.viewer, team, source_id)
    outcome = STATES[found.delivery.state]
    return page.show(
        "source_request.html",
        team,
        crumbs=[
            ("CI systems", f"/teams/{team.slug}/sources"),
            (owner.name, f"/teams/{team.slug}/sources/{owner.id}"),
            ("Webhook", None),
        ],
        section="settings",
        sentence="This run was found by asking: no webhook told of it."
        if found.is_found
        else f"This webhook is {outcome.word}.",
        kept=found,
        state=outcome,
        again_url=f"/teams/{team.slug}/sources/{owner.id}/requests/{delivery_id}/again",
        may_retry=found.delivery.state in {"failed", "ignored"} and page.viewer.may(team.id, "member"),
    )


@router.post("/{source_id}/requests/{delivery_id}/again")
def send_again(form: FormDep, page: PageDep, team: TeamDep, source_id: str, delivery_id: str) -> Response:
    """Work a webhook off once more."""
    sources.find_request(page.session, page.viewer, team, source_id, delivery_id)
    try:
        deliveries.retry_delivery(page.session, page.viewer, delivery_id)
    except ConflictError as error:
        return _again(page, team, source_id, str(error))
    return _done(team, source_id, "again")


def _show_new(
    page: Page, team: Team, provider: str, *, message: str = "", form: dict[str, str] | None = None
) -> Response:
    page.viewer.require(team.id, "owner", "connect a CI system")
    facts, guide, given = sources.describe_provider(provider), find_guide(provider), form or {}
    return page.show(
        "source_new.html",
        team,
        status=422 if message else 200,
        crumbs=[("CI systems", f"/teams/{team.slug}/sources"), (guide.label, None)],
        section="settings",
        sentence=f"Connect {guide.label} to {team.name}.",
        message=message,
        choices=_choices(team, provider),
        provider=provider,
        guide=guide,
        schemes=facts.schemes if len(facts.schemes) > 1 else (),
        given=given,
        repositories=repositories.list_repositories(page.session, team.id),
    )


def _show(
    page: Page,
    team: Team,
    found: Source,
    *,
    secret: str | None = None,
    message: str = "",
    done: str = "",
) -> Response:
    page.session.flush()
    facts, guide = sources.describe_provider(found.provider), find_guide(found.provider)
    health = sources.load_health(page.session, page.viewer, team, found.id)
    start = f"/teams/{team.slug}/sources/{found.id}"
    now = round(datetime.now(UTC).timestamp() * 1000)
    since = round(health.last_at.timestamp() * 1000) + 1 if health.last_at else 0
    return page.show(
        "source.html",
        team,
        status=422 if message else 200,
        crumbs=[("CI systems", f"/teams/{team.slug}/sources"), (found.name, None)],
        section="settings",
        sentence=_sentence(found, guide, health),
        message=message,
        done=done,
        source=found,
        guide=guide,
        health=health,
        problem=_problem(found, facts),
        url=f"{base_url(page.request)}/hooks/{found.id}",
        secret=secret,
        start=start,
        wait_url=""
        if found.disabled_at
        else f"{start}/state{query({'since': since if health.last_at else now - 1000})}",
        wait_text=WAITING if health.last_at is None else NEXT,
        scheme=found.scheme or facts.schemes[0],
        read_fields=[(name, LABELS[name]) for name in facts.credential_fields],
        write_fields=[(name, LABELS[name]) for name in facts.credential_fields] if guide.write_help else [],
        has_read=found.read_credentials is not None,
        has_write=found.write_credentials is not None,
        may_change=page.viewer.may(team.id, "owner"),
        rows=[
            {
                "id": delivery.id,
                "received_at": delivery.received_at,
                "state": STATES[delivery.state],
                "what": hook.headers.get("x-github-event")
                or hook.headers.get("x-gitlab-event")
                or hook.headers.get("x-gitea-event")
                or hook.headers.get("x-buildkite-event")
                or ("found by asking" if hook.is_found else hook.subject or "webhook"),
                "reason": delivery.error or "",
                "url": f"{start}/requests/{delivery.id}",
                "may_retry": delivery.state in {"failed", "ignored"},
            }
            for delivery, hook in sources.list_requests(page.session, page.viewer, team, found.id)
        ],
    )


def _sentence(found: Source, guide: Guide, health: Any) -> str:
    if found.disabled_at is not None:
        return f"{found.name} is switched off: its webhooks are refused."
    if health.last_at is None:
        return f"{guide.label} is nearly connected: follow these steps, and its first webhook appears here."
    told = theme.plural(health.received, "webhook") + " came in the last seven days"
    missed = f", {theme.plural(health.found, 'run')} had to be asked for" if health.found else ""
    return f"{told}: {health.failed} failed, {health.waiting} wait{missed}."


def _problem(found: Source, facts: sources.ProviderFacts) -> str:
    """What keeps a source from working, the gravest first."""
    if found.disabled_at is not None:
        return ""
    if found.problem:
        return f"{found.problem} It is tried again."
    if facts.needs_server and not found.base_url:
        return "Say below where this CI system is, so that its logs can be fetched."
    if facts.needs_credentials and found.read_credentials is None:
        return "Give a token to read logs with: until then events are taken and ignored."
    return ""


def _row(page: Page, team: Team, found: Source) -> dict[str, Any]:
    health = sources.load_health(page.session, page.viewer, team, found.id)
    return {
        "name": found.name,
        "label": find_guide(found.provider).label,
        "url": f"/teams/{team.slug}/sources/{found.id}",
        "health": health,
        "refused": found.refused,
        "refused_at": found.refused_at,
        "problem": _problem(found, sources.describe_provider(found.provider)),
        "is_off": found.disabled_at is not None,
    }


def _choices(team: Team, chosen: str | None) -> list[dict[str, Any]]:
    return [
        {
            "label": find_guide(name).label,
            "url": f"/teams/{team.slug}/sources/new?provider={name}",
            "current": name == chosen,
        }
        for name in in_order(sources.list_providers())
    ]


def _again(page: Page, team: Team, source_id: str, message: str) -> Response:
    return _show(page, team, sources.find_source(page.session, page.viewer, team, source_id), message=message)


def _require_server(guide: Guide, base_url: str) -> None:
    if guide.server_needed and not base_url.strip():
        raise InvalidValueError("base_url", "Say where this CI system is: its logs are fetched from there.")


def _number(text: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise InvalidValueError("repository_id", f'"{text[:40]}" is no number of a repository.')
    return int(text)


def _done(team: Team, source_id: str, what: str) -> Response:
    return RedirectResponse(f"/teams/{team.slug}/sources/{source_id}{query({'done': what})}", 303)
