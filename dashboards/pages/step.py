"""A step of a build: what its instruction did in the builds before and since, and what it printed."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response
from markupsafe import Markup

from cachescope.errors import NotFoundError
from dashboards import sentences, states, theme
from dashboards.context import PageDep
from dashboards.figures import Figure
from dashboards.pages.build import find_build, place_of, stored_log
from dashboards.rendering import query
from store.models import Instruction
from store.queries import breaks as break_rows
from store.queries import builds as build_rows
from store.queries import instructions as instruction_rows

router = APIRouter(prefix="/builds", include_in_schema=False)

BUILDS = 60


@router.get("/{build_id}/steps/{position}", response_class=HTMLResponse)
def step(page: PageDep, build_id: int, position: int) -> Response:
    """Show one step with the history of its instruction."""
    build = find_build(page, build_id)
    rows = build_rows.load_steps(page.session, build.id)
    found = next(((step, text) for step, text in rows if step.position == position), None)
    if found is None or found[0].instruction_id is None:
        raise NotFoundError(f"Build {build.id} has no instruction at step {position}.")
    shown, text = found
    instruction = page.session.get_one(Instruction, shown.instruction_id)
    team = page.team_of(build.repository)
    executions = instruction_rows.load_executions(page.session, instruction, BUILDS)
    breaks = break_rows.load_latest_breaks(page.session, build.repository_id, instruction.id, BUILDS)
    causes = {found.build_id: found for found, _ in breaks if found.position is not None}
    history = [_row(step, of, causes.get(of.id), shown_build=build.id) for step, of in executions]
    log = stored_log(page, build)
    repository_url = f"/teams/{team.slug}/repositories/{build.repository_id}"
    log_url = f"/builds/{build.id}/log{query({'line': shown.line})}#L{shown.line}" if log and shown.line else None
    return page.show(
        "step.html",
        team,
        crumbs=[
            (build.repository.name, repository_url),
            (f"Build {build.id}", f"/builds/{build.id}"),
            (f"Step {place_of(shown) or shown.position}", None),
        ],
        section="repositories",
        build=build,
        repository=build.repository,
        step=shown,
        text=text,
        place=place_of(shown),
        state=next((row["state"] for row in history if row["is_shown"]), states.state_of(shown)),
        sentence=_sentence(text, history),
        figures=_figures(history, instruction),
        history=history,
        strip=_strip(history),
        step_url=f"/builds/{build.id}#step-{shown.position}",
        log_url=log_url,
        build_count=BUILDS,
    )


def _row(step: Any, build: Any, broke: Any, *, shown_build: int) -> dict[str, Any]:
    return {
        "build_id": build.id,
        "started_at": build.started_at,
        "branch": build.branch,
        "position": step.position,
        "place": place_of(step),
        "state": states.state_of(step),
        "seconds": step.duration_seconds if step.cached is False else None,
        "cause": sentences.cause(broke.cause) if broke is not None and broke.position == step.position else "",
        "is_below": step.break_position is not None,
        "is_shown": build.id == shown_build,
        "url": f"/builds/{build.id}/steps/{step.position}",
    }


def _sentence(text: str, history: Sequence[dict[str, Any]]) -> Markup:
    hits = sum(row["state"].name == "hit" for row in history)
    missed = [row for row in history if row["state"].name in {"miss", "expected", "failed"}]
    breaks = sum(row["state"].is_break for row in history)
    timed = [row["seconds"] for row in missed if row["seconds"] is not None]
    start = Markup("{} hit in {} of its last {} executions").format(sentences.code(text), hits, len(history))
    if not missed:
        return start + Markup(".")
    took = Markup("; when it runs it takes {}").format(sentences.strong(theme.duration(median(timed)))) if timed else ""
    broke = f", and it broke the cache {theme.plural(breaks, 'time')}" if breaks else ", never as the first miss"
    return start + took + Markup("{}.").format(broke)


def _figures(history: Sequence[dict[str, Any]], instruction: Instruction) -> list[Figure]:
    hits = sum(row["state"].name == "hit" for row in history)
    misses = sum(row["state"].name in {"miss", "expected"} for row in history)
    timed = sorted(row["seconds"] for row in history if row["seconds"] is not None)
    among = f"among the last {theme.plural(len(history), 'execution')}"
    return [
        Figure(name="Hits", formula="Executions served from cache.", value=str(hits), note=among),
        Figure(name="Misses", formula="Executions that ran.", value=str(misses), note=among),
        Figure(
            name="Typical when it runs",
            formula="Median seconds of the executions that ran.",
            value=theme.duration(median(timed)) if timed else None,
            missing="never seen to run with a time",
            note=f"{theme.duration(timed[0])} to {theme.duration(timed[-1])}" if len(timed) > 1 else "",
        ),
        Figure(
            name="Reference cost",
            formula="Exponentially weighted mean (weight 0.4) of the seconds of its executions.",
            value=theme.duration(instruction.reference_seconds) if instruction.reference_seconds is not None else None,
            missing="not known: it was never seen to run",
            note=f"from {theme.plural(instruction.executions, 'run')}" if instruction.executions else "",
        ),
    ]


def _strip(history: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Bars of the executions, oldest on the left: as high as they took long; hits are ticks."""
    if not history:
        return None
    longest = max((row["seconds"] or 0.0 for row in history), default=0.0)
    width = 100 / max(20, len(history))
    bars = []
    for place, row in enumerate(reversed(history)):
        share = (row["seconds"] or 0.0) / longest if longest else 0.0
        height = 14.0 if row["state"].name == "hit" else max(6.0, 84 * share)
        bars.append({"row": row, "x": place * width, "width": width * 0.78, "height": height, "y": 96 - height})
    return {"bars": bars, "longest": longest}
