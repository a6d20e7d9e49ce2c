"""Tells forges of builds, and of what a pull request will do to the cache before it is built.

Everything that is to be told lies in `feedback_tasks`. A forge that is away puts a task off; one that refuses ends it
with a sentence that the repository's page shows. What stands at the forge already is not sent again.
"""

import hashlib
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import uniform
from typing import Any

import structlog
from sqlalchemy.orm import Session

from cachescope import feedback
from cachescope.context import read_ignore_rules
from cachescope.dockerfile import Dockerfile
from cachescope.errors import CachescopeError
from cachescope.feedback import Advice, Forecast, Mode, Policy, Report, ReportedBreak, Share, marker_of
from cachescope.markdown import plain
from cachescope.matching import normalize
from cachescope.metrics import efficiency
from cachescope.preflight import Bust, agreed, context_folders, is_built_from, predict
from cachescope.surroundings import Surroundings
from integrations.ci import PROVIDERS
from integrations.ci import _bodies as read
from integrations.ci._api import DeniedError, NeverError, NotYetError, PausedError
from integrations.ci.base import Access, CIRun
from integrations.feedback import FORGES
from integrations.feedback.base import Api, Check, FeedbackRefusedError, Forge, ForgeBusyError, PullRequest
from integrations.http import HttpClient, UnreachableError
from store.database import after_commit, reading, transaction
from store.models import Build, Delivery, FeedbackTask, Image, Repository, Source, Team
from store.models.sources import Hook
from store.queries import feedback as rows
from store.queries.feedback import FeedbackClaim, ImageOfBuild
from store.queries.sources import load_credentials
from workers.asking import reach_of
from workers.settings import get_settings

logger = structlog.get_logger(__name__)

LEASE = timedelta(minutes=5)
"""How long a task stays with a worker: longer than all requests of one task may take."""
GIVE_UP_AFTER = timedelta(hours=24)
LONGEST_PAUSE = timedelta(minutes=10)
AWAY = timedelta(seconds=60)
"""How long at most a forge that did not answer is left alone by everything else of its source."""
MOST_IMAGES = 20
"""Of one log; a bake file of a hundred targets is not to fill a pull request."""
RECENT = timedelta(days=30)
"""A forecast is made for images that were built since."""
PROVIDERS_OF_RUNS = {
    "github-actions": ("github",),
    "gitlab": ("gitlab",),
    "gitea": ("gitea", "forgejo"),
    "forgejo": ("forgejo", "gitea"),
    "bitbucket": ("bitbucket",),
}
"""Whose forge a run belongs to where the CI is a part of it."""


def ask_for_feedback(session: Session, repository: Repository, delivery: Delivery) -> None:
    """Write down that the builds of a delivery are to be told of; in the transaction that saves them."""
    if session.get_one(Team, repository.team_id).is_demo:
        return
    images = rows.load_images_of_delivery(session, delivery.id)
    commit = next((shown.build.commit_id for shown in images if shown.build.commit_id), None)
    if commit is None:
        return
    source = find_source(session, repository, delivery.source_id, images[0].run.provider)
    if source is None:
        return
    hook = session.get(Hook, delivery.id)
    pipeline_id = read.part(hook.run, "log_reference", "pipeline_id") if hook is not None else None
    parameters = {"commit": commit} | ({"pipeline_id": pipeline_id} if isinstance(pipeline_id, int) else {})
    _enqueue(session, repository, source, kind="build", key=delivery.id, parameters=parameters)


def ask_again(session: Session, build_id: int) -> None:
    """Tell of a build once more, now that more is known of it, such as its size; of none that was never told of."""
    build = session.get(Build, build_id)
    if build is not None and rows.was_asked_for(session, build.repository_id, build.delivery_id):
        repository = session.get_one(Repository, build.repository_id)
        ask_for_feedback(session, repository, session.get_one(Delivery, build.delivery_id))


def ask_for_forecast(session: Session, repository: Repository, source: Source, number: int) -> bool:
    """Write down that a pull request is to be told what it will do to the cache; a later push begins this anew."""
    policy = rows.read_policy(rows.find_policy(session, repository.id))
    if not policy.preflight or not policy.comments:
        return False
    _enqueue(session, repository, source, kind="pull_request", key=str(number), parameters={"number": number})
    return True


