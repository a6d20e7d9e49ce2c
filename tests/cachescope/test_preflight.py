"""Which lines a change will bust, before anything is built."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachescope.context import read_ignore_rules
from cachescope.dockerfile import Dockerfile
from cachescope.preflight import agreed, context_folders, is_built_from, predict

NODE = """
FROM node:20 AS deps
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci

FROM deps AS build
COPY . .
RUN npm run build

FROM nginx:1.27
COPY --from=build /app/dist /usr/share/nginx/html
COPY nginx.conf /etc/nginx/
"""
COSTS = {"RUN npm ci": 90.0, "RUN npm run build": 30.0, "COPY . .": 1.0}


def busts(text: str, changed: list[str], **options):
    return predict(Dockerfile(text), changed, **options)


def test_a_source_file_busts_the_line_that_copies_it_and_all_below() -> None:
    (bust,) = busts(NODE, ["src/app.ts"], costs=COSTS)
    assert (bust.text, bust.stage, bust.files) == ("COPY . .", "build", ("src/app.ts",))
    assert bust.below == (
        "RUN npm run build",
        "COPY --from=build /app/dist /usr/share/nginx/html",
        "COPY nginx.conf /etc/nginx/",
    )
    assert bust.cost_seconds == 31.0


def test_a_lock_file_busts_the_installation_and_the_stages_on_top() -> None:
    (bust,) = busts(NODE, ["package-lock.json"], costs=COSTS)
    assert (bust.text, bust.cost_seconds) == ("COPY package.json package-lock.json ./", 121.0)
    assert len(bust.below) == 6 - 1


def test_a_file_that_nothing_reads_busts_nothing() -> None:
    assert busts("FROM a\nCOPY src /src\nRUN make\n", ["docs/index.md"]) == []


def test_an_ignored_file_busts_nothing() -> None:
    assert busts(NODE, ["docs/index.md"], rules=read_ignore_rules("docs\n")) == []


def test_files_outside_the_context_bust_nothing() -> None:
    assert busts(NODE, ["services/web/a.ts"], context="services/api") == []


def test_files_are_told_as_paths_of_the_repository() -> None:
    (bust,) = busts("FROM a\nCOPY src /src\n", ["services/api/src/a.go"], context="services/api")
    assert bust.files == ("services/api/src/a.go",)
    assert bust.stage == ""


def test_two_stages_break_each_for_itself_the_dearest_first() -> None:
    found = busts(NODE, ["nginx.conf", "package.json"], costs=COSTS)
    assert [bust.text for bust in found] == ["COPY package.json package-lock.json ./"]
    apart = NODE.replace("COPY --from=build /app/dist /usr/share/nginx/html\n", "")
    assert [bust.text for bust in busts(apart, ["nginx.conf", "package.json"])] == ["COPY nginx.conf /etc/nginx/"]


def test_stages_that_the_target_does_not_need_are_left_out() -> None:
    assert [bust.text for bust in busts(NODE, ["package.json", "nginx.conf"], target="deps")] == [
        "COPY package.json package-lock.json ./"
    ]


def test_an_edited_line_busts_itself() -> None:
    edited = NODE.replace("npm ci", "npm ci --ignore-scripts")
    (bust,) = busts(edited, ["Dockerfile"], former=Dockerfile(NODE), rules=read_ignore_rules("Dockerfile"))
    assert (bust.text, bust.files) == ("RUN npm ci --ignore-scripts", ())
    assert bust.line == edited.splitlines().index("RUN npm ci --ignore-scripts") + 1


def test_an_edited_heredoc_busts_its_line() -> None:
    old = "FROM a\nRUN <<EOF\nmake a\nEOF\n"
    (bust,) = busts(old.replace("make a", "make b"), [], former=Dockerfile(old))
    assert bust.text.startswith("RUN <<EOF")


def test_another_base_image_busts_its_stage() -> None:
    (bust,) = busts(NODE.replace("node:20", "node:22"), [], former=Dockerfile(NODE), costs=COSTS)
    assert (bust.text, bust.cost_seconds) == ("FROM node:22 AS deps", 121.0)


def test_a_renamed_stage_alone_busts_nothing() -> None:
    text = "FROM a AS one\nRUN make\n"
    assert busts(text.replace("one", "two"), [], former=Dockerfile(text)) == []


def test_an_edited_environment_is_felt_by_the_first_run_below() -> None:
    old = "FROM a\nENV MODE=a\nCOPY x /x\nRUN make\nRUN make install\n"
    (bust,) = busts(old.replace("MODE=a", "MODE=b"), [], former=Dockerfile(old))
    assert (bust.text, bust.below) == ("ENV MODE=b", ("RUN make", "RUN make install"))
    idle = old.replace("RUN make\nRUN make install\n", "LABEL a=b\n")
    assert busts(idle.replace("MODE=a", "MODE=b"), [], former=Dockerfile(idle)) == []


def test_sources_behind_arguments_are_read_with_their_defaults() -> None:
    text = "FROM a\nARG DIR=src\nCOPY ${DIR} /app\n"
    assert [bust.files for bust in busts(text, ["src/a"])] == [("src/a",)]


def test_sources_that_nobody_knows_are_not_guessed() -> None:
    assert busts("FROM a\nARG DIR\nCOPY ${DIR} /app\n", ["src/a"]) == []


def test_a_copy_from_another_image_is_not_busted() -> None:
    assert busts("FROM a\nCOPY --from=busybox:1 /bin /bin\n", ["bin/x"]) == []


def test_a_bind_mount_is_read_like_a_copy() -> None:
    (bust,) = busts("FROM a\nRUN --mount=type=bind,source=go.sum,target=go.sum go mod download\n", ["go.sum"])
    assert bust.files == ("go.sum",)


@pytest.mark.parametrize(
    ("path", "folders"),
    [("Dockerfile", (".",)), ("./Dockerfile.dev", (".",)), ("services/api/Dockerfile", (".", "services/api"))],
)
def test_the_folders_that_may_be_built(path: str, folders: tuple[str, ...]) -> None:
    assert context_folders(path) == folders


def test_what_depends_on_the_unknown_folder_is_not_told() -> None:
    dockerfile = Dockerfile("FROM a\nCOPY . .\n")
    both = [predict(dockerfile, ["web/index.ts"], context=folder) for folder in (".", "api")]
    assert agreed(both) == []
    both = [predict(dockerfile, ["api/main.go"], context=folder) for folder in (".", "api")]
    assert [bust.text for bust in agreed(both)] == ["COPY . ."]


@pytest.mark.parametrize(
    ("known", "target", "is_its"),
    [
        (["RUN npm ci", "COPY . .", "RUN npm run build"], None, False),
        (["RUN npm ci", "COPY . .", "RUN npm run build", "WORKDIR /app"], None, True),
        (["RUN npm ci", "WORKDIR /app"], "deps", True),
        (["RUN pip install -r requirements.txt"], None, False),
        ([], None, False),
    ],
)
def test_an_image_is_built_from_a_file_whose_lines_it_printed(
    known: list[str], target: str | None, is_its: bool
) -> None:
    assert is_built_from(Dockerfile(NODE), known, target) is is_its


def test_lines_are_known_with_their_variables_put_in_too() -> None:
    text = "FROM a\nARG DIR=src\nCOPY ${DIR} /app\n"
    assert is_built_from(Dockerfile(text), ["COPY src /app"])
    assert is_built_from(Dockerfile(text), ["COPY ${DIR} /app"])
    assert not is_built_from(Dockerfile("FROM a\n"), ["COPY src /app"])


def test_an_endless_dockerfile_is_not_looked_at() -> None:
    assert busts("FROM a\n" + "COPY . .\n" * 3000, ["a"]) == []


@given(st.text(max_size=200), st.lists(st.text(max_size=20), max_size=5))
def test_nothing_that_a_file_holds_raises(text: str, changed: list[str]) -> None:
    predict(Dockerfile(f"FROM a\n{text}"), changed, former=Dockerfile(text))
