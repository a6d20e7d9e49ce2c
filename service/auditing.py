"""The audit log: who did what, when and from where, written in the transaction of what was done.

Whatever changes who may see something, what is kept, or what leaves, calls `note`. Nothing that is secret goes into it.
"""

from contextvars import ContextVar
from getpass import getuser
from typing import Any

from sqlalchemy.orm import Session

from service.auth.permissions import Viewer
from store.models import AuditEvent, User
from store.queries import accounts

ACTIONS = {
    "team.set-up": "set up the team",
    "team.changed": "changed the team",
    "team.deleted": "deleted a team",
    "repository.deleted": "deleted a repository",
    "build.deleted": "deleted a log with its builds",
    "retention.changed": "changed how long data is kept",
    "exported": "exported",
    "session.opened": "signed in",
    "token.made": "made a token",
    "token.revoked": "revoked a token",
    "source.made": "made a source",
    "source.changed": "changed a source",
    "source.disabled": "switched a source off",
    "channel.made": "added a channel",
    "channel.changed": "changed a channel",
    "channel.deleted": "deleted a channel",
    "rule.saved": "saved a rule",
    "rule.deleted": "deleted a rule",
    "image.followed": "changed how an image is followed",
    "feedback.changed": "changed what forges are told",
    "member.invited": "invited somebody",
    "invitation.withdrawn": "took an invitation back",
    "member.joined": "joined",
    "member.changed": "changed a role",
    "member.removed": "removed somebody",
    "member.left": "left",
    "account.changed": "changed their account",
    "administrator.changed": "changed who looks after the installation",
    "delivery.retried": "tried a delivery again",
    "admin.command": "ran at the server's terminal",
}
"""Everything that is noted, in words."""

address: ContextVar[str | None] = ContextVar("cachescope_address", default=None)
"""Where the request in hand came from; `service.requests` sets it."""


def note(
    session: Session,
    by: Viewer | User | None,
    action: str,
    *,
    team_id: int | None = None,
    target: str = "",
    **details: Any,
) -> None:
    """Add to the audit log what somebody does; None stands for whoever sits at the server's terminal."""
    match by:
        case Viewer():
            actor, user_id = by.email or by.name, by.user_id
        case User():
            actor, user_id = by.email, by.id
        case _:
            actor, user_id = f"{_account()} at the terminal", None
    session.add(
        AuditEvent(
            team_id=team_id,
            action=_known(action),
            actor=actor,
            user_id=user_id,
            address=address.get(),
            target=target[:300],
            details=details,
        )
    )


def note_everywhere(session: Session, user: User, action: str, **details: Any) -> None:
    """Note what a person did with their account in each of their teams, whose owners may want to know."""
    teams: list[int | None] = [team.id for team, _ in accounts.load_memberships(session, user.id) if not team.is_demo]
    for team_id in teams or [None]:
        note(session, user, action, team_id=team_id, target=user.email, **details)


def _known(action: str) -> str:
    if action not in ACTIONS:
        raise ValueError(f"The audit log knows no {action!r}: name it in ACTIONS.")
    return action


def _account() -> str:
    try:
        return getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return "somebody"
