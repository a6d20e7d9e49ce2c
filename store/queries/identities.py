"""Identities at other providers, the roles that their groups give, and the sessions that they opened."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from store.models.accounts import Membership, User, UserSession
from store.models.identities import GroupRole, Identity, SessionIdentity, UsedState
from store.queries import teams
from store.types import utc_now

_RANKS = ("viewer", "member", "owner")


def find_identity(session: Session, issuer: str, subject: str) -> tuple[Identity, User] | None:
    """The identity of an issuer and the account that it signs in to."""
    row = session.execute(
        select(Identity, User)
        .join(User, User.id == Identity.user_id)
        .where(Identity.issuer == issuer, Identity.subject == subject)
    ).one_or_none()
    return (row[0], row[1]) if row else None


def list_identities(session: Session, user_id: int) -> Sequence[Identity]:
    """The identities that sign in to an account, the last used first."""
    return session.scalars(
        select(Identity).where(Identity.user_id == user_id).order_by(Identity.last_used_at.desc(), Identity.id)
    ).all()


def save_identity(session: Session, *, user_id: int, issuer: str, subject: str, email: str) -> Identity:
    """Tie an identity to an account."""
    identity = Identity(user_id=user_id, issuer=issuer, subject=subject, email=email)
    session.add(identity)
    session.flush()
    return identity


@dataclass(frozen=True, slots=True)
class RoleChange:
    """What groups changed about a membership; None where there was or is none."""

    team_id: int
    before: str | None
    after: str | None


def set_group_roles(session: Session, identity: Identity, wanted: Mapping[int, str]) -> list[RoleChange]:
    """Give the person what their groups give now, and take what only their groups gave before; returns what changed.

    The strongest role counts: of those that an owner gave by hand and those of each identity's groups.
    """
    changes = []
    rows = session.scalars(
        select(GroupRole)
        .join(Identity, Identity.id == GroupRole.identity_id)
        .where(Identity.user_id == identity.user_id)
        .order_by(GroupRole.team_id, GroupRole.identity_id)
    ).all()
    own = {row.team_id: row for row in rows if row.identity_id == identity.id}
    for team_id in sorted({*wanted, *own}):
        others = [row for row in rows if row.team_id == team_id and row.identity_id != identity.id]
        before = [*others, own[team_id]] if team_id in own else others
        hand = _hand_role(session, team_id, identity.user_id, before)
        present = teams.find_role(session, team_id, identity.user_id)
        roles = [row.role for row in others]
        if team_id in wanted:
            roles.append(wanted[team_id])
            row = own.get(team_id)
            if row is None:
                row = GroupRole(identity_id=identity.id, team_id=team_id)
                session.add(row)
            row.role = wanted[team_id]
            for known in [*others, row]:
                known.hand_role = hand
        else:
            session.delete(own[team_id])
        if hand is not None:
            roles.append(hand)
        role = max(roles, key=_RANKS.index) if roles else None
        if role == present:
            continue
        if role is not None:
            teams.add_member(session, team_id, identity.user_id, role)
        else:
            teams.remove_member(session, team_id, identity.user_id)
        changes.append(RoleChange(team_id, present, role))
    session.flush()
    return changes


def _hand_role(session: Session, team_id: int, user_id: int, rows: list[GroupRole]) -> str | None:
    """The role that an owner gave: whatever the membership says that neither groups nor their last word explain."""
    member = session.get(Membership, (team_id, user_id))
    if member is None:
        return None
    if not rows:
        return member.role
    known = [row.role for row in rows] + [row.hand_role for row in rows if row.hand_role is not None]
    return rows[0].hand_role if member.role == max(known, key=_RANKS.index) else member.role


def remember_session(
    session: Session, token_hash: str, identity: Identity, *, provider: str, id_token: str | None, expires_at: datetime
) -> None:
    """Note by which identity a session began, and let it end when sessions of providers do."""
    opened = session.scalars(select(UserSession).where(UserSession.token_hash == token_hash)).one()
    opened.expires_at = min(opened.expires_at, expires_at)
    session.add(SessionIdentity(session_id=opened.id, identity_id=identity.id, provider=provider, id_token=id_token))
    session.flush()


def find_session_identity(session: Session, token_hash: str) -> SessionIdentity | None:
    """How a session began, where that was at a provider."""
    return session.scalar(
        select(SessionIdentity)
        .join(UserSession, UserSession.id == SessionIdentity.session_id)
        .where(UserSession.token_hash == token_hash)
    )


def use_state(session: Session, state_hash: str, expires_at: datetime) -> bool:
    """Use up a way to a provider and back; False when it was used before."""
    session.execute(delete(UsedState).where(UsedState.expires_at <= utc_now()))
    try:
        with session.begin_nested():
            session.execute(insert(UsedState).values(state_hash=state_hash, expires_at=expires_at))
    except IntegrityError:
        return False
    return True
