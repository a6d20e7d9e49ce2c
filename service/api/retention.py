"""How long a team keeps what was sent to it."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from cachescope.errors import InvalidValueError
from service.actions import retention
from service.actions.retention import RetentionForm
from service.dependencies import OPENAPI_SECURITY, SessionDep, TeamDep, ViewerDep
from service.errors import responses
from store.queries import repositories
from store.queries.retention import Days

router = APIRouter(prefix="/api/v1/teams", tags=["teams"], dependencies=OPENAPI_SECURITY)

Number = Annotated[int | None, Field(ge=1, le=retention.LONGEST, description="Days; null keeps for ever.")]


class RuleAnswer(BaseModel):
    """For how many days something is kept."""

    log_days: Number = None
    step_days: Number = None
    build_days: Number = None


class RepositoryRuleAnswer(RuleAnswer):
    """The rule of one repository, which counts instead of the team's."""

    repository_id: int


class RetentionAnswer(BaseModel):
    """The rule of a team and those of single repositories. Figures over time are always kept."""

    team: RuleAnswer
    repositories: list[RepositoryRuleAnswer]


class NewRule(RuleAnswer):
    """A rule for the team, or for one repository."""

    repository_id: int | None = Field(default=None, ge=1, lt=1 << 62)


@router.get("/{slug}/retention", summary="How long data is kept", responses=responses(401, 404))
def get_retention(session: SessionDep, viewer: ViewerDep, team: TeamDep) -> RetentionAnswer:
    """Tell for how many days the team and single repositories keep logs, steps and builds."""
    rule, own = retention.load_rules(session, viewer, team)
    visible = {each: days for each, days in own.items() if viewer.may_see(team.id, each)}
    return RetentionAnswer(
        team=RuleAnswer(**_fields(rule)),
        repositories=[RepositoryRuleAnswer(repository_id=each, **_fields(days)) for each, days in visible.items()],
    )


@router.put("/{slug}/retention", summary="Change how long data is kept", responses=responses(401, 403, 404, 422))
def put_retention(session: SessionDep, viewer: ViewerDep, team: TeamDep, asked: NewRule) -> RetentionAnswer:
    """Let a rule hold for the team or for one repository; what is older goes within the hour."""
    viewer.require(team.id, "owner", "choose how long data is kept")
    repository = None
    if asked.repository_id is not None:
        repository = repositories.load_repository(session, [team.id], asked.repository_id)
        if repository is None:
            raise InvalidValueError("repository_id", f"This team has no repository {asked.repository_id}.")
    words = {name: str(getattr(asked, name) or "") for name in retention.FIELDS}
    retention.save_rule(session, viewer, team, RetentionForm(**words), repository)
    return get_retention(session, viewer, team)


def _fields(days: Days) -> dict[str, int | None]:
    return {name: getattr(days, name) for name in retention.FIELDS}
