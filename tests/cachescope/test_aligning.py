"""The steps of two builds, lined up."""

from cachescope.aligning import align_steps
from tests.factories import make_step


def test_a_step_that_is_gone_stands_where_it_stood() -> None:
    before = [make_step(text) for text in ("COPY a .", "RUN make everything", "RUN gone --for-good", "RUN test")]
    after = [make_step(text) for text in ("COPY a .", "RUN make everything", "RUN test")]
    assert align_steps(before, after) == [(0, 0), (1, 1), (2, None), (3, 2)]


def test_what_is_no_instruction_is_left_out() -> None:
    internal = make_step("[internal] load", kind="internal", instruction=None)
    assert align_steps([internal, make_step("RUN make")], [make_step("RUN make"), internal]) == [(1, 0)]


def test_from_lines_of_a_stage_are_one_another() -> None:
    before = [make_step("FROM a:1", stage="base"), make_step("RUN make", stage="base")]
    after = [make_step("FROM a:2", stage="base"), make_step("RUN make", stage="base")]
    assert align_steps(before, after) == [(0, 0), (1, 1)]


def test_a_step_that_moved_up_drags_nothing_along() -> None:
    before = [make_step(text) for text in ("COPY a .", "RUN make", "RUN deploy --to somewhere")]
    after = [make_step(text) for text in ("RUN deploy --to somewhere", "COPY a .", "RUN lint --strict")]
    pairs = align_steps(before, after)
    assert sorted(new for _, new in pairs if new is not None) == [0, 1, 2]
    assert sorted(old for old, _ in pairs if old is not None) == [0, 1, 2]
