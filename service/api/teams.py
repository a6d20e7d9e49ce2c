"""Teams: whose they are, their figures over a period, their tokens and webhook sources."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from cachescope.errors import InvalidValueError
from service.actions import sources as source_actions
from service.actions import tokens as token_actions
from service.dependencies import OPENAPI_SECURITY, SessionDep, TeamDep, ViewerDep, base_url
from service.errors import responses
from store.models.accounts import Team, Token
from store.models.sources import Source
from store.queries import overview, teams
from store.queries.rollups import Period

router = APIRouter(prefix="/api/v1/teams", tags=["teams"], dependencies=OPENAPI_SECURITY)

LONGEST_RANGE = timedelta(days=366 * 3)
BranchClass = Literal["default", "branch", "pull_request"]


class TeamAnswer(BaseModel):
    """One team."""

    slug: str = Field(examples=["acme"])
    name: str = Field(examples=["Acme"])
    role: Literal["owner", "member", "viewer"]
    is_demo: bool
    time_zone: str = Field(examples=["UTC"])


class TeamsAnswer(BaseModel):
    """The teams of whoever asks."""

    teams: list[TeamAnswer]


class Figures(BaseModel):
    """The figures of a set of builds: sums first, then the ratio. Null means that nobody knows, never 0."""

    builds: int
    failed: int
    hits: int
    misses: int
    unknown: int
    hit_rate: float | None = Field(description="hits / (hits + misses)")
    hit_rate_median: float | None
    hit_rate_p10: float | None
    cache_efficiency: float | None = Field(description="time avoided / (time avoided + time spent)")
    seconds_spent: float
    seconds_avoided: float
    avoided_unknown: int = Field(
        description="Hits whose instruction was never seen to run, left out of seconds_avoided."
    )
    seconds_lost: float = Field(description="Miss cost of unexpected breaks.")
    rebuild_seconds: float = Field(description="Miss cost of expected breaks.")
    unexplained_seconds: float = Field(description="Miss cost of breaks of which nobody can say.")
    overhead_seconds: float
    duration_median: float | None
    duration_p90: float | None


def to_figures(period: Period) -> Figures:
    """Write a period's figures."""
    return Figures(
        builds=period.builds,
        failed=period.failed,
        hits=period.hits,
        misses=period.misses,
        unknown=period.unknown,
        hit_rate=period.hit_rate,
        hit_rate_median=period.hit_rate_median,
        hit_rate_p10=period.hit_rate_p10,
        cache_efficiency=period.cache_efficiency,
        seconds_spent=period.seconds_spent,
        seconds_avoided=period.seconds_avoided,
        avoided_unknown=period.avoided_unknown,
        seconds_lost=period.lost_seconds,
        rebuild_seconds=period.rebuild_seconds,
        unexplained_seconds=period.unexplained_seconds,
        overhead_seconds=period.overhead_seconds,
        duration_median=period.duration_median,
        duration_p90=period.duration_p90,
    )


class RepositoryOverview(BaseModel):
    """A repository's line in the overview."""

    id: int
    name: str
    figures: Figures
    previous: Figures = Field(description="Over as many days before the period.")
    last_build_id: int | None


class OverviewAnswer(BaseModel):
    """A team over a period."""

    from_day: date
    to_day: date
    figures: Figures
    previous: Figures
    repositories: list[RepositoryOverview] = Field(description="By seconds lost, then by name.")


class Range:
    """Days from the first to the last, both included; the last 30 unless the address says otherwise."""

    def __init__(
        self,
        first: Annotated[date | None, Query(alias="from", description="First day, in UTC.")] = None,
        last: Annotated[date | None, Query(alias="to", description="Last day, in UTC, included.")] = None,
    ) -> None:
        self.last = last or datetime.now(UTC).date()
        try:
            self.first = first or self.last - timedelta(days=29)
        except OverflowError:
            self.first = self.last
        if self.first > self.last:
            raise InvalidValueError("from", f"The range begins on {self.first} and ends before that, on {self.last}.")
        if self.last - self.first > LONGEST_RANGE or self.first.year < 2000 or self.last.year > 9000:
            raise InvalidValueError("from", "A range covers at most three years, from 2000 on.")


