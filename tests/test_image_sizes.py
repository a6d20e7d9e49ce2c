"""Twelve versions built by a real engine, pushed to a real registry, told by its notifications, measured both ways."""

import io
import json
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from dashboards import app as pages
from integrations.images import IMAGES
from integrations.images.base import Options
from integrations.measure import EVERYWHERE, measured_document
from service.app import create_app
from service.auth.sessions import SESSION_COOKIE
from service.auth.tokens import hash_token
from store.database import get_engine, reading, transaction
from store.models import Measuring, Repository, Team, Token
from store.queries import image_sizes, repositories, sources
from tests import serving
from tests.dashboards.conftest import COOKIE, add_reader
from tests.engines import BASE, Engine, docker_engine
from tests.factories import make_team
from tests.registries import Registry, docker_registry
from workers.schedule import read_overdue
from workers.tasks.measuring import measure_next

pytestmark = [pytest.mark.docker, pytest.mark.slow]

SECRET = "a-secret-for-notifications"
FILL = '["/bin/busybox", "dd", "if=/dev/urandom", "of={path}", "bs=1000000", "count={count}"]'


def dockerfile(number: int) -> str:
    """The project's Dockerfile in a version: the eighth downloads 30 MB more, the tenth goes multi-stage."""
    deps = 32 if number in (8, 9) else 2
    if number < 10:
        return f"""FROM {BASE}
WORKDIR /app
RUN {FILL.format(path="/deps", count=deps)}
COPY app /app
ENV VERSION={number}
CMD ["/bin/sh"]
"""
    return f"""FROM {BASE} AS build
RUN {FILL.format(path="/deps", count=deps)}
FROM {BASE}
COPY --from=build /bin/true /bin/check
COPY app /app
CMD ["/bin/sh"]
"""


def context(number: int) -> bytes:
    packed = io.BytesIO()
    files = {"Dockerfile": dockerfile(number).encode(), "app/main": b"x" * 1000 * number, "app/static": b"y" * 5000}
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(content), 0o755, 1
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


@dataclass
class World:
    """The engine, the registry, the server and what was measured."""

    engine: Engine
    registry: Registry
    client: httpx.Client
    repository_id: int
    image_id: int

    def reference(self, number: int) -> str:
        return f"{self.registry.host}/shop/api:v{number}"


def release(engine: Engine, registry: Registry, number: int) -> None:
    reference = f"{registry.host}/shop/api:v{number}"
    for arguments, given in (
        (("build", "-q", "-t", reference, "-"), context(number)),
        (("push", "-q", reference), b""),
    ):
        done = engine.run(*arguments, input=given, env={"DOCKER_BUILDKIT": "0", "PATH": "/usr/bin:/bin"})
        assert done.returncode == 0, done.stderr.decode()


