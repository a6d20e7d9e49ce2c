"""What the house promises of itself: documented settings and commands, fixtures, links that lead somewhere."""

import ast
import inspect
import re
import subprocess
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from pydantic import AliasChoices
from pydantic_settings import BaseSettings

from cachescope.cli.main import COMMANDS, help_line, locate
from service.app import create_app

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("cachescope", "integrations", "store", "workers", "service", "dashboards")
PLUGINS = (
    ("cachescope/formats", "FORMAT"),
    ("cachescope/prefixes", "PREFIX"),
    ("cachescope/causes", "CAUSE"),
    ("cachescope/recommendations", "RECOMMENDATION"),
    ("cachescope/regressions", "REGRESSION"),
    ("integrations/ci", "PROVIDER"),
    ("integrations/channels", "CHANNEL"),
    ("integrations/images", "IMAGES"),
    ("dashboards/charts", "CHART"),
)
# Built from halves, so that this file passes its own test.
REGISTRIES = [
    ".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("crates", "io"))
]
TEXTS = (".py", ".md", ".toml", ".lock", ".yaml", ".yml", ".html", ".css", ".js", ".example", ".txt", "")


def tracked(*suffixes: str) -> list[Path]:
    """The project's files with one of these suffixes; those in git, and in a copy without git all there are."""
    git = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    names = (
        git.stdout.splitlines() if git.returncode == 0 else [str(path.relative_to(ROOT)) for path in ROOT.rglob("*")]
    )
    paths = [ROOT / name for name in names if not name.startswith((".venv/", ".git/", ".cachescope/"))]
    return sorted(path for path in paths if path.suffix in suffixes and path.is_file())


def sources() -> list[Path]:
    """Every module of the six folders."""
    return [path for path in tracked(".py") if path.relative_to(ROOT).parts[0] in FOLDERS]


def settings_classes() -> Iterator[type[BaseSettings]]:
    """Every settings class of the folders."""
    for folder in FOLDERS:
        if (ROOT / folder / "settings.py").exists():
            module = import_module(f"{folder}.settings")
            for _, found in inspect.getmembers(module, inspect.isclass):
                if issubclass(found, BaseSettings) and found.__module__ == module.__name__:
                    yield found


def setting_names() -> set[str]:
    """The name of every environment variable that the project reads as a setting."""
    names = set()
    for settings in settings_classes():
        for name, field in settings.model_fields.items():
            alias = field.validation_alias
            if isinstance(alias, AliasChoices):
                names.add(str(alias.choices[0]))
            else:
                names.add(str(alias or f"{settings.model_config['env_prefix']}{name}".upper()))
    return names


