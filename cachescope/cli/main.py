"""The `cachescope` command: lists its subcommands without importing them and loads the one that is called.

A subcommand is one module that holds `command`, a typed function or a `typer.Typer`. Its help line is the first
sentence of the module's docstring, read from the file: `--help` must not pay for imports. Commands of the library are
the modules named in `COMMANDS`; commands that need the network folder or the server are entry points of the group
`cachescope.commands` (`up = "service.up:command"`), written beside the code that does their work.
"""

import ast
import importlib
import re
import sys
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup
from typer.main import get_command

from cachescope.errors import CachescopeError

COMMANDS = ("analyze", "explain", "advise", "detect", "push", "exec")
"""The commands of the library, in the order of the help: modules of this folder."""

_OWN_NAME = re.compile(r"`cachescope [^`]{1,80}`: ")

PROJECT_FOLDERS = ("cachescope", "integrations", "store", "workers", "service", "dashboards")

# The exceptions that typer raises for bad usage, with `format_message()` and `exit_code`. Typer vendors click and
# names only the most special of them in public.
UsageProblem: Any = typer.BadParameter.__mro__[2]


def locate(module: str) -> Path | None:
    """Find the file of a module without importing it or its packages; None when there is none."""
    search: list[str] | None = None
    spec = None
    name = ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        spec = PathFinder.find_spec(name, search)
        if spec is None:
            return None
        search = list(spec.submodule_search_locations or ())
    return Path(spec.origin) if spec is not None and spec.origin else None


def help_line(path: Path) -> str:
    """Return the first sentence of a module's docstring; an empty text when it has none."""
    # The head of the file is enough for a docstring and is parsed in a millisecond; a head that was cut within code
    # does not parse, so only the docstring itself is handed to the parser.
    head = path.read_text(encoding="utf-8", errors="replace")[:4096]
    if not head.startswith('"""') or (end := head.find('"""', 3)) < 0:
        return ""
    text: str = ast.literal_eval(head[: end + 3])
    first = " ".join(text.split("\n\n", 1)[0].split())
    first = _OWN_NAME.sub("", first)  # the list names the command already
    return first[0].upper() + first[1:] if first else ""


def installed_commands() -> dict[str, EntryPoint]:
    """Return the entry points that other folders and other packages register, by name, in alphabetical order."""
    found = {point.name: point for point in entry_points(group="cachescope.commands")}
    return dict(sorted(found.items()))


def load_object(name: str, module: str, attribute: str) -> object:
    """Import a command; one that lacks a package of the server says which extra to install."""
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in PROJECT_FOLDERS and locate(missing) is not None:
            raise  # a fault of ours, not a missing package
        raise CachescopeError(
            f"`cachescope {name}` needs the server's packages ({missing} is missing here): "
            'install them with `pip install "cachescope[server]"`.'
        ) from error


class Commands(TyperGroup):
    """The group of all subcommands, known by name and loaded when called."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands, the library's own first."""
        own = [name for name in COMMANDS if locate(f"{__package__}.{name}") is not None]
        return own + [name for name in installed_commands() if name not in own]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import one command; None when there is no such command."""
        if cmd_name in COMMANDS and locate(f"{__package__}.{cmd_name}") is not None:
            loaded = load_object(cmd_name, f"{__package__}.{cmd_name}", "command")
        elif point := installed_commands().get(cmd_name):
            loaded = load_object(cmd_name, point.module, point.attr)
        else:
            self.commands = cast("Any", dict.fromkeys(self.list_commands(ctx)))  # names for "Did you mean"
            return None
        if not isinstance(loaded, typer.Typer):
            single = typer.Typer(add_completion=False, rich_markup_mode=None)
            single.command()(loaded)  # type: ignore[type-var]  # a plug-in's object: typer checks it
            loaded = single
        command = get_command(loaded)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands from files and metadata alone."""
        points = installed_commands()
        rows = []
        for name in self.list_commands(ctx):
            module = points[name].module if name in points else f"{__package__}.{name}"
            path = locate(module)
            rows.append((name, help_line(path) if path else ""))
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


def own_version() -> str:
    """Return the version of the installed distribution."""
    try:
        return version("cachescope")
    except PackageNotFoundError:
        return "(run from a source tree that is not installed)"


def print_version(wanted: bool) -> None:
    """Print the version and leave."""
    if wanted:
        print(f"cachescope {own_version()}")
        raise typer.Exit


app = typer.Typer(cls=Commands, add_completion=False, rich_markup_mode=None)


@app.callback()
def describe(
    _version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Build-cache analytics for container images: reads build logs and says what the cache did, why, and its cost."""


def main() -> None:
    """Run the command line; bad usage ends with one sentence and exit status 2."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit status."""
    group = get_command(app)
    try:
        status = group.main(arguments or ["--help"], prog_name="cachescope", standalone_mode=False)
    except UsageProblem as error:
        command = error.ctx.command_path if getattr(error, "ctx", None) else "cachescope"
        sentence = error.format_message().strip().rstrip(".")
        print(f"{sentence}{'' if sentence.endswith('?') else '.'} See `{command} --help`.", file=sys.stderr)
        return int(error.exit_code)
    except CachescopeError as error:
        print(error, file=sys.stderr)
        return 2
    except typer.Abort:
        return 130
    return status if isinstance(status, int) else 0
