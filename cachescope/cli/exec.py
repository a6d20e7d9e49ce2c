"""Run a build, pass its output, status and signals through unchanged, and send its log afterwards."""

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Annotated

import orjson
import typer

from cachescope.cli import options
from cachescope.cli.environment import clean
from cachescope.cli.gathering import gather
from cachescope.cli.here import describe_here, tell
from cachescope.cli.packing import PIECE, make_private_file, pack_log
from cachescope.cli.running import NOT_EXECUTABLE, NOT_FOUND, Recorder, run
from cachescope.cli.words import printable
from cachescope.redaction import Redactor, redact_text
from cachescope.surroundings import write_surroundings

UPLOAD_SECONDS = 10.0
"""A build waits no longer for its log to be sent; most are sent within a second."""

command = typer.Typer(add_completion=False, rich_markup_mode=None)


@command.command(context_settings={"allow_interspersed_args": False})
def execute(
    program: Annotated[list[str], typer.Argument(metavar="-- COMMAND…", help="The build and its arguments.")],
    *,
    url: options.Url = None,
    token: options.Token = None,
    repository: options.Repository = None,
    commit: options.Commit = None,
    branch: options.Branch = None,
    base_branch: options.BaseBranch = None,
    default_branch: options.DefaultBranch = None,
    pull_request: options.PullRequest = None,
    job: options.Job = None,
    attempt: options.Attempt = None,
    runner: options.Runner = None,
    image: options.Image = None,
    dockerfile: options.Dockerfile = None,
    ci: options.Ci = None,
    run_url: options.RunUrl = None,
    record: Annotated[
        Path | None,
        typer.Option(help="Keep the log in this file too, and the command line as JSON in one named .command.json."),
    ] = None,
    no_evidence: Annotated[
        bool,
        typer.Option(
            "--no-evidence", help="Send the log alone, not what tells why steps missed: Dockerfile, file names."
        ),
    ] = False,
    upload_seconds: Annotated[
        float, typer.Option(help="How long the build may wait for its log to be sent; 0 sends nothing.", min=0, max=600)
    ] = UPLOAD_SECONDS,
) -> None:
    """Run a build and send its log afterwards.

    Output, exit status and signals pass through unchanged, on a terminal and elsewhere. A server that is down or slow
    never fails the build: the log is kept and the command that sends it later is printed. Options override what the
    CI's environment or git say.
    """
    given = {
        "repository": repository,
        "commit": commit,
        "branch": branch,
        "base_branch": base_branch,
        "default_branch": default_branch,
        "pull_request": pull_request,
        "job": job,
        "attempt": attempt,
        "runner": runner,
        "image": image,
        "dockerfile": dockerfile,
        "ci": ci,
        "run_url": run_url,
    }
    with tempfile.TemporaryFile() as file:
        try:
            status = run(program, Recorder(file))
        except FileNotFoundError:
            tell(f"{program[0]}: command not found.")
            raise typer.Exit(NOT_FOUND) from None
        except OSError as error:
            tell(f"{program[0]} cannot be run: {(error.strerror or str(error)).lower()}.")
            raise typer.Exit(NOT_EXECUTABLE) from None
        try:
            if record is not None:
                keep_record(file, record, program)
            if upload_seconds and file.seek(0, os.SEEK_END):
                parameters = describe_here() | {name: value for name, value in given.items() if value}
                parameters.setdefault("outcome", outcome_of(status))
                evidence = None if no_evidence else look_around(program)
                send(file, parameters, url, token, upload_seconds, evidence=evidence)
        except KeyboardInterrupt:
            tell("The log was not sent.")
        except Exception as error:  # noqa: BLE001  # the build has its status, whatever becomes of its log
            tell(f"The log was not sent: {error}")
    raise typer.Exit(status)


def outcome_of(status: int) -> str:
    """Say how a build with this exit status ended: 130 is Ctrl-C, 143 a termination."""
    return {0: "succeeded", 130: "canceled", 143: "canceled"}.get(status, "failed")


def keep_record(file: IO[bytes], path: Path, program: Sequence[str]) -> None:
    """Copy the log and write down the command line beside it, both without secrets."""
    with path.open("wb") as kept:
        kept.writelines(Redactor().redact_chunks(pieces(file)))
    words = [redact_text(word) for word in program]
    path.with_name(f"{path.name}.command.json").write_bytes(orjson.dumps(words, option=orjson.OPT_APPEND_NEWLINE))


def look_around(program: Sequence[str]) -> bytes | None:
    """Say what surrounds the build, as JSON; a build goes on without it, whatever happens."""
    try:
        found = gather(program, Path.cwd())
    except Exception as error:  # noqa: BLE001  # a look at the folder must not cost the log
        tell(f"What the build was made from could not be read: {error}")
        return None
    return None if found.is_empty else orjson.dumps(write_surroundings(found))


def send(
    file: IO[bytes],
    parameters: Mapping[str, str],
    url: str | None,
    token: str | None,
    seconds: float,
    *,
    evidence: bytes | None = None,
) -> None:
    """Send the log with `cachescope push`, which is stopped when it takes too long; what cannot be sent is kept.

    A process of its own: its network library is not loaded before the build, and whatever hangs in it can be ended.
    `-P` keeps the folder that is built out of the import path.
    """
    with make_private_file(log_folder(os.environ), "build") as kept:
        pack_log(pieces(file), kept)
    path = Path(kept.name)
    words = push_words(path, url or os.environ.get("CACHESCOPE_URL"), parameters)
    beside = path.with_name(f"{path.name}.evidence.json")
    if evidence is not None:
        beside.touch(0o600)
        beside.write_bytes(evidence)
        words.append(f"--evidence={beside}")
    environment = {**os.environ, "CACHESCOPE_TOKEN": token} if token else dict(os.environ)
    try:
        done = subprocess.run(  # noqa: S603  # ourselves
            [sys.executable, "-P", "-m", *words, "--attempts=2"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=seconds,
            check=False,
        )
        was_sent = done.returncode == 0
    except subprocess.TimeoutExpired:
        tell(f"The server took longer than {seconds:g} s.")
        was_sent = False
    if was_sent:
        path.unlink()
        beside.unlink(missing_ok=True)
        tell(f"The build's cache: {done.stdout.decode(errors='replace').strip()}")
    else:
        tell("The log is kept. Send it later with:")
        print(f"  {printable(shlex.join(words))}", file=sys.stderr)


def pieces(file: IO[bytes]) -> Iterator[bytes]:
    """Yield a file from its beginning."""
    file.seek(0)
    while piece := file.read(PIECE):
        yield piece


def log_folder(environment: Mapping[str, str]) -> Path:
    """Return where logs are kept that could not be sent."""
    if given := environment.get("CACHESCOPE_LOGS"):
        return Path(given)
    folder = environment.get("XDG_STATE_HOME") or (Path(environment.get("HOME", "~")).expanduser() / ".local" / "state")
    return Path(folder) / "cachescope" / "logs"


def push_words(path: Path, url: str | None, parameters: Mapping[str, str]) -> list[str]:
    """Return the exact command that sends a kept log; the token is left to the environment."""
    words = ["cachescope", "push", str(path), "--no-environment"]
    if url:
        words.append(f"--url={url}")
    return words + [f"--{name.replace('_', '-')}={value}" for name, value in clean(parameters).items()]