def command_modules() -> dict[str, str]:
    """Every command of `cachescope` with its module."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    registered = project["entry-points"]["cachescope.commands"]
    own = {name: f"cachescope.cli.{name}" for name in COMMANDS if locate(f"cachescope.cli.{name}")}
    return own | {name: target.partition(":")[0] for name, target in registered.items()}


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_opens_with_a_sentence(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring, "a module says in one sentence what it is for"
    first = " ".join(docstring.split("\n\n")[0].split())
    assert first[-1] in ".:" or "├" in first, first


def test_there_are_settings_to_compare() -> None:
    assert {"CACHESCOPE_DATA", "REDIS_URL"} <= setting_names()


@pytest.mark.parametrize("name", sorted(setting_names()))
def test_every_setting_stands_in_the_example_and_in_the_docs(name: str) -> None:
    assert re.search(rf"^#? ?{name}=", (ROOT / ".env.example").read_text(), re.MULTILINE), (
        f"{name} is not in .env.example"
    )
    assert f"| `{name}` |" in (ROOT / "docs/settings.md").read_text(), f"{name} is not in docs/settings.md"


def test_the_example_and_the_docs_name_no_setting_that_does_not_exist() -> None:
    example = set(re.findall(r"^#? ?([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    documented = set(re.findall(r"^\| `([A-Z][A-Z0-9_]+)` \|", (ROOT / "docs/settings.md").read_text(), re.MULTILINE))
    # What only compose.yaml and the command line read.
    compose = set(re.findall(r"\$\{([A-Z][A-Z0-9_]+)", (ROOT / "compose.yaml").read_text()))
    client = {
        name
        for path in (ROOT / "cachescope/cli").glob("*.py")
        for name in re.findall(r"CACHESCOPE_[A-Z_]+", path.read_text())
    }
    assert example - setting_names() - compose - client == set()
    assert documented - setting_names() - compose - client == set()
    assert compose - example == set(), "compose.yaml reads what .env.example does not name"
    assert client - documented == set(), "the command line reads what docs/settings.md does not name"


def test_no_example_setting_holds_a_secret_that_would_work() -> None:
    for name, value in re.findall(
        r"^([A-Z_]*(?:SECRET|PASSWORD|TOKEN)[A-Z_]*)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE
    ):
        assert value in {"", "change-me"}, name


@pytest.mark.parametrize("name", sorted(command_modules()))
def test_every_command_is_documented_and_says_what_it_does(name: str) -> None:
    path = locate(command_modules()[name])
    assert path is not None
    assert help_line(path), f"{path} has no first sentence for --help"
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    assert any(re.search(rf"`(?:[^`\n]*\s)?cachescope {name}\b", page.read_text()) for page in pages), name


def test_the_docs_name_every_route_of_the_api_and_no_other() -> None:
    routes = set(create_app().openapi()["paths"])
    documented = set(re.findall(r"(?:GET|POST|PUT|DELETE) (/[^\s`?]*)", (ROOT / "docs/api.md").read_text()))
    assert documented == routes


def test_every_developer_command_is_documented() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    listed = re.findall(r'^    "(\w+)": \1,$', (ROOT / "dev.py").read_text(), re.MULTILINE)
    assert len(listed) == 8
    for name in listed:
        assert f"python3 dev.py {name}" in text


def plugins() -> list[tuple[str, str]]:
    """Every plug-in: its folder and its name."""
    found = []
    for folder, constant in PLUGINS:
        for path in sorted((ROOT / folder).glob("*.py")):
            if path.stem != "base" and not path.name.startswith("_"):
                assert re.search(rf"^{constant}\b", path.read_text(), re.MULTILINE), f"{path} exports no {constant}"
                found.append((folder, path.stem))
    return found


@pytest.mark.parametrize(("folder", "name"), plugins())
def test_every_plugin_has_a_fixture_of_its_name(folder: str, name: str) -> None:
    place = ROOT / "tests" / folder
    fixtures = [*place.glob(f"{name}.*"), *(path for path in (place / name).rglob("*") if path.is_file())]
    assert fixtures, f"{folder}/{name}.py has no fixture under {place.relative_to(ROOT)}"


def test_every_folder_of_real_logs_says_where_they_come_from() -> None:
    for folder in (ROOT / "tests/cachescope/formats", ROOT / "tests/cachescope/prefixes", ROOT / "service/demo"):
        assert (folder / "SOURCES.md").exists() or all((each / "SOURCES.md").exists() for each in folder.iterdir()), (
            folder
        )


@pytest.mark.parametrize("path", tracked(".md"), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            page, _, anchor = target.partition("#")
            there = (path.parent / page) if page else path
            assert there.exists(), f"{path.name} links {target}, which does not exist"
            if anchor:
                titles = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE)
                anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
                assert anchor in anchors, f"{path.name} links {target}, which has no such heading"


def test_every_test_that_the_threat_model_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "SECURITY.md").read_text())
    assert len(named) >= 50
    for file, name in named:
        assert (ROOT / file).exists(), f"SECURITY.md names {file}"
        tree = ast.parse((ROOT / file).read_text())
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert name in functions, f"SECURITY.md names {file}::{name}"


def test_every_row_of_the_threat_model_names_a_test() -> None:
    rows = re.findall(r"^\| (?!with \||---)(.*) \|$", (ROOT / "SECURITY.md").read_text(), re.MULTILINE)
    assert len(rows) >= 30
    for row in rows:
        assert "`tests/" in row.rsplit(" | ", 1)[1], row


def test_no_file_names_a_package_registry() -> None:
    for path in tracked(*TEXTS):
        text = path.read_bytes()
        for host in REGISTRIES:
            assert host.encode() not in text, f"{path.relative_to(ROOT)} names {host}"


def test_nothing_is_left_to_do() -> None:
    marks = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX)\b|raise NotImplemented" + r"Error")
    for path in tracked(".py"):
        assert not marks.search(path.read_text()), path.relative_to(ROOT)


def test_no_test_is_switched_off() -> None:
    marks = re.compile(r"@pytest\.mark\.(?:skip|xfail)\b(?!if)")
    for path in tracked(".py"):
        assert not marks.search(path.read_text()), path.relative_to(ROOT)


def test_the_two_commands_stand_first_in_the_readme() -> None:
    fence = re.search(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert fence
    commands = [line.split("#")[0].strip() for line in fence[1].splitlines()]
    assert commands[0].startswith("git clone ")
    assert commands[1:3] == ["python3 dev.py up", "python3 dev.py test"]


def test_the_changelog_names_the_version_or_what_comes_next() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "## [Unreleased]" in text or f"## [{version}]" in text


def test_decisions_are_numbered_and_short() -> None:
    pages = sorted((ROOT / "docs/decisions").glob("*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        lines = page.read_text().splitlines()
        assert lines[0].startswith(f"# {int(page.name[:4])}. ")
        assert len(lines) <= 40, page.name
