"""Members, invitations and the personal page: who may do what, what ends when, and what nobody can undo by mistake."""

import email as mail_formats
import email.policy
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select, update

from service.actions import members, people
from service.actions.tokens import TokenForm, issue_token
from service.auth.passwords import hash_password
from service.auth.permissions import Viewer
from service.auth.sessions import SESSION_COOKIE
from service.auth.tokens import hash_token
from store.database import reading, transaction
from store.models import Letter, Membership, SignInLink, Team, Token, User, UserSession
from store.queries import accounts, teams
from tests import serving
from tests.dashboards.conftest import COOKIE, Site, add_reader
from tests.factories import make_team
from tests.integrations.test_channels import mail
from workers.tasks import mailing

PASSWORD = "correct horse battery"
MEMBERS = "/teams/acme/settings/members"


def add_person(role: str, cookie: str, password: str | None = None) -> int:
    """Somebody else of the team Acme, who is signed in with a cookie; returns their id."""
    with transaction() as session:
        team = session.scalars(select(Team).where(Team.slug == "acme")).one()
        hashed = hash_password(password) if password else None
        person = accounts.create_user(session, email=f"{cookie}@example.org", name=f"The {role}", password_hash=hashed)
        teams.add_member(session, team.id, person.id, role)
        ends = datetime.now(UTC) + timedelta(days=1)
        session.add(UserSession(token_hash=hash_token(cookie), user_id=person.id, expires_at=ends))
        return person.id


def role_of(user_id: int) -> str | None:
    with reading() as session:
        return session.scalar(select(Membership.role).where(Membership.user_id == user_id))


def owner_id() -> int:
    with reading() as session:
        return session.scalars(select(User.id).order_by(User.id).limit(1)).one()


@pytest.fixture
def another(site: Site) -> Iterator[Site]:
    """A browser of its own on the same server, not signed in."""
    with httpx.Client(base_url=site.client.base_url, timeout=60) as client:
        yield Site(client, site.team_id)


def as_person(another: Site, cookie: str) -> Site:
    another.client.cookies.set(SESSION_COOKIE, cookie)
    return another


def invited(answer: httpx.Response) -> str:
    """The path of the link that the page shows once."""
    found = re.search(r"/invitations/[\w-]{43}", answer.text)
    assert found, answer.text
    return found[0]


# -- members -----------------------------------------------------------------------------------------------------------


def test_the_members_are_listed_with_their_roles(site: Site) -> None:
    add_person("viewer", "bob")
    text = site.text(MEMBERS)
    assert "Acme has 2 members, 1 owner among them." in text
    assert "bob@example.org" in text
    assert "the only one" in text
    assert "2 members" in site.text("/teams/acme/settings")


def test_an_owner_changes_a_role(site: Site) -> None:
    bob = add_person("viewer", "bob")
    assert site.post(f"{MEMBERS}/{bob}/role", MEMBERS, role="member").status_code == 303
    assert role_of(bob) == "member"
    assert site.post(f"{MEMBERS}/{bob}/role", MEMBERS, role="king").status_code == 422


@pytest.mark.parametrize("action", ["role", "remove"])
def test_the_last_owner_stays(site: Site, action: str) -> None:
    answer = site.post(f"{MEMBERS}/{owner_id()}/{action}", MEMBERS, role="viewer")
    assert answer.status_code == 409
    assert "the last owner" in answer.text
    assert role_of(owner_id()) == "owner"


def test_one_of_two_owners_may_leave(site: Site) -> None:
    add_person("owner", "bob")
    assert site.post(f"{MEMBERS}/{owner_id()}/remove", MEMBERS).headers["location"] == "/account?done=left"
    assert site.get("/teams/acme").status_code == 404
    assert "belong to that team no more" in site.text("/account?done=left")


@pytest.mark.parametrize("role", ["viewer", "member"])
def test_only_owners_change_who_belongs_to_a_team(site: Site, another: Site, role: str) -> None:
    as_person(another, "bob")
    add_person(role, "bob")
    carol = add_person("viewer", "carol")
    for path, fields in (
        (f"{MEMBERS}/{carol}/role", {"role": "owner"}),
        (f"{MEMBERS}/{carol}/remove", {}),
        (f"{MEMBERS}/invitations", {"role": "owner", "days": "7"}),
    ):
        assert another.post(path, MEMBERS, **fields).status_code == 403
    assert role_of(carol) == "viewer"
    assert "Invitations" not in another.text(MEMBERS)


