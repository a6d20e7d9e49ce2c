"""Which incidents a rule tells of, and when: pure, so that a rule can be tried on the past before it is saved."""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from store.models import AlertRule, Incident

PREVIEW_DAYS = 30
DIGEST_HOUR = 8


@dataclass(frozen=True, slots=True)
class Preview:
    """One message that a rule would have sent."""

    incident: Incident
    kind: str
    at: datetime


def is_told(rule: AlertRule, incident: Incident) -> bool:
    """Whether a rule tells of an incident one by one; the others go to its digest."""
    if not rule.tells_incidents or (rule.repository_id is not None and rule.repository_id != incident.repository_id):
        return False
    if rule.kinds and incident.kind not in rule.kinds:
        return False
    if rule.only_default_branch and not incident.is_default_branch:
        return False
    return incident.metric == "size" or incident.seconds_per_day >= rule.min_seconds_per_day


def after_quiet_hours(rule: AlertRule, zone: str, at: datetime) -> datetime:
    """When a message may go out: at once, or at the end of the quiet hours of the team's day."""
    if rule.quiet_from is None or rule.quiet_to is None or rule.quiet_from == rule.quiet_to:
        return at
    local = at.astimezone(zone_of(zone))
    minute = local.hour * 60 + local.minute
    begin, end = rule.quiet_from, rule.quiet_to
    is_quiet = begin <= minute < end if begin < end else minute >= begin or minute < end
    if not is_quiet:
        return at
    day = local.date() + timedelta(days=1 if begin > end and minute >= begin else 0)
    return datetime.combine(day, time(end // 60, end % 60), tzinfo=zone_of(zone)).astimezone(UTC)


def preview(rule: AlertRule, incidents: list[Incident], zone: str, since: datetime) -> list[Preview]:
    """The messages that a rule would have sent about some incidents since a time, oldest first."""
    found = []
    for incident in incidents:
        if not is_told(rule, incident):
            continue
        told_at = after_quiet_hours(rule, zone, incident.opened_at)
        if incident.resolved_at is not None and incident.resolved_at <= told_at:
            continue  # it was over before anybody was to be told
        if told_at >= since:
            found.append(Preview(incident, "opened", told_at))
        if incident.state == "resolved" and incident.resolved_at is not None and incident.resolved_at >= since:
            found.append(Preview(incident, "resolved", after_quiet_hours(rule, zone, incident.resolved_at)))
    return sorted(found, key=lambda message: message.at)


def digest_due(rule: AlertRule, zone: str, now: datetime) -> tuple[str, int] | None:
    """The key and the number of days of the digest that a rule asks for by now; None where none is due today."""
    local = now.astimezone(zone_of(zone))
    if local.hour < DIGEST_HOUR or rule.digest == "none":
        return None
    if rule.digest == "weekly":
        return (f"{local:%G-W%V}", 7) if local.weekday() == 0 else None
    return f"{local:%Y-%m-%d}", 1


def zone_of(name: str) -> ZoneInfo:
    """The time zone of a team; UTC where this machine does not know it."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")
