"""The data of a team: how long it is kept, how it leaves, and how it is deleted."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from cachescope.errors import InvalidValueError
from dashboards.context import FormDep, Page, PageDep
from dashboards.rendering import query
from dashboards.theme import plural
from service.actions import retention
from service.actions.retention import FIELDS, RetentionForm
from service.dependencies import TeamDep
from store.models import Repository, Team
from store.queries import repositories
from store.queries.retention import Days

router = APIRouter(prefix="/teams/{slug}/data", include_in_schema=False)

DONE = {
    "saved": "Saved: what is older goes within the hour.",
    "dropped": "The repository follows the team again.",
    "repository-deleted": "The repository is deleted; its rows and logs are gone in a while.",
}


@router.get("", response_class=HTMLResponse)
def show(page: PageDep, team: TeamDep, done: str = "") -> Response:
    """Show what is kept for how long, and the ways out."""
    return _show(page, team, done=DONE.get(done, ""))


@router.post("")
def save(form: FormDep, page: PageDep, team: TeamDep) -> Response:
    """Change how long the team, or one repository, keeps what was sent."""
    page.viewer.require(team.id, "owner", "choose how long data is kept")
    try:
        repository = _repository(page, team, form.get("repository_id", ""))
        if repository is not None and "drop" in form:
            retention.drop_rule(page.session, page.viewer, team, repository)
            return _done(team, "dropped")
        wanted = RetentionForm(**{name: form.get(name, "") for name in FIELDS})
        retention.save_rule(page.session, page.viewer, team, wanted, repository)
    except InvalidValueError as error:
        return _show(page, team, message=str(error), status=422, asked=form)
    return _done(team, "saved")


def _repository(page: Page, team: Team, number: str) -> Repository | None:
    if not number:
        return None
    is_number = number.isascii() and number.isdigit() and len(number) < 19
    found = repositories.load_repository(page.session, [team.id], int(number)) if is_number else None
    if found is None:
        raise InvalidValueError("repository_id", f'This team has no repository "{number[:40]}".')
    return found


def _show(
    page: Page,
    team: Team,
    *,
    message: str = "",
    done: str = "",
    status: int = 200,
    asked: Mapping[str, str] | None = None,
) -> Response:
    rule, own = retention.load_rules(page.session, page.viewer, team)
    known = repositories.list_repositories(page.session, team.id)
    typed = asked if asked is not None and not asked.get("repository_id") else None
    return page.show(
        "data.html",
        team,
        status=status,
        crumbs=[("Settings", f"/teams/{team.slug}/settings"), ("Data", None)],
        section="settings",
        json_url=f"/api/v1/teams/{team.slug}/retention",
        sentence=_sentence(rule, own),
        message=message,
        done=done,
        may_change=page.viewer.may(team.id, "owner"),
        fields=[(name, words, _value(rule, name, typed)) for name, words in FIELDS.items()],
        repositories=[
            {
                "id": repository.id,
                "name": repository.name,
                "words": in_words(own[repository.id]) if repository.id in own else "as the team",
                "is_own": repository.id in own,
            }
            for repository in known
        ],
    )


def _value(rule: Days, name: str, typed: Mapping[str, str] | None) -> str:
    return typed.get(name, "") if typed is not None else str(getattr(rule, name) or "")


def _sentence(rule: Days, own: Mapping[int, Days]) -> str:
    whose = "its" if len(own) == 1 else "their"
    others = f"; {plural(len(own), 'repository has', 'repositories have')} a rule of {whose} own"
    if rule.keeps_all:
        return f"Everything that was sent is kept{others if own else ''}."
    return f"Kept: {in_words(rule)}{others if own else ''}. Figures over time stay."


def in_words(days: Days) -> str:
    """A rule as people say it."""
    parts: list[Any] = [
        f"{words} for {plural(getattr(days, name), 'day')}" if getattr(days, name) else f"{words} for ever"
        for name, words in FIELDS.items()
    ]
    return ", ".join(parts)


def _done(team: Team, what: str) -> Response:
    return RedirectResponse(f"/teams/{team.slug}/data{query({'done': what})}", 303)
