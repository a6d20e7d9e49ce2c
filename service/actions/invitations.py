"""Invitations: a link, sent or handed over, that lets somebody into a team until a day of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from cachescope.errors import (
    ConflictError,
    CredentialsRefusedError,
    ForbiddenError,
    InvalidValueError,
    NotFoundError,
)
from service.actions.accounts import clean_email, clean_name
from service.actions.letters import is_mail_set_up, send_letter
from service.actions.members import check_role
from service.auditing import note
from service.auth.passwords import hash_password
from service.auth.permissions import RANKS, Viewer
from service.auth.tokens import hash_token, make_link_token
from store.models.accounts import SignInLink, Team, User
from store.queries import accounts, teams

INVITATION = "invitation"
MOST_OPEN = 200
LONGEST_DAYS = 60
GONE = "This invitation has been used, taken back or is too old. Ask an owner of the team for a new one."


@dataclass(frozen=True, slots=True, kw_only=True)
class InvitationForm:
    """What an owner fills in."""

    role: str = "member"
    email: str = ""
    """With an address only the account of that address can accept."""
    days: int = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountForm:
    """What somebody fills in who has no account yet."""

    name: str
    email: str
    password: str


def list_invitations(session: Session, viewer: Viewer, team: Team) -> Sequence[tuple[SignInLink, str | None]]:
    """The open invitations of a team with the name of who made each, newest first."""
    viewer.require(team.id, "owner", "see the invitations")
    return accounts.list_invitations(session, team.id, datetime.now(UTC))


def invite(
    session: Session, viewer: Viewer, team: Team, form: InvitationForm, *, base_url: str
) -> tuple[SignInLink, str]:
    """Make an invitation and return it with its link, which is shown this once; it goes out by e-mail where it can."""
    viewer.require(team.id, "owner", "invite people")
    check_role(form.role)
    email = clean_email(form.email) if form.email.strip() else None
    if not 1 <= form.days <= LONGEST_DAYS:
        raise InvalidValueError("days", f"An invitation is good for 1 to {LONGEST_DAYS} days.")
    now = datetime.now(UTC)
    open_now = accounts.list_invitations(session, team.id, now)
    if len(open_now) >= MOST_OPEN:
        raise ConflictError(f"{MOST_OPEN} invitations are open already. Take back those that nobody needs.")
    if email:
        known = accounts.find_user_by_email(session, email)
        if known is not None and teams.find_role(session, team.id, known.id) is not None:
            raise ConflictError(f"{email} belongs to the team already.")
        for link, _ in open_now:
            if link.email == email:
                accounts.delete_invitation(session, team.id, link.id)
    token = make_link_token()
    link = accounts.save_link(
        session,
        token_hash=hash_token(token),
        purpose=INVITATION,
        expires_at=now + timedelta(days=form.days),
        team_id=team.id,
        email=email,
        role=form.role,
        created_by_id=viewer.user_id,
    )
    url = f"{base_url}/invitations/{token}"
    note(session, viewer, "member.invited", team_id=team.id, target=email or "by link", role=form.role)
    if email:
        send_letter(
            session,
            INVITATION,
            email,
            f"{viewer.name} invites you to the team {team.name} on Cachescope",
            (
                "Cachescope shows what the build cache of your container images does, and what breaks it.",
                f"The link works until {link.expires_at:%-d %B %Y}, once. If you do not know who sent it, let it be.",
            ),
            url=url,
            link="Accept the invitation",
            team_id=team.id,
        )
    return link, url


def is_sent(link: SignInLink) -> bool:
    """Whether an invitation goes out by e-mail."""
    return link.email is not None and is_mail_set_up()


def revoke_invitation(session: Session, viewer: Viewer, team: Team, invitation_id: int) -> None:
    """Let an invitation work no more."""
    viewer.require(team.id, "owner", "take invitations back")
    if not (0 < invitation_id < 1 << 62 and accounts.delete_invitation(session, team.id, invitation_id)):
        raise NotFoundError("This team has no such invitation, or it has been accepted already.")
    note(session, viewer, "invitation.withdrawn", team_id=team.id)


def look_at(session: Session, token: str) -> tuple[SignInLink, Team, str | None]:
    """An invitation that still works, its team and who sent it; looking does not use it up.

    Raises CredentialsRefusedError for a link that is unknown, used or too old.
    """
    link = accounts.find_link(session, hash_token(token), INVITATION, datetime.now(UTC))
    if link is None or link.team_id is None:
        raise CredentialsRefusedError(GONE)
    inviter = session.get(User, link.created_by_id) if link.created_by_id is not None else None
    return link, session.get_one(Team, link.team_id), inviter.name if inviter else None


def accept(session: Session, viewer: Viewer, token: str) -> Team:
    """Join a team with the account that is signed in; a role that one has already is never made less."""
    if viewer.user_id is None:
        raise ForbiddenError("Only people accept invitations. Sign in to do this.")
    link, team, _ = look_at(session, token)
    if link.email is not None and link.email != (viewer.email or "").lower():
        raise ForbiddenError(
            f"This invitation is for {link.email}. Sign in with that address, or ask for another link."
        )
    _join(session, token, viewer.user_id)
    return team


def accept_with_account(session: Session, token: str, form: AccountForm) -> tuple[User, Team]:
    """Make an account and join the team; an invitation that names an address makes the account of that address.

    Raises InvalidValueError for a field that cannot be taken; the link stays good, as nothing is committed.
    """
    link, team, _ = look_at(session, token)
    name, email = clean_name("name", form.name), link.email or clean_email(form.email)
    if accounts.find_user_by_email(session, email) is not None:
        raise InvalidValueError("email", f"{email} already has an account. Sign in with it, then open the link again.")
    session.rollback()  # nothing has been written yet, and hashing takes long: others may write meanwhile
    password_hash = hash_password(form.password)
    user = accounts.create_user(session, email=email, name=name, password_hash=password_hash)
    _join(session, token, user.id)
    return user, team


def _join(session: Session, token: str, user_id: int) -> None:
    claimed = accounts.claim_link(session, hash_token(token), INVITATION, datetime.now(UTC))
    if claimed is None or claimed.team_id is None:
        raise CredentialsRefusedError(GONE)
    role = claimed.role or "viewer"
    present = teams.find_role(session, claimed.team_id, user_id)
    if present is None or RANKS[role] > RANKS[present]:
        teams.add_member(session, claimed.team_id, user_id, role)
        note(session, session.get_one(User, user_id), "member.joined", team_id=claimed.team_id, role=role)
