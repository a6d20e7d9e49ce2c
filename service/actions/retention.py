"""How long a team keeps what was sent to it: chosen by its owners, for all repositories or for one."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from cachescope.errors import InvalidValueError, NotFoundError
from service.auditing import note
from service.auth.permissions import Viewer
from store.models import Repository, Team
from store.queries import retention
from store.queries.retention import Days

LONGEST = 36_500
FIELDS = {"log_days": "raw logs", "step_days": "steps", "build_days": "builds"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionForm:
    """Numbers of days as somebody typed them; empty keeps for ever."""

    log_days: str = ""
    step_days: str = ""
    build_days: str = ""


def load_rules(session: Session, viewer: Viewer, team: Team) -> tuple[Days, dict[int, Days]]:
    """What holds for the team, and for those of its repositories that have a rule of their own."""
    if team.id not in viewer.roles:
        raise NotFoundError("There is no such team here, or you do not belong to it.")
    return retention.load_rules(session, team.id)


def save_rule(
    session: Session, viewer: Viewer, team: Team, form: RetentionForm, repository: Repository | None = None
) -> Days:
    """Let a rule hold from now on; what is older goes within the hour."""
    viewer.require(team.id, "owner", "choose how long data is kept")
    days = Days(**{name: read_days(name, getattr(form, name)) for name in FIELDS})
    retention.save_rule(session, team.id, repository.id if repository else None, days)
    target = repository.name if repository else "all repositories"
    note(session, viewer, "retention.changed", team_id=team.id, target=target, **_details(days))
    return days


def drop_rule(session: Session, viewer: Viewer, team: Team, repository: Repository) -> None:
    """Let the rule of the team hold for a repository again."""
    viewer.require(team.id, "owner", "choose how long data is kept")
    retention.save_rule(session, team.id, repository.id, None)
    note(session, viewer, "retention.changed", team_id=team.id, target=repository.name, rule="as the team")


def read_days(name: str, text: str) -> int | None:
    """Read a number of days; None for an empty text, which keeps for ever."""
    text = text.strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= LONGEST):
        raise InvalidValueError(
            name, f'"{text[:40]}" is no number of days for {FIELDS[name]}: 1 to {LONGEST}, or nothing to keep them.'
        )
    return int(text)


def _details(days: Days) -> dict[str, int | None]:
    return {name: getattr(days, name) for name in FIELDS}