def _enqueue(session: Session, repository: Repository, source: Source, **task: Any) -> None:
    rows.enqueue(session, repository_id=repository.id, source_id=source.id, now=datetime.now(UTC), **task)
    after_commit(session, wake)


def wake() -> None:
    """Tell the workers that there is something to tell; without a queue the scheduler finds it."""
    from workers.tasks.feedback import hand_on  # noqa: PLC0415 - the task imports this module

    hand_on()


def find_source(session: Session, repository: Repository, came_from: str | None, provider: str | None) -> Source | None:
    """The source whose forge hears of a repository: the one chosen, that of the delivery, or the only one that fits."""
    policy = rows.find_policy(session, repository.id)
    if policy is not None and not policy.comments and policy.mode == "off":
        return None
    able = rows.list_writing_sources(session, repository.team_id, repository.id, list(FORGES))
    wanted = policy.source_id if policy is not None and policy.source_id else came_from
    if chosen := next((source for source in able if source.id == wanted), None):
        return chosen
    if policy is not None and policy.source_id:
        return None  # what was chosen cannot write any more: its repository's page says so
    kinds = PROVIDERS_OF_RUNS.get(provider or "")
    fitting = [source for source in able if kinds is None or source.provider in kinds]
    own = [source for source in fitting if source.repository_id is not None]
    return own[0] if own else fitting[0] if len(fitting) == 1 else None


def claim_next(overdue: timedelta = timedelta(0)) -> FeedbackClaim | None:
    """Take the next task that is due, or has been due for a while."""
    with transaction() as session:
        return rows.claim_next_due(session, datetime.now(UTC), LEASE, overdue)


def work_off(held: FeedbackClaim) -> None:
    """Bring a task to its end, or put it off; whatever goes wrong is written to it and never raised."""
    with structlog.contextvars.bound_contextvars(feedback_task_id=held.task_id, attempt=held.attempts):
        try:
            said = _tell(held)
        except (ForgeBusyError, UnreachableError, PausedError, NotYetError) as error:
            _put_off(held, str(error), getattr(error, "seconds", None), is_away=True)
        except CachescopeError as error:
            logger.warning("feedback_refused", reason=str(error))
            _end(held, "failed", str(error))
        except Exception as error:
            logger.exception("feedback_failed")
            _put_off(held, f"Telling the forge failed: {type(error).__name__}: {error}", None)
        else:
            _end(held, "done", said)


def _end(held: FeedbackClaim, state: str, said: str | None) -> None:
    with transaction() as session:
        rows.finish(session, held, state=state, error=said and said[:2000], finished_at=datetime.now(UTC))


def _put_off(held: FeedbackClaim, reason: str, seconds: float | None, *, is_away: bool = False) -> None:
    now = datetime.now(UTC)
    with transaction() as session:
        task = session.get(FeedbackTask, held.task_id)
        if task is not None and now - task.created_at > GIVE_UP_AFTER:
            since = f"It was tried {held.attempts} times in a day."
            rows.finish(session, held, state="failed", error=f"{reason} {since}"[:2000], finished_at=now)
            return
        doubled = timedelta(seconds=get_settings().retry_seconds * 2 ** min(held.attempts - 1, 12))
        pause = timedelta(seconds=seconds + 1) if seconds is not None else min(LONGEST_PAUSE, doubled)
        at = now + pause * uniform(1.0, 1.2)  # noqa: S311 - to spread retries, not to guard anything
        rows.finish(session, held, state="new", error=reason[:2000], next_at=at)
        if task is not None and is_away:
            # The next one would wait as long for nothing. One that a single task offends is not away for the others.
            rows.put_off_source(session, task.source_id, at if seconds is not None else min(at, now + AWAY))
    logger.info("feedback_put_off", reason=reason, seconds=round(pause.total_seconds()))


@dataclass(frozen=True, slots=True)
class _Scene:
    """What one task is about."""

    task: FeedbackTask
    repository: Repository
    source: Source
    policy: Policy


