"""The sentence on top of a page."""

import re
from types import SimpleNamespace
from typing import Any

import pytest

from dashboards import sentences
from dashboards.pages.build import ShownBreak


def said(markup: object) -> str:
    """A sentence as it is read."""
    return re.sub(r"<[^>]+>", "", str(markup)).replace("\u00a0", " ").replace("&amp;", "&")


def period(**values: Any) -> Any:
    given = {
        "builds": 12,
        "cache_efficiency": 0.83,
        "hit_rate": 0.9,
        "lost_seconds": 2460.0,
        "rebuild_seconds": 60.0,
        "unexplained_seconds": 0.0,
    }
    return SimpleNamespace(**given | values)


WORST = SimpleNamespace(
    text="RUN npm ci",
    repository_name="acme/api",
    lost_seconds=1980.0,
    causes="nothing changed, the entry was gone",
)


def test_a_team_is_told_what_was_lost_and_by_what() -> None:
    assert said(sentences.of_team("Acme", period(), "the last 7 days", WORST)) == (
        "Acme is served 83 % from cache, by time; 41 min lost to unexpected misses, 33 min of it by RUN npm ci in "
        "acme/api (nothing changed, the entry was gone)."
    )


def test_a_repository_is_told_with_its_branch() -> None:
    worst = SimpleNamespace(**{**vars(WORST), "lost_seconds": 2460.0})
    assert said(sentences.of_repository("acme/api", "main", period(), "the last 7 days", worst)) == (
        "acme/api (main) is served 83 % from cache, by time; 41 min lost to unexpected misses, all of it by "
        "RUN npm ci (nothing changed, the entry was gone)."
    )


@pytest.mark.parametrize(
    ("values", "end"),
    [
        ({"lost_seconds": 0.0}, "nothing was lost to unexpected misses, and 1 min 00 s went into expected rebuilds."),
        ({"lost_seconds": 0.0, "rebuild_seconds": 0.0}, "nothing was lost to misses."),
        (
            {"lost_seconds": 0.0, "rebuild_seconds": 0.0, "unexplained_seconds": 30.0},
            "30 s went into misses of which the logs do not tell whether they were to be expected.",
        ),
        ({"builds": 0}, "Acme had no build in the last 7 days."),
        ({}, "; 41 min lost to unexpected misses."),
    ],
)
def test_what_was_not_lost_is_not_said_to_be(values: dict[str, Any], end: str) -> None:
    assert said(sentences.of_team("Acme", period(**values), "the last 7 days", None)).endswith(end)


def test_without_times_the_hit_rate_is_told() -> None:
    told = said(sentences.of_team("Acme", period(cache_efficiency=None, lost_seconds=0.0), "the last 7 days", None))
    assert told.startswith("90 % of the cacheable steps of Acme hit; ")
    uncounted = period(cache_efficiency=None, hit_rate=None, lost_seconds=0.0)
    assert "none of whose steps could be counted" in said(sentences.of_team("Acme", uncounted, "today", None))


def build(**values: Any) -> Any:
    return SimpleNamespace(**{"outcome": "succeeded", "hits": 5, "misses": 3, "unknown": 0} | values)


def broken(**values: Any) -> ShownBreak:
    given = {
        "text": "RUN npm ci",
        "place": "deps 3/4",
        "cause": "cache_lost",
        "expected": False,
        "cost_seconds": 184.0,
        "cascade": [4, 5],
    }
    return ShownBreak(**given | values)


def test_a_build_is_told_where_its_cache_broke() -> None:
    assert said(sentences.of_build(build(), [broken()], None)) == (
        "Cache broke at RUN npm ci (deps 3/4): nothing changed, the entry was gone. Cost 3 min 04 s in 3 steps. "
        "Unexpected."
    )
    several = said(sentences.of_build(build(), [broken(expected=True), broken()], None))
    assert several.endswith("Expected. And 1 other break.")
    untimed = broken(cost_seconds=None, expected=None, place="", cascade=[])
    told = said(sentences.of_build(build(), [untimed], None))
    assert told == "Cache broke at RUN npm ci: nothing changed, the entry was gone. 1 step ran because of it."


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"misses": 0}, "Every cacheable step, 5 of 5, came from cache."),
        ({"hits": 0, "misses": 0}, "No step of it could have come from cache."),
        ({"hits": 0, "misses": 0, "unknown": 3}, "The log does not say which steps came from cache."),
        ({}, "3 of 8 cacheable steps ran; none of them is known as the first miss."),
        ({"outcome": "canceled", "misses": 0}, "The build was canceled. Every cacheable step"),
        ({"outcome": "incomplete", "misses": 0}, "The log ends before the build does. Every"),
        ({"outcome": "failed", "misses": 0}, "The build failed at RUN make. Every"),
    ],
)
def test_a_build_without_a_break_is_told_as_it_is(values: dict[str, Any], text: str) -> None:
    assert said(sentences.of_build(build(**values), [], "RUN make")).startswith(text)


def test_causes_are_told_most_frequent_first() -> None:
    assert sentences.causes({"files_changed": 3, "cache_lost": 12}) == (
        "nothing changed, the entry was gone (12), files it reads changed (3)"
    )
    assert sentences.causes({"cache_lost": 12}) == "nothing changed, the entry was gone"
    assert sentences.cause(None) == "the log does not tell why"
    assert sentences.cause("a_new_one") == "a new one"


def test_every_cause_of_the_library_has_words() -> None:
    from cachescope.causes import CAUSES

    assert set(CAUSES) | {"unknown"} <= set(sentences.CAUSES)


def test_what_somebody_else_typed_is_escaped() -> None:
    hostile = "<script>alert(1)</script>"
    told = sentences.of_build(build(), [broken(text=hostile, place=hostile)], None)
    assert "<script>" not in str(told)
    assert "<script>" not in str(sentences.of_team(hostile, period(), "today", None))
