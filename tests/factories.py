"""Makes the rows and builds that tests need: plain functions with defaults."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from cachescope.model import Build, LogReading, Outcome, Step, StepKind, StepStatus
from store.models import Delivery, Repository, Team
from store.queries import deliveries, readings, repositories, teams
from store.queries.runs import RunFacts

MORNING = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)


def make_team(session: Session, slug: str = "acme") -> Team:
    return teams.create_team(session, slug=slug, name=slug.capitalize())


def make_repository(session: Session, name: str = "acme/api", team: Team | None = None) -> Repository:
    return repositories.get_or_create_repository(session, (team or make_team(session)).id, name)


def make_delivery(session: Session, repository: Repository, **values: Any) -> Delivery:
    """Insert a delivery as an upload does."""
    delivery_id = deliveries.make_id()
    given = {
        "id": delivery_id,
        "team_id": repository.team_id,
        "repository_id": repository.id,
        "kind": "upload",
        "idempotency_key": delivery_id,
        "parameters": {},
        "received_at": MORNING,
    }
    deliveries.insert(session, given | values)
    return session.get_one(Delivery, values.get("id", delivery_id))


def make_step(text: str = "RUN make", **values: Any) -> Step:
    """A step of BuildKit: `cached` and `seconds` say the rest."""
    cached = values.pop("cached", False)
    seconds = values.pop("seconds", None if cached else 1.0)
    given: dict[str, Any] = {
        "kind": StepKind.INSTRUCTION,
        "text": text,
        "instruction": text.split(maxsplit=1)[0],
        "status": StepStatus.CACHED if cached else StepStatus.DONE,
        "cached": cached,
        "cacheable": not text.startswith("FROM"),
        "duration_seconds": seconds,
    }
    return Step(**given | values)


def make_build(*steps: Step, **values: Any) -> Build:
    """A successful BuildKit build; the steps are numbered as they come."""
    numbered = tuple(
        step
        if step.index is not None
        else Step(
            **{name: getattr(step, name) for name in Step.__slots__}
            | {"index": at, "total": len(steps)}
            | {name: at for name in ("number", "line") if getattr(step, name) is None}
        )
        for at, step in enumerate(steps or (make_step("COPY . ."), make_step("RUN make", seconds=10.0)), 1)
    )
    given: dict[str, Any] = {
        "builder": "buildkit",
        "format": "buildkit-plain",
        "outcome": Outcome.SUCCEEDED,
        "duration_seconds": sum(step.duration_seconds or 0.0 for step in numbered),
        "steps": numbered,
    }
    return Build(**given | values)


def make_reading(*builds: Build, **values: Any) -> LogReading:
    return LogReading(**{"wrapper": None, "lines": 10, "builds": builds} | values)


def save_build(
    session: Session, repository: Repository, *builds: Build, at: datetime | None = None, **facts: Any
) -> list[int]:
    """Save one log; `at` is when it arrived, `facts` are those of the run."""
    minute = at or MORNING
    delivery = make_delivery(session, repository, received_at=minute)
    return readings.save_reading(
        session, delivery, repository, make_reading(*builds or (make_build(),)), RunFacts(**{"branch": "main"} | facts)
    )


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)
