"""What can be said about a log on the command line: the options that `push` and `exec` share."""

from pathlib import Path
from typing import Annotated

import typer

Url = Annotated[
    str | None, typer.Option("--url", help="The server's address; else CACHESCOPE_URL or the settings file.")
]
Token = Annotated[
    str | None,
    typer.Option("--token", help="The upload token; better in CACHESCOPE_TOKEN, where no process list shows it."),
]
Repository = Annotated[str | None, typer.Option(help="Name of the repository, such as acme/api.")]
Commit = Annotated[str | None, typer.Option(help="Commit that was built.")]
Branch = Annotated[str | None, typer.Option(help="Branch that was built; of a pull request its source.")]
BaseBranch = Annotated[str | None, typer.Option(help="Branch that this one was forked from.")]
DefaultBranch = Annotated[str | None, typer.Option(help="The repository's default branch.")]
PullRequest = Annotated[str | None, typer.Option(help="Number of the pull request.")]
Job = Annotated[str | None, typer.Option(help="Name of the CI job.")]
Attempt = Annotated[str | None, typer.Option(help="Which try of the job, from 1.")]
Runner = Annotated[str | None, typer.Option(help="Machine that built.")]
Image = Annotated[str | None, typer.Option(help="Name of the image, where the log does not tell.")]
Dockerfile = Annotated[str | None, typer.Option(help="Path of the Dockerfile.")]
Outcome = Annotated[str | None, typer.Option(help="How the job ended: succeeded, failed or canceled.")]
Ci = Annotated[str | None, typer.Option(help="CI system, such as github-actions.")]
RunUrl = Annotated[str | None, typer.Option(help="Address of the CI run.")]
Key = Annotated[
    str | None, typer.Option(help="A repeated upload with the same key is one delivery; else made from log and run.")
]
Context = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        exists=True,
        file_okay=False,
        help="The build context: sends its Dockerfile, and names and hashes of its files, which tell why steps missed.",
    ),
]
