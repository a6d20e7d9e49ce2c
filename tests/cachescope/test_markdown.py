"""Whatever somebody calls a branch, an image or a file: in Markdown it stays a text."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from cachescope.markdown import code, fenced, one_line, plain, visible

HOSTILE = (
    "@everyone",
    "#12",
    "acme/api#12",
    "!7 &8 %9 ~label $1",
    "GH-12",
    "https://evil.example/x",
    "www.evil.example",
    "[click](https://evil.example)",
    "![x](https://evil.example/x.png)",
    "<img src=x onerror=alert(1)>",
    "<!-- cachescope:0123 -->",
    "--> <script>alert(1)</script> <!--",
    "`@octocat`",
    "``` @octocat",
    "```\n@octocat\n```\n<b>",
    "x\n````\n@octocat",
    "a``b`c",
    "\\`@octocat\\`",
    "x\n@octocat",
    "x\r\n\r\n# heading",
    "/close",
    "\n/close\n",
    "| a | b |",
    "**bold** _it_ ~~s~~",
    ":rocket:",
    "&lt;b&gt; &#64;octocat",
    "\u202egnp.exe",
    "a\x00b\x1b[31m",
    "\u2028@octocat",
    "\x85@octocat",
    "a\u200b`b",
    "~~~\n@octocat\n~~~",
    "1. x\n- y\n> z",
    " " * 40,
    "`" * 50,
    "é" * 5000,
    "\ud800",
)
hostile = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(max_size=300),
    st.text(alphabet="`~<>[]()!@#*_\\|\n\r\t -=&;:/$^.a1\u2028\x85", max_size=300),
    st.lists(st.sampled_from(HOSTILE), max_size=6).map("".join),
)


def parsed(text: str) -> list[object]:
    """Every token of a text as GitHub reads it, those inside paragraphs too."""
    found: list[object] = []
    for token in MarkdownIt("gfm-like", {"linkify": False}).parse(text):
        found += [token, *(token.children or [])]
    return found


@given(hostile)
def test_a_name_is_one_code_span_and_nothing_else(text: str) -> None:
    tokens = parsed(f"Built {code(text)} now.")
    kinds = [token.type for token in tokens]
    assert kinds == ["paragraph_open", "inline", "text", "code_inline", "text", "paragraph_close"]
    around = [token.content for token in tokens if token.type == "text"]
    assert around == ["Built ", " now."]


@given(hostile)
def test_a_patch_is_one_block_and_nothing_else(text: str) -> None:
    tokens = parsed(f"Before.\n\n{fenced(text, 'diff')}\n\nAfter.\n")
    kinds = [token.type for token in tokens if not token.type.startswith("paragraph")]
    assert kinds == ["inline", "text", "fence", "inline", "text"]


@given(hostile)
def test_the_name_of_a_check_holds_no_sign_that_means_anything(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9._:/ -]{1,60}", plain(text))


@given(hostile, st.integers(1, 200))
@example("a" * 1000, 10)
def test_a_line_is_visible_and_no_longer_than_asked(text: str, longest: int) -> None:
    line = one_line(text, longest)
    assert len(line) <= longest
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\ud800-\udfff]", line)


def test_a_long_line_keeps_its_start_and_its_end() -> None:
    assert one_line("COPY " + "very/long/" * 30 + "package.json .", 40) == "COPY very/long/very/long/v…ackage.json ."


def test_a_harmless_name_stays_as_it_is() -> None:
    assert code("feature/büro-7") == "`feature/büro-7`"


def test_an_empty_name_is_shown_as_such() -> None:
    assert code(" \n ") == "`(empty)`"


@pytest.mark.parametrize("text", ["plain", "two\nlines", "tab\there"])
def test_plain_text_stays_visible(text: str) -> None:
    assert visible(text) == text.replace("\t", " ")


def test_a_long_patch_is_cut_at_the_end_of_a_line() -> None:
    text = fenced("x" * 30 + "\n" + "y" * 30, longest=40)
    assert text == f"```\n{'x' * 30}\n…\n```"
