"""Who belongs to a team and as what: roles changed, people removed, teams left and founded."""

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from cachescope.errors import ConflictError, ForbiddenError, InvalidValueError, NotFoundError
from service.actions.accounts import clean_name, make_slug
from service.auditing import note
from service.auth.permissions import Viewer
from store.models.accounts import ROLES, Team, User
from store.queries import accounts, teams

MOST_TEAMS = 100
"""That one person may own."""
LAST_OWNER = "{name} is the last owner. Make somebody else an owner first."


def list_members(session: Session, viewer: Viewer, team: Team) -> Sequence[tuple[User, str]]:
    """The people of a team with their roles, by name; a token of one repository does not see them."""
    viewer.require(team.id, "viewer", "see the members")
    return accounts.load_members(session, team.id)


def check_role(role: str) -> str:
    """Return the role; raises InvalidValueError where there is no such role."""
    if role not in ROLES:
        raise InvalidValueError("role", f'The role is "{role[:40]}"; it must be one of {", ".join(ROLES)}.')
    return role


def change_role(session: Session, viewer: Viewer, team: Team, user_id: int, role: str) -> User:
    """Change what a member may do; raises ConflictError for the last owner, NotFoundError for a stranger."""
    viewer.require(team.id, "owner", "change roles")
    owners = teams.lock_owners(session, team.id)
    user = _find_member(session, team, user_id)
    check_role(role)
    if role != "owner":
        _keep_an_owner(owners, user)
        accounts.delete_invitations_by(session, team.id, user.id)
    teams.add_member(session, team.id, user.id, role)
    note(session, viewer, "member.changed", team_id=team.id, target=user.email, role=role)
    return user


def remove_member(session: Session, viewer: Viewer, team: Team, user_id: int) -> User:
    """Take a member out of a team, or leave it oneself; it is over at once.

    What they could read the team with ends too: the read tokens that they made and, unless they leave by themselves,
    every browser in which they are signed in. Invitations that they sent are taken back. Raises ConflictError for the
    last owner.
    """
    is_leaving = viewer.user_id is not None and viewer.user_id == user_id
    if is_leaving:
        viewer.require(team.id, "viewer", "leave the team")
    else:
        viewer.require(team.id, "owner", "remove members")
    owners = teams.lock_owners(session, team.id)
    user = _find_member(session, team, user_id)
    _keep_an_owner(owners, user)
    teams.remove_member(session, team.id, user.id)
    accounts.revoke_tokens_made_by(session, team.id, user.id, datetime.now(UTC))
    accounts.delete_invitations_by(session, team.id, user.id)
    if not is_leaving:
        accounts.delete_sessions(session, user.id)
    action = "member.left" if is_leaving else "member.removed"
    note(session, viewer, action, team_id=team.id, target=user.email)
    return user


def found_team(session: Session, viewer: Viewer, name: str) -> Team:
    """Make a new team that the viewer owns. Raises InvalidValueError for a name that cannot be taken."""
    if viewer.user_id is None:
        raise ForbiddenError("Only people found teams. Sign in to do this.")
    name = clean_name("name", name)
    if teams.count_owned(session, viewer.user_id) >= MOST_TEAMS:
        raise ConflictError(f"You own {MOST_TEAMS} teams already. Leave one that is not used, or hand it on.")
    slug = make_slug(name)
    for number in range(1, 1000):
        candidate = slug if number == 1 else f"{slug}-{number}"
        if accounts.find_team_by_slug(session, candidate) is None:
            team = teams.create_team(session, slug=candidate, name=name)
            teams.add_member(session, team.id, viewer.user_id, "owner")
            note(session, viewer, "team.set-up", team_id=team.id, target=name)
            return team
    raise InvalidValueError("name", f'There are too many teams named "{name}" already. Choose another name.')


def _find_member(session: Session, team: Team, user_id: int) -> User:
    user = session.get(User, user_id) if 0 < user_id < 1 << 62 else None
    if user is None or teams.find_role(session, team.id, user_id) is None:
        raise NotFoundError(f"The team has no member {user_id}.")
    return user


def _keep_an_owner(owners: Sequence[int], user: User) -> None:
    if list(owners) == [user.id]:
        raise ConflictError(LAST_OWNER.format(name=user.name))
