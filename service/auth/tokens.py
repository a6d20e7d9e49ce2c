"""Random tokens: shown once, kept as hashes. They are long enough that a plain SHA-256 cannot be guessed backwards."""

import hashlib
import secrets

TOKEN_PREFIX = "csc_"  # noqa: S105 - the mark that our tokens begin with, so that scanners for secrets find them


def make_token() -> str:
    """Make a bearer token."""
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def make_link_token() -> str:
    """Make the secret part of a session cookie or a one-time link."""
    return secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """Return what is stored of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
