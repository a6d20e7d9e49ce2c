"""Uploads while everything is killed: is any accepted log lost or doubled?

    python -m benchmarks.chaos --uploads 1000 --database sqlite --queue files
    python -m benchmarks.chaos --uploads 1000 --database postgresql --queue redis

Real logs of all formats are sent by four clients, each under a key of its own, and sent again whenever no answer comes,
while web, worker, scheduler and broker are ended with `kill -9` at random and started again; a queue of files is
deleted instead. At the end every accepted
log must have exactly one delivery, with the builds that the log holds, and the daily sums must count each build once.
"""

import argparse
import random
import shutil
import socket
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from sqlalchemy import Engine, func, select

from cachescope.reading import read_builds
from service.actions.accounts import create_team
from service.actions.tokens import TokenForm, issue_token
from store import migrations
from store.database import make_engine, reading, transaction
from store.models import Build, DailyBuilds, Delivery, DirtyDay
from store.queries import deliveries
from tests import servers
from tests.serving import ROOT, Installation, installed, wait_for

CLIENTS = 4
SETTLED_WITHIN_SECONDS = 180
SHARE_KILLED_STARTING = 0.05


@dataclass
class Outcome:
    """What happened, and what is wrong with it."""

    kills: Counter[str] = field(default_factory=Counter)
    accepted: dict[str, str] = field(default_factory=dict)
    """Key → id of its delivery."""
    repeats: int = 0
    sending_seconds: float = 0.0
    settling_seconds: float = 0.0
    builds: int = 0
    faults: list[str] = field(default_factory=list)


def real_logs() -> list[Path]:
    """The logs that the tests of the formats read."""
    return sorted(path for path in (ROOT / "tests" / "cachescope").rglob("*.log") if path.stat().st_size < 300_000)


def run(
    installation: Installation,
    engine: Engine,
    token: str,
    *,
    uploads: int,
    seconds: float,
    pause: tuple[float, float] = (0.5, 3.0),
    seed: int = 1,
) -> Outcome:
    """Send logs over some seconds and kill processes meanwhile; wait until everything has been read, and count."""
    outcome = Outcome()
    logs = real_logs()
    chosen = random.Random(seed)
    plan = {f"chaos-{number}": chosen.choice(logs) for number in range(uploads)}
    left = list(plan.items())
    ended = threading.Event()
    began = time.monotonic()
    clients = [
        threading.Thread(target=send, args=(installation, token, left, seconds * CLIENTS / uploads, outcome))
        for _ in range(CLIENTS)
    ]
    killer = threading.Thread(target=kill, args=(installation, random.Random(seed + 1), pause, ended, outcome))
    for thread in (*clients, killer):
        thread.start()
    for thread in clients:
        thread.join()
    ended.set()
    killer.join()
    outcome.sending_seconds = time.monotonic() - began
    began = time.monotonic()
    try:
        wait_for(lambda: is_settled(engine), "all deliveries to be read", SETTLED_WITHIN_SECONDS)
    except AssertionError as error:
        with reading(engine) as session:
            outcome.faults.append(f"{error} {deliveries.count_by_state(session)}")
    outcome.settling_seconds = time.monotonic() - began
    check(engine, plan, outcome)
    return outcome


def send(installation: Installation, token: str, left: list[tuple[str, Path]], pause: float, outcome: Outcome) -> None:
    """Send one log after the other with a pause between them, each until it has been accepted."""
    with httpx.Client(timeout=10) as client:
        while left:
            try:
                key, path = left.pop()
            except IndexError:  # another client was faster
                return
            time.sleep(random.uniform(0, 2 * pause))
            while key not in outcome.accepted:
                try:
                    answer = client.post(
                        f"{installation.url}/api/v1/uploads",
                        params={"repository": f"chaos/{len(key)}", "branch": "main", "idempotency_key": key},
                        content=path.read_bytes(),
                        headers={"Authorization": f"Bearer {token}"},
                    )
                except httpx.HTTPError:
                    outcome.repeats += 1
                    time.sleep(0.05)
                    continue
                if answer.status_code == 202:
                    outcome.accepted[key] = answer.json()["delivery"]["id"]
                elif answer.status_code < 500:
                    outcome.faults.append(f"{path.name} was refused: {answer.text}")
                    outcome.accepted[key] = ""


