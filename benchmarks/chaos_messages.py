"""Alerts while everything is killed: is any message lost, or taken twice by a receiver that honours its id?

    python -m benchmarks.chaos_messages --alerts 1000 --database sqlite --queue files
    python -m benchmarks.chaos_messages --alerts 1000 --database postgresql --queue redis

Messages are written as the worker writes them while workers, scheduler, broker and the receiver are ended with
`kill -9` at random and started again. The receiver is a program of its own: it checks the signature with an independent
implementation of Standard Webhooks where one is installed, appends what it took to a file before it answers, and drops
a `webhook-id` that it took before, as the specification asks.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine, func, select

from benchmarks.chaos import free_port
from service.actions.accounts import create_team
from store import migrations
from store.database import make_engine, reading, transaction
from store.models import AlertRule, Incident, Message, Team
from store.queries import channels
from store.queries.incidents import Change
from tests import servers
from tests.serving import Installation, forget_settings, wait_for
from workers import telling

SECRET = "whsec_" + "QSBzZWNyZXQgb2YgdGhpcnR5LXR3byBieXRlcyEhIS4u"
SETTLED_WITHIN_SECONDS = 240

RECEIVER = """
import json, os, random, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
try:
    from standardwebhooks.webhooks import Webhook
except ImportError:
    Webhook = None
path, port, secret = sys.argv[1], int(sys.argv[2]), sys.argv[3]
lock, calls = Lock(), open(path + ".calls", "ab", buffering=0)
taken = {json.loads(line)["id"] for line in open(path)} if os.path.exists(path) else set()
out = open(path, "ab", buffering=0)
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if Webhook is not None:
            Webhook(secret).verify(body, dict(self.headers.items()))
        name = self.headers["webhook-id"]
        with lock:
            calls.write(name.encode() + b"\\n")
            if name not in taken:
                out.write(json.dumps({"id": name, "incident": json.loads(body)["data"]["incident"]}).encode() + b"\\n")
                taken.add(name)
        time.sleep(random.random() * 0.05)  # a kill here leaves it taken and unanswered
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@dataclass
class Outcome:
    """What happened, and what is wrong with it."""

    kills: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    """Requests that the receiver got, those that came twice included."""
    taken: int = 0
    settling_seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


