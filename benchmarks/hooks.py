"""How long a webhook waits for its 202: 200 deliveries a second, nine of ten ignored, against a bare route.

    python -m benchmarks.hooks
    python -m benchmarks.hooks --database postgresql --forge

The bare route is FastAPI at its plainest: it verifies GitHub's signature and commits one row in the same database. Both
get the same bodies at the same pace, in turns, within one run. Requests are due at fixed times and a wait counts from
then, so that a slow answer cannot hold back those behind it. A worker and the scheduler run beside, on the same cores
as the sender. With `--forge` the logs of the finished jobs are fetched from a fake forge and read meanwhile.
"""

import argparse
import asyncio
import hashlib
import hmac
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from anyio import to_thread
from fastapi import FastAPI, HTTPException, Request
from sqlalchemy import Column, Integer, MetaData, Table, func, insert, select

from benchmarks import chaos
from service.actions import sources
from service.actions.sources import SourceForm
from service.auth.permissions import Viewer
from store import migrations
from store.database import make_engine, transaction
from store.models import Delivery
from store.settings import get_settings
from tests import servers
from tests.factories import make_team
from tests.forge.serving import forge
from tests.forge.state import CIRun, Job, Repository
from tests.serving import QUIET, ROOT, Installation, wait_for

metadata = MetaData()
rows = Table("bare_hooks", metadata, Column("id", Integer, primary_key=True), Column("size", Integer))

SECRET = "0" * 64
BODIES = ROOT / "tests/integrations/ci/github"
IGNORED = (
    ("workflow_job", "workflow_job_queued"),
    ("workflow_job", "workflow_job_in_progress"),
    ("workflow_job", "workflow_job_waiting"),
    ("check_run", "check_run_completed_success"),
    ("check_run", "check_run_created"),
    ("check_suite", "check_suite_completed"),
    ("workflow_run", "workflow_run_requested_org"),
    ("status", "status_default"),
    ("workflow_job", "workflow_job_completed_skipped"),
)
"""Real bodies of GitHub that tell of no log, as they come before and beside each finished job."""
FINISHED = "workflow_job_completed_success_org"
CONNECTIONS = 32

_numbers = count(1)


def bare_app() -> FastAPI:
    """The route that ours is measured against."""
    app = FastAPI()

    def commit(size: int) -> None:
        with transaction() as session:
            session.execute(insert(rows).values(size=size))

    @app.post("/bare", status_code=202)
    async def bare(request: Request) -> dict[str, int]:
        body = await request.body()
        expected = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, request.headers.get("x-hub-signature-256", "")):
            raise HTTPException(401)
        await to_thread.run_sync(commit, len(body))
        return {"size": len(body)}

    return app


def requests(path: str, secret: str) -> Iterator[bytes]:
    """Signed webhooks as they go over the wire, nine ignored ones for each finished job, without end."""
    packed = []
    for kind, name in IGNORED:
        body = json.dumps(json.loads((BODIES / f"{name}.json").read_bytes())).encode()
        packed.append((kind, body, hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()))
    finished: dict[str, Any] = json.loads((BODIES / f"{FINISHED}.json").read_bytes())
    while True:
        for kind, body, signature in packed:
            yield request(path, kind, body, signature)
        number = next(_numbers)
        finished["workflow_job"] |= {"id": 10_000_000_000 + number, "run_id": number}
        body = json.dumps(finished).encode()
        yield request(path, "workflow_job", body, hmac.new(secret.encode(), body, hashlib.sha256).hexdigest())


