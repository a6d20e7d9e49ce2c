"""The raw log of a build as text: some lines at a time, with anchors, search and links to the steps."""

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, Response

from cachescope.errors import NotFoundError
from dashboards import logs
from dashboards.context import Page, PageDep
from dashboards.pages.build import find_build, stored_log
from dashboards.rendering import query
from dashboards.theme import count, plural, size
from service.dependencies import logs_of
from store.logs import read_log
from store.models import Build, StoredLog
from store.queries import builds as build_rows

router = APIRouter(prefix="/builds", include_in_schema=False)

LEAD = 3
"""Lines shown above the one that was asked for."""


@router.get("/{build_id}/log", response_class=HTMLResponse)
def log(
    page: PageDep,
    build_id: int,
    *,
    line: int = Query(1, ge=1, le=1 << 31),
    q: str = Query("", max_length=200),
    wrap: int = Query(1, ge=0, le=1),
    form: str = Query("", alias="as", max_length=8),
) -> Response:
    """Show a part of the log, or the lines that match."""
    build = find_build(page, build_id)
    stored = stored_log(page, build)
    if stored is None:
        raise NotFoundError(
            "The raw log of this build is no longer kept; what was read from it is on the build's page."
        )
    steps = [(step, text) for step, text in build_rows.load_steps(page.session, build.id) if step.line]
    wanted = q.strip()
    is_structured = build.format == "buildkit-rawjson"
    is_decoded = is_structured and form != "json"
    decode = logs.RawJson() if is_decoded else logs.plain
    kept = {"wrap": None if wrap else 0, "as": "json" if is_structured and not is_decoded else None}
    if wanted:
        found, has_more = logs.search(_read(page, stored), wanted, after=line - 1, decode=decode)
        pages = [("Next matches", query({"q": wanted, "line": found[-1].number + 1, **kept}))] if has_more else []
        sentence = _matches(wanted, found, has_more=has_more)
    else:
        first = max(1, line - LEAD) if line > 1 else 1
        found, has_more = logs.page(_read(page, stored), first, decode=decode)
        pages = _pages(first, has_more=has_more, kept=kept)
        sentence = f"Log of build {build.id}, " + (
            f"lines {count(found[0].number)} to {count(found[-1].number)} of {size(stored.unpacked_bytes)}."
            if found
            else f"which ends before line {count(first)}."
        )
    if is_decoded:
        sentence += " Decoded from BuildKit's JSON; numbers are those of its lines."
    return _show(page, build, found, wanted=wanted, sentence=sentence, pages=pages, steps=steps, kept=kept)


def _show(
    page: Page, build: Build, found: list[logs.Line], *, wanted: str, sentence: str, pages: Any, steps: Any, kept: Any
) -> Response:
    team = page.team_of(build.repository)
    repository_url = f"/teams/{team.slug}/repositories/{build.repository_id}"
    beginnings = {step.line for step, _ in steps}
    path = f"/builds/{build.id}/log"
    here = {"q": wanted, "line": found[0].number if found else None, **kept}
    is_structured, is_json = build.format == "buildkit-rawjson", kept["as"] == "json"
    return page.show(
        "log.html",
        team,
        crumbs=[(build.repository.name, repository_url), (f"Build {build.id}", f"/builds/{build.id}"), ("Log", None)],
        section="repositories",
        build=build,
        repository=build.repository,
        sentence=sentence,
        q=wanted,
        kept=kept,
        wraps=kept["wrap"] is None,
        wrap_url=path + query(here | {"wrap": 0 if kept["wrap"] is None else None}),
        form_url=path + query(here | {"as": None if is_json else "json"}) if is_structured else None,
        is_json=is_json,
        raw_url=f"/api/v1/builds/{build.id}/log",
        pages=[(text, path + address) for text, address in pages],
        lines=[
            {
                "number": line.number,
                "is_first": line.is_first,
                "parts": logs.mark(line.text, wanted),
                "is_step": line.number in beginnings and line.is_first,
                # A match leads to its place in the log, a line to itself: the address to send to somebody.
                "url": f"{path}{query({'line': line.number, **kept})}#L{line.number}",
            }
            for line in found
        ],
        builds_steps=[
            {"line": step.line, "text": text, "url": f"{path}{query({'line': step.line})}#L{step.line}"}
            for step, text in steps
            if step.kind == "instruction"
        ],
        nothing=f"No line holds “{wanted}”." if wanted else "There is nothing at this place of the log.",
    )


def _read(page: Page, stored: StoredLog) -> Iterator[bytes]:
    return read_log(logs_of(page.request), stored.digest)


def _pages(first: int, *, has_more: bool, kept: dict[str, Any]) -> list[tuple[str, str]]:
    pages = []
    if first > 1:
        pages += [("Beginning", query(kept) or "?"), ("Lines above", _at(max(1, first - logs.LINES_PER_PAGE), kept))]
    if has_more:
        pages.append(("Lines below", _at(first + logs.LINES_PER_PAGE, kept)))
    return pages


def _at(first: int, kept: dict[str, Any]) -> str:
    return query({"line": first + LEAD if first > 1 else None, **kept}) or "?"


def _matches(wanted: str, found: list[logs.Line], *, has_more: bool) -> str:
    if not found:
        return f"No line from here on holds “{wanted}”."
    return f"{plural(len(found), 'line')}{' and more' if has_more else ''} with “{wanted}”."
