"""`cachescope admin …`: what whoever runs the server does at its terminal, without signing in."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy.orm import Session

from cachescope.errors import InvalidValueError, NotFoundError
from service.actions import administration as administration_actions
from service.actions import deletions
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
from store.queries import accounts, administration, builds, deliveries, heartbeats, repositories
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


@command.command()
def teams() -> None:
    """List the teams with what they hold, those that store most first."""
    with reading() as session:
        lines = administration.list_teams(session)
    header = ("team", "members", "repositories", "deliveries", "raw logs MB", "last delivery")
    _table(
        header,
        [
            (
                each.slug,
                each.members,
                each.repositories,
                each.deliveries,
                _megabytes(each.log_bytes),
                _time(each.last_at),
            )
            for each in lines
        ],
    )


@command.command()
def users() -> None:
    """List everybody who has an account."""
    with reading() as session:
        lines = administration.list_people(session)
    header = ("address", "name", "teams", "administrator", "last seen")
    _table(
        header,
        [
            (each.email, each.name, each.teams, "yes" if each.is_administrator else "no", _time(each.seen_at))
            for each in lines
        ],
    )


@command.command()
def administrator(
    email: Annotated[str, typer.Argument(help="The address of somebody who has an account.")],
    remove: Annotated[bool, typer.Option("--remove", help="No longer.")] = False,
) -> None:
    """Let somebody look after the installation: the page “Administration” is theirs."""
    with transaction() as session:
        user = accounts.find_user_by_email(session, email)
        administration_actions.appoint(session, None, user, is_administrator=not remove)
    typer.echo(f"{email} looks after the installation{' no longer' if remove else ''}.")


@command.command()
def limits() -> None:
    """List the limits that hold, by the names of their settings."""
    _table(("setting", "value"), administration_actions.list_limits(get_settings()))


@command.command()
def storage() -> None:
    """Tell how large the database is, and the raw logs beside it."""
    with reading() as session:
        found = administration.load_storage(session)
    typer.echo(f"The database takes {_megabytes(found.database_bytes)} MB.")
    typer.echo(
        f"{found.logs} raw logs take {_megabytes(found.log_bytes)} MB, {_megabytes(found.unpacked_bytes)} MB unpacked."
    )


@command.command()
def queue() -> None:
    """Tell what waits, and which workers and schedulers are alive."""
    now = datetime.now(UTC)
    with reading() as session:
        waiting = administration.count_waiting(session)
        oldest_at = deliveries.find_oldest_waiting(session)
        processes = administration.list_processes(session)
    for what, number in waiting.items():
        typer.echo(f"{number} {what}")
    if oldest_at:
        typer.echo(f"The oldest log waits since {_time(oldest_at)}.")
    _table(
        ("process", "kind", "state", "last sign of life"),
        [
            (
                each.id,
                each.kind,
                "lives" if administration_actions.is_alive(each, now) else "silent",
                _time(each.seen_at),
            )
            for each in processes
        ],
    )


@command.command()
def failed() -> None:
    """List the latest deliveries that failed; `retry` tries them again."""
    with reading() as session:
        lines = administration.list_failed(session)
    _table(
        ("delivery", "team", "received", "tries", "why"),
        [(each.id, each.team, _time(each.received_at), each.attempts, (each.error or "")[:200]) for each in lines],
    )


@command.command()
def delete(
    team: TeamOption,
    repository: RepositoryOption = "",
    build: Annotated[int, typer.Option(help="Number of one build of the team.")] = 0,
    name: Annotated[str, typer.Option(help="What shall go, once more: slug, name or number.")] = "",
) -> None:
    """Delete a team, one of its repositories, or one build with its log; the scheduler deletes what they held."""
    with transaction() as session:
        owner = _find_team(session, team)
        if build:
            found = builds.find_build(session, [owner.id], build)
            if found is None:
                raise NotFoundError(f"The team {team} has no build {build}.")
            deletions.delete_build(session, None, owner, found, name)
        elif repository:
            deletions.delete_repository(session, None, owner, _find_repository(session, owner, repository), name)
        else:
            deletions.delete_team(session, None, owner, name)
    typer.echo("It is deleted. What it held goes in the background, while the scheduler runs.")


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print columns that are as wide as what stands in them."""
    lines = [header, *([_printable(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _printable(value: object) -> str:
    """Text as a terminal may show it: names come from outside, and control characters steer terminals."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(value))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}"


def _time(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC" if moment else "never"


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