def request(path: str, kind: str, body: bytes, signature: str) -> bytes:
    """One request with an id of its own."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nUser-Agent: GitHub-Hookshot\r\n"
        f"X-GitHub-Event: {kind}\r\nX-GitHub-Delivery: {next(_numbers):032x}\r\n"
        f"X-Hub-Signature-256: sha256={signature}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def send(port: int, messages: Iterator[bytes], rate: float, seconds: float) -> list[float]:
    """Send messages at a fixed pace; returns how long each waited for its 202, from when it was due."""
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        free.put_nowait(await asyncio.open_connection("127.0.0.1", port))
    waits: list[float] = []

    async def one(message: bytes, due: float) -> None:
        reader, writer = await free.get()
        writer.write(message)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
        waits.append(time.perf_counter() - due)
        if not head.startswith(b"HTTP/1.1 202"):
            raise SystemExit(f"answered {head[:40]!r}")
        free.put_nowait((reader, writer))

    began = time.perf_counter() + 0.1
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(one(next(messages), due))
    while not free.empty():
        free.get_nowait()[1].close()
    return waits


@contextmanager
def served(installation: Installation) -> Iterator[tuple[int, int]]:
    """Run the bare route as a process of its own; yields its port and its number."""
    port = chaos.free_port()
    command = [sys.executable, "-m", "uvicorn", "benchmarks.hooks:bare_app", "--factory", "--port", str(port)]
    with (installation.folder / "bare.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--no-access-log"],
            cwd=ROOT,
            env=installation.environment,
            stdout=log,
            stderr=log,
            start_new_session=True,  # as ours are: Linux shares processors out between sessions
        )
    try:
        wait_for(lambda: b"Uvicorn running" in (installation.folder / "bare.log").read_bytes(), "the bare route")
        yield port, server.pid
    finally:
        server.terminate()
        server.wait()


class OneWorker(Installation):
    """An installation whose worker reads one log at a time."""

    def commands(self) -> dict[str, list[str]]:
        """How each process is started."""
        worker = [sys.executable, "-m", "celery", "-A", "workers.app", "worker", "--concurrency", "1", *QUIET]
        return super().commands() | {"worker": worker}


def prepare(installation: Installation, forge_url: str, token: str) -> tuple[str, str]:
    """Make the tables and a GitHub source; returns its id and its secret."""
    os.environ.update({k: v for k, v in installation.environment.items() if k.startswith("CACHESCOPE_")})
    get_settings.cache_clear()
    engine = make_engine(installation.database_url)
    migrations.upgrade(engine)
    metadata.create_all(engine)
    with transaction(engine) as session:
        team = make_team(session)
        owner = Viewer(name="Ada", roles={team.id: "owner"})
        form = SourceForm(name="GitHub", provider="github", base_url=forge_url, networks="127.0.0.0/8")
        source, secret = sources.create_source(session, owner, team, form)
        if token:
            sources.set_credentials(session, owner, team, source.id, "read", {"token": token})
        made = source.id, secret
    engine.dispose()
    return made


def fill(made: Any, folder: Path) -> None:
    """Give a forge logs for every job that the sender will ever tell of."""
    home = json.loads((BODIES / f"{FINISHED}.json").read_bytes())["repository"]["full_name"]
    log = min(
        (ROOT / "tests/cachescope/formats/buildkit_plain").glob("*.log"), key=lambda p: abs(p.stat().st_size - 20_000)
    )
    run = CIRun(1, "a" * 40, jobs=[Job(10_000_000_000 + number, log=log.read_bytes()) for number in range(1, 40_000)])
    made.repositories[home] = Repository(home, runs=[run])


def processor_seconds(process: int) -> float:
    """What a process has used of the processors so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def p99(waits: list[float]) -> float:
    """The 99th percentile in milliseconds."""
    return quantiles(waits, n=100)[98] * 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--forge", action="store_true", help="fetch and read the logs of the finished jobs meanwhile")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cachescope-hooks-")))
        is_sqlite = options.database == "sqlite"
        url = f"sqlite:///{folder}/cachescope.db" if is_sqlite else stack.enter_context(servers.postgresql())
        forge_url, token = "", ""
        if options.forge:
            made = stack.enter_context(forge())
            fill(made, folder)
            forge_url, token = made.url, made.token
        installation = OneWorker(folder, url, chaos.free_port(), settings={"CACHESCOPE_WORKER_NETWORKS": "127.0.0.0/8"})
        source_id, secret = prepare(installation, forge_url, token)
        installation.start()
        stack.callback(installation.stop)
        installation.wait_until_ready()
        ours, bare = requests(f"/hooks/{source_id}", secret), requests("/bare", SECRET)
        print(f"{options.database}, {options.rate:.0f} webhooks a second, one worker{', logs fetched' * options.forge}")
        ratios = []
        with served(installation) as (port, bare_process):
            for number in range(options.rounds + 1):
                seconds = options.seconds if number else 2.0
                used = [processor_seconds(each) for each in (bare_process, installation.processes["web"].pid)]
                bare_waits = asyncio.run(send(port, bare, options.rate, seconds))
                our_waits = asyncio.run(send(installation.port, ours, options.rate, seconds))
                if number:  # the first round warms both up
                    processes = (bare_process, installation.processes["web"].pid)
                    costs = [
                        (processor_seconds(each) - before) / len(our_waits) * 1000
                        for each, before in zip(processes, used, strict=True)
                    ]
                    ratios.append(p99(our_waits) / p99(bare_waits))
                    print(
                        f"  bare: median {median(bare_waits) * 1000:.1f} ms, p99 {p99(bare_waits):.1f} ms, "
                        f"processor {costs[0]:.2f} ms; hooks: median {median(our_waits) * 1000:.1f} ms, "
                        f"p99 {p99(our_waits):.1f} ms, processor {costs[1]:.2f} ms; ratio {ratios[-1]:.2f}"
                    )
        engine = make_engine(url)
        with transaction(engine) as session:
            states = session.execute(select(Delivery.state, func.count()).group_by(Delivery.state)).all()
        engine.dispose()
        print(f"  ratio of p99: median {median(ratios):.2f}; deliveries: {dict(map(tuple, states))}")


if __name__ == "__main__":
    main()
