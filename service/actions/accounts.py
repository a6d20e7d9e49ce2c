"""Becoming the owner through the one-time link, signing in and signing out."""

import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from cachescope.errors import CredentialsRefusedError, InvalidValueError
from service.auditing import note
from service.auth.passwords import compare, hash_password, needs_new_hash
from service.auth.tokens import hash_token, make_link_token
from store.models.accounts import Team, User
from store.queries import accounts, teams

SETUP = "setup"
REFUSED = "This e-mail address and this password do not belong together."

_EMAIL = re.compile(r"[^@\s\x00-\x1f\x7f]{1,64}@[^@\s\x00-\x1f\x7f]{1,190}\Z")
_NOT_IN_SLUGS = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerForm:
    """What the first owner fills in."""

    name: str
    email: str
    password: str
    team: str


def create_setup_link(session: Session, *, hours: int = 72) -> str:
    """Make a one-time link for an owner account and return its path, `/setup/<secret>`."""
    token = make_link_token()
    accounts.save_link(
        session,
        token_hash=hash_token(token),
        purpose=SETUP,
        expires_at=datetime.now(UTC) + timedelta(hours=hours),
    )
    return f"/setup/{token}"


def is_setup_link_valid(session: Session, token: str) -> bool:
    """Whether a one-time link still works; looking does not use it up."""
    return accounts.find_link(session, hash_token(token), SETUP, datetime.now(UTC)) is not None


def set_up_owner(session: Session, token: str, form: OwnerForm) -> tuple[User, Team]:
    """Use the one-time link: make the account and its team, or take over the only team that waits for an owner.

    Raises InvalidValueError for a field that cannot be taken (the link stays good, as nothing is committed) and
    CredentialsRefusedError for a link that is unknown, used or too old.
    """
    name, email, team_name = clean_name("name", form.name), clean_email(form.email), clean_name("team", form.team)
    if accounts.find_user_by_email(session, email) is not None:
        raise InvalidValueError("email", f"{email} already has an account. Sign in with it.")
    password_hash = hash_password(form.password)
    if accounts.claim_link(session, hash_token(token), SETUP, datetime.now(UTC)) is None:
        raise CredentialsRefusedError(
            "This link has been used or is too old. Make a new one with `cachescope admin owner-link`."
        )
    is_first = accounts.count_users(session) == 0
    user = accounts.create_user(session, email=email, name=name, password_hash=password_hash)
    user.is_administrator = is_first
    team = _adopt_team(session, team_name) or create_team(session, team_name)
    teams.add_member(session, team.id, user.id, "owner")
    note(session, user, "team.set-up", team_id=team.id, target=team.name)
    if demo := teams.find_demo(session):
        teams.add_member(session, demo.id, user.id, "viewer")
    return user, team


def waiting_team(session: Session) -> Team | None:
    """The only team that nobody owns yet; None where there is none or where there are several.

    Logs that were sent before anybody had an account lie in it.
    """
    found = teams.list_teams_without_members(session)
    return found[0] if len(found) == 1 else None


def _adopt_team(session: Session, name: str) -> Team | None:
    """Give the team that waits for an owner the name that its owner chose; its address stays."""
    if (team := waiting_team(session)) is not None:
        team.name = name
    return team


def create_team(session: Session, name: str) -> Team:
    """Return the team of this name that nobody owns yet, else a new one under a free slug.

    The first start makes a team and an upload token before anybody has an account: its owner finds the logs that
    were sent meanwhile.
    """
    slug = make_slug(name)
    for number in range(1, 1000):
        candidate = slug if number == 1 else f"{slug}-{number}"
        found = accounts.find_team_by_slug(session, candidate)
        if found is None:
            return teams.create_team(session, slug=candidate, name=name)
        if not found.is_demo and not accounts.load_members(session, found.id):
            found.name = name
            return found
    raise InvalidValueError("team", f'There are too many teams named "{name}" already. Choose another name.')


def make_slug(name: str) -> str:
    """Turn a name into what stands in addresses: lower case letters, digits and hyphens."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return _NOT_IN_SLUGS.sub("-", plain).strip("-")[:60] or "team"


def sign_in(session: Session, email: str, password: str) -> User:
    """Return the user whose password this is.

    Raises CredentialsRefusedError, which does not say whether the address or the password is wrong.
    """
    password_hash = find_password(session, email)
    # Nothing has been written yet, and a comparison takes long: on SQLite nobody else could write meanwhile.
    session.rollback()
    is_right = compare(password_hash, password, is_known=False).result()
    return welcome(session, email, password, password_hash, is_right=is_right)


def find_password(session: Session, email: str) -> str | None:
    """The hash to compare with; None for an address that nobody can sign in with."""
    user = accounts.find_user_by_email(session, email[:300])
    return user.password_hash if user else None


def welcome(session: Session, email: str, password: str, compared_with: str | None, *, is_right: bool) -> User:
    """Return whose password was compared; raises CredentialsRefusedError where it was wrong or was changed since."""
    user = accounts.find_user_by_email(session, email[:300]) if is_right and compared_with else None
    if user is None or user.password_hash != compared_with or user.password_hash is None:
        raise CredentialsRefusedError(REFUSED)
    if needs_new_hash(user.password_hash):
        user.password_hash = hash_password(password)
    return user


def clean_email(text: str) -> str:
    """Return an e-mail address in lower case; raises InvalidValueError for anything else."""
    email = text.strip().lower()
    if not _EMAIL.match(email):
        raise InvalidValueError("email", f'"{text[:80]}" is not an e-mail address.')
    return email


def clean_name(field: str, value: str) -> str:
    """Return a name on one line; raises InvalidValueError when nothing is left of it or it is too long."""
    text = " ".join(value.split())
    if not 1 <= len(text) <= 100 or not text.isprintable():
        raise InvalidValueError(field, f"The {field} must have 1 to 100 printable characters.")
    return text
