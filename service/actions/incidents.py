"""Incidents: seen by whoever belongs to the team, decided on by its members, each decision with a way back."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from cachescope import wording
from cachescope.errors import ConflictError, InvalidValueError, NotFoundError
from cachescope.watching import Watch
from service.auth.permissions import Viewer
from store.models import Incident, Team
from store.models.incidents import ACTIVE_STATES, INCIDENT_STATES
from store.queries import incidents, messages
from store.queries.incidents import Change
from workers import telling

ACTIONS = ("acknowledge", "release", "mute", "unmute", "accept", "refuse", "resolve", "reopen")
LONGEST_MUTE = timedelta(days=366)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What somebody wants to become of an incident."""

    action: str
    muted_until: datetime | None = None
    """For `mute`; None mutes until it is fixed."""
    note: str = ""


def list_incidents(
    session: Session,
    viewer: Viewer,
    team: Team,
    *,
    state: str = "active",
    repository_id: int | None = None,
    before: int | None = None,
    limit: int = 50,
) -> Sequence[Incident]:
    """The incidents of a team: those that are active, dearest first, or those of one state, newest first."""
    if team.id not in viewer.roles:
        raise NotFoundError("There is no such team here, or you do not belong to it.")
    if state not in {"active", "all", *INCIDENT_STATES}:
        raise InvalidValueError(
            "state", f'"{state[:40]}" is no state. Known: active, all, {", ".join(INCIDENT_STATES)}.'
        )
    states = {"active": ACTIVE_STATES, "all": INCIDENT_STATES}.get(state, (state,))
    return incidents.list_incidents(
        session,
        team.id,
        states=states,
        repository_id=viewer.repository_id if viewer.repository_id is not None else repository_id,
        before=before,
        limit=min(limit, 200),
    )


def find_incident(session: Session, viewer: Viewer, incident_id: int) -> Incident:
    """One incident that the viewer may see; raises NotFoundError otherwise."""
    found = incidents.find_incident(session, viewer.team_ids, incident_id)
    if found is None or not viewer.may_see(found.team_id, found.repository_id):
        raise NotFoundError(f"There is no alert {incident_id} here, or you may not see it.")
    return found


@dataclass(frozen=True, slots=True)
class Words:
    """An incident in words, without secrets and not escaped yet."""

    title: str
    """What happened, or what is well again."""
    headline: str
    """What happened, whatever became of it."""
    place: str
    price: str
    advice: str
    severity: str
    instruction: str | None
    victims: tuple[str, ...]
    commit: str | None
    actor: str | None
    evidence: str
    fixed_by: str | None


def in_words(session: Session, incident: Incident) -> Words:
    """What an incident is called, what it costs and what to do."""
    facts = telling.facts_of(session, incident)
    is_over = incident.state == "resolved"
    return Words(
        title=wording.resolved_headline(facts) if is_over else wording.headline(facts),
        headline=wording.headline(facts),
        place=facts.place,
        price=wording.price(facts, is_over=is_over),
        advice=wording.advice(incident.cause),
        severity=wording.severity(incident.seconds_per_day),
        instruction=facts.instruction,
        victims=tuple(facts.victims),
        commit=facts.commit,
        actor=facts.actor,
        evidence=facts.evidence,
        fixed_by=facts.fixed_by,
    )


def possible_actions(incident: Incident) -> list[str]:
    """What can be done with an incident in its present state."""
    match incident.state:
        case "open":
            return ["acknowledge", "mute", "accept", "resolve"]
        case "acknowledged":
            return ["release", "mute", "accept", "resolve"]
        case "muted":
            return ["unmute", "accept", "resolve"]
        case "accepted":
            return ["refuse"]
    return ["reopen"]


