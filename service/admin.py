"""`cachescope admin …`: what whoever runs the server does at its terminal, without signing in."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy.orm import Session

from cachescope.errors import InvalidValueError, NotFoundError
from service.actions.accounts import create_setup_link
from service.actions.people import make_reset_link
from service.actions.tokens import TokenForm, issue_token
from service.auditing import note
from service.local import adopt_local_settings
from service.settings import get_settings
from store import migrations
from store.backup import restore_backup, write_backup
from store.database import get_engine, reading, transaction
from store.logs import open_logs
from store.models.accounts import Team
from store.models.repositories import Repository
from store.queries import accounts, deliveries, heartbeats, repositories
from workers.heartbeats import SILENT_AFTER_SECONDS
from workers.pipeline import reader_version

command = typer.Typer(
    help="Look after a server from its terminal.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)

TeamOption = Annotated[str, typer.Option(help="Slug of the team, as it stands in addresses.")]
RepositoryOption = Annotated[str, typer.Option(help="Name of one repository of the team.")]


@command.callback()
def use_settings() -> None:
    """Look after a server from its terminal."""
    adopt_local_settings()


@command.command()
def migrate() -> None:
    """Bring the database to the newest schema; an empty one is filled with its tables."""
    migrations.upgrade(get_engine())
    typer.echo(f"The database is at revision {migrations.head()}.")


@command.command("owner-link")
def make_owner_link() -> None:
    """Print a one-time link with which somebody makes an owner account and a team."""
    settings = get_settings()
    with transaction() as session:
        path = create_setup_link(session, hours=settings.setup_link_hours)
        note(session, None, "admin.command", target="owner-link")
    typer.echo(settings.public_url.rstrip("/") + path)


@command.command("reset-link")
def print_reset_link(
    email: Annotated[str, typer.Argument(help="The address that somebody signs in with.")],
) -> None:
    """Print a link with which somebody who forgot a password chooses a new one; it works once, for two hours."""
    with transaction() as session:
        path = make_reset_link(session, email)
    typer.echo(get_settings().public_url.rstrip("/") + path)


@command.command("create-token")
def create_token(
    team: TeamOption,
    name: Annotated[str, typer.Option(help="What the token is for.")] = "Made at the terminal",
    scope: Annotated[str, typer.Option(help="upload or read.")] = "upload",
    repository: RepositoryOption = "",
) -> None:
    """Print a new token of a team, or of one of its repositories; it is shown this once."""
    with transaction() as session:
        owner = _find_team(session, team)
        scoped = _find_repository(session, owner, repository) if repository else None
        form = TokenForm(name=name, scope=scope, repository_id=scoped.id if scoped else None)
        _, text = issue_token(session, owner, form)
        note(session, None, "token.made", team_id=owner.id, target=name, scope=scope)
    typer.echo(text)


@command.command()
def reread(
    team: TeamOption = "",
    repository: RepositoryOption = "",
    everything: Annotated[bool, typer.Option("--all", help="Also logs that this version has read already.")] = False,
) -> None:
    """Let the workers read stored logs again, after an upgrade; their builds are replaced in place."""
    count = _requeue(team, repository, ("done",), not_read_with=None if everything else reader_version())
    typer.echo(f"{count} {'log waits' if count == 1 else 'logs wait'} to be read again by the workers.")


@command.command()
def retry(team: TeamOption = "", repository: RepositoryOption = "") -> None:
    """Let the workers try all failed deliveries again."""
    count = _requeue(team, repository, ("failed",))
    typer.echo(f"{count} failed {'delivery waits' if count == 1 else 'deliveries wait'} to be tried again.")


@command.command()
def alive(kind: Annotated[str, typer.Argument(help="worker or scheduler.")]) -> None:
    """Tell whether a worker or the scheduler has given a sign of life lately; for health checks of containers."""
    with reading() as session:
        seen = heartbeats.last_seen(session).get(kind)
    silent = (datetime.now(UTC) - seen).total_seconds() if seen else None
    if silent is None or silent > SILENT_AFTER_SECONDS:
        typer.echo(
            f"No {kind} has given a sign of life." if silent is None else f"The {kind} is silent for {silent:.0f} s."
        )
        raise typer.Exit(1)
    typer.echo(f"The {kind} lives.")


@command.command()
def backup(
    file: Annotated[Path, typer.Argument(help="A file that does not exist yet, such as cachescope.tar.")],
) -> None:
    """Write the database and all raw logs into one file, while the service goes on working.

    It goes into either database and any folder or bucket with `cachescope admin restore`. Stored secrets stay
    encrypted: keep CACHESCOPE_SECRET_KEY with it.
    """
    with transaction() as session:
        note(session, None, "admin.command", target="backup")
    written = write_backup(get_engine(), open_logs(), file)
    typer.echo(f"{file} holds {written.rows} rows and {written.logs} logs, {file.stat().st_size / 1e6:.1f} MB.")
    if written.missing_logs:
        typer.echo(f"{len(written.missing_logs)} logs that the database names were not there any more.", err=True)


@command.command()
def restore(file: Annotated[Path, typer.Argument(help="What `cachescope admin backup` wrote.")]) -> None:
    """Fill an empty database and its log store from a backup; stop the service before."""
    found = restore_backup(get_engine(), open_logs(), file)
    typer.echo(f"{found.rows} rows and {found.logs} logs are back.")


def _requeue(team: str, repository: str, states: tuple[str, ...], *, not_read_with: str | None = None) -> int:
    with transaction() as session:
        owner = _find_team(session, team) if team else None
        if repository and owner is None:
            raise InvalidValueError("repository", "Name the team of the repository too: --team.")
        scoped = _find_repository(session, owner, repository) if repository and owner else None
        what = "retry" if states == ("failed",) else "reread"
        note(session, None, "admin.command", team_id=owner.id if owner else None, target=what, repository=repository)
    count, last = 0, ""
    # Small transactions: uploads must not wait for this.
    while True:
        with transaction() as session:
            found = deliveries.requeue_many(
                session,
                datetime.now(UTC),
                states,
                not_read_with=not_read_with,
                team_id=owner.id if owner else None,
                repository_id=scoped.id if scoped else None,
                after=last,
            )
        if not found:
            return count
        count, last = count + len(found), found[-1]


def _find_team(session: Session, slug: str) -> Team:
    team = accounts.find_team_by_slug(session, slug)
    if team is None:
        raise NotFoundError(f'There is no team "{slug}". Its slug stands in the addresses of its pages.')
    return team


def _find_repository(session: Session, team: Team, name: str) -> Repository:
    repository = repositories.find_repository(session, team.id, name)
    if repository is None:
        raise NotFoundError(f'The team {team.slug} has no repository "{name}".')
    return repository
