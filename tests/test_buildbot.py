"""A real CI server: Buildbot builds images with a real Docker engine, tells us, and its builds are on their pages."""

import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from sqlalchemy import select

from service.actions import sources as actions
from service.actions.sources import SourceForm
from service.auth.permissions import Viewer
from store.database import reading, transaction
from store.models import Build, Delivery, Source, Step
from store.models.sources import Hook
from tests.buildbots import Buildbot, buildbot, programs
from tests.engines import Engine, docker_engine
from tests.factories import make_team
from tests.serving import wait_for
from workers.reconciling import reconcile_next
from workers.schedule import read_overdue

pytestmark = [pytest.mark.docker, pytest.mark.slow]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """One engine for all tests of this module."""
    programs()
    with docker_engine() as opened:
        yield opened


def free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        for probe in (one, other):
            probe.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


@pytest.fixture
def connected(engine: Engine, client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Buildbot, str]]:
    """A Buildbot that tells a source of ours, and the id of the source."""
    from workers.settings import get_settings

    monkeypatch.setattr(get_settings(), "networks", "127.0.0.0/8")
    ports = free_ports()
    with transaction() as session:
        team = make_team(session)
        owner = Viewer(name="Ada", roles={team.id: "owner"})
        form = SourceForm(
            name="Buildbot", provider="buildbot", base_url=f"http://127.0.0.1:{ports[1]}", networks="127.0.0.0/8"
        )
        source, secret = actions.create_source(session, owner, team, form)
        source_id = source.id
    with buildbot(engine, f"{client.base_url}/hooks/{source_id}", secret, ports) as running:
        yield running, source_id


def worked_off(count: int) -> list[Delivery]:
    """Wait until so many builds have been told and read."""

    def done() -> list[Delivery]:
        read_overdue()
        with reading() as session:
            rows = session.scalars(
                select(Delivery).where(Delivery.state.in_(("done", "failed"))).order_by(Delivery.id)
            ).all()
        return list(rows) if len(rows) >= count else []

    return wait_for(done, f"{count} deliveries", 120)


def test_what_a_real_ci_server_builds_is_on_its_page(connected: tuple[Buildbot, str]) -> None:
    server, source_id = connected
    for count, builder in enumerate(("image", "image", "broken"), 1):
        server.force(builder, revision="a" * 40)
        wait_for(lambda count=count: server.count_complete() == count, builder, 60)
    server.force("endless")
    running = wait_for(lambda: [each for each in server.builds() if not each["complete"]], "a build that runs", 60)
    wait_for(lambda: "still working" in server.output(running[0]["buildid"]), "its output", 30)
    server.stop(running[0]["buildid"])
    deliveries = worked_off(4)
    assert [(each.state, each.error) for each in deliveries] == [("done", None)] * 4
    with reading() as session:
        builds = session.scalars(select(Build).order_by(Build.id)).all()
        told = [(build.outcome, build.branch, build.commit_id, build.hits, build.misses) for build in builds]
        assert told[0][:3] == ("succeeded", "main", "a" * 40)
        assert (told[0][3], told[1][3:]) == (0, (3, 0)), "the second build took all from the cache"
        assert [build.outcome for build in builds] == ["succeeded", "succeeded", "failed", "canceled"]
        assert (
            "RUN cat app.txt"
            in "".join(
                str(step) for step in session.scalars(select(Step.instruction).where(Step.build_id == builds[0].id))
            )
            or session.scalar(select(Step.duration_seconds).where(Step.build_id == builds[0].id, Step.idx == 3)) > 0.9
        )
        failed = session.scalars(select(Step).where(Step.build_id == builds[2].id, Step.status == "failed")).all()
        assert len(failed) == 1
        assert session.scalars(select(Source.problem)).one() is None
    # The same builds once more, found by asking: nothing is missing and nothing comes twice.
    assert reconcile_next() == source_id
    with reading() as session:
        assert session.scalars(select(Hook.is_found)).all().count(True) == 0


def test_a_build_of_which_no_webhook_came_is_found_by_asking(
    connected: tuple[Buildbot, str], client: httpx.Client
) -> None:
    server, source_id = connected
    with transaction() as session:
        session.get_one(Source, source_id).disabled_at = datetime.now(UTC)  # an outage of ours
    server.force("image")
    wait_for(lambda: server.count_complete() == 1, "a build", 60)
    refused = 'cachescope_hooks_total{outcome="refused"} 1.0'
    wait_for(lambda: refused in client.get("/metrics").text, "its webhook to be refused", 60)
    with transaction() as session:
        source = session.get_one(Source, source_id)
        source.disabled_at = None
        source.asked_until = datetime.now(UTC) - timedelta(hours=1)
    assert reconcile_next(grace=timedelta(0)) == source_id
    (delivery,) = worked_off(1)
    assert (delivery.state, delivery.error, delivery.parameters["job"]) == ("done", None, "image")
    assert reconcile_next() is None, "it was asked just now"
    with reading() as session:
        assert session.scalars(select(Hook.is_found)).all() == [True]
        assert len(session.scalars(select(Build)).all()) == 1
