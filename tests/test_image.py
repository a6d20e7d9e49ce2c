"""The container image and compose.yaml: no root, no needless writes, and an order that keeps the cache warm."""

import fnmatch
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from cachescope.cli.main import run

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
OURS = ("web", "worker", "scheduler", "migrate")
FOLDERS = ("cachescope", "integrations", "store", "workers", "service", "dashboards")


def instructions() -> list[str]:
    """The instructions of the Dockerfile, each on one line, without comments."""
    lines = [line for line in DOCKERFILE.splitlines() if not line.startswith("#")]
    return [" ".join(line.split()) for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines() if line.strip()]


def position(pattern: str) -> int:
    """Where an instruction stands."""
    return next(number for number, line in enumerate(instructions()) if re.search(pattern, line))


def copied() -> list[str]:
    """Every path that is copied from the build context."""
    words = [line.split()[1:-1] for line in instructions() if re.match(r"COPY (?!--from)", line)]
    return [path for paths in words for path in paths]


def test_the_source_is_copied_after_everything_that_takes_long() -> None:
    install, project, source = position("pip install --require-hashes"), position("--editable"), position("^COPY store")
    assert position("COPY requirements.lock") < install < position("COPY pyproject.toml") < project < source
    assert not [line for line in instructions()[source:] if line.startswith("RUN")]


def test_downloads_are_kept_outside_the_layers() -> None:
    assert "--mount=type=cache,target=/root/.cache/pip" in instructions()[position("pip install --require-hashes")]


def test_nothing_but_what_is_named_is_copied() -> None:
    assert not [path for path in copied() if path in {".", "./"}]
    assert {path for path in copied() if not (ROOT / path).exists()} == set()
    assert set(FOLDERS) <= set(copied())


def test_the_context_holds_what_is_copied_and_no_more() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == set(copied())
    assert any(fnmatch.fnmatch("store/__pycache__", line.replace("**/", "*/")) for line in lines[1:])


def test_the_image_runs_without_root() -> None:
    last = [line for line in instructions() if line.startswith("USER")][-1]
    assert last == "USER 10001"
    assert position("useradd --system --uid 10001") < position("^USER")


def test_the_python_of_the_image_is_a_supported_one() -> None:
    version = re.search(r"^ARG PYTHON_VERSION=(.*)$", DOCKERFILE, re.MULTILINE)[1]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"Programming Language :: Python :: {version}" in project["classifiers"]


def test_every_package_folder_is_in_the_image() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == list(FOLDERS)
    assert f"RUN mkdir {' '.join(FOLDERS)}" in DOCKERFILE


@pytest.mark.parametrize("name", OURS)
def test_our_services_can_write_nothing_but_data(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["volumes"] == ["data:/data"]
    assert "user" not in service
    assert "privileged" not in service


@pytest.mark.parametrize("name", sorted({*COMPOSE["services"]} - {"web", "migrate"}))
def test_every_service_that_stays_says_whether_it_is_well(name: str) -> None:
    assert COMPOSE["services"][name]["healthcheck"]["test"]


def test_the_web_service_is_asked_by_the_image_itself() -> None:
    assert "/healthz" in DOCKERFILE
    assert "healthcheck" not in COMPOSE["services"]["web"]


def test_nobody_starts_before_the_schema_is_there() -> None:
    for name in ("web", "worker", "scheduler"):
        assert COMPOSE["services"][name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert COMPOSE["services"]["migrate"]["depends_on"]["database"] == {"condition": "service_healthy"}


def test_there_is_no_secret_with_a_default() -> None:
    settings = COMPOSE["x-server"]["environment"]
    assert settings["CACHESCOPE_SECRET_KEY"].startswith("${CACHESCOPE_SECRET_KEY:?")
    assert "${POSTGRES_PASSWORD:?" in settings["CACHESCOPE_DATABASE_URL"]


def test_only_the_pages_are_reachable_and_only_from_this_machine_unless_told_otherwise() -> None:
    ports = {name: service["ports"] for name, service in COMPOSE["services"].items() if "ports" in service}
    assert ports == {"web": ["${CACHESCOPE_LISTEN:-127.0.0.1:8000}:8000"]}


@pytest.mark.parametrize("name", ["migrate", "worker", "scheduler"])
def test_the_commands_of_compose_exist(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    service = COMPOSE["services"][name]
    for words in (service["command"], service["healthcheck"].get("test", [])[1:]):
        if words[:1] == ["cachescope"]:
            assert run([*words[1:3], "--help"]) == 0
            assert words[2] in capsys.readouterr().out
