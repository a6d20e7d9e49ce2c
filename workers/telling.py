"""Turns what became of incidents into messages: written in the same transaction, sent later by the task `notify`.

Whoever is told that something got worse is told once when it is well again, and reminded once at most.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from cachescope import wording
from cachescope.redaction import redact_text
from cachescope.wording import IncidentFacts
from integrations.channels.base import Notice
from store.database import after_commit, reading, transaction
from store.models import AlertRule, Image, Incident, Repository, Team
from store.models.incidents import ACTIVE_STATES
from store.queries import channels, incidents, messages
from store.queries.deliveries import make_id
from store.queries.incidents import Change
from store.queries.overview import TeamOverview, load_overview
from workers.routing import after_quiet_hours, digest_due, is_told
from workers.settings import get_settings
from workers.tasks.notifying import hand_on

FLEET_HOLD = timedelta(minutes=3)
"""What a fleet may share waits for so long, so that forty repositories make one message."""
NO_NEWS = timedelta(days=2)
"""What became sure longer ago makes no message: the history of a repository may be sent at any time."""
_MOST_LINES = 5


def tell(session: Session, changes: Iterable[Change]) -> None:
    """Write the messages that changes of incidents call for, by the rules of their teams."""
    now = datetime.now(UTC)
    for change in changes:
        incident = change.incident
        teller = incidents.teller_of(session, incident)
        if teller is not incident:
            incidents.sum_up(session, teller)
        match change.what:
            case "opened" | "reopened" | "unchanged":  # which may have become dear enough only now
                if teller is not incident:
                    _take_back(session, teller)
                tell_opened(session, teller, now)
            case "resolved" | "withdrawn":
                _resolve(session, incident, teller, change, now)


def tell_opened(session: Session, incident: Incident, now: datetime) -> None:
    """Tell of an incident that nobody has decided on yet, unless that was done."""
    if incident.state != "open" or now - incident.opened_at > NO_NEWS:
        return
    team = session.get_one(Team, incident.team_id)
    kind = "reopened" if incident.reopened else "opened"
    for rule in channels.list_rules(session, team.id):
        if rule.channel.disabled_at is not None or not is_told(rule, incident) or rule.created_at > incident.created_at:
            continue
        held = now + FLEET_HOLD if incident.fleet_key and incident.repository_id is not None else now
        _write(
            session,
            incident,
            kind,
            channel_id=rule.channel_id,
            key=f"opened:{incident.id}:{incident.reopened}",
            next_at=after_quiet_hours(rule, team.time_zone, held),
        )


def _take_back(session: Session, fleet: Incident) -> None:
    """Let the incident of a fleet speak for its members that have not been told of yet."""
    if fleet.repository_id is None:
        messages.cancel_unsent(session, [child.id for child in incidents.load_children(session, fleet.id)])


def _resolve(session: Session, incident: Incident, teller: Incident, change: Change, now: datetime) -> None:
    members = [teller, *incidents.load_children(session, teller.id)]
    if teller.repository_id is None:
        active = [member for member in members[1:] if member.state in ACTIVE_STATES]
        if not active and teller.state in ACTIVE_STATES:
            teller.state, teller.resolved_at = "resolved", incident.resolved_at
            incidents.add_event(session, teller, "resolved", at=incident.resolved_at)
    if any(member.state in ACTIVE_STATES for member in members):
        return
    messages.cancel_unsent(session, [member.id for member in members])
    if change.was == "muted":
        return
    rules: dict[str, AlertRule] = {rule.channel_id: rule for rule in channels.list_rules(session, teller.team_id)}
    zone = session.get_one(Team, teller.team_id).time_zone
    for channel_id in messages.list_told_channels(session, teller.id):
        rule = rules.get(channel_id)
        _write(
            session,
            teller,
            "resolved",
            channel_id=channel_id,
            key=f"resolved:{teller.id}:{teller.reopened}",
            next_at=after_quiet_hours(rule, zone, now) if rule is not None else now,
            note=change.note,
        )


def remind(opened_before: datetime, now: datetime) -> None:
    """Remind once of what nobody has taken up."""
    with reading() as session:
        if not channels.list_to_remind(session, opened_before, 1):
            return
    with transaction() as session:
        for incident in channels.list_to_remind(session, opened_before):
            reminding = {
                rule.channel_id: rule for rule in channels.list_rules(session, incident.team_id) if rule.reminds
            }
            zone = session.get_one(Team, incident.team_id).time_zone
            for channel_id in messages.list_told_channels(session, incident.id):
                if rule := reminding.get(channel_id):
                    _write(
                        session,
                        incident,
                        "reminder",
                        channel_id=channel_id,
                        key=f"reminder:{incident.id}",
                        next_at=after_quiet_hours(rule, zone, now),
                    )


def _write(
    session: Session, incident: Incident, kind: str, *, channel_id: str, key: str, next_at: datetime, note: str = ""
) -> None:
    message_id = make_id()
    notice = notice_of(session, incident, kind, message_id, note)
    written = messages.write(
        session,
        team_id=incident.team_id,
        channel_id=channel_id,
        incident_id=incident.id,
        kind=kind,
        dedupe_key=key,
        notice=notice.as_document(),
        next_at=next_at,
        message_id=message_id,
    )
    if written:
        hint(session)


def hint(session: Session) -> None:
    """Wake a sender once the transaction is over; without a queue the scheduler sends."""
    after_commit(session, hand_on)


def facts_of(session: Session, incident: Incident) -> IncidentFacts:
    """What the wording of an incident needs, without a secret."""
    return IncidentFacts(
        place=_place(session, incident),
        kind=incident.kind,
        key=clean(incident.key),
        cause=incident.cause,
        instruction=clean(incident.instruction) if incident.instruction else None,
        commit=clean(incident.commit_id) if incident.commit_id else None,
        actor=clean(incident.actor) if incident.actor else None,
        victims=[clean(victim["text"]) for victim in incident.victims],
        seconds_per_build=incident.seconds_per_build,
        builds_per_day=incident.builds_per_day,
        seconds_per_day=incident.seconds_per_day,
        evidence=clean(incident.evidence),
        fixed_by=clean(incident.fixed_by) if incident.fixed_by else None,
    )


def clean(text: str) -> str:
    """A text from outside without secrets and without what cannot be seen."""
    return redact_text("".join(letter if letter.isprintable() else " " for letter in text))


def _place(session: Session, incident: Incident) -> str:
    if incident.repository_id is None:
        children = incidents.load_children(session, incident.id)
        return f"{len({child.repository_id for child in children})} repositories"
    repository = session.get_one(Repository, incident.repository_id)
    image = session.get(Image, incident.image_id) if incident.image_id is not None else None
    if image is None or image.name in {repository.name, ""}:
        return wording.cut(clean(repository.name), 100)
    return wording.cut(clean(f"{repository.name} ({image.name})"), 120)


def notice_of(session: Session, incident: Incident, kind: str, message_id: str, note: str = "") -> Notice:
    """What a message about an incident says."""
    facts = facts_of(session, incident)
    is_over = kind == "resolved"
    title = wording.resolved_headline(facts) if is_over else wording.headline(facts)
    if kind == "reminder":
        title = f"Still so: {title}"
    if kind == "reopened":
        title = f"Again: {title}"
    cost = wording.price(facts)
    lines = (
        (note or f"It had been so since {incident.opened_at:%Y-%m-%d %H:%M} UTC.",)
        if is_over
        else (cost, wording.advice(incident.cause))
    )
    return Notice(
        id=message_id,
        kind=kind,
        title=title,
        lines=lines,
        url=f"{address()}/alerts/{incident.id}",
        severity=wording.severity(incident.seconds_per_day),
        subject=f"incident-{incident.id}",
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        document=_document(facts, incident),
    )


def _document(facts: IncidentFacts, incident: Incident) -> dict[str, Any]:
    return {
        "incident": incident.id,
        "state": incident.state,
        "repository": facts.place,
        "kind": incident.kind.replace("_", "-"),
        "metric": incident.metric,
        "cause": incident.cause,
        "instruction": facts.instruction,
        "commit": facts.commit,
        "actor": facts.actor,
        "victims": list(facts.victims),
        "seconds_per_build": round(incident.seconds_per_build, 3),
        "seconds_per_day": round(incident.seconds_per_day, 1),
        "confidence": incident.confidence,
        "fixed_by": facts.fixed_by,
        "opened_at": incident.opened_at.isoformat(),
        "resolved_at": incident.resolved_at.isoformat() if incident.resolved_at else None,
    }


def address() -> str:
    """Where people reach the service."""
    return (get_settings().public_url or "http://localhost:8000").rstrip("/")


def trial_notice(team: Team, channel_name: str, message_id: str) -> Notice:
    """What the button “send a test” sends."""
    return Notice(
        id=message_id,
        kind="test",
        title=f"Cachescope reaches {wording.cut(channel_name, 60)}",
        lines=("This is a test: nothing got slower.", "Alerts of the team come to this place by its rules."),
        url=f"{address()}/teams/{team.slug}/channels",
        link="Open the channels",
        subject=f"test-{message_id}",
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        document={"repository": None},
    )


def write_digests(now: datetime) -> None:
    """Write the digests that are due; each is written once, however often this is called."""
    with reading() as session:
        due = []
        for rule in channels.list_digest_rules(session):
            team = session.get_one(Team, rule.team_id)
            found = digest_due(rule, team.time_zone, now)
            if found and rule.channel.disabled_at is None and rule.created_at < now - timedelta(days=1):
                due.append((rule.id, rule.team_id, *found))
    for rule_id, team_id, key, days in due:
        with transaction() as session:
            asking = channels.find_rule(session, team_id, rule_id)
            if asking is not None:
                _write_digest(session, asking, key, days, now)


def _write_digest(session: Session, rule: AlertRule, key: str, days: int, now: datetime) -> None:
    team = session.get_one(Team, rule.team_id)
    message_id = make_id()
    last = (now - timedelta(days=1)).date()
    overview = load_overview(session, team.id, last - timedelta(days=days - 1), last, repository_id=rule.repository_id)
    active = incidents.list_incidents(session, team.id, repository_id=rule.repository_id, limit=_MOST_LINES)
    notice = digest_notice(session, team, overview, active, days=days, message_id=message_id)
    messages.write(
        session,
        team_id=team.id,
        channel_id=rule.channel_id,
        kind="digest",
        dedupe_key=f"digest:{rule.id}:{key}",
        notice=notice.as_document(),
        next_at=now,
        message_id=message_id,
    )
    hint(session)


def digest_notice(
    session: Session, team: Team, overview: TeamOverview, active: Sequence[Incident], *, days: int, message_id: str
) -> Notice:
    """What was lost, what was saved, what to do first."""
    span = "day" if days == 1 else f"{days} days"
    period, before = overview.period, overview.previous
    lost = period.lost_seconds or 0.0
    saved = period.seconds_avoided or 0.0
    lines = [f"Served from cache: {wording.duration(saved)} of work avoided. Lost to misses: {wording.duration(lost)}."]
    if period.cache_efficiency is not None and before.cache_efficiency is not None:
        points = round(period.cache_efficiency * 100) - round(before.cache_efficiency * 100)
        word = "better" if points > 0 else "worse"
        if abs(points) >= 2:
            lines.append(f"Cache efficiency {period.cache_efficiency:.0%}: {abs(points)} points {word} than before.")
    if active:
        lines.append("To do first:")
        lines += [f"– {wording.headline(facts_of(session, incident))}" for incident in active]
    else:
        lines.append("No alert is open.")
    return Notice(
        id=message_id,
        kind="digest",
        title=f"{clean(team.name)}, the last {span}: {wording.duration(lost)} lost",
        lines=tuple(lines),
        url=f"{address()}/teams/{team.slug}/alerts",
        link="Open the alerts",
        subject=f"digest-{message_id}",
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        document={"repository": None, "days": days, "lost_seconds": round(lost, 1), "saved_seconds": round(saved, 1)},
    )
