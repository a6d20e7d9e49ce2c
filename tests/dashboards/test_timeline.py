"""The timeline of a build: everything inside the frame, nothing on top of anything else."""

from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards import states
from dashboards.timeline import ROW_HEIGHT, Bar, TimelineStep, timeline

MISS = states.UNEXPECTED
BREAK = states.State("miss", "break, unexpected", is_break=True)


def step(position: int = 0, **values: Any) -> TimelineStep:
    given_ = {
        "position": position,
        "lane": "build",
        "text": "RUN make",
        "state": MISS,
        "started_seconds": 0.0,
        "duration_seconds": 1.0,
    }
    return TimelineStep(**given_ | values)


def test_a_log_without_times_has_no_timeline() -> None:
    assert timeline([step(started_seconds=None, duration_seconds=None)], None) is None
    assert timeline([], 10.0) is None


def test_bars_stand_where_and_as_long_as_the_steps_ran() -> None:
    drawn = timeline([step(started_seconds=2.5, duration_seconds=5.0, reference_seconds=2.0)], 10.0)
    assert drawn is not None
    (bar,) = drawn.lanes[0].bars
    assert (bar.x, bar.width, bar.typical_width) == (25.0, 50.0, 20.0)
    assert drawn.is_measured
    assert drawn.ticks[0] == (0.0, 0)


def test_without_starts_bars_stand_end_to_end_in_each_lane() -> None:
    steps = [
        step(0, started_seconds=None, duration_seconds=1.0),
        step(1, started_seconds=None, duration_seconds=3.0),
        step(2, started_seconds=None, duration_seconds=2.0, lane="final"),
    ]
    drawn = timeline(steps, 60.0)
    assert drawn is not None
    assert not drawn.is_measured
    assert [(lane.name, [bar.x for bar in lane.bars]) for lane in drawn.lanes] == [
        ("build", [0.0, 25.0]),
        ("final", [0.0]),
    ]


def test_hits_are_ticks_side_by_side() -> None:
    drawn = timeline([*(step(n, state=states.HIT, duration_seconds=0.0) for n in range(3)), step(3)], 1.0)
    assert drawn is not None
    bars = drawn.lanes[0].bars
    ticks = [bar for bar in bars if bar.is_tick]
    assert len({bar.x for bar in ticks}) == 3
    assert len({bar.y for bar in ticks}) == 1
    assert not any(bar.label for bar in ticks)
    assert next(bar for bar in bars if not bar.is_tick).y > ticks[0].y


def test_a_cascade_is_tied_to_its_break() -> None:
    steps = [
        step(0, state=BREAK, duration_seconds=2.0),
        step(1, started_seconds=2.0, duration_seconds=3.0, break_position=0),
        step(2, started_seconds=5.0, duration_seconds=1.0, lane="final", break_position=0),
        step(3, started_seconds=5.0, duration_seconds=1.0, lane="other", break_position=7),
    ]
    drawn = timeline(steps, 6.0)
    assert drawn is not None
    assert [(round(tie.x, 1), round(tie.to_x, 1)) for tie in drawn.ties] == [(0.0, 33.3), (0.0, 83.3)]


def test_the_critical_path_is_said_to_be_there() -> None:
    drawn = timeline([step(is_critical=True)], 1.0)
    assert drawn is not None
    assert drawn.has_critical


@pytest.mark.parametrize("span", [0.05, 1.0, 59.0, 3600.0, 1e6])
def test_the_axis_has_a_handful_of_marks(span: float) -> None:
    drawn = timeline([step(duration_seconds=span)], span)
    assert drawn is not None
    assert 1 <= len(drawn.ticks) <= 13
    assert all(0 <= place <= 100.001 for place, _ in drawn.ticks)


def edges(bar: Bar) -> tuple[float, float]:
    return bar.x, bar.x + bar.width


@given(
    st.lists(
        st.tuples(
            st.floats(0, 100), st.floats(0, 100), st.sampled_from(["a", "b"]), st.booleans(), st.text(max_size=60)
        ),
        min_size=1,
        max_size=60,
    )
)
def test_bars_never_lie_on_each_other_nor_outside(drawn_steps: list[tuple[float, float, str, bool, str]]) -> None:
    steps = [
        step(n, started_seconds=start, duration_seconds=took, lane=lane, text=text, state=states.HIT if hit else MISS)
        for n, (start, took, lane, hit, text) in enumerate(drawn_steps)
    ]
    drawn = timeline(steps, None)
    if drawn is None:
        return
    for lane in drawn.lanes:
        for bar in lane.bars:
            assert 0 <= bar.x <= bar.x + bar.width <= 100.6
            assert lane.y < bar.y <= drawn.height - ROW_HEIGHT
        for one, other in combinations([bar for bar in lane.bars if not bar.is_tick], 2):
            if one.y == other.y:
                assert edges(one)[1] <= edges(other)[0] or edges(other)[1] <= edges(one)[0]
