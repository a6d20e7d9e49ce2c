"""Channels of a team and the rules that say what they are told."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from store.models import AlertRule, Channel, Incident, Message


def create_channel(session: Session, team_id: int, *, name: str, kind: str, config: dict[str, Any]) -> Channel:
    """Add a channel."""
    channel = Channel(id=str(uuid4()), team_id=team_id, name=name, kind=kind, config=json.dumps(config))
    session.add(channel)
    session.flush()
    return channel


def list_channels(session: Session, team_id: int) -> Sequence[Channel]:
    """The channels of a team by name."""
    return session.scalars(select(Channel).where(Channel.team_id == team_id).order_by(Channel.name, Channel.id)).all()


def find_channel(session: Session, team_id: int, channel_id: str) -> Channel | None:
    """A channel of a team."""
    return session.scalar(select(Channel).where(Channel.id == channel_id, Channel.team_id == team_id))


def list_rules(session: Session, team_id: int) -> Sequence[AlertRule]:
    """The rules of a team with their channels, oldest first."""
    return session.scalars(
        select(AlertRule)
        .where(AlertRule.team_id == team_id)
        .options(joinedload(AlertRule.channel))
        .order_by(AlertRule.id)
    ).all()


def list_digest_rules(session: Session) -> Sequence[AlertRule]:
    """The rules of all teams that ask for digests, with their channels."""
    return session.scalars(
        select(AlertRule)
        .where(AlertRule.digest != "none")
        .options(joinedload(AlertRule.channel))
        .order_by(AlertRule.id)
    ).all()


def find_rule(session: Session, team_id: int, rule_id: int) -> AlertRule | None:
    """A rule of a team."""
    return session.scalar(select(AlertRule).where(AlertRule.id == rule_id, AlertRule.team_id == team_id))


def list_to_remind(session: Session, opened_before: datetime, limit: int = 100) -> Sequence[Incident]:
    """Incidents that nobody has taken up for long and of which nobody was reminded."""
    reminded = select(Message.id).where(Message.incident_id == Incident.id, Message.kind == "reminder").exists()
    told = (
        select(Message.id)
        .where(Message.incident_id == Incident.id, Message.kind.in_(("opened", "reopened")), Message.state == "sent")
        .exists()
    )
    return session.scalars(
        select(Incident)
        .where(Incident.state == "open", Incident.opened_at <= opened_before, told, ~reminded)
        .options(joinedload(Incident.repository), joinedload(Incident.image))
        .order_by(Incident.id)
        .limit(limit)
    ).all()
