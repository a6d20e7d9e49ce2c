#!/usr/bin/env python3
"""Every developer command from a bare checkout: makes the environment, then does what was asked.

Standard library only, in a syntax that a Python too old for the project still reads, so that it can say which one is
needed instead of failing at a line that it does not understand. `python3 dev.py` lists the commands.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = VENV / "cachescope-locks.json"
SUPPORTED = ((3, 11), (3, 12), (3, 13))
RUNTIME = "requirements.lock"
DEVELOPMENT = "requirements-dev.lock"


def main() -> int:
    """Run the named command; its exit status is ours."""
    if sys.version_info[:2] not in SUPPORTED:
        continue_with_a_supported_python()
    name, arguments = (sys.argv[1] if len(sys.argv) > 1 else "help"), sys.argv[2:]
    if name in ("help", "-h", "--help"):
        print(usage())
        return 0
    if name not in COMMANDS:
        print(f'Unknown command "{name}".\n\n{usage()}', file=sys.stderr)
        return 2
    os.chdir(str(ROOT))
    try:
        return COMMANDS[name](arguments)
    except KeyboardInterrupt:
        return 130
    except subprocess.CalledProcessError as error:
        stop(f'"{" ".join(map(str, error.cmd))}" ended with status {error.returncode}; its words stand above.')


def usage() -> str:
    """Return the list of commands, each with the first sentence of its docstring."""
    lines = [f"  {name:<17} {command.__doc__.splitlines()[0]}" for name, command in COMMANDS.items()]
    return "\n".join(["usage: python3 dev.py <command> [arguments]", "", *lines])


def stop(sentence: str) -> NoReturn:
    """End with one sentence on standard error."""
    sys.exit(f"dev.py: {sentence}")


# -- commands ---------------------------------------------------------------------------------------------------------


def up(arguments: "list[str]") -> NoReturn:
    """Start everything in one terminal: database, queue, worker, scheduler and pages."""
    prepare(RUNTIME)
    os.execv(tool("cachescope"), ["cachescope", "up", *arguments])


def test(arguments: "list[str]") -> int:
    """Run the tests with every server that the machine has; says what it skipped."""
    prepare(DEVELOPMENT)
    return run_tests(arguments)


def setup(arguments: "list[str]") -> int:
    """Make the development environment in .venv and nothing else."""
    prepare(arguments[0] if arguments else DEVELOPMENT)
    print(f"The environment is ready: {VENV}")
    return 0


def check(arguments: "list[str]") -> int:
    """Do what CI does, in its order: lint, import rules, types, tests; nothing may be skipped."""
    prepare(DEVELOPMENT)
    checks = (
        ("lint", [tool("ruff"), "check"]),
        ("format", [tool("ruff"), "format", "--check"]),
        ("import rules", [tool("lint-imports")]),
        ("types", [tool("mypy")]),
    )
    failed = [name for name, command in checks if announced(name, command) != 0]
    # The tests come last and their summary is the last line, unless something else went wrong.
    print("── tests", flush=True)
    os.environ["CACHESCOPE_TEST_NOTHING_SKIPPED"] = "1"
    status = run_tests(arguments)
    if failed:
        print(f"Failed before the tests: {', '.join(failed)}.", flush=True)
    return status or int(bool(failed))


def golden(arguments: "list[str]") -> int:
    """Rewrite the expected files of the tests; review the difference like code."""
    prepare(DEVELOPMENT)
    return run([tool("python"), "-m", "pytest", "--update-golden", *arguments])


def migration(arguments: "list[str]") -> int:
    """Write a migration from what the models have that the newest migration lacks; then read it."""
    if len(arguments) != 1:
        stop("A migration needs a name that says what it does: python3 dev.py migration add_image_sizes")
    prepare(DEVELOPMENT)
    return run([tool("alembic"), "revision", "--autogenerate", "-m", arguments[0]])


def bench(arguments: "list[str]") -> int:
    """Run the benchmarks, or those named; each prints its figures as ratios of one run."""
    prepare(DEVELOPMENT)
    known = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if not path.name.startswith("_"))
    unknown = [name for name in arguments if name not in known]
    if unknown:
        stop(f'Unknown benchmark "{unknown[0]}". Known: {", ".join(known)}.')
    return max([announced(name, [tool("python"), f"benchmarks/{name}.py"]) for name in arguments or known], default=0)


def lock(arguments: "list[str]") -> int:
    """Write the lock files anew from pyproject.toml (needs uv); arguments go to uv, such as --upgrade."""
    if not shutil.which("uv"):
        stop("Lock files are written by uv, which is not on PATH; installing and running needs none.")
    command = ["uv", "pip", "compile", "--quiet", "--universal", "--generate-hashes", "pyproject.toml", "--all-extras"]
    runtime = ["--group", "build", "-o", RUNTIME]
    development = ["--group", "dev", "-c", RUNTIME, "-o", DEVELOPMENT]
    for selection in (runtime, development):
        run_or_stop([*command, *selection, *arguments], UV_CUSTOM_COMPILE_COMMAND="python3 dev.py lock")
    return 0


COMMANDS = {
    "up": up,
    "test": test,
    "setup": setup,
    "check": check,
    "golden": golden,
    "migration": migration,
    "bench": bench,
    "lock": lock,
}


# -- running things ---------------------------------------------------------------------------------------------------


def tool(name: str) -> str:
    """Return the path of a program of the environment."""
    return str(VENV / "bin" / name)


def run(command: "list[str]") -> int:
    """Run a program in the foreground and return its exit status."""
    return subprocess.run(command, check=False).returncode


def run_or_stop(command: "list[str]", **environment: str) -> None:
    """Run a program in the foreground; any other end than success ends us too."""
    subprocess.run(command, check=True, env={**os.environ, **environment})


def announced(name: str, command: "list[str]") -> int:
    """Run a program under a headline and return its exit status."""
    print(f"── {name}", flush=True)
    return run(command)


def run_tests(arguments: "list[str]") -> int:
    """Run pytest on all cores, or on one where arguments pick what to run."""
    spread = [] if arguments else ["-n", str(max(2, os.cpu_count() or 2)), "--dist", "loadfile"]
    return run([tool("python"), "-m", "pytest", *spread, *arguments])


# -- the environment --------------------------------------------------------------------------------------------------


def prepare(lock_name: str) -> None:
    """Bring .venv to what a lock file says and install the project itself into it; does nothing where that is so.

    There is one environment and it grows: the development lock holds everything of the runtime lock in the same
    versions, so that `up` after `test` finds what it needs and `up` alone never downloads a test package.
    """
    locks = [RUNTIME] if lock_name == RUNTIME else [RUNTIME, DEVELOPMENT]
    wanted = {name: digest(name) for name in [*locks, "pyproject.toml"]}
    done = read_stamp()
    if all(done.get(name) == value for name, value in wanted.items()):
        return
    if not environment_is_usable():
        make_environment()
        done = {}
    if any(done.get(name) != wanted[name] for name in locks):
        print(f"Installing what {locks[-1]} names into .venv; the first time this takes a minute.", flush=True)
        install(["--require-hashes", "-r", locks[-1]])
    # Editable, and built by the locked build tools: needs no network and no isolated environment.
    install(["--no-deps", "--no-build-isolation", "--editable", "."])
    STAMP.write_text(json.dumps({**done, **wanted}, indent=1) + "\n")


def digest(name: str) -> str:
    """Return the hash of a file of the project."""
    return hashlib.sha256((ROOT / name).read_bytes()).hexdigest()


def read_stamp() -> "dict[str, str]":
    """Return the hashes of the files that .venv was made from, empty when there is none that works."""
    if not Path(tool("python")).exists():
        return {}
    try:
        return json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}


def environment_is_usable() -> bool:
    """Tell whether .venv holds an interpreter that starts, is supported, and can be installed into."""
    try:
        probe = subprocess.run([tool("python"), "-c", PROBE], check=False, stdout=subprocess.PIPE)
    except OSError:
        return False
    version, _, has_pip = probe.stdout.decode().strip().partition(" ")
    return version in supported_names() and (has_pip == "True" or shutil.which("uv") is not None)


PROBE = "import importlib.util, sys;print('%d.%d' % sys.version_info[:2], importlib.util.find_spec('pip') is not None)"


def make_environment() -> None:
    """Make an empty .venv with uv where it is on PATH, else with the standard library."""
    if shutil.which("uv"):
        run_or_stop(["uv", "venv", "--quiet", "--clear", "--python", sys.executable, str(VENV)])
        return
    if not can_make_environments(sys.executable):
        install_venv_module()
    run_or_stop([sys.executable, "-m", "venv", "--clear", str(VENV)])


def can_make_environments(python: str) -> bool:
    """Tell whether an interpreter has what `-m venv` needs; Debian packages it apart."""
    command = [python, "-c", "import ensurepip, venv"]
    return subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 0


def install_venv_module() -> None:
    """Install Debian's venv package where we may, else say how."""
    package = "python{}.{}-venv".format(*sys.version_info[:2])
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        stop(
            f"This Python cannot make environments: install {package} (sudo apt-get install {package}) "
            "or put uv on PATH, then run the same command again."
        )
    print(f"Installing {package}, without which this Python cannot make environments.", flush=True)
    run_or_stop(["apt-get", "update", "-qq"])
    run_or_stop(
        ["apt-get", "install", "-qq", "-y", "--no-install-recommends", package], DEBIAN_FRONTEND="noninteractive"
    )


