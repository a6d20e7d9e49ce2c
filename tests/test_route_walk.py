"""Every route, walked by everybody who must not see: what belongs to another team looks like what does not exist.

The walk is built from the routes of the application: a route whose parameters are not known here, or that answers
nobody without being named as public, fails it.
"""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import Request
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Date,
    Float,
    Integer,
    LargeBinary,
    Table,
    insert,
    select,
)
from sqlalchemy.orm import Session

from asgi import app
from dashboards.charts import CHARTS
from service.actions import tokens as token_actions
from service.actions.tokens import TokenForm
from service.auth.forms import form_token
from service.auth.sessions import SESSION_COOKIE, open_session
from service.settings import ServiceSettings
from store.database import reading, transaction
from store.models import Base, Membership
from store.queries import accounts, teams
from store.types import UtcDateTime
from tests import serving
from tests.factories import make_build, make_repository, make_step, make_team, save_build

MARK = "victims-own-words"
PUBLIC = {
    # What answers everybody, and why that tells nothing of a team.
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/sign-in"),
    ("POST", "/sign-in"),
    ("POST", "/sign-out"),
    ("GET", "/sign-in/with/{provider}"),
    ("GET", "/sign-in/with/{provider}/back"),
    ("POST", "/theme"),
    ("GET", "/forgotten"),
    ("POST", "/forgotten"),
    ("GET", "/assets/{name}"),
    ("GET", "/api/v1/openapi.json"),
}
BY_SECRET = {"/setup/{token}", "/hooks/{source_id}", "/badges/{token}/{name}", "/api/v1/uploads"}
BY_SECRET |= {"/invitations/{token}", "/reset/{token}", "/account/email/{token}"}
"""Whoever knows the address or the signature may: their own tests hold the secrets."""
OWN = {("POST", "/api/v1/teams")}
"""What everybody may do who is signed in, and which changes nothing of anybody else."""
WORDS = {"action": "acknowledge", "purpose": "read", "position": "0", "name": "efficiency", "token": "none"}


def all_routes(routes: Any) -> Iterator[tuple[str, str]]:
    """Yield (method, path) of every route, those of included routers too."""
    for route in routes:
        if hasattr(route, "original_router"):
            yield from all_routes(route.original_router.routes)
        else:
            for method in sorted((getattr(route, "methods", None) or {"GET"}) - {"HEAD"}):
                yield method, route.path


ROUTES = sorted(set(all_routes(app.routes)))
GUARDED = [route for route in ROUTES if route not in PUBLIC and route[1] not in BY_SECRET]


