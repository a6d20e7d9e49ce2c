"""A team: how well the cache of its repositories works, what was lost and by what; the first page of a new team."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from dashboards import figures, sentences
from dashboards.context import Page, PageDep
from dashboards.pages.repository import ShownBreak
from dashboards.periods import DEFAULT_DAYS, Period, branch_links, get_period, range_links
from dashboards.rendering import query
from dashboards.theme import plural
from service.dependencies import TeamDep
from store.models import Team
from store.queries import breaks as break_rows
from store.queries import image_sizes
from store.queries.overview import RepositoryOverview, TeamOverview, load_overview

router = APIRouter(prefix="/teams/{slug}", include_in_schema=False)

PeriodDep = Annotated[Period, Depends(get_period)]


@router.get("", response_class=HTMLResponse)
def team(page: PageDep, team: TeamDep, period: PeriodDep) -> Response:
    """Show the overview; a team that has no repository yet is led to the line to paste."""
    overview = _load(page, team, period)
    if not overview.repositories:
        return RedirectResponse(f"/teams/{team.slug}/send", 303)
    ranked = break_rows.load_ranked_breaks(
        page.session,
        team.id,
        period.first_day,
        period.last_day,
        branch_classes=period.branch_classes,
        limit=10,
    )
    breaks = [ShownBreak.of(found, team.slug, period) for found in ranked]
    worst = breaks[0] if breaks else None
    kept = _kept(period)
    return page.show(
        "team.html",
        team,
        section="overview",
        json_url=f"/api/v1/teams/{team.slug}/overview{period.api_query}",
        sentence=sentences.of_team(team.name, overview.period, period.inside, worst),
        span=period,
        figures=figures.summary(overview.period, overview.previous),
        has_builds=bool(overview.period.builds),
        ranges=range_links(page.request, period, kept),
        branch_choices=branch_links(page.request, period, kept),
        repositories=(shown := _rows(page, team, overview.repositories, period)),
        with_sizes=any(row["size"] for row in shown),
        none_found="",
        breaks=breaks,
    )


@router.get("/repositories", response_class=HTMLResponse)
def repositories(page: PageDep, team: TeamDep, period: PeriodDep, q: str = Query("", max_length=200)) -> Response:
    """List the repositories of a team, or those whose name contains a text."""
    wanted = " ".join(q.split())
    overview = _load(page, team, period)
    found = [line for line in overview.repositories if wanted.casefold() in line.repository.name.casefold()]
    if wanted and len(found) == 1:
        return RedirectResponse(f"/teams/{team.slug}/repositories/{found[0].repository.id}", 303)
    kept = {**_kept(period), **({"q": wanted} if wanted else {})}
    many = plural(len(found), "repository", "repositories")
    return page.show(
        "repositories.html",
        team,
        crumbs=[("Repositories", None)],
        section="repositories",
        json_url=f"/api/v1/repositories{query({'team': team.slug})}",
        sentence=f"{many} with “{wanted}” in the name." if wanted else f"{many} in {team.name}, most time lost first.",
        span=period,
        ranges=range_links(page.request, period, kept),
        branch_choices=branch_links(page.request, period, kept),
        repositories=(shown := _rows(page, team, found, period)),
        with_sizes=any(row["size"] for row in shown),
        none_found=f"No repository of {team.name} has “{wanted}” in its name."
        if wanted
        else "No repository yet: the first log that names one makes it.",
    )


def _load(page: Page, team: Team, period: Period) -> TeamOverview:
    return load_overview(page.session, team.id, period.first_day, period.last_day, branch_classes=period.branch_classes)


def _kept(period: Period) -> dict[str, str]:
    kept = {} if period.days == DEFAULT_DAYS else {"days": str(period.days)}
    return kept if period.branches == "default" else {**kept, "branches": period.branches}


def _rows(page: Page, team: Team, lines: Sequence[RepositoryOverview], period: Period) -> list[dict[str, Any]]:
    series = image_sizes.load_series(page.session, [line.repository.id for line in lines])
    return [
        {
            "url": f"/teams/{team.slug}/repositories/{line.repository.id}" + query(_kept(period)),
            "name": line.repository.name,
            "series": _series(dict(line.efficiency_by_day), period),
            "figures": line.period,
            "last": line.last_build,
            "size": _size(team, series.get(line.repository.id)),
        }
        for line in lines
    ]


def _size(team: Team, series: image_sizes.SizeSeries | None) -> dict[str, Any] | None:
    if series is None or series.newest is None:
        return None
    sized = series.sized_image
    return {
        "url": f"/teams/{team.slug}/repositories/{sized.repository_id}/images/{sized.id}",
        "name": sized.name,
        "newest": series.newest,
        "sizes": series.sizes,
        "is_compressed": series.is_compressed,
    }


def _series(by_day: dict[date, float | None], period: Period) -> list[float | None]:
    """The efficiency of every day in the range, None for days without a build; at most ninety points."""
    step = max(1, period.days // 90)
    return [
        next((by_day[day] for day in _days(first, step) if by_day.get(day) is not None), None)
        for first in _days(period.first_day, period.days)[::step]
    ]


def _days(first: date, count: int) -> list[date]:
    return [first + timedelta(days=number) for number in range(count)]
