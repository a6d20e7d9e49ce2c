"""Passwords: hashed with argon2id, checked in the same time whether or not the account exists."""

from functools import lru_cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from cachescope.errors import InvalidValueError

SHORTEST = 10
LONGEST = 1024  # argon2 takes any length: a cap keeps a form from costing us minutes

_hasher = PasswordHasher()


def hash_password(password: str) -> str:
    """Hash a new password; raises InvalidValueError when it is too short or too long."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise InvalidValueError(
            "password", f"A password has {SHORTEST} to {LONGEST} characters; yours has {len(password)}."
        )
    return _hasher.hash(password)


def is_password_right(password_hash: str | None, password: str) -> bool:
    """Compare a password with a hash; without a hash the answer is no, in the time that a comparison takes."""
    try:
        return _hasher.verify(password_hash or _nobody(), password[:LONGEST]) and password_hash is not None
    except (VerificationError, InvalidHashError):
        return False


def needs_new_hash(password_hash: str) -> bool:
    """Whether a hash was made with weaker parameters than today's."""
    return _hasher.check_needs_rehash(password_hash)


@lru_cache(maxsize=1)
def _nobody() -> str:
    return _hasher.hash("the password of an account that does not exist")
