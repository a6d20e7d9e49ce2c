"""What a repository is told at its forge: comments, checks, forecasts; and its badges."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from cachescope.errors import InvalidValueError, NotFoundError
from cachescope.feedback import Policy
from dashboards.context import FormDep, Page, PageDep
from dashboards.rendering import query
from dashboards.theme import plural
from service.actions import feedback as actions
from service.dependencies import RepositoryDep, TeamDep, base_url
from store.models import FeedbackTask, Repository, Team
from store.queries import feedback as rows

router = APIRouter(prefix="/teams/{slug}/repositories/{repository_id}/feedback", include_in_schema=False)

DONE = {
    "saved": "Saved: it counts from the next build on.",
    "badges": "The badges have a new address; a former one leads nowhere.",
    "no-badges": "The badges lead nowhere from now on.",
    "again": "It is tried again.",
}
MODES = (
    ("off", "nothing"),
    ("inform", "a check that always passes"),
    ("fail", "a check that fails below the threshold"),
)
MEASURES = (("efficiency", "cache efficiency"), ("hit_rate", "hit rate"))


@router.get("", response_class=HTMLResponse)
def show(page: PageDep, team: TeamDep, repository: RepositoryDep, done: str = "") -> Response:
    """Show what is chosen, what was told lately, and the badges."""
    return _show(page, team, _of_team(team, repository), done=DONE.get(done, ""))


@router.post("")
def save(form: FormDep, page: PageDep, team: TeamDep, repository: RepositoryDep) -> Response:
    """Change what is told."""
    _of_team(team, repository)
    wanted = actions.PolicyForm(
        comments="comments" in form,
        preflight="preflight" in form,
        **{
            name: form[name]
            for name in ("mode", "measure", "threshold_percent", "least_seconds", "source_id")
            if name in form
        },
    )
    try:
        actions.save_policy(page.session, page.viewer, repository, wanted)
    except InvalidValueError as error:
        return _show(page, team, repository, message=str(error), status=422)
    return _done(team, repository, "saved")


@router.post("/badges")
def badges(form: FormDep, page: PageDep, team: TeamDep, repository: RepositoryDep) -> Response:
    """Give the badges an address, or another one."""
    actions.renew_badges(page.session, page.viewer, _of_team(team, repository))
    return _done(team, repository, "badges")


@router.post("/badges/off")
def no_badges(form: FormDep, page: PageDep, team: TeamDep, repository: RepositoryDep) -> Response:
    """Take the badges back."""
    actions.withdraw_badges(page.session, page.viewer, _of_team(team, repository))
    return _done(team, repository, "no-badges")


@router.post("/tasks/{task_id}")
def again(form: FormDep, page: PageDep, team: TeamDep, repository: RepositoryDep, task_id: int) -> Response:
    """Try again to tell what could not be told."""
    actions.tell_again(page.session, page.viewer, _of_team(team, repository), task_id if 0 < task_id < 1 << 62 else 0)
    return _done(team, repository, "again")


def _of_team(team: Team, repository: Repository) -> Repository:
    if repository.team_id != team.id:
        raise NotFoundError(f"There is no repository {repository.id} in {team.name}, or you may not see it.")
    return repository


def _show(
    page: Page, team: Team, repository: Repository, *, status: int = 200, message: str = "", done: str = ""
) -> Response:
    row = rows.find_policy(page.session, repository.id)
    policy = rows.read_policy(row)
    sources = actions.list_sources(page.session, repository)
    address = f"/teams/{team.slug}/repositories/{repository.id}"
    may_change = page.viewer.may(team.id, "member")
    return page.show(
        "feedback.html",
        team,
        status=status,
        crumbs=[
            ("Repositories", f"/teams/{team.slug}/repositories"),
            (repository.name, address),
            ("Pull requests and badges", None),
        ],
        section="repositories",
        sentence=_sentence(policy, len(sources)),
        message=message,
        done=done,
        repository=repository,
        url=f"{address}/feedback",
        policy=policy,
        threshold_percent=f"{policy.threshold * 100:g}",
        least_seconds=f"{policy.least_seconds:g}",
        modes=MODES,
        measures=MEASURES,
        sources=sources,
        source_id=row.source_id if row is not None else None,
        may_change=may_change,
        # Whoever has the address of a badge sees its figure, so it is shown to members only.
        badges=_badges(page, row.badge_token) if row is not None and row.badge_token and may_change else [],
        tasks=[_task(task) for task in rows.load_latest_tasks(page.session, repository.id)],
    )


def _sentence(policy: Policy, sources: int) -> str:
    if not policy.comments and policy.mode == "off":
        return "Pull requests and commits of this repository are told nothing."
    if not sources:
        return "Nothing can be told yet: no source of this team has credentials for writing to a forge."
    told = ["one comment on each pull request"] if policy.comments else []
    told += [dict(MODES)[policy.mode]] if policy.mode != "off" else []
    return f"Builds are told by {' and '.join(told)}, through {plural(sources, 'source')}."


def _badges(page: Page, token: str) -> list[dict[str, str]]:
    names = {"efficiency": "cache efficiency", "hit-rate": "cache hit rate", "size": "image size"}
    return [
        {
            "name": names[name],
            "path": f"/badges/{token}/{name}.svg",
            "markdown": f"![{names[name]}]({base_url(page.request)}/badges/{token}/{name}.svg)",
        }
        for name in actions.BADGES
    ]


def _task(task: FeedbackTask) -> dict[str, Any]:
    what = {"build": "Build", "pull_request": f"Forecast for pull request {task.key}"}[task.kind]
    states = {"new": "waits" if task.attempts else "to do", "working": "at work", "done": "told", "failed": "failed"}
    return {
        "id": task.id,
        "what": what,
        "url": f"/deliveries/{task.key}" if task.kind == "build" else None,
        "state": states[task.state],
        "attempts": task.attempts,
        "said": task.error or "",
        "at": task.finished_at or task.created_at,
        "next_at": task.next_at if task.state == "new" and task.attempts else None,
        "has_failed": task.state == "failed",
    }


def _done(team: Team, repository: Repository, what: str) -> Response:
    address = f"/teams/{team.slug}/repositories/{repository.id}/feedback"
    return RedirectResponse(address + query({"done": what}), 303)
