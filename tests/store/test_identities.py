"""Identities at other providers on both databases: roles that groups give and take, and ways that work once."""

from datetime import timedelta

import pytest
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from store.models import Identity, Membership, User
from store.queries import accounts, identities, teams
from store.queries.identities import RoleChange
from store.types import utc_now
from tests.factories import make_team


def make_identity(session: Session, subject: str = "1", issuer: str = "https://login.example") -> Identity:
    user = accounts.find_user_by_email(session, "ada@example.org") or accounts.create_user(
        session, email="ada@example.org", name="Ada", password_hash=None
    )
    return identities.save_identity(session, user_id=user.id, issuer=issuer, subject=subject, email="ada@example.org")


def role(session: Session, team_id: int, identity: Identity) -> str | None:
    return teams.find_role(session, team_id, identity.user_id)


def test_an_identity_is_found_by_issuer_and_subject_alone(session: Session) -> None:
    identity = make_identity(session)
    found = identities.find_identity(session, "https://login.example", "1")
    assert found is not None
    assert (found[0].id, found[1].id) == (identity.id, identity.user_id)
    assert identities.find_identity(session, "https://login.example", "2") is None
    assert identities.find_identity(session, "https://other.example", "1") is None
    with pytest.raises(IntegrityError), session.begin_nested():
        make_identity(session)


def test_groups_give_change_and_take_a_role(session: Session) -> None:
    identity, team = make_identity(session), make_team(session)
    for wanted, before, after in (("owner", None, "owner"), ("viewer", "owner", "viewer"), (None, "viewer", None)):
        changes = identities.set_group_roles(session, identity, {team.id: wanted} if wanted else {})
        assert changes == [RoleChange(team.id, before, after)]
        assert role(session, team.id, identity) == after
        assert identities.set_group_roles(session, identity, {team.id: wanted} if wanted else {}) == []


@pytest.mark.parametrize(
    ("hand", "group", "both"),
    [("viewer", "owner", "owner"), ("owner", "viewer", "owner"), ("member", "member", "member")],
)
def test_the_stronger_of_hand_and_group_counts_and_the_hand_stays(
    session: Session, hand: str, group: str, both: str
) -> None:
    identity, team = make_identity(session), make_team(session)
    teams.add_member(session, team.id, identity.user_id, hand)
    identities.set_group_roles(session, identity, {team.id: group})
    assert role(session, team.id, identity) == both
    identities.set_group_roles(session, identity, {})
    assert role(session, team.id, identity) == hand


def test_of_two_identities_each_takes_only_what_it_gave(session: Session) -> None:
    team = make_team(session)
    one, two = make_identity(session), make_identity(session, issuer="https://other.example")
    identities.set_group_roles(session, one, {team.id: "member"})
    identities.set_group_roles(session, two, {team.id: "owner"})
    assert role(session, team.id, one) == "owner"
    identities.set_group_roles(session, two, {})
    assert role(session, team.id, one) == "member"
    identities.set_group_roles(session, one, {})
    assert role(session, team.id, one) is None


def test_whoever_an_owner_removed_is_let_in_again_by_a_group_and_out_with_it(session: Session) -> None:
    identity, team = make_identity(session), make_team(session)
    identities.set_group_roles(session, identity, {team.id: "member"})
    session.delete(session.get_one(Membership, (team.id, identity.user_id)))
    session.flush()
    identities.set_group_roles(session, identity, {team.id: "member"})
    assert role(session, team.id, identity) == "member"
    identities.set_group_roles(session, identity, {})
    assert role(session, team.id, identity) is None


def test_a_state_works_once_and_old_ones_are_forgotten(session: Session) -> None:
    later = utc_now() + timedelta(minutes=10)
    assert identities.use_state(session, "a", later)
    assert not identities.use_state(session, "a", later)
    assert identities.use_state(session, "b", utc_now() - timedelta(seconds=1))
    assert identities.use_state(session, "b", later)


def test_identities_go_with_their_person_and_roles_with_their_team(session: Session) -> None:
    identity, team = make_identity(session), make_team(session)
    identities.set_group_roles(session, identity, {team.id: "member"})
    session.delete(team)
    session.flush()
    session.expire_all()
    assert identities.set_group_roles(session, identity, {}) == []
    session.delete(session.get_one(User, identity.user_id))
    session.flush()
    assert identities.find_identity(session, "https://login.example", "1") is None
