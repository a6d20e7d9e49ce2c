"""What a repository is told at its forge, and its badges: chosen by the members of its team."""

import math
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from cachescope.errors import InvalidValueError, NotFoundError
from cachescope.feedback import Mode
from integrations.feedback import FORGES
from service.auditing import note
from service.auth.permissions import Viewer
from store.database import after_commit
from store.models import FeedbackPolicy, Repository, Source
from store.models.feedback import MEASURES
from store.queries import feedback
from workers.feedback import wake

BADGES = ("efficiency", "hit-rate", "size")


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyForm:
    """What somebody chooses; texts as a form sends them."""

    comments: bool = False
    preflight: bool = False
    mode: str = "inform"
    measure: str = "efficiency"
    threshold_percent: str = "50"
    least_seconds: str = "1"
    source_id: str = ""


def list_sources(session: Session, repository: Repository) -> list[Source]:
    """The sources that may write for a repository."""
    return feedback.list_writing_sources(session, repository.team_id, repository.id, list(FORGES))


def save_policy(session: Session, viewer: Viewer, repository: Repository, form: PolicyForm) -> FeedbackPolicy:
    """Change what a repository is told; raises InvalidValueError."""
    viewer.require(repository.team_id, "member", "choose what a repository is told")
    if form.mode not in set(Mode):
        raise InvalidValueError("mode", f'"{form.mode[:40]}" is none of {", ".join(Mode)}.')
    if form.measure not in MEASURES:
        raise InvalidValueError("measure", f'"{form.measure[:40]}" is none of {", ".join(MEASURES)}.')
    able = {source.id for source in list_sources(session, repository)}
    if form.source_id and form.source_id not in able:
        raise InvalidValueError("source_id", "This source cannot write for the repository: give it credentials first.")
    _note(session, viewer, repository, comments=form.comments, mode=form.mode)
    return feedback.save_policy(
        session,
        repository.id,
        datetime.now(UTC),
        comments=form.comments,
        preflight=form.preflight,
        mode=form.mode,
        measure=form.measure,
        threshold=_number("threshold_percent", form.threshold_percent, 0, 100) / 100,
        least_seconds=_number("least_seconds", form.least_seconds, 0, 86_400),
        source_id=form.source_id or None,
    )


def _note(session: Session, viewer: Viewer, repository: Repository, **details: object) -> None:
    note(session, viewer, "feedback.changed", team_id=repository.team_id, target=repository.name, **details)


def _number(name: str, text: str, least: float, most: float) -> float:
    try:
        number = float(text[:20].replace(",", ".")) if text.isascii() else math.nan
    except ValueError:
        number = math.nan
    if not least <= number <= most:
        raise InvalidValueError(name, f'"{text[:20]}" is no number from {least:g} to {most:g}.')
    return number


def renew_badges(session: Session, viewer: Viewer, repository: Repository) -> str:
    """Give the badges of a repository a new address; the former one leads nowhere from now on."""
    viewer.require(repository.team_id, "member", "publish badges")
    token = secrets.token_urlsafe(24)
    feedback.save_policy(session, repository.id, datetime.now(UTC), badge_token=token)
    _note(session, viewer, repository, badges="new address")
    return token


def withdraw_badges(session: Session, viewer: Viewer, repository: Repository) -> None:
    """Let the address of the badges lead nowhere."""
    viewer.require(repository.team_id, "member", "withdraw badges")
    feedback.save_policy(session, repository.id, datetime.now(UTC), badge_token=None)
    _note(session, viewer, repository, badges="withdrawn")


def tell_again(session: Session, viewer: Viewer, repository: Repository, task_id: int) -> None:
    """Try once more to tell a forge what could not be told; raises NotFoundError."""
    viewer.require(repository.team_id, "member", "tell a forge again")
    if not feedback.requeue(session, repository.id, task_id, datetime.now(UTC)):
        raise NotFoundError("This repository has no such task that failed.")
    after_commit(session, wake)