def decide(session: Session, viewer: Viewer, incident_id: int, decision: Decision) -> Incident:
    """Do what somebody decided, to an incident and to those that it tells of; writes it into their history."""
    incident = find_incident(session, viewer, incident_id)
    viewer.require(incident.team_id, "member", "decide on alerts")
    if incident.repository_id is not None:  # a build may be about to change it
        incidents.lock(session, incident.repository_id)
        session.refresh(incident, ["state", "muted_until", "owner_id"])
    if decision.action not in ACTIONS:
        raise InvalidValueError("action", f'"{decision.action[:40]}" is no action. Known: {", ".join(ACTIONS)}.')
    if decision.action not in possible_actions(incident):
        raise ConflictError(f"This alert is {incident.state}: it cannot be changed by “{decision.action}” now.")
    now = datetime.now(UTC)
    if decision.muted_until is not None and not now < decision.muted_until <= now + LONGEST_MUTE:
        raise InvalidValueError("until", "An alert can be muted until a time within the next year.")
    note = " ".join(decision.note.split())[:500]
    closed: Change | None = None
    for member in (incident, *incidents.load_children(session, incident.id)):
        if decision.action in possible_actions(member):
            was = member.state
            _apply(session, viewer, member, decision, now)
            incidents.add_event(
                session, member, PAST[decision.action], at=now, user_id=viewer.user_id, actor=viewer.name, note=note
            )
            if decision.action in {"mute", "accept"}:
                messages.cancel_unsent(session, [member.id])
            if decision.action == "resolve" and member is incident:
                closed = Change(incident, "resolved", was)
    session.flush()
    if closed is not None:
        telling.tell(session, [closed])
    return incident


PAST = {
    "acknowledge": "acknowledged",
    "release": "released",
    "mute": "muted",
    "unmute": "unmuted",
    "accept": "accepted",
    "refuse": "refused",
    "resolve": "closed",
    "reopen": "reopened by hand",
}


def _apply(session: Session, viewer: Viewer, incident: Incident, decision: Decision, now: datetime) -> None:
    incident.updated_at = now
    match decision.action:
        case "acknowledge":
            incident.state, incident.owner_id = "acknowledged", viewer.user_id
        case "release":
            incident.state, incident.owner_id = "open", None
        case "mute":
            incident.state, incident.muted_until = "muted", decision.muted_until
        case "unmute":
            incident.state, incident.muted_until = ("acknowledged" if incident.owner_id else "open"), None
        case "accept":
            incident.state, incident.resolved_at = "accepted", now
            _tell_detector(session, incident, "accept", now)
        case "resolve":
            incident.state, incident.resolved_at = "resolved", now
            _tell_detector(session, incident, "close", now)
        case "refuse" | "reopen":
            _take_back(session, incident, now)


def _take_back(session: Session, incident: Incident, now: datetime) -> None:
    """Undo what was accepted or closed; what the detector has acted on since is seen anew when it goes on."""
    was_accepted = incident.state == "accepted"
    if incident.image_id is not None and incident.repository_id is not None:
        incidents.lock(session, incident.repository_id)
        watch = incidents.load_watch(session, incident.image_id) or Watch()
        is_pending = watch.take_back(incident.kind, incident.key)
        if not is_pending and was_accepted:
            watch.decide("refuse", incident.kind, incident.key, now.timestamp())
        elif not is_pending:
            raise ConflictError(
                "Builds have come since this alert was closed: if it is still so, it opens again by itself."
            )
        incidents.save_watch(session, incident.repository_id, incident.image_id, watch)
        if not is_pending:
            # The detector has closed it: it opens this one again as soon as it sees it again.
            incident.state, incident.resolved_at = "resolved", now
            return
    incident.state, incident.resolved_at = ("acknowledged" if incident.owner_id else "open"), None


def _tell_detector(session: Session, incident: Incident, action: str, now: datetime) -> None:
    if incident.image_id is None or incident.repository_id is None:
        return  # a fleet's: its members are told
    incidents.lock(session, incident.repository_id)
    watch = incidents.load_watch(session, incident.image_id) or Watch()
    watch.decide(action, incident.kind, incident.key, now.timestamp())
    incidents.save_watch(session, incident.repository_id, incident.image_id, watch)