def test_for_somebody_who_is_removed_it_is_over_at_once(site: Site, another: Site) -> None:
    bob = add_person("member", "bob")
    as_person(another, "bob")
    assert another.get("/teams/acme/settings").status_code == 200
    with transaction() as session:
        team = session.scalars(select(Team)).one()
        texts = {
            scope: issue_token(session, team, TokenForm(name=scope, scope=scope), created_by_id=bob)[1]
            for scope in ("read", "upload")
        }
    assert site.post(f"{MEMBERS}/{bob}/remove", MEMBERS).status_code == 303
    assert another.get("/teams/acme/settings").headers["location"].startswith("/sign-in")
    assert role_of(bob) is None
    bearer = {"authorization": f"Bearer {texts['read']}"}
    assert httpx.get(f"{site.client.base_url}/api/v1/teams", headers=bearer).status_code == 401
    with reading() as session:
        kept = session.scalars(select(Token.scope).where(Token.revoked_at.is_(None))).all()
    assert kept == ["upload"]


def test_two_owners_cannot_remove_each_other(site: Site) -> None:
    bob = add_person("owner", "bob")
    with transaction() as session:
        team = session.scalars(select(Team)).one()
        members.remove_member(session, Viewer(name="Bob", roles={team.id: "owner"}, user_id=bob), team, owner_id())
    assert site.post(f"{MEMBERS}/{bob}/remove", "/sign-in").status_code in {303, 401, 403, 404}
    assert role_of(bob) == "owner"


def test_a_new_team_is_made_and_nobody_elses_is_taken_over(site: Site) -> None:
    with transaction() as session:
        make_team(session, "waiting").name = "Waiting"
    answer = site.post("/account/teams", "/account", team="Waiting")
    assert answer.headers["location"] == "/teams/waiting-2"
    assert 'href="/teams/acme"' in site.text("/account")
    assert site.post("/account/teams", "/account", team=" ").status_code == 422


# -- invitations -------------------------------------------------------------------------------------------------------


def test_an_invitation_makes_an_account_once(site: Site, another: Site) -> None:
    made = site.post(f"{MEMBERS}/invitations", MEMBERS, role="viewer", days="3", email="")
    path = invited(made)
    assert "1 invitation" in site.text(MEMBERS)
    assert path not in site.text(MEMBERS)
    with reading() as session:
        kept = session.scalars(select(SignInLink)).one()
    assert kept.token_hash == hash_token(path.rpartition("/")[2])
    assert timedelta(days=2) < kept.expires_at - datetime.now(UTC) < timedelta(days=3, seconds=1)

    assert "as viewer" in another.text(path)
    short = another.post(path, name="Bob", email="bob@example.org", password="short")
    assert short.status_code == 422
    assert "bob@example.org" in short.text
    joined = another.post(path, name="Bob", email="bob@example.org", password=PASSWORD)
    assert joined.headers["location"] == "/teams/acme"
    assert another.get("/teams/acme/settings").status_code == 200
    assert another.get(path).status_code == 401
    assert "No invitation is open" in site.text(MEMBERS)


def test_an_invitation_is_accepted_with_the_account_that_is_signed_in(site: Site, another: Site) -> None:
    with transaction() as session:
        add_reader(session, make_team(session, "other"), "member", cookie="bob")
    path = invited(site.post(f"{MEMBERS}/invitations", MEMBERS, role="member", days="7", email=""))
    as_person(another, "bob")
    assert "Join as" in another.text(path)
    assert another.post(path).headers["location"] == "/teams/acme"
    assert [team in another.text("/account") for team in ("Acme", "Other")] == [True, True]


def test_an_invitation_for_an_address_is_for_its_account_alone(site: Site, another: Site) -> None:
    path = invited(site.post(f"{MEMBERS}/invitations", MEMBERS, role="owner", days="7", email="Bob@Example.org"))
    with transaction() as session:
        add_reader(session, make_team(session, "other"), "member", cookie="eve")
    as_person(another, "eve")
    assert "This invitation is for bob@example.org" in another.text(path)
    assert another.post(path, "/account").status_code == 403
    another.client.cookies.clear()
    assert another.post(path, name="Bob", email="eve@example.org", password=PASSWORD).status_code == 303
    with reading() as session:
        assert accounts.find_user_by_email(session, "bob@example.org") is not None
        assert accounts.find_user_by_email(session, "eve@example.org") is None


