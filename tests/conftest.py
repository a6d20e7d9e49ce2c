"""Fixtures that tests of several folders share."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write what was read into the expected JSON files")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, Any], None]:
    """Compare a value with a JSON file; `--update-golden` writes it instead."""

    def compare(path: Path, value: Any) -> None:
        if request.config.getoption("--update-golden"):
            path.write_text(json.dumps(value, indent=1, ensure_ascii=False, sort_keys=False) + "\n")
        assert value == json.loads(path.read_text())

    return compare