def _tell(held: FeedbackClaim) -> str | None:
    with reading() as session:
        task = session.get_one(FeedbackTask, held.task_id)
        repository = session.get_one(Repository, task.repository_id)
        source = session.get_one(Source, task.source_id)
        policy = rows.read_policy(rows.find_policy(session, repository.id))
    if source.disabled_at is not None or not source.write_credentials:
        return f'The source "{source.name}" is switched off or has no credentials for writing.'
    scene = _Scene(task, repository, source, policy)
    with _opened(source, repository.name) as forge:
        return _tell_of_builds(scene, forge) if task.kind == "build" else _tell_of_pull_request(scene, forge)


@contextmanager
def _opened(source: Source, repository: str) -> Iterator[Forge]:
    """Open the forge of a repository with the credentials for writing; they are never used for anything else."""
    credentials = load_credentials(source, "write")
    access = Access(base_url=source.base_url, credentials=credentials, reach=reach_of(source))
    about = CIRun(parameters={"repository": repository}, log_reference={"repository": repository})
    with HttpClient(access.reach) as client:
        reader = PROVIDERS[source.provider].reader
        if reader is None or source.provider not in FORGES:
            raise FeedbackRefusedError(f"Nothing can be written to {source.provider}: it takes no comments.")
        try:
            opened = reader.connect(client, access, about)
        except (DeniedError, NeverError) as error:
            raise FeedbackRefusedError(str(error)) from error
        api = Api(client, opened.url, opened.credentials)
        yield FORGES[source.provider](api, repository, app_id=credentials.get("app_id") or None)


def _tell_of_builds(scene: _Scene, forge: Forge) -> str | None:
    with reading() as session:
        images = rows.load_images_of_delivery(session, scene.task.key)
        reports = [_report(session, shown) for shown in images[:MOST_IMAGES]]
        names = [_check_name(session, shown.image) for shown in images[:MOST_IMAGES]]
        latest = [rows.is_latest_of_pull_request(session, shown) for shown in images[:MOST_IMAGES]]
    if not images:
        return "The builds of this log are no longer there."
    pull = _find_pull_request(forge, images[0])
    pipeline_id = scene.task.parameters.get("pipeline_id")
    notes: list[str | None] = []
    refused: list[FeedbackRefusedError] = []
    for shown, report, name, is_latest in zip(images, reports, names, latest, strict=False):
        if pull is not None and pull.is_foreign:
            report = replace(report, is_foreign=True)
        try:
            if scene.policy.mode != Mode.OFF and report.commit is not None:
                verdict = feedback.judge(report, scene.policy)
                check = Check(name=name, verdict=verdict, url=report.url, pipeline_id=pipeline_id)
                _check(forge, shown, report.commit, check)
        except FeedbackRefusedError as error:  # a token may be allowed one and not the other
            refused.append(error)
        if scene.policy.comments:
            notes.append(_comment(scene, forge, shown, report, pull, is_latest=is_latest))
    if refused:
        raise refused[0]
    return next((note for note in notes if note), None)


def _find_pull_request(forge: Forge, shown: ImageOfBuild) -> PullRequest | None:
    """The pull request of a build: the one that CI named, else, away from the default branch, that of the commit."""
    number = shown.run.pull_request
    if number is not None and number.isascii() and number.isdigit() and len(number) < 10:
        return forge.read_pull_request(int(number))
    if shown.figures.branch_class == "default" or shown.build.commit_id is None:
        return None
    return forge.find_pull_request(shown.build.commit_id)


def _report(session: Session, shown: ImageOfBuild) -> Report:
    """Put together what is known of one image of one build."""
    build, before = shown.build, shown.before
    url = get_settings().public_url.rstrip("/")
    breaks = rows.load_breaks_of_image(session, build.id, shown.image.id)
    return Report(
        image=_label(session, shown.image),
        commit=build.commit_id,
        outcome=build.outcome,
        now=_share(shown.figures),
        before=_share(before) if before is not None else None,
        breaks=[
            ReportedBreak(
                text=row.text,
                place=_place(row.step),
                cause=row.broken.cause,
                expected=row.broken.expected,
                cost_seconds=row.broken.cost_seconds,
                steps=1 + len(row.broken.cascade),
                files=[str(file) for file in row.broken.files],
            )
            for row in breaks
        ],
        advice=_advice(session, shown.image.id),
        size=rows.find_size(session, shown),
        url=f"{url}/builds/{build.id}" if url else None,
        baseline_url=f"{url}/builds/{build.baseline_build_id}" if url and before is not None else None,
    )


