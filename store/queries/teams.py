"""Teams and who belongs to them."""

from collections.abc import Sequence

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from store.models import Membership, Team
from store.queries.repositories import delete_repository, list_repositories


def create_team(session: Session, *, slug: str, name: str, is_demo: bool = False, time_zone: str = "UTC") -> Team:
    """Add a team; raises sqlalchemy.exc.IntegrityError when the slug is taken."""
    team = Team(slug=slug, name=name, is_demo=is_demo, time_zone=time_zone)
    session.add(team)
    session.flush()
    return team


def find_demo(session: Session) -> Team | None:
    """The team that the demo filled, where there is one."""
    return session.scalar(select(Team).where(Team.is_demo).order_by(Team.id).limit(1))


def list_teams(session: Session, team_ids: Sequence[int]) -> Sequence[Team]:
    """Some teams by name."""
    return session.scalars(select(Team).where(Team.id.in_(team_ids)).order_by(Team.name, Team.id)).all()


def list_teams_without_members(session: Session) -> Sequence[Team]:
    """The teams that nobody belongs to, the demo's apart."""
    belongs = select(Membership.user_id).where(Membership.team_id == Team.id)
    return session.scalars(
        select(Team).where(~Team.is_demo, Team.deleted_at.is_(None), ~belongs.exists()).order_by(Team.id)
    ).all()


def add_member(session: Session, team_id: int, user_id: int, role: str) -> None:
    """Let a person into a team, or change their role."""
    member = session.get(Membership, (team_id, user_id))
    if member is None:
        session.add(Membership(team_id=team_id, user_id=user_id, role=role))
    else:
        member.role = role
    session.flush()


def remove_member(session: Session, team_id: int, user_id: int) -> bool:
    """Take a person out of a team; False when they were not in it."""
    member = session.get(Membership, (team_id, user_id))
    if member is None:
        return False
    session.delete(member)
    session.flush()
    return True


def lock_owners(session: Session, team_id: int) -> Sequence[int]:
    """The ids of a team's owners, in order; until the transaction ends nobody else can change who they are."""
    statement = (
        select(Membership.user_id)
        .where(Membership.team_id == team_id, Membership.role == "owner")
        .order_by(Membership.user_id)
        .with_for_update()
    )
    return session.scalars(statement).all()


def count_owned(session: Session, user_id: int) -> int:
    """How many teams a person owns."""
    statement = select(func.count()).where(Membership.user_id == user_id, Membership.role == "owner")
    return session.scalar(statement) or 0


def find_role(session: Session, team_id: int, user_id: int) -> str | None:
    """The role of a person in a team; None when they are not in it."""
    return session.scalar(select(Membership.role).where(Membership.team_id == team_id, Membership.user_id == user_id))


def set_time_zone(session: Session, team_id: int, time_zone: str) -> None:
    """Change the zone in which a team's pages show times."""
    session.execute(update(Team).where(Team.id == team_id).values(time_zone=time_zone))


def delete_team(session: Session, team: Team) -> None:
    """Delete a team with everything it owns; raw logs that nobody else refers to are left for housekeeping."""
    for repository in list_repositories(session, team.id):
        delete_repository(session, repository)
    session.delete(team)
    session.flush()