def test_an_invitation_never_lowers_a_role(site: Site) -> None:
    path = invited(site.post(f"{MEMBERS}/invitations", MEMBERS, role="viewer", days="7", email=""))
    assert site.post(path).status_code == 303
    assert role_of(owner_id()) == "owner"


def test_an_invitation_is_taken_back(site: Site, another: Site) -> None:
    path = invited(site.post(f"{MEMBERS}/invitations", MEMBERS, role="viewer", days="7", email=""))
    (revoke,) = set(re.findall(rf"{MEMBERS}/invitations/\d+/revoke", site.text(MEMBERS)))
    assert site.post(revoke, MEMBERS).status_code == 303
    assert another.get(path).status_code == 401
    assert site.post(revoke, MEMBERS).status_code == 404


def test_an_old_invitation_works_no_more(site: Site, another: Site) -> None:
    path = invited(site.post(f"{MEMBERS}/invitations", MEMBERS, role="viewer", days="7", email=""))
    with transaction() as session:
        session.execute(update(SignInLink).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    assert another.get(path).status_code == 401


def test_what_somebody_invited_who_is_removed_is_taken_back(site: Site, another: Site) -> None:
    bob = add_person("owner", "bob")
    as_person(another, "bob")
    path = invited(another.post(f"{MEMBERS}/invitations", MEMBERS, role="owner", days="7", email=""))
    site.post(f"{MEMBERS}/{bob}/remove", MEMBERS)
    another.client.cookies.clear()
    assert another.get(path).status_code == 401


@pytest.mark.parametrize(
    ("fields", "status"),
    [({"role": "king"}, 422), ({"days": "0"}, 422), ({"days": "x"}, 422), ({"email": "nobody"}, 422)],
    ids=str,
)
def test_an_invitation_that_cannot_be_meant_is_not_made(site: Site, fields: dict[str, str], status: int) -> None:
    given = {"role": "member", "days": "7", "email": ""} | fields
    assert site.post(f"{MEMBERS}/invitations", MEMBERS, **given).status_code == status


def test_who_belongs_to_the_team_is_not_invited(site: Site) -> None:
    add_person("viewer", "bob")
    answer = site.post(f"{MEMBERS}/invitations", MEMBERS, role="member", days="7", email="bob@example.org")
    assert answer.status_code == 409


# -- mail --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def box(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A mail server that this installation sends by."""
    with mail() as (context, box):
        monkeypatch.setenv("CACHESCOPE_ALERT_SMTP_HOST", context.mail.host)
        monkeypatch.setenv("CACHESCOPE_ALERT_SMTP_PORT", str(context.mail.port))
        monkeypatch.setenv("CACHESCOPE_ALERT_SMTP_SECURITY", "none")
        yield box


def delivered(box: Any) -> list[mail_formats.message.EmailMessage]:
    while mailing.send_next():
        pass
    return [mail_formats.message_from_bytes(each, policy=email.policy.default) for each in box.letters]


def link_in(letter: mail_formats.message.EmailMessage) -> str:
    found = re.search(r"https?://[^/\s]+(/\S+)", letter.get_body(("plain",)).get_content())
    assert found
    return found[1]


def test_an_invitation_goes_out_by_mail(site: Site, another: Site, box: Any) -> None:
    made = site.post(f"{MEMBERS}/invitations", MEMBERS, role="member", days="7", email="bob@example.org")
    assert "on its way by e-mail" in made.text
    (letter,) = delivered(box)
    assert letter["To"] == "bob@example.org"
    assert letter["Subject"] == "Ada Lovelace invites you to the team Acme on Cachescope"
    assert link_in(letter) == invited(made)
    with reading() as session:
        kept = session.scalars(select(Letter)).one()
    assert (kept.state, kept.notice) == ("sent", "{}")


def test_a_forgotten_password_is_set_anew_by_mail(site: Site, another: Site, box: Any) -> None:
    bob = add_person("member", "bob", PASSWORD)
    for address in ("bob@example.org", "nobody@example.org"):
        answer = another.post("/forgotten", email=address)
        assert "If somebody has an account" in answer.text
    (letter,) = serving.wait_for(lambda: delivered(box), "the letter, which is written after the answer")
    path = link_in(letter)
    assert another.post(path, password="short").status_code == 422
    assert another.post(path, password="another horse battery").headers["location"] == "/"
    assert another.get(path).status_code == 401
    with reading() as session:
        (kept,) = session.scalars(select(UserSession).where(UserSession.user_id == bob))
        assert kept.token_hash == hash_token(another.client.cookies[SESSION_COOKIE])
    assert [each["Subject"] for each in delivered(box)][1:] == ["Your password on Cachescope was set anew"]
    another.client.cookies.clear()
    assert another.post("/sign-in", email="bob@example.org", password=PASSWORD).status_code == 401
    assert another.post("/sign-in", email="bob@example.org", password="another horse battery").status_code == 303


def test_a_mailbox_is_not_flooded_by_the_form(site: Site, box: Any) -> None:
    add_person("member", "bob", PASSWORD)
    for _ in range(3):
        with transaction() as session:
            people.send_reset_link(session, "bob@example.org", base_url="https://cache.example.org")
    assert len(delivered(box)) == 1


def test_a_new_address_counts_once_its_link_was_opened(site: Site, another: Site, box: Any) -> None:
    add_person("member", "bob", PASSWORD)
    as_person(another, "bob")
    wrong = another.post("/account/email", "/account", email="new@example.org", password="wrong horse battery")
    assert (wrong.status_code, delivered(box)) == (422, [])
    assert another.post("/account/email", "/account", email="new@example.org", password=PASSWORD).status_code == 303
    assert "bob@example.org" in another.text("/account")
    (letter,) = delivered(box)
    assert letter["To"] == "new@example.org"
    assert "new@example.org" in another.text(link_in(letter))
    assert another.post(link_in(letter)).status_code == 303
    assert "new@example.org" in another.text("/account")
    assert delivered(box)[-1]["To"] == "bob@example.org"
    assert another.get(link_in(letter)).status_code == 401


def test_an_address_that_is_taken_looks_like_any_other(site: Site, another: Site, box: Any) -> None:
    add_person("member", "bob", PASSWORD)
    as_person(another, "bob")
    answer = another.post("/account/email", "/account", email="owner@example.org", password=PASSWORD)
    assert answer.headers["location"] == "/account?done=email-sent"
    assert delivered(box) == []


def test_a_letter_that_cannot_be_sent_is_tried_again_and_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHESCOPE_ALERT_SMTP_HOST", "127.0.0.1")
    monkeypatch.setenv("CACHESCOPE_ALERT_SMTP_PORT", "1")
    monkeypatch.setenv("CACHESCOPE_ALERT_SMTP_SECURITY", "none")
    site.post(f"{MEMBERS}/invitations", MEMBERS, role="member", days="7", email="bob@example.org")
    for attempt in range(1, mailing.ATTEMPTS + 1):
        assert mailing.send_next()
        with transaction() as session:
            letter = session.scalars(select(Letter)).one()
            assert (letter.attempts, "cannot be reached" in letter.answer) == (attempt, True)
            letter.next_at = datetime.now(UTC)
    assert letter.state == "failed"
    assert not mailing.send_next()


def test_letters_are_forgotten(site: Site, box: Any) -> None:
    site.post(f"{MEMBERS}/invitations", MEMBERS, role="member", days="7", email="bob@example.org")
    with transaction() as session:
        session.execute(update(Letter).values(created_at=datetime.now(UTC) - mailing.KEPT - timedelta(days=1)))
    mailing.forget_letters()
    with reading() as session:
        assert session.scalars(select(Letter)).all() == []


# -- the personal page -------------------------------------------------------------------------------------------------


@pytest.fixture
def bob(site: Site, another: Site) -> Site:
    """The browser of a member with a password."""
    add_person("member", "bob", PASSWORD)
    return as_person(another, "bob")


def open_browser(user_agent: str, cookie: str) -> int:
    with transaction() as session:
        user = accounts.find_user_by_email(session, "bob@example.org")
        ends = datetime.now(UTC) + timedelta(days=1)
        made = UserSession(
            token_hash=hash_token(cookie), user_id=user.id, expires_at=ends, user_agent=user_agent, address="10.1.2.3"
        )
        session.add(made)
        session.flush()
        return made.id


FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"


def test_the_page_shows_where_one_is_signed_in(bob: Site) -> None:
    open_browser(FIREFOX, "second")
    text = bob.text("/account")
    assert "Firefox on Linux" in text
    assert "10.1.2.3" in text
    assert "this one" in text


def test_one_browser_is_signed_out(bob: Site) -> None:
    second = open_browser(FIREFOX, "second")
    assert bob.post(f"/account/sessions/{second}/end", "/account").status_code == 303
    with reading() as session:
        assert session.get(UserSession, second) is None
    assert bob.get("/account").status_code == 200


def test_nobody_signs_somebody_else_out(site: Site, bob: Site) -> None:
    second = open_browser(FIREFOX, "second")
    assert site.post(f"/account/sessions/{second}/end", "/account").status_code == 404
    with reading() as session:
        assert session.get(UserSession, second) is not None


def test_all_other_browsers_are_signed_out(site: Site, bob: Site) -> None:
    open_browser(FIREFOX, "second")
    answer = bob.post("/account/sessions/end-others", "/account")
    assert "1 other browser signed out" in answer.text.replace("\u00a0", " ")
    assert bob.get("/account").status_code == 200
    assert site.get("/account").status_code == 200


def test_a_changed_password_ends_the_other_browsers(bob: Site) -> None:
    open_browser(FIREFOX, "second")
    wrong = bob.post("/account/password", "/account", present="wrong horse battery", new="another horse battery")
    assert wrong.status_code == 422
    assert bob.post("/account/password", "/account", present=PASSWORD, new="short").status_code == 422
    done = bob.post("/account/password", "/account", present=PASSWORD, new="another horse battery")
    assert done.headers["location"] == "/account?done=password"
    assert bob.get("/account").status_code == 200
    bob.client.cookies.set(SESSION_COOKIE, "second")
    assert bob.get("/account").status_code == 303


def test_without_mail_an_address_changes_with_the_password(bob: Site) -> None:
    taken = bob.post("/account/email", "/account", email="owner@example.org", password=PASSWORD)
    assert taken.status_code == 422
    done = bob.post("/account/email", "/account", email="New@example.org", password=PASSWORD)
    assert done.headers["location"] == "/account?done=email"
    assert "new@example.org" in bob.text("/account")


def test_nobody_guesses_the_password_of_a_browser_that_is_left_open(bob: Site) -> None:
    fields = {"present": "wrong horse battery", "new": "another horse battery"}
    statuses = [bob.post("/account/password", "/account", **fields).status_code for _ in range(11)]
    assert statuses == [422] * 10 + [429]


def test_an_address_without_a_password_is_changed_where_one_signs_in(site: Site) -> None:
    assert "It comes from where you sign in" in site.text("/account")
    answer = site.post("/account/email", "/account", email="new@example.org", password="")
    assert "owner@example.org" in answer.text


def test_a_name_changes(bob: Site) -> None:
    assert bob.post("/account/name", "/account", name="").status_code == 422
    assert bob.post("/account/name", "/account", name="Bob <b>").status_code == 303
    assert "Bob &lt;b&gt;" in bob.text("/account")


def test_the_page_shows_the_tokens_that_one_made(site: Site) -> None:
    site.post("/teams/acme/settings/tokens", "/teams/acme/settings", name="My laptop", scope="read")
    assert "My laptop" in site.text("/account")


def test_without_mail_the_forgotten_password_page_says_who_helps(another: Site) -> None:
    assert "cachescope admin reset-link" in another.text("/forgotten")


def test_a_link_of_the_administrator_sets_a_password(site: Site, another: Site) -> None:
    add_person("member", "bob")
    with transaction() as session:
        path = people.make_reset_link(session, "bob@example.org")
    assert "bob@example.org" in another.text(path)
    assert another.post(path, password=PASSWORD).status_code == 303
    assert another.get("/account").status_code == 200
    assert COOKIE not in another.client.cookies.values()


def test_somebody_in_no_team_can_make_one(site: Site, home: Path) -> None:
    with transaction() as session:
        session.execute(Membership.__table__.delete())
    assert "make a team of your own" in site.text("/")
    assert site.post("/account/teams", "/account", team="Mine").headers["location"] == "/teams/mine"
