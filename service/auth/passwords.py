"""Passwords: hashed with argon2id by few threads that step back, in the same time whether or not the account exists.

A comparison takes 64 MiB and a core for a moment, so it is the dearest thing that a stranger can ask for. It is done by
one thread for strangers and one for everybody who has shown something first (a session, a one-time link, the cookie of
a browser that signed in before): a flood of strangers makes nobody else wait. Whoever finds the line too long is
refused at once.
"""

import contextlib
import os
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from cachescope.errors import InvalidValueError, TooManyAttemptsError

SHORTEST = 10
LONGEST = 1024  # argon2 takes any length: a cap keeps a form from costing us minutes
LONGEST_LINE = 16
"""How many may wait for a thread: at about ten comparisons a second the last of them waits for two seconds."""
_NICENESS = 10

_hasher = PasswordHasher(parallelism=1)  # more lanes would only take the other cores from whoever reads pages


class _Line:
    """A thread of its own for hashing, and how many wait for it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._waiting = 0
        self._pool: ThreadPoolExecutor | None = None
        self._pid = 0

    def submit(self, password_hash: str | None, password: str) -> "Future[bool]":
        with self._lock:
            if self._waiting >= LONGEST_LINE:
                raise TooManyAttemptsError("Many people sign in at this moment. Try again in a few seconds.", 3)
            self._waiting += 1
            if self._pool is None or self._pid != os.getpid():  # threads do not survive a fork
                self._pool, self._pid = ThreadPoolExecutor(1, self._name, _step_back), os.getpid()
            answer = self._pool.submit(_compare, password_hash, password)
        answer.add_done_callback(self._left)
        return answer

    def _left(self, _: "Future[bool]") -> None:
        with self._lock:
            self._waiting -= 1


_strangers, _known = _Line("strangers"), _Line("known")


def hash_password(password: str) -> str:
    """Hash a new password; raises InvalidValueError when it is too short or too long."""
    check_new_password(password)
    with _hashing:
        return _hasher.hash(password)


_hashing = threading.BoundedSemaphore(2)


def check_new_password(password: str) -> None:
    """Raise InvalidValueError for a password that is too short or too long."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise InvalidValueError(
            "password", f"A password has {SHORTEST} to {LONGEST} characters; yours has {len(password)}."
        )


def compare(password_hash: str | None, password: str, *, is_known: bool) -> "Future[bool]":
    """Begin to compare a password with a hash; without a hash the answer is no, in the time that a comparison takes.

    Raises TooManyAttemptsError when too many wait already; `is_known` chooses in which of the two lines.
    """
    return (_known if is_known else _strangers).submit(password_hash, password)


def is_password_right(password_hash: str | None, password: str) -> bool:
    """Compare a password with a hash and wait for the answer: for people who are signed in already."""
    return compare(password_hash, password, is_known=True).result()


def needs_new_hash(password_hash: str) -> bool:
    """Whether a hash was made with other parameters than today's."""
    return _hasher.check_needs_rehash(password_hash)


def _compare(password_hash: str | None, password: str) -> bool:
    try:
        return _hasher.verify(password_hash or _nobody(), password[:LONGEST]) and password_hash is not None
    except (VerificationError, InvalidHashError):
        return False


def _step_back() -> None:
    """Let every other thread of the machine go first; only Linux knows priorities of threads."""
    _nobody()  # not at the first unknown address, whose answer would take twice as long
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


@lru_cache(maxsize=1)
def _nobody() -> str:
    return _hasher.hash("the password of an account that does not exist")
