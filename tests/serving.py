"""Servers of our own for tests: the web application in a thread, or all processes of an installation."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

import service.settings
import store.database
import store.settings
import workers.app
import workers.settings
from tests import servers

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_SECONDS = 60.0
READY = {
    "web": b"Uvicorn running",
    "worker": b" ready.",
    "scheduler": b"scheduler_ready",
    "broker": b"eady to accept connections",
}
"""What the log of a process says once it works."""
QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat")


@contextmanager
def serve(app: FastAPI) -> Iterator[str]:
    """Serve an application on loopback, in a thread of this process; yields its address."""
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, ws="none", proxy_headers=False)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started, "the application to start")
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE_SECONDS)


def forget_settings() -> None:
    """Let this process read its settings from the environment again, and point its queue to where they say."""
    if store.database.get_engine.cache_info().currsize:
        store.database.get_engine().dispose()
    for remembered in (
        store.settings.get_settings,
        service.settings.get_settings,
        service.settings.get_sign_in_settings,
        workers.settings.get_settings,
    ):
        remembered.cache_clear()
    store.database.get_engine.cache_clear()
    workers.app.app.conf.update(workers.app.broker(workers.settings.get_settings()))
    workers.app.app._after_fork()  # what a new process does: it opens its own connections


def wait_for(is_there: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """Wait until a function returns something true, and return it; fails when that takes too long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := is_there():
            return found
        time.sleep(0.02)
    raise AssertionError(f"Waited {seconds:.0f} s for {what}.")


@dataclass
class Installation:
    """Web, worker and scheduler as processes of their own, each of which can be killed and started again."""

    folder: Path
    database_url: str
    port: int
    redis_folder: Path | None = None
    """Where a Redis of its own keeps its file; without one the queue is a folder."""
    settings: dict[str, str] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    began_at: dict[str, int] = field(default_factory=dict)
    """How long the log of each process was when it was last started."""

    @property
    def url(self) -> str:
        """Where the web process answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def redis_url(self) -> str | None:
        """Where the broker answers."""
        return f"redis+socket://{self.redis_folder}/redis.sock" if self.redis_folder else None

    @property
    def environment(self) -> dict[str, str]:
        """The settings of every process."""
        given = {name: value for name, value in os.environ.items() if not name.startswith("CACHESCOPE_")}
        given.pop("REDIS_URL", None)
        return given | {
            "CACHESCOPE_DATA": str(self.folder),
            "CACHESCOPE_DATABASE_URL": self.database_url,
            "CACHESCOPE_SECRET_KEY": "a key for tests alone that has 32 characters or more",
            "CACHESCOPE_WORKER_QUEUE_FOLDER": str(self.folder / "queue"),
            # What measures how much the service can take is not to be held back.
            "CACHESCOPE_WEB_TOKEN_REQUESTS_PER_MINUTE": "0",
            "CACHESCOPE_WEB_ADDRESS_REQUESTS_PER_MINUTE": "0",
            **({"REDIS_URL": self.redis_url} if self.redis_url else {}),
            **self.settings,
        }

    def commands(self) -> dict[str, list[str]]:
        """How each process is started."""
        python = sys.executable
        redis = {"port": "0", "unixsocket": f"{self.redis_folder}/redis.sock", "dir": str(self.redis_folder)}
        redis |= {"appendonly": "yes", "save": ""}
        words = [word for name, value in redis.items() for word in (f"--{name}", value)]
        broker = {"broker": [redis_program(), *words]} if self.redis_folder else {}
        return broker | {
            "web": [python, "-m", "service.server", "--port", str(self.port)],
            "worker": [python, "-m", "celery", "-A", "workers.app", "worker", "--concurrency", "2", *QUIET],
            "scheduler": [python, "-m", "workers.schedule"],
        }

    def start(self, *names: str) -> None:
        """Start some processes, or all of them."""
        for name in names or self.commands():
            with (self.folder / f"{name}.log").open("ab") as log:
                self.began_at[name] = log.tell()
                self.processes[name] = subprocess.Popen(
                    self.commands()[name],
                    cwd=ROOT,
                    env=self.environment,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )

    def kill(self, name: str) -> None:
        """End a process and its children in the middle of whatever they do."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_SECONDS)

    def stop(self) -> None:
        """End all processes."""
        for name in list(self.processes):
            self.kill(name)

    def is_up(self, name: str) -> bool:
        """Whether a process has got through its start since it was last started."""
        log = self.folder / f"{name}.log"
        return READY[name] in log.read_bytes()[self.began_at.get(name, 0) :] if log.exists() else False

    def wait_until_ready(self) -> None:
        """Wait until the web process answers and sees a worker and a scheduler."""
        wait_for(lambda: _status(f"{self.url}/readyz") == 200, f"{self.url}/readyz; see the logs in {self.folder}")


def redis_program() -> str:
    """The Redis or Valkey server of this machine; a test that needs it is skipped or fails where there is none."""
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    return found or servers.miss("No valkey-server or redis-server on PATH: install one.")


@contextmanager
def installed(installation: Installation) -> Iterator[Installation]:
    """Run all processes while the block runs."""
    installation.start()
    try:
        installation.wait_until_ready()
        yield installation
    finally:
        installation.stop()


def _status(url: str) -> int:
    try:
        return httpx.get(url, timeout=5).status_code
    except httpx.HTTPError:
        return 0
