"""Any two builds side by side: changed inputs first, then the steps that differ; what is identical is folded."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from markupsafe import Markup

from cachescope.errors import InvalidValueError, NotFoundError
from dashboards import differences, sentences, states, theme
from dashboards.context import Page, PageDep
from dashboards.differences import Group, Side
from dashboards.pages.build import efficiency_of, find_build, place_of
from store.models import Build
from store.queries import breaks as break_rows
from store.queries import builds as build_rows
from store.queries import evidence as evidence_rows

router = APIRouter(prefix="/builds", include_in_schema=False)

OFFERED = 40


@router.get("/{build_id}/compare")
def choose(page: PageDep, build_id: int, other: str = Query("", alias="with", max_length=18)) -> Response:
    """Lead to the comparison with a build, by default with the last good one."""
    build = find_build(page, build_id)
    if other:
        if not other.isascii() or not other.isdigit():
            raise InvalidValueError("with", f'"{other}" is no number of a build.')
        return RedirectResponse(f"/builds/{build.id}/compare/{int(other)}", 303)
    last_good = build_rows.find_last_good(page.session, build)
    if last_good is None:
        raise NotFoundError(f"There is no earlier build that build {build.id} could be compared with.")
    return RedirectResponse(f"/builds/{build.id}/compare/{last_good}", 303)


@router.get("/{build_id}/compare/{other_id}", response_class=HTMLResponse)
def compare(page: PageDep, build_id: int, other_id: int) -> Response:
    """Show two builds side by side, the second in the address on the left: it is the one compared with."""
    after, before = find_build(page, build_id), find_build(page, other_id)
    team = page.team_of(after.repository)
    evidence = evidence_rows.load_evidence_between(page.session, after.delivery_id, before)
    inputs = differences.inputs(before, after, evidence)
    groups = _line_up(page, before, after)
    repository_url = f"/teams/{team.slug}/repositories/{after.repository_id}"
    changed = [each for each in inputs if not each.is_same]
    files = evidence.changed_files
    return page.show(
        "compare.html",
        team,
        crumbs=[
            (after.repository.name, repository_url),
            (f"Build {after.id}", f"/builds/{after.id}"),
            (f"Compared with build {before.id}", None),
        ],
        section="repositories",
        build=after,
        before=before,
        repository=after.repository,
        sentence=_sentence(before, after, groups, len(changed) + bool(files)),
        changed=changed,
        identical=[each for each in inputs if each.is_same],
        files=[f"{change.status} {change.path}" for change in files[: differences.FILES_SHOWN]] if files else [],
        more_files=max(0, len(files or ()) - differences.FILES_SHOWN),
        are_files_known=files is not None,
        groups=groups,
        figures=[_figures(build) for build in (before, after)],
        turned_url=f"/builds/{before.id}/compare/{after.id}",
        last_good=build_rows.find_last_good(page.session, after),
        others=_others(page, before, after),
    )


def _others(page: Page, before: Build, after: Build) -> list[Build]:
    """What else to compare with: the build of the left side, and the newest of the repository."""
    newest = build_rows.load_builds(page.session, after.repository_id, limit=OFFERED)
    return [before, *(build for build in newest if build.id not in {before.id, after.id})]


def _line_up(page: Page, before: Build, after: Build) -> list[Group]:
    sides, read = [], []
    for build in (before, after):
        rows = build_rows.load_steps(page.session, build.id)
        expected: dict[int | None, bool | None] = {
            found.position: found.expected for found in break_rows.load_breaks(page.session, build.id)
        }
        sides.append([_side(build, step, text, expected) for step, text in rows])
        read.append(build_rows.read_build(build, rows).steps)
    # A repository's builds are of one shape; those of two repositories may name the same target differently.
    if before.repository_id != after.repository_id:
        read = [tuple(replace(step, target=None) for step in steps) for steps in read]
    return differences.line_up(sides[0], sides[1], read[0], read[1])


def _side(build: Build, step: Any, text: str, expected: dict[int | None, bool | None]) -> Side | None:
    if step.kind != "instruction":
        return None
    return Side(
        state=states.state_of(step, expected.get(step.break_position)),
        seconds=step.duration_seconds if step.cached is not True else None,
        text=text,
        place=place_of(step),
        url=f"/builds/{build.id}#step-{step.position}",
    )


def _sentence(before: Build, after: Build, groups: Sequence[Group], changed: int) -> Markup:
    differing = sum(len(group.pairs) for group in groups if not group.is_same)
    same = sum(len(group.pairs) for group in groups if group.is_same)
    start = Markup("Build {} against build {}: {} and {} differ, {} {} identical.").format(
        after.id,
        before.id,
        theme.plural(changed, "input"),
        theme.plural(differing, "step"),
        same,
        "is" if same == 1 else "are",
    )
    if before.duration_seconds is None or after.duration_seconds is None:
        return start
    by = after.duration_seconds - before.duration_seconds
    if abs(by) < 0.05:
        return start + Markup(" It took as long.")
    took = sentences.strong(theme.duration(abs(by)))
    return start + Markup(" It took {} {}.").format(took, "longer" if by > 0 else "less")


def _figures(build: Build) -> dict[str, Any]:
    return {
        "build": build,
        "duration": build.duration_seconds,
        "efficiency": efficiency_of(build),
        "hits": build.hits,
        "misses": build.misses,
        "spent": build.seconds_spent,
    }
