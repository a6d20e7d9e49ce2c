"""Evidence: stored once however often it comes, and asked for when two builds are compared."""

from sqlalchemy import func, select

from cachescope.evidence import ChangedFile
from cachescope.surroundings import FileMark, Surroundings
from store.models import Break, Build, BuildEvidence, EvidenceText
from store.queries import evidence, readings
from store.queries.runs import RunFacts
from tests.factories import make_build, make_delivery, make_reading, make_repository, make_step

FILES = {"package.json": FileMark("1", 10), "src/main.js": FileMark("1", 20)}
DOCKERFILE = "FROM node:22\nCOPY package.json .\nCOPY src src\nRUN npm ci\n"
KNOWN = Surroundings(
    dockerfiles={"": DOCKERFILE}, dockerignore="", files=FILES, command=("docker", "build", "."), texts={"a": "b"}
)


def test_what_is_saved_is_loaded_again(session) -> None:
    repository = make_repository(session)
    delivery = make_delivery(session, repository)
    evidence.save_evidence(session, delivery.id, repository.id, KNOWN)
    evidence.save_evidence(session, delivery.id, repository.id, KNOWN)
    assert evidence.load_evidence(session, [delivery.id, "other"]) == {delivery.id: KNOWN}


def test_equal_texts_are_stored_once_for_a_repository(session) -> None:
    repository = make_repository(session)
    for _ in range(3):
        evidence.save_evidence(session, make_delivery(session, repository).id, repository.id, KNOWN)
    assert session.scalar(select(func.count()).select_from(EvidenceText)) == 3


def test_lists_of_files_are_kept_for_the_newest_logs(session) -> None:
    repository = make_repository(session)
    ids = [make_delivery(session, repository).id for _ in range(evidence.KEPT_LISTS + 2)]
    for delivery_id in ids:
        evidence.save_evidence(session, delivery_id, repository.id, KNOWN)
    kept = session.scalars(select(BuildEvidence.delivery_id).where(BuildEvidence.files.is_not(None))).all()
    assert sorted(kept) == sorted(ids[2:])
    assert evidence.load_evidence(session, ids[:1])[ids[0]].files is None


def test_evidence_that_was_stored_under_other_limits_is_left_out(session) -> None:
    repository = make_repository(session)
    delivery = make_delivery(session, repository)
    evidence.save_evidence(session, delivery.id, repository.id, Surroundings(context="../elsewhere"))
    assert evidence.load_evidence(session, [delivery.id])[delivery.id].is_empty


def test_a_comparison_names_the_file_that_changed(session) -> None:
    repository = make_repository(session)
    steps = (
        make_step("FROM node:22", cached=False, seconds=0.1),
        make_step("COPY package.json ."),
        make_step("COPY src src", seconds=0.5),
        make_step("RUN npm ci", seconds=30.0),
    )
    for number, (commit, digest) in enumerate((("a" * 40, "1"), ("b" * 40, "2"))):
        delivery = make_delivery(session, repository)
        files = FILES | {"src/main.js": FileMark(digest, 20)}
        evidence.save_evidence(
            session,
            delivery.id,
            repository.id,
            Surroundings(dockerfiles={"": DOCKERFILE}, dockerignore="", files=files),
        )
        built = make_build(*(step if number == 0 or place > 1 else _hit(step) for place, step in enumerate(steps)))
        readings.save_reading(
            session, delivery, repository, make_reading(built), RunFacts(branch="main", commit_id=commit)
        )
    newest = session.scalars(select(Build).order_by(Build.id.desc())).first()
    broke = session.scalars(select(Break).where(Break.build_id == newest.id)).all()
    assert [(found.cause, found.confidence, found.files) for found in broke] == [
        ("files_changed", "certain", ["src/main.js"])
    ]
    between = evidence.load_evidence_between(session, newest.delivery_id, session.get(Build, newest.baseline_build_id))
    assert between.changed_files == (ChangedFile("src/main.js"),)
    assert evidence.find_evidence(session, newest).dockerfiles == {"": DOCKERFILE}


def _hit(step):
    if step.instruction == "FROM":
        return step
    return make_step(step.text, cached=True)
