"""A private registry for tests: docker-registry in a folder of its own, which counts what it serves."""

import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers import miss

_PATIENCE_SECONDS = 30


@dataclass
class Registry:
    """A running registry."""

    port: int
    log: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def host(self) -> str:
        """Its name in references."""
        return f"127.0.0.1:{self.port}"

    def served(self) -> list[tuple[str, int]]:
        """Each blob that a client has fetched so far, with the bytes that were written to it."""
        found = []
        for line in self.log.read_text(errors="replace").splitlines():
            row = json.loads(line) if line.startswith("{") else {}
            if row.get("msg") == "response completed" and row.get("http.request.method") == "GET":
                digest = row.get("vars.digest") or row.get("http.request.uri", "").rpartition("/blobs/")[2]
                if digest.startswith("sha256:") and "/blobs/" in row["http.request.uri"]:
                    found.append((digest, int(row["http.response.written"])))
        return found


@contextmanager
def docker_registry(hook: str | None = None, authorization: str = "") -> Iterator[Registry]:
    """Run a registry; where an address is given it is notified of everything that happens."""
    binary = shutil.which("docker-registry") or shutil.which("registry")
    if binary is None:
        miss("No docker-registry on PATH: install docker-registry.")
    folder = Path(tempfile.mkdtemp(prefix="cachescope-registry-", dir="/tmp"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    told = {
        "version": 0.1,
        "log": {"level": "info", "formatter": "json", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    if hook is not None:
        endpoint = {"name": "cachescope", "url": hook, "headers": {"Authorization": [authorization]},
                    "timeout": "5s", "threshold": 3, "backoff": "1s"}  # fmt: skip
        told["notifications"] = {"endpoints": [endpoint]}
    (folder / "config.yml").write_text(json.dumps(told))  # every JSON is YAML
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([binary, "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"docker-registry does not start:\n{(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)
        yield Registry(port, folder / "log", process)
    finally:
        process.terminate()
        process.wait(_PATIENCE_SECONDS)
        shutil.rmtree(folder, ignore_errors=True)
