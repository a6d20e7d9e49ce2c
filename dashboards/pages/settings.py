"""Settings of a team: tokens, webhook sources, name and time zone, members."""

from typing import Any
from zoneinfo import available_timezones

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from cachescope.errors import InvalidValueError, UnknownNameError
from dashboards.context import FormDep, Page, PageDep
from dashboards.periods import is_zone
from dashboards.rendering import query
from dashboards.theme import plural
from service.actions import sources, tokens
from service.auditing import note
from service.dependencies import TeamDep, base_url
from store.models import Source, Team
from store.queries import accounts, repositories

router = APIRouter(prefix="/teams/{slug}/settings", include_in_schema=False)

DONE = {
    "token-revoked": "The token is revoked: jobs that use it are refused from now on.",
    "source-off": "The source is off: its webhooks are refused.",
    "saved": "Saved.",
}


@router.get("", response_class=HTMLResponse)
def settings(page: PageDep, team: TeamDep, done: str = "") -> Response:
    """Show the tokens, sources and members of a team."""
    return _show(page, team, done=DONE.get(done, ""))


@router.post("")
def save_team(form: FormDep, page: PageDep, team: TeamDep) -> Response:
    """Change the name and the time zone."""
    page.viewer.require(team.id, "owner", "change the team")
    name, zone = " ".join(form.get("name", "").split()), form.get("time_zone", "").strip()
    if not 1 <= len(name) <= 100 or not name.isprintable():
        return _show(page, team, message="The name of a team must have 1 to 100 printable characters.", status=422)
    if not is_zone(zone):
        message = f'There is no time zone "{zone[:60]}". Names look like Europe/Berlin; UTC is one too.'
        return _show(page, team, message=message, status=422)
    team.name, team.time_zone = name, zone
    note(page.session, page.viewer, "team.changed", team_id=team.id, target=name, time_zone=zone)
    return _done(team, "saved")


@router.post("/tokens")
def create_token(form: FormDep, page: PageDep, team: TeamDep) -> Response:
    """Make a token and show it, once."""
    try:
        wanted = tokens.TokenForm(
            name=form.get("name", ""), scope=form.get("scope", "upload"), repository_id=_number(form, "repository_id")
        )
        token, text = tokens.create_token(page.session, page.viewer, team, wanted)
    except InvalidValueError as error:
        return _show(page, team, message=str(error), status=422)
    use = "to send logs" if token.scope == "upload" else "to read the API"
    secret = {
        "title": f"The token “{token.name}”",
        "help": f"Give it to your CI as the secret CACHESCOPE_TOKEN {use}; lost, it can only be replaced.",
        "lines": [{"label": "Token", "text": text}],
    }
    return _show(page, team, secret=secret)


@router.post("/tokens/{token_id}/revoke")
def revoke_token(form: FormDep, page: PageDep, team: TeamDep, token_id: str) -> Response:
    """End a token at once."""
    tokens.revoke_token(page.session, page.viewer, team, token_id)
    return _done(team, "token-revoked")


@router.post("/sources")
def create_source(form: FormDep, page: PageDep, team: TeamDep) -> Response:
    """Make a source and show its secret, once."""
    try:
        wanted = sources.SourceForm(
            name=form.get("name", ""),
            provider=form.get("provider", "generic"),
            repository_id=_number(form, "repository_id"),
        )
        source, secret = sources.create_source(page.session, page.viewer, team, wanted)
    except (InvalidValueError, UnknownNameError) as error:
        return _show(page, team, message=str(error), status=422)
    return _show(page, team, secret=_secret(page, source, secret))


@router.post("/sources/{source_id}/rotate")
def rotate_secret(form: FormDep, page: PageDep, team: TeamDep, source_id: str) -> Response:
    """Give a source a new secret and show it, once."""
    secret = sources.rotate_secret(page.session, page.viewer, team, source_id)
    source = next(known for known in sources.list_sources(page.session, page.viewer, team) if known.id == source_id)
    return _show(page, team, secret=_secret(page, source, secret))


@router.post("/sources/{source_id}/off")
def disable_source(form: FormDep, page: PageDep, team: TeamDep, source_id: str) -> Response:
    """Refuse the webhooks of a source from now on."""
    sources.disable_source(page.session, page.viewer, team, source_id)
    return _done(team, "source-off")


def _show(page: Page, team: Team, *, status: int = 200, message: str = "", done: str = "", **context: Any) -> Response:
    is_member = page.viewer.may(team.id, "member")
    is_owner = page.viewer.may(team.id, "owner")
    page.session.flush()
    known = repositories.list_repositories(page.session, team.id)
    names = {repository.id: repository.name for repository in known}
    made = tokens.list_tokens(page.session, page.viewer, team) if is_member else ()
    connected = sources.list_sources(page.session, page.viewer, team) if is_member else ()
    return page.show(
        "settings.html",
        team,
        status=status,
        crumbs=[("Settings", None)],
        section="settings",
        json_url=f"/api/v1/teams/{team.slug}",
        sentence=(
            f"{team.name} has {plural(len(known), 'repository', 'repositories')}, {plural(len(made), 'token')} that "
            f"can send or read, and {plural(sum(not s.disabled_at for s in connected), 'source')} that CI systems "
            "send webhooks to."
            if is_member
            else f"You may look at {team.name}; tokens and sources are shown to its members."
        ),
        message=message,
        done=done,
        secret=context.get("secret"),
        tokens=[
            {
                "id": token.id,
                "name": token.name,
                "scope": token.scope,
                "repository": names.get(token.repository_id or 0, "all of the team"),
                "hint": token.hint,
                "created_at": token.created_at,
                "last_used_at": token.last_used_at,
            }
            for token in made
        ],
        sources=[_source(page, team, source, names) for source in connected],
        repositories=known,
        providers=sources.list_providers(),
        members=accounts.load_members(page.session, team.id),
        zones=sorted(available_timezones()),
        may_tokens=is_member,
        may_sources=is_owner,
        may_team=is_owner,
    )


def _source(page: Page, team: Team, source: Source, names: dict[int, str]) -> dict[str, Any]:
    address = f"/teams/{team.slug}/settings/sources/{source.id}"
    rotate = {"text": "New secret", "url": f"{address}/rotate", "danger": False, "ask": ""}
    off = {
        "text": "Switch off",
        "url": f"{address}/off",
        "danger": True,
        "ask": f"Switch the source “{source.name}” off? Its webhooks are refused from now on; what it sent stays.",
    }
    return {
        "name": source.name,
        "provider": source.provider,
        "repository": names.get(source.repository_id or 0, "as the webhook says"),
        "url": f"{base_url(page.request)}/hooks/{source.id}",
        "created_at": source.created_at,
        "disabled_at": source.disabled_at,
        "buttons": [] if source.disabled_at else [rotate, off],
    }


def _secret(page: Page, source: Source, secret: str) -> dict[str, Any]:
    return {
        "title": f"The secret of “{source.name}”",
        "help": "Give both to the CI system; lost, the secret can only be replaced, the former one works another week.",
        "lines": [
            {"label": "Address", "text": f"{base_url(page.request)}/hooks/{source.id}"},
            {"label": "Secret", "text": secret},
        ],
    }


def _number(form: dict[str, str], name: str) -> int | None:
    text = form.get(name, "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise InvalidValueError(name, f'"{text[:40]}" is no number of a repository.')
    return int(text)


def _done(team: Team, what: str) -> Response:
    return RedirectResponse(f"/teams/{team.slug}/settings{query({'done': what})}", 303)
