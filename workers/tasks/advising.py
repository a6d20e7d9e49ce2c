"""Looks through the history of an image whose Dockerfile is known, and keeps what to change and what that would save.

It runs in the scheduler, one image at a time and some seconds after its latest build, so that no build waits for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import structlog

from cachescope import model
from cachescope.dockerfile import Dockerfile
from cachescope.evidence import ChangedFile
from cachescope.history import History, PastBuild
from cachescope.matching import normalize
from cachescope.recommendations import RECOMMENDATIONS
from cachescope.surroundings import Surroundings, changes_between, in_context
from store.database import reading, transaction
from store.models import Build, Image
from store.queries import builds as build_rows
from store.queries import evidence, recommendations
from store.queries.recommendations import Proposal

logger = structlog.get_logger(__name__)

BUILDS = 30
"""So many builds of an image tell what its Dockerfile does; more cost time and tell of Dockerfiles of old."""
FEWEST = 3
MOST_IN_A_ROW = 20
MOST_LINES = 1000
MOST_STEPS = 500
"""A longer Dockerfile, or a build of more steps, is nobody's real one, and would keep all others waiting."""


@dataclass(frozen=True, slots=True)
class Past:
    """The builds of an image with what surrounded them, oldest first."""

    builds: Sequence[Build]
    read: Sequence[model.Build]
    known: Sequence[Surroundings]


def advise_due() -> None:
    """Look at every image that is due."""
    for _ in range(MOST_IN_A_ROW):
        with reading() as session:
            if not recommendations.is_any_due(session, datetime.now(UTC)):
                return
        with transaction() as session:
            taken = recommendations.take_due(session, datetime.now(UTC))
        if taken is None:
            return
        try:
            advise_image(taken[0])
        except Exception:
            logger.exception("advice_failed", image_id=taken[0])


def advise_image(image_id: int) -> None:
    """Look at one image, and store what its history proposes."""
    with reading() as session:
        image = session.get(Image, image_id)
        if image is None:
            return
        latest = recommendations.load_history(session, image_id, BUILDS)
        # Steps that are not counted come on top, a few for each target.
        builds = [build for build in latest if build.cacheable <= MOST_STEPS]
        known = evidence.load_evidence(session, [build.delivery_id for build in builds])
        past = Past(
            builds=builds,
            read=[only_image(build_rows.load_build(session, build), image) for build in builds],
            known=[known.get(build.delivery_id, Surroundings()) for build in builds],
        )
        former = recommendations.load_of_image(session, image_id)
    history = make_history(past, image)
    if history is None or len(past.builds) < FEWEST:
        return
    proposals = [
        Proposal(name=name, recommendation=found)
        for name, adviser in RECOMMENDATIONS.items()
        for found in adviser.advise(history)
    ]
    applied = {row.id: place for row in former if (place := find_applied(row.patch, past)) is not None}
    with transaction() as session:
        recommendations.save_proposals(
            session,
            session.get_one(Image, image_id),
            proposals,
            now=datetime.now(UTC),
            builds=len(past.builds),
            builds_per_week=builds_per_week(past.builds),
            applied=applied,
        )
    logger.info("advised", image_id=image_id, builds=len(past.builds), proposals=len(proposals))


def only_image(build: model.Build, image: Image) -> model.Build:
    """Leave the steps of other targets and platforms out of a build of several images."""
    targets = {step.target for step in build.steps if step.kind == model.StepKind.INSTRUCTION}
    if len(targets) < 2 or image.target not in targets:
        return build
    steps = tuple(step for step in build.steps if step.target in (image.target, None))
    return replace(build, steps=steps)


def make_history(past: Past, image: Image) -> History | None:
    """Put together what the recommendations read; None where the Dockerfile is not known."""
    newest = next((known for known in reversed(past.known) if _dockerfile(known, image) is not None), None)
    if newest is None:
        return None
    text = _dockerfile(newest, image) or ""
    if text.count("\n") > MOST_LINES:
        return None
    paths = in_context(newest.files or {}, newest.context)
    ignored = f"{newest.context}/" if newest.context else ""
    return History(
        dockerfile=Dockerfile(text),
        builds=tuple(
            PastBuild(build=build, changed_files=_changes(past.known, number), command=past.known[number].command)
            for number, build in enumerate(past.read)
        ),
        dockerfile_path=newest.dockerfile_path or "Dockerfile",
        dockerignore=newest.dockerignore,
        files=None if newest.files is None else {paths[p]: newest.files[p].size_bytes for p in paths},
        texts={path.removeprefix(ignored): text for path, text in newest.texts.items() if path.startswith(ignored)},
    )


def _dockerfile(known: Surroundings, image: Image) -> str | None:
    found = known.dockerfiles.get(image.target)
    if found is None:
        found = known.dockerfiles.get("")
    return found


def _changes(known: Sequence[Surroundings], number: int) -> tuple[ChangedFile, ...] | None:
    """What differs from the build before, relative to the context."""
    if number == 0:
        return None
    found = changes_between(known[number - 1].files, known[number].files)
    if found is None:
        return None
    paths = in_context([change.path for change in found], known[number].context)
    return tuple(ChangedFile(paths[change.path], change.status) for change in found if change.path in paths)


def builds_per_week(builds: Sequence[Build]) -> float | None:
    """How often an image is built; None where a few builds in one hour say nothing."""
    if len(builds) < 2:
        return None
    seconds = (builds[-1].started_at - builds[0].started_at).total_seconds()
    return (len(builds) - 1) * 7 * 86400 / seconds if seconds >= 3600 else None


def find_applied(patch: str | None, past: Past) -> int | None:
    """The first of the builds since which the edit of a patch stands in the files; None where it does not now."""
    edit = read_patch(patch)
    if edit is None:
        return None
    first: int | None = None
    for build, known in zip(past.builds, past.known, strict=True):
        if not known.dockerfiles:
            continue
        is_ignore_file = edit.path.endswith(".dockerignore")
        texts = [known.dockerignore or ""] if is_ignore_file else list(known.dockerfiles.values())
        is_applied = any(edit.is_made_in(text) for text in texts)
        first = (first if first is not None else build.id) if is_applied else None
    return first


@dataclass(frozen=True, slots=True)
class Edit:
    """What a patch does to one file, with lines normalised and blank ones left out."""

    path: str
    before: tuple[str, ...]
    """The lines of its hunks as they were, and as they shall be."""
    after: tuple[str, ...]

    def is_made_in(self, text: str) -> bool:
        """Tell whether a text has the edit, whatever else was changed in it."""
        lines = [line for line in map(normalize, text.splitlines()) if line]
        new, old = set(self.after) - set(self.before), set(self.before) - set(self.after)
        if new or old:
            return new <= set(lines) and not old & set(lines)
        # Lines were only moved: their order tells.
        return _stand_in_order(self.after, lines) and not _stand_in_order(self.before, lines)


def _stand_in_order(wanted: Sequence[str], lines: Sequence[str]) -> bool:
    left = iter(lines)
    return all(line in left for line in wanted)


def read_patch(patch: str | None) -> Edit | None:
    """Read a unified diff of one file; None for what edits nothing."""
    lines = (patch or "").splitlines()
    path = next((line[6:] for line in lines if line.startswith("+++ b/")), None)
    body = [line for line in lines if not line.startswith(("+++", "---", "@@", "\\"))]
    before = tuple(found for line in body if line[:1] != "+" and (found := normalize(line[1:])))
    after = tuple(found for line in body if line[:1] != "-" and (found := normalize(line[1:])))
    return Edit(path, before, after) if path is not None and before != after else None
