"""Image sizes: what CI jobs measured, what is followed at registries, versions, differences, shared layers."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import orjson
from anyio import to_thread
from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy.orm import Session

from cachescope.errors import InvalidValueError, TooLargeError, UnreadableInputError
from cachescope.images.budgets import Overrun
from cachescope.images.comparing import LayerChange, compare_platforms
from cachescope.images.model import Layer, MeasuredImage, PlatformImage
from service.actions import images as actions
from service.actions.uploads import prepare_upload
from service.api.teams import BranchClass
from service.dependencies import (
    BEARER_SCHEME,
    OPENAPI_SECURITY,
    RepositoryDep,
    SessionDep,
    TeamDep,
    ViewerDep,
    bearer_of,
    engine_of,
)
from service.errors import responses
from store.database import transaction
from store.models import ImageSize, SizedImage, Team
from store.queries import image_sizes, measurings
from store.queries.image_sizes import Version

router = APIRouter(prefix="/api/v1", tags=["images"])

LARGEST_BODY = 8 * 1024 * 1024
_Bytes = Annotated[int, Field(ge=0, le=1 << 50)]
_Digest = Annotated[str, Field(pattern=r"^sha(256:[0-9a-f]{64}|512:[0-9a-f]{128})$")]


class LayerAnswer(BaseModel):
    """One layer, as `cachescope measure --json` prints it."""

    model_config = ConfigDict(extra="ignore")

    digest: _Digest | None = None
    diff_id: _Digest | None = None
    instruction: Annotated[str, Field(max_length=20_000)] | None = None
    compressed_bytes: _Bytes | None = None
    unpacked_bytes: _Bytes | None = None
    base: bool | None = None


class MeasuredPlatform(BaseModel):
    """One platform, as `cachescope measure --json` prints it."""

    model_config = ConfigDict(extra="ignore")

    platform: Annotated[str, Field(max_length=200)]
    digest: _Digest | None = None
    config_digest: _Digest | None = None
    compressed_bytes: _Bytes | None = None
    unpacked_bytes: _Bytes | None = None
    base_image: Annotated[str, Field(max_length=500)] | None = None
    layers: Annotated[list[LayerAnswer], Field(max_length=4096)]
    contents: "MeasuredContents | None" = None


class WastedFile(BaseModel):
    """A file version that a later layer hides."""

    path: Annotated[str, Field(max_length=4000)]
    size_bytes: _Bytes
    layer: Annotated[int, Field(ge=0, lt=4096)]
    hidden_by: Annotated[int, Field(ge=0, lt=4096)]
    deleted: bool


class LargeFile(BaseModel):
    """One of the largest files."""

    path: Annotated[str, Field(max_length=4000)]
    size_bytes: _Bytes
    layer: Annotated[int, Field(ge=0, lt=4096)]


class LeftCache(BaseModel):
    """What a package manager left."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    size_bytes: _Bytes
    files: Annotated[int, Field(ge=0)]
    layer: Annotated[int, Field(ge=0, lt=4096)]
    cure: Annotated[str, Field(max_length=300)]


class RewrittenLayer(BaseModel):
    """Bytes that a later layer writes again unchanged in size."""

    layer: Annotated[int, Field(ge=0, lt=4096)]
    rewritten_by: Annotated[int, Field(ge=0, lt=4096)]
    size_bytes: _Bytes


class MeasuredContents(BaseModel):
    """What lies in the layers, from `cachescope measure --deep`."""

    wasted_bytes: _Bytes
    base_wasted_bytes: _Bytes
    wasted: Annotated[list[WastedFile], Field(max_length=100)]
    largest: Annotated[list[LargeFile], Field(max_length=100)]
    caches: Annotated[list[LeftCache], Field(max_length=100)]
    rewritten: Annotated[list[RewrittenLayer], Field(max_length=100)]
    files: Annotated[int, Field(ge=0)]
    complete: bool


class MeasuredDocument(BaseModel):
    """What `cachescope measure --json` prints for one reference."""

    model_config = ConfigDict(extra="ignore")

    reference: Annotated[str, Field(min_length=1, max_length=500)]
    digest: _Digest | None = None
    platforms: Annotated[list[MeasuredPlatform], Field(min_length=1, max_length=256)]


