"""Channels and rules of a team: made, tried, changed and taken away by its owners, seen by its members."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import SecretStr, ValidationError
from sqlalchemy.orm import Session

from cachescope.errors import ConflictError, InvalidValueError, NotFoundError, UnknownNameError
from cachescope.regressions import REGRESSIONS
from integrations.channels import CHANNELS
from service.auditing import note
from service.auth.permissions import Viewer
from store.models import AlertRule, Channel, Message, Team
from store.models.incidents import DIGESTS
from store.queries import channels, incidents, messages, repositories
from store.queries.deliveries import make_id
from workers import telling
from workers.routing import PREVIEW_DAYS, Preview, preview

MOST_CHANNELS = 50
MOST_RULES = 200


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the form of a kind of channel."""

    name: str
    title: str
    is_secret: bool
    is_required: bool
    default: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleForm:
    """What a channel is to be told."""

    channel_id: str
    repository_id: int | None = None
    min_seconds_per_day: float = 300.0
    kinds: Sequence[str] = field(default_factory=tuple)
    only_default_branch: bool = False
    quiet_from: str = ""
    quiet_to: str = ""
    """HH:MM in the team's time zone; both empty for no quiet hours."""
    digest: str = "none"
    tells_incidents: bool = True
    reminds: bool = True


def list_kinds() -> dict[str, str]:
    """The kinds of channels by name, with what people call them."""
    return {name: kind.title for name, kind in CHANNELS.items()}


def fields_of(kind: str) -> list[Field]:
    """The fields of the form of a kind of channel, drawn from its settings."""
    if kind not in CHANNELS:
        raise UnknownNameError("kind of channel", kind[:40], CHANNELS)
    return [
        Field(
            name=name,
            title=info.title or name.replace("_", " ").capitalize(),
            is_secret=info.annotation is SecretStr,
            is_required=info.is_required(),
            default="" if info.annotation is SecretStr or info.is_required() else str(info.default),
        )
        for name, info in CHANNELS[kind].Config.model_fields.items()
    ]


def list_channels(session: Session, viewer: Viewer, team: Team) -> Sequence[Channel]:
    """The channels of a team by name."""
    viewer.require(team.id, "member", "see the channels")
    return channels.list_channels(session, team.id)


def create_channel(
    session: Session, viewer: Viewer, team: Team, *, name: str, kind: str, config: Mapping[str, str]
) -> Channel:
    """Add a channel with a rule that tells it of everything that costs five minutes a day."""
    viewer.require(team.id, "owner", "add channels")
    name = " ".join(name.split())
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise InvalidValueError("name", "The name of a channel must have 1 to 100 printable characters.")
    if kind not in CHANNELS:
        raise UnknownNameError("kind of channel", kind[:40], CHANNELS)
    if len(channels.list_channels(session, team.id)) >= MOST_CHANNELS:
        raise ConflictError(f"A team has at most {MOST_CHANNELS} channels: delete one that is not used.")
    channel = channels.create_channel(session, team.id, name=name, kind=kind, config=_read_config(kind, config))
    session.add(AlertRule(team_id=team.id, channel_id=channel.id))
    note(session, viewer, "channel.made", team_id=team.id, target=name, kind=kind)
    session.flush()
    return channel


def _read_config(kind: str, given: Mapping[str, str]) -> dict[str, Any]:
    known = {each.name for each in fields_of(kind)}
    wanted = {name: value.strip() for name, value in given.items() if name in known and value.strip()}
    try:
        config = CHANNELS[kind].Config.model_validate(wanted)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "config"
        reason = first["msg"].removeprefix("Value error, ")
        raise InvalidValueError(name, f"{name.replace('_', ' ').capitalize()}: {reason}") from None
    return {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, value in config.model_dump().items()
    }


def shown_config(channel: Channel) -> list[tuple[str, str]]:
    """The settings of a channel that may be shown: nothing secret."""
    if channel.kind not in CHANNELS:
        return []
    config: dict[str, Any] = json.loads(channel.config)
    return [
        (each.title, "set" if each.is_secret else str(config.get(each.name, "")))
        for each in fields_of(channel.kind)
        if config.get(each.name)
    ]


def switch_channel(session: Session, viewer: Viewer, team: Team, channel_id: str, *, is_on: bool) -> Channel:
    """Switch a channel off, or on again."""
    viewer.require(team.id, "owner", "switch channels")
    channel = find_channel(session, team, channel_id)
    channel.disabled_at = None if is_on else datetime.now(UTC)
    note(session, viewer, "channel.changed", team_id=team.id, target=channel.name, state="on" if is_on else "off")
    session.flush()
    return channel


def delete_channel(session: Session, viewer: Viewer, team: Team, channel_id: str) -> None:
    """Delete a channel with its rules and the record of its messages."""
    viewer.require(team.id, "owner", "delete channels")
    channel = find_channel(session, team, channel_id)
    session.delete(channel)
    note(session, viewer, "channel.deleted", team_id=team.id, target=channel.name, kind=channel.kind)
    session.flush()


def send_test(session: Session, viewer: Viewer, team: Team, channel_id: str) -> str:
    """Send a message that says so to a channel; returns its id, under which its fate is shown."""
    viewer.require(team.id, "member", "send a test")
    channel = find_channel(session, team, channel_id)
    if channel.disabled_at is not None:
        raise ConflictError("This channel is switched off: switch it on before you send a test.")
    message_id = make_id()
    messages.write(
        session,
        team_id=team.id,
        channel_id=channel.id,
        kind="test",
        dedupe_key=f"test:{message_id}",
        notice=telling.trial_notice(team, channel.name, message_id).as_document(),
        next_at=datetime.now(UTC),
        message_id=message_id,
    )
    telling.hint(session)
    return message_id


