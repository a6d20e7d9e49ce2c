"""Send a build log to a Cachescope server, with what the CI job's environment says about it."""

import os
import tempfile
from pathlib import Path
from typing import Annotated

import orjson
import typer

from cachescope.cli import inputs, options
from cachescope.cli.gathering import gather_context
from cachescope.cli.here import describe_here, tell
from cachescope.cli.main import load_object
from cachescope.cli.packing import pack_log
from cachescope.cli.uploading import ATTEMPTS, find_server, send_log, wait_for_builds
from cachescope.cli.words import plural, printable
from cachescope.errors import CachescopeError, SettingsError, UnreadableInputError
from cachescope.surroundings import write_surroundings


def command(
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="The build log, plain or packed; `-` reads standard input.")
    ] = None,
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
    outcome: options.Outcome = None,
    ci: options.Ci = None,
    run_url: options.RunUrl = None,
    idempotency_key: options.Key = None,
    context: options.Context = None,
    evidence: Annotated[
        Path | None,
        typer.Option(
            metavar="F", help="What surrounds the build, as `cachescope exec` keeps it beside a log.", exists=True
        ),
    ] = None,
    no_environment: Annotated[
        bool, typer.Option("--no-environment", help="Send only what the options say; ask neither CI nor git.")
    ] = False,
    attempts: Annotated[
        int, typer.Option(help="How often to try where the server cannot be reached or is busy.", min=1, max=20)
    ] = ATTEMPTS,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the builds' pages.", min=0, max=600)] = 0,
) -> None:
    """Send a build log to a Cachescope server and print where it can be seen.

    Secrets are taken out before the log leaves this machine. Options override what GitHub Actions, GitLab, Buildkite,
    CircleCI, Jenkins, Azure Pipelines or git say. Without FILE, `--image app:tag` sends what that image of the local
    engine weighs, layer by layer.
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
        "outcome": outcome,
        "ci": ci,
        "run_url": run_url,
        "idempotency_key": idempotency_key,
    }
    server = find_server(url, token, os.environ)
    parameters = {} if no_environment else describe_here()
    parameters |= {name: value for name, value in given.items() if value}
    if file is None:
        if not image:
            raise SettingsError("Name the log to send, or an image of the local engine with --image.")
        parameters.pop("image", None)
        send = load_object("push --image", "integrations.measure", "push_image")
        print(printable(send(image, server, parameters, attempts=attempts, notify=tell)))  # type: ignore[operator]
        return
    document = evidence.read_bytes() if evidence is not None else None
    if context is not None:
        document = gather_document(context, dockerfile)
    with inputs.open_file(file) as source, tempfile.TemporaryFile() as packed:
        logs = inputs.read_logs(file, source)
        log = next(logs, None)
        if log is None or log.member is not None:
            raise UnreadableInputError(
                f"Cannot send {file}: it is an archive. Unpack it and send the log of the build."
            )
        head, chunks = inputs.peek(log.chunks, 512)
        if head[257:262] == b"ustar":
            raise UnreadableInputError(f"Cannot send {file}: it is an archive of build records. Send the build's log.")
        if not head:
            raise UnreadableInputError(f"Cannot send {'standard input' if file == '-' else file}: it is empty.")
        log_file = pack_log(chunks, packed)
        try:
            delivery = send_log(log_file, server, parameters, evidence=document, attempts=attempts, notify=tell)
        except CachescopeError as error:
            tell(str(error))
            raise typer.Exit(1) from error
    if log_file.redactions:
        tell(f"{plural(log_file.redactions, 'secret')} taken out of the log before it was sent.")
    if wait:
        delivery = wait_for_builds(delivery, server, wait)
    for page in delivery.build_pages or (delivery.page,):
        print(printable(page))


def gather_document(context: Path, dockerfile: str | None) -> bytes | None:
    """Say what surrounds a build of this folder; None where there is no Dockerfile."""
    file = Path(dockerfile) if dockerfile else context / "Dockerfile"
    found = gather_context(context, file if file.is_file() or dockerfile is None else context / file)
    if not found.dockerfiles:
        tell(f"There is no Dockerfile at {file}, so only the log is sent.")
        return None
    return orjson.dumps(write_surroundings(found))