def kill(
    installation: Installation,
    chosen: random.Random,
    pause: tuple[float, float],
    ended: threading.Event,
    outcome: Outcome,
) -> None:
    """End processes at random and start them again: mostly at work, now and then while they are still starting."""
    while not ended.wait(chosen.uniform(*pause)):
        name = chosen.choice(["broker", "scheduler", "web", "worker"])
        if name not in installation.commands():  # the queue is a folder: lose what is in it
            shutil.rmtree(installation.folder / "queue", ignore_errors=True)
            outcome.kills["queue folder"] += 1
            continue
        if installation.is_up(name) or chosen.random() < SHARE_KILLED_STARTING:
            installation.kill(name)
            outcome.kills[name] += 1
            ended.wait(chosen.uniform(0.0, 0.5))
            installation.start(name)


def is_settled(engine: Engine) -> bool:
    """Whether nothing waits any more, neither for a worker nor for the daily sums."""
    with reading(engine) as session:
        counted = deliveries.count_by_state(session)
        dirty = session.scalar(select(func.count()).select_from(DirtyDay))
    return counted["new"] + counted["working"] + (dirty or 0) == 0


def check(engine: Engine, plan: dict[str, Path], outcome: Outcome) -> None:
    """Compare what was accepted with what is there."""
    expected = {path: len(read_builds([path.read_bytes()]).builds) for path in set(plan.values())}
    with reading(engine) as session:
        rows = session.execute(select(Delivery.idempotency_key, Delivery.id, Delivery.state, Delivery.error)).all()
        built = Counter(session.scalars(select(Build.delivery_id)))
        summed = session.scalar(select(func.sum(DailyBuilds.builds))) or 0
    found = {row.idempotency_key: row for row in rows}
    outcome.builds = sum(built.values())
    if len(found) != len(rows):
        outcome.faults.append(f"{len(rows) - len(found)} keys have more than one delivery")
    for key, path in plan.items():
        row = found.get(key)
        if row is None or row.id != outcome.accepted[key]:
            outcome.faults.append(f"{key} ({path.name}) was accepted and is lost")
        elif row.state != "done":
            outcome.faults.append(f"{key} ({path.name}) is {row.state}: {row.error}")
        elif built[row.id] != expected[path]:
            outcome.faults.append(f"{key} ({path.name}) has {built[row.id]} builds instead of {expected[path]}")
    if summed != outcome.builds:
        outcome.faults.append(f"the daily sums count {summed} builds of {outcome.builds}")


def prepare(engine: Engine) -> str:
    """Fill an empty database with a team; returns its upload token."""
    migrations.upgrade(engine)
    with transaction(engine) as session:
        return issue_token(session, create_team(session, "Chaos"), TokenForm(name="chaos"))[1]


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> None:
    """Run once and print what happened; the exit status is 1 when anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uploads", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the sending takes at least")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--queue", choices=["files", "redis"], default="files")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cachescope-chaos-")))
        is_sqlite = options.database == "sqlite"
        url = f"sqlite:///{folder}/cachescope.db" if is_sqlite else stack.enter_context(servers.postgresql())
        engine = make_engine(url)
        token = prepare(engine)
        installation = Installation(
            folder,
            url,
            free_port(),
            redis_folder=folder if options.queue == "redis" else None,
            settings={"CACHESCOPE_WORKER_LEASE_SECONDS": "5"},
        )
        stack.enter_context(installed(installation))
        outcome = run(installation, engine, token, uploads=options.uploads, seconds=options.seconds, seed=options.seed)
        engine.dispose()
    print(f"{options.database} + {options.queue}: {sum(outcome.kills.values())} kills {dict(outcome.kills)}")
    print(f"  {len(outcome.accepted)} logs accepted in {outcome.sending_seconds:.0f} s, {outcome.repeats} tries failed")
    print(f"  settled {outcome.settling_seconds:.1f} s later, {outcome.builds} builds")
    for fault in outcome.faults[:20]:
        print(f"  FAULT: {fault}")
    print(f"  {len(outcome.faults)} faults")
    raise SystemExit(bool(outcome.faults))


if __name__ == "__main__":
    main()
