"""A real Buildbot for tests: a master with a worker that builds images and tells a source of ours how it went.

It is installed apart, in `.cachescope/buildbot`, as `.ci/run` does; nothing of the project needs it to run.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.engines import BASE, Engine
from tests.servers import miss
from tests.serving import ROOT, wait_for

BUILDBOT = "CACHESCOPE_TEST_BUILDBOT"
"""The folder of an environment that has `buildbot` and `buildbot-worker`, in place of the usual one."""

DOCKERFILES = {
    "image": f"FROM {BASE}\nCOPY app.txt .\nRUN cat app.txt && sleep 1 && echo done > built\nRUN echo last > last\n",
    "broken": f"FROM {BASE}\nCOPY app.txt .\nRUN echo about to fail && false\nRUN echo never\n",
    "endless": f"FROM {BASE}\nCOPY app.txt .\nRUN echo still working && sleep 600\n",
}
"""One builder for each."""

MASTER = """
from buildbot.plugins import reporters, schedulers, steps, util, worker

c = BuildmasterConfig = {{}}
c["workers"] = [worker.Worker("w1", "secret")]
c["protocols"] = {{"pb": {{"port": "tcp:{pb}:interface=127.0.0.1"}}}}
c["www"] = {{"port": "tcp:{www}:interface=127.0.0.1", "plugins": {{}}}}
c["db"] = {{"db_url": "sqlite:///state.sqlite"}}
c["buildbotURL"] = "http://127.0.0.1:{www}/"
c["buildbotNetUsageData"] = None
c["builders"] = [
    util.BuilderConfig(
        name=name,
        workernames=["w1"],
        factory=util.BuildFactory([
            steps.ShellCommand(name="look around", command=["ls", "-l"], workdir={projects!r} + "/" + name),
            steps.ShellCommand(
                name="build",
                command=[{docker!r}, "-H", {host!r}, "build", "--progress=plain", "--network=none", "-t", name, "."],
                env={{"DOCKER_BUILDKIT": "1", "HOME": {projects!r}}},
                workdir={projects!r} + "/" + name,
            ),
        ]),
    )
    for name in {names!r}
]
c["schedulers"] = [schedulers.ForceScheduler(name="force-" + name, builderNames=[name]) for name in {names!r}]
c["services"] = [
    # These lines stand on the page of a Buildbot source.
    reporters.HttpStatusPush(
        {url!r},
        headers={{"Authorization": "Bearer " + {secret!r}}},
        generators=[
            reporters.BuildStatusGenerator(
                mode="all",
                message_formatter=reporters.MessageFormatterFunction(lambda context: context["build"], "json"),
            )
        ],
    )
]
"""


@dataclass
class Buildbot:
    """A master with one worker."""

    url: str
    client: httpx.Client

    def force(self, builder: str, **properties: str) -> None:
        """Begin a build."""
        given = {"reason": "test", "branch": "main", "repository": "https://git.example.org/acme/shop.git"} | properties
        self._call(f"/forceschedulers/force-{builder}", "force", given)

    def stop(self, build_id: int) -> None:
        """Cancel a build."""
        self._call(f"/builds/{build_id}", "stop", {"reason": "test"})

    def builds(self) -> list[dict[str, Any]]:
        """All builds, newest first."""
        return self.client.get("/builds", params={"order": "-buildid"}).json()["builds"]

    def count_complete(self) -> int:
        """How many builds have ended."""
        return sum(build["complete"] for build in self.builds())

    def output(self, build_id: int) -> str:
        """What the steps of a build have printed so far."""
        steps = self.client.get(f"/builds/{build_id}/steps").json()["steps"]
        logs = [
            log
            for step in steps
            for log in self.client.get(f"/builds/{build_id}/steps/{step['number']}/logs").json()["logs"]
        ]
        return "".join(self.client.get(f"/logs/{log['logid']}/raw").text for log in logs)

    def _call(self, path: str, method: str, params: dict[str, Any]) -> None:
        answer = self.client.post(path, json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        assert answer.is_success, answer.text


def programs() -> Path:
    """Where the programs of Buildbot are; a test that needs them is skipped or fails where there are none."""
    folder = Path(os.environ.get(BUILDBOT) or ROOT / ".cachescope/buildbot") / "bin"
    if not (folder / "buildbot").exists() or not (folder / "buildbot-worker").exists():
        miss(
            "No Buildbot: python3 -m venv .cachescope/buildbot && "
            ".cachescope/buildbot/bin/pip install --require-hashes -r tests/requirements-buildbot.lock"
        )
    return folder


@contextmanager
def buildbot(engine: Engine, url: str, secret: str, ports: tuple[int, int]) -> Iterator[Buildbot]:
    """Run a master and a worker that build with an engine and tell an address how it went."""
    binaries = programs()
    folder = Path(tempfile.mkdtemp(prefix="cachescope-buildbot-", dir="/tmp"))
    projects = folder / "projects"
    for name, dockerfile in DOCKERFILES.items():
        (projects / name).mkdir(parents=True)
        (projects / name / "Dockerfile").write_text(dockerfile)
        (projects / name / "app.txt").write_text(f"{folder.name}\n")  # of its own: the engine may be shared
    (folder / "master").mkdir()
    said = {"pb": ports[0], "www": ports[1], "docker": engine.client, "host": engine.host, "projects": str(projects)}
    (folder / "master/master.cfg").write_text(MASTER.format(**said, names=list(DOCKERFILES), url=url, secret=secret))
    _run(binaries / "buildbot", "create-master", "--relocatable", str(folder / "master"))
    worker = ("--relocatable", str(folder / "worker"), f"127.0.0.1:{ports[0]}", "w1", "secret")
    _run(binaries / "buildbot-worker", "create-worker", *worker)
    with httpx.Client(base_url=f"http://127.0.0.1:{ports[1]}/api/v2", timeout=30) as client:
        processes = []
        try:
            for program, name in (("buildbot", "master"), ("buildbot-worker", "worker")):
                with (folder / f"{name}.log").open("wb") as log:
                    command = [binaries / program, "start", "--nodaemon", str(folder / name)]
                    processes.append(
                        subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, start_new_session=True)
                    )
            wait_for(lambda: _has_worker(client), f"Buildbot to start; see {folder}")
            yield Buildbot(f"http://127.0.0.1:{ports[1]}", client)
        finally:
            for process in reversed(processes):
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait(20)
            shutil.rmtree(folder, ignore_errors=True)


def _run(*command: object) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


def _has_worker(client: httpx.Client) -> bool:
    try:
        workers = client.get("/workers").json()["workers"]
    except (httpx.HTTPError, ValueError, KeyError):
        return False
    return any(worker["connected_to"] for worker in workers)
