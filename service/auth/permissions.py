"""Who is asking, and what that lets them do: everything is asked of a team, and teams do not see each other."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cachescope.errors import ForbiddenError, NotFoundError

RANKS = {"viewer": 0, "member": 1, "owner": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """Somebody who has proven who they are: a person with their teams, or a read token with its one team."""

    name: str
    roles: Mapping[int, str] = field(default_factory=dict)
    """Team id → role."""
    user_id: int | None = None
    email: str | None = None
    session_id: int | None = None
    is_administrator: bool = False
    """Looks after the installation."""
    repository_id: int | None = None
    """Set for a token of one repository: nothing else of the team exists for it."""

    @property
    def team_ids(self) -> list[int]:
        """The teams that this viewer may see."""
        return sorted(self.roles)

    def may_see(self, team_id: int, repository_id: int | None = None) -> bool:
        """Whether a team's or a repository's things exist for this viewer."""
        return team_id in self.roles and self.repository_id in {None, repository_id}

    def may(self, team_id: int, role: str) -> bool:
        """Whether the viewer's role in a team is at least this one."""
        return (
            self.repository_id is None
            and RANKS[self.roles.get(team_id, "viewer")] >= RANKS[role]
            and team_id in self.roles
        )

    def require(self, team_id: int, role: str, doing: str) -> None:
        """Raise NotFoundError outside the team, ForbiddenError below the role; `doing` completes the sentence."""
        if team_id not in self.roles:
            raise NotFoundError("There is no such team here, or you do not belong to it.")
        if not self.may(team_id, role):
            raise ForbiddenError(f"Only a team's {role} may {doing}. Ask an owner of your team.")
