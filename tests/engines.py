"""A private Docker engine for tests: dockerd in a folder of its own, with an image to begin from and no network."""

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers import miss

_PATIENCE_SECONDS = 60
BASE = "cachescope-base"


@dataclass(frozen=True)
class Engine:
    """A running engine and the client that fits it."""

    folder: Path
    client: str

    @property
    def host(self) -> str:
        """Where it listens."""
        return f"unix://{self.folder}/socket"

    def run(self, *arguments: str, **options: object) -> subprocess.CompletedProcess[bytes]:
        """Run the client."""
        command = [self.client, "-H", self.host, *arguments]
        return subprocess.run(command, capture_output=True, check=False, **options)  # type: ignore[call-overload]


@contextmanager
def docker_engine(driver: str = "vfs") -> Iterator[Engine]:
    """Run dockerd; a test that needs it is skipped where it cannot run, and fails where nothing may be skipped."""
    daemon, client, busybox = shutil.which("dockerd"), _client(), shutil.which("busybox")
    if daemon is None or client is None or busybox is None or os.geteuid() != 0:
        miss("No dockerd, docker and static busybox that root may run: install docker.io and busybox-static.")
    folder = Path(tempfile.mkdtemp(prefix="cachescope-docker-", dir="/tmp"))
    engine = Engine(folder, client)
    paths = [f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/pid", "-H", engine.host]
    options = [f"--storage-driver={driver}", "--iptables=false", "--ip6tables=false", "--bridge=none"]
    try:
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen([daemon, *paths, *options], stdout=log, stderr=log, start_new_session=True)
        try:
            _wait(engine, server)
            _import_base(engine, Path(busybox))
            yield engine
        finally:
            server.terminate()
            server.wait(_PATIENCE_SECONDS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _client() -> str | None:
    """The client of the distribution, which has BuildKit without a plug-in; a newer one on PATH may lack it."""
    return "/usr/bin/docker" if Path("/usr/bin/docker").exists() else shutil.which("docker")


def _wait(engine: Engine, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while engine.run("info").returncode != 0:
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"dockerd does not start:\n{(engine.folder / 'log').read_text()[-3000:]}")
        time.sleep(0.1)


def _import_base(engine: Engine, busybox: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(busybox, "bin/busybox")
        for name in ("sh", "cat", "sleep", "true", "false", "echo"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
    done = engine.run("import", "-", BASE, input=packed.getvalue())
    if done.returncode != 0:
        raise RuntimeError(done.stderr.decode(errors="replace"))
