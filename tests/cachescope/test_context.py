"""Which files a step reads, held against Docker's rules for patterns."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachescope.context import context_sources, covers, matches_below, read_ignore_rules, reads, relative_to
from cachescope.dockerfile import Dockerfile


def instruction(text: str):
    return Dockerfile(f"FROM a\n{text}\n").instructions[1]


@pytest.mark.parametrize(
    ("rules", "path", "ignored"),
    [
        ("*.md", "README.md", True),
        ("*.md", "docs/README.md", False),
        ("**/*.md", "docs/deep/README.md", True),
        ("**/*.md", "README.md", True),
        ("docs", "docs/a/b", True),
        ("docs", "docs2/a", False),
        ("/docs/", "docs/a", True),
        ("./docs", "docs/a", True),
        ("*/temp*", "a/temporary/x", True),
        ("*/*/temp*", "a/temp", False),
        ("temp?", "tempa", True),
        ("temp?", "temp/", False),
        ("*\n!content", "content/one.md", False),
        ("*\n!content", "other", True),
        ("!a\n*", "a", True),
        ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", True),
        ("*.md\n!README*.md\nREADME-secret.md", "README-public.md", False),
        ("# *.md", "# x.md", False),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b/c", True),
        ("a**", "a/x", True),
        ("**", "anything/at/all", True),
        ("[a-c]*", "bus", True),
        ("[^a-c]*", "bus", False),
        ("x[yz]", "xz", True),
        ("a\\*b", "a*b", True),
        ("a\\*b", "axb", False),
        ("[", "[", True),
        ("node_modules\n\n  \n", "node_modules/x", True),
        ("  dist  ", "dist/x", True),
        ("..", "a", False),
    ],
)
def test_dockerignore_means_what_docker_means(rules: str, path: str, ignored: bool) -> None:
    assert read_ignore_rules(rules).is_ignored(path) is ignored


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        ("COPY a b /x/", ["a", "b"]),
        ("COPY --chown=1:1 src/ .", ["src/"]),
        ("COPY --from=build /a /b", []),
        ("COPY <<EOF /x\nhello\nEOF", []),
        ("ADD https://example.org/a.tar.gz local.tar.gz /x/", ["local.tar.gz"]),
        ("ADD git@example.org:a/b.git /x", []),
        ('COPY ["with space", "."]', ["with space"]),
        ("RUN --mount=type=bind,source=c.txt,target=/c pip install", ["c.txt"]),
        ("RUN --mount=type=bind,target=/src make", ["."]),
        ("RUN --mount=type=bind,from=build,source=/c,target=/c x", []),
        ("RUN --mount=type=cache,target=/c x", []),
        ("WORKDIR /x", []),
    ],
)
def test_what_a_step_reads_of_the_context(text: str, sources: list[str]) -> None:
    assert context_sources(instruction(text)) == sources


@pytest.mark.parametrize(
    ("source", "path", "covered"),
    [
        (".", "any/file", True),
        ("./", "any/file", True),
        ("/", "any/file", True),
        ("src", "src/a.c", True),
        ("/src/", "src/a.c", True),
        ("./src", "src", True),
        ("src", "src2/a.c", False),
        ("*.txt", "a.txt", True),
        ("*.txt", "b/a.txt", False),
        ("package*.json", "package-lock.json", True),
        ("s*", "src/deep/a", True),
        ("../up", "up/a", True),
    ],
)
def test_a_source_covers_files_below_it(source: str, path: str, covered: bool) -> None:
    assert covers(source, path) is covered


def test_what_a_copy_excludes_it_does_not_read() -> None:
    copy = instruction("COPY --exclude=*.md --exclude=docs . /x")
    assert reads(copy, "main.py")
    assert not reads(copy, "docs/x")
    assert not reads(copy, "README.md")
    assert not reads(instruction("COPY a /x"), "b")
    assert reads(instruction("COPY $A /x"), "b", ["b"])


def test_paths_are_relative_to_the_folder_of_the_context() -> None:
    assert relative_to(".", "a/b") == "a/b"
    assert relative_to("./api/", "api/x.py") == "x.py"
    assert relative_to("api", "web/x.py") is None


def test_a_pattern_full_of_stars_is_matched_in_time() -> None:
    pattern = "*a" * 60 + "b"
    started = time.process_time()
    assert not matches_below(pattern, "a" * 500)
    assert time.process_time() - started < 1


@given(st.text(alphabet="ab*?[]!^-\\/.", max_size=20), st.text(alphabet="ab/.", max_size=20))
def test_any_pattern_matches_or_does_not(pattern: str, path: str) -> None:
    assert matches_below(pattern, path) in (True, False)
    assert read_ignore_rules(pattern).is_ignored(path) in (True, False)
