"""`cachescope explain`: two logs and what is known about them in, causes and prices out."""

import json
from pathlib import Path

import pytest

from cachescope.cli.explain import pair_builds, parse_changed_files, parse_command
from cachescope.errors import UnreadableInputError
from cachescope.evidence import ChangedFile
from cachescope.reading import read_builds

PAIRS = Path(__file__).resolve().parents[1] / "causes"
BREAK = {
    "step",
    "cause",
    "confidence",
    "expected",
    "files",
    "evidence",
    "possible",
    "own_seconds",
    "cost_seconds",
    "cascade",
}
FIGURES = (
    "cacheable hits misses unknown hit_rate seconds_spent cache_efficiency reachable_efficiency seconds_avoided "
    "hits_of_unknown_cost seconds_lost rebuild_seconds overhead_seconds net_saving_seconds wall_seconds_saved"
)


def explain(cachescope, *arguments, **fields) -> dict:
    done = cachescope("explain", "--json", *arguments, **fields)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def evidence_of(case: Path, tmp_path: Path) -> list[str | Path]:
    """The options that hand over everything that lies beside two logs."""
    options: list[str | Path] = ["--changed-files", case / "changed-files.txt"]
    commands = json.loads((case / "commands.json").read_text())
    for side in ("before", "after"):
        (tmp_path / side).write_text(json.dumps(commands[side]))
        options += [f"--command-{side}", tmp_path / side]
        for path in sorted(case.glob(f"*Dockerfile.{side}")):
            target = path.name.removesuffix(f"Dockerfile.{side}").rstrip(".")
            options += [f"--dockerfile-{side}", f"{target}={path}" if target else path]
    for option, name in (("dockerignore", "dockerignore"), ("bake", "docker-bake.hcl")):
        if (case / name).exists():
            options += [f"--{option}", case / name]
    return options


def test_a_break_carries_its_cause_price_and_cascade(cachescope, tmp_path) -> None:
    case = PAIRS / "files_changed" / "storefront_dependency_file"
    found = explain(cachescope, case / "before.log", case / "after.log", *evidence_of(case, tmp_path))
    (first,) = found["breaks"]
    assert set(first) == BREAK
    assert first["step"] == {
        "stage": "deps",
        "index": 3,
        "platform": None,
        "target": None,
        "text": "COPY package.json package-lock.json ./",
    }
    assert (first["cause"], first["confidence"], first["expected"]) == ("files_changed", "certain", True)
    assert sorted(first["files"]) == ["package-lock.json", "package.json"]
    assert first["cost_seconds"] == pytest.approx(2.9, abs=0.5)
    assert set(first["cascade"][0]) >= {"stage", "index", "text", "seconds"}
    (masked,) = found["masked"]
    assert masked["step"]["text"] == "COPY package.json bundle.js ./"
    assert " ".join(found["figures"]) == FIGURES


def test_targets_have_dockerfiles_of_their_own(cachescope, tmp_path) -> None:
    case = PAIRS / "files_changed" / "twins_source_file"
    found = explain(cachescope, case / "before.log", case / "after.log", *evidence_of(case, tmp_path))
    assert {(b["step"]["target"], b["files"][0], b["confidence"]) for b in found["breaks"]} == {
        ("api", "common/util.py", "certain"),
        ("worker", "common/util.py", "certain"),
    }


def test_two_logs_are_enough(cachescope) -> None:
    case = PAIRS / "cache_lost" / "gauge_cache_lost_all"
    found = explain(cachescope, case / "before.log", case / "after.log")
    assert {b["cause"] for b in found["breaks"]} == {"cache_lost"}
    assert found["figures"]["seconds_lost"] > 0
    assert found["figures"]["rebuild_seconds"] == 0


def test_one_log_alone_is_a_first_build(cachescope) -> None:
    found = explain(cachescope, PAIRS / "first_build" / "storefront_first_build" / "after.log")
    assert {b["cause"] for b in found["breaks"]} == {"first_build"}


def test_a_warm_build_has_nothing_to_explain(cachescope) -> None:
    case = PAIRS / "nothing" / "gauge_nothing"
    found = explain(cachescope, case / "before.log", case / "after.log")
    assert found["breaks"] == []
    figures = found["figures"]
    assert (figures["hit_rate"], figures["cache_efficiency"], figures["seconds_lost"]) == (1, 1, 0)


def test_the_report_is_readable(cachescope, tmp_path) -> None:
    case = PAIRS / "instruction_changed" / "inkwell_two_changes"
    done = cachescope("explain", case / "before.log", case / "after.log", *evidence_of(case, tmp_path))
    text = done.stdout.decode()
    assert "files changed (certain; expected: the commit explains it)" in text
    assert "Files: Gemfile.lock" in text
    assert "Changed too, but below a break:" in text
    warm = PAIRS / "nothing" / "gauge_nothing"
    assert b"Nothing broke" in cachescope("explain", warm / "before.log", warm / "after.log").stdout


def test_an_unknown_cause_says_what_would_tell(cachescope) -> None:
    case = PAIRS / "no_cache_requested" / "storefront_no_cache_filter"
    text = cachescope("explain", case / "before.log", case / "after.log").stdout.decode()
    assert "Possible: cache lost, no cache requested." in text
    assert "the command line would tell" in text


def test_changed_files_may_come_from_standard_input(cachescope) -> None:
    case = PAIRS / "files_changed" / "ballast_source_file"
    listed = (case / "changed-files.txt").read_bytes()
    found = explain(cachescope, case / "before.log", case / "after.log", "--changed-files", "-", stdin=listed)
    assert found["breaks"][0]["files"] == ["java/Util.java"]