RangeDep = Annotated[Range, Depends()]


@router.get("", summary="Your teams", responses=responses(401))
def list_teams(session: SessionDep, viewer: ViewerDep) -> TeamsAnswer:
    """List the teams of whoever asks, by name."""
    found = teams.list_teams(session, viewer.team_ids)
    return TeamsAnswer(teams=[_to_team(team, viewer.roles[team.id]) for team in found])


@router.get("/{slug}", summary="One team", responses=responses(401, 404))
def get_team(viewer: ViewerDep, team: TeamDep) -> TeamAnswer:
    """Describe a team."""
    return _to_team(team, viewer.roles[team.id])


@router.get("/{slug}/overview", summary="A team's figures", responses=responses(401, 404, 422))
def get_overview(
    *,
    session: SessionDep,
    viewer: ViewerDep,
    team: TeamDep,
    days: RangeDep,
    branch_class: Annotated[list[BranchClass] | None, Query(description="The default branch unless named.")] = None,
) -> OverviewAnswer:
    """Add up every repository of a team over a period."""
    found = overview.load_overview(
        session,
        team.id,
        days.first,
        days.last,
        branch_classes=branch_class or ["default"],
        repository_id=viewer.repository_id,
    )
    return OverviewAnswer(
        from_day=days.first,
        to_day=days.last,
        figures=to_figures(found.period),
        previous=to_figures(found.previous),
        repositories=[
            RepositoryOverview(
                id=line.repository.id,
                name=line.repository.name,
                figures=to_figures(line.period),
                previous=to_figures(line.previous),
                last_build_id=line.last_build.id if line.last_build else None,
            )
            for line in found.repositories
        ],
    )


class TokenAnswer(BaseModel):
    """A token, without its text."""

    id: str
    name: str
    scope: Literal["upload", "read"]
    repository_id: int | None
    hint: str = Field(description="The last four characters.")
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None


class TokensAnswer(BaseModel):
    """The working tokens of a team, newest first."""

    tokens: list[TokenAnswer]


class NewTokenAnswer(TokenAnswer):
    """A token that was just made."""

    token: str = Field(description="Shown this once; only its hash is kept.")


class NewToken(BaseModel):
    """What a new token shall be for."""

    name: str = Field(max_length=200, examples=["CI of the shop"])
    scope: str = Field(default="upload", max_length=40, examples=["upload"])
    repository_id: int | None = Field(default=None, ge=1, lt=1 << 62)
    expires_at: datetime | None = None


@router.get("/{slug}/tokens", summary="A team's tokens", responses=responses(401, 403, 404))
def list_tokens(session: SessionDep, viewer: ViewerDep, team: TeamDep) -> TokensAnswer:
    """List tokens without their text."""
    return TokensAnswer(
        tokens=[TokenAnswer(**_token_fields(token)) for token in token_actions.list_tokens(session, viewer, team)]
    )


@router.post("/{slug}/tokens", status_code=201, summary="Make a token", responses=responses(401, 403, 404, 422))
def create_token(session: SessionDep, viewer: ViewerDep, team: TeamDep, asked: NewToken) -> NewTokenAnswer:
    """Make a token and show its text, once."""
    expires_at = asked.expires_at
    if expires_at is not None and expires_at.tzinfo is None:
        raise InvalidValueError(
            "expires_at", "Give the end of the token with its time zone, such as 2027-01-31T00:00:00Z."
        )
    form = token_actions.TokenForm(
        name=asked.name, scope=asked.scope, repository_id=asked.repository_id, expires_at=expires_at
    )
    token, text = token_actions.create_token(session, viewer, team, form)
    return NewTokenAnswer(**_token_fields(token), token=text)


