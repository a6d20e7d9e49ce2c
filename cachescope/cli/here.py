"""This machine: what its CI job and its git say about a run, and its standard error."""

import os
import platform
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from cachescope.cli.environment import MAX_EVENT_BYTES, describe_run
from cachescope.cli.words import printable


def describe_here() -> dict[str, str]:
    """Describe the run that this process belongs to."""
    return describe_run(os.environ, run_git, lambda path: read_capped(Path(path)), platform.node())


def read_capped(path: Path) -> bytes:
    """Read a file of the CI job; a missing or endless one raises OSError."""
    with path.open("rb") as file:
        return file.read(MAX_EVENT_BYTES)


def run_git(*arguments: str) -> str | None:
    """Run git in this folder; None when it is missing, fails, or takes longer than a look at a repository may."""
    with suppress(OSError, subprocess.SubprocessError):
        # No prompt, no lock, no pager: this is a look, and nobody may be there to answer.
        environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
        done = subprocess.run(  # noqa: S603  # fixed words of ours
            ["git", *arguments],  # noqa: S607  # the git of this machine
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=5,
            env=environment,
            check=False,
        )
        if done.returncode == 0:
            return done.stdout.decode("utf-8", "replace").strip() or None
    return None


def tell(sentence: str) -> None:
    """Say something on standard error, so that standard output holds addresses only."""
    print(f"cachescope: {printable(sentence)}", file=sys.stderr)
