"""An image: what its versions weigh, which instruction made them so, what a client pulls, what would shrink it."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from cachescope.errors import InvalidValueError, NotFoundError
from cachescope.images.budgets import Overrun, OverrunKind
from cachescope.images.comparing import (
    Change,
    LayerChange,
    PlatformDifference,
    attribute_growth,
    compare_platforms,
    short_text,
)
from cachescope.images.model import Layer
from dashboards import theme, treemap
from dashboards.context import FormDep, Page, PageDep
from dashboards.figures import Figure
from dashboards.periods import DEFAULT_DAYS, Period, branch_links, get_period
from dashboards.rendering import query
from service.actions import images as actions
from service.actions.images import ImageHistory, Step
from service.dependencies import RepositoryDep, TeamDep
from store.models import Repository, SizedImage, Team
from store.queries import image_sizes, measurings
from store.queries.image_sizes import Version

router = APIRouter(prefix="/teams/{slug}/repositories/{repository_id}/images", include_in_schema=False)

SHOWN_VERSIONS = 40
STATES = {"new": "waiting", "working": "being measured", "done": "done", "failed": "failed"}
REASONS = {"push": "pushed", "build": "built", "schedule": "schedule", "asked": "asked for"}


@router.get("/{image_id}", response_class=HTMLResponse)
def image(
    page: PageDep,
    team: TeamDep,
    repository: RepositoryDep,
    image_id: int,
    *,
    period: Annotated[Period, Depends(get_period)],
    platform: str = Query("", max_length=200),
    before: str = Query("", max_length=18),
    after: str = Query("", max_length=18),
) -> Response:
    """Show one image."""
    _belongs(team, repository)
    sized = actions.find_image(page.session, repository, image_id)
    return _show(page, team, repository, sized, period=period, platform=platform, chosen=(before, after))


@router.post("")
def follow(form: FormDep, page: PageDep, team: TeamDep, repository: RepositoryDep) -> Response:
    """Follow an image, or change how."""
    _belongs(team, repository)
    name = form.get("name", "")
    known = next((one for one in image_sizes.list_sized_images(page.session, repository.id) if one.name == name), None)
    try:
        sized = actions.follow_image(page.session, page.viewer, repository, _read_form(form))
    except InvalidValueError as error:
        if known is None:
            raise
        return _show(
            page, team, repository, known, period=get_period(DEFAULT_DAYS, "default"), message=str(error), status=422
        )
    if form.get("measure"):
        actions.ask_for_measuring(page.session, page.viewer, sized, None)
    return RedirectResponse(_url(team, repository, sized), 303)


@router.post("/{image_id}/measure")
def measure_now(form: FormDep, page: PageDep, team: TeamDep, repository: RepositoryDep, image_id: int) -> Response:
    """Let a worker ask the registry."""
    _belongs(team, repository)
    sized = actions.find_image(page.session, repository, image_id)
    actions.ask_for_measuring(page.session, page.viewer, sized, form.get("tag") or None)
    return RedirectResponse(_url(team, repository, sized) + "#measurings", 303)


def _belongs(team: Team, repository: Repository) -> None:
    if repository.team_id != team.id:
        raise NotFoundError(f"There is no repository {repository.id} in {team.name}, or you may not see it.")


def _url(team: Team, repository: Repository, sized: SizedImage) -> str:
    return f"/teams/{team.slug}/repositories/{repository.id}/images/{sized.id}"


def _read_form(form: dict[str, str]) -> actions.FollowForm:
    minutes = _number(form, "every_minutes", 1)
    if minutes is not None and not 5 <= minutes <= 525_600:
        raise InvalidValueError(
            "every_minutes", "An image is measured every 5 minutes at most, and once a year at least."
        )
    growth = _number(form, "budget_growth", 1)
    return actions.FollowForm(
        name=form.get("name", ""),
        from_registry=form.get("from_registry", "") == "on",
        insecure=form.get("insecure", "") == "on",
        networks=form.get("networks", "")[:500],
        user=form.get("user") or None,
        password=form.get("password") or None,
        tag=form.get("tag", "") or "latest",
        every_minutes=minutes,
        budget_bytes=_number(form, "budget_megabytes", 1_000_000),
        budget_growth=None if growth is None else growth / 100,
        budget_pull_request_bytes=_number(form, "budget_pull_request_megabytes", 1_000_000),
    )


def _number(form: dict[str, str], name: str, factor: int) -> int | None:
    text = form.get(name, "").strip()
    if not text:
        return None
    whole, _, part = text.partition(".")
    if len(text) > 12 or not text.isascii() or not whole.isdigit() or (part and not part.isdigit()):
        raise InvalidValueError(name, f'"{text[:40]}" is no number: leave the field empty for no limit.')
    return round(float(text) * factor)


def _show(
    page: Page,
    team: Team,
    repository: Repository,
    sized: SizedImage,
    *,
    period: Period,
    platform: str = "",
    chosen: tuple[str, str] = ("", ""),
    message: str = "",
    status: int = 200,
) -> Response:
    url = _url(team, repository, sized)
    # Pull requests are compared with the default branch, so their rows come with its.
    classes = ["default", "pull_request"] if period.branches == "pull_request" else period.branch_classes
    history = actions.load_history(page.session, sized, platform or None, branch_classes=classes)
    steps = [
        step
        for step in (history.steps if history else ())
        if period.branches != "pull_request" or step.version.row.branch_class == "pull_request"
    ]
    kept = {
        name: value
        for name, value in (
            ("platform", platform),
            ("branches", "" if period.branches == "default" else period.branches),
            ("days", "" if period.days == DEFAULT_DAYS else str(period.days)),
        )
        if value
    }
    latest = measurings.list_measurings(page.session, sized.id)
    context: dict[str, Any] = {
        "sized": sized,
        "image_url": url,
        "message": message,
        "states": STATES,
        "reasons": REASONS,
        "measurings": latest,
        "trouble": latest[0] if latest and latest[0].error and latest[0].state != "done" else None,
        "is_member": page.viewer.may(team.id, "member"),
        "branch_choices": branch_links(page.request, period, kept),
        "kept": kept,
        "span": period,
        "steps": [],
        "notices": [],
        "platforms": [],
        "steps_of": len(steps),
    }
    if not steps or history is None:
        context["sentence"] = _nothing(sized, latest, history is not None, period)
    else:
        context |= _figures(steps, history, url, kept, chosen)
    return page.show(
        "image.html",
        team,
        status=status,
        crumbs=[
            ("Repositories", f"/teams/{team.slug}/repositories"),
            (repository.name, f"/teams/{team.slug}/repositories/{repository.id}"),
            (sized.name, None),
        ],
        section="repositories",
        json_url=f"/api/v1/repositories/{repository.id}/images/{sized.id}/versions"
        + query({"platform": platform, "branch_class": None if period.branches == "all" else period.branches}),
        draws=bool(steps),
        repository=repository,
        chart_parameters={
            "repository": repository.id,
            "image": sized.id,
            "days": period.days,
            "branches": period.branches,
            "platform": platform,
        },
        **context,
    )


def _nothing(sized: SizedImage, latest: Sequence[Any], has_others: bool, period: Period) -> str:
    if has_others:
        return f"No version of {sized.name} was measured on {period.branch_words}."
    if latest and latest[0].state == "failed":
        return f"{sized.name} could not be measured: {latest[0].error}"
    if latest:
        return f"{sized.name} is being measured."
    how = "push a version, or ask for it below" if sized.from_registry else "`cachescope push --image` sends its size"
    return f"{sized.name} has not been measured yet: {how}."


def _figures(
    steps: Sequence[Step], history: ImageHistory, url: str, kept: dict[str, str], chosen: tuple[str, str]
) -> dict[str, Any]:
    newest = steps[-1]
    old, new = _chosen(steps, chosen)
    difference = compare_platforms(old.image, new.image) if old is not None else None
    images = [step.version.image for step in steps]
    layers = newest.version.image.layers
    ages = _ages(steps)
    sizes = [layer.compressed_bytes for layer in layers]
    compressed = all(size is not None for size in sizes)
    if not compressed:
        sizes = [layer.unpacked_bytes for layer in layers]
    row = newest.version.row
    return {
        "sentence": sentence(history, steps),
        "notices": [notice(one, newest.version) for one in newest.overruns]
        + ([notice(history.drift, newest.version)] if history.drift else []),
        "figures": _summary(steps),
        "newest": newest.version,
        "platforms": [
            (one, url + query({**kept, "platform": one}), one == history.platform) for one in history.platforms
        ],
        "tiles": treemap.tiles(
            [
                treemap.Item(
                    number=place + 1, text=words(layer), size_bytes=size or 0, age=None if layer.base else ages[place]
                )
                for place, (layer, size) in enumerate(zip(layers, sizes, strict=True))
            ]
        ),
        "tile_words": treemap.WORDS,
        "tile_kind": "compressed" if compressed else "unpacked",
        "layers": [
            {
                "number": place + 1,
                "words": words(layer),
                "layer": layer,
                "age": ages[place],
                "share": (size or 0) / whole if (whole := sum(s or 0 for s in sizes)) else None,
            }
            for place, (layer, size) in enumerate(zip(layers, sizes, strict=True))
        ],
        "steps": [_version_row(step, url, kept) for step in reversed(steps[-SHOWN_VERSIONS:])],
        "choices": [(step.version.row.id, version_name(step.version)) for step in reversed(steps)],
        "old": old,
        "new": new,
        "difference": difference,
        "changes": _changes(difference) if difference else [],
        "same": sum(one.change is Change.SAME for one in difference.layers) if difference else 0,
        "growth": [
            {"one": one, "words": words(Layer(instruction=one.instruction, base=one.is_base))}
            for one in attribute_growth(images)
            if one.growth_bytes
        ],
        "shows_compressed": any(image.compressed_bytes is not None for image in images),
        "shows_unpacked": any(image.unpacked_bytes is not None for image in images),
        "growth_steps": {place: version_name(step.version) for place, step in enumerate(steps)},
        "advice": history.advice,
        "contents": row.contents,
        "signed": signed,
        "version_name": version_name,
    }


def _chosen(steps: Sequence[Step], chosen: tuple[str, str]) -> tuple[Version | None, Version]:
    """The two versions of the address; else the newest and the one before it."""
    known = {str(step.version.row.id): step.version for step in steps}
    new = known.get(chosen[1], steps[-1].version)
    place = next(number for number, step in enumerate(steps) if step.version is new)
    usual = steps[place - 1].version if place else None
    return known.get(chosen[0], usual), new


def _ages(steps: Sequence[Step]) -> list[int]:
    """For each layer of the newest version, for how many versions it has been the same."""
    layers = steps[-1].version.image.layers
    held = [{one.diff_id or one.digest for one in step.version.image.layers} for step in reversed(steps[:-1])]
    ages = []
    for layer in layers:
        age = 0
        while age < len(held) and (layer.diff_id or layer.digest) in held[age]:
            age += 1
        ages.append(age)
    return ages


def words(layer: Layer) -> str:
    """Say what made a layer."""
    text = short_text(layer.instruction or "")
    if layer.base:
        return f"base image: {text}" if text else "base image"
    return text or "unknown instruction"


def signed(size: int | None) -> str:
    """`+30 MB`, `−12 kB`, `±0 B`."""
    if size is None:
        return "unknown"
    return theme.signed(theme.size(abs(size)), size) if size else "±0"


def version_name(version: Version) -> str:
    """A version by its tag, else its commit, else its day."""
    row = version.row
    return row.tag or (row.commit_id or "")[:8] or f"{row.released_at:%Y-%m-%d %H:%M}"


def _size(version: Version) -> tuple[int | None, str]:
    row = version.row
    if row.compressed_bytes is not None:
        return row.compressed_bytes, "compressed"
    return row.unpacked_bytes, "unpacked"


def sentence(history: ImageHistory, steps: Sequence[Step]) -> str:
    """Answer in a sentence what the image weighs and what changed it."""
    newest = steps[-1].version
    size, kind = _size(newest)
    text = f"{history.sized.name} {version_name(newest)} weighs {theme.size(size)} {kind}"
    share = newest.image.base_share
    text += f", {theme.percent(share)} of it the base image." if share is not None else "."
    if len(steps) > 1 and (difference := steps[-1].difference) is not None:
        text += f" {_said(difference, version_name(steps[-2].version))}"
    largest = max(
        (step for step in steps[1:] if step.difference),
        key=lambda step: abs(_growth(step.difference) or 0),
        default=None,
    )
    if largest is not None and largest is not steps[-1] and largest.difference and _growth(largest.difference):
        grown = _growth(largest.difference) or 0
        verb = "growth" if grown > 0 else "shrinkage"
        many = theme.plural(len(steps), "version")
        text += f" The largest {verb} of the last {many} was {signed(grown)} in {version_name(largest.version)}"
        if (blamed := largest.difference.blamed) is not None:
            text += f", {_share(blamed, grown)}by {_blame(blamed)}"
        text += "."
    return text


def _growth(difference: PlatformDifference | None) -> int | None:
    if difference is None:
        return None
    grown = difference.compressed_growth
    return difference.unpacked_growth if grown is None else grown


def _said(difference: PlatformDifference, before: str) -> str:
    grown = _growth(difference)
    if grown is None:
        return ""
    if not grown:
        return f"As large as {before}."
    blamed = difference.blamed
    return f"{signed(grown)} since {before}" + (
        f", {_share(blamed, grown)}by {_blame(blamed)}." if blamed is not None else "."
    )


def _share(change: LayerChange, grown: int) -> str:
    """Say how much of a growth one layer did, where it was not nearly all of it."""
    did = change.growth
    return "" if did is None or did / grown > 0.9 else f"{signed(did)} of it "


def _blame(change: LayerChange) -> str:
    text = (
        "a new base image"
        if change.is_base
        else f"`{theme.cut_middle(short_text(change.instruction or 'an unknown instruction'), 60)}`"
    )
    verb = {Change.ADDED: " (new)", Change.REMOVED: " (gone)"}.get(change.change, "")
    return text + verb


def notice(overrun: Overrun, version: Version) -> str:
    """Say in a sentence which budget does not hold and because of what."""
    what = (
        "the base image"
        if overrun.is_base
        else f"`{theme.cut_middle(short_text(overrun.instruction or 'unknown instruction'), 80)}`"
    )
    name, limit, grown = version_name(version), theme.size(overrun.limit_bytes), theme.size(overrun.grown_bytes)
    match overrun.kind:
        case OverrunKind.ABSOLUTE:
            over = theme.size(overrun.size_bytes - (overrun.limit_bytes or 0))
            return f"{name} is over its budget of {limit} by {over}; the largest part in it: {what}."
        case OverrunKind.GROWTH:
            return f"{name} grew by {grown}, more than one version may (up to {limit}), by {what}."
        case OverrunKind.PULL_REQUEST:
            return f"This pull request adds {grown}, more than it may (up to {limit}), by {what}."
    return f"Slow growth: {grown} over many versions and no large step, most of it by {what}."


def _summary(steps: Sequence[Step]) -> list[Figure]:
    newest, difference = steps[-1].version, steps[-1].difference
    row = newest.row
    released = f"of {version_name(newest)}"
    share = newest.image.base_share
    own_is_compressed = row.own_compressed_bytes is not None

    def figure(
        name: str, formula: str, size: int | None, missing: str, *, grown: int | None = None, kind: str = ""
    ) -> Figure:
        return Figure(
            name=name,
            formula=formula,
            value=None if size is None else theme.size(size),
            note=f"{kind} {released}".strip(),
            change=signed(grown) if grown is not None else None,
            is_better=None if not grown else grown < 0,
            missing=missing,
        )

    return [
        figure(
            "Compressed",
            "Σ of the layer blobs: what a registry keeps and a client pulls",
            row.compressed_bytes,
            "not measured at a registry",
            grown=difference.compressed_growth if difference else None,
        ),
        figure(
            "Unpacked",
            "Σ of the files of each layer: what `docker history` prints",
            row.unpacked_bytes,
            "not measured on an engine",
            grown=difference.unpacked_growth if difference else None,
        ),
        figure(
            "Own size",
            "the size without the layers of the base image",
            row.own_compressed_bytes if own_is_compressed else row.own_unpacked_bytes,
            "base image not known",
            kind="compressed," if own_is_compressed else "unpacked,",
        ),
        Figure(
            name="Base share",
            formula="size of the base image's layers / size of all",
            value=None if share is None else theme.percent(share),
            note=newest.image.base_image or released,
            missing="base image not known",
        ),
        figure(
            "Pull churn",
            "compressed bytes of the layers that the version before did not have",
            newest.churn_bytes,
            "no version before it" if len(steps) == 1 else "blobs not known",
            kind="compressed,",
        ),
    ]


def _version_row(step: Step, url: str, kept: dict[str, str]) -> dict[str, Any]:
    version, difference = step.version, step.difference
    size, kind = _size(version)
    blamed = difference.blamed if difference else None
    return {
        "id": version.row.id,
        "name": version_name(version),
        "row": version.row,
        "size": size,
        "kind": kind,
        "grown": _growth(difference),
        "blamed": None
        if blamed is None
        else ("base image" if blamed.is_base else words(blamed.after or blamed.before or Layer())),
        "blamed_change": "" if blamed is None else str(blamed.change),
        "churn": version.churn_bytes,
        "engine": version.engine_bytes,
        "overruns": [notice(one, version) for one in step.overruns],
        "url": url + query({**kept, "after": version.row.id}) + "#difference",
    }


def _changes(difference: PlatformDifference) -> list[dict[str, Any]]:
    """What differs, the largest change first."""
    changed = [one for one in difference.layers if one.change is not Change.SAME]
    return [
        {
            "change": str(one.change),
            "words": words(one.after or one.before or Layer()),
            "before": one.before,
            "after": one.after,
            "compressed": one.compressed_growth,
            "unpacked": one.unpacked_growth,
            "blamed": one is difference.blamed,
        }
        for one in sorted(changed, key=lambda one: -abs(one.growth or 0))
    ]
