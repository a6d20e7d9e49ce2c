"""BuildKit's own cache-debug output: what it says of a step, and how it settles what the logs leave open."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as some

from cachescope.cache_keys import CacheKeys, KeyChange, compare_keys, read_cache_keys
from cachescope.cache_keys import _changed as name_changed
from cachescope.comparing import Break, ChangedFile, find_breaks
from cachescope.dockerfile import Dockerfile, Instruction
from cachescope.errors import UnreadableInputError
from cachescope.evidence import Evidence
from cachescope.model import Build
from cachescope.reading import read_builds

FOLDER = Path(__file__).parent / "cache_keys"
CASES = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())


def keys_of(case: str, side: str) -> CacheKeys:
    return read_cache_keys((FOLDER / case / f"{side}.keys.json").read_text())


def build_of(case: str, side: str) -> Build:
    return read_builds([(FOLDER / case / f"{side}.log").read_bytes()]).builds[0]


def line(text: str) -> Instruction:
    return Dockerfile(text).instructions[0]


def change_of(case: str, text: str) -> KeyChange | None:
    return compare_keys(keys_of(case, "before"), keys_of(case, "after"), [line(text)])


def explain(case: str, *, with_dockerfiles: bool = False, has_keys: bool = True, **known: Any) -> Sequence[Break]:
    if with_dockerfiles:
        known["dockerfiles_before"] = {"": (FOLDER / case / "Dockerfile.before").read_text()}
        known["dockerfiles_after"] = {"": (FOLDER / case / "Dockerfile.after").read_text()}
    if has_keys:
        known |= {"cache_keys_before": keys_of(case, "before"), "cache_keys_after": keys_of(case, "after")}
    return find_breaks(build_of(case, "after"), build_of(case, "before"), Evidence(**known)).breaks


@pytest.mark.parametrize(
    ("case", "text", "expected"),
    [
        ("a_file_changed", "COPY app app", KeyChange(has_other_contents=True, files=("app/a.txt",))),
        ("a_mode_changed", "COPY ./app/ /src/app", KeyChange(has_other_contents=True, files=("app/b.txt",))),
        ("an_argument_changed", "RUN wc -c deps.lock > deps.txt", KeyChange(variables=("REVISION",))),
        ("a_variable_edited", "RUN wc  -c deps.lock > deps.txt", KeyChange(variables=("MODE",))),
        ("a_line_taken_out", "COPY app app", KeyChange(has_other_place=True)),
        ("a_line_taken_out", "COPY deps.lock .", KeyChange(is_same=True)),
        ("the_cache_was_pruned", "WORKDIR /src", KeyChange(is_same=True)),
        ("no_cache", "COPY deps.lock .", KeyChange(is_same=True)),
        ("no_cache", "RUN something else", None),
        ("no_cache", "COPY app elsewhere", None),
        ("no_cache", "WORKDIR /elsewhere", None),
        ("no_cache", "EXPOSE 80", None),
    ],
    ids=str,
)
def test_the_keys_say_what_became_another(case: str, text: str, expected: KeyChange | None) -> None:
    assert change_of(case, text) == expected


@pytest.mark.parametrize("case", ["a_file_changed", "a_mode_changed"])
def test_a_changed_file_is_named_from_the_keys(case: str) -> None:
    (without,) = explain(case, has_keys=False)
    (found,) = explain(case)
    assert without.cause == "unknown"
    assert (found.cause, found.confidence, found.expected) == ("files_changed", "certain", True)
    assert found.files == (("app/a.txt",) if case == "a_file_changed" else ("app/b.txt",))
    assert found.files[0] in found.evidence[0]


def test_a_mode_that_git_does_not_record_is_unexpected() -> None:
    (found,) = explain("a_mode_changed", changed_files=(ChangedFile("README.md"),), dockerignore_after="")
    assert (found.cause, found.expected, found.files) == ("files_changed", False, ("app/b.txt",))


def test_a_proof_from_the_commit_stands() -> None:
    (found,) = explain("a_file_changed", changed_files=(ChangedFile("app/a.txt"),), dockerignore_after="")
    assert found.evidence[0] == "It reads app/a.txt, changed by the commit."
    assert found.evidence[1].startswith("BuildKit's cache-debug output shows that it was given other files")


def test_an_argument_is_certain_where_the_dockerfile_is_the_same() -> None:
    (found,) = explain("an_argument_changed", with_dockerfiles=True)
    assert (found.cause, found.confidence, found.expected) == ("build_arg_changed", "certain", False)
    assert "REVISION" in found.evidence[0]
    assert "r1" not in " ".join(found.evidence)


@pytest.mark.parametrize("case", ["an_argument_changed", "a_variable_edited"])
def test_from_the_logs_alone_a_variable_may_be_an_argument_or_an_edit(case: str) -> None:
    (found,) = explain(case)
    assert (found.cause, found.possible) == ("unknown", ("build_arg_changed", "instruction_changed"))
    assert found.evidence[0].startswith("BuildKit's cache-debug output shows that in its key the value of ")


def test_a_proof_from_the_dockerfiles_stands() -> None:
    (found,) = explain("a_variable_edited", with_dockerfiles=True)
    assert (found.cause, found.confidence) == ("instruction_changed", "certain")
    assert [sentence[:8] for sentence in found.evidence] == ["ENV MODE", "BuildKit"]


def test_a_key_that_is_the_same_rules_out_files() -> None:
    (found,) = explain("no_cache")
    assert (found.cause, found.expected, found.possible) == ("unknown", False, ("cache_lost", "no_cache_requested"))
    (told,) = explain("no_cache", command_after=("docker", "build", "--no-cache", "."))
    assert told.cause == "no_cache_requested"
    assert told.evidence[-1] == "BuildKit's cache-debug output shows that nothing in its key changed."


def test_a_step_that_moved_is_told() -> None:
    (found,) = explain("a_line_taken_out")
    assert found.cause == "instruction_changed"
    assert "stands on other steps" in found.evidence[-1]


def test_one_answer_alone_tells_nothing() -> None:
    (found,) = explain("a_file_changed", has_keys=False, cache_keys_after=keys_of("a_file_changed", "after"))
    assert found.cause == "unknown"


def test_steps_of_another_builder_are_not_held_against_them() -> None:
    before, after = keys_of("a_file_changed", "before"), keys_of("a_file_changed", "after")
    classic = b"Step 1/2 : FROM a\n ---> 0123456789ab\nStep 2/2 : COPY app app\n ---> 1123456789ab\n"
    build = read_builds([classic]).builds[0]
    found = find_breaks(build, build, Evidence(cache_keys_before=before, cache_keys_after=after))
    assert not any("BuildKit" in sentence for one in found.breaks for sentence in one.evidence)


# -- what else stands in an answer -------------------------------------------------------------------------------------


def frame(value: Any) -> list[dict[str, Any]]:
    text = value if isinstance(value, bytes) else orjson.dumps(value)
    return [{"type": 2, "data": base64.b64encode(text).decode()}, {"type": 3, "data": "AAAA"}]


def command(text: str = "make", place: int = 2, **values: Any) -> dict[str, Any]:
    """A record of a RUN on one image."""
    digest = f"sha256:{place:064x}"
    rest = values.pop("rest", {})
    meta = {"args": ["/bin/sh", "-c", text], "env": ["PATH=/bin"], "cwd": "/"} | values
    asked = {"Type": "buildkit.exec.v0", "Exec": {"meta": meta} | rest, "OS": "linux", "Arch": "amd64"}
    return {
        "id": place,
        "parents": [{"input": 0, "digest": digest, "target": 1}],
        "debug": [{"digest": digest, "type": "json", "data": frame(asked)}],
    }


def answer(*records: dict[str, Any]) -> CacheKeys:
    return read_cache_keys(json.dumps([{"id": 1, "digest": "sha256:" + "a" * 64}, *records]))


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        ({"cwd": "/src"}, ("the working folder",)),
        ({"user": "app"}, ("the user",)),
        ({"args": ["/bin/bash", "-c", "make"]}, ("the command",)),
        ({"rest": {"mounts": [{"dest": "/x"}]}}, ("the mounts, the network or the security",)),
    ],
    ids=str,
)
def test_the_parts_of_a_command_are_told_apart(changed: dict[str, Any], parts: tuple[str, ...]) -> None:
    found = compare_keys(answer(command()), answer(command(), command(place=3, **changed)), [line("RUN make")])
    assert found == KeyChange(parts=parts)


def test_commands_in_the_form_of_a_list_are_found() -> None:
    known = answer(command(args=["make", "all"]))
    assert compare_keys(known, known, [line('RUN ["make", "all"]')]) == KeyChange(is_same=True)


def test_of_several_former_keys_only_what_differs_from_all_is_told() -> None:
    first, second = command(env=["A=1", "B=1"]), command(env=["A=2", "B=1"], place=3)
    last = command(env=["A=2", "B=2"], place=4)
    assert compare_keys(answer(first, second), answer(first, second, last), [line("RUN make")]) == KeyChange(
        variables=("B",)
    )
    mixed = command(env=["A=1", "B=2"], place=4)
    other = command(env=["A=2", "B=2"], place=3)
    assert compare_keys(answer(first, other), answer(first, other, mixed), [line("RUN make")]) is None


def test_several_keys_that_were_there_before_tell_nothing() -> None:
    known = answer(command(), command(cwd="/src", place=3))
    assert compare_keys(known, known, [line("RUN make")]) is None
    both = answer(command(), command(cwd="/a", place=3), command(cwd="/b", place=4))
    assert compare_keys(answer(command()), both, [line("RUN make")]) is None


def test_other_flags_of_a_copy_are_told() -> None:
    def copied(mode: int, place: int) -> dict[str, Any]:
        action = frame({"src": "a", "dest": "/a", "mode": mode})[0]["data"]
        digest = f"sha256:{place:064x}"
        asked = {"Type": "buildkit.file.v0", "Actions": [action]}
        debug = [{"digest": digest, "type": "json", "data": frame(asked)}]
        return {"id": place, "parents": [{"input": 0, "digest": digest, "target": 1}], "debug": debug}

    found = compare_keys(answer(copied(-1, 2)), answer(copied(-1, 2), copied(420, 3)), [line("COPY a /a")])
    assert found == KeyChange(parts=("what is copied where, or how",))


@pytest.mark.parametrize("text", ["", "{}", "[1]", "ID: 1\nDigest: sha256:00", '[{"no": 1}]'])
def test_what_is_no_answer_says_how_to_ask(text: str) -> None:
    with pytest.raises(UnreadableInputError, match="curl -H"):
        read_cache_keys(text)


def test_contents_of_several_sources_are_not_named() -> None:
    """Two selected paths have two lists: which of them a file lies in is not told."""
    contents = {name: f"sha256:{name * 64}" for name in "bcdef"}

    def copied(listed: str, selector: bytes) -> CacheKeys:
        action = frame({"src": "x", "dest": "/x"})[0]["data"]
        asked = {"Type": "buildkit.file.v0", "Actions": [action]}
        digest, several = f"sha256:{9:064x}", f"{contents['b']}\0{listed}".encode()
        return answer(
            {
                "id": 2,
                "parents": [
                    {"input": 0, "digest": digest, "target": 1},
                    {"input": 1, "digest": digest, "selector": contents["f"], "target": 1},
                    {"input": 1, "digest": digest, "target": 3},
                    {"input": 1, "digest": "sha256:unknown", "target": 3},
                ],
                "debug": [
                    {"digest": digest, "type": "json", "data": frame(asked)},
                    {"digest": contents["f"], "type": "string-list", "data": frame(selector)},
                ],
            },
            {
                "id": 3,
                "digest": listed,
                "debug": [
                    {"digest": listed, "type": "string", "data": frame(f"{contents['c']}@-1".encode())},
                    {"digest": contents["c"], "type": "digest-list", "data": frame(several)},
                ],
            },
        )

    old, new = contents["d"], contents["e"]
    copy = [line("COPY x /x")]
    for selector in (b"/x", b"/x\0/y", b"/*.txt"):
        found = compare_keys(copied(old, selector), copied(new, selector), copy)
        assert found == KeyChange(has_other_contents=True)
    assert compare_keys(copied(old, b"/x"), copied(old, b"/x"), copy) == KeyChange(is_same=True)


@pytest.mark.parametrize(
    ("new", "selectors", "expected"),
    [
        ({"0:": "1", "0:a/b": "3"}, ["/x"], ("x/a/b",)),
        ({"0:": "2", "0:a": "2", "0:a/b": "2"}, ["/x"], ("x/a/b",)),
        ({"0:": "1", "0:a/b": "3"}, ["/"], ("a/b",)),
        ({"0:": "1", "0:a/b": "3"}, ["/x*"], ()),
        ({"0:": "1", "0:a/b": "3"}, ["/x", "/y"], ()),
    ],
    ids=str,
)
def test_files_are_named_and_not_the_folders_above_them(
    new: dict[str, str], selectors: list[str], expected: tuple[str, ...]
) -> None:
    assert name_changed({"0:": "1", "0:a/b": "1"}, new, selectors) == expected


def test_contents_beside_several_former_ones_are_not_compared_by_name() -> None:
    known = keys_of("a_file_changed", "after")
    later = keys_of("a_mode_changed", "after")
    assert compare_keys(known, later, [line("COPY app app")]) == KeyChange(has_other_contents=True)


@pytest.mark.parametrize(
    "asked",
    [
        b"no JSON",
        [1],
        {"Type": "buildkit.exec.v0", "Exec": {"meta": 1}},
        {"Type": "buildkit.file.v0", "Actions": ["!"]},
        {"Type": "buildkit.file.v0", "Actions": [frame([1])[0]["data"]]},
        {"Type": "buildkit.exec.v0", "Exec": {"meta": {"args": "make"}}},
    ],
    ids=str,
)
def test_a_key_that_cannot_be_read_is_no_step(asked: Any) -> None:
    digest = f"sha256:{2:064x}"
    debug = [{"digest": digest, "type": "json", "data": frame(asked)}]
    known = answer({"id": 2, "parents": [{"input": 0, "digest": digest, "target": 1}], "debug": debug})
    assert compare_keys(known, known, [line("RUN make")]) is None


def test_a_step_that_stands_on_too_many_is_left_alone() -> None:
    bases = [{"id": 10 + n, "digest": f"sha256:{n:064x}"} for n in range(100)]
    step = command()
    step["parents"] = [{"input": 0, "digest": step["parents"][0]["digest"], "target": 10 + n} for n in range(100)]
    known = answer(step, *bases)
    assert compare_keys(known, known, [line("RUN make")]) is None


def test_a_chain_without_end_is_left_alone() -> None:
    steps = [command(f"step {n}", place=n) for n in range(2, 500)]
    for step in steps:
        step["parents"][0]["target"] = step["id"] + 1
    known = answer(*steps)
    assert compare_keys(known, known, [line("RUN step 2")]) is None


def test_a_circle_of_records_ends() -> None:
    turning = command() | {"parents": [{"input": 0, "digest": f"sha256:{2:064x}", "target": 2}]}
    known = answer(turning)
    assert compare_keys(known, known, [line("RUN make")]) is None


JUNK = some.recursive(
    some.none() | some.integers(-3, 5) | some.text(max_size=5) | some.sampled_from(["sha256:" + "a" * 64, "json"]),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.sampled_from(
        ["id", "digest", "random", "parents", "input", "target", "debug", "type", "data", "subRecords", "selector"]
    ), inner, max_size=6),
    max_leaves=20,
)  # fmt: skip


@given(some.lists(some.dictionaries(some.sampled_from(["id", "parents", "debug", "digest"]), JUNK), max_size=4))
def test_junk_is_read_or_refused_in_words(records: list[Any]) -> None:
    try:
        known = read_cache_keys(json.dumps(records))
    except UnreadableInputError:
        return
    assert compare_keys(known, known, [line("RUN make")]) is None
