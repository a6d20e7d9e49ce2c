"""CI executions, and what is known of one besides its logs."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.database import insert
from store.models import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What the sender of a log, or its CI provider, says about the run and the image."""

    provider: str | None = None
    job: str | None = None
    attempt: int = 1
    url: str | None = None
    commit_id: str | None = None
    branch: str | None = None
    base_branch: str | None = None
    """The branch that this one was forked from: the target of a pull request."""
    pull_request: str | None = None
    runner: str | None = None
    actor: str | None = None
    is_bot: bool = False
    started_at: datetime | None = None
    image: str | None = None
    dockerfile: str | None = None
    outcome: str | None = None
    """How CI says that it ended; believed where the log just stops."""
    default_branch: str | None = None

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> "RunFacts":
        """Read the parameters of an upload: `ci`, `run_url`, `commit` and so on."""
        pull_request = parameters.get("pull_request")
        return cls(
            provider=parameters.get("ci"),
            job=parameters.get("job"),
            attempt=int(parameters.get("attempt") or 1),
            url=parameters.get("run_url"),
            commit_id=parameters.get("commit"),
            branch=parameters.get("branch"),
            base_branch=parameters.get("base_branch"),
            pull_request=None if pull_request is None else str(pull_request),
            runner=parameters.get("runner"),
            actor=parameters.get("actor"),
            is_bot=bool(parameters.get("is_bot", False)),
            started_at=_moment(parameters.get("started_at")),
            image=parameters.get("image"),
            dockerfile=parameters.get("dockerfile"),
            outcome=parameters.get("outcome"),
            default_branch=parameters.get("default_branch"),
        )


def _moment(value: object) -> datetime | None:
    """A time as providers write it, ISO 8601 with a zone; anything else is as good as not told."""
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo is not None else None


def get_or_create_run(session: Session, repository_id: int, facts: RunFacts, delivery_id: str) -> Run:
    """Return the run that a delivery belongs to.

    Several deliveries are one run only where CI gave its address: a job name alone comes back with every push.
    """
    if facts.url:
        identity = "\0".join((facts.provider or "", facts.url, facts.job or "", str(facts.attempt)))
        key = hashlib.sha256(identity.encode("utf-8", "replace")).hexdigest()
    else:
        key = f"delivery {delivery_id}"
    known = {
        "provider": facts.provider,
        "job": facts.job,
        "attempt": facts.attempt,
        "url": facts.url,
        "commit_id": facts.commit_id,
        "branch": facts.branch,
        "pull_request": facts.pull_request,
        "runner": facts.runner,
        "actor": facts.actor,
        "is_bot": facts.is_bot,
        "started_at": facts.started_at,
    }
    session.execute(insert(session, Run).values(repository_id=repository_id, key=key, **known).on_conflict_do_nothing())
    run = session.scalars(select(Run).where(Run.repository_id == repository_id, Run.key == key)).one()
    for name, value in known.items():
        if value is not None and getattr(run, name) is None:
            setattr(run, name, value)
    return run
