"""Numbers, times and colours as pages show them."""

from datetime import UTC, date, datetime, timedelta
from itertools import product

import pytest

from dashboards import theme

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def plain(text: str | None) -> str:
    assert text is not None
    return text.replace("\u00a0", " ").replace("\u202f", " ")


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(0.8327, "83 %"), (1.0, "100 %"), (0.9999, "99 %"), (0.0, "0 %"), (0.0001, "<1 %"), (None, "unknown")],
)
def test_a_ratio_is_shown_as_a_whole_percentage(ratio: float | None, text: str) -> None:
    assert plain(theme.percent(ratio)) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.04, "<0.1 s"),
        (1.3, "1.3 s"),
        (9.96, "10 s"),
        (38.2, "38 s"),
        (59.6, "1 min 00 s"),
        (252, "4 min 12 s"),
        (599.6, "10 min"),
        (2460, "41 min"),
        (3599.9, "1 h 00 min"),
        (4320, "1 h 12 min"),
        (3_600_000, "1 000 h"),
        (-38, "−38 s"),
        (None, "unknown"),
    ],
)
def test_a_duration_is_shown_in_the_units_that_fit(seconds: float | None, text: str) -> None:
    assert plain(theme.duration(seconds)) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (9, "9 B"), (1234, "1.2 kB"), (412_000_000, "412 MB"), (3 * 10**12, "3.0 TB"), (None, "unknown")],
)
def test_a_size_is_shown_in_decimal_units(size: int | None, text: str) -> None:
    assert plain(theme.size(size)) == text


@pytest.mark.parametrize(
    ("now", "before", "text"),
    [(0.83, 0.77, "+6 pts"), (0.31, 0.83, "−52 pts"), (0.5, 0.49, "+1 pt"), (0.5, 0.5, "±0 pts"), (0.5, None, None)],
)
def test_a_change_of_a_ratio_is_shown_in_points(now: float, before: float | None, text: str | None) -> None:
    found = theme.points(now, before)
    assert (found if found is None else plain(found)) == text


@pytest.mark.parametrize(
    ("now", "before", "text"),
    [
        (120, 158, "−38 s (−24 %)"),
        (158, 120, "+38 s (+32 %)"),
        (10, 10.2, "±0 s"),
        (10, 0, None),
        (None, 3, None),
        (300, 10, "+4 min 50 s"),
    ],
)
def test_a_change_of_a_time_is_shown_with_its_share(now: float, before: float, text: str | None) -> None:
    found = theme.change(now, before)
    assert (found if found is None else plain(found)) == text


@pytest.mark.parametrize(
    ("age", "text"),
    [
        (timedelta(seconds=-5), "just now"),
        (timedelta(days=-3), "2026-11-26"),
        (timedelta(seconds=20), "just now"),
        (timedelta(seconds=50), "1 min ago"),
        (timedelta(minutes=12), "12 min ago"),
        (timedelta(hours=3), "3 h ago"),
        (timedelta(days=5), "5 days ago"),
        (timedelta(days=60), "2026-09-24"),
    ],
)
def test_a_moment_is_told_from_now(age: timedelta, text: str) -> None:
    assert plain(theme.ago(NOW - age, NOW)) == text


def test_what_never_happened_was_never() -> None:
    assert theme.ago(None, NOW) == "never"


@pytest.mark.parametrize(
    ("zone", "text"),
    [
        ("UTC", "2026-11-23 12:00:00 UTC"),
        ("Europe/Berlin", "2026-11-23 13:00:00 Europe/Berlin · 12:00:00 UTC"),
        ("Nowhere/Land", "2026-11-23 12:00:00 UTC"),
        ("../etc/passwd", "2026-11-23 12:00:00 UTC"),
    ],
)
def test_an_exact_time_is_told_in_the_zone_of_the_team_and_in_utc(zone: str, text: str) -> None:
    assert theme.exact(NOW, zone) == text


def test_a_day_is_told_in_english() -> None:
    assert theme.day(date(2026, 11, 23)) == "Mon 23 Nov 2026"


def test_too_few_builds_are_said_to_be_too_few() -> None:
    assert theme.not_enough(3) == "not enough data (3 of 10 builds)"


def test_counts_take_the_plural_that_fits() -> None:
    assert [plain(theme.plural(number, "build")) for number in (0, 1, 1240)] == ["0 builds", "1 build", "1 240 builds"]
    assert plain(theme.plural(2, "entry", "entries")) == "2 entries"


def test_a_long_text_is_cut_in_its_middle() -> None:
    cut = theme.cut_middle("RUN " + "x" * 300 + " --end", 40)
    assert len(cut) == 40
    assert cut.startswith("RUN ")
    assert cut.endswith(" --end")
    assert theme.cut_middle("RUN  make\n  all") == "RUN make all"


def luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(
    ("name", "mode", "ground"),
    [
        (name, mode, ground)
        for name, mode, ground in product(
            ("ink", "quiet", "accent", "miss", "failed", "hit-text", "expected-text"),
            ("light", "dark"),
            ("ground", "panel", "wash"),
        )
    ],
)
def test_text_can_be_read_on_every_ground(name: str, mode: str, ground: str) -> None:
    tokens = theme.TOKENS[mode]
    assert contrast(tokens[name], tokens[ground]) >= 4.5


@pytest.mark.parametrize(("name", "mode"), list(product(("hit", "expected", "miss", "failed"), ("light", "dark"))))
def test_states_stand_out_from_the_ground(name: str, mode: str) -> None:
    tokens = theme.TOKENS[mode]
    assert contrast(tokens[name], tokens["ground"]) >= 3


def test_both_themes_have_the_same_tokens() -> None:
    assert theme.TOKENS["light"].keys() == theme.TOKENS["dark"].keys()
    css = theme.tokens_css()
    assert css.count("--hit:") == 3
    assert "prefers-color-scheme:dark" in css
