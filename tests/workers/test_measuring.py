"""What workers measure at registries: told, claimed, retried where that helps, and never lost."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cachescope.model import BuiltImage
from integrations.ci.base import PushedImage
from store.database import reading, transaction
from store.models import ImageLayer, ImageSize, Measuring, SizedImage, Team
from store.queries import image_sizes, measurings
from tests.factories import make_build, make_repository, make_step, save_build
from tests.integrations.images.test_oci_registry import registry, send, well
from workers.tasks import measuring
from workers.tasks.measuring import measure_next, measure_overdue, request_built, request_pushed


def follow(host: str) -> int:
    with transaction() as session:
        repository = make_repository(session)
        sized = image_sizes.get_or_create_sized_image(session, repository, f"{host}/acme/api")
        sized.from_registry, sized.insecure, sized.networks = True, True, "127.0.0.0/8"
        return sized.id


def push(name: str, tag: str = "1", digest: str | None = None) -> int:
    with transaction() as session:
        team = session.query(Team).one()
        return request_pushed(session, team.id, [PushedImage(name=name, tag=tag, digest=digest)])


def only(session) -> Measuring:
    return session.query(Measuring).one()


def make_due() -> None:
    with transaction() as session:
        only(session).next_at = datetime.now(UTC) - timedelta(seconds=2)


def test_a_pushed_image_is_measured_and_kept(home: Path) -> None:
    with registry(well) as (host, _):
        image_id = follow(host)
        assert push(f"{host}/acme/api") == 1
        assert measure_next()
        assert not measure_next()
    with reading() as session:
        (version,) = image_sizes.load_versions(session, image_id, "linux/amd64")
        assert (version.row.tag, version.row.compressed_bytes, version.row.ways) == ("1", 160_513_885, ["registry"])
        assert only(session).state == "done"


def test_a_push_told_twice_is_measured_once(home: Path) -> None:
    with registry(well) as (host, asked):
        follow(host)
        push(f"{host}/acme/api")
        push(f"{host}/acme/api")
        while measure_next():
            pass
    assert len(asked) == 3


def test_what_nobody_follows_is_not_asked_for(home: Path) -> None:
    follow("ghcr.io")
    assert push("evil.example/acme/other") == 0
    assert not measure_next()


def test_a_registry_that_knows_itself_by_another_name_is_asked_by_the_name_that_is_followed(home: Path) -> None:
    with registry(well) as (host, asked):
        follow(host)
        assert push("registry.internal:5000/acme/api") == push("acme/api", tag="2") == 1
        while measure_next():
            pass
    assert asked[0][0] == "/v2/acme/api/manifests/1"


def test_a_registry_that_is_away_is_asked_again_and_nothing_is_lost(home: Path) -> None:
    state = {"down": True}
    with registry(lambda handler: send(handler, 503) if state["down"] else well(handler)) as (host, _):
        image_id = follow(host)
        push(f"{host}/acme/api")
        assert measure_next()
        with reading() as session:
            row = only(session)
            assert (row.state, row.attempts) == ("new", 1)
            assert "is not well" in row.error
            assert row.next_at > datetime.now(UTC)
        assert not measure_next()
        state["down"] = False
        make_due()
        measure_overdue()
    with reading() as session:
        assert only(session).state == "done"
        assert image_sizes.list_platforms(session, image_id) == ["linux/amd64"]


def test_a_registry_that_asks_us_to_wait_is_given_its_time(home: Path) -> None:
    with registry(lambda handler: send(handler, 429, Retry_After="600")) as (host, _):
        follow(host)
        push(f"{host}/acme/api")
        measure_next()
    with reading() as session:
        assert only(session).next_at > datetime.now(UTC) + timedelta(seconds=590)


def test_after_the_last_attempt_it_has_failed_and_says_so(home: Path) -> None:
    with registry(lambda handler: send(handler, 500)) as (host, _):
        follow(host)
        push(f"{host}/acme/api")
        for _ in range(measuring.ATTEMPTS):
            make_due()
            assert measure_next()
    with reading() as session:
        row = only(session)
        assert row.state == "failed"
        assert row.error.endswith(f"It was tried {measuring.ATTEMPTS} times.")


@pytest.mark.parametrize(
    ("status", "sentence"), [(404, "is not there"), (401, "asks for a user and a password"), (403, "lets us not read")]
)
def test_what_no_other_time_would_mend_fails_at_once(home: Path, status: int, sentence: str) -> None:
    with registry(lambda handler: send(handler, status)) as (host, _):
        follow(host)
        push(f"{host}/acme/api")
        measure_next()
    with reading() as session:
        assert only(session).state == "failed"
        assert sentence in only(session).error


def test_a_worker_that_died_leaves_its_work_to_the_next(home: Path) -> None:
    with registry(well) as (host, _):
        follow(host)
        push(f"{host}/acme/api")
        now = datetime.now(UTC)
        with transaction() as session:
            dead = measurings.claim_next(session, now, timedelta(seconds=-1))
        assert measure_next()
        with transaction() as session:
            assert not measurings.finish(session, dead, "failed", now)
            assert only(session).state == "done"


def test_a_schedule_asks_when_it_is_due_and_not_before(home: Path) -> None:
    with registry(well) as (host, asked):
        image_id = follow(host)
        with transaction() as session:
            session.get_one(SizedImage, image_id).every_minutes = 60
        measure_overdue()
        while measure_next():
            pass
        count = len(asked)
        measure_overdue()
        assert len(asked) == count == 3
    with reading() as session:
        assert only(session).reason == "schedule"


def test_a_build_that_pushed_its_image_has_it_measured_and_its_layers_matched_to_steps(home: Path) -> None:
    with registry(well) as (host, _):
        image_id = follow(host)
        with transaction() as session:
            image = session.get_one(SizedImage, image_id)
            repository = make_repository(session, "acme/other", team=session.get_one(Team, image.team_id))
            steps = [
                make_step("RUN apt-get update && apt-get install -y --no-install-recommends procps curl"),
                make_step("COPY requirements.txt ."),
                make_step("RUN --mount=type=cache,target=/x pip install --no-cache-dir -r requirements.txt"),
            ]
            tags = (f"{host}/acme/api:1",)
            built = save_build(
                session, repository, make_build(*steps, images=(BuiltImage(tags=tags),)), commit_id="ab12"
            )
            assert request_built(session, image.team_id, built) == 1
        assert measure_next()
    with reading() as session:
        row = session.query(ImageSize).one()
        assert row.build_id == built[0]
        found = image_sizes.load_layers(session, [row.id])[row.id]
        matched = {
            one.position: one.step_position for one in session.query(ImageLayer) if one.step_position is not None
        }
        assert len(found) == 6
        assert matched == {1: 0, 3: 1, 4: 2}
