"""Dockerfiles as BuildKit's frontend reads them: stages, heredocs, directives, ARG and ENV in force."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachescope.dockerfile import NO_DEFAULT, Dockerfile, expand, mounts, stage_sources, variables

STAGES = """\
# syntax=docker/dockerfile:1
ARG VERSION=20
FROM node:${VERSION}-slim AS Deps
ARG TOKEN
ENV A=1 B="two words" C=$A
WORKDIR /app
COPY package.json ./
RUN npm ci \\
    # a comment between the lines

    --omit=dev
FROM deps AS build
ARG VERSION
RUN --mount=type=bind,from=deps,src=/app,target=/x --mount=source=a.txt,target=/a make
FROM scratch
COPY --from=build --chown=1:1 /app /app
COPY --from=0 /x /x
"""


def test_stages_have_names_numbers_and_bases() -> None:
    found = Dockerfile(STAGES)
    assert [(s.number, s.name, s.base, s.printed_name) for s in found.stages] == [
        (0, "Deps", "node:${VERSION}-slim", "Deps"),
        (1, "build", "deps", "build"),
        (2, None, "scratch", "stage-2"),
    ]
    assert found.base_reference(found.stages[0]) == "node:20-slim"
    assert found.base_reference(found.stages[0], {"VERSION": "22"}) == "node:22-slim"
    assert found.base_stage(found.stages[1]) == found.stages[0]
    assert found.base_stage(found.stages[2]) is None


def test_continued_lines_are_one_instruction_without_the_comments_between() -> None:
    (run,) = [i for i in Dockerfile(STAGES).instructions if i.text.startswith("RUN npm")]
    assert run.text == "RUN npm ci --omit=dev"
    assert (run.first_line, run.last_line) == (8, 11)


def test_stages_are_found_by_name_number_and_printed_name() -> None:
    found = Dockerfile(STAGES)
    assert [found.find_stage(name) for name in ("DEPS", "0", "stage-2", "9", "nginx")] == [
        found.stages[0],
        found.stages[0],
        found.stages[2],
        None,
        None,
    ]


def test_only_the_stages_that_a_target_needs_are_built() -> None:
    found = Dockerfile(STAGES + "FROM busybox AS unused\nRUN x\n")
    assert [s.name for s in found.needed_stages("stage-2")] == ["Deps", "build", None]
    assert [s.name for s in found.needed_stages()] == ["unused"]
    assert Dockerfile("").needed_stages() == []


def test_the_numbered_steps_of_a_stage_begin_with_from_only_where_it_names_an_image() -> None:
    found = Dockerfile(STAGES)
    assert [i.keyword for i in found.steps_of(found.stages[0])] == ["FROM", "WORKDIR", "COPY", "RUN"]
    assert [i.keyword for i in found.steps_of(found.stages[1])] == ["RUN"]
    assert [i.keyword for i in found.steps_of(found.stages[2])] == ["COPY", "COPY"]


def test_flags_are_read_apart_from_arguments() -> None:
    copy = Dockerfile(STAGES).instructions[-2]
    assert copy.flag("from") == "build"
    assert copy.flag("chown") == "1:1"
    assert copy.flag("link") is None
    assert copy.words == ["/app", "/app"]


def test_mounts_say_their_type_and_where_they_come_from() -> None:
    run = next(i for i in Dockerfile(STAGES).instructions if i.flags and i.keyword == "RUN")
    assert mounts(run) == [
        {"type": "bind", "from": "deps", "source": "/app", "target": "/x"},
        {"source": "a.txt", "target": "/a", "type": "bind"},
    ]
    assert stage_sources(run) == ["deps"]


def test_a_stage_inherits_environment_and_no_arguments() -> None:
    found = Dockerfile(STAGES)
    run = found.stages[1].instructions[-1]
    scope = found.scope_at(run)
    assert scope.environment == {"A": "1", "B": "two words", "C": "$A"} | {"C": "$A"} or scope.environment["A"] == "1"
    assert scope.arguments == {"VERSION": "20"}
    assert scope.declared == {"VERSION"}


def test_an_argument_without_a_value_is_declared_and_has_none() -> None:
    found = Dockerfile(STAGES)
    run = next(i for i in found.instructions if i.text.startswith("RUN npm"))
    assert found.scope_at(run).declared == {"TOKEN"}
    assert found.scope_at(run).arguments == {}
    assert found.scope_at(run, {"TOKEN": "t", "OTHER": "o"}).arguments == {"TOKEN": "t"}
    assert found.instructions[2].pairs == {"TOKEN": NO_DEFAULT}


def test_shell_and_user_are_in_force_below_them() -> None:
    found = Dockerfile('FROM a\nSHELL ["bash", "-c"]\nUSER app\nRUN x\nFROM a\nRUN y\n')
    below, other = (found.scope_at(i) for i in found.instructions if i.keyword == "RUN")
    assert (below.shell, below.user) == ('["bash", "-c"]', "app")
    assert (other.shell, other.user) == ("", "")


def test_an_argument_above_from_has_no_scope() -> None:
    assert Dockerfile(STAGES).scope_at(Dockerfile(STAGES).instructions[0]).arguments == {}


def test_heredocs_are_bodies_and_not_instructions() -> None:
    found = Dockerfile("FROM a\nRUN <<EOF\nRUN not one\nEOF\nCOPY <<-A <<'B' /x/\n\tone\n\tA\ntwo\nB\nRUN last\n")
    run, copy, last = found.instructions[1:]
    assert [(h.name, h.body) for h in run.heredocs] == [("EOF", "RUN not one")]
    assert [(h.name, h.body) for h in copy.heredocs] == [("A", "one"), ("B", "two")]
    assert (run.first_line, run.last_line, copy.last_line, last.text) == (2, 4, 9, "RUN last")


def test_a_heredoc_that_never_ends_runs_to_the_end_of_the_file() -> None:
    (_, run) = Dockerfile("FROM a\nRUN <<EOF\nx\ny").instructions
    assert run.heredocs[0].body == "x\ny"


def test_a_shift_operator_is_no_heredoc() -> None:
    assert Dockerfile("FROM a\nRUN echo $((1<<2))\nRUN b\n").instructions[-1].text == "RUN b"


def test_the_escape_directive_changes_what_continues_a_line() -> None:
    found = Dockerfile("# escape=`\nFROM a\nRUN dir C:\\\nRUN x `\n  y\n")
    assert [i.text for i in found.instructions] == ["FROM a", "RUN dir C:\\", "RUN x y"]


def test_directives_stand_at_the_top_only() -> None:
    assert Dockerfile("# syntax=a\n# check=skip=all\n# syntax=b\nFROM a\n").directives == {
        "syntax": "a",
        "check": "skip=all",
    }
    assert Dockerfile("# note\n# escape=`\nFROM a\n").escape == "\\"


def test_words_may_be_a_json_list() -> None:
    found = Dockerfile('FROM a\nCOPY ["a b", "c/"]\nCOPY [x y\n')
    assert found.instructions[1].words == ["a b", "c/"]
    assert found.instructions[2].words == ["[x", "y"]


def test_the_old_form_of_env_takes_the_rest_of_the_line() -> None:
    assert Dockerfile("FROM a\nENV PATH /x y\n").instructions[1].pairs == {"PATH": "/x y"}


def test_a_triggers_keyword_is_kept() -> None:
    assert Dockerfile("FROM a\nONBUILD COPY . .\n").instructions[1].keyword == "ONBUILD"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("$A", "1"),
        ("${A}b", "1b"),
        ("$NONE", "$NONE"),
        ("${NONE:-x$A}", "x1"),
        ("${EMPTY:-x}", "x"),
        ("${EMPTY-x}", ""),
        ("${A:+y}", "y"),
        ("${NONE:+y}", ""),
        ("${EMPTY+y}", "y"),
        ("'$A'", "'$A'"),
        ("\\$A", "\\$A"),
        ("$$", "$$"),
        ("plain", "plain"),
    ],
)
def test_variables_are_put_in_as_the_builder_does(text: str, wanted: str) -> None:
    assert expand(text, {"A": "1", "EMPTY": ""}) == wanted


def test_the_variables_of_a_text_are_listed() -> None:
    assert variables("a $B ${C:-d} '$E' \\$F") == ["B", "C"]


@given(st.text())
def test_any_text_is_a_dockerfile(text: str) -> None:
    found = Dockerfile(text)
    for instruction in found.instructions:
        found.scope_at(instruction)
    found.needed_stages()