class SavedSizes(BaseModel):
    """What became of a measurement."""

    image_id: int
    name: str
    version_ids: list[int]
    page: str = Field(description="The address of the image's page on this server.")


class OverrunAnswer(BaseModel):
    """A budget that does not hold, or slow growth."""

    kind: str
    size_bytes: int
    limit_bytes: int | None
    grown_bytes: int
    instruction: str | None
    base: bool


class MeasuringAnswer(BaseModel):
    """One measurement by a worker and what became of it."""

    id: str
    wanted: str
    reason: str
    state: str
    attempts: int
    error: str | None
    created_at: datetime
    next_at: datetime
    finished_at: datetime | None


class VersionAnswer(BaseModel):
    """One version of an image on one platform."""

    id: int
    tag: str | None
    digest: str | None
    platform: str
    build_id: int | None
    commit_id: str | None
    branch: str
    pull_request: str | None
    released_at: datetime
    ways: list[str] = Field(description="How it was measured: engine, registry.")
    compressed_bytes: int | None
    unpacked_bytes: int | None
    own_compressed_bytes: int | None
    own_unpacked_bytes: int | None
    base_share: float | None
    base_image: str | None
    pull_churn_bytes: int | None = Field(description="Compressed bytes of layers that the version before lacked.")
    engine_pull_bytes: int | None = Field(
        description="What a Docker engine with the classic store pulls that holds the version before."
    )


class BlamedAnswer(BaseModel):
    """The instruction that did most of a growth or shrinkage."""

    change: str
    instruction: str | None
    base: bool | None
    compressed_growth_bytes: int | None
    unpacked_growth_bytes: int | None


class VersionStep(VersionAnswer):
    """One version, what it changed, and the budgets that it passes."""

    compressed_growth_bytes: int | None
    unpacked_growth_bytes: int | None
    blamed: BlamedAnswer | None
    overruns: list[OverrunAnswer]


class FollowedImage(BaseModel):
    """An image whose size is followed."""

    id: int
    name: str
    from_registry: bool
    tag: str
    every_minutes: int | None
    budget_bytes: int | None
    budget_growth: float | None
    budget_pull_request_bytes: int | None
    platforms: list[str]
    newest: VersionAnswer | None
    measurings: list[MeasuringAnswer]


class FollowedImages(BaseModel):
    """The images of a repository whose size is followed."""

    images: list[FollowedImage]


class AdviceAnswer(BaseModel):
    """A change that would make the image smaller."""

    kind: str
    title: str
    change: str
    instruction: str | None
    saves_bytes: int
    at_most: bool
    unpacked: bool


class HistoryAnswer(BaseModel):
    """The versions of an image on one platform, oldest first."""

    image: str
    platform: str
    platforms: list[str]
    versions: list[VersionStep]
    drift: OverrunAnswer | None
    recommendations: list[AdviceAnswer]


class ChangeAnswer(BlamedAnswer):
    """One layer before and after."""

    before: LayerAnswer | None
    after: LayerAnswer | None


class DifferenceAnswer(BaseModel):
    """What differs between two versions, layer by layer."""

    before: VersionAnswer
    after: VersionAnswer
    compressed_growth_bytes: int | None
    unpacked_growth_bytes: int | None
    pull_churn_bytes: int | None
    blamed: BlamedAnswer | None
    layers: list[ChangeAnswer]


class VersionDetails(VersionAnswer):
    """One version with its layers, from the bottom, and what lies in them where that was read."""

    layers: list[LayerAnswer]
    contents: dict[str, Any] | None


class SharedLayerAnswer(BaseModel):
    """A layer that several images of a team hold."""

    diff_id: str
    instruction: str | None
    size_bytes: int | None
    base: bool
    images: list[str]


class SharedLayers(BaseModel):
    """Layers that several images of a team hold: kept and pulled once."""

    layers: list[SharedLayerAnswer]


