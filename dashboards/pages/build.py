"""A build: where its cache broke and what that cost, its steps in time, its log."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response
from markupsafe import Markup

from cachescope import metrics
from cachescope.errors import NotFoundError
from cachescope.lineage import trace_lineage
from cachescope.surroundings import Surroundings
from dashboards import dockerfiles, explaining, sentences, states, theme
from dashboards.context import Page, PageDep
from dashboards.dockerfiles import StatedBuild
from dashboards.rendering import query
from dashboards.timeline import Timeline, TimelineStep, timeline
from store.models import Break, Build, Delivery, Step, StoredLog
from store.queries import breaks as break_rows
from store.queries import builds as build_rows
from store.queries import evidence as evidence_rows
from store.queries import recommendations as recommendation_rows

router = APIRouter(prefix="/builds", include_in_schema=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownBreak:
    """A break as the sentence tells it."""

    text: str
    place: str
    cause: str
    expected: bool | None
    cost_seconds: float | None
    cascade: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownStep:
    """A row of the table of steps."""

    position: int
    state: states.State
    place: str
    text: str
    error: str | None
    duration_seconds: float | None
    reference_seconds: float | None
    why: str
    below: int | None
    below_name: str
    output_lines: int
    url: str | None
    """The history of its instruction."""
    log_url: str | None


def find_build(page: Page, build_id: int) -> Build:
    """The build in the address; one of another team is as good as none."""
    build = build_rows.find_build(page.session, page.viewer.team_ids, build_id) if 0 < build_id < 1 << 62 else None
    if build is None:
        raise NotFoundError(f"There is no build {build_id} here, or you may not see it.")
    return build


def stored_log(page: Page, build: Build) -> StoredLog | None:
    """The raw log of a build; None where it is no longer kept."""
    digest = page.session.get_one(Delivery, build.delivery_id).log_digest
    return page.session.get(StoredLog, digest) if digest else None


@router.get("/{build_id}", response_class=HTMLResponse)
def build(page: PageDep, build_id: int) -> Response:
    """Show one build."""
    shown = find_build(page, build_id)
    team = page.team_of(shown.repository)
    rows = build_rows.load_steps(page.session, shown.id)
    breaks = break_rows.load_breaks(page.session, shown.id)
    baseline = page.session.get(Build, shown.baseline_build_id) if shown.baseline_build_id else None
    log = stored_log(page, shown)
    repository_url = f"/teams/{team.slug}/repositories/{shown.repository_id}"
    log_url = f"/builds/{shown.id}/log"
    steps = [step for step, _ in rows]
    texts = [text for _, text in rows]
    known = build_rows.read_build(shown, rows)
    references = [step.reference_seconds for step in steps]
    path = metrics.critical_path(known, trace_lineage(known), references)
    places = [place_of(step) for step in steps]
    expected: dict[int | None, bool | None] = {found.position: found.expected for found in breaks}
    stated = [states.state_of(step, expected.get(step.break_position)) for step in steps]
    surroundings = evidence_rows.find_evidence(page.session, shown)
    files = dockerfiles.annotate(StatedBuild(build=known, states=stated, places=places), surroundings or Surroundings())
    failed = next((text for step, text in rows if step.status == "failed"), None)
    return page.show(
        "build.html",
        team,
        crumbs=[(shown.repository.name, repository_url), (f"Build {shown.id}", None)],
        section="repositories",
        json_url=f"/api/v1/builds/{shown.id}",
        build=shown,
        repository=shown.repository,
        run=shown.run,
        run_url=_web_address(shown.run.url),
        repository_url=repository_url,
        branch_url=repository_url + query({"branch": shown.branch, "branches": "all"}),
        baseline=baseline,
        sentence=sentences.of_build(shown, _shown_breaks(breaks, steps, texts), failed),
        build_errors=[line for line in (shown.error or "").splitlines() if line.strip()][:8],
        figures=_figures(shown, baseline, known.steps, references, breaks),
        has_transfers=bool(shown.cache_imports or shown.cache_exports),
        legend=states.LEGEND,
        timeline=_timeline(shown, rows, breaks, set(path.positions) if path else set()),
        steps=_shown_steps(rows, breaks, log_url if log else None),
        causes=explaining.explain(breaks, rows, places, known.steps, references),
        has_evidence=surroundings is not None,
        send_url=f"/teams/{team.slug}/send",
        compare_url=f"/builds/{shown.id}/compare",
        recommendations_url=_recommendations_url(page, repository_url, steps),
        dockerfiles=files or dockerfiles.from_steps(rows, stated, places),
        is_dockerfile_known=bool(files),
        details=_details(shown, path),
        warnings=shown.warnings[:40],
        log_url=log_url if log else None,
        raw_url=f"/api/v1/builds/{shown.id}/log",
        log_bytes=log.unpacked_bytes if log else None,
        log_lines=None,
    )


def _recommendations_url(page: Page, repository_url: str, steps: Sequence[Step]) -> str | None:
    """Where what to change is told; None where there is nothing to change in the images of a build."""
    images = {step.image_id for step in steps if step.image_id is not None}
    open_ones = recommendation_rows.count_open(page.session, sorted(images))
    return f"{repository_url}/recommendations" if open_ones else None


def _figures(
    build: Build,
    baseline: Build | None,
    steps: Sequence[Any],
    references: Sequence[float | None],
    breaks: Sequence[Break],
) -> dict[str, Any]:
    efficiency = efficiency_of(build)
    before = efficiency_of(baseline) if baseline else None
    missing = "no cacheable step" if not build.hits + build.misses else "not known: no cost of the hits or the misses"
    return {
        "efficiency": efficiency,
        "efficiency_change": theme.points(efficiency, before),
        "efficiency_note": "against the baseline" if efficiency is not None and before is not None else "",
        "is_better": efficiency >= before if efficiency is not None and before is not None else None,
        "missing": missing,
        "hits": build.hits,
        "misses": build.misses,
        "unknown": build.unknown,
        "hit_rate": metrics.hit_rate(build.hits, build.misses),
        "seconds_spent": build.seconds_spent,
        "seconds_avoided": build.seconds_avoided if build.hits > build.avoided_unknown or not build.hits else None,
        "avoided_unknown": build.avoided_unknown,
        "overhead_seconds": build.overhead_seconds,
        "reachable": metrics.reachable_efficiency(steps, references, _priced(breaks)),
    }


def efficiency_of(build: Build) -> float | None:
    """The cache efficiency of one build from its stored sums."""
    return metrics.efficiency(
        hits=build.hits,
        misses=build.misses,
        seconds_avoided=build.seconds_avoided if build.hits > build.avoided_unknown else None,
        seconds_spent=build.seconds_spent,
    )


@dataclass(frozen=True, slots=True)
class _Priced:
    position: int
    cascade: tuple[int, ...]
    cost_seconds: float | None
    expected: bool | None


def _priced(breaks: Sequence[Break]) -> list[_Priced]:
    return [_Priced(b.position, tuple(b.cascade), b.cost_seconds, b.expected) for b in breaks]


def place_of(step: Step) -> str:
    """`deps 3/4`, with the target and the platform where the log prints them."""
    number = f"{step.idx}/{step.total}" if step.idx and step.total else str(step.idx or "")
    return " ".join(part for part in (step.target, step.platform, step.stage, number) if part)


def _shown_breaks(breaks: Sequence[Break], steps: Sequence[Step], texts: Sequence[str]) -> list[ShownBreak]:
    dearest = sorted(breaks, key=lambda b: (-(b.cost_seconds or 0.0), b.position))
    return [
        ShownBreak(
            text=texts[b.position],
            place=place_of(steps[b.position]),
            cause=b.cause,
            expected=b.expected,
            cost_seconds=b.cost_seconds,
            cascade=b.cascade,
        )
        for b in dearest
        if b.position < len(steps)
    ]


def _timeline(build: Build, rows: Sequence[Any], breaks: Sequence[Break], critical: set[int]) -> Timeline | None:
    expected = {b.position: b.expected for b in breaks}
    # Outlines around what is too short to be seen would say nothing.
    longest = max((step.duration_seconds or 0.0 for step, _ in rows), default=0.0)
    return timeline(
        (
            TimelineStep(
                position=step.position,
                lane=_lane(step),
                text=text,
                state=states.state_of(step, expected.get(step.break_position)),
                started_seconds=step.started_seconds,
                duration_seconds=step.duration_seconds,
                reference_seconds=step.reference_seconds,
                break_position=step.break_position,
                is_critical=step.position in critical and (step.duration_seconds or 0.0) >= longest / 50,
            )
            for step, text in rows
            if _is_drawn(step, longest)
        ),
        build.duration_seconds,
    )


def _is_drawn(step: Step, longest: float) -> bool:
    if step.kind != "instruction":
        return (step.duration_seconds or 0.0) > longest / 50
    return step.duration_seconds is not None or step.started_seconds is not None or step.cached is True


def _lane(step: Step) -> str:
    if step.kind != "instruction":
        return "builder"
    return theme.cut_middle(" ".join(part for part in (step.target, step.platform, step.stage) if part) or "stage", 80)


def _shown_steps(rows: Sequence[Any], breaks: Sequence[Break], log_url: str | None) -> list[ShownStep]:
    if any(step.started_seconds is not None for step, _ in rows):
        # Structured logs announce steps in no order that a reader would know: as they began, then as they are numbered.
        rows = sorted(rows, key=lambda row: _order(row[0]))
    by_position = {b.position: b for b in breaks}
    texts = {step.position: text for step, text in rows}
    shown = []
    for step, text in rows:
        own = by_position.get(step.position)
        above = by_position.get(step.break_position) if step.break_position is not None else None
        shown.append(
            ShownStep(
                position=step.position,
                state=states.state_of(step, above.expected if above else None),
                place=place_of(step),
                text=text,
                error=step.error,
                duration_seconds=step.duration_seconds,
                reference_seconds=step.reference_seconds,
                why=_why(own) if own else "",
                below=above.position if above else None,
                below_name=theme.cut_middle(texts[above.position], 32) if above else "",
                output_lines=step.output_lines,
                url=f"/builds/{step.build_id}/steps/{step.position}" if step.instruction_id is not None else None,
                log_url=f"{log_url}{query({'line': step.line})}#L{step.line}" if log_url and step.line else None,
            )
        )
    return shown


def _order(step: Step) -> tuple[float, str, str, int, int]:
    began = step.started_seconds if step.started_seconds is not None else float("inf")
    return began, step.target or "", step.stage or "", step.idx or 0, step.position


def _why(found: Break) -> str:
    words = sentences.cause(found.cause)
    if found.files:
        more = f" and {len(found.files) - 1} more" if len(found.files) > 1 else ""
        words += f": {theme.cut_middle(str(found.files[0]), 48)}{more}"
    if found.cause == "unknown" and found.possible:
        words = "one of: " + "; ".join(sentences.cause(name) for name in found.possible)
    if found.cost_seconds is not None:
        steps = 1 + len(found.cascade)
        words += f"; cost {theme.duration(found.cost_seconds)} in {theme.plural(steps, 'step')}"
    return words


def _details(build: Build, path: metrics.CriticalPath | None) -> list[tuple[str, list[Any]]]:
    code = Markup('<code class="cut">{}</code>').format
    facts: list[tuple[str, list[Any]]] = [
        ("Started", [theme.exact(build.started_at)]),
        ("Builder", [f"{build.builder or 'not told'}, read from {build.format.replace('_', '-')}"]),
        ("Runner", [build.runner or "not told"]),
    ]
    job = " ".join(part for part in (build.run.provider, build.run.job) if part)
    if job:
        facts.append(("CI", [job + (f", attempt {build.run.attempt}" if build.run.attempt > 1 else "")]))
    if build.run.pull_request:
        facts.append(("Pull request", [build.run.pull_request]))
    if path and path.wall_seconds_saved > 0:
        saved = f"{theme.duration(path.wall_seconds_saved)}: the longest chain would have taken "
        facts.append(("Wall time saved", [saved + f"{theme.duration(path.seconds_without_cache)} without cache"]))
    if build.context_bytes is not None:
        facts.append(("Build context", [f"{theme.size(build.context_bytes)} sent"]))
    if build.base_images:
        facts.append(("Base images", [code(_base_image(image)) for image in build.base_images]))
    if build.images:
        named = [line for image in build.images for line in _image(image)]
        facts.append(("Images", [code(line) for line in named] or ["none named"]))
    facts += [
        (term, [_transfer(one) for one in many])
        for term, many in (("Cache imports", build.cache_imports), ("Cache exports", build.cache_exports))
        if many
    ]
    return facts


def _base_image(image: dict[str, Any]) -> str:
    return "@".join(part for part in (image["reference"], image["digest"]) if part)


def _image(image: dict[str, Any]) -> list[str]:
    return [*image["tags"], *(part for part in (image["digest"], image["id"]) if part)]


def _transfer(transfer: dict[str, Any]) -> Markup:
    ended = {True: "succeeded", False: "failed", None: "not told how it ended"}[transfer["succeeded"]]
    took = f" in {theme.duration(transfer['seconds'])}" if transfer["seconds"] is not None else ""
    return Markup('<code class="cut">{}</code> {}{}').format(transfer["ref"] or "no name printed", ended, took)


def _web_address(url: str | None) -> str | None:
    """The address of the CI run if a browser may follow it: nothing but http and https."""
    if not url:
        return None
    try:
        return url if urlsplit(url).scheme in {"http", "https"} else None
    except ValueError:
        return None
