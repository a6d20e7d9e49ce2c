"""Column types: times that are always UTC, text that is encrypted at rest, JSON, and row ids."""

import base64
import hashlib
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Integer, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeDecorator

from cachescope.errors import SettingsError
from store.settings import get_settings

Id = BigInteger().with_variant(Integer(), "sqlite")
"""A row number. SQLite numbers rows by itself only where the type is exactly INTEGER."""

Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


class CleanText(TypeDecorator[str]):
    """Text from outside: a NUL or half a surrogate pair, which PostgreSQL refuses, becomes U+FFFD."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Replace what no database text may hold."""
        return None if value is None else clean(value)


def clean(text: str) -> str:
    """Replace NULs and lone surrogates by U+FFFD."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def dump_json(value: Any) -> str:
    """Write JSON as both databases take it: cleaned as `CleanText` is."""
    try:
        written = orjson.dumps(value).decode()
    except TypeError:
        written = orjson.dumps(_cleaned(value)).decode()
    return _ESCAPED_NUL.sub(r"\1\\ufffd", written) if "\\u0000" in written else written


_ESCAPED_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


def _cleaned(value: Any) -> Any:
    match value:
        case str():
            return clean(value)
        case list() | tuple():
            return [_cleaned(item) for item in value]
        case dict():
            return {clean(str(key)): _cleaned(item) for key, item in value.items()}
    return value


def utc_now() -> datetime:
    """The present, UTC-aware."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment: goes in with a time zone, comes out in UTC, on SQLite too."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a time without a zone: nobody could say later which moment it meant."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"The time {value.isoformat()} has no time zone. Give it one, such as UTC.")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Say UTC where the database does not."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class EncryptedText(TypeDecorator[str]):
    """Text that is unreadable without CACHESCOPE_SECRET_KEY; older keys of its list still open what they closed."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Encrypt with the newest key."""
        return None if value is None else _cipher(get_settings().secret_keys).encrypt(value.encode()).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """Decrypt with whichever key fits; raises SettingsError when none does."""
        if value is None:
            return None
        try:
            return _cipher(get_settings().secret_keys).decrypt(value.encode()).decode()
        except InvalidToken:
            raise SettingsError(
                "A stored secret was encrypted with a key that is no longer in CACHESCOPE_SECRET_KEY. "
                "Add the former key after the present one, separated by a comma."
            ) from None


def seal(content: bytes) -> bytes:
    """Encrypt bytes that are kept outside the database, with the newest key."""
    return _cipher(get_settings().secret_keys).encrypt(content)


def unseal(sealed: bytes) -> bytes:
    """Decrypt what `seal` encrypted; raises SettingsError when no key fits."""
    try:
        return _cipher(get_settings().secret_keys).decrypt(sealed)
    except InvalidToken:
        raise SettingsError(
            "Something stored was encrypted with a key that is no longer in CACHESCOPE_SECRET_KEY. "
            "Add the former key after the present one, separated by a comma."
        ) from None


@lru_cache(maxsize=4)
def _cipher(keys: tuple[str, ...]) -> MultiFernet:
    # Any long random text may be the secret, so it is hashed to the 32 bytes that Fernet wants.
    digests = (hashlib.sha256(b"cachescope stored secrets\0" + key.encode()).digest() for key in keys)
    return MultiFernet([Fernet(base64.urlsafe_b64encode(digest)) for digest in digests])