class FollowBody(BaseModel):
    """How an image shall be followed."""

    name: Annotated[str, Field(min_length=1, max_length=200, examples=["ghcr.io/acme/api"])]
    from_registry: bool = True
    insecure: bool = Field(default=False, description="Speak plain HTTP with the registry.")
    networks: Annotated[str, Field(max_length=500)] = Field(
        default="", description="Private networks in which the registry may stand, such as 10.1.0.0/16."
    )
    user: Annotated[str, Field(max_length=200)] | None = None
    password: Annotated[str, Field(max_length=10_000)] | None = None
    tag: Annotated[str, Field(min_length=1, max_length=128)] = "latest"
    every_minutes: Annotated[int, Field(ge=5, le=525_600)] | None = None
    budget_bytes: Annotated[int, Field(ge=1, le=1 << 50)] | None = None
    budget_growth: Annotated[float, Field(ge=0, le=100)] | None = None
    budget_pull_request_bytes: Annotated[int, Field(ge=0, le=1 << 50)] | None = None


class AskBody(BaseModel):
    """What shall be measured now."""

    tag: Annotated[str, Field(min_length=1, max_length=128)] | None = None


class AskedAnswer(BaseModel):
    """What was asked for."""

    measuring: str


@router.post(
    "/images",
    status_code=201,
    summary="Send what an image weighs",
    responses=responses(401, 403, 413, 422),
    dependencies=[Depends(BEARER_SCHEME)],
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "What `cachescope measure --json` prints for one reference.",
            "content": {"application/json": {"schema": {"type": "object"}}},
        }
    },
)
async def send_sizes(request: Request) -> SavedSizes:
    """Save what a CI job measured; the query says what `POST /api/v1/uploads` says: repository, commit, branch, …."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > LARGEST_BODY:
            raise TooLargeError(f"The body is larger than {LARGEST_BODY // 1024**2} MiB.")
    return await to_thread.run_sync(_save, request, bytes(content))


def _save(request: Request, content: bytes) -> SavedSizes:
    with transaction(engine_of(request)) as session:
        upload = prepare_upload(session, bearer_of(request), dict(request.query_params))
        image, contents = read_document(content)
        sized, saved = actions.accept_measured(session, upload, image, contents)
        team = session.get_one(Team, sized.team_id)
        return SavedSizes(
            image_id=sized.id,
            name=sized.name,
            version_ids=[row.id for row in saved],
            page=f"/teams/{team.slug}/repositories/{sized.repository_id}/images/{sized.id}",
        )


def read_document(content: bytes) -> tuple[MeasuredImage, dict[str, dict[str, Any]]]:
    """Read a measurement; raises UnreadableInputError and InvalidValueError."""
    try:
        document = MeasuredDocument.model_validate(orjson.loads(content))
    except orjson.JSONDecodeError as error:
        raise UnreadableInputError(f"The body is not JSON: {str(error)[:200]}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InvalidValueError(place, f"The body is no measurement: {place}: {first['msg']}.") from error
    platforms = []
    contents: dict[str, dict[str, Any]] = {}
    for one in document.platforms:
        layers = tuple(Layer(**layer.model_dump()) for layer in one.layers)
        platforms.append(
            PlatformImage(
                platform=one.platform,
                digest=one.digest,
                config_digest=one.config_digest,
                compressed_bytes=one.compressed_bytes,
                unpacked_bytes=one.unpacked_bytes,
                layers=layers,
                base_image=one.base_image,
            )
        )
        if one.contents is not None:
            contents[one.platform] = _within(one.contents, len(layers))
    return MeasuredImage(reference=document.reference, digest=document.digest, platforms=tuple(platforms)), contents


def _within(contents: MeasuredContents, layers: int) -> dict[str, Any]:
    """Keep of what lies in the layers only what names a layer that there is."""
    found = contents.model_dump()
    for name in ("wasted", "largest", "caches", "rewritten"):
        found[name] = [
            row
            for row in found[name]
            if max(row["layer"], row.get("hidden_by", 0), row.get("rewritten_by", 0)) < layers
        ]
    return found


@router.get(
    "/repositories/{repository_id}/images",
    summary="List followed images",
    responses=responses(401, 404),
    dependencies=OPENAPI_SECURITY,
)
def list_images(session: SessionDep, repository: RepositoryDep) -> FollowedImages:
    """List the images of a repository whose size is followed."""
    return FollowedImages(
        images=[_describe(session, sized) for sized in image_sizes.list_sized_images(session, repository.id)]
    )


@router.put(
    "/repositories/{repository_id}/images",
    summary="Follow an image",
    responses=responses(401, 403, 404, 422),
    dependencies=OPENAPI_SECURITY,
)
def follow(session: SessionDep, repository: RepositoryDep, viewer: ViewerDep, body: FollowBody) -> FollowedImage:
    """Follow an image's size at its registry, or change how, and set what it may weigh."""
    form = actions.FollowForm(**body.model_dump())
    return _describe(session, actions.follow_image(session, viewer, repository, form))


