"""What people do with their own account: name, password, address, browsers; and the links that do it for them."""

from collections.abc import Sequence
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
from service.auditing import note_everywhere
from service.auth.passwords import check_new_password, hash_password, is_password_right
from service.auth.permissions import Viewer
from service.auth.tokens import hash_token, make_link_token
from store.models.accounts import Team, Token, User, UserSession
from store.queries import accounts

PASSWORD, EMAIL = "password", "email"  # purposes of links
RESET_HOURS = 2
CONFIRM_HOURS = 24
QUIET = timedelta(minutes=5)
"""Whoever forgot a password gets one letter in so long a time: nobody's mailbox is flooded from our form."""
GONE = "This link has been used or is too old. Ask for a new one."


def find_self(session: Session, viewer: Viewer) -> User:
    """The account of whoever asks; raises ForbiddenError for a token."""
    if viewer.user_id is None:
        raise ForbiddenError("Only people have an account. Sign in to do this.")
    return session.get_one(User, viewer.user_id)


def rename(session: Session, viewer: Viewer, name: str) -> None:
    """Change one's name."""
    find_self(session, viewer).name = clean_name("name", name)


def change_password(session: Session, viewer: Viewer, present: str, new: str) -> None:
    """Change one's password, which ends all other sessions; raises CredentialsRefusedError without the present one.

    Who never had a password gets the first one by a link to their address.
    """
    check_new_password(new)
    password_hash = find_self(session, viewer).password_hash
    if password_hash is None:
        raise ConflictError("Your account has no password yet. Ask for a link on the page “Forgotten password”.")
    _check_password(session, password_hash, present)
    new_hash = hash_password(new)
    user = find_self(session, viewer)
    _set_password(session, user, new_hash, kept_id=viewer.session_id)
    _tell(session, user, "Your password on Cachescope was changed")


def change_email(session: Session, viewer: Viewer, email: str, password: str, *, base_url: str) -> bool:
    """Change one's address: by a link to the new one where mail can be sent, else at once. True when it is changed.

    Where mail is sent, an address that has an account looks like any other here: its owner gets no link.
    """
    user, email = find_self(session, viewer), clean_email(email)
    if email == user.email:
        raise InvalidValueError("email", f"{email} is your address already.")
    if user.password_hash is None:
        # Whoever holds a stolen session could send themselves the link, and then one for a password.
        raise ConflictError("Your address comes from where you sign in. Change it there.")
    _check_password(session, user.password_hash, password)
    user = find_self(session, viewer)
    is_taken = accounts.find_user_by_email(session, email) is not None
    if not is_mail_set_up():
        if is_taken:
            raise InvalidValueError("email", f"{email} has an account already.")
        _set_email(session, user, email)
        return True
    accounts.delete_links_of(session, user.id, EMAIL)
    if not is_taken:
        token = _make_link(session, user, EMAIL, CONFIRM_HOURS, email)
        send_letter(
            session,
            EMAIL,
            email,
            "Confirm your new address on Cachescope",
            (f"{user.name} wants to sign in with {email} from now on.", _until(CONFIRM_HOURS)),
            url=f"{base_url}/account/email/{token}",
            link="This is my address",
            user_id=user.id,
        )
    return False


def confirm_email(session: Session, token: str) -> User:
    """Take over the address that a link was sent to; raises CredentialsRefusedError for a link that does not hold."""
    link = accounts.claim_link(session, hash_token(token), EMAIL, datetime.now(UTC))
    if link is None or link.user_id is None or link.email is None:
        raise CredentialsRefusedError(GONE)
    if accounts.find_user_by_email(session, link.email) is not None:
        raise ConflictError(f"{link.email} has got an account of its own meanwhile.")
    user = session.get_one(User, link.user_id)
    _set_email(session, user, link.email)
    return user


def find_confirmation(session: Session, token: str) -> str:
    """The address that a link confirms; looking does not use it up."""
    link = accounts.find_link(session, hash_token(token), EMAIL, datetime.now(UTC))
    if link is None or link.email is None:
        raise CredentialsRefusedError(GONE)
    return link.email


def make_reset_link(session: Session, email: str) -> str:
    """Make a link for whoever runs the server to hand over; returns its path. Raises NotFoundError."""
    user = accounts.find_user_by_email(session, email)
    if user is None:
        raise NotFoundError(f"Nobody has an account with the address {email[:200]}.")
    return f"/reset/{_make_link(session, user, PASSWORD, RESET_HOURS, None)}"


