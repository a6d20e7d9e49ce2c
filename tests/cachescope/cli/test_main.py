"""The command line as a process: help, versions, bad usage, commands of other packages."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cachescope.cli.main import help_line, locate, run


def test_help_lists_every_command_with_its_sentence(cachescope: Callable) -> None:
    done = cachescope("--help")
    assert done.returncode == 0
    text = done.stdout.decode()
    for name in ("analyze", "detect", "push", "exec"):
        assert f"\n  {name}" in text
    assert "Send a build log to a Cachescope server" in text


def test_no_arguments_show_the_help(cachescope: Callable) -> None:
    assert cachescope().stdout == cachescope("--help").stdout


def test_help_starts_in_under_200_ms_of_cpu(cachescope: Callable) -> None:
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Measuring coverage in the process would be measured too.
        assert cachescope("--help", environment={"COVERAGE_PROCESS_CONFIG": ""}).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(5)) < 0.2


def test_help_imports_no_command_and_no_heavy_library(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom cachescope.cli.main import run\nrun(['--help'])\n"
        "heavy = [n for n in sys.modules if n.split('.')[0] in ('httpx', 'rich', 'orjson', 'sqlalchemy')]\n"
        "own = [n for n in sys.modules if n.startswith('cachescope.cli.') and n != 'cachescope.cli.main']\n"
        "assert not heavy, heavy\nassert not own, own\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, env=environment, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


def test_the_version_is_printed(cachescope: Callable) -> None:
    assert cachescope("--version").stdout.startswith(b"cachescope ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["analyse"], "No such command 'analyse'. Did you mean 'analyze'? See `cachescope --help`."),
        (["frobnicate"], "No such command 'frobnicate'. See `cachescope --help`."),
        (["--frob"], "No such option: --frob. See `cachescope --help`."),
        (["analyze"], "Missing argument 'FILE…'. See `cachescope analyze --help`."),
        (["analyze", "--watch", "a", "b"], "--watch follows exactly one log and takes no --json"),
        (["push", "--wait", "soon", "x"], "Invalid value for '--wait'"),
    ],
)
def test_bad_usage_is_one_sentence_and_status_2(cachescope: Callable, arguments: list[str], sentence: str) -> None:
    done = cachescope(*arguments)
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr.decode().count("\n") == 1
    assert sentence in done.stderr.decode()


def make_package(folder: Path, module: str, entry_points: str) -> dict[str, str]:
    """Write a package that registers commands, and return the environment in which it is installed."""
    package = folder / "site"
    (package / "elsewhere").mkdir(parents=True)
    (package / "elsewhere" / "__init__.py").write_text(
        "raise SystemExit('the package was imported')\n" if "heavy" in module else ""
    )
    (package / "elsewhere" / "greet.py").write_text(module)
    metadata = package / "elsewhere-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[cachescope.commands]\n{entry_points}\n")
    return {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[3]), str(package)])}


def test_a_command_of_another_package_is_listed_without_being_imported(cachescope: Callable, tmp_path: Path) -> None:
    module = '"""Greet somebody, which is\nheavy work.\n\nMore words.\n"""\nraise SystemExit("imported")\n'
    environment = make_package(tmp_path, module, "greet = elsewhere.greet:command")
    done = cachescope("--help", environment=environment)
    assert "greet    Greet somebody, which is heavy work." in done.stdout.decode()


def test_a_command_of_another_package_runs(cachescope: Callable, tmp_path: Path) -> None:
    module = (
        '"""Greet."""\ndef command(name: str, loud: bool = False) -> None:\n'
        '    """Greet somebody."""\n    print("hello", name, loud)\n'
    )
    environment = make_package(tmp_path, module, "greet = elsewhere.greet:command")
    assert cachescope("greet", "Ada", "--loud", environment=environment).stdout == b"hello Ada True\n"
    assert b"Greet somebody." in cachescope("greet", "--help", environment=environment).stdout


def test_a_command_without_the_servers_packages_says_what_to_install(cachescope: Callable, tmp_path: Path) -> None:
    environment = make_package(tmp_path, '"""Serve."""\nimport no_such_server\n', "serve = elsewhere.greet:command")
    done = cachescope("serve", environment=environment)
    assert done.returncode == 2
    assert done.stderr.decode() == (
        "`cachescope serve` needs the server's packages (no_such_server is missing here): "
        'install them with `pip install "cachescope[server]"`.\n'
    )


def test_a_command_whose_module_is_gone_is_listed_without_a_sentence(cachescope: Callable, tmp_path: Path) -> None:
    environment = make_package(tmp_path, "", "ghost = elsewhere.ghost:command")
    assert "\n  ghost" in cachescope("--help", environment=environment).stdout.decode()


def test_a_fault_of_ours_is_not_called_a_missing_package(cachescope: Callable, tmp_path: Path) -> None:
    environment = make_package(
        tmp_path, '"""Serve."""\nimport cachescope.no_such_module\n', "serve = elsewhere.greet:command"
    )
    done = cachescope("serve", environment=environment)
    assert done.returncode == 1
    assert b"ModuleNotFoundError: No module named 'cachescope.no_such_module'" in done.stderr


def test_a_module_is_located_without_an_import() -> None:
    path = locate("cachescope.cli.push")
    assert path is not None
    assert path.name == "push.py"
    assert locate("cachescope.cli.no_such_module") is None
    assert locate("no_such_package.module") is None


def test_a_help_line_is_the_first_sentence_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text('"""does one\nthing.\n\nAnd more."""\nraise SystemExit\n')
    assert help_line(path) == "Does one thing."
    path.write_text('"""`cachescope up`: runs it."""\n')
    assert help_line(path) == "Runs it."
    path.write_text("x = 1\n")
    assert help_line(path) == ""
    path.write_text('"""never closed')
    assert help_line(path) == ""
    path.write_text('""""""\n')
    assert help_line(path) == ""


def test_a_command_line_runs_in_this_process_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("cachescope ")