@router.post(
    "/repositories/{repository_id}/images/{image_id}/measurings",
    status_code=202,
    summary="Measure now",
    responses=responses(401, 403, 404, 422),
    dependencies=OPENAPI_SECURITY,
)
def measure_now(
    *, session: SessionDep, repository: RepositoryDep, viewer: ViewerDep, image_id: int, body: AskBody
) -> AskedAnswer:
    """Let a worker ask the registry."""
    sized = actions.find_image(session, repository, image_id)
    return AskedAnswer(measuring=actions.ask_for_measuring(session, viewer, sized, body.tag))


@router.get(
    "/repositories/{repository_id}/images/{image_id}/versions",
    summary="List the versions of an image",
    responses=responses(401, 404, 422),
    dependencies=OPENAPI_SECURITY,
)
def list_versions(
    *,
    session: SessionDep,
    repository: RepositoryDep,
    image_id: int,
    platform: Annotated[str | None, Query(max_length=200)] = None,
    branch_class: Annotated[list[BranchClass] | None, Query(description="The default branch unless named.")] = None,
    limit: Annotated[int, Query(ge=1, le=400)] = 200,
) -> HistoryAnswer:
    """List versions, oldest first, with what each changed, which instruction did it, and what a client pulls."""
    sized = actions.find_image(session, repository, image_id)
    history = actions.load_history(session, sized, platform, branch_classes=branch_class or ["default"], limit=limit)
    if history is None:
        return HistoryAnswer(
            image=sized.name, platform=platform or "", platforms=[], versions=[], drift=None, recommendations=[]
        )
    return HistoryAnswer(
        image=sized.name,
        platform=history.platform,
        platforms=list(history.platforms),
        versions=[_step(step) for step in history.steps],
        drift=_overrun(history.drift) if history.drift else None,
        recommendations=[
            AdviceAnswer(**{name: getattr(one, name) for name in AdviceAnswer.model_fields}) for one in history.advice
        ],
    )


@router.get(
    "/repositories/{repository_id}/images/{image_id}/versions/{version_id}",
    summary="Show a version",
    responses=responses(401, 404),
    dependencies=OPENAPI_SECURITY,
)
def show_version(session: SessionDep, repository: RepositoryDep, image_id: int, version_id: int) -> VersionDetails:
    """Give one version with its layers."""
    sized = actions.find_image(session, repository, image_id)
    version, _ = actions.compare_versions(session, sized, version_id, version_id)
    return VersionDetails(
        **to_version(version).model_dump(),
        layers=[to_layer(layer) for layer in version.image.layers],
        contents=version.row.contents,
    )


@router.get(
    "/repositories/{repository_id}/images/{image_id}/difference",
    summary="Compare two versions",
    responses=responses(401, 404, 422),
    dependencies=OPENAPI_SECURITY,
)
def difference(
    *, session: SessionDep, repository: RepositoryDep, image_id: int, before: int, after: int
) -> DifferenceAnswer:
    """Say what differs between two versions, layer by layer, and which instruction did most of it."""
    sized = actions.find_image(session, repository, image_id)
    old, new = actions.compare_versions(session, sized, before, after)
    found = compare_platforms(old.image, new.image)
    return DifferenceAnswer(
        before=to_version(old),
        after=to_version(new),
        compressed_growth_bytes=found.compressed_growth,
        unpacked_growth_bytes=found.unpacked_growth,
        pull_churn_bytes=found.pull_churn_bytes,
        blamed=_blamed(found.blamed),
        layers=[
            ChangeAnswer(
                **_change(change),
                before=to_layer(change.before) if change.before else None,
                after=to_layer(change.after) if change.after else None,
            )
            for change in found.layers
        ],
    )


