"""The contract of every wrapper: one module, and fixtures `prefixes/<name>/<case>.log` with `<case>.json`."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachescope.prefixes import PREFIXES
from cachescope.prefixes._stamps import clock_of, elapsed, parse_stamp
from cachescope.prefixes.base import FittingPrefix
from cachescope.reading import StackedPrefix, read_builds, recognise_prefix

FOLDER = Path(__file__).parent / "prefixes"
CASES = sorted(FOLDER.glob("*/*.log"))


def name_of(path):
    return f"{path.parent.name}/{path.stem}"


def prefix_of(path):
    prefix = PREFIXES[path.parent.name]
    return prefix.fitted(path.read_bytes()) if isinstance(prefix, FittingPrefix) else prefix


def as_json(line):
    fields = {"text": line.text.decode(errors="replace")}
    if line.at is not None:
        fields["at"] = round(line.at, 6)
    if line.channel is not None:
        fields["channel"] = line.channel.decode()
    if line.continues:
        fields["continues"] = True
    return fields


def test_every_wrapper_has_a_fixture():
    assert set(PREFIXES) == {path.parent.name for path in CASES}


@pytest.mark.parametrize("path", CASES, ids=name_of)
def test_stripping_gives_the_bare_log_and_the_times(path, golden):
    prefix = prefix_of(path)
    lines = [as_json(prefix.strip(line)) for line in path.read_bytes().split(b"\n")]
    golden(path.with_suffix(".json"), {"wrapper": prefix.wrapper, "lines": lines})


@pytest.mark.parametrize("path", CASES, ids=name_of)
def test_its_own_wrapper_is_the_surest(path):
    head = path.read_bytes()
    scores = {name: prefix.sniff(head) for name, prefix in PREFIXES.items()}
    assert max(scores, key=scores.__getitem__) == path.parent.name


@pytest.mark.parametrize("path", CASES, ids=name_of)
def test_the_reader_names_the_wrapper(path):
    assert read_builds([path.read_bytes()]).wrapper == PREFIXES[path.parent.name].wrapper


@pytest.mark.parametrize("name", PREFIXES)
@given(line=st.binary(max_size=200))
def test_any_bytes_can_be_stripped(name, line):
    assert isinstance(PREFIXES[name].strip(line).text, bytes)


@given(head=st.binary(max_size=400))
def test_any_bytes_have_some_wrapper(head):
    wrapper, prefix, has_channels = recognise_prefix(head)
    assert prefix.strip(head.split(b"\n")[0]) is not None
    assert wrapper is None or isinstance(wrapper, str)
    assert isinstance(has_channels, bool)


def test_github_stamps_around_a_compose_prefix_both_come_off():
    inner = (FOLDER / "compose_v1" / "two_services.log").read_bytes()
    lines = [b"2026-11-23T17:05:50.5824892Z " + line for line in inner.splitlines()]
    log = b"\xef\xbb\xbf2026-11-23T17:05:50.0000000Z ##[group]Run make\n" + b"\n".join(lines) + b"\n"
    wrapper, prefix, has_channels = recognise_prefix(log)
    assert (wrapper, has_channels) == ("github-actions", True)
    assert isinstance(prefix, StackedPrefix)
    line = prefix.strip(lines[0])
    assert line.text.startswith(b"#0 building with")
    assert line.channel == b"builder_1"
    assert line.at == pytest.approx(parse_stamp("2026-11-23T17:05:50.5824892Z"))


def test_a_stacked_prefix_scores_as_its_outer_one():
    stacked = StackedPrefix(PREFIXES["azure"], PREFIXES["compose_v1"])
    head = (FOLDER / "azure" / "docker_task.log").read_bytes()
    assert stacked.sniff(head) == PREFIXES["azure"].sniff(head)


def test_output_that_imitates_a_wrapper_makes_none():
    log = b"#1 [1/1] RUN imitate\n#1 0.058 section_end:1700000000:step_script\n#1 0.058 ##[endgroup]\n#1 DONE 0.1s\n"
    assert recognise_prefix(log)[0] is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-23T17:05:49Z", 1795453549.0),
        ("2026-11-23T18:05:49.5+01:00", 1795453549.5),
        ("2026-11-23 17:05:49,25 UTC", 1795453549.25),
        ("2026-11-23T12:05:49.123456789-0500", 1795453549.123456789),
    ],
)
def test_a_stamp_is_read_in_its_zone(text, seconds):
    assert parse_stamp(text) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-02-31T10:00:00Z", "2026-11-23T17:05:49", "٢٠٢٦-11-23T17:05:49Z"]
)
def test_what_is_no_stamp_has_no_time(text):
    assert parse_stamp(text) is None


def test_dates_do_not_fill_the_memory():
    for year in range(1000, 2100):
        assert parse_stamp(f"{year}-01-01T00:00:00Z") is not None
    assert parse_stamp("2026-11-23T17:05:49Z") == 1795453549.0


@pytest.mark.parametrize(
    ("prefix", "seconds"),
    [
        (b"17:19:08 [INFO] ", 62348.0),
        (b"[09:00:00.250] ", 32400.25),
        (b"5:40:51 PM: ", 63651.0),
        (b"12:00:01 am ", 1.0),
        (b"24:00:00 ", None),
        (b"1:2:3 ", None),
        (b"2001:db8:00:11:22 ", None),
    ],
)
def test_a_time_of_day_counts_from_midnight(prefix, seconds):
    assert clock_of(prefix) == seconds


@pytest.mark.parametrize(
    ("start", "end", "seconds"),
    [(None, 1.0, None), (1.0, None, None), (1.0, 3.5, 2.5), (86399.0, 2.0, 3.0), (1.7e9 + 1, 1.7e9, 0.0)],
)
def test_a_clock_without_a_date_begins_anew_at_midnight(start, end, seconds):
    assert elapsed(start, end) == seconds


def test_a_time_of_day_times_steps_and_dates_no_build():
    log = b"""23:59:50 [INFO] DOCKER> Step 1/2 : FROM a
23:59:50 [INFO] DOCKER> ---> 8bf61215f1ee
23:59:58 [INFO] DOCKER> Step 2/2 : RUN b
23:59:59 [INFO] DOCKER> ---> Running in 5173c22471c7
00:00:03 [INFO] DOCKER> Removing intermediate container 5173c22471c7
00:00:03 [INFO] DOCKER> ---> 6e02abb2dd21
00:00:03 [INFO] DOCKER> Successfully built 6e02abb2dd21
"""
    build = read_builds([log]).builds[0]
    assert [step.duration_seconds for step in build.steps] == [8.0, 5.0]
    assert (build.started_at, build.duration_seconds) == (None, 13.0)