@router.delete(
    "/{slug}/tokens/{token_id}", status_code=204, summary="Revoke a token", responses=responses(401, 403, 404)
)
def revoke_token(session: SessionDep, viewer: ViewerDep, team: TeamDep, token_id: str) -> None:
    """End a token at once."""
    token_actions.revoke_token(session, viewer, team, token_id)


class SourceAnswer(BaseModel):
    """A webhook source, without its secrets."""

    id: str
    name: str
    provider: str = Field(examples=["generic"])
    repository_id: int | None
    url: str = Field(examples=["https://cachescope.example/hooks/2f1d…"])
    created_at: datetime
    disabled_at: datetime | None


class SourcesAnswer(BaseModel):
    """The sources of a team by name."""

    sources: list[SourceAnswer]


class NewSourceAnswer(SourceAnswer):
    """A source that was just made."""

    secret: str = Field(description="Shown this once; kept encrypted.")


class NewSource(BaseModel):
    """What a new source shall be for."""

    name: str = Field(max_length=200, examples=["Jenkins"])
    provider: str = Field(default="generic", max_length=40)
    repository_id: int | None = Field(default=None, ge=1, lt=1 << 62)


class SecretAnswer(BaseModel):
    """A new secret."""

    secret: str = Field(description="Shown this once; the former one works for another week.")


@router.get("/{slug}/sources", summary="A team's webhook sources", responses=responses(401, 403, 404))
def list_sources(request: Request, session: SessionDep, viewer: ViewerDep, team: TeamDep) -> SourcesAnswer:
    """List sources without their secrets."""
    found = source_actions.list_sources(session, viewer, team)
    return SourcesAnswer(sources=[SourceAnswer(**_source_fields(request, source)) for source in found])


@router.post("/{slug}/sources", status_code=201, summary="Make a source", responses=responses(401, 403, 404, 422))
def create_source(
    request: Request, session: SessionDep, viewer: ViewerDep, team: TeamDep, asked: NewSource
) -> NewSourceAnswer:
    """Make a source and show its secret, once."""
    form = source_actions.SourceForm(name=asked.name, provider=asked.provider, repository_id=asked.repository_id)
    source, secret = source_actions.create_source(session, viewer, team, form)
    return NewSourceAnswer(**_source_fields(request, source), secret=secret)


@router.post("/{slug}/sources/{source_id}/secret", summary="Change a secret", responses=responses(401, 403, 404))
def rotate_secret(session: SessionDep, viewer: ViewerDep, team: TeamDep, source_id: str) -> SecretAnswer:
    """Give a source a new secret."""
    return SecretAnswer(secret=source_actions.rotate_secret(session, viewer, team, source_id))


@router.delete(
    "/{slug}/sources/{source_id}", status_code=204, summary="Switch a source off", responses=responses(401, 403, 404)
)
def disable_source(session: SessionDep, viewer: ViewerDep, team: TeamDep, source_id: str) -> None:
    """Refuse the webhooks of a source from now on."""
    source_actions.disable_source(session, viewer, team, source_id)


def _to_team(team: Team, role: str) -> TeamAnswer:
    return TeamAnswer.model_validate(
        {"slug": team.slug, "name": team.name, "role": role, "is_demo": team.is_demo, "time_zone": team.time_zone}
    )


def _token_fields(token: Token) -> dict[str, object]:
    names = ("id", "name", "scope", "repository_id", "hint", "created_at", "last_used_at", "expires_at")
    return {name: getattr(token, name) for name in names}


def _source_fields(request: Request, source: Source) -> dict[str, object]:
    names = ("id", "name", "provider", "repository_id", "created_at", "disabled_at")
    return {name: getattr(source, name) for name in names} | {"url": f"{base_url(request)}/hooks/{source.id}"}
