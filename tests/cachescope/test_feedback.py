"""What a pull request hears of its builds, and when it hears nothing."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from cachescope.feedback import (
    LONGEST_COMMENT,
    Advice,
    Conclusion,
    Forecast,
    Mode,
    Policy,
    Report,
    ReportedBreak,
    Share,
    SizeChange,
    describe,
    is_worth_telling,
    judge,
    marker_of,
    render_comment,
    render_forecast,
)
from cachescope.preflight import Bust

MARKER = marker_of("acme/api", 1)
FAILING = Policy(mode=Mode.FAIL, threshold=0.5)
BREAK = ReportedBreak(
    text="RUN npm ci",
    place="deps 3/4",
    cause="files_changed",
    expected=True,
    cost_seconds=184.0,
    steps=3,
    files=("package-lock.json",),
)


def make_report(**values: object) -> Report:
    given: dict[str, object] = {
        "image": "api",
        "commit": "3f9c2ab1d4e5f60718293a4b5c6d7e8f90a1b2c3",
        "outcome": "succeeded",
        "now": Share(hits=5, misses=3, efficiency=0.31, seconds_spent=184.0),
        "before": Share(hits=8, misses=0, efficiency=0.83),
        "breaks": (BREAK,),
        "url": "https://cache.example.org/builds/12",
    }
    return Report(**given | values)


def test_a_comment_says_what_broke_why_and_what_it_cost() -> None:
    text = render_comment(
        make_report(
            advice=Advice(title="Copy package.json before the sources", saving_seconds=130.0, patch="--- a\n+++ b\n"),
            size=SizeChange(compressed_bytes=412_000_000, before_bytes=394_000_000),
            baseline_url="https://cache.example.org/builds/9",
        ),
        MARKER,
    )
    assert text == (
        f"{MARKER}\n\n"
        "**Cachescope** · `api` · `3f9c2ab…b2c3`\n\n"
        "Cache broke at `RUN npm ci` (`deps 3/4`): files it reads changed: `package-lock.json`. "
        "Cost 3 min 04 s in 3 steps. Expected.\n\n"
        "- Cache efficiency 31 %, −52 pts against the baseline's 83 %\n"
        "- Hit rate 62 % (5 of 8 steps), −38 pts against the baseline's 100 %\n"
        "- 3 min 04 s spent on misses\n"
        "- Image 412 MB compressed, +18 MB\n\n"
        "First thing to change: `Copy package.json before the sources`, saves about 2 min 10 s a build.\n\n"
        "```diff\n--- a\n+++ b\n```\n\n"
        "<sub>[This build](https://cache.example.org/builds/12) · "
        "[its baseline](https://cache.example.org/builds/9) · this comment follows the latest build</sub>\n"
    )


def test_what_would_make_a_comment_too_long_is_left_out_as_a_whole() -> None:
    files = tuple("é" * 70 + str(number) for number in range(3))
    breaks = [replace(BREAK, text="x" * 100, place="y" * 60, files=files)] * 5
    text = render_comment(make_report(image="i" * 100, breaks=breaks), "m" * (LONGEST_COMMENT - 1000))
    assert len(text) <= LONGEST_COMMENT
    assert "Cache broke" not in text
    assert "- Cache efficiency 31 %" in text


def test_several_breaks_are_listed_up_to_a_number() -> None:
    text = render_comment(make_report(breaks=[BREAK] * 7), MARKER)
    assert text.count("`RUN npm ci`") == 5
    assert "- 2 other places" in text


def test_many_files_are_counted() -> None:
    broken = replace(BREAK, files=("a", "b", "c", "d", "e"))
    assert "`a`, `b`, `c` and 2 other files" in render_comment(make_report(breaks=[broken]), MARKER)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"now": Share(hits=0, misses=0, efficiency=None), "breaks": ()}, "No step of it could be counted."),
        ({"now": Share(hits=4, misses=0, efficiency=1.0), "breaks": ()}, "Every cacheable step, 4 of 4, came"),
        ({"breaks": ()}, "3 of 8 cacheable steps ran; none is known as the first miss."),
        ({"outcome": "failed"}, "The build failed. Cache broke at"),
        ({"outcome": "canceled"}, "The build was canceled. Cache broke at"),
        ({"breaks": [replace(BREAK, cost_seconds=None, expected=None)]}, "`package-lock.json`. 3 steps ran.\n"),
        ({"breaks": [replace(BREAK, cause="made_up", files=(), place="")]}, "`RUN npm ci`: the log does not tell why."),
        ({"breaks": [replace(BREAK, expected=False)]}, "in 3 steps. Unexpected."),
        ({"before": None}, "- Cache efficiency 31 %\n"),
        ({"before": Share(hits=5, misses=3, efficiency=0.31)}, "±0 pts against"),
        ({"before": Share(hits=0, misses=8, efficiency=None)}, "+62 pts against"),
        ({"size": SizeChange(compressed_bytes=1_000_000)}, "- Image 1.0 MB compressed\n"),
        ({"size": SizeChange(compressed_bytes=1_000_000, before_bytes=3_000_000)}, "compressed, −2.0 MB"),
        ({"advice": Advice(title="Pin the base")}, "First thing to change: `Pin the base`."),
        ({"advice": Advice(title="Pin", patch="x" * 5000)}, "First thing to change: `Pin`."),
        ({"url": None, "commit": None}, "**Cachescope** · `api`\n\nCache"),
    ],
)
def test_the_sentences_of_a_comment(values: dict[str, object], sentence: str) -> None:
    assert sentence in render_comment(make_report(**values), MARKER)


def test_a_break_with_a_price_is_worth_a_comment() -> None:
    assert is_worth_telling(make_report(), Policy())


@pytest.mark.parametrize(
    ("values", "policy"),
    [
        ({"breaks": (), "now": Share(hits=8, misses=0, efficiency=0.83)}, Policy()),
        ({"breaks": [replace(BREAK, cost_seconds=0.2)]}, Policy()),
        ({"breaks": [replace(BREAK, cost_seconds=50.0)]}, Policy(least_seconds=60.0)),
        ({"breaks": [replace(BREAK, cause="first_build")], "before": None}, Policy()),
        ({"breaks": (), "before": None}, Policy()),
        ({"breaks": (), "outcome": "failed"}, Policy()),
        ({"breaks": (), "now": Share(hits=8, misses=0, efficiency=None)}, Policy()),
        (
            {"breaks": (), "before": None, "size": SizeChange(compressed_bytes=100_000_000, before_bytes=99_500_000)},
            Policy(),
        ),
    ],
)
def test_what_is_not_worth_a_comment(values: dict[str, object], policy: Policy) -> None:
    assert not is_worth_telling(make_report(**values), policy)


@pytest.mark.parametrize(
    "values",
    [
        {"breaks": ()},
        {"breaks": [replace(BREAK, cost_seconds=None)]},
        {"before": None, "breaks": (), "size": SizeChange(compressed_bytes=130_000_000, before_bytes=100_000_000)},
        {"before": None, "breaks": (), "size": SizeChange(compressed_bytes=70_000_000, before_bytes=100_000_000)},
    ],
)
def test_a_fall_or_a_change_of_size_is_worth_a_comment(values: dict[str, object]) -> None:
    assert is_worth_telling(make_report(**values), Policy())


@pytest.mark.parametrize(
    ("values", "policy", "conclusion", "title"),
    [
        ({}, Policy(), Conclusion.SUCCESS, "5 of 8 cacheable steps from cache, efficiency 31 %, break cost 3 min 04 s"),
        ({}, FAILING, Conclusion.FAILURE, "Cache efficiency 31 %, below 50 %"),
        ({}, replace(FAILING, threshold=0.3), Conclusion.SUCCESS, "5 of 8 cacheable steps"),
        ({}, replace(FAILING, measure="hit_rate"), Conclusion.SUCCESS, "5 of 8 cacheable steps"),
        ({}, replace(FAILING, measure="hit_rate", threshold=0.9), Conclusion.FAILURE, "Hit rate 62 %, below 90 %"),
        (
            {"now": Share(hits=1, misses=9, efficiency=None), "breaks": ()},
            FAILING,
            Conclusion.FAILURE,
            "Hit rate 10 %, below",
        ),
        ({"before": None}, FAILING, Conclusion.NEUTRAL, "but there is no earlier build to compare with"),
        ({"outcome": "failed"}, FAILING, Conclusion.NEUTRAL, "5 of 8 cacheable steps"),
        ({"outcome": "canceled"}, FAILING, Conclusion.NEUTRAL, "5 of 8 cacheable steps"),
        ({"is_foreign": True}, FAILING, Conclusion.NEUTRAL, "below 50 %, in a fork"),
        (
            {"now": Share(hits=0, misses=0, efficiency=None), "breaks": ()},
            FAILING,
            Conclusion.NEUTRAL,
            "No step could be counted",
        ),
        ({"now": Share(hits=2, misses=0, efficiency=None), "breaks": ()}, Policy(), Conclusion.SUCCESS, "2 of 2"),
    ],
)
def test_the_verdict_of_a_check(values: dict[str, object], policy: Policy, conclusion: Conclusion, title: str) -> None:
    verdict = judge(make_report(**values), policy)
    assert verdict.conclusion == conclusion
    assert title in verdict.title
    assert len(describe(verdict)) <= 140
    assert verdict.summary


BUST = Bust(
    text="COPY . .", stage="build", line=7, files=("src/app.ts",), below=("RUN npm run build",), cost_seconds=31.0
)


def test_a_forecast_says_what_will_miss_and_what_that_takes() -> None:
    text = render_forecast(Forecast(image="api", commit="3f9c2ab", busts=[BUST]), MARKER)
    assert text.startswith(f"{MARKER}\n\n**Cachescope** · `api` · `3f9c2ab`\n\nBefore the build: ")
    assert "this change will make the cache miss. It usually takes 31 s." in text
    assert "- `COPY . .` (`build`) and 1 step below it: `src/app.ts` changed; usually 31 s\n" in text


def test_a_forecast_without_costs_names_the_lines_only() -> None:
    plain = replace(BUST, stage="", files=(), below=(), cost_seconds=None)
    text = render_forecast(Forecast(image="api", commit=None, busts=[plain] * 7), MARKER)
    assert "will make the cache miss.\n" in text
    assert text.count("- `COPY . .`: the line itself changed\n") == 5
    assert "- and 2 more" in text


def test_markers_tell_images_apart_and_name_none() -> None:
    assert re.fullmatch(r"<!-- cachescope:[0-9a-f]{24} -->", MARKER)
    assert marker_of("acme/api", 2) != MARKER
    assert marker_of("acme", "/api1") != MARKER


any_text = st.one_of(
    st.text(max_size=400),
    st.text(alphabet="`~<>[]()!@#*_\\|\n\r -=&;:/$^.a1", max_size=400),
    st.sampled_from(["@octocat", "#12", "<img src=x>", "[a](//b)", "https://evil.example", "-->", "\n/close\n", "```"]),
)


@given(texts=st.lists(any_text, min_size=8, max_size=8), number=st.integers(1, 9))
def test_nothing_that_others_wrote_becomes_markdown(texts: list[str], number: int) -> None:
    broken = ReportedBreak(
        text=texts[0],
        place=texts[1],
        cause=texts[2],
        expected=None,
        cost_seconds=3.0,
        steps=2,
        files=texts[3:5],
    )
    bust = Bust(text=texts[0], stage=texts[1], line=1, files=tuple(texts[3:5]), below=(texts[2],), cost_seconds=2.0)
    report = make_report(
        image=texts[5],
        commit=texts[6],
        outcome=texts[7],
        breaks=[broken] * number,
        advice=Advice(title=texts[0], saving_seconds=4.0, patch=texts[1]),
    )
    forecast = Forecast(image=texts[5], commit=texts[6], busts=[bust] * number)
    for text in (
        render_comment(report, MARKER),
        render_forecast(forecast, MARKER),
        judge(report, FAILING).summary,
    ):
        assert len(text) <= LONGEST_COMMENT
        assert_only_ours(text)


def assert_only_ours(text: str) -> None:
    """No token but those that we write: one link to our own page, the marker, and nothing outside code to react to."""
    tokens = []
    for token in MarkdownIt("gfm-like", {"linkify": False}).parse(text):
        tokens += [token, *(token.children or [])]
    for token in tokens:
        assert token.type not in {
            "image",
            "heading_open",
            "table_open",
            "blockquote_open",
            "html_block_open",
            "em_open",
        }
        if token.type == "link_open":
            assert token.attrs["href"] == "https://cache.example.org/builds/12"
        if token.type == "html_block":
            assert token.content.strip() == MARKER
        if token.type == "html_inline":
            assert token.content in {"<sub>", "</sub>"}
        if token.type == "text":
            assert not re.search(r"[@#<>`\[\]!~$^]|://|www\.", token.content), token.content
