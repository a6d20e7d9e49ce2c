"""What alerts are called: short, in plain words, with nothing that could break out of its line."""

from dataclasses import replace

import pytest

from cachescope import wording
from cachescope.regressions import REGRESSIONS
from cachescope.wording import IncidentFacts

FACTS = IncidentFacts(
    place="acme/api",
    kind="order",
    key="k",
    cause="order_bust",
    instruction="COPY . .",
    commit="3f9c2ab8d1e04f5a6b7c",
    actor="Ada",
    victims=["RUN npm ci"],
    seconds_per_build=62.0,
    builds_per_day=40.0,
    seconds_per_day=2480.0,
    evidence="seen four times",
)
CAUSES = [*wording.ADVICE, "something_new"]


def test_a_headline_says_what_where_since_when_and_by_whom() -> None:
    assert wording.headline(FACTS) == (
        "acme/api: RUN npm ci runs in nearly every build, below COPY . . since 3f9c2ab by Ada"
    )


@pytest.mark.parametrize("cause", CAUSES)
def test_every_cause_has_its_words(cause: str) -> None:
    facts = replace(FACTS, cause=cause, key="pool ci-large")
    told, well = wording.headline(facts), wording.resolved_headline(facts)
    assert told.startswith("acme/api: ")
    assert well.startswith("acme/api: ")
    assert well.endswith(" again")
    assert told != well
    assert wording.advice(cause).endswith((".", "?"))


@pytest.mark.parametrize("cause", CAUSES)
def test_little_is_known_and_still_it_is_a_sentence(cause: str) -> None:
    facts = replace(FACTS, cause=cause, instruction=None, commit=None, victims=[])
    assert "None" not in wording.headline(facts) + wording.resolved_headline(facts)


@pytest.mark.parametrize("kind", [*REGRESSIONS, "something_new"])
def test_every_kind_has_a_name(kind: str) -> None:
    assert "_" not in wording.kind_in_words(kind)


def test_the_fixing_commit_is_named() -> None:
    fixed = replace(FACTS, fixed_by="1a2b3c4d5e6f7081")
    assert wording.resolved_headline(fixed) == "acme/api: RUN npm ci comes from cache again, fixed by 1a2b3c4"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, "It costs about 1 min per build, 41 min a day at 40 builds a day."),
        ({"builds_per_day": 0.5}, "It costs about 1 min per build, 41 min a day at 0.5 builds a day."),
        ({"seconds_per_day": 0.0}, "It costs about 1 min per build."),
        ({"seconds_per_build": 0.0}, "What it costs is not known: these logs print no times."),
        ({"cause": "size"}, "seen four times."),
    ],
)
def test_the_price_is_a_sentence(change: dict[str, object], says: str) -> None:
    assert wording.price(replace(FACTS, **change)) == says  # type: ignore[arg-type]


@pytest.mark.parametrize(("seconds", "word"), [(0, "low"), (299, "low"), (300, "medium"), (3600, "high")])
def test_severity_follows_the_loss(seconds: float, word: str) -> None:
    assert wording.severity(seconds) == word


@pytest.mark.parametrize(
    ("seconds", "says"), [(1.25, "1.2 s"), (38.4, "38 s"), (59.7, "1 min"), (2460, "41 min"), (4320, "1 h 12 min")]
)
def test_durations_are_short(seconds: float, says: str) -> None:
    assert wording.duration(seconds) == says


def test_hostile_names_stay_on_one_line_and_short() -> None:
    evil = "COPY \r\nBcc: a@example.org \x00\u202e" + "x" * 5_000
    told = wording.headline(replace(FACTS, instruction=evil, actor=evil, victims=[evil]))
    assert len(told) < 400
    assert told.isprintable()


def test_commits_that_are_no_hash_are_shown_as_they_are() -> None:
    assert wording.short_commit(None) == "an unknown commit"
    assert wording.short_commit("release-2026-11") == "release-2026-11"