def test_the_context_may_be_a_folder_of_the_repository(cachescope, tmp_path) -> None:
    case = PAIRS / "files_changed" / "ballast_source_file"
    (tmp_path / "list").write_text("M\tservice/java/Util.java\n")
    options = ["--changed-files", tmp_path / "list", "--context", "service"]
    found = explain(cachescope, case / "before.log", case / "after.log", *options)
    assert found["breaks"][0]["files"] == ["java/Util.java"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["a", "b", "c"], "explain takes one or two logs, not 3"),
        (["missing.log"], "Cannot read missing.log: no such file or directory."),
        (["empty.log"], "There is no build in empty.log."),
        (["after.log", "--command-after", "empty.log"], "A command line must be a JSON list of words"),
        (["after.log", "--dockerfile-after", "nowhere"], "Cannot read nowhere"),
    ],
)
def test_what_cannot_be_read_is_said_in_a_sentence(cachescope, tmp_path, arguments, sentence) -> None:
    (tmp_path / "empty.log").write_text("nothing here\n")
    (tmp_path / "after.log").write_bytes((PAIRS / "nothing" / "gauge_nothing" / "after.log").read_bytes())
    done = cachescope("explain", *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr.decode()


def test_the_lines_of_git_diff_are_read() -> None:
    text = "M\ta.txt\nR100\told name\tnew name\nD\tgone\nC75\tfrom\tto\n\nbare/path\n"
    assert parse_changed_files(text) == (
        ChangedFile("a.txt", "M"),
        ChangedFile("old name", "D"),
        ChangedFile("new name", "A"),
        ChangedFile("gone", "D"),
        ChangedFile("to", "C"),
        ChangedFile("bare/path", "M"),
    )


def test_a_command_is_a_list_of_words() -> None:
    assert parse_command('["docker", "build", "."]') == ("docker", "build", ".")
    with pytest.raises(UnreadableInputError):
        parse_command('{"a": 1}')


def test_builds_of_one_log_are_paired_by_their_targets() -> None:
    twins = read_builds([(PAIRS / "files_changed" / "twins_source_file" / "after.log").read_bytes()]).builds[0]
    gauge = read_builds([(PAIRS / "nothing" / "gauge_nothing" / "after.log").read_bytes()]).builds[0]
    assert pair_builds([twins, gauge], [gauge, twins]) == [(twins, twins), (gauge, gauge)]
    assert pair_builds([twins], [gauge]) == [(twins, gauge)]
    assert pair_builds([twins, gauge], [gauge]) == [(twins, None), (gauge, gauge)]


def test_the_figures_of_several_builds_are_put_together(cachescope, tmp_path) -> None:
    case = PAIRS / "cache_lost" / "gauge_cache_lost_all"
    twice = {}
    for side in ("before", "after"):
        twice[side] = tmp_path / f"{side}.log"
        twice[side].write_bytes((case / f"{side}.log").read_bytes() * 2)
    one = explain(cachescope, case / "before.log", case / "after.log")["figures"]
    two = explain(cachescope, twice["before"], twice["after"])["figures"]
    assert two["misses"] == 2 * one["misses"]
    assert two["seconds_lost"] == pytest.approx(2 * one["seconds_lost"])
    assert b"Build 2 of 2" in cachescope("explain", twice["before"], twice["after"]).stdout


def test_a_command_may_be_a_build_record(cachescope) -> None:
    case = PAIRS / "build_arg_changed" / "lantern_arg_unused"
    record = PAIRS.parent / "commands" / "record.dockerbuild"
    logs = (case / "before.log", case / "after.log")
    dockerfiles = [f"--dockerfile-{side}={case / f'Dockerfile.{side}'}" for side in ("before", "after")]
    (found,) = explain(cachescope, *logs, *dockerfiles)["breaks"]
    assert found["cause"] == "unknown"
    commands = [f"--command-{side}={record}" for side in ("before", "after")]
    (found,) = explain(cachescope, *logs, *dockerfiles, *commands)["breaks"]
    assert "build_arg_changed" not in (found["cause"], *found["possible"])


def test_records_in_place_of_logs_tell_their_commands(cachescope) -> None:
    record = PAIRS.parent / "commands" / "record.dockerbuild"
    found = explain(cachescope, record, record)
    assert found["breaks"]
    assert not any("build_arg_changed" in (b["cause"], *b["possible"]) for b in found["breaks"])


def test_cache_debug_output_settles_what_the_logs_leave_open(cachescope) -> None:
    case = PAIRS.parent / "cache_keys" / "a_file_changed"
    logs = [case / "before.log", case / "after.log"]
    keys = ["--cache-debug-before", case / "before.keys.json", "--cache-debug-after", case / "after.keys.json"]
    assert explain(cachescope, *logs)["breaks"][0]["cause"] == "unknown"
    found = explain(cachescope, *logs, *keys)["breaks"][0]
    assert (found["cause"], found["files"]) == ("files_changed", ["app/a.txt"])


def test_one_cache_debug_output_is_not_enough(cachescope) -> None:
    case = PAIRS.parent / "cache_keys" / "a_file_changed"
    done = cachescope(
        "explain", case / "before.log", case / "after.log", "--cache-debug-after", case / "after.keys.json"
    )
    assert done.returncode == 2
    assert b"needed" in done.stderr


def test_paths_that_git_quotes_are_read_as_they_are() -> None:
    text = 'M\t"Gr\\303\\266\\303\\237e.txt"\nR100\t"a\\tb"\t"c\\"d"\n"\\303\\251"\nM\t"\n"\\8"\n'
    paths = [file.path for file in parse_changed_files(text)]
    assert paths == ["Größe.txt", "a\tb", 'c"d', "é", '"', "8"]
