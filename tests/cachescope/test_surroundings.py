"""What is sent with a log: read with its sizes checked, and put together with that of the baseline."""

from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachescope.errors import InvalidValueError
from cachescope.evidence import ChangedFile
from cachescope.surroundings import (
    MAX_DOCKERFILE_LINES,
    MAX_FILES,
    MAX_TEXT,
    FileMark,
    Surroundings,
    changes_between,
    evidence_between,
    in_context,
    read_surroundings,
    write_surroundings,
)

WHOLE = Surroundings(
    dockerfiles={"": "FROM node\nCOPY . .\n", "worker": "FROM python\n"},
    dockerfile_path="docker/Dockerfile",
    dockerignore="",
    bake='target "api" {}',
    command=("docker", "build", "."),
    context="services/api",
    changed_files=(ChangedFile("a", "A"),),
    changed_since="3f9c2ab",
    files={"services/api/a": FileMark("11", 3), "b": FileMark("100755-22", 0)},
    texts={"services/api/package.json": "{}"},
)


def test_what_is_written_is_read_again() -> None:
    document = orjson.loads(orjson.dumps(write_surroundings(WHOLE)))
    assert read_surroundings(document) == WHOLE
    assert read_surroundings(write_surroundings(Surroundings())).is_empty


def test_a_single_dockerfile_goes_for_every_target() -> None:
    assert read_surroundings({"dockerfile": "FROM a"}).dockerfiles == {"": "FROM a"}


def test_secrets_are_taken_out_of_texts() -> None:
    secret = "ghp_" + "aB3" * 12
    found = read_surroundings({"dockerfile": f"ENV GITHUB_TOKEN={secret}", "command": ["docker", f"T={secret}"]})
    assert secret not in str(found)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ([], "must be a JSON object"),
        ({"dockerfil": ""}, 'no field "dockerfil"'),
        ({"dockerfile": 1}, "a text as dockerfile"),
        ({"dockerfile": "x" * (MAX_TEXT + 1)}, "at most"),
        ({"dockerfiles": {"api": "RUN x\n" * (MAX_DOCKERFILE_LINES + 1)}}, "lines; at most"),
        ({"dockerfiles": []} | {"dockerfiles": ["a"]}, "texts as dockerfiles"),
        ({"context": "../other"}, "must lie in the repository"),
        ({"context": "/etc"}, "must lie in the repository"),
        ({"command": "docker build"}, "words as command"),
        ({"command": [1]}, "words as command"),
        ({"changed_files": "M\ta"}, "as changed_files"),
        ({"changed_files": [["M"]]}, "as changed_files"),
        ({"changed_files": [["", "a"]]}, "as changed_files"),
        ({"files": []} | {"files": ["a"]}, "as files"),
        ({"files": {"a": ["hash", -1]}}, "as files"),
        ({"files": {"a": ["hash", True]}}, "as files"),
        ({"files": {str(number): ["", 0] for number in range(MAX_FILES + 1)}}, "as files"),
        ({"texts": {"a": 1}}, "as texts"),
    ],
)
def test_what_cannot_be_taken_is_named(document: Any, says: str) -> None:
    with pytest.raises(InvalidValueError, match=r"^The evidence ") as refused:
        read_surroundings(document)
    assert says in str(refused.value)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)))
def test_any_value_of_any_field_is_taken_or_refused(value: Any) -> None:
    for name in ("dockerfiles", "files", "texts", "command", "changed_files", "context", "dockerignore"):
        with suppress(InvalidValueError):
            assert isinstance(read_surroundings({name: value}), Surroundings)


def test_two_lists_of_files_tell_what_changed() -> None:
    before = {"a": FileMark("1", 1), "b": FileMark("1", 1), "gone": FileMark("1", 1)}
    after = {"a": FileMark("1", 9), "b": FileMark("2", 1), "new": FileMark("1", 1)}
    changes = changes_between(before, after)
    assert changes == (ChangedFile("b", "M"), ChangedFile("gone", "D"), ChangedFile("new", "A"))
    assert changes_between(None, after) is None
    assert changes_between(before, None) is None


def test_evidence_joins_both_builds() -> None:
    before = Surroundings(dockerfiles={"": "FROM a"}, dockerignore="x", command=("docker",), files={})
    found = evidence_between(before, WHOLE, "abc")
    assert (found.dockerfiles_before, found.dockerfiles_after) == ({"": "FROM a"}, WHOLE.dockerfiles)
    assert [change.path for change in found.changed_files or ()] == ["b", "services/api/a"]
    assert found.contexts == {"": "services/api"}
    assert (found.command_before, found.dockerignore_before, found.bake) == (("docker",), "x", WHOLE.bake)


def test_a_list_of_changes_counts_only_against_the_commit_that_it_was_made_for() -> None:
    assert evidence_between(None, WHOLE, "3f9c2ab" + "0" * 33).changed_files == WHOLE.changed_files
    assert evidence_between(None, WHOLE, "fffffff").changed_files is None
    assert evidence_between(None, WHOLE, None).changed_files is None
    assert evidence_between(None, None, None).changed_files is None


def test_paths_are_told_relative_to_the_context() -> None:
    paths = ["api/a", "apiary/b", "c"]
    assert in_context(paths, "api/") == {"api/a": "a"}
    assert in_context(paths, "") == {path: path for path in paths}
