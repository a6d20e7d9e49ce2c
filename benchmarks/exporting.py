"""Peak memory of the server while it exports a hundred thousand and a million steps, as CSV and as Parquet.

    .venv/bin/python benchmarks/exporting.py [--database sqlite|postgresql] [--steps 100000 1000000]

Each export is asked of a server of its own, whose highest resident memory the kernel remembers; beside it stands what
the server needed before it was asked. Memory is constant where the two sizes need the same.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import httpx
from sqlalchemy import Engine, insert, select, text

from service.actions.tokens import TokenForm, issue_token
from store import migrations
from store.database import make_engine, transaction
from store.models import Build, Delivery, Step
from tests import servers
from tests.factories import make_build, make_delivery, make_repository, make_step, make_team, save_build

STEPS = 15
ROOT = Path(__file__).parent.parent


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--steps", type=int, nargs="+", default=[100_000, 1_000_000])
    given = parser.parse_args()
    print(f"{given.database}\nsteps      format    before     peak   growth      file   seconds")
    with tempfile.TemporaryDirectory() as folder, database(given.database, Path(folder)) as url:
        engine = make_engine(url)
        migrations.upgrade(engine)
        token = prepare(engine)
        stored = 0
        for steps in sorted(given.steps):
            add_builds(engine, (steps - stored) // STEPS)
            stored = steps
            for form in ("csv", "parquet"):
                print(f"{steps:<9}  {form:<8}  " + measure(url, Path(folder), token, form), flush=True)
        engine.dispose()


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """A database of its own."""
    if kind == "sqlite":
        yield f"sqlite:///{folder}/cachescope.db"
        return
    with servers.postgresql() as url:
        yield url


def prepare(engine: Engine) -> str:
    """Save one build as the workers do, of which all others are copies; returns a read token."""
    with transaction(engine) as session:
        team = make_team(session)
        repository = make_repository(session, "acme/api", team)
        texts = [f"RUN make target-{number} && echo some words that a step prints" for number in range(STEPS)]
        save_build(session, repository, make_build(*(make_step(words, seconds=1.5) for words in texts)))
        make_delivery(session, repository)
        return issue_token(session, team, TokenForm(name="reader", scope="read"))[1]


def add_builds(engine: Engine, count: int) -> None:
    """Copy the first build with its steps so many times, straight into the tables."""
    with transaction(engine) as session:
        build = dict(session.execute(select(Build.__table__).limit(1)).mappings().one())
        of_build = select(Step.__table__).where(Step.build_id == build["id"]).order_by(Step.position)
        steps = [dict(row) for row in session.execute(of_build).mappings()]
        highest = session.execute(text("SELECT max(id) FROM builds")).scalar_one()
        delivery = dict(session.execute(select(Delivery.__table__).limit(1)).mappings().one())
    for first in range(0, count, 2_000):
        with transaction(engine) as session:
            ids = range(highest + 1 + first, highest + 1 + min(first + 2_000, count))
            made = [delivery | {"id": f"copy-{each}", "idempotency_key": f"copy-{each}"} for each in ids]
            session.execute(insert(Delivery.__table__), made)
            at = datetime(2026, 1, 1, tzinfo=UTC)
            session.execute(
                insert(Build.__table__),
                [
                    build | {"id": each, "delivery_id": f"copy-{each}", "started_at": at + timedelta(minutes=each)}
                    for each in ids
                ],
            )
            session.execute(insert(Step.__table__), [step | {"build_id": each} for each in ids for step in steps])


def measure(url: str, folder: Path, token: str, form: str) -> str:
    """Export once and say what it took."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "CACHESCOPE_DATA": str(folder),
        "CACHESCOPE_DATABASE_URL": url,
        "CACHESCOPE_SECRET_KEY": "a key for a benchmark alone, of 32 characters",
    }
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "asgi:app",
        "--port",
        str(port),
        "--log-level",
        "error",
        "--no-access-log",
    ]
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=address, headers={"authorization": f"Bearer {token}"}, timeout=600) as client:
            wait_until_ready(client)
            # What every first request loads, and what the pages warm up in the background.
            client.get(f"/api/v1/repositories/1/steps.{form}?to=2001-01-01").raise_for_status()
            time.sleep(8)
            before, began, size = resident(server.pid, "VmRSS"), time.perf_counter(), 0
            with client.stream("GET", f"/api/v1/repositories/1/steps.{form}") as answer:
                answer.raise_for_status()
                for piece in answer.iter_raw():
                    size += len(piece)
            seconds = time.perf_counter() - began
        peak = resident(server.pid, "VmHWM")
    finally:
        server.terminate()
        server.wait()
    return f"{before:6.1f} MB {peak:6.1f} MB {peak - before:6.1f} MB {size / 1e6:6.1f} MB   {seconds:6.1f}"


def wait_until_ready(client: httpx.Client) -> None:
    """Wait until the server answers."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        try:
            client.get("/healthz").raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise SystemExit("The server does not answer.")


def resident(pid: int, name: str) -> float:
    """A figure of /proc/<pid>/status in MB: VmRSS now, VmHWM at most."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    main()
