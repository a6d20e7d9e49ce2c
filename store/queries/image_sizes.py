"""What images weigh: versions are saved once however often and however they are measured, and read in order."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from cachescope.images.comparing import engine_pull, pull_churn
from cachescope.images.model import Layer, MeasuredImage, PlatformImage
from cachescope.images.steps import match_steps
from cachescope.redaction import redact_text
from store.database import insert
from store.models import Build, BuildImage, ImageLayer, ImageSize, Repository, Run, SizedImage, Step, StepText
from store.queries.repositories import LONGEST_NAME

MOST_VERSIONS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What is known of where a version came from."""

    seen_at: datetime
    tag: str | None = None
    build_id: int | None = None
    commit_id: str | None = None
    branch: str = ""
    pull_request: str | None = None


def image_name(reference: str) -> str:
    """Return a reference without its tag and digest: `ghcr.io/acme/api:1.4` → `ghcr.io/acme/api`."""
    folder, stroke, last = reference.strip().removeprefix("docker://").partition("@")[0].rpartition("/")
    return (folder + stroke + last.partition(":")[0])[:LONGEST_NAME]


def get_or_create_sized_image(session: Session, repository: Repository, name: str) -> SizedImage:
    """Return the followed image of a repository with a name; the first measurement makes it."""
    statement = select(SizedImage).where(SizedImage.repository_id == repository.id, SizedImage.name == name)
    found = session.scalar(statement)
    if found is None:
        session.execute(
            insert(session, SizedImage)
            .values(team_id=repository.team_id, repository_id=repository.id, name=name)
            .on_conflict_do_nothing()
        )
        found = session.scalars(statement).one()
    return found


def list_sized_images(session: Session, repository_id: int) -> Sequence[SizedImage]:
    """The followed images of a repository by name."""
    return session.scalars(
        select(SizedImage).where(SizedImage.repository_id == repository_id).order_by(SizedImage.name)
    ).all()


def find_sized_image(session: Session, repository_id: int, sized_image_id: int) -> SizedImage | None:
    """A followed image of a repository."""
    return session.scalar(
        select(SizedImage).where(SizedImage.id == sized_image_id, SizedImage.repository_id == repository_id)
    )


def find_registry_images(session: Session, team_id: int, name: str) -> Sequence[SizedImage]:
    """The images of a team that workers may ask a registry for under a name.

    Where none has the whole name its path decides: a registry behind a proxy knows itself by another host, and some
    notifications name none.
    """
    followed = session.scalars(
        select(SizedImage).where(SizedImage.team_id == team_id, SizedImage.from_registry.is_(True))
    ).all()
    whole = [image for image in followed if image.name == name]
    paths = {name, name.partition("/")[2]}
    return whole or [image for image in followed if image.name.partition("/")[2] in paths]


def find_build(
    session: Session, team_id: int, digests: Sequence[str | None], reference: str | None
) -> tuple[Build, Run] | None:
    """The newest build of a team that made an image: by its digest, else by the name and tag that it printed."""
    known = [digest for digest in digests if digest]
    newest = (
        select(Build, Run)
        .join(Run, Run.id == Build.run_id)
        .join(Repository, Repository.id == Build.repository_id)
        .where(Repository.team_id == team_id)
        .order_by(Build.started_at.desc(), Build.id.desc())
    )
    if known:
        of_digest = select(BuildImage.build_id).where(BuildImage.digest.in_(known))
        found = session.execute(newest.where(Build.id.in_(of_digest)).limit(1)).first()
        if found is not None:
            return found[0], found[1]
    if not reference:
        return None
    # Tags are JSON, which the two databases search differently: the latest builds are looked through here.
    for build, run in session.execute(newest.limit(200)):
        for image in build.images:
            if isinstance(image, dict) and (
                reference in (image.get("tags") or []) or (known and image.get("id") in known)
            ):
                return build, run
    return None


def release_of(session: Session, team_id: int, image: MeasuredImage, *, tag: str | None, seen_at: datetime) -> Release:
    """Say where a version came from, by the build that made it where one is known."""
    digests = [image.digest, *(one.digest for one in image.platforms), *(one.config_digest for one in image.platforms)]
    found = find_build(session, team_id, digests, image.reference)
    if found is None:
        return Release(seen_at=seen_at, tag=tag)
    build, run = found
    return Release(
        seen_at=seen_at,
        tag=tag,
        build_id=build.id,
        commit_id=build.commit_id,
        branch=build.branch,
        pull_request=run.pull_request,
    )


