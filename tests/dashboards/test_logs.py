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


RAW_JSON = [
    b'{"vertexes":[{"digest":"sha256:a","name":"[1/2] FROM node"},{"digest":"sha256:b","name":"[2/2] RUN npm ci"}]}',
    b'{"vertexes":[{"digest":"sha256:a","name":"[1/2] FROM node","cached":true,"completed":"2026-11-23T10:00:00Z"}]}',
    b'{"statuses":[{"id":"extracting","vertex":"sha256:b","current":1}]}',
    b'{"logs":[{"vertex":"sha256:b","stream":1,"data":"YWRkZWQgMiBwYWNrYWdlcwpkb25lCg=="}]}',
    b'{"vertexes":[{"digest":"sha256:b","name":"[2/2] RUN npm ci","error":"exit code 1"}]}',
    b"ERROR: failed to solve",
    b'{"vertexes":[{"digest":"c","name":"x","started":"2026-11-23T10:00:00.5Z","completed":"2026-11-23T10:00:03.1Z"}]}',
]
READABLE = [
    (1, "#1 [1/2] FROM node"),
    (1, "#2 [2/2] RUN npm ci"),
    (2, "#1 CACHED"),
    (4, "#2 added 2 packages"),
    (4, "#2 done"),
    (5, "#2 ERROR: exit code 1"),
    (6, "ERROR: failed to solve"),
    (7, "#3 x"),
    (7, "#3 DONE 2.6s"),
]


def test_a_structured_log_reads_as_the_builder_would_have_printed_it() -> None:
    found, has_more = logs.page([b"\n".join(RAW_JSON)], 1, decode=logs.RawJson())
    assert [(line.number, line.text) for line in found] == READABLE
    assert not has_more
    assert [line.number for line in found if line.is_first] == [1, 2, 4, 5, 6, 7]


def test_a_later_part_of_a_structured_log_knows_the_numbers_of_the_steps() -> None:
    found, _ = logs.page([b"\n".join(RAW_JSON)], 4, 2, decode=logs.RawJson())
    assert [(line.number, line.text) for line in found] == [line for line in READABLE if 4 <= line[0] <= 5]


def test_a_structured_log_is_searched_in_what_it_says() -> None:
    found, _ = logs.search([b"\n".join(RAW_JSON)], "PACKAGES", decode=logs.RawJson())
    assert [(line.number, line.text) for line in found] == [(4, "#2 added 2 packages")]


@given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from(RAW_JSON)), max_size=10))
def test_any_line_reads_as_something(lines: list[bytes]) -> None:
    decode = logs.RawJson()
    for line in [*lines, b'{"vertexes":[{}, 1], "logs":[{"data":"%%%"}, {"data": 7}], "warnings":[{"short":"eA"}]}']:
        assert all(isinstance(text, str) for text in decode(line))
