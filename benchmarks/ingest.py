"""What it costs to take a log: uploads per second against a bare route, and how long until its build can be seen.

    python -m benchmarks.ingest
    python -m benchmarks.ingest --database postgresql --queue redis

The bare route is FastAPI at its plainest: it reads the body and commits one row in the same database. Both are asked by
the same clients, in turns, within one run; only the ratio means anything on another machine. An upload does what the
bare route does, and redacts, compresses, hashes and syncs the log to disk first.
"""

import argparse
import http.client
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median, quantiles

import httpx
from anyio import to_thread
from fastapi import FastAPI, Request
from sqlalchemy import Column, Integer, MetaData, Table, insert

from benchmarks import chaos
from store.database import make_engine, transaction
from tests import servers
from tests.serving import ROOT, Installation, installed, wait_for

metadata = MetaData()
rows = Table("bare_rows", metadata, Column("id", Integer, primary_key=True), Column("size", Integer))

CLIENTS = 8


def bare_app() -> FastAPI:
    """The route that the uploads are measured against."""
    app = FastAPI()

    def commit(size: int) -> None:
        with transaction() as session:
            session.execute(insert(rows).values(size=size))

    @app.post("/bare", status_code=202)
    async def bare(request: Request) -> dict[str, int]:
        body = await request.body()
        await to_thread.run_sync(commit, len(body))
        return {"size": len(body)}

    return app


@contextmanager
def served(installation: Installation) -> Iterator[int]:
    """Run the bare route as a process of its own; yields its port."""
    port = chaos.free_port()
    command = [sys.executable, "-m", "uvicorn", "benchmarks.ingest:bare_app", "--factory", "--port", str(port)]
    with (installation.folder / "bare.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--no-access-log"], cwd=ROOT, env=installation.environment, stdout=log, stderr=log
        )
    try:
        wait_for(lambda: b"Uvicorn running" in (installation.folder / "bare.log").read_bytes(), "the bare route")
        yield port
    finally:
        server.terminate()
        server.wait()


def requests_per_second(port: int, path: str, body: bytes, headers: dict[str, str], seconds: float) -> float:
    """Ask one route with several clients for a while."""
    until = time.monotonic() + seconds
    counts = [0] * CLIENTS

    def ask(client: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while time.monotonic() < until:
            # No two builds print the same log, and the same bytes twice would be one file.
            connection.request("POST", path, body + b"#9 %d.%d\n" % (client, counts[client]), headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 202:
                raise SystemExit(f"{path} answered {answer.status}")
            counts[client] += 1
        connection.close()

    threads = [threading.Thread(target=ask, args=(client,)) for client in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def seconds_until_visible(
    installation: Installation, headers: dict[str, str], logs: list[Path], count: int
) -> list[float]:
    """Send logs one after the other and wait for the builds of each."""
    took = []
    with httpx.Client(base_url=installation.url, headers=headers, timeout=60) as client:
        for number in range(count):
            began = time.perf_counter()
            sent = client.post("/api/v1/uploads?repository=visible/one", content=logs[number % len(logs)].read_bytes())
            address = sent.json()["delivery"]["url"]
            while client.get(address).json()["state"] in {"new", "working"}:
                time.sleep(0.005)
            took.append(time.perf_counter() - began)
    return took


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--queue", choices=["files", "redis"], default="files")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cachescope-ingest-")))
        is_sqlite = options.database == "sqlite"
        url = f"sqlite:///{folder}/cachescope.db" if is_sqlite else stack.enter_context(servers.postgresql())
        engine = make_engine(url)
        token = chaos.prepare(engine)
        metadata.create_all(engine)
        engine.dispose()
        redis_folder = folder if options.queue == "redis" else None
        installation = Installation(folder, url, chaos.free_port(), redis_folder=redis_folder)
        headers = {"Authorization": f"Bearer {token}"}
        logs = chaos.real_logs()
        typical = min(logs, key=lambda path: abs(path.stat().st_size - 20_000))
        body = typical.read_bytes()
        with installed(installation):
            took = seconds_until_visible(installation, headers, logs, 60)
        print(f"{options.database} + {options.queue}")
        print(f"  upload → visible: median {median(took):.3f} s, p95 {quantiles(took, n=20)[-1]:.3f} s (60 real logs)")
        # Alone: neither route shares the machine with workers that only one of them keeps busy.
        if redis_folder:
            installation.start("broker")
        installation.start("web")
        stack.callback(installation.stop)
        wait_for(lambda: installation.is_up("web"), "the web process")
        ratios = []
        with served(installation) as port:
            for number in range(options.rounds + 1):
                bare = requests_per_second(port, "/bare", body, headers, options.seconds)
                ours = requests_per_second(
                    installation.port, "/api/v1/uploads?repository=load/one", body, headers, options.seconds
                )
                if number:  # the first round warms both up
                    ratios.append(ours / bare)
                    print(f"  {len(body):,} bytes: bare {bare:.0f}/s, uploads {ours:.0f}/s, ratio {ours / bare:.2f}")
        print(f"  ratio: median {median(ratios):.2f}")


if __name__ == "__main__":
    main()
