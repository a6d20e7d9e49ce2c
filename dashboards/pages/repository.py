"""A repository: how well its cache works over time, what breaks it, and its builds."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Query
from fastapi.responses import HTMLResponse, Response

from cachescope import metrics
from cachescope.errors import NotFoundError
from dashboards import figures, sentences, theme
from dashboards.charts.base import Scope
from dashboards.context import Page, PageDep
from dashboards.pages.build import efficiency_of
from dashboards.periods import DEFAULT_DAYS, Period, branch_links, get_period, is_zone, range_links, read_day
from dashboards.rendering import query
from service.dependencies import RepositoryDep, TeamDep
from store.models import Build, Team
from store.queries import breaks as break_rows
from store.queries import builds as build_rows
from store.queries import image_sizes as image_rows
from store.queries import measurings, rollups
from store.queries import recommendations as recommendation_rows
from store.queries import repositories as repository_rows

router = APIRouter(prefix="/teams/{slug}/repositories", include_in_schema=False)

PAGE = 40
OUTCOMES = ("succeeded", "failed", "canceled", "incomplete")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What the list of builds shows, as the address says."""

    branch: str | None
    outcome: str | None
    first_day: date | None
    last_day: date | None
    before: str | None

    @property
    def is_any(self) -> bool:
        """Whether the list is filtered at all."""
        return any((self.branch, self.outcome, self.first_day, self.last_day))

    @property
    def address(self) -> dict[str, str]:
        """The filters as they stand in an address, the place in the list apart."""
        return _filled(branch=self.branch, outcome=self.outcome, **{"from": self.first_day, "to": self.last_day})


def get_filters(
    branch: str = Query("", max_length=250),
    outcome: str = Query("", max_length=20),
    first_day: str = Query("", alias="from", max_length=10),
    last_day: str = Query("", alias="to", max_length=10),
    before: str = Query("", max_length=60),
) -> Filters:
    """Read the filters; what makes no sense filters nothing, so that an old address still shows a page."""
    return Filters(
        branch=branch or None,
        outcome=outcome if outcome in OUTCOMES else None,
        first_day=read_day(first_day),
        last_day=read_day(last_day),
        before=before or None,
    )


@router.get("/{repository_id}", response_class=HTMLResponse)
def repository(
    page: PageDep,
    team: TeamDep,
    repository: RepositoryDep,
    *,
    period: Annotated[Period, Depends(get_period)],
    filters: Annotated[Filters, Depends(get_filters)],
    image: str = Query("", max_length=18),
) -> Response:
    """Show one repository."""
    if repository.team_id != team.id:
        raise NotFoundError(f"There is no repository {repository.id} in {team.name}, or you may not see it.")
    images = repository_rows.list_images(page.session, repository.id)
    image_id = next((known.id for known in images if str(known.id) == image), None)
    view = _filled(
        days=None if period.days == DEFAULT_DAYS else period.days,
        branches=None if period.branches == "default" else period.branches,
        image=image_id,
    )
    now, before = (
        rollups.load_period(
            page.session,
            repository.id,
            part.first_day,
            part.last_day,
            branch_classes=part.branch_classes,
            image_id=image_id,
        )
        for part in (period, period.before)
    )
    ranked = break_rows.load_ranked_breaks(
        page.session,
        team.id,
        period.first_day,
        period.last_day,
        repository_id=repository.id,
        image_id=image_id,
        branch_classes=period.branch_classes,
        limit=12,
    )
    path = page.request.url.path
    breaks = [ShownBreak.of(found, team.slug, period) for found in ranked]
    builds = build_rows.load_builds(
        page.session,
        repository.id,
        _chosen(filters, period, image_id, team.time_zone),
        before=_key(filters.before),
        limit=PAGE + 1,
    )
    everything = {**view, **filters.address}
    scope = Scope(
        repository_id=repository.id,
        first_day=period.first_day,
        last_day=period.last_day,
        image_id=image_id,
        branch_class=period.branches,
    )
    branch_name = repository.default_branch if period.branches == "default" else period.branch_words
    worst = breaks[0] if breaks else None
    return page.show(
        "repository.html",
        team,
        crumbs=[("Repositories", f"/teams/{team.slug}/repositories"), (repository.name, None)],
        section="repositories",
        json_url=f"/api/v1/repositories/{repository.id}/days{period.api_query}"
        + (f"&image={image_id}" if image_id else ""),
        draws=True,
        repository=repository,
        sentence=sentences.of_repository(repository.name, branch_name, now, period.inside, worst),
        span=period,
        figures=figures.summary(now, before),
        has_builds=bool(now.builds),
        ranges=range_links(page.request, period, everything),
        branch_choices=branch_links(page.request, period, everything),
        images=images,
        scope=scope,
        kept=everything,
        open_recommendations=recommendation_rows.count_open(page.session, [known.id for known in images]),
        recommendations_url=f"{path}/recommendations",
        chart_parameters={
            "repository": repository.id,
            **_filled(days=period.days, branches=period.branches, image=image_id),
        },
        breaks=breaks,
        backends=metrics.summarize_backends(
            build_rows.load_transfers(page.session, repository.id, _in_period(period, image_id, team.time_zone))
        ),
        sized_images=_sized(page, team, repository.id),
        may_follow=page.viewer.may(team.id, "member"),
        filters=filters,
        clear_url=path + query(view) + "#builds",
        known_branches=build_rows.load_branches(page.session, repository.id, limit=40),
        builds=[_row(build, path, view) for build in builds[:PAGE]],
        newest_url=path + query(everything) + "#builds" if filters.before else None,
        older_url=path + query({**everything, "before": _before(builds[PAGE - 1])}) + "#builds"
        if len(builds) > PAGE
        else None,
    )


