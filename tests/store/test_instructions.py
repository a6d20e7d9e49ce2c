"""Which instruction a step is, over all builds of its image."""

from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from cachescope.metrics import update_reference
from store.models import Instruction, Step, Wording
from store.queries.instructions import recompute_references, wording_keys
from tests.factories import MORNING, make_build, make_repository, make_step, minutes, save_build

INSTALL = "RUN apt-get update && apt-get install -y curl git"
REWORDED = "RUN apt-get update && apt-get install -y curl git jq"


@pytest.fixture
def repository(session):
    return make_repository(session)


@pytest.fixture
def save(session, repository):
    """Saves a build of some texts one minute after the last, and returns the instruction of each."""
    minute = iter(range(1000))

    def save(*texts, branch="main", stage=None, **values):
        steps = [make_step(text, stage=stage) for text in texts]
        (build_id,) = save_build(
            session, repository, make_build(*steps), at=MORNING + minutes(next(minute)), branch=branch, **values
        )
        return session.scalars(
            select(Step.instruction_id).where(Step.build_id == build_id).order_by(Step.position)
        ).all()

    return save


def test_an_instruction_keeps_its_identity_from_build_to_build(save):
    assert save("COPY . .", "RUN make") == save("COPY . .", "RUN make")


def test_spaces_and_the_case_of_the_keyword_do_not_make_another_instruction(save):
    assert save("COPY  .   .") == save("copy . .")


def test_a_reworded_instruction_stays_the_same(save):
    first = save("COPY a .", INSTALL, "RUN make")
    assert save("COPY a .", REWORDED, "RUN make") == first


def test_two_branches_may_word_one_instruction_differently(save):
    first = save("COPY a .", INSTALL, "RUN make")
    save("COPY a .", REWORDED, "RUN make", branch="fix")
    assert save("COPY a .", INSTALL, "RUN make") == first
    assert save("COPY a .", REWORDED, "RUN make", branch="fix") == first


def test_an_inserted_instruction_is_new_and_moves_no_other(save):
    copy, make = save("COPY . .", "RUN make")
    again = save("COPY . .", "ENV A=1", "RUN make")
    assert (again[0], again[2]) == (copy, make)
    assert again[1] not in {copy, make}


def test_an_instruction_that_comes_back_beside_a_new_one_is_the_former_one(save):
    copy, make = save("COPY . .", "RUN make")
    save("RUN make")
    again = save("COPY . .", "RUN make", "RUN make test > /report.txt")
    assert again[:2] == [copy, make]
    assert again[2] not in {copy, make}


def test_equal_instructions_of_one_stage_are_told_apart(save):
    first = save("WORKDIR /app", "RUN make", "WORKDIR /app")
    assert len(set(first)) == 3
    assert save("WORKDIR /app", "RUN make", "WORKDIR /app") == first


def test_both_wordings_in_one_build_are_two_instructions(save):
    (old,) = save(INSTALL)
    assert save(REWORDED) == [old]
    both = save(INSTALL, REWORDED)
    assert len(set(both)) == 2
    assert save(INSTALL, REWORDED) == both


def test_the_same_line_in_another_image_is_another_instruction(save):
    assert save("RUN make", image="web") != save("RUN make", image="api")


def test_a_stage_that_is_renamed_keeps_its_instructions(save):
    texts = ("COPY a .", INSTALL, "RUN make")
    assert save(*texts, stage="build") == save(*texts, stage="builder")


def test_an_instruction_shows_its_latest_wording_and_build(session, save):
    save(INSTALL)
    (instruction_id,) = save(REWORDED)
    instruction = session.get_one(Instruction, instruction_id, populate_existing=True)
    assert instruction.text == REWORDED
    assert instruction.first_build_id < instruction.last_build_id


def test_from_lines_have_no_instruction(save):
    assert save("FROM node:20", "RUN make")[0] is None


def test_a_rebuild_of_known_wordings_writes_none(session, save):
    save("COPY . .", "RUN make")
    save("COPY . .", "RUN make")
    assert session.scalar(select(func.count()).select_from(Wording)) == 2


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(seconds=st.lists(st.floats(0.1, 100), min_size=1, max_size=12))
def test_a_reference_cost_worked_out_again_is_the_one_that_grew(session, repository, seconds):
    image = uuid4().hex  # the session is the same for all examples
    for number, value in enumerate(seconds):
        save_build(
            session,
            repository,
            make_build(make_step("RUN make", seconds=value)),
            at=MORNING + minutes(number),
            image=image,
        )
    instruction = session.scalars(
        select(Instruction).order_by(Instruction.id.desc()).limit(1).execution_options(populate_existing=True)
    ).one()
    grown = None
    for value in seconds:
        grown = update_reference(grown, value)
    assert instruction.reference_seconds == grown
    recompute_references(session, [instruction.id])
    session.refresh(instruction)
    assert instruction.reference_seconds == pytest.approx(grown, rel=1e-9)
    assert instruction.executions == len(seconds)


@given(st.lists(st.sampled_from(["RUN a", "RUN b", "run a", "RUN  a"]), max_size=8))
def test_no_two_steps_of_an_image_have_the_same_key(texts):
    keys = wording_keys([make_step(text) for text in texts])
    assert len(set(keys)) == len(texts)
