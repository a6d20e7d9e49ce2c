"""Generated requests to every operation as every role: nothing breaks, and no answer is outside the document.

A short run; `benchmarks/schema.py` sends as many as you like.
"""

from pathlib import Path

import pytest
from fastapi import FastAPI

from service.app import create_app
from tests import schemas, serving
from tests.worlds import World, make_world

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
SEED = 20_261_124


@pytest.fixture
def world(home: Path) -> World:
    return make_world()


@pytest.mark.slow
@pytest.mark.parametrize(
    "person", ["nobody", "viewer", "member", "owner", "administrator", "upload token", "read token"]
)
def test_every_answer_is_what_the_document_says(world: World, person: str) -> None:
    app = create_app()
    asking = World(world.ids, {person: world.credentials[person]})
    with serving.serve(app) as url:
        found = schemas.fuzz(app.openapi(), url, asking, examples=1, seed=SEED)
    assert found.troubles == {}
    assert found.cases > 80


def test_an_answer_outside_the_document_is_noticed(world: World) -> None:
    app = FastAPI()

    @app.get("/number", response_model=int)
    def number() -> int:
        return 1

    @app.get("/broken")
    def broken() -> int:
        raise ZeroDivisionError

    document = app.openapi()
    document["paths"]["/number"]["get"]["responses"]["200"]["content"]["application/json"]["schema"] = {
        "type": "string"
    }
    with serving.serve(app) as url:
        found = schemas.fuzz(document, url, World({}, {"nobody": world.credentials["nobody"]}), examples=1, seed=1)
    said = " ".join(found.troubles)
    assert "GET /number: 200" in said
    assert "GET /broken: 500 Server error" in said
