"""Forgetting what is older than a team wants to keep: in small transactions, with pauses in which others can write."""

import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import structlog

from store.database import reading, shorten_journal, tidied, transaction
from store.queries import repositories, retention
from store.queries.deletions import Emptied
from store.queries.retention import Days
from workers.tasks.deleting import forget_logs

logger = structlog.get_logger(__name__)


def forget_expired(now: datetime | None = None) -> int:
    """Forget what the rules of all teams name; returns how many rows went."""
    today = (now or datetime.now(UTC)).date()
    with reading() as session:
        teams = retention.list_teams_with_rules(session)
    count = sum(_forget_of_team(team_id, today) for team_id in teams)
    if count:
        shorten_journal()
        logger.info("expired_data_forgotten", rows=count)
    return count


def _forget_of_team(team_id: int, today: date) -> int:
    with reading() as session:
        rule, own = retention.load_rules(session, team_id)
        known = [repository.id for repository in repositories.list_repositories(session, team_id)]
    count = _forget_deliveries(team_id, None, rule, today)
    for repository_id in known:
        days = own.get(repository_id, rule)
        if days.keeps_all:
            continue
        count += _forget_builds(repository_id, days, today)
        count += _forget_deliveries(team_id, repository_id, days, today)
    return count


def _forget_builds(repository_id: int, days: Days, today: date) -> int:
    builds_from, steps_from = _first_kept(days.build_days, today), _first_kept(days.step_days, today)
    if builds_from is None and steps_from is None:
        return 0
    with transaction() as session:
        retention.freeze(session, repository_id, builds_from=builds_from, steps_from=steps_from)
    count = 0
    if builds_from is not None:
        with reading() as session:
            needed = retention.load_needed(session, repository_id, builds_from)
        before = builds_from
        count += _in_turns(
            lambda session: Emptied(rows=retention.forget_builds(session, repository_id, before, needed))
        )
    if steps_from is not None:
        with reading() as session:
            needed = retention.load_needed(session, repository_id, steps_from)
            with_steps = retention.list_days_with_steps(session, repository_id, steps_from, needed)
        for day in with_steps:
            count += _in_turns(
                lambda session, day=day: Emptied(rows=retention.forget_steps(session, repository_id, day, needed))
            )
    return count


def _forget_deliveries(team_id: int, repository_id: int | None, days: Days, today: date) -> int:
    count = 0
    if (before := _first_kept(days.build_days, today)) is not None:
        first = before
        count += _in_turns(lambda session: retention.forget_deliveries(session, team_id, repository_id, first))
    if (before := _first_kept(days.log_days, today)) is not None:
        last = before
        count += _in_turns(lambda session: retention.forget_raw_logs(session, team_id, repository_id, last))
    return count


def _in_turns(forget: Callable[..., Emptied]) -> int:
    """Call a function in one transaction after another until it finds nothing more; returns how many rows went."""
    count = 0
    while True:
        began = time.monotonic()
        with transaction() as session, tidied(session):
            emptied = forget(session)
        forget_logs(emptied)
        if not emptied.rows:
            return count
        count += emptied.rows
        time.sleep(min(0.5, time.monotonic() - began))


def _first_kept(days: int | None, today: date) -> date | None:
    """The first day that is kept; None where all are."""
    return None if days is None else today - timedelta(days=days)
