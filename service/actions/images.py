"""Following the size of images: what is measured where, what it may weigh, and what CI jobs measured themselves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

from cachescope.errors import InvalidValueError, NotFoundError
from cachescope.images.advice import SizeAdvice, advise
from cachescope.images.budgets import Overrun, check_budget, find_drift
from cachescope.images.comparing import PlatformDifference, compare_platforms
from cachescope.images.model import MeasuredImage
from integrations.http import read_networks
from integrations.images.base import MeasuringError, split_reference
from service.actions.uploads import Upload
from service.auditing import note
from service.auth.permissions import Viewer
from store.database import after_commit
from store.models import ImageSize, Repository, SizedImage
from store.queries import image_sizes, measurings, repositories
from store.queries.image_sizes import Version
from workers.feedback import ask_again
from workers.tasks.budgeting import budget_of, watch_budgets
from workers.tasks.detecting import watch_again
from workers.tasks.measuring import hint


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowForm:
    """How somebody wants an image followed; None keeps a password as it is."""

    name: str
    from_registry: bool = True
    insecure: bool = False
    networks: str = ""
    user: str | None = None
    password: str | None = None
    tag: str = "latest"
    every_minutes: int | None = None
    budget_bytes: int | None = None
    budget_growth: float | None = None
    budget_pull_request_bytes: int | None = None


def follow_image(session: Session, viewer: Viewer, repository: Repository, form: FollowForm) -> SizedImage:
    """Follow an image's size, or change how; raises InvalidValueError for what cannot be."""
    viewer.require(repository.team_id, "member", "follow images")
    name = image_sizes.image_name(form.name)
    try:
        host, path, _ = split_reference(f"{name}:{form.tag}")
    except MeasuringError as error:
        raise InvalidValueError("name", str(error)) from error
    if form.from_registry and not _is_whole(name, host, path):
        raise InvalidValueError("name", f'"{name}" names no registry: write it whole, such as ghcr.io/acme/api.')
    read_networks(form.networks)
    sized = image_sizes.get_or_create_sized_image(session, repository, name)
    sized.from_registry, sized.insecure, sized.networks = form.from_registry, form.insecure, form.networks
    if form.user != sized.user or form.password is not None:
        # Another user never goes with the former one's password.
        sized.user, sized.password = form.user or None, form.password or None
    sized.tag, sized.every_minutes, sized.next_at = form.tag, form.every_minutes, None
    sized.budget_bytes, sized.budget_growth = form.budget_bytes, form.budget_growth
    sized.budget_pull_request_bytes = form.budget_pull_request_bytes
    session.flush()
    watch_budgets(session, sized)
    note(session, viewer, "image.followed", team_id=repository.team_id, target=name, from_registry=form.from_registry)
    return sized


def _is_whole(name: str, host: str, path: str) -> bool:
    return name.startswith(f"{host}/") or (host == "registry-1.docker.io" and "/" in name and "/" in path)


def find_image(session: Session, repository: Repository, sized_image_id: int) -> SizedImage:
    """Return a followed image; raises NotFoundError."""
    found = image_sizes.find_sized_image(session, repository.id, sized_image_id) if sized_image_id < 1 << 62 else None
    if found is None:
        raise NotFoundError(f"{repository.name} has no followed image {sized_image_id}.")
    return found


def ask_for_measuring(session: Session, viewer: Viewer, sized: SizedImage, wanted: str | None) -> str:
    """Let a worker measure an image now; returns the id of the measuring, or why none was made."""
    viewer.require(sized.team_id, "member", "have images measured")
    if not sized.from_registry:
        raise InvalidValueError("name", f"{sized.name} is not followed at a registry: CI jobs send its sizes.")
    now = datetime.now(UTC)
    tag = wanted or sized.tag
    asked = measurings.request_measuring(session, sized, tag, "asked", now, tag=None if ":" in tag else tag)
    after_commit(session, hint)
    return asked or "it waits already"


def accept_measured(
    session: Session, upload: Upload, image: MeasuredImage, contents: Mapping[str, dict[str, Any]]
) -> tuple[SizedImage, list[ImageSize]]:
    """Save what a CI job measured on its own engine."""
    said = upload.parameters
    branch = said.get("default_branch")
    repository = repositories.get_or_create_repository(
        session, upload.team_id, str(said["repository"]), default_branch=str(branch) if branch else None
    )
    name = str(said.get("image") or image_sizes.image_name(image.reference))
    sized = image_sizes.get_or_create_sized_image(session, repository, image_sizes.image_name(name))
    tag = image.reference.removeprefix(image_sizes.image_name(image.reference)).removeprefix(":").partition("@")[0]
    now = datetime.now(UTC)
    release = image_sizes.release_of(session, upload.team_id, image, tag=tag or None, seen_at=now)
    pull_request = said.get("pull_request")
    release = replace(
        release,
        commit_id=str(said["commit"]) if said.get("commit") else release.commit_id,
        branch=str(said["branch"]) if said.get("branch") else release.branch,
        pull_request=str(pull_request) if pull_request else release.pull_request,
    )
    saved = image_sizes.save_measured(session, sized, image, way="engine", release=release, contents=contents)
    if release.build_id is not None:
        ask_again(session, release.build_id)
        watch_again(session, release.build_id)
    watch_budgets(session, sized)
    return sized, saved


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One version and what it changed."""

    version: Version
    difference: PlatformDifference | None
    overruns: Sequence[Overrun]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageHistory:
    """An image's versions on one platform, and what they say together."""

    sized: SizedImage
    platform: str
    platforms: Sequence[str]
    steps: Sequence[Step]
    """Oldest first."""
    drift: Overrun | None
    advice: Sequence[SizeAdvice]


def load_history(
    session: Session,
    sized: SizedImage,
    platform: str | None = None,
    *,
    branch_classes: Sequence[str] = ("default",),
    since: datetime | None = None,
    limit: int = 200,
) -> ImageHistory | None:
    """Load an image's versions with what each changed; None where nothing has been measured yet."""
    platforms = image_sizes.list_platforms(session, sized.id)
    if not platforms:
        return None
    if platform is not None and platform not in platforms:
        raise NotFoundError(f"{sized.name} has not been measured for {platform[:60]}. Known: {', '.join(platforms)}.")
    shown = platform or platforms[0]
    versions = image_sizes.load_versions(
        session, sized.id, shown, branch_classes=branch_classes, since=since, limit=limit
    )
    budget = budget_of(sized)
    steps = []
    before: Version | None = None
    for version in versions:
        is_pull_request = version.row.branch_class == "pull_request"
        previous = before.image if before else None
        steps.append(
            Step(
                version=version,
                difference=compare_platforms(previous, version.image) if previous else None,
                overruns=check_budget(budget, previous, version.image, is_pull_request=is_pull_request),
            )
        )
        if not is_pull_request or before is None:
            before = version
    newest = versions[-1] if versions else None
    return ImageHistory(
        sized=sized,
        platform=shown,
        platforms=platforms,
        steps=steps,
        drift=find_drift([version.image for version in versions if version.row.branch_class == "default"]),
        advice=advise(newest.image, newest.row.contents) if newest else (),
    )


def compare_versions(session: Session, sized: SizedImage, before_id: int, after_id: int) -> tuple[Version, Version]:
    """Return two versions of one image; raises NotFoundError."""
    found = []
    for version_id in (before_id, after_id):
        version = image_sizes.load_version(session, sized.id, version_id) if 0 < version_id < 1 << 62 else None
        if version is None:
            raise NotFoundError(f"{sized.name} has no version {version_id}.")
        found.append(version)
    return found[0], found[1]
