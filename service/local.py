"""The data folder of a server that `cachescope up` runs: its keys, who runs it now, and what is left of a crash.

Nothing in it is readable for others. `demo` and `admin` read the same folder from another terminal, so that they
need no settings of their own.
"""

import fcntl
import json
import os
import secrets
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from cachescope.errors import SettingsError
from store.settings import PLACEHOLDERS

DATA = "CACHESCOPE_DATA"
SECRET_KEY = "CACHESCOPE_SECRET_KEY"  # noqa: S105 - the name of a setting


class DataFolder:
    """The folder that `CACHESCOPE_DATA` names, `.cachescope` where it names none."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = (path or Path(os.environ.get(DATA) or ".cachescope")).absolute()
        self._lock: IO[str] | None = None

    def prepare(self) -> None:
        """Make the folder, readable for nobody else."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)

    def environment(self) -> dict[str, str]:
        """Return the settings that every process of this folder shares; keys are made at the first call."""
        own = os.environ.get(SECRET_KEY, "").strip()
        key = own if own and own.casefold() not in PLACEHOLDERS else self._secret_key()
        return {
            DATA: str(self.path),
            SECRET_KEY: key,
            "CACHESCOPE_WORKER_QUEUE_FOLDER": os.environ.get("CACHESCOPE_WORKER_QUEUE_FOLDER")
            or str(self.path / "queue"),
        }

    def _secret_key(self) -> str:
        path = self.path / "secret_key"
        with suppress(FileNotFoundError):
            return path.read_text(encoding="ascii").strip()
        key = secrets.token_urlsafe(32)
        # Written beside and renamed: a full disk must not leave an empty key behind, which would lock nothing.
        draft = self.path / ".secret_key"
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(key + "\n")
            os.fsync(file.fileno())
        draft.rename(path)
        return key

    # -- who runs it --------------------------------------------------------------------------------------------------

    def acquire(self) -> None:
        """Claim the folder for this process; the claim ends with the process, however it ends.

        Raises SettingsError when another `up` runs on it. Children that a killed `up` left behind are ended.
        """
        lock = (self.path / "up.lock").open("a", encoding="ascii")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            url = self.state().get("url") or "an address that it has yet to print"
            raise SettingsError(
                f"Cachescope already runs on {self.path}, at {url}. Stop it first, or set {DATA} to another folder."
            ) from None
        self._lock = lock
        for pid, started in self.state().get("children", {}).values():
            if process_start(pid) == started is not None:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
        self.remember({})

    def release(self) -> None:
        """Give the claim back."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def state(self) -> dict[str, Any]:
        """Return what the `up` that runs here, or ran here last, has written down."""
        try:
            state = json.loads((self.path / "up.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return state if isinstance(state, dict) else {}

    def is_running(self) -> bool:
        """Tell whether an `up` runs on this folder now."""
        try:
            with (self.path / "up.lock").open("r", encoding="ascii") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return False

    def remember(self, pids: Mapping[str, int], **more: Any) -> None:
        """Write down the children, each with the moment of its start: a pid alone may be somebody else's later."""
        children = {name: (pid, process_start(pid)) for name, pid in pids.items()}
        draft = self.path / ".up.json"
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump({**more, "children": children}, file)
        draft.rename(self.path / "up.json")


def adopt_local_settings() -> None:
    """Let a command in another terminal use the data folder, the keys and the queue of `up`; real settings win."""
    folder = DataFolder()
    if not folder.path.is_dir():
        return
    settings = folder.environment()
    if folder.is_running():
        settings.update(folder.state().get("environment", {}))
    for name, value in settings.items():
        os.environ.setdefault(name, value)


def process_start(pid: int) -> str | None:
    """Return when a process was started, as the system words it; None when there is no such process."""
    command = ["ps", "-o", "lstart=", "-p", str(pid)]
    try:
        return (
            (Path("/proc") / str(pid) / "stat")
            .read_text(encoding="ascii", errors="replace")
            .rpartition(")")[2]
            .split()[19]
        )
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return None
    except (IndexError, OSError):
        return None
    with suppress(OSError):  # no /proc here (macOS)
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a fixed program
        return done.stdout.strip() or None
    return None
