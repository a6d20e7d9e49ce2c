"""`cachescope up`: runs the database, queue, worker, scheduler and pages in one terminal until Ctrl-C."""

import hashlib
import os
import shlex
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Annotated

import typer

from cachescope.errors import SettingsError
from service.actions.accounts import create_setup_link, create_team
from service.actions.tokens import TokenForm, issue_token
from service.auth.providers import open_sign_in
from service.demo.archive import example_log
from service.local import DataFolder
from service.processes import Child, Supervisor
from service.settings import get_settings, get_sign_in_settings
from store import migrations
from store.database import get_engine, transaction
from store.queries import accounts

FIRST_PORT = 8000
FIRST_TEAM = "My team"
LATEST_SECONDS = 20
LONGEST_SOCKET_PATH = 100
"""Bytes: the system takes 104 (macOS) to 108 (Linux)."""
ROOT = Path(__file__).resolve().parent.parent


def command(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes 8000 or the next free one.")] = 0,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Logs that are read at the same time.")] = 2,
) -> None:
    """Run the database, queue, worker, scheduler and pages in one terminal until Ctrl-C."""
    folder = DataFolder()
    folder.prepare()
    folder.acquire()
    os.environ.update(folder.environment())
    open_sign_in(get_sign_in_settings(), get_settings())  # a mistake ends it here, before anything has started
    with listen(host, port) as listener:
        url = f"http://{'localhost' if host in {'127.0.0.1', '0.0.0.0'} else host}:{listener.getsockname()[1]}"  # noqa: S104
        shared: dict[str, str] = {}
        supervisor = Supervisor(on_change=lambda pids: folder.remember(pids, url=url, environment=shared))
        with supervisor.stopped_by_signals():
            migrations.upgrade(get_engine())
            lines = first_lines(url, folder)
            get_engine().dispose()
            broker = find_broker(folder, supervisor)
            shared.update(broker)
            os.environ.update(broker)
            for child in children(listener, workers):
                supervisor.start(child)
            threading.Thread(target=announce, args=(supervisor, listener, url, lines), daemon=True).start()
            supervisor.run()
    folder.release()
    supervisor.say("Stopped.")


def listen(host: str, port: int) -> socket.socket:
    """Open the port that the web process will serve: the one asked for, else 8000 or the next free one.

    The socket is ours, so that the port stays taken and requests wait while the web process starts anew.
    """
    for candidate in [port] if port else range(FIRST_PORT, FIRST_PORT + 1000):
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, candidate))
            listener.listen(512)
        except OSError as error:
            listener.close()
            if port:
                raise SettingsError(
                    f"Port {port} on {host} cannot be used: {error.strerror}. Choose another."
                ) from None
            continue
        return listener
    raise SettingsError(f"No port from {FIRST_PORT} on is free on {host}. Name one with --port.")


def find_broker(folder: DataFolder, supervisor: Supervisor) -> Mapping[str, str]:
    """Choose what carries the hints: REDIS_URL, else a server of our own from PATH, else a folder; said aloud.

    Returns what the other processes must have in their environment.
    """
    if os.environ.get("REDIS_URL"):
        supervisor.say("Queue: the Redis server that REDIS_URL names.")
        return {}
    for name in ("valkey-server", "redis-server"):
        if program := shutil.which(name):
            path = socket_path(folder.path)
            store = folder.path / "redis"
            store.mkdir(mode=0o700, exist_ok=True)
            path.unlink(missing_ok=True)
            options = {
                "port": "0",
                "unixsocket": str(path),
                "unixsocketperm": "700",
                "dir": str(store),
                "appendonly": "yes",
                "save": "",
                "logfile": str(store / "log"),
                "loglevel": "warning",
            }
            arguments = [word for key, value in options.items() for word in (f"--{key}", value)]
            supervisor.start(Child("queue", [program, *arguments], is_needed_by_others=True))
            supervisor.say(f"Queue: {program}, on a socket that only you can open.")
            return {"REDIS_URL": f"redis+socket://{path}"}
    Path(os.environ["CACHESCOPE_WORKER_QUEUE_FOLDER"]).mkdir(mode=0o700, parents=True, exist_ok=True)
    supervisor.say(
        "Queue: files in the data folder, because neither valkey-server nor redis-server is on PATH and REDIS_URL is "
        "not set. Nothing is lost this way; many logs at once take longer."
    )
    return {}


