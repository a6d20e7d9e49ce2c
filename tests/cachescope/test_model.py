"""What the types of the project promise."""

from dataclasses import FrozenInstanceError, fields

import pytest

from cachescope.model import Step, StepDraft, StepKind, StepStatus

VALUES = {
    "kind": StepKind.INSTRUCTION,
    "text": "RUN make",
    "status": StepStatus.DONE,
    "cached": False,
    "cacheable": True,
    "number": 7,
    "target": "web",
    "stage": "build",
    "platform": "linux/amd64",
    "index": 2,
    "total": 3,
    "instruction": "RUN",
    "started_seconds": 1.5,
    "duration_seconds": 2.5,
    "digest": "sha256:1",
    "error": "no",
    "output_lines": 4,
    "line": 5,
    "inputs": ("sha256:2",),
    "transferred_bytes": 6,
}


def test_a_draft_becomes_the_step_that_the_same_values_make():
    assert [field.name for field in fields(Step)] == list(VALUES)
    step = StepDraft(**VALUES).frozen()
    assert type(step) is Step
    assert step == Step(**VALUES)


def test_a_draft_leaves_out_what_a_step_may_leave_out():
    needed = dict(list(VALUES.items())[:5])
    assert StepDraft(**needed).frozen() == Step(**needed)


def test_a_step_out_of_a_draft_cannot_be_changed():
    draft = StepDraft(**VALUES)
    draft.frozen()
    with pytest.raises(FrozenInstanceError):
        draft.line = 9
