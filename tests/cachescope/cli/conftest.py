"""The command in a process of its own, and a server on loopback that takes logs as the real one does."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from backports import zstd

ROOT = Path(__file__).resolve().parents[3]
LOGS = Path(__file__).resolve().parents[1] / "formats"
CI_VARIABLES = ("CI", "GITHUB_", "GITLAB", "BUILDKITE", "CIRCLE", "TF_BUILD", "JENKINS", "BUILD_", "SYSTEM_", "RUNNER_")


def clean_environment(folder: Path, **extra: str) -> dict[str, str]:
    """The environment of this process without its CI, its settings and its terminal."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(
            (*CI_VARIABLES, "CACHESCOPE_", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TERM", "COV_CORE_")
        )
    }
    return kept | {"PYTHONPATH": str(ROOT), "HOME": str(folder), "XDG_STATE_HOME": str(folder / "state"), **extra}


@dataclass
class Call:
    """Runs `cachescope` and returns what became of it."""

    folder: Path

    def __call__(
        self,
        *arguments: str | Path,
        stdin: bytes = b"",
        environment: dict[str, str] | None = None,
        cwd: Path | None = None,
    ) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            [sys.executable, "-P", "-m", "cachescope", *map(str, arguments)],
            input=stdin,
            capture_output=True,
            env=clean_environment(self.folder, **(environment or {})),
            cwd=cwd or self.folder,
            timeout=60,
            check=False,
        )


@pytest.fixture
def cachescope(tmp_path: Path) -> Call:
    return Call(tmp_path)


@pytest.fixture
def plain_log() -> Path:
    return next(iter(sorted((LOGS / "buildkit_plain").glob("*.log"))))


@dataclass
class Receiver:
    """What the server was sent, and how it answers: with each of these statuses in turn, then with 202."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    delay_seconds: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)

    def logs(self) -> list[bytes]:
        return [zstd.decompress(request["body"]) for request in self.requests]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    state = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(200, {"id": "d1", "state": "done", "builds": [{"id": 7, "page": f"{state.url}/builds/7"}]})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            parts = urlsplit(self.path)
            state.requests.append(
                {"path": parts.path, "query": dict(parse_qsl(parts.query)), "headers": dict(self.headers), "body": body}
            )
            time.sleep(state.delay_seconds)
            status = state.statuses.pop(0) if state.statuses else 202
            if status == 202:
                self.answer(
                    202,
                    {
                        "delivery": {
                            "id": "d1",
                            "url": f"{state.url}/api/v1/deliveries/d1",
                            "page": f"{state.url}/deliveries/d1",
                            "state": "new",
                        }
                    },
                )
            else:
                self.answer(status, {"title": "Refused", "detail": "Say which repository the log belongs to."})

        def answer(self, status: int, document: Any) -> None:
            body = state.body if state.body is not None else json.dumps(document).encode()
            self.send_response(status)
            for name, value in state.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def server_settings(receiver: Receiver) -> dict[str, str]:
    return {"CACHESCOPE_URL": receiver.url, "CACHESCOPE_TOKEN": "cs_test_token", "NO_PROXY": "*"}


@pytest.fixture
def repository(tmp_path: Path) -> Callable[..., str]:
    """A git repository with one commit; returns its id."""
    folder = tmp_path / "code"

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", *arguments],
            cwd=folder,
            env=clean_environment(tmp_path),
            capture_output=True,
            check=True,
        )
        return done.stdout.decode().strip()

    folder.mkdir()
    git("init", "-q", "-b", "feature/x")
    git("commit", "-q", "--allow-empty", "-m", "First")
    git("remote", "add", "origin", "https://me:secret@git.example.com/acme/api.git")
    return git