def socket_path(folder: Path) -> Path:
    """Return where the queue's socket lies: in the data folder, unless its path is too long for a socket."""
    path = folder / "redis.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    private = Path(tempfile.gettempdir()) / f"cachescope-{os.getuid()}-{name}"
    private.mkdir(mode=0o700, exist_ok=True)
    if private.stat().st_uid != os.getuid() or private.stat().st_mode & 0o077:
        raise SettingsError(f"{private} belongs to somebody else. Remove it, or set CACHESCOPE_DATA to a shorter path.")
    return private / "redis.sock"


def children(listener: socket.socket, workers: int) -> list[Child]:
    """Return the processes of a server, in the order in which they start."""
    python = sys.executable
    # Celery warns of root at every start; a container or a bare machine has nobody else.
    celery = [python, "-W", "ignore:You're running the worker", "-m", "celery", "--quiet", "--app", "workers.app"]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    web = ["--fd", str(listener.fileno()), "--log-level", "warning", "--timeout-graceful-shutdown", "3"]
    # The folders are found from the repository even where only the command is on PATH.
    found = {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "CACHESCOPE_WORKER_LOG_STYLE": os.environ.get("CACHESCOPE_WORKER_LOG_STYLE", "text"),
    }
    # Messages lead to where the pages are.
    address = os.environ.get("CACHESCOPE_WEB_PUBLIC_URL") or f"http://localhost:{listener.getsockname()[1]}"
    telling = {**found, "CACHESCOPE_WEB_PUBLIC_URL": address}
    return [
        Child("worker", [*celery, "worker", "--concurrency", str(workers), *quiet], telling),
        Child("scheduler", [python, "-m", "workers.schedule"], telling),
        Child("web", [python, "-m", "service.server", *web], found, pass_fds=(listener.fileno(),)),
    ]


def announce(supervisor: Supervisor, listener: socket.socket, url: str, lines: list[str]) -> None:
    """Print the address once everything is ready, and what a first start must say.

    When something takes long or fails, the pages are still worth opening: they say what is missing.
    """
    host, port = listener.getsockname()[:2]
    address = ("127.0.0.1" if host == "0.0.0.0" else host, port)  # noqa: S104
    late = time.monotonic() + LATEST_SECONDS
    while not supervisor.stopping.is_set():
        if answers(address, "/readyz") or (time.monotonic() > late and answers(address, "/healthz")):
            for line in [f"Open {url}", *lines]:
                supervisor.say(line)
            return
        time.sleep(0.1)


def answers(address: tuple[str, int], path: str) -> bool:
    """Tell whether the pages answer a request with 200."""
    connection = HTTPConnection(*address, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def first_lines(url: str, folder: DataFolder) -> list[str]:
    """Make what a new server needs, the team, its token and the link of the first owner, and say how to use them."""
    lines: list[str] = []
    with transaction() as session:
        if accounts.count_users(session):
            return lines
        lines.append(f"Sign in {url}{create_setup_link(session)}")
        team = create_team(session, FIRST_TEAM)
        if not accounts.list_tokens(session, team.id):
            _, token = issue_token(session, team, TokenForm(name="First token"))
            example = folder.path / "example.log"
            example.write_text(example_log(), encoding="utf-8")
            program = Path(sys.executable).with_name("cachescope")
            words = [program, "push", example, "--url", url, "--token", token, "--repository", "example/app"]
            words += ["--wait", "10"]
            lines.append(f"Send a log: {shlex.join(map(str, words))}")
            lines.append(f"Look at a demo: {shlex.join([str(program), 'demo'])}")
    return lines