def save_measured(
    session: Session,
    sized: SizedImage,
    image: MeasuredImage,
    *,
    way: str,
    release: Release,
    contents: Mapping[str, dict[str, Any]] | None = None,
) -> list[ImageSize]:
    """Save each platform of a measured image; a version that is known is completed, never counted twice."""
    saved = []
    for platform in image.platforms:
        if not platform.layers and platform.compressed_bytes is None and platform.unpacked_bytes is None:
            continue  # a platform whose manifest could not be read
        saved.append(
            _save(
                session,
                sized,
                image,
                platform,
                way=way,
                release=release,
                contents=(contents or {}).get(platform.platform),
            )
        )
    session.flush()
    return saved


def version_key(platform: PlatformImage) -> str:
    """Return what tells one version of a platform from another."""
    if platform.config_digest:
        return platform.config_digest
    held = "\n".join(layer.diff_id or layer.digest or "?" for layer in platform.layers)
    return f"layers:{hashlib.sha256(held.encode()).hexdigest()}"


def _save(
    session: Session,
    sized: SizedImage,
    image: MeasuredImage,
    platform: PlatformImage,
    *,
    way: str,
    release: Release,
    contents: dict[str, Any] | None,
) -> ImageSize:
    key = {
        "sized_image_id": sized.id,
        "platform": platform.platform[:LONGEST_NAME],
        "version_key": version_key(platform),
    }
    repository = session.get_one(Repository, sized.repository_id)
    branch_class = "pull_request" if release.pull_request else "default"
    if branch_class == "default" and release.branch not in ("", repository.default_branch):
        branch_class = "branch"
    created = session.scalar(
        insert(session, ImageSize)
        .values(
            **key,
            repository_id=sized.repository_id,
            branch_class=branch_class,
            released_at=release.seen_at,
            branch=release.branch,
            ways=[],
            layer_count=len(platform.layers),
        )
        .on_conflict_do_nothing(index_elements=list(key))
        .returning(ImageSize.id)
    )
    row = session.scalars(select(ImageSize).filter_by(**key).with_for_update()).one()
    known = load_layers(session, [row.id]).get(row.id, []) if created is None else []
    layers = _merged(known, platform.layers)
    row.tag = release.tag or row.tag
    row.digest = image.digest or row.digest
    row.manifest_digest = platform.digest or row.manifest_digest
    row.base_image = platform.base_image or row.base_image
    if release.build_id is not None or row.build_id is None:
        row.build_id = release.build_id or row.build_id
        row.commit_id = release.commit_id or row.commit_id
        row.pull_request = release.pull_request or row.pull_request
        if release.branch:
            row.branch, row.branch_class = release.branch, branch_class
    row.compressed_bytes = platform.compressed_bytes if row.compressed_bytes is None else row.compressed_bytes
    row.unpacked_bytes = platform.unpacked_bytes if row.unpacked_bytes is None else row.unpacked_bytes
    whole = PlatformImage(platform=platform.platform, layers=tuple(layers))
    row.own_compressed_bytes, row.own_unpacked_bytes = whole.own_compressed_bytes, whole.own_unpacked_bytes
    row.layer_count = len(layers)
    row.ways = sorted({*row.ways, way})
    row.contents = contents if contents is not None else row.contents
    row.measured_at = release.seen_at
    session.flush()
    steps = _match_steps(session, row.build_id, layers)
    values = [
        {
            "image_size_id": row.id,
            "position": position,
            "repository_id": sized.repository_id,
            "digest": layer.digest,
            "diff_id": layer.diff_id,
            "instruction": redact_text(layer.instruction) if layer.instruction else None,
            "step_position": step,
            "compressed_bytes": layer.compressed_bytes,
            "unpacked_bytes": layer.unpacked_bytes,
            "base": layer.base,
        }
        for position, (layer, step) in enumerate(zip(layers, steps, strict=True))
    ]
    if values:
        statement = insert(session, ImageLayer).values(values)
        session.execute(
            statement.on_conflict_do_update(
                index_elements=["image_size_id", "position"],
                set_={
                    name: statement.excluded[name]
                    for name in values[0]
                    if name not in ("image_size_id", "position", "repository_id")
                },
            )
        )
    return row


def _merged(known: Sequence[Layer], measured: Sequence[Layer]) -> list[Layer]:
    """Complete the layers of a version by what another way of measuring knows of them."""
    if len(known) != len(measured):
        return list(measured)
    return [
        Layer(
            digest=new.digest or old.digest,
            diff_id=new.diff_id or old.diff_id,
            instruction=new.instruction or old.instruction,
            compressed_bytes=old.compressed_bytes if new.compressed_bytes is None else new.compressed_bytes,
            unpacked_bytes=old.unpacked_bytes if new.unpacked_bytes is None else new.unpacked_bytes,
            base=old.base if new.base is None else new.base,
        )
        for old, new in zip(known, measured, strict=True)
    ]