@dataclass
class Receiver:
    """The receiver as a process that can be killed."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, or start it again."""
        script = self.folder / "receiver.py"
        script.write_text(RECEIVER)
        self.process = subprocess.Popen([sys.executable, script, self.folder / "taken", str(self.port), SECRET])

    def kill(self) -> None:
        """End it in the middle of whatever it does."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


def prepare(engine: Engine, port: int) -> tuple[int, str]:
    """Fill an empty database with a team and its channel; returns both their ids."""
    migrations.upgrade(engine)
    with transaction(engine) as session:
        team = create_team(session, "Chaos")
        config = {"url": f"http://127.0.0.1:{port}/hook", "secret": SECRET}
        channel = channels.create_channel(session, team.id, name="receiver", kind="webhook", config=config)
        session.add(AlertRule(team_id=team.id, channel_id=channel.id, min_seconds_per_day=0.0))
        return team.id, channel.id


def fire(engine: Engine, team_id: int, number: int) -> None:
    """Open one incident and write its message, as the worker does with a build."""
    with transaction(engine) as session:
        incident = Incident(
            team_id=session.get_one(Team, team_id).id,
            kind="order",
            key=f"key-{number}",
            metric="cache",
            cause="order_bust",
            instruction="COPY . .",
            evidence="A benchmark.",
            confidence="certain",
            seconds_per_build=60.0,
            builds_per_day=10.0,
            seconds_per_day=600.0,
            opened_at=datetime.now(UTC),
        )
        session.add(incident)
        session.flush()
        telling.tell(session, [Change(incident, "opened")])


def run(
    installation: Installation,
    engine: Engine,
    *,
    alerts: int,
    seconds: float,
    pause: tuple[float, float] = (0.5, 3.0),
    seed: int = 1,
) -> Outcome:
    """Fire alerts over some seconds and kill processes meanwhile; wait until all is sent, and count."""
    outcome = Outcome()
    receiver = Receiver(installation.folder, free_port())
    team_id, _ = prepare(engine, receiver.port)
    ended = threading.Event()
    chosen = random.Random(seed)
    receiver.start()
    installation.start(*[name for name in installation.commands() if name != "web"])
    killer = threading.Thread(
        target=_kill,
        args=(installation, receiver),
        kwargs={"chosen": chosen, "pause": pause, "ended": ended, "outcome": outcome},
    )
    killer.start()
    try:
        for number in range(alerts):
            fire(engine, team_id, number)
            time.sleep(seconds / alerts)
        ended.set()
        killer.join()
        began = time.monotonic()
        with transaction(engine) as session:  # the pauses after failed tries are for days, not for a benchmark
            for message in session.scalars(select(Message).where(Message.state == "new")):
                message.next_at = min(message.next_at, datetime.now(UTC) + timedelta(seconds=1))
        try:
            wait_for(lambda: _is_settled(engine), "all messages to be sent", SETTLED_WITHIN_SECONDS)
        except AssertionError as error:
            outcome.faults.append(str(error))
        outcome.settling_seconds = time.monotonic() - began
    finally:
        ended.set()
        killer.join()
        installation.stop()
        receiver.kill()
    _check(engine, installation.folder / "taken", alerts, outcome)
    return outcome


def _kill(
    installation: Installation,
    receiver: Receiver,
    *,
    chosen: random.Random,
    pause: tuple[float, float],
    ended: threading.Event,
    outcome: Outcome,
) -> None:
    while not ended.wait(chosen.uniform(*pause)):
        name = chosen.choice(["broker", "scheduler", "worker", "receiver"])
        if name == "receiver":
            receiver.kill()
            outcome.kills[name] += 1
            ended.wait(chosen.uniform(0.0, 1.0))
            receiver.start()
        elif name not in installation.commands():  # the queue is a folder: lose what is in it
            shutil.rmtree(installation.folder / "queue", ignore_errors=True)
            outcome.kills["queue folder"] += 1
        elif installation.is_up(name) or chosen.random() < 0.05:
            installation.kill(name)
            outcome.kills[name] += 1
            ended.wait(chosen.uniform(0.0, 0.5))
            installation.start(name)


def _is_settled(engine: Engine) -> bool:
    with reading(engine) as session:
        waiting = select(func.count()).where(Message.state.in_(("new", "working")))
        return not session.scalar(waiting)


def _check(engine: Engine, path: Path, alerts: int, outcome: Outcome) -> None:
    with reading(engine) as session:
        rows = session.execute(select(Message.id, Message.incident_id, Message.state, Message.answer)).all()
    if len(rows) != alerts:
        outcome.faults.append(f"{alerts} alerts have {len(rows)} messages")
    taken = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    outcome.calls = len((path.parent / "taken.calls").read_text().splitlines())
    outcome.taken = len(taken)
    counted = Counter(entry["id"] for entry in taken)
    outcome.faults += [f"message {name} was taken {count} times" for name, count in counted.items() if count != 1]
    outcome.faults += [f"message {row.id} is {row.state}: {row.answer}" for row in rows if row.state != "sent"]
    outcome.faults += [f"message {row.id} is sent and was never taken" for row in rows if row.id not in counted]
    incidents = Counter(entry["incident"] for entry in taken)
    outcome.faults += [f"incident {name} was told {count} times" for name, count in incidents.items() if count != 1]


def main() -> None:
    """Run once and print what happened; the exit status is 1 when anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alerts", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the alerts fire at least")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--queue", choices=["files", "redis"], default="files")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cachescope-messages-")))
        is_sqlite = options.database == "sqlite"
        url = f"sqlite:///{folder}/cachescope.db" if is_sqlite else stack.enter_context(servers.postgresql())
        engine = make_engine(url)
        installation = make_installation(folder, url, redis_folder=folder if options.queue == "redis" else None)
        os.environ.update(here(installation))
        forget_settings()
        outcome = run(installation, engine, alerts=options.alerts, seconds=options.seconds, seed=options.seed)
        engine.dispose()
    print(f"{options.database} + {options.queue}: {sum(outcome.kills.values())} kills {dict(outcome.kills)}")
    print(f"  {outcome.taken} messages taken of {options.alerts}, {outcome.calls - outcome.taken} came twice")
    print(f"  settled {outcome.settling_seconds:.1f} s after the last alert")
    for fault in outcome.faults[:20]:
        print(f"  FAULT: {fault}")
    print(f"  {len(outcome.faults)} faults")
    raise SystemExit(bool(outcome.faults))


def here(installation: Installation) -> dict[str, str]:
    """The settings with which this process writes messages and wakes the workers of the installation."""
    names = ("CACHESCOPE_DATABASE_URL", "CACHESCOPE_SECRET_KEY", "CACHESCOPE_WORKER_QUEUE_FOLDER", "REDIS_URL")
    return {name: installation.environment[name] for name in names if name in installation.environment}


def make_installation(folder: Path, url: str, *, redis_folder: Path | None = None) -> Installation:
    """An installation whose channels may reach this machine and whose leases are short."""
    settings = {"CACHESCOPE_ALERT_NETWORKS": "127.0.0.0/8", "CACHESCOPE_ALERT_LEASE_SECONDS": "5"}
    return Installation(folder, url, free_port(), redis_folder=redis_folder, settings=settings)


if __name__ == "__main__":
    main()
