"""Retention: what is older than a team wants goes, and everything that is counted, compared or alerted stays."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from cachescope.errors import ForbiddenError, InvalidValueError
from dashboards.charts import CHARTS
from dashboards.charts.base import Scope
from service.actions import retention as actions
from service.actions.retention import RetentionForm
from service.auth.permissions import Viewer
from store.database import reading, transaction
from store.logs import open_logs, write_log
from store.models import (
    AuditEvent,
    Build,
    DailyInstructions,
    Delivery,
    Incident,
    Instruction,
    Repository,
    Run,
    Step,
    StoredLog,
    Team,
)
from store.queries import breaks, logs, overview, repositories, retention, rollups
from store.queries.retention import Days
from tests.factories import make_build, make_delivery, make_repository, make_step, make_team, save_build
from workers.tasks.forgetting import forget_expired

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
LONG = {"first": date(2026, 1, 1), "last": date(2026, 11, 30)}
LOG = b"#1 [internal] load build definition\n#1 DONE 0.1s\n#2 [1/1] RUN make %d\n#2 DONE 1s\n"


def save(session: Session, repository: Repository, days_ago: float, *, cached: bool = False, **facts: Any) -> int:
    steps = make_step("COPY . .", cached=cached), make_step("RUN make", cached=cached, seconds=None if cached else 10.0)
    return save_build(session, repository, make_build(*steps), at=NOW - timedelta(days=days_ago), **facts)[0]


@pytest.fixture
def repository_id(home: Path) -> int:
    """A repository with a build a day over the last 60 days, every third of which misses."""
    with transaction() as session:
        repository = make_repository(session)
        for number in range(60):
            save(session, repository, 60 - number, cached=number % 3 > 0, commit_id=f"{number:040x}")
        session.execute(update(Delivery).values(state="done"))
        rollups.recompute_dirty_days(session, 1000)
        return repository.id


def keep(repository_id: int, **days: int) -> int:
    """Let a rule hold and forget what it names."""
    with transaction() as session:
        team_id = session.get_one(Repository, repository_id).team_id
        retention.save_rule(session, team_id, None, Days(**days))
    return forget_expired(NOW)


def count(table: Any) -> int:
    with reading() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def long_view(repository_id: int) -> dict[str, Any]:
    """Everything that pages show over a long period: sums, days, ranked breaks, overview, and the charts of sums."""
    scope = Scope(
        repository_id=repository_id, first_day=LONG["first"], last_day=LONG["last"], image_id=None, branch_class="all"
    )
    with reading() as session:
        team_id = session.get_one(Repository, repository_id).team_id
        seen: dict[str, Any] = {
            "period": rollups.load_period(session, repository_id, **LONG),
            "days": rollups.load_days(session, repository_id, **LONG),
            "breaks": breaks.load_ranked_breaks(session, team_id, **LONG),
            "overview": overview.load_overview(
                session, team_id, LONG["first"], LONG["last"], branch_classes=["default"]
            ).period,
        }
        for name in ("efficiency", "build_duration", "breaks"):
            seen[name] = [tuple(row) for row in session.execute(CHARTS[name].select(scope))]
        return seen


@pytest.mark.parametrize("days", [{"build_days": 10}, {"step_days": 10}, {"step_days": 5, "build_days": 20}], ids=str)
def test_figures_over_a_long_period_do_not_change(repository_id: int, days: dict[str, int]) -> None:
    before, steps = long_view(repository_id), count(Step)
    assert before["period"].builds == 60
    assert keep(repository_id, **days) > 50
    assert count(Step) < steps / 2
    assert long_view(repository_id) == before


def test_what_is_younger_stays_whole(repository_id: int) -> None:
    keep(repository_id, build_days=10)
    with reading() as session:
        days = session.scalars(select(Build.day).order_by(Build.id)).all()
        assert min(days[1:]) == date(2026, 11, 10)
        assert len([day for day in days if day >= date(2026, 11, 10)]) == 10
        assert session.scalar(select(func.count()).select_from(Run)) == len(days)
        assert session.scalar(select(func.count()).select_from(Delivery)) == len(days)


def test_sums_of_forgotten_days_survive_whatever_marks_them(repository_id: int) -> None:
    before = long_view(repository_id)
    keep(repository_id, build_days=20, step_days=5)
    with transaction() as session:
        rollups.mark_all_days(session, repository_id)
        rollups.recompute_dirty_days(session, 1000)
    assert long_view(repository_id) == before


def test_days_that_wait_for_their_sums_get_them_before_they_are_forgotten(home: Path) -> None:
    with transaction() as session:
        repository = make_repository(session)
        for number in range(4):
            save(session, repository, 40 - number)
        repository_id = repository.id
    keep(repository_id, build_days=10)
    with transaction() as session:
        rollups.recompute_dirty_days(session)
        assert rollups.load_period(session, repository_id, **LONG).builds == 4
    assert count(Build) == 1, "the last good one is what the next is compared with"


def test_a_late_log_of_a_forgotten_day_changes_no_sum(repository_id: int) -> None:
    keep(repository_id, build_days=10)
    before = long_view(repository_id)
    with transaction() as session:
        save(session, session.get_one(Repository, repository_id), 30)
        rollups.recompute_dirty_days(session, 1000)
    assert long_view(repository_id) == before


def test_the_next_build_finds_its_baseline_and_the_cost_of_its_instructions(home: Path) -> None:
    with transaction() as session:
        repository = make_repository(session)
        last = [save(session, repository, 50 - number) for number in range(5)][-1]
        repository_id = repository.id
    keep(repository_id, build_days=10, step_days=10)
    assert count(Build) == 1
    with transaction() as session:
        repository = session.get_one(Repository, repository_id)
        build = session.get_one(Build, save(session, repository, 0, cached=True))
        assert build.baseline_build_id == last
        assert build.seconds_avoided == pytest.approx(11.0)
        assert build.avoided_unknown == 0


def test_builds_of_present_alerts_stay_until_these_are_over(repository_id: int) -> None:
    with transaction() as session:
        team_id = session.get_one(Repository, repository_id).team_id
        first, second = session.scalars(select(Build.id).order_by(Build.id).limit(2))
        words = {
            "kind": "x",
            "key": "x",
            "metric": "x",
            "cause": "x",
            "evidence": "",
            "confidence": "",
            "opened_at": NOW,
        }
        session.add(
            Incident(team_id=team_id, repository_id=repository_id, since_build_id=first, found_build_id=second, **words)
        )
    keep(repository_id, build_days=10)
    with transaction() as session:
        assert {first, second} <= set(session.scalars(select(Build.id)))
        session.execute(update(Incident).values(state="resolved"))
    forget_expired(NOW)
    with reading() as session:
        assert not {first, second} & set(session.scalars(select(Build.id)))


def test_baselines_of_kept_builds_stay(repository_id: int) -> None:
    keep(repository_id, build_days=10)
    with reading() as session:
        known = set(session.scalars(select(Build.id)))
        recent = session.scalars(select(Build.baseline_build_id).where(Build.day >= date(2026, 11, 10))).all()
        assert set(recent) <= known


def test_reference_costs_stay_when_the_steps_behind_them_go(repository_id: int) -> None:
    with reading() as session:
        before = session.execute(select(Instruction.id, Instruction.reference_seconds, Instruction.executions)).all()
    keep(repository_id, step_days=1)
    with reading() as session:
        assert (
            session.execute(select(Instruction.id, Instruction.reference_seconds, Instruction.executions)).all()
            == before
        )
        assert session.scalar(select(func.count()).select_from(DailyInstructions)) > 0


def test_raw_logs_go_alone(home: Path) -> None:
    with transaction() as session:
        repository = make_repository(session)
        repository_id = repository.id
    past = NOW - timedelta(days=30)
    for number, at in enumerate((past, NOW)):
        written = write_log(open_logs(), [LOG % number])
        with transaction() as session:
            logs.save_log(session, written)
            repository = session.get_one(Repository, repository_id)
            make_delivery(session, repository, log_digest=written.digest, received_at=at, state="done", finished_at=at)
    assert keep(repository_id, log_days=10) == 1
    with reading() as session:
        kept = session.scalars(select(StoredLog.digest)).all()
        assert session.scalars(select(Delivery.log_digest).order_by(Delivery.received_at)).all() == [None, *kept]
    assert [path.name for path in open_logs().folder.rglob("*.zst")] == [f"{kept[0]}.zst"]


def test_a_log_that_a_team_forgets_stays_for_another_that_keeps_it(home: Path) -> None:
    written = write_log(open_logs(), [LOG % 1])
    with transaction() as session:
        logs.save_log(session, written)
        past = NOW - timedelta(days=30)
        for slug in ("acme", "other"):
            repository = make_repository(session, "api", make_team(session, slug))
            make_delivery(session, repository, log_digest=written.digest, received_at=past, state="done")
    keep(repository.id, log_days=10)
    assert count(StoredLog) == 1


def test_the_rule_of_a_repository_counts_instead_of_its_teams(repository_id: int) -> None:
    with transaction() as session:
        team_id = session.get_one(Repository, repository_id).team_id
        retention.save_rule(session, team_id, repository_id, Days())
    assert keep(repository_id, build_days=1) == 0
    with transaction() as session:
        retention.save_rule(session, team_id, repository_id, None)
    assert forget_expired(NOW) > 0


def test_whoever_has_no_rule_keeps_everything(repository_id: int) -> None:
    assert forget_expired(NOW + timedelta(days=9_000)) == 0
    assert count(Build) == 60


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_owners_choose_and_it_is_noted(repository_id: int) -> None:
    with transaction() as session:
        repository = session.get_one(Repository, repository_id)
        team = session.get_one(Team, repository.team_id)
        owner, member = (Viewer(name="Ada", roles={team.id: role}) for role in ("owner", "member"))
        with pytest.raises(ForbiddenError):
            actions.save_rule(session, member, team, RetentionForm(log_days="9"))
        for wrong in ("0", "-1", "1e3", "٣", "999999", "nine"):
            with pytest.raises(InvalidValueError, match="number of days for raw logs"):
                actions.save_rule(session, owner, team, RetentionForm(log_days=wrong))
        actions.save_rule(session, owner, team, RetentionForm(log_days=" 30 "))
        actions.save_rule(session, owner, team, RetentionForm(build_days="90"), repository)
        assert actions.load_rules(session, member, team) == (Days(log_days=30), {repository_id: Days(build_days=90)})
        actions.drop_rule(session, owner, team, repository)
        assert actions.load_rules(session, member, team) == (Days(log_days=30), {})
        assert repositories.list_repositories(session, team.id) == [repository]
        noted = session.scalars(select(AuditEvent).order_by(AuditEvent.id)).all()
        assert [event.target for event in noted] == ["all repositories", "acme/api", "acme/api"]
        assert noted[0].details["log_days"] == 30
