"""Letting somebody in whom a provider vouches for: their account, and the roles that their groups give."""

import re
from collections.abc import Sequence

import structlog
from sqlalchemy.orm import Session

from cachescope.errors import CredentialsRefusedError
from integrations.identity.base import Person
from service.auditing import note
from service.auth.providers import ProviderSettings
from store.models.accounts import User
from store.models.identities import Identity
from store.queries import accounts, identities, teams
from store.types import utc_now

logger = structlog.get_logger(__name__)

_EMAIL = re.compile(r"[^@\s\x00-\x1f\x7f]{1,64}@[^@\s\x00-\x1f\x7f]{1,190}\Z")


NOT_YOURS = "None of your groups may use this Cachescope. Ask who runs it to add you to one, then sign in again."


def admit(session: Session, settings: ProviderSettings, person: Person) -> Identity | None:
    """Return the identity of a person, with account and roles brought up to date; None where groups let nobody in.

    An identity that is known signs in to its account whatever its address has become. A new one needs an address that
    the provider has verified: it is tied to the account with that address, or makes one, as the settings allow.
    Raises CredentialsRefusedError, a sentence for the person.
    """
    email = person.email.strip().lower()
    roles = settings.roles_of(person.groups)
    known = identities.find_identity(session, person.issuer, person.subject)
    if settings.admits_mapped and not roles:
        if known is not None:
            _change_roles(session, *known, {}, settings)  # what the groups gave is gone, though nobody gets in
        return None
    _check_domain(settings, email)
    identity, user = known if known is not None else _new_identity(session, settings, person, email)
    identity.last_used_at = utc_now()
    if person.is_email_verified or settings.trust_email:
        identity.email = email
    for team, role in settings.roles_of_everybody().items():
        roles.setdefault(team, role)
    _change_roles(session, identity, user, {_team_id(session, slug): role for slug, role in roles.items()}, settings)
    return identity


def _change_roles(
    session: Session, identity: Identity, user: User, wanted: dict[int, str], settings: ProviderSettings
) -> None:
    """Give and take roles as groups say; with a membership ends what could be read with it, as when owners remove."""
    for change in identities.set_group_roles(session, identity, wanted):
        if change.after != "owner":
            accounts.delete_invitations_by(session, change.team_id, user.id)
        if change.after is None:
            accounts.revoke_tokens_made_by(session, change.team_id, user.id, utc_now())
        action = "member.joined" if change.before is None else "member.changed"
        action = action if change.after is not None else "member.removed"
        details = {"role": change.after} if change.after is not None else {}
        target = user.email
        note(session, user, action, team_id=change.team_id, target=target, groups_of=settings.name, **details)


def _check_domain(settings: ProviderSettings, email: str) -> None:
    if settings.domains and email.rpartition("@")[2] not in {domain.lower().lstrip("@") for domain in settings.domains}:
        raise CredentialsRefusedError(
            f"Only addresses of {', '.join(settings.domains)} sign in here, and yours is not one of them."
        )


def _new_identity(session: Session, settings: ProviderSettings, person: Person, email: str) -> tuple[Identity, User]:
    if not _EMAIL.match(email):
        raise CredentialsRefusedError("The provider does not tell your e-mail address, which accounts here need.")
    if not (person.is_email_verified or settings.trust_email):
        raise CredentialsRefusedError(
            f"The provider has not verified that {email} is yours. Confirm the address there, then sign in again."
        )
    user = accounts.find_user_by_email(session, email)
    if user is None:
        if not settings.create_accounts:
            raise CredentialsRefusedError(f"There is no account for {email} here. Ask an owner to invite you.")
        user = accounts.create_user(session, email=email, name=_name(person, email), password_hash=None)
        logger.info("account_made", user_id=user.id, provider=settings.name)
    elif not settings.link_accounts:
        raise CredentialsRefusedError(
            f"{email} has an account here already, and this provider may not sign in to it. Sign in as before."
        )
    elif not _is_theirs(identities.list_identities(session, user.id), person.issuer, email):
        raise CredentialsRefusedError(
            f"The account of {email} belongs to somebody else at this provider. Ask who runs Cachescope."
        )
    else:
        # Nobody may have proven yet that the address is theirs: whoever chose the password stays out from now on.
        user.password_hash = None
        accounts.delete_other_sessions(session, user.id, kept_hash="")
    identity = identities.save_identity(
        session, user_id=user.id, issuer=person.issuer, subject=person.subject, email=email
    )
    return identity, user


def _is_theirs(known: Sequence[Identity], issuer: str, email: str) -> bool:
    """Whether an account that others sign in to already may be this person's too.

    Not when it has an identity at the same issuer: the address was given to somebody else over there, the account was
    not. And not when no provider ever said that the address is its owner's: they may have written it down themselves.
    """
    if not known:
        return True
    return all(one.issuer != issuer for one in known) and any(one.email == email for one in known)


def _team_id(session: Session, slug: str) -> int:
    """Return the team of a mapping; the first person who gets a role in it makes it."""
    found = accounts.find_team_by_slug(session, slug)
    return (found or teams.create_team(session, slug=slug, name=slug)).id


def _name(person: Person, email: str) -> str:
    text = " ".join(person.name.split())[:100]
    return text if text.isprintable() and text else email.partition("@")[0]