def _sized(page: Page, team: Team, repository_id: int) -> list[dict[str, Any]]:
    """The images whose size is followed, each with its newest versions."""
    shown = []
    for sized in image_rows.list_sized_images(page.session, repository_id):
        series = image_rows.load_image_series(page.session, sized)
        latest = measurings.list_measurings(page.session, sized.id, limit=1)
        shown.append(
            {
                "name": sized.name,
                "url": f"/teams/{team.slug}/repositories/{repository_id}/images/{sized.id}",
                "series": series,
                "error": latest[0].error if latest and latest[0].state != "done" else None,
            }
        )
    return shown


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownBreak:
    """A row of what broke the cache."""

    repository_name: str
    repository_url: str
    text: str
    place: str
    causes: str
    breaks: int
    lost_seconds: float
    rebuild_seconds: float
    unexplained_seconds: float
    last_text: str
    last_url: str

    @classmethod
    def of(cls, found: break_rows.RankedBreak, slug: str, period: Period) -> "ShownBreak":
        """Word a ranked break; its last day leads to the builds of that day."""
        url = f"/teams/{slug}/repositories/{found.repository_id}"
        on_day = {"days": period.days, "branches": period.branches, "from": found.last_day, "to": found.last_day}
        return cls(
            repository_name=found.repository_name,
            repository_url=url + query({"days": period.days, "branches": period.branches}),
            text=found.text,
            place=" ".join(part for part in (found.image_name, found.stage) if part),
            causes=sentences.causes(found.causes),
            breaks=found.breaks,
            lost_seconds=found.lost_seconds,
            rebuild_seconds=found.rebuild_seconds,
            unexplained_seconds=found.unexplained_seconds,
            last_text=theme.day(found.last_day),
            last_url=url + query(on_day) + "#builds",
        )


def _chosen(filters: Filters, period: Period, image_id: int | None, zone: str) -> build_rows.BuildFilter:
    # A branch that was asked for by name is shown whatever its class.
    branch_class = None if filters.branch or period.branches == "all" else period.branches
    return build_rows.BuildFilter(
        branch=filters.branch,
        branch_class=branch_class,
        image_id=image_id,
        outcome=filters.outcome,
        first=_midnight(filters.first_day, zone),
        last=_midnight(filters.last_day + timedelta(days=1), zone) if filters.last_day else None,
    )


def _in_period(period: Period, image_id: int | None, zone: str) -> build_rows.BuildFilter:
    return build_rows.BuildFilter(
        branch_class=None if period.branches == "all" else period.branches,
        image_id=image_id,
        first=_midnight(period.first_day, zone),
        last=_midnight(period.last_day + timedelta(days=1), zone),
    )


def _row(build: Build, path: str, view: dict[str, str]) -> dict[str, Any]:
    broke = build.headline_break or {}
    cost = broke.get("cost_seconds")
    why = [sentences.cause(broke.get("cause"))] if broke else []
    if cost is not None:
        why.append(f"cost {theme.duration(cost)}")
    return {
        "id": build.id,
        "started_at": build.started_at,
        "outcome": build.outcome,
        "branch": build.branch,
        "branch_url": path + query({**view, "branch": build.branch}) + "#builds",
        "commit_id": build.commit_id,
        "hits": build.hits,
        "misses": build.misses,
        "efficiency": efficiency_of(build),
        "duration_seconds": build.duration_seconds,
        "broke_at": broke.get("instruction"),
        "broke_why": "; ".join(why),
    }


def _before(build: Build) -> str:
    started_at, build_id = build_rows.key_of(build)
    return f"{round(started_at.timestamp() * 1_000_000)}-{build_id}"


def _key(before: str | None) -> build_rows.BuildKey | None:
    """The place in the list of an address; the newest builds for one that nobody made."""
    microseconds, _, build_id = (before or "").partition("-")
    if not (microseconds.isascii() and microseconds.isdigit() and build_id.isascii() and build_id.isdigit()):
        return None
    if len(microseconds) > 17 or len(build_id) > 18:
        return None
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=int(microseconds)), int(build_id)


def _midnight(day: date | None, zone: str) -> datetime | None:
    if day is None:
        return None
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone if is_zone(zone) else "UTC")).astimezone(UTC)


def _filled(**values: Any) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if value is not None}
