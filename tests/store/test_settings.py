"""The settings of the store."""

from pathlib import Path

import pytest

from cachescope.errors import SettingsError
from store.settings import StoreSettings


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    """What this machine sets must not decide a test."""
    for name in StoreSettings.model_fields:
        monkeypatch.delenv(f"CACHESCOPE_{name.upper()}", raising=False)


def test_without_settings_everything_lies_in_the_data_folder():
    settings = StoreSettings()
    assert settings.resolved_database_url == "sqlite:///.cachescope/cachescope.db"
    assert settings.resolved_logs_url == str(Path(".cachescope/logs"))


def test_the_environment_names_the_database(monkeypatch):
    monkeypatch.setenv("CACHESCOPE_DATABASE_URL", " postgresql://db/cachescope ")
    assert StoreSettings().resolved_database_url == "postgresql://db/cachescope"


def test_an_empty_setting_is_the_same_as_none(monkeypatch):
    monkeypatch.setenv("CACHESCOPE_DATABASE_POOL_SIZE", "")
    assert StoreSettings().database_pool_size == 5


def test_several_keys_are_taken_the_newest_first():
    settings = StoreSettings(secret_key=f"{'n' * 32}, {'o' * 32}")
    assert settings.secret_keys == ("n" * 32, "o" * 32)


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("", "is not set"),
        ("change-me", "could be guessed"),
        ("x" * 31, "31 characters"),
        (f"{'n' * 32},short", "guessed"),
    ],
)
def test_a_missing_or_guessable_key_is_refused(key, sentence):
    with pytest.raises(SettingsError, match=sentence):
        _ = StoreSettings(secret_key=key).secret_keys


def test_a_refusal_never_repeats_the_key():
    with pytest.raises(SettingsError) as refused:
        _ = StoreSettings(secret_key="hunter2").secret_keys
    assert "hunter2" not in str(refused.value)