def _share(row: Any) -> Share:
    return Share(
        hits=row.hits,
        misses=row.misses,
        efficiency=efficiency(
            hits=row.hits,
            misses=row.misses,
            seconds_avoided=row.seconds_avoided if row.hits > row.avoided_unknown else None,
            seconds_spent=row.seconds_spent,
        ),
        seconds_spent=row.seconds_spent,
    )


def _place(step: Any) -> str:
    number = f"{step.idx}/{step.total}" if step.idx and step.total else str(step.idx or "")
    return " ".join(part for part in (step.target, step.platform, step.stage, number) if part)


def _advice(session: Session, image_id: int) -> Advice | None:
    found = rows.find_first_recommendation(session, image_id)
    return None if found is None else Advice(title=found.title, saving_seconds=found.saving_seconds, patch=found.patch)


def _label(session: Session, image: Image) -> str:
    """What a comment calls an image: with its platform where another one has the same name."""
    return f"{image.name} {image.platform}" if image.platform and rows.has_namesakes(session, image) else image.name


def _check_name(session: Session, image: Image) -> str:
    """What branch rules refer to: the same for every build of an image."""
    platform = f" {plain(image.platform, 30)}" if image.platform and rows.has_namesakes(session, image) else ""
    return f"cachescope/{plain(image.name, 60)}{platform}"


def _check(forge: Forge, shown: ImageOfBuild, commit: str, check: Check) -> None:
    kind, verdict = forge.check_kind, check.verdict
    digest = _digest(check.name, verdict.conclusion, verdict.title, verdict.summary, check.url or "")
    with reading() as session:
        post = rows.find_post(session, shown.image.id, kind, commit)
    if post is not None and post.digest == digest:
        return
    remote_id = forge.write_check(commit, check, post.remote_id if post is not None else None)
    _remember(shown.image, kind, commit, build_id=shown.build.id, remote_id=remote_id, digest=digest)


def _comment(
    scene: _Scene, forge: Forge, shown: ImageOfBuild, report: Report, pull: PullRequest | None, *, is_latest: bool
) -> str | None:
    """Write or edit the comment of one image; says why where there is none."""
    if pull is None:
        return "No pull request is open for this commit." if shown.figures.branch_class != "default" else None
    if not pull.is_open:
        return f"Pull request {pull.number} is not open any more."
    if not is_latest:
        return "A newer build of this pull request has been told of."
    marker = _marker(shown.image)
    body = feedback.render_comment(report, marker)
    is_new = _write_comment(
        forge,
        shown.image,
        pull.number,
        marker,
        body,
        build_id=shown.build.id,
        only_if_there=not feedback.is_worth_telling(report, scene.policy),
    )
    return None if is_new else "There was nothing worth a comment."


def _write_comment(
    forge: Forge, image: Image, number: int, marker: str, body: str, *, build_id: int | None, only_if_there: bool
) -> bool:
    """Bring the one comment about an image to a text; False where there is none and none is wanted."""
    digest, subject = _digest(body), str(number)
    with reading() as session:
        post = rows.find_post(session, image.id, "comment", subject)
    if post is not None and post.digest == digest:
        return True
    remote_id = post.remote_id if post is not None else None
    if remote_id is None or not forge.edit_comment(number, remote_id, body):
        # Also after a crash between writing a comment and remembering it: then it is there and we do not know it.
        remote_id = forge.find_comment(number, marker)
        if remote_id is not None:
            forge.edit_comment(number, remote_id, body)
        elif only_if_there:
            return False
        else:
            remote_id = forge.write_comment(number, body)
    _remember(image, "comment", subject, build_id=build_id, remote_id=remote_id, digest=digest)
    return True