def send_reset_link(session: Session, email: str, *, base_url: str) -> None:
    """Send a link to whoever forgot a password; does nothing for an unknown address, or when one was sent just now."""
    user = accounts.find_user_by_email(session, email[:300])
    now = datetime.now(UTC)
    if user is None or not is_mail_set_up() or accounts.count_links_since(session, user.id, PASSWORD, now - QUIET):
        return
    token = _make_link(session, user, PASSWORD, RESET_HOURS, None)
    send_letter(
        session,
        PASSWORD,
        user.email,
        "Choose a new password for Cachescope",
        ("Somebody, you we hope, asked for this. If it was not you, let it be: nothing changes.", _until(RESET_HOURS)),
        url=f"{base_url}/reset/{token}",
        link="Choose a new password",
        user_id=user.id,
    )


def find_reset(session: Session, token: str) -> User:
    """Whose password a link changes; looking does not use it up. Raises CredentialsRefusedError."""
    link = accounts.find_link(session, hash_token(token), PASSWORD, datetime.now(UTC))
    if link is None or link.user_id is None:
        raise CredentialsRefusedError(GONE)
    return session.get_one(User, link.user_id)


def reset_password(session: Session, token: str, new: str) -> User:
    """Set a password by a link and end every session; the other links of the account work no more."""
    check_new_password(new)
    find_reset(session, token)
    session.rollback()  # as in `_check_password`
    new_hash = hash_password(new)
    link = accounts.claim_link(session, hash_token(token), PASSWORD, datetime.now(UTC))
    if link is None or link.user_id is None:
        raise CredentialsRefusedError(GONE)
    user = session.get_one(User, link.user_id)
    _set_password(session, user, new_hash, kept_id=None)
    _tell(session, user, "Your password on Cachescope was set anew")
    return user


def list_sessions(session: Session, viewer: Viewer) -> Sequence[UserSession]:
    """The browsers in which one is signed in, the last seen first."""
    return accounts.load_sessions(session, find_self(session, viewer).id, datetime.now(UTC))


def end_session(session: Session, viewer: Viewer, session_id: int) -> None:
    """Sign one of one's browsers out."""
    user = find_self(session, viewer)
    if not (0 < session_id < 1 << 62 and accounts.delete_session_of(session, user.id, session_id)):
        raise NotFoundError("You are signed in in no such browser; the session may have ended already.")


def end_other_sessions(session: Session, viewer: Viewer) -> int:
    """Sign all browsers out but this one; returns how many those were."""
    return accounts.delete_sessions(session, find_self(session, viewer).id, viewer.session_id)


def list_tokens(session: Session, viewer: Viewer) -> Sequence[tuple[Token, Team]]:
    """The working tokens that one made, in the teams that one still belongs to."""
    made = accounts.list_tokens_made_by(session, find_self(session, viewer).id)
    return [(token, team) for token, team in made if team.id in viewer.roles]


def _check_password(session: Session, password_hash: str, password: str) -> None:
    # Nothing has been written yet, and a comparison takes long: on SQLite nobody else could write meanwhile.
    session.rollback()
    if not is_password_right(password_hash, password):
        raise CredentialsRefusedError("That is not your present password.")


def _set_password(session: Session, user: User, new_hash: str, *, kept_id: int | None) -> None:
    user.password_hash = new_hash
    note_everywhere(session, user, "account.changed", what="password")
    accounts.delete_links_of(session, user.id, PASSWORD, EMAIL)
    accounts.delete_sessions(session, user.id, kept_id)


def _set_email(session: Session, user: User, email: str) -> None:
    former, user.email = user.email, email
    note_everywhere(session, user, "account.changed", what="address", former=former)
    accounts.delete_links_of(session, user.id, PASSWORD, EMAIL)
    session.flush()
    _tell(session, user, f"Your account on Cachescope has the address {email} from now on", recipient=former)


def _make_link(session: Session, user: User, purpose: str, hours: int, email: str | None) -> str:
    token = make_link_token()
    accounts.save_link(
        session,
        token_hash=hash_token(token),
        purpose=purpose,
        expires_at=datetime.now(UTC) + timedelta(hours=hours),
        user_id=user.id,
        email=email,
    )
    return token


def _tell(session: Session, user: User, what: str, *, recipient: str | None = None) -> None:
    lines = ("If it was not you, ask whoever runs the server for help at once.",)
    send_letter(session, "notice", recipient or user.email, what, lines, url="", link="", user_id=user.id)


def _until(hours: int) -> str:
    return f"The link works for {hours} hours, once."
