"""The state of a step: one word, one colour, one shape."""

from typing import Any

import pytest

from dashboards import states
from dashboards.states import state_of
from store.models import Step


def step(**values: Any) -> Step:
    given = {
        "kind": "instruction",
        "instruction": "RUN",
        "status": "done",
        "cached": False,
        "cacheable": True,
        "is_break": False,
        "break_position": None,
        "expected": None,
    }
    return Step(**given | values)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"cached": True, "status": "cached"}, "hit"),
        ({"expected": True}, "expected miss"),
        ({"expected": False}, "unexpected miss"),
        ({}, "miss"),
        ({"is_break": True, "expected": True}, "break, expected"),
        ({"is_break": True, "expected": False}, "break, unexpected"),
        ({"is_break": True}, "break"),
        ({"cached": None, "status": "unknown"}, "unknown"),
        ({"status": "failed"}, "failed"),
        ({"status": "canceled"}, "canceled"),
        ({"status": "running"}, "running"),
        ({"instruction": "FROM"}, "not cacheable"),
        ({"kind": "internal", "instruction": None, "cached": True}, "not cacheable"),
        ({"instruction": "ENV", "cacheable": False}, "not cacheable"),
        ({"instruction": "ENV", "cacheable": False, "cached": True}, "hit"),
        ({"instruction": "ENV", "cacheable": False, "break_position": 2}, "miss"),
        ({"instruction": "ENV", "cacheable": False, "is_break": True}, "break"),
    ],
)
def test_a_step_is_called_by_one_word(values: dict[str, Any], word: str) -> None:
    assert state_of(step(**values)).word == word


def test_a_step_of_a_cascade_is_expected_where_its_break_is() -> None:
    assert state_of(step(break_position=1), expected=True) is states.EXPECTED
    assert state_of(step(break_position=1), expected=False) is states.UNEXPECTED
    assert state_of(step(break_position=1)) is states.MISS


def test_states_that_look_different_have_different_words() -> None:
    looks = [(state.name, state.is_break) for state in states.LEGEND]
    assert len(set(looks)) == len(looks)
    assert len({state.word for state in states.LEGEND}) == len(looks)
