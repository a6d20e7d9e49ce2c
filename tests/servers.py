"""Real servers for tests: a private PostgreSQL and a private Redis or Valkey, each in a temporary folder of its own."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

POSTGRESQL_URL = "CACHESCOPE_TEST_POSTGRESQL_URL"
"""A server to use instead of a private one; its user must be allowed to create databases."""
REDIS_URL = "CACHESCOPE_TEST_REDIS_URL"
NOTHING_SKIPPED = "CACHESCOPE_TEST_NOTHING_SKIPPED"

_PATIENCE_SECONDS = 30
_INITDB = ("-U", "cachescope", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")


def miss(what: str) -> NoReturn:
    """Skip a test whose server is not on this machine; fail it where nothing may be skipped."""
    if os.environ.get(NOTHING_SKIPPED) == "1":
        pytest.fail(f"{what} {NOTHING_SKIPPED} is set, so nothing may be skipped.")
    pytest.skip(what)


@contextmanager
def postgresql() -> Iterator[str]:
    """Run PostgreSQL on a socket in a temporary folder; yields the URL of its database `postgres`."""
    if url := os.environ.get(POSTGRESQL_URL):
        yield url
        return
    binaries = _find_postgresql()
    if binaries is None:
        miss(f"No PostgreSQL in /usr/lib/postgresql or on PATH: install it or set {POSTGRESQL_URL}.")
    folder = Path(tempfile.mkdtemp(prefix="cachescope-postgresql-", dir="/tmp"))
    owner = _unprivileged()
    # PostgreSQL refuses to run as root, and its user must be able to reach the folder.
    if owner is not None:
        shutil.chown(folder, owner, -1)
    folder.chmod(0o755)
    try:
        subprocess.run(
            [binaries / "initdb", "-D", folder / "data", *_INITDB],
            check=True,
            capture_output=True,
            user=owner,
            cwd=folder,
        )
        with (folder / "log").open("wb") as log:
            settings = ["fsync=off", "full_page_writes=off", "synchronous_commit=off", "listen_addresses="]
            server = subprocess.Popen(
                [binaries / "postgres", "-D", folder / "data", "-k", folder]
                + [word for setting in settings for word in ("-c", setting)],
                stdout=log,
                stderr=log,
                user=owner,
                cwd=folder,
            )
        try:
            _wait(server, lambda: (folder / ".s.PGSQL.5432").exists() and _is_ready(binaries, folder), folder / "log")
            yield f"postgresql://cachescope@/postgres?host={folder}"
        finally:
            server.send_signal(signal.SIGQUIT)  # end at once: nobody will read this data again
            server.wait(_PATIENCE_SECONDS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def redis() -> Iterator[str]:
    """Run Redis or Valkey on a port of its own; yields its URL."""
    if url := os.environ.get(REDIS_URL):
        yield url
        return
    binary = shutil.which("valkey-server") or shutil.which("redis-server")
    if binary is None:
        miss(f"No valkey-server or redis-server on PATH: install one or set {REDIS_URL}.")
    with tempfile.TemporaryDirectory(prefix="cachescope-redis-") as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        log = Path(folder) / "log"
        with log.open("wb") as output:
            server = subprocess.Popen(
                [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder],
                stdout=output,
                stderr=output,
            )
        try:
            _wait(server, lambda: _answers(port), log)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()
            server.wait(_PATIENCE_SECONDS)


def _find_postgresql() -> Path | None:
    versions = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "postgres").exists()]
    if versions:
        return max(versions, key=lambda path: int(path.parent.name))
    found = shutil.which("postgres")
    return Path(found).resolve().parent if found else None


def _unprivileged() -> str | None:
    """Who PostgreSQL runs as when the tests run as root; None where they do not."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def _is_ready(binaries: Path, folder: Path) -> bool:
    return subprocess.run([binaries / "pg_isready", "-q", "-h", folder], check=False).returncode == 0


def _answers(port: int) -> bool:
    with socket.socket() as client:
        if client.connect_ex(("127.0.0.1", port)) != 0:
            return False
        client.sendall(b"PING\r\n")
        return client.recv(16).startswith(b"+PONG")


def _wait(server: subprocess.Popen[bytes], is_ready, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not is_ready():
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{server.args[0]} does not start:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.02)