@router.get(
    "/teams/{slug}/shared-layers",
    summary="List layers that several images share",
    responses=responses(401, 404),
    dependencies=OPENAPI_SECURITY,
)
def shared_layers(session: SessionDep, team: TeamDep, viewer: ViewerDep) -> SharedLayers:
    """List layers that the newest versions of several images of a team hold; a token of one repository sees none."""
    found = image_sizes.load_shared_layers(session, team.id) if viewer.repository_id is None else []
    return SharedLayers(
        layers=[
            SharedLayerAnswer(
                diff_id=one.diff_id,
                instruction=one.instruction,
                size_bytes=one.size_bytes,
                base=one.base,
                images=list(one.images),
            )
            for one in found
        ]
    )


def _describe(session: Session, sized: SizedImage) -> FollowedImage:
    platforms = image_sizes.list_platforms(session, sized.id)
    newest = image_sizes.load_versions(session, sized.id, platforms[0], limit=2) if platforms else []
    return FollowedImage(
        id=sized.id,
        name=sized.name,
        from_registry=sized.from_registry,
        tag=sized.tag,
        every_minutes=sized.every_minutes,
        budget_bytes=sized.budget_bytes,
        budget_growth=sized.budget_growth,
        budget_pull_request_bytes=sized.budget_pull_request_bytes,
        platforms=platforms,
        newest=to_version(newest[-1]) if newest else None,
        measurings=[
            MeasuringAnswer(**{name: getattr(row, name) for name in MeasuringAnswer.model_fields})
            for row in measurings.list_measurings(session, sized.id)
        ],
    )


_COPIED = (
    "id", "tag", "digest", "platform", "build_id", "commit_id", "branch", "pull_request", "released_at", "ways",
    "compressed_bytes", "unpacked_bytes", "own_compressed_bytes", "own_unpacked_bytes", "base_image",
)  # fmt: skip


def to_version(version: Version) -> VersionAnswer:
    """Return a version as JSON."""
    row: ImageSize = version.row
    return VersionAnswer(
        **{name: getattr(row, name) for name in _COPIED},
        base_share=version.image.base_share,
        pull_churn_bytes=version.churn_bytes,
        engine_pull_bytes=version.engine_bytes,
    )


def to_layer(layer: Layer) -> LayerAnswer:
    """Return a layer as JSON."""
    return LayerAnswer.model_construct(**{name: getattr(layer, name) for name in LayerAnswer.model_fields})


def _step(step: actions.Step) -> VersionStep:
    return VersionStep(
        **to_version(step.version).model_dump(),
        compressed_growth_bytes=step.difference.compressed_growth if step.difference else None,
        unpacked_growth_bytes=step.difference.unpacked_growth if step.difference else None,
        blamed=_blamed(step.difference.blamed) if step.difference else None,
        overruns=_overruns(step.overruns),
    )


def _change(change: LayerChange) -> dict[str, Any]:
    return {
        "change": str(change.change),
        "instruction": change.instruction,
        "base": change.is_base,
        "compressed_growth_bytes": change.compressed_growth,
        "unpacked_growth_bytes": change.unpacked_growth,
    }


def _blamed(change: LayerChange | None) -> BlamedAnswer | None:
    return BlamedAnswer(**_change(change)) if change is not None else None


def _overruns(overruns: Sequence[Overrun]) -> list[OverrunAnswer]:
    return [_overrun(one) for one in overruns]


def _overrun(one: Overrun) -> OverrunAnswer:
    return OverrunAnswer(
        kind=one.kind,
        size_bytes=one.size_bytes,
        limit_bytes=one.limit_bytes,
        grown_bytes=one.grown_bytes,
        instruction=one.instruction,
        base=one.is_base,
    )