def _match_steps(session: Session, build_id: int | None, layers: Sequence[Layer]) -> list[int | None]:
    if build_id is None:
        return [None] * len(layers)
    rows = session.execute(
        select(Step.position, StepText.text)
        .join(StepText, StepText.id == Step.text_id)
        .where(Step.build_id == build_id, Step.kind == "instruction")
        .order_by(Step.position)
    ).all()
    own = [None if layer.base else layer.instruction for layer in layers]
    return match_steps(own, [(position, text) for position, text in rows])


def load_layers(session: Session, image_size_ids: Sequence[int]) -> dict[int, list[Layer]]:
    """The layers of versions, from the bottom."""
    found: dict[int, list[Layer]] = defaultdict(list)
    rows = session.scalars(
        select(ImageLayer)
        .where(ImageLayer.image_size_id.in_(image_size_ids))
        .order_by(ImageLayer.image_size_id, ImageLayer.position)
    )
    for row in rows:
        found[row.image_size_id].append(
            Layer(
                digest=row.digest,
                diff_id=row.diff_id,
                instruction=row.instruction,
                compressed_bytes=row.compressed_bytes,
                unpacked_bytes=row.unpacked_bytes,
                base=row.base,
            )
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One stored version with its layers."""

    row: ImageSize
    image: PlatformImage
    churn_bytes: int | None = None
    """Pull churn against the version before it."""
    engine_bytes: int | None = None
    """What a Docker engine with the classic store pulls that holds the version before it."""


def load_versions(
    session: Session,
    sized_image_id: int,
    platform: str,
    *,
    branch_classes: Sequence[str] = ("default",),
    limit: int = MOST_VERSIONS,
    since: datetime | None = None,
) -> list[Version]:
    """The newest versions of a platform, oldest first, each with its layers and its pull churn."""
    statement = select(ImageSize).where(
        ImageSize.sized_image_id == sized_image_id,
        ImageSize.platform == platform,
        ImageSize.branch_class.in_(branch_classes),
    )
    if since is not None:
        statement = statement.where(ImageSize.released_at >= since)
    rows = session.scalars(statement.order_by(ImageSize.released_at.desc(), ImageSize.id.desc()).limit(limit)).all()
    return _with_layers(session, list(reversed(rows)))


def load_version(session: Session, sized_image_id: int, image_size_id: int) -> Version | None:
    """One version of a followed image."""
    row = session.scalar(
        select(ImageSize).where(ImageSize.id == image_size_id, ImageSize.sized_image_id == sized_image_id)
    )
    return _with_layers(session, [row])[0] if row is not None else None


def _with_layers(session: Session, rows: Sequence[ImageSize]) -> list[Version]:
    layers = load_layers(session, [row.id for row in rows])
    versions: list[Version] = []
    for row in rows:
        image = to_platform(row, layers.get(row.id, []))
        before = versions[-1].image if versions else None
        churn = pull_churn(before, image) if before else None
        pulled = engine_pull(before, image) if before else None
        versions.append(Version(row=row, image=image, churn_bytes=churn, engine_bytes=pulled))
    return versions


def to_platform(row: ImageSize, layers: Sequence[Layer]) -> PlatformImage:
    """Return a stored version as what it was measured as."""
    return PlatformImage(
        platform=row.platform,
        digest=row.manifest_digest,
        config_digest=row.version_key if row.version_key.startswith("sha") else None,
        compressed_bytes=row.compressed_bytes,
        unpacked_bytes=row.unpacked_bytes,
        layers=tuple(layers),
        base_image=row.base_image,
    )


def list_platforms(session: Session, sized_image_id: int) -> list[str]:
    """The platforms of a followed image, the one with the most versions first."""
    count = func.count()
    rows = session.execute(
        select(ImageSize.platform, count)
        .where(ImageSize.sized_image_id == sized_image_id)
        .group_by(ImageSize.platform)
        .order_by(count.desc(), ImageSize.platform)
    )
    return [platform for platform, _ in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeSeries:
    """The sizes of an image over its newest versions, for a column and its sparkline."""

    sized_image: SizedImage
    platform: str
    sizes: tuple[int | None, ...]
    """Oldest first: compressed where that is known of the newest, else unpacked."""
    is_compressed: bool

    @property
    def newest(self) -> int | None:
        """The newest size."""
        return self.sizes[-1] if self.sizes else None


def load_series(session: Session, repository_ids: Sequence[int], *, versions: int = 60) -> dict[int, SizeSeries]:
    """The largest followed image of each repository, on its default branch."""
    place = (
        func.row_number()
        .over(
            partition_by=(ImageSize.sized_image_id, ImageSize.platform),
            order_by=(ImageSize.released_at.desc(), ImageSize.id.desc()),
        )
        .label("place")
    )
    newest = (
        select(
            ImageSize.repository_id,
            ImageSize.sized_image_id,
            ImageSize.platform,
            ImageSize.compressed_bytes,
            ImageSize.unpacked_bytes,
            place,
        )
        .where(ImageSize.repository_id.in_(repository_ids), ImageSize.branch_class == "default")
        .subquery()
    )
    rows = session.execute(select(newest).where(newest.c.place <= versions).order_by(newest.c.place.desc())).all()
    series: dict[tuple[int, int, str], list[tuple[int | None, int | None]]] = defaultdict(list)
    for row in rows:
        series[row.repository_id, row.sized_image_id, row.platform].append((row.compressed_bytes, row.unpacked_bytes))
    images = {
        image.id: image
        for image in session.scalars(select(SizedImage).where(SizedImage.repository_id.in_(repository_ids)))
    }
    found: dict[int, SizeSeries] = {}
    for (repository_id, sized_id, platform), sizes in series.items():
        is_compressed = sizes[-1][0] is not None
        one = SizeSeries(
            sized_image=images[sized_id],
            platform=platform,
            sizes=tuple(size[0] if is_compressed else size[1] for size in sizes),
            is_compressed=is_compressed,
        )
        if repository_id not in found or (one.newest or 0) > (found[repository_id].newest or 0):
            found[repository_id] = one
    return found


def load_image_series(session: Session, sized: SizedImage, *, versions: int = 60) -> SizeSeries | None:
    """The sizes of one followed image on its usual platform; None where nothing has been measured."""
    platforms = list_platforms(session, sized.id)
    if not platforms:
        return None
    rows = session.execute(
        select(ImageSize.compressed_bytes, ImageSize.unpacked_bytes)
        .where(
            ImageSize.sized_image_id == sized.id,
            ImageSize.platform == platforms[0],
            ImageSize.branch_class == "default",
        )
        .order_by(ImageSize.released_at.desc(), ImageSize.id.desc())
        .limit(versions)
    ).all()
    if not rows:
        return None
    is_compressed = rows[0][0] is not None
    sizes = tuple(row[0] if is_compressed else row[1] for row in reversed(rows))
    return SizeSeries(sized_image=sized, platform=platforms[0], sizes=sizes, is_compressed=is_compressed)


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedLayer:
    """A layer that several images of a team hold."""

    diff_id: str
    instruction: str | None
    size_bytes: int | None
    images: tuple[str, ...]
    base: bool


def load_shared_layers(session: Session, team_id: int, *, limit: int = 20) -> list[SharedLayer]:
    """Layers that the newest versions of several images of a team share, and so are kept and pulled once."""
    newest = (
        select(func.max(ImageSize.id))
        .join(SizedImage, SizedImage.id == ImageSize.sized_image_id)
        .where(SizedImage.team_id == team_id, ImageSize.branch_class == "default")
        .group_by(ImageSize.sized_image_id, ImageSize.platform)
    )
    rows = session.execute(
        select(ImageLayer, SizedImage.name)
        .join(ImageSize, ImageSize.id == ImageLayer.image_size_id)
        .join(SizedImage, SizedImage.id == ImageSize.sized_image_id)
        .where(ImageSize.id.in_(newest), ImageLayer.diff_id.is_not(None))
    ).all()
    by_content: dict[str, list[tuple[ImageLayer, str]]] = defaultdict(list)
    for layer, name in rows:
        by_content[layer.diff_id or ""].append((layer, name))
    shared = []
    for diff_id, held in by_content.items():
        names = sorted({name for _, name in held})
        if len(names) < 2:
            continue
        sizes = [
            layer.compressed_bytes if layer.compressed_bytes is not None else layer.unpacked_bytes for layer, _ in held
        ]
        shared.append(
            SharedLayer(
                diff_id=diff_id,
                instruction=held[0][0].instruction,
                size_bytes=next((size for size in sizes if size is not None), None),
                images=tuple(names),
                base=any(layer.base for layer, _ in held),
            )
        )
    return sorted(shared, key=lambda one: -(one.size_bytes or 0) * (len(one.images) - 1))[:limit]