def retry_message(session: Session, viewer: Viewer, team: Team, message_id: str) -> None:
    """Send a message that failed once more."""
    viewer.require(team.id, "member", "send a message again")
    if messages.find_message(session, team.id, message_id) is None:
        raise NotFoundError("This team has no such message.")
    if not messages.requeue(session, message_id, datetime.now(UTC)):
        raise ConflictError("Only a message that failed can be sent again.")
    telling.hint(session)


def list_messages(session: Session, viewer: Viewer, team: Team, limit: int = 30) -> Sequence[Message]:
    """The latest messages of a team, newest first."""
    viewer.require(team.id, "member", "see the messages")
    return messages.list_latest(session, team.id, min(limit, 200))


def list_rules(session: Session, viewer: Viewer, team: Team) -> Sequence[AlertRule]:
    """The rules of a team, oldest first."""
    viewer.require(team.id, "member", "see the rules")
    return channels.list_rules(session, team.id)


def save_rule(session: Session, viewer: Viewer, team: Team, form: RuleForm, rule_id: int | None = None) -> AlertRule:
    """Add a rule, or change one."""
    viewer.require(team.id, "owner", "change rules")
    wanted = read_rule(session, team, form)
    if rule_id is None:
        if len(channels.list_rules(session, team.id)) >= MOST_RULES:
            raise ConflictError(f"A team has at most {MOST_RULES} rules: delete one that is not used.")
        session.add(wanted)
        _note_rule(session, viewer, team, wanted)
        session.flush()
        return wanted
    rule = find_rule(session, team, rule_id)
    for name in _RULE_FIELDS:
        setattr(rule, name, getattr(wanted, name))
    _note_rule(session, viewer, team, rule)
    session.flush()
    return rule


def _note_rule(session: Session, viewer: Viewer, team: Team, rule: AlertRule) -> None:
    details = {"least seconds a day": rule.min_seconds_per_day, "digest": rule.digest}
    channel = find_channel(session, team, rule.channel_id)
    note(session, viewer, "rule.saved", team_id=team.id, target=channel.name, **details)


_RULE_FIELDS = (
    *("channel_id", "repository_id", "min_seconds_per_day", "kinds", "only_default_branch"),
    *("quiet_from", "quiet_to", "digest", "tells_incidents", "reminds"),
)


def read_rule(session: Session, team: Team, form: RuleForm) -> AlertRule:
    """Check a form and return the rule that it describes, not stored yet."""
    find_channel(session, team, form.channel_id)
    if form.repository_id is not None and repositories.load_repository(session, [team.id], form.repository_id) is None:
        raise InvalidValueError("repository_id", f"This team has no repository {form.repository_id}.")
    if not 0 <= form.min_seconds_per_day <= 1e7:
        raise InvalidValueError("min_seconds_per_day", "The least loss is 0 seconds a day or more.")
    for kind in form.kinds:
        if kind not in REGRESSIONS:
            raise UnknownNameError("kind of alert", kind[:40], REGRESSIONS)
    if form.digest not in DIGESTS:
        raise UnknownNameError("digest", form.digest[:40], DIGESTS)
    if bool(form.quiet_from) != bool(form.quiet_to):
        raise InvalidValueError("quiet_to", "Quiet hours have a beginning and an end: fill in both or neither.")
    return AlertRule(
        team_id=team.id,
        channel_id=form.channel_id,
        repository_id=form.repository_id,
        min_seconds_per_day=form.min_seconds_per_day,
        kinds=sorted(set(form.kinds)),
        only_default_branch=form.only_default_branch,
        quiet_from=_minute("quiet_from", form.quiet_from),
        quiet_to=_minute("quiet_to", form.quiet_to),
        digest=form.digest,
        tells_incidents=form.tells_incidents,
        reminds=form.reminds,
    )


def _minute(name: str, text: str) -> int | None:
    if not text:
        return None
    hours, _, minutes = text.partition(":")
    is_time = all(part.isascii() and part.isdigit() and 1 <= len(part) <= 2 for part in (hours, minutes))
    if not is_time or int(hours) > 23 or int(minutes) > 59:
        raise InvalidValueError(name, f'"{text[:20]}" is no time of day such as 22:30.')
    return int(hours) * 60 + int(minutes)


def delete_rule(session: Session, viewer: Viewer, team: Team, rule_id: int) -> None:
    """Take a rule away."""
    viewer.require(team.id, "owner", "change rules")
    rule = find_rule(session, team, rule_id)
    channel = find_channel(session, team, rule.channel_id)
    session.delete(rule)
    note(session, viewer, "rule.deleted", team_id=team.id, target=channel.name)
    session.flush()


def preview_rule(session: Session, viewer: Viewer, team: Team, form: RuleForm) -> list[Preview]:
    """The messages that a rule would have sent over the last 30 days; nothing is stored."""
    viewer.require(team.id, "member", "try a rule")
    since = datetime.now(UTC) - timedelta(days=PREVIEW_DAYS)
    found = list(incidents.list_since(session, team.id, since))
    with session.no_autoflush:
        rule = read_rule(session, team, form)
        return preview(rule, found, team.time_zone, since)


def find_channel(session: Session, team: Team, channel_id: str) -> Channel:
    """A channel of a team; raises NotFoundError."""
    channel = channels.find_channel(session, team.id, channel_id)
    if channel is None:
        raise NotFoundError("This team has no such channel.")
    return channel


def find_rule(session: Session, team: Team, rule_id: int) -> AlertRule:
    """A rule of a team; raises NotFoundError."""
    rule = channels.find_rule(session, team.id, rule_id)
    if rule is None:
        raise NotFoundError("This team has no such rule.")
    return rule
