"""Raw logs as text on a page."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards import logs


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("#5 RUN make\r\n", "#5 RUN make"),
        ("\x1b[31mred\x1b[0m and \x1b]0;title\x07plain", "red and plain"),
        ("10 %\r50 %\r100 %", "100 %"),
        ("done\r", "done"),
        ("tab\there\x00\x9b31m", "tab\there31m"),
        ("\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\", "link"),
    ],
)
def test_what_only_a_terminal_understands_is_taken_out(raw: str, text: str) -> None:
    assert logs.clean(raw) == text


def test_a_very_long_line_is_cut_and_says_so() -> None:
    cut = logs.clean("x" * 10_000)
    assert cut.startswith("x" * logs.LINE_LIMIT)
    assert cut.endswith("6000 characters more in the raw log)")


def test_a_line_without_an_end_costs_no_more_than_its_length() -> None:
    began = time.process_time()
    logs.clean("\x1b[" + "1;" * 200_000)
    logs.clean("\x1b]" * 200_000)
    assert time.process_time() - began < 2


@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(1, 30))
def test_lines_are_the_same_however_the_log_comes(lines: list[bytes], size: int) -> None:
    whole = b"".join(line.replace(b"\n", b"") + b"\n" for line in lines)
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    assert list(logs.lines(pieces)) == list(logs.lines([whole]))
    assert len(list(logs.lines([whole]))) == len(lines)


def test_a_page_holds_some_lines_and_says_whether_more_follow() -> None:
    log = [b"one\ntwo\nth", b"ree\nfour"]
    found, has_more = logs.page(log, 2, 2)
    assert [(line.number, line.text) for line in found] == [(2, "two"), (3, "three")]
    assert has_more
    assert logs.page(log, 4, 2) == ([logs.Line(4, "four")], False)
    assert logs.page(log, 9) == ([], False)


def test_a_search_finds_lines_in_any_case_after_a_line() -> None:
    log = [b"Error one\nfine\nERROR two\nerror three\n"]
    found, has_more = logs.search(log, "error", after=1)
    assert [line.number for line in found] == [3, 4]
    assert not has_more


def test_a_search_stops_when_a_page_is_full() -> None:
    log = [b"hit\n" * (logs.MATCHES_PER_PAGE + 1)]
    found, has_more = logs.search(log, "hit")
    assert len(found) == logs.MATCHES_PER_PAGE
    assert has_more


def test_a_line_longer_than_the_cap_does_not_shift_the_numbers() -> None:
    found, _ = logs.page([b"a" * 500_000, b"a" * 500_000 + b"\nnext\n"], 2)
    assert [(line.number, line.text) for line in found] == [(2, "next")]


def test_matches_are_told_apart_from_the_rest_of_a_line() -> None:
    assert logs.mark("npm ERR! and err!", "ERR!") == [
        ("npm ", False),
        ("ERR!", True),
        (" and ", False),
        ("err!", True),
    ]
    assert logs.mark("a.b", ".") == [("a", False), (".", True), ("b", False)]
    assert logs.mark("plain", "") == [("plain", False)]
