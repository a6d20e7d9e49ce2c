"""Channels and rules as JSON: made, tried, listed, taken away; secrets go in and never come out."""

from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from service.actions import channels as actions
from service.actions.channels import RuleForm
from service.auth.permissions import Viewer
from service.dependencies import OPENAPI_SECURITY, SessionDep, TeamDep, ViewerDep
from service.errors import responses
from store.models import AlertRule, Channel, Team

router = APIRouter(prefix="/api/v1/teams/{slug}", tags=["channels"], dependencies=OPENAPI_SECURITY)


class ChannelBody(BaseModel):
    """A channel to add."""

    name: str = Field(max_length=100)
    kind: str = Field(max_length=40, examples=["slack"])
    config: dict[str, str] = Field(examples=[{"url": "https://hooks.slack.com/services/…"}])


class ChannelAnswer(BaseModel):
    """Where a team is told."""

    id: str
    name: str
    kind: str
    is_on: bool
    created_at: datetime


class RuleBody(BaseModel):
    """What a channel is told."""

    channel_id: str = Field(max_length=40)
    repository_id: int | None = Field(default=None, ge=1, le=2**63 - 1)
    min_seconds_per_day: float = Field(default=300.0, ge=0, le=1e7)
    kinds: list[str] = Field(default_factory=list, max_length=20, description="Empty for all.")
    only_default_branch: bool = False
    quiet_from: str = Field(default="", max_length=5, examples=["22:00"])
    quiet_to: str = Field(default="", max_length=5, examples=["07:00"])
    digest: Literal["none", "daily", "weekly"] = "none"
    tells_incidents: bool = True
    reminds: bool = True


class RuleAnswer(RuleBody):
    """A rule of a team."""

    id: int


class MessageAnswer(BaseModel):
    """One message and what became of it."""

    id: str = Field(description="The delivery id that receivers see.")
    channel_id: str
    incident_id: int | None
    kind: Literal["opened", "reopened", "resolved", "reminder", "digest", "test"]
    state: Literal["new", "working", "sent", "failed", "canceled"]
    title: str
    attempts: int
    answer: str | None
    created_at: datetime
    sent_at: datetime | None


class PreviewedMessage(BaseModel):
    """A message that a rule would have sent."""

    incident_id: int
    kind: str
    at: datetime


class ChannelsAnswer(BaseModel):
    """Channels, rules and the latest messages of a team."""

    kinds: dict[str, str] = Field(description="The kinds of channels, with what people call them.")
    channels: list[ChannelAnswer]
    rules: list[RuleAnswer]
    messages: list[MessageAnswer]


class PreviewAnswer(BaseModel):
    """What a rule would have sent over the last 30 days."""

    messages: list[PreviewedMessage]


def _channel(channel: Channel) -> ChannelAnswer:
    return ChannelAnswer(
        id=channel.id,
        name=channel.name,
        kind=channel.kind,
        is_on=channel.disabled_at is None,
        created_at=channel.created_at,
    )


def _rule(rule: AlertRule) -> RuleAnswer:
    return RuleAnswer(
        id=rule.id,
        channel_id=rule.channel_id,
        repository_id=rule.repository_id,
        min_seconds_per_day=rule.min_seconds_per_day,
        kinds=list(rule.kinds),
        only_default_branch=rule.only_default_branch,
        quiet_from=_time(rule.quiet_from),
        quiet_to=_time(rule.quiet_to),
        digest=rule.digest,
        tells_incidents=rule.tells_incidents,
        reminds=rule.reminds,
    )


def _time(minute: int | None) -> str:
    return "" if minute is None else f"{minute // 60:02d}:{minute % 60:02d}"


def _messages(session: Session, viewer: Viewer, team: Team) -> list[MessageAnswer]:
    return [
        MessageAnswer(
            id=message.id,
            channel_id=message.channel_id,
            incident_id=message.incident_id,
            kind=message.kind,
            state=message.state,
            title=message.notice["title"],
            attempts=message.attempts,
            answer=message.answer,
            created_at=message.created_at,
            sent_at=message.sent_at,
        )
        for message in actions.list_messages(session, viewer, team, 100)
    ]


@router.get("/channels", summary="Channels, rules and messages", responses=responses(401, 403, 404))
def list_channels(session: SessionDep, viewer: ViewerDep, team: TeamDep) -> ChannelsAnswer:
    """List where a team is told, of what, and what was sent last."""
    return ChannelsAnswer(
        kinds=actions.list_kinds(),
        channels=[_channel(channel) for channel in actions.list_channels(session, viewer, team)],
        rules=[_rule(rule) for rule in actions.list_rules(session, viewer, team)],
        messages=_messages(session, viewer, team),
    )


@router.post("/channels", status_code=201, summary="Add a channel", responses=responses(401, 403, 404, 409, 422))
def create_channel(session: SessionDep, viewer: ViewerDep, team: TeamDep, body: ChannelBody) -> ChannelAnswer:
    """Add a channel, with a rule that tells it of what costs five minutes a day."""
    return _channel(actions.create_channel(session, viewer, team, name=body.name, kind=body.kind, config=body.config))


@router.post(
    "/channels/{channel_id}/test", status_code=202, summary="Send a test", responses=responses(401, 403, 404, 409)
)
def send_test(session: SessionDep, viewer: ViewerDep, team: TeamDep, channel_id: str) -> dict[str, str]:
    """Send a message that says that it is a test; its id is found among the messages."""
    return {"message": actions.send_test(session, viewer, team, channel_id)}


@router.delete(
    "/channels/{channel_id}", status_code=204, summary="Delete a channel", responses=responses(401, 403, 404)
)
def delete_channel(session: SessionDep, viewer: ViewerDep, team: TeamDep, channel_id: str) -> Response:
    """Delete a channel with its rules and the record of its messages."""
    actions.delete_channel(session, viewer, team, channel_id)
    return Response(status_code=204)


@router.post("/rules", status_code=201, summary="Add a rule", responses=responses(401, 403, 404, 409, 422))
def create_rule(session: SessionDep, viewer: ViewerDep, team: TeamDep, body: RuleBody) -> RuleAnswer:
    """Add a rule."""
    return _rule(actions.save_rule(session, viewer, team, RuleForm(**body.model_dump())))


@router.post("/rules/preview", summary="Try a rule", responses=responses(401, 403, 404, 422))
def preview_rule(session: SessionDep, viewer: ViewerDep, team: TeamDep, body: RuleBody) -> PreviewAnswer:
    """Say what a rule would have sent over the last 30 days; nothing is stored."""
    found = actions.preview_rule(session, viewer, team, RuleForm(**body.model_dump()))
    return PreviewAnswer(
        messages=[PreviewedMessage(incident_id=each.incident.id, kind=each.kind, at=each.at) for each in found]
    )


@router.delete("/rules/{rule_id}", status_code=204, summary="Delete a rule", responses=responses(401, 403, 404, 422))
def delete_rule(session: SessionDep, viewer: ViewerDep, team: TeamDep, rule_id: int) -> Response:
    """Take a rule away."""
    actions.delete_rule(session, viewer, team, rule_id)
    return Response(status_code=204)
