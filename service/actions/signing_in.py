"""Signing in with a password: throttled, compared by few threads, and no transaction is open meanwhile."""

import asyncio
from collections.abc import Callable
from functools import partial

from anyio import to_thread
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from cachescope.errors import CredentialsRefusedError
from service.actions import accounts
from service.auth.passwords import compare
from service.auth.throttle import Throttle
from store.database import reading, transaction
from store.models.accounts import User


async def sign_in(
    engine: Engine,
    throttle: Throttle,
    *,
    address: str,
    browser: str | None,
    email: str,
    password: str,
    begin: Callable[[Session, User], str],
) -> str:
    """Compare a password and return what `begin` makes for its account, the secret of a session.

    Raises TooManyAttemptsError before anything is looked up, and CredentialsRefusedError, which does not say whether
    the address or the password is wrong.
    """
    place = throttle.begin(address, email, browser)
    try:
        password_hash = await to_thread.run_sync(_find, engine, email)
        is_right = await asyncio.wrap_future(compare(password_hash, password, is_known=browser is not None))
        compared = password_hash if is_right else None
        made = await to_thread.run_sync(partial(_welcome, engine, email, password, compared, begin=begin))
    except CredentialsRefusedError:
        throttle.failed(address, email, browser)
        raise
    finally:
        throttle.end(place)
    throttle.succeeded(address, email)
    return made


def _find(engine: Engine, email: str) -> str | None:
    with reading(engine) as session:
        return accounts.find_password(session, email)


def _welcome(
    engine: Engine, email: str, password: str, compared_with: str | None, *, begin: Callable[[Session, User], str]
) -> str:
    if compared_with is None:
        raise CredentialsRefusedError(accounts.REFUSED)
    with transaction(engine) as session:
        return begin(session, accounts.welcome(session, email, password, compared_with, is_right=True))
