"""Generated requests against the OpenAPI document: what answers must never be, whoever asks.

Requests are made by schemathesis, good ones and bad ones. Most have ids that exist, so that they get past "not found".
"""

import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import requests
import schemathesis
from hypothesis import HealthCheck, Phase
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks
from sqlalchemy import make_url

from store.database import get_engine
from tests.worlds import Credentials, World

CHECKS = (
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
)
EXPECTED = {("GET", "/readyz"): "no worker runs here"}
"""Answers of 5xx that say how it is."""


@dataclass(slots=True)
class Found:
    """What generated requests brought to light."""

    cases: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    troubles: dict[str, str] = field(default_factory=dict)
    """From what went wrong where, to the request that shows it."""


def fuzz(
    document: dict[str, Any],
    url: str,
    world: World,
    *,
    examples: int,
    seed: int,
    is_wanted: Callable[[str, str], bool] = lambda _method, _path: True,
) -> Found:
    """Send `examples` requests of each kind to each operation, as each person; the database is as before afterwards."""
    found = Found()
    schema = schemathesis.openapi.from_dict(document)
    with kept_database() as put_back, requests.Session() as client:
        for result in schema.get_all_operations():
            operation = result.ok()
            method, path = operation.method.upper(), operation.path
            if not is_wanted(method, path):
                continue
            for person, credentials in world.credentials.items():
                for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                    chance = random.Random(f"{seed} {method} {path} {person} {mode}")
                    fuzz_operation(
                        operation, mode, (client, url), world, (person, credentials), chance, examples, found
                    )
                if method != "GET":
                    put_back()
    return found


def fuzz_operation(  # noqa: PLR0917 - the parts of one loop
    operation: Any,
    mode: GenerationMode,
    there: tuple[requests.Session, str],
    world: World,
    asking: tuple[str, Credentials],
    chance: random.Random,
    examples: int,
    found: Found,
) -> None:
    """Send generated requests to one operation as one person."""
    (client, url), (person, credentials) = there, asking
    method, path = operation.method.upper(), operation.path

    @hypothesis.seed(chance.getrandbits(32))
    @hypothesis.settings(
        max_examples=examples,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def run(case: Any) -> None:
        for name in case.path_parameters or {}:
            if name in world.ids and world.ids[name] and chance.random() < 0.9:
                case.path_parameters[name] = chance.choice(world.ids[name])
        sent = case.as_transport_kwargs(base_url=url)
        headers = {name: value for name, value in (sent.get("headers") or {}).items() if sendable(name, value)}
        if credentials.headers or credentials.cookies or chance.random() < 0.9:
            headers = {name: value for name, value in headers.items() if name.lower() not in OURS} | credentials.headers
        headers["cookie"] = "; ".join(f"{name}={value}" for name, value in credentials.cookies.items())
        found.cases += 1
        try:
            answer = case.call(base_url=url, session=client, headers=headers, timeout=60)
        except ValueError:
            return  # what no client can put on the wire
        key = f"{person} {answer.status_code // 100}xx"
        found.statuses[key] = found.statuses.get(key, 0) + 1
        if (method, path) in EXPECTED and answer.status_code == 503:
            return
        try:
            case.validate_response(answer, checks=list(CHECKS))
        except (Failure, FailureGroup) as error:
            for failure in getattr(error, "exceptions", [error]):
                title = f"{method} {path}: {answer.status_code} {getattr(failure, 'title', type(failure).__name__)}"
                found.troubles.setdefault(
                    title, f"as {person}: {str(failure)[:1500]}\n{answer.text[:300]}\n{sent}"[:3000]
                )

    with suppress(Unsatisfiable):  # nothing can be wrong about an operation that takes nothing
        run()


OURS = {"authorization", "cookie", "x-form-token"}


def sendable(name: str, value: object) -> bool:
    """Whether a header can be put on the wire."""
    return isinstance(value, str) and value.isascii() and value.isprintable() and name.isascii()


class kept_database:  # noqa: N801 - used like a function
    """The database of the settings, which is SQLite here, as it is now; call what it gives to put it back."""

    def __enter__(self) -> Callable[[], None]:
        path = make_url(str(get_engine().url)).database
        assert path is not None
        self.path = Path(path)
        self.copy = self.path.with_suffix(".kept")
        get_engine().dispose()
        shutil.copy(self.path, self.copy)
        return self.put_back

    def put_back(self) -> None:
        get_engine().dispose()
        for name in ("-wal", "-shm"):
            self.path.with_name(self.path.name + name).unlink(missing_ok=True)
        shutil.copy(self.copy, self.path)

    def __exit__(self, *_: object) -> None:
        self.put_back()
        self.copy.unlink()