def _remember(image: Image, kind: str, subject: str, **post: Any) -> None:
    with transaction() as session:
        rows.save_post(
            session,
            image_id=image.id,
            kind=kind,
            subject=subject,
            repository_id=image.repository_id,
            posted_at=datetime.now(UTC),
            **post,
        )


def _marker(image: Image) -> str:
    return marker_of(get_settings().public_url, image.repository_id, image.id)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()


def _tell_of_pull_request(scene: _Scene, forge: Forge) -> str | None:
    pull = forge.read_pull_request(int(scene.task.parameters["number"]))
    if pull is None or not pull.is_open:
        return "The pull request is not open any more."
    with reading() as session:
        images = [
            (image, _label(session, image), rows.load_costs(session, image.id), rows.find_place(session, image.id))
            for image in rows.list_recent_images(session, scene.repository.id, datetime.now(UTC) - RECENT, MOST_IMAGES)
            if not rows.is_built(session, image.id, pull.head)
        ]
    if not images:
        return "There is no image to make a forecast for: it was never built here, or this commit has been built."
    changed = forge.list_changed_files(pull.number).paths
    files = _Files(forge, pull)
    told = 0
    for image, label, costs, place in images:
        busts = _predict(image, changed, files, {normalize(text): cost for text, cost in costs.items()}, place)
        forecast = Forecast(image=label, commit=pull.head, busts=busts)
        if (forecast.cost_seconds or 0.0) >= scene.policy.least_seconds:
            marker = _marker(image)
            body = feedback.render_forecast(forecast, marker)
            _write_comment(forge, image, pull.number, marker, body, build_id=None, only_if_there=False)
            told += 1
    return None if told else "The changed files bust nothing that is known to take long."


class _Files:
    """The files of a pull request, each asked for once."""

    def __init__(self, forge: Forge, pull: PullRequest) -> None:
        self._forge = forge
        self._pull = pull
        self._known: dict[tuple[str, str], str | None] = {}

    def now(self, path: str) -> str | None:
        """A file as the pull request has it."""
        return self._read(path, self._pull.head)

    def before(self, path: str) -> str | None:
        """The same file on the branch that the pull request is to go into."""
        return self._read(path, self._pull.base) if self._pull.base else None

    def _read(self, path: str, ref: str) -> str | None:
        if (path, ref) not in self._known:
            self._known[path, ref] = self._forge.read_file(path, ref)
        return self._known[path, ref]


def _predict(
    image: Image,
    changed: Sequence[str],
    files: _Files,
    costs: Mapping[str, float | None],
    place: Surroundings | None,
) -> list[Bust]:
    path, folders = _where(image, place)
    text = files.now(path)
    if text is None:
        return []
    dockerfile = Dockerfile(text)
    # BuildKit prints the target's name; where it prints none, `target` may be what somebody called the image.
    target = image.target if dockerfile.find_stage(image.target) is not None else None
    if not is_built_from(dockerfile, costs, target):
        return []
    former = files.before(path) if path in changed else None
    predictions = []
    for folder in folders:
        own = files.now(f"{path}.dockerignore")
        ignored = own if own is not None else files.now(posixpath.normpath(f"{folder}/.dockerignore"))
        predictions.append(
            predict(
                dockerfile,
                changed,
                context=folder,
                former=Dockerfile(former) if former is not None else None,
                rules=read_ignore_rules(ignored) if ignored is not None else None,
                target=target,
                costs={text: cost for text, cost in costs.items() if cost is not None},
            )
        )
    return agreed(predictions)


def _where(image: Image, place: Surroundings | None) -> tuple[str, tuple[str, ...]]:
    """The Dockerfile of an image as a path of the repository, and the folders that its context may be."""
    if place is not None and (place.context or place.command is not None):
        folder = place.context or "."
        named = place.dockerfile_path or posixpath.basename(image.dockerfile) or "Dockerfile"
        return posixpath.normpath(f"{folder}/{named}"), (folder,)
    path = image.dockerfile or (place.dockerfile_path if place is not None else "") or "Dockerfile"
    return path, context_folders(path)
