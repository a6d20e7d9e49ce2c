"""What to change, most saved first: the diff to copy, what it would save, and what it saved once it was made."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from markupsafe import Markup

from cachescope.errors import NotFoundError
from dashboards import sentences, theme
from dashboards.context import FormDep, Page, PageDep
from service.actions import recommendations as actions
from service.dependencies import RepositoryDep, TeamDep
from store.models import Repository, StoredRecommendation, Team
from store.queries import recommendations as rows
from store.queries import repositories as repository_rows

router = APIRouter(include_in_schema=False)

WEEK = "a week"


@router.get("/teams/{slug}/recommendations", response_class=HTMLResponse)
def of_team(page: PageDep, team: TeamDep) -> Response:
    """Show what to change in all repositories of a team."""
    return _show(page, team, None)


@router.get("/teams/{slug}/repositories/{repository_id}/recommendations", response_class=HTMLResponse)
def of_repository(page: PageDep, team: TeamDep, repository: RepositoryDep) -> Response:
    """Show what to change in one repository."""
    if repository.team_id != team.id:
        raise NotFoundError(f"There is no repository {repository.id} in {team.name}, or you may not see it.")
    return _show(page, team, repository)


@router.get("/recommendations/{recommendation_id}")
def one(page: PageDep, recommendation_id: int) -> Response:
    """Lead to a recommendation: the address that the API gives."""
    row = actions.find(page.session, page.viewer, recommendation_id)
    return _back(page, row, "dismissed" if row.state == "dismissed" else "recommendation")


@router.post("/recommendations/{recommendation_id}/dismiss")
def dismiss(form: FormDep, page: PageDep, recommendation_id: int) -> Response:
    """Put a recommendation aside."""
    row = actions.dismiss(page.session, page.viewer, recommendation_id)
    return _back(page, row, "dismissed")


@router.post("/recommendations/{recommendation_id}/restore")
def restore(form: FormDep, page: PageDep, recommendation_id: int) -> Response:
    """Take back a recommendation that was put aside."""
    return _back(page, actions.restore(page.session, page.viewer, recommendation_id), "recommendation")


def _back(page: Page, row: StoredRecommendation, place: str) -> Response:
    team = page.team_of(page.session.get_one(Repository, row.repository_id))
    address = f"/teams/{team.slug}/repositories/{row.repository_id}/recommendations"
    return RedirectResponse(f"{address}#{place}-{row.id}", 303)


def _show(page: Page, team: Team, repository: Repository | None) -> Response:
    names = {known.id: known.name for known in repository_rows.list_repositories(page.session, team.id)}
    found = rows.load_recommendations(
        page.session, team.id, repository_id=repository.id if repository is not None else None
    )
    shown = [_shown(page, team, row, names) for row in found]
    by_state = {state: [one for one in shown if one["state"] == state] for state in ("open", "applied", "dismissed")}
    ids = [repository.id] if repository is not None else sorted(names)
    looked_at = [turn for turn in rows.load_turns(page.session, ids) if turn.computed_at is not None]
    crumbs: list[tuple[str, str | None]] = []
    if repository is not None:
        crumbs.append((repository.name, f"/teams/{team.slug}/repositories/{repository.id}"))
    return page.show(
        "recommendations.html",
        team,
        crumbs=[*crumbs, ("Recommendations", None)],
        section="recommendations",
        json_url=f"/api/v1/repositories/{repository.id}/recommendations"
        if repository is not None
        else f"/api/v1/teams/{team.slug}/recommendations",
        repository=repository,
        sentence=_sentence(repository.name if repository is not None else team.name, by_state["open"]),
        open=by_state["open"],
        applied=by_state["applied"],
        dismissed=by_state["dismissed"],
        has_evidence=rows.has_evidence(page.session, ids),
        looked_at=len(looked_at),
        may_change=page.viewer.may(team.id, "member"),
        send_url=f"/teams/{team.slug}/send",
    )


def _shown(page: Page, team: Team, row: StoredRecommendation, names: dict[int, str]) -> dict[str, Any]:
    effect = rows.measure_effect(page.session, row) if row.state == "applied" else None
    return {
        "id": row.id,
        "state": row.state,
        "title": row.title,
        "why": row.why,
        "evidence": [str(sentence) for sentence in row.evidence],
        "patch": row.patch,
        "lines": _lines(row.patch),
        "order_safe": row.order_safe,
        "repository": names.get(row.repository_id, ""),
        "repository_url": f"/teams/{team.slug}/repositories/{row.repository_id}",
        "image": row.image.name,
        "saving": _saving(row),
        "week_seconds": per_week(row),
        "changed_at": row.changed_at,
        "applied_build_id": row.applied_build_id,
        "effect": _effect(row, effect),
    }


def _lines(patch: str | None) -> list[tuple[str, str]]:
    found = []
    for line in (patch or "").splitlines():
        if line.startswith(("---", "+++", "@@")):
            found.append(("@", line))
        elif line[:1] in "+- ":
            found.append((line[:1], line[1:]))
    return found


def per_week(row: StoredRecommendation) -> float | None:
    """What a recommendation saves in a week; None where it saves no time, or nobody knows how often is built."""
    if row.saving_seconds is None or row.builds_per_week is None:
        return None
    return row.saving_seconds * row.builds_per_week


def _saving(row: StoredRecommendation) -> Markup | None:
    """What it would save, with the interval and what that stands on."""
    if row.saving_seconds is None:
        return None
    build = sentences.strong(theme.duration(max(0.0, row.saving_seconds)))
    low, high = max(0.0, row.saving_low or 0.0), max(0.0, row.saving_high or 0.0)
    text = Markup("{} a build (between {} and {})").format(build, theme.duration(low), theme.duration(high))
    week = per_week(row)
    if week is not None:
        text = Markup("{} a week: ").format(sentences.strong(theme.duration(max(0.0, week)))) + text
    return text + Markup(", predicted from {}.").format(theme.plural(row.builds, "build"))


def _effect(row: StoredRecommendation, effect: rows.Effect | None) -> Markup | None:
    """What it saved, measured, beside what was predicted."""
    if effect is None:
        return None
    if effect.saving_seconds is None or effect.builds_after < 3:
        return Markup("Not enough data yet to say what it saved ({} of 3 builds since).").format(effect.builds_after)
    saved = sentences.strong(theme.duration(abs(effect.saving_seconds)))
    told = Markup("A build spends {} {} on misses than before ({} instead of {}, means of {} and {} builds)").format(
        saved,
        "less" if effect.saving_seconds >= 0 else "more",
        theme.duration(effect.seconds_after),
        theme.duration(effect.seconds_before),
        effect.builds_after,
        effect.builds_before,
    )
    if row.saving_seconds is None:
        return told + Markup(".")
    return told + Markup("; predicted were {}.").format(theme.duration(row.saving_seconds))


def _sentence(name: str, found: Sequence[dict[str, Any]]) -> Markup:
    if not found:
        return Markup("Nothing to recommend for {} at present.").format(sentences.name(name))
    weeks = [one["week_seconds"] for one in found if one["week_seconds"]]
    many = theme.plural(len(found), "change")
    verb = "is" if len(found) == 1 else "are"
    if not weeks:
        return Markup("{} {} recommended for {}.").format(many, verb, sentences.name(name))
    best = sentences.strong(theme.duration(max(weeks)))
    which = "it saves" if len(found) == 1 else "the best saves"
    return Markup("{} {} recommended for {}; {} about {} a week.").format(many, verb, sentences.name(name), which, best)