def work_off(repository_id: int, versions: int) -> None:
    """Do what workers do until every version has been told and measured."""
    deadline = time.monotonic() + 60
    while True:
        read_overdue()
        while measure_next():
            pass
        with reading() as session:
            states = {row.tag: row.state for row in session.query(Measuring)}
        if len(states) == versions and set(states.values()) == {"done"}:
            return
        assert time.monotonic() < deadline, states
        time.sleep(0.1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[World]:
    """Twelve versions, built, pushed, told and measured."""
    folder = tmp_path_factory.mktemp("sizes")
    with pytest.MonkeyPatch.context() as patch, docker_engine("overlay2") as engine:
        for name in ("REDIS_URL", "CACHESCOPE_LOGS_URL", "CACHESCOPE_WEB_PUBLIC_URL"):
            patch.delenv(name, raising=False)
        (folder / "cachescope.db").write_bytes(sqlite_template.read_bytes())
        patch.setenv("CACHESCOPE_DATA", str(folder))
        patch.setenv("CACHESCOPE_DATABASE_URL", f"sqlite:///{folder}/cachescope.db")
        patch.setenv("CACHESCOPE_SECRET_KEY", "a key for tests alone that has 32 characters or more")
        patch.setenv("CACHESCOPE_WORKER_QUEUE_FOLDER", str(folder / "queue"))
        serving.forget_settings()
        app = create_app(error_page=pages.error_page)
        app.include_router(pages.router)
        with transaction() as session:
            team = make_team(session)
            repository = repositories.get_or_create_repository(session, team.id, "shop/api")
            source = sources.create_source(session, team.id, name="registry", provider="registry", secret=SECRET)
            session.add(Token(id="1", team_id=team.id, name="read", scope="read", token_hash=hash_token("r"), hint="r"))
            add_reader(session, team, "owner")
            source_id, repository_id = source.id, repository.id
        with (
            serving.serve(app) as url,
            docker_registry(f"{url}/hooks/{source_id}", f"Bearer {SECRET}") as registry,
            httpx.Client(base_url=url, timeout=60, headers={"Authorization": "Bearer r"}) as client,
        ):
            with transaction() as session:
                repository = session.get_one(Repository, repository_id)
                sized = image_sizes.get_or_create_sized_image(session, repository, f"{registry.host}/shop/api")
                sized.from_registry, sized.insecure, sized.networks = True, True, "127.0.0.0/8"
                sized.budget_bytes = 20_000_000
                image_id = sized.id
            for number in range(1, 13):
                release(engine, registry, number)
                work_off(repository_id, number)
            yield World(engine, registry, client, repository_id, image_id)
        get_engine().dispose()
    serving.forget_settings()


def test_engine_and_registry_agree_on_all_that_both_know(world, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", world.engine.host)
    for number in range(1, 13):
        engine = IMAGES["docker_engine"].measure(world.reference(number), Options()).image.platforms
        options = Options(insecure=True, networks=EVERYWHERE, deep=number in (1, 9, 12))
        registry = IMAGES["oci_registry"].measure(world.reference(number), options).image.platforms
        assert [one.platform for one in engine] == [one.platform for one in registry]
        for ours, theirs in zip(engine[0].layers, registry[0].layers, strict=True):
            assert (ours.diff_id, ours.instruction, ours.base) == (theirs.diff_id, theirs.instruction, theirs.base)
            if theirs.unpacked_bytes is not None:
                assert ours.unpacked_bytes == theirs.unpacked_bytes
        assert engine[0].config_digest == registry[0].config_digest
        if options.deep:
            assert engine[0].unpacked_bytes == registry[0].unpacked_bytes


def versions(world: World) -> list[dict]:
    path = f"/api/v1/repositories/{world.repository_id}/images/{world.image_id}/versions"
    answer = world.client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()["versions"]


def test_the_api_says_which_instruction_made_a_version_grow_and_which_shrink(world):
    found = versions(world)
    assert [one["tag"] for one in found] == [f"v{number}" for number in range(1, 13)]
    grown, shrunk = found[7], found[9]
    assert 29_900_000 < grown["compressed_growth_bytes"] < 30_100_000
    assert grown["blamed"]["instruction"].startswith("RUN /bin/busybox dd")
    assert grown["overruns"][0]["kind"] == "absolute"
    assert shrunk["compressed_growth_bytes"] < -30_000_000
    assert shrunk["blamed"]["change"] == "removed"
    assert shrunk["blamed"]["instruction"].startswith("RUN /bin/busybox dd")
    assert [bool(one["overruns"]) for one in found] == [number in (8, 9) for number in range(1, 13)]


def test_the_page_says_the_same(world):
    cookies = {SESSION_COOKIE: COOKIE}
    path = f"/teams/acme/repositories/{world.repository_id}/images/{world.image_id}"
    html = httpx.get(f"{world.client.base_url}{path}", cookies=cookies).text.replace("\u00a0", " ")
    table = html.partition('id="versions"')[2]
    rows = {tag: table.partition(f">{tag}<")[2].partition("</tr>")[0] for tag in ("v8", "v10")}
    assert "+30 MB" in rows["v8"]
    assert "RUN /bin/busybox dd" in rows["v8"]
    assert "over budget" in rows["v8"]
    assert "−31 MB" in rows["v10"]
    assert "RUN /bin/busybox dd" in rows["v10"]


def test_what_an_engine_measured_completes_the_same_versions(world, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", world.engine.host)
    measured = IMAGES["docker_engine"].measure(world.reference(12), Options())
    with transaction() as session:
        team = session.query(Team).one()
        token = Token(id="2", team_id=team.id, name="ci", scope="upload", token_hash=hash_token("u"), hint="u")
        session.add(token)
    answer = world.client.post(
        "/api/v1/images",
        params={"repository": "shop/api", "branch": "main"},
        content=json.dumps(measured_document(measured)),
        headers={"Authorization": "Bearer u"},
    )
    assert answer.status_code == 201, answer.text
    found = versions(world)
    assert len(found) == 12
    assert found[-1]["ways"] == ["engine", "registry"]
    assert found[-1]["unpacked_bytes"] == measured.image.platforms[0].unpacked_bytes
    assert found[-1]["compressed_bytes"] is not None


def manifest(world: World, number: int) -> list[dict]:
    accept = "application/vnd.docker.distribution.manifest.v2+json"
    url = f"http://{world.registry.host}/v2/shop/api/manifests/v{number}"
    return httpx.get(url, headers={"Accept": accept}).json()["layers"]


def test_pull_churn_is_what_the_registry_serves_to_whoever_keeps_blobs(world):
    found = versions(world)
    kept = {layer["digest"] for layer in manifest(world, 1)}
    for number in range(2, 13):
        seen = len(world.registry.served())
        layers = manifest(world, number)
        for layer in layers:
            if layer["digest"] not in kept:
                httpx.get(f"http://{world.registry.host}/v2/shop/api/blobs/{layer['digest']}")
        time.sleep(0.05)
        served = world.registry.served()[seen:]
        assert found[number - 1]["pull_churn_bytes"] == sum(size for _, size in served)
        kept = {layer["digest"] for layer in layers}


def test_what_an_engine_pulls_is_what_stands_beside_the_churn(world):
    found = versions(world)
    with docker_engine() as other:
        pulled = []
        for number in range(1, 13):
            seen = len(world.registry.served())
            done = other.run("pull", "-q", world.reference(number))
            assert done.returncode == 0, done.stderr.decode()
            time.sleep(0.05)
            layers = {layer["digest"] for layer in manifest(world, number)}
            pulled.append(sum(size for digest, size in world.registry.served()[seen:] if digest in layers))
            if number > 1:
                assert other.run("rmi", world.reference(number - 1)).returncode == 0
    assert [one["engine_pull_bytes"] for one in found[1:]] == pulled[1:]