def install(arguments: "list[str]") -> None:
    """Install into .venv with uv or pip, trusting the certificates that SSL_CERT_FILE names."""
    if shutil.which("uv"):
        command = ["uv", "pip", "install", "--quiet", "--python", tool("python"), *arguments]
        # uv brings its own certificates; behind a proxy that signs for itself only the machine's own ones will do.
        if subprocess.run(command, check=False).returncode != 0:
            print("Trying once more with the certificates of this machine.", flush=True)
            run_or_stop(command, UV_NATIVE_TLS="1", UV_SYSTEM_CERTS="1")
        return
    command = [tool("python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    certificates = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
    run_or_stop([*command, *arguments], **({"PIP_CERT": certificates} if certificates else {}))


def supported_names() -> "list[str]":
    """Return the supported versions as people write them."""
    return ["{}.{}".format(*version) for version in SUPPORTED]


def continue_with_a_supported_python() -> NoReturn:
    """Start ourselves again with a supported Python of this machine or of uv, or say which ones would do."""
    for version in reversed(supported_names()):
        python = shutil.which("python" + version)
        # A version manager's stand-in is on PATH whether or not its Python is installed, so it is asked.
        if python and answers_as(python, version):
            os.execv(python, [python, *sys.argv])
    if shutil.which("uv"):
        os.execvp("uv", ["uv", "run", "--quiet", "--no-project", "--python", ">=3.11,<3.14", *sys.argv])
    stop(
        "Cachescope needs Python 3.11, 3.12 or 3.13, this is {}.{} and no other is on PATH: "
        "install one and run the same command again.".format(*sys.version_info[:2])
    )


def answers_as(python: str, version: str) -> bool:
    """Tell whether a program starts and is the Python that its name says."""
    probe = subprocess.run([python, "-c", PROBE], check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return probe.stdout.decode().startswith(version + " ")


if __name__ == "__main__":
    sys.exit(main())
