"""dev.py works from a bare checkout, says what it cannot do in one sentence, and does nothing twice."""

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = ("up", "test", "setup", "check", "golden", "migration", "bench", "lock")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with what dev.py needs and an environment that would fail if it were touched."""
    for name in ("dev.py", "pyproject.toml", "requirements.lock", "requirements-dev.lock"):
        shutil.copy(ROOT / name, tmp_path)
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "cachescope"):
        (programs / name).write_text('#!/bin/sh\necho "$(basename "$0") $*"\nexit 7\n')
        (programs / name).chmod(0o755)
    return tmp_path


def run_dev(folder: Path, *arguments: str, prologue: str = "", path: str = "/usr/bin:/bin") -> tuple[int, str]:
    """Run dev.py as a program of this interpreter, after some lines of Python; return its status and its words."""
    program = f"import sys, runpy\n{prologue}\nsys.argv = {['dev.py', *arguments]}\n"
    program += "runpy.run_path('dev.py', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def stamp(folder: Path, *names: str) -> None:
    """Write down that the environment was made from these files as they are."""
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    (folder / ".venv" / "cachescope-locks.json").write_text(json.dumps(hashes))


def test_a_python_of_years_ago_can_read_it() -> None:
    ast.parse((ROOT / "dev.py").read_text(), feature_version=(3, 7))


def test_without_a_command_it_lists_them_all() -> None:
    status, words = run_dev(ROOT)
    assert status == 0
    assert [line.split()[0] for line in words.splitlines() if line.startswith("  ")] == list(COMMANDS)


def test_an_unknown_command_is_named_and_the_known_ones_are_listed() -> None:
    status, words = run_dev(ROOT, "tset")
    assert status == 2
    assert words.startswith('Unknown command "tset".')
    assert "  test " in words


@pytest.mark.parametrize("version", [(2, 8), (3, 6), (3, 10), (3, 14)])
def test_another_python_gets_one_sentence(version: tuple[int, int], tmp_path: Path) -> None:
    shutil.copy(ROOT / "dev.py", tmp_path)
    status, words = run_dev(tmp_path, "up", prologue=f"sys.version_info = {version}", path=str(tmp_path))
    assert status == 1
    assert words == (
        f"dev.py: Cachescope needs Python 3.11, 3.12 or 3.13, this is {version[0]}.{version[1]} "
        "and no other is on PATH: install one and run the same command again.\n"
    )


def test_another_python_hands_over_to_a_supported_one_on_path(tmp_path: Path) -> None:
    shutil.copy(ROOT / "dev.py", tmp_path)
    version = ".".join(map(str, sys.version_info[:2]))
    (tmp_path / f"python{version}").symlink_to(sys.executable)
    # A version manager's stand-in for a Python that is not installed.
    stand_in = tmp_path / "python3.13" if version != "3.13" else tmp_path / "python3.12"
    stand_in.write_text("#!/bin/sh\nexit 127\n")
    stand_in.chmod(0o755)
    status, words = run_dev(tmp_path, "help", prologue="sys.version_info = (3, 9)", path=f"{tmp_path}:/usr/bin:/bin")
    assert (status, words.splitlines()[0]) == (0, "usage: python3 dev.py <command> [arguments]")


def test_up_reuses_an_environment_that_its_lock_file_made(checkout: Path) -> None:
    stamp(checkout, "requirements.lock", "pyproject.toml")
    assert run_dev(checkout, "up", "--port", "8123") == (7, "cachescope up --port 8123\n")


def test_up_needs_no_more_than_the_development_environment(checkout: Path) -> None:
    stamp(checkout, "requirements.lock", "requirements-dev.lock", "pyproject.toml")
    assert run_dev(checkout, "up") == (7, "cachescope up\n")


def test_a_changed_lock_file_is_installed_anew(checkout: Path) -> None:
    stamp(checkout, "requirements.lock", "pyproject.toml")
    (checkout / "requirements.lock").write_text("# nothing\n")
    (checkout / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "missing"\n[project]\nname = "x"\nversion = "1"\n'
    )
    status, words = run_dev(checkout, "setup", "requirements.lock")
    # The old environment cannot start Python, so a new one is made; what cannot be installed into it ends the command.
    assert status == 1
    assert "Installing what requirements.lock names" in words
    assert not (checkout / ".venv" / "cachescope-locks.json").exists()


def test_development_packages_are_not_in_the_runtime_lock() -> None:
    runtime, development = (pins(ROOT / name) for name in ("requirements.lock", "requirements-dev.lock"))
    assert runtime.items() <= development.items()
    assert {"pytest", "mypy", "playwright", "moto"} <= development.keys() - runtime.keys()


def test_lock_files_name_no_index() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text()
        assert "://" not in text
        assert "--index" not in text
        assert text.count("--hash=sha256:") >= len(pins(ROOT / name))


def pins(path: Path) -> dict[str, str]:
    """Return the versions of a lock file by package and marker."""
    lines = [line.removesuffix(" \\") for line in path.read_text().splitlines() if line[:1].isalnum()]
    return dict(line.split("==", 1) for line in lines)


def test_a_migration_wants_a_name() -> None:
    status, words = run_dev(ROOT, "migration")
    assert (status, words.count("\n")) == (1, 1)
    assert "add_image_sizes" in words


def test_a_debian_without_venv_says_what_to_install(tmp_path: Path) -> None:
    for name in ("dev.py", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")  # `import ensurepip` fails
    python.chmod(0o755)
    prologue = f"import os; os.geteuid = lambda: 1000; sys.executable = {str(python)!r}"
    status, words = run_dev(tmp_path, "setup", "requirements.lock", prologue=prologue, path=str(tmp_path))
    version = ".".join(map(str, sys.version_info[:2]))
    assert status == 1
    assert words == (
        f"dev.py: This Python cannot make environments: install python{version}-venv "
        f"(sudo apt-get install python{version}-venv) or put uv on PATH, then run the same command again.\n"
    )