def make_row(session: Session, table: Table, made: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Insert a row with something in every column that must not be empty, and return its primary key."""
    values: dict[str, Any] = {}
    for column in table.columns:
        (key,) = [*column.foreign_keys][:1] or (None,)
        if key is not None and key.column.table.name in made and key.column.table is not table:
            values[column.name] = made[key.column.table.name].get(key.column.name)
        elif not column.nullable and column is not table.autoincrement_column:
            values[column.name] = filled(table, column)
    # Columns that name a row without a foreign key.
    for name, (other, field) in {"repository_id": ("repositories", "id"), "team_id": ("teams", "id")}.items():
        if name in table.columns:
            values[name] = made[other][field]
    session.execute(insert(table).values(values))
    row = session.execute(select(table).order_by(*(c.desc() for c in table.primary_key.columns)).limit(1)).one()
    return dict(row._mapping)


def filled(table: Table, column: Any) -> Any:
    words = [
        re.findall(r"'([^']*)'", str(check.sqltext))
        for check in table.constraints
        if isinstance(check, CheckConstraint) and re.match(rf"{column.name} IN ", str(check.sqltext))
    ]
    if words:
        return words[0][0]
    if isinstance(column.type, UtcDateTime):
        return datetime.now(UTC) - timedelta(hours=1)
    for kind, value in (
        (BigInteger, 1),
        (Date, date(2026, 11, 20)),
        (Boolean, False),
        (Integer, 1),
        (Float, 1.0),
        (LargeBinary, b"x"),
    ):
        if isinstance(column.type, kind):
            return value
    if isinstance(column.type, JSON):
        return {}
    return f"id-of-{table.name}" if column.primary_key else MARK


on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""The walls stand in the code, not in the database."""


@pytest.fixture
def victim(home: Any) -> SimpleNamespace:
    """A team that has one of everything, each with words of its own, and the ids under which routes know it."""
    with transaction() as session:
        team = make_team(session, "victims")
        team.name = MARK
        repository = make_repository(session, f"{MARK}/api", team)
        builds = [save_build(session, repository, make_build(make_step(f"RUN {MARK}")), branch=MARK)[0] for _ in "ab"]
        made: dict[str, dict[str, Any]] = {}
        rows = {}
        for table in Base.metadata.sorted_tables:
            found = session.execute(select(table).limit(1)).first()
            rows[table.name] = made[table.name] = dict(found._mapping) if found else make_row(session, table, made)
        return SimpleNamespace(
            slug=team.slug,
            repository_id=repository.id,
            build_id=builds[0],
            other_id=builds[1],
            delivery_id=rows["deliveries"]["id"],
            token_id=rows["tokens"]["id"],
            source_id=rows["sources"]["id"],
            image_id=rows["images"]["id"],
            version_id=rows["image_sizes"]["id"],
            incident_id=rows["incidents"]["id"],
            channel_id=rows["channels"]["id"],
            rule_id=rows["alert_rules"]["id"],
            message_id=rows["messages"]["id"],
            recommendation_id=rows["recommendations"]["id"],
            task_id=rows["feedback_tasks"]["id"],
            user_id=rows["users"]["id"],
            session_id=rows["sessions"]["id"],
            invitation_id=rows["sign_in_links"]["id"],
        )


NOWHERE: dict[str, Any] = dict.fromkeys(("repository_id", "build_id", "other_id", "image_id", "version_id"), 9**9)
NOWHERE |= dict.fromkeys(("incident_id", "channel_id", "rule_id", "message_id", "recommendation_id", "task_id"), 9**9)
NOWHERE |= dict.fromkeys(("user_id", "session_id", "invitation_id"), 9**9)
NOWHERE |= {"slug": "nope", "delivery_id": "none", "token_id": "none", "source_id": "none"}


@pytest.fixture
def site(victim: SimpleNamespace) -> Iterator[str]:
    """The whole application, pages and all, on loopback."""
    with serving.serve(app) as url:
        yield url


def signed_in(site: str, *, member_of: str | None) -> httpx.Client:
    """A browser of somebody who owns one team, or none."""
    with transaction() as session:
        user = accounts.create_user(session, email=f"{member_of}@example.org", name="Eve", password_hash=None)
        if member_of:
            teams.add_member(session, make_team(session, member_of).id, user.id, "owner")
        request = Request({"type": "http", "client": None, "headers": []})
        cookie = open_session(session, user.id, request, ServiceSettings())
    with_cookie = Request({"type": "http", "headers": [(b"cookie", f"{SESSION_COOKIE}={cookie}".encode())]})
    return httpx.Client(
        base_url=site, cookies={SESSION_COOKIE: cookie}, headers={"x-form-token": form_token(with_cookie)}, timeout=60
    )


def ask(client: httpx.Client, method: str, path: str, ids: dict[str, Any]) -> httpx.Response:
    filled_path = path.format(**WORDS | ids)
    query = {"repository": ids["repository_id"], "team": ids["slug"], "to": ids["other_id"]} if method == "GET" else {}
    if method == "GET":
        return client.get(filled_path, params=query)
    if path.startswith("/api/"):
        return client.request(method, filled_path, json={"name": "x", "title": "x"} if method != "DELETE" else None)
    return client.request(method, filled_path, data={"form_token": client.headers.get("x-form-token", "")})


def said(answer: httpx.Response, path: str, chosen: dict[str, Any]) -> tuple[int, str]:
    """What an answer says, apart from the ids that were asked for and the number of the request."""
    ids = {name: value for name, value in chosen.items() if f"{{{name}}}" in path or path.startswith("/charts/")}
    text = re.sub(r'"(request_id|instance)":\s*"[^"]*"|[0-9a-f]{32}|[\w-]{43}', "", answer.text)
    text += answer.headers.get("location", "")
    for name, value in sorted(ids.items(), key=lambda item: -len(str(item[1]))):
        text = re.sub(rf"\b{re.escape(str(value))}\b", f"<{name}>", text)
    return answer.status_code, re.sub(r"<\w+_id>", "<id>", text)


def everything() -> dict[str, list[tuple[Any, ...]]]:
    """All rows but those that note who came by."""
    passing = {"sessions", "heartbeats", "sign_in_links"}
    with reading() as session:
        return {
            table.name: [tuple(row) for row in session.execute(select(table))]
            for table in Base.metadata.sorted_tables
            if table.name not in passing
        }


def test_every_parameter_is_known_to_the_walk() -> None:
    unknown = {
        (method, path)
        for method, path in GUARDED
        for name in re.findall(r"\{(\w+)\}", path)
        if name not in NOWHERE and name not in WORDS
    }
    assert unknown == set()


@on_sqlite
def test_nobody_gets_anything_that_is_not_public(site: str, victim: SimpleNamespace) -> None:
    with httpx.Client(base_url=site, timeout=60) as nobody:
        for method, path in GUARDED:
            answer = ask(nobody, method, path, vars(victim))
            led_away = answer.status_code == 303 and "/sign-in" in answer.headers["location"]
            assert answer.status_code in {401, 403, 404} or led_away, (
                method,
                path,
                answer.status_code,
                answer.text[:200],
            )
            assert MARK not in answer.text, (method, path)


@on_sqlite
@pytest.mark.parametrize("owns", ["strangers", None], ids=["owner of another team", "member of no team"])
def test_what_another_team_owns_looks_like_nothing(site: str, victim: SimpleNamespace, owns: str | None) -> None:
    ids = vars(victim)
    with signed_in(site, member_of=owns) as stranger:
        before = everything()
        for method, path in sorted({*GUARDED} - OWN):
            pairs = [(ids, NOWHERE)]
            if owns and "{slug}" in path and "_id}" in path:
                pairs.append((ids | {"slug": owns}, NOWHERE | {"slug": owns}))
            for there, nowhere in pairs:
                theirs, none = (ask(stranger, method, path, chosen) for chosen in (there, nowhere))
                if path == "/charts/{name}" or re.search(r"\{\w*(?:_id|slug)\}", path):
                    assert said(theirs, path, there) == said(none, path, nowhere), (method, path)
                assert MARK not in theirs.text, (method, path)
        assert everything() == before


@on_sqlite
def test_no_chart_is_drawn_for_a_stranger(site: str, victim: SimpleNamespace) -> None:
    with signed_in(site, member_of="strangers") as stranger:
        for name in CHARTS:
            for query in (f"repository={victim.repository_id}", f"team={victim.slug}", f"build={victim.build_id}"):
                answer = stranger.get(f"/charts/{name}?{query}")
                assert answer.status_code in {404, 422}, (name, query, answer.text[:200])
                assert MARK not in answer.text


@on_sqlite
def test_a_read_token_of_another_team_reads_nothing(site: str, victim: SimpleNamespace) -> None:
    with transaction() as session:
        form = TokenForm(name="reader", scope="read")
        _, text = token_actions.issue_token(session, make_team(session, "strangers"), form)
    with httpx.Client(base_url=site, headers={"authorization": f"Bearer {text}"}, timeout=60) as stranger:
        for method, path in GUARDED:
            answer = ask(stranger, method, path, vars(victim))
            if re.search(r"\{\w*(?:_id|slug)\}", path):
                assert answer.status_code in {401, 403, 404, 422}, (method, path, answer.status_code)
            assert MARK not in answer.text, (method, path)


@on_sqlite
def test_a_member_who_was_removed_sees_nothing_more(site: str, victim: SimpleNamespace) -> None:
    with signed_in(site, member_of="strangers") as member:
        with transaction() as session:
            user = accounts.find_user_by_email(session, "strangers@example.org")
            team = accounts.find_team_by_slug(session, victim.slug)
            teams.add_member(session, team.id, user.id, "member")
        assert MARK in member.get(f"/api/v1/builds/{victim.build_id}").text
        with transaction() as session:
            session.delete(session.get_one(Membership, (team.id, user.id)))
        for method, path in GUARDED:
            assert MARK not in ask(member, method, path, vars(victim)).text, (method, path)


@on_sqlite
def test_a_viewer_changes_nothing(site: str, victim: SimpleNamespace) -> None:
    with signed_in(site, member_of="strangers") as viewer:
        with transaction() as session:
            user = accounts.find_user_by_email(session, "strangers@example.org")
            teams.add_member(session, accounts.find_team_by_slug(session, victim.slug).id, user.id, "viewer")
        before = everything()
        for method, path in sorted({*GUARDED} - OWN):
            if method != "GET":
                ask(viewer, method, path, vars(victim))
                assert everything() == before, (method, path)


@on_sqlite
def test_a_token_of_one_repository_sees_nothing_of_another(site: str, victim: SimpleNamespace) -> None:
    with transaction() as session:
        team = accounts.find_team_by_slug(session, victim.slug)
        other = make_repository(session, "other/shop", team)
        form = TokenForm(name="shop", scope="read", repository_id=other.id)
        _, text = token_actions.issue_token(session, team, form)
    with httpx.Client(base_url=site, headers={"authorization": f"Bearer {text}"}, timeout=60) as reader:
        for method, path in GUARDED:
            if method == "GET" and re.search(r"\{\w*_id\}", path) and path.startswith("/api/"):
                assert ask(reader, method, path, vars(victim)).status_code in {403, 404, 422}, (method, path)
