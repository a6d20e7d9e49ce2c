"""Command lines and bake files: what a build was asked to do with its cache."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachescope.errors import TooLargeError, UnreadableInputError
from cachescope.formats import buildkit_record
from cachescope.invocation import BakeTarget, command_of, read_bake_file, read_invocation

RECORDS = Path(__file__).parent / "commands"


def test_a_docker_build_is_read() -> None:
    found = read_invocation(
        [
            "docker",
            "buildx",
            "build",
            "--builder",
            "ci",
            "--build-arg",
            "A=1",
            "--build-arg=B=x=y",
            "--build-arg",
            "C",
            "--no-cache",
            "--target",
            "api",
            "--cache-from",
            "type=gha",
            "-f",
            "docker/Dockerfile",
            "--push",
            "-t",
            "x:1",
            "--no-cache-filter",
            "Deps,build",
            "./app",
        ]
    )
    assert found.arguments == {"A": "1", "B": "x=y"}
    assert found.no_cache
    assert found.no_cache_stages == {"deps", "build"}
    assert (found.cache_from, found.target, found.builder) == (("type=gha",), "api", "ci")
    assert (found.context, found.dockerfile, found.is_bake) == ("./app", "docker/Dockerfile", False)


def test_a_switch_may_be_turned_off() -> None:
    assert not read_invocation(["build", "--no-cache=false", "."]).no_cache
    assert read_invocation(["build", "--no-cache=true", "."]).no_cache


def test_no_cache_for_a_stage_is_asked_for_that_stage_only() -> None:
    found = read_invocation(["build", "--no-cache-filter", "deps", "."])
    assert found.asks_for_no_cache("Deps", None)
    assert not found.asks_for_no_cache("build", None)
    assert not found.asks_for_no_cache(None, None)


def test_overrides_of_bake_go_for_the_targets_that_they_name() -> None:
    found = read_invocation(
        [
            "bake",
            "-f",
            "b.hcl",
            "--set",
            "*.args.A=1",
            "--set",
            "api.args.B=2",
            "--set",
            "web-*.no-cache=true",
            "--set",
            "api.cache-from+=r",
            "--set",
            "api.no-cache-filter=x",
            "--set",
            "api.tags=t",
            "default",
        ]
    )
    assert found.is_bake
    assert found.context is None
    assert found.dockerfile is None
    assert found.arguments_of("api") == {"A": "1", "B": "2"}
    assert found.arguments_of("web") == {"A": "1"}
    assert found.asks_for_no_cache(None, "web-one")
    assert not found.asks_for_no_cache(None, "api")
    assert found.cache_from == ("r",)


def test_an_option_at_the_end_has_an_empty_value() -> None:
    assert read_invocation(["build", "--target"]).target == ""


BAKE = """
variable "TAG" { default = "1" }
target "common" {
  context = "./app"
  args = { A = "1", "B" = "two" }
  cache-from = ["type=registry,ref=r"]
}
target "api" {
  inherits = ["common"]
  dockerfile = "api/Dockerfile"
  target = "run"
  args = { TAG = "${TAG}", A = "2" }
  no-cache-filter = ["Deps"]
}
target "cold" {
  no-cache = true
}
"""


def test_a_bake_file_is_read_with_what_its_targets_inherit() -> None:
    found = read_bake_file(BAKE)
    assert found["api"] == BakeTarget(
        context="./app",
        dockerfile="api/Dockerfile",
        target="run",
        arguments={"A": "2", "B": "two"},
        inherits=("common",),
        no_cache_stages=frozenset({"deps"}),
        cache_from=("type=registry,ref=r",),
    )
    assert found["cold"].no_cache


def test_a_bake_file_may_be_json() -> None:
    found = read_bake_file(
        '{"target": {"a": {"context": ".", "args": {"X": "1", "Y": null}, "no-cache": true, "inherits": ["b", 3]},'
        ' "c": 4}}'
    )
    assert found == {"a": BakeTarget(context=".", arguments={"X": "1"}, inherits=("b",), no_cache=True)}


def test_what_is_no_bake_file_has_no_targets() -> None:
    for text in ("", "{", "[1]", '{"target": 3}', "services:\n  a:\n    build: .\n"):
        assert read_bake_file(text) == {}


def test_targets_that_inherit_in_a_circle_are_read() -> None:
    text = 'target "a" { inherits = ["b"] }\ntarget "b" {\n inherits = ["a"]\n context = "x"\n}\n'
    assert read_bake_file(text)["a"].context == "x"


def test_a_block_that_never_closes_runs_to_the_end() -> None:
    assert read_bake_file('target "a" {\n context = "x"\n')["a"].context == "x"


@given(st.lists(st.text(alphabet="-=abc.*,", max_size=12), max_size=12))
def test_any_words_are_a_command(words: list[str]) -> None:
    found = read_invocation(words)
    found.asks_for_no_cache("a", "b")
    found.arguments_of("c")


def commands(content: bytes) -> set[tuple[str, ...]]:
    """The command lines that a record tells."""
    return {command_of(attributes) for attributes in buildkit_record.read_attributes(content)}


@pytest.mark.parametrize("name", ["record.dockerbuild", "metadata.json", "provenance.json"])
def test_a_build_record_tells_how_the_build_was_called(name: str) -> None:
    (words,) = commands((RECORDS / name).read_bytes())
    found = read_invocation(words)
    assert found.arguments == {"REVISION": "zzz1"}
    assert found.no_cache_stages == {"nothing"}
    assert not found.no_cache


def test_a_statement_of_the_newer_provenance_is_read_too() -> None:
    request = {"args": {"build-arg:A": "1", "target": "app", "no-cache": "", "other": 5}}
    predicate = {"buildDefinition": {"externalParameters": {"request": request}}}
    statement = {"predicateType": "https://slsa.dev/provenance/v1", "predicate": predicate}
    assert commands(json.dumps(statement).encode()) == {
        ("build", "--build-arg", "A=1", "--no-cache", "--target", "app"),
    }


def test_a_provenance_without_arguments_says_nothing_unless_it_is_complete() -> None:
    predicate = {"invocation": {"parameters": {"args": {"target": "app"}}}}
    assert commands(json.dumps(predicate).encode()) == set()
    predicate["metadata"] = {"completeness": {"parameters": True}}
    assert commands(json.dumps(predicate).encode()) == {("build", "--target", "app")}


def test_cache_imports_of_a_record_are_options() -> None:
    listed = json.dumps([{"Type": "registry", "Attrs": {"ref": "r.example.org/a"}}, 7])
    assert command_of({"cache-imports": listed}) == ("build", "--cache-from", "type=registry,ref=r.example.org/a")
    assert command_of({"cache-imports": "{"}) == ("build",)


def test_what_is_no_record_is_refused_in_a_sentence() -> None:
    for content, error in ((b"[]", UnreadableInputError), (b" " * (24 * 1024**2 + 1), TooLargeError)):
        with pytest.raises(error):
            buildkit_record.read_attributes(content)
