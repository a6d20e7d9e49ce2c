"""Column types: UTC times, clean text, clean JSON, encrypted text."""

from datetime import UTC, datetime, timedelta, timezone

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import StatementError

from cachescope.errors import SettingsError
from store.models import Source, Team
from store.queries import sources
from store.settings import StoreSettings
from store.types import clean, dump_json, seal, unseal
from tests.factories import make_delivery, make_repository, make_team

KEYS = ["a" * 40, "b" * 40]


@pytest.fixture
def secret_key(monkeypatch):
    """Sets CACHESCOPE_SECRET_KEY for what the types read."""

    def use(value: str) -> None:
        monkeypatch.setattr("store.types.get_settings", lambda: StoreSettings(secret_key=value))

    return use


def test_a_time_comes_back_in_utc_whatever_zone_it_had(session):
    kathmandu = timezone(timedelta(hours=5, minutes=45))
    team = make_team(session)
    team.created_at = datetime(2026, 11, 20, 5, 45, 0, 123456, tzinfo=kathmandu)
    session.flush()
    session.expire(team)
    assert team.created_at == datetime(2026, 11, 20, 0, 0, 0, 123456, tzinfo=UTC)
    assert team.created_at.utcoffset() == timedelta(0)


def test_a_time_without_a_zone_is_refused(session):
    team = make_team(session)
    team.created_at = datetime(2026, 11, 20)  # noqa: DTZ001 - that is the point
    with pytest.raises(StatementError, match="has no time zone"):
        session.flush()


def test_nul_and_half_a_surrogate_pair_are_stored_as_replacement_characters(session):
    team = Team(slug="acme", name="a\0b\ud800c")
    session.add(team)
    session.flush()
    session.expire(team)
    assert team.name == "a�b�c"


@given(st.text(st.characters(codec=None)))
def test_cleaned_text_can_be_encoded_and_stays_when_it_could_before(value):
    cleaned = clean(value)
    cleaned.encode()
    assert "\0" not in cleaned
    assert len(cleaned) <= len(value)
    if "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value):
        assert cleaned == value


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec=None)),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec=None)), inner),
    )
)
def test_json_never_holds_a_nul_and_keeps_everything_else(value):
    written = dump_json(value)
    read = orjson.loads(written)
    assert "\0" not in str(read).replace("\\x00", "\0")
    if isinstance(value, str):
        assert read == clean(value)


def test_a_backslash_before_u0000_is_text_and_no_escape():
    assert orjson.loads(dump_json("\\u0000 \0")) == "\\u0000 �"


def test_json_with_hostile_text_is_stored(session):
    repository = make_repository(session)
    delivery = make_delivery(session, repository, parameters={"branch": "a\0\ud800b"})
    session.expire(delivery)
    assert delivery.parameters == {"branch": "a��b"}


def test_a_secret_is_unreadable_in_the_database(session, secret_key):
    secret_key(KEYS[0])
    source = sources.create_source(session, make_team(session).id, name="CI", provider="generic", secret="hunter2")
    stored = session.execute(text("SELECT secrets FROM sources")).scalar_one()
    session.expire(source)
    assert "hunter2" not in stored
    assert "hunter2" in source.secrets


def test_an_older_key_still_opens_what_it_closed(session, secret_key):
    secret_key(KEYS[0])
    source = sources.create_source(session, make_team(session).id, name="CI", provider="generic", secret="hunter2")
    secret_key(f"{KEYS[1]},{KEYS[0]}")
    session.expire(source)
    assert "hunter2" in source.secrets


def test_sealed_bytes_are_opened_by_any_key_of_the_list_and_by_no_other(secret_key):
    secret_key(KEYS[0])
    sealed = seal(b"hunter2")
    assert b"hunter2" not in sealed
    secret_key(f"{KEYS[1]},{KEYS[0]}")
    assert unseal(sealed) == b"hunter2"
    secret_key(KEYS[1])
    with pytest.raises(SettingsError, match="Add the former key"):
        unseal(sealed)


def test_a_secret_whose_key_is_gone_says_what_to_do(session, secret_key):
    secret_key(KEYS[0])
    source = sources.create_source(session, make_team(session).id, name="CI", provider="generic", secret="hunter2")
    secret_key(KEYS[1])
    session.expire(source)
    with pytest.raises(SettingsError, match="Add the former key"):
        session.get(Source, source.id, populate_existing=True)
