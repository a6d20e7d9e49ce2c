"""Step names and their parts."""

import pytest

from cachescope.instructions import KEYWORDS, is_cacheable, keyword_of, parse_step_name, target_of
from cachescope.model import StepKind


def parts(name, targets=()):
    step = parse_step_name(name, targets)
    return step.target, step.stage, step.platform, step.index, step.total, step.instruction, step.text


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("[2/5] WORKDIR /app", (None, None, None, 2, 5, "WORKDIR", "WORKDIR /app")),
        ("[ 4/10] RUN make", (None, None, None, 4, 10, "RUN", "RUN make")),
        ("[deps  3/12] COPY a b", (None, "deps", None, 3, 12, "COPY", "COPY a b")),
        ("[linux/amd64 build 2/3] RUN x", (None, "build", "linux/amd64", 2, 3, "RUN", "RUN x")),
        ("[linux/amd64->arm64 gen 2/3] RUN x", (None, "gen", "linux/amd64->arm64", 2, 3, "RUN", "RUN x")),
        ("[linux/arm/v7 1/2] ADD a b", (None, None, "linux/arm/v7", 1, 2, "ADD", "ADD a b")),
        ("[web deps 1/5] FROM node", ("web", "deps", None, 1, 5, "FROM", "FROM node")),
        ("[web linux/arm64 deps 1/5] FROM node", ("web", "deps", "linux/arm64", 1, 5, "FROM", "FROM node")),
        ("[final 1/2] ONBUILD COPY . /x", (None, "final", None, 1, 2, "ONBUILD", "ONBUILD COPY . /x")),
        ("[5/5] RUN <<EOF (set -e...)", (None, None, None, 5, 5, "RUN", "RUN <<EOF (set -e...)")),
        ("[3/3] run lower", (None, None, None, 3, 3, "RUN", "run lower")),
        ("[builder ***/5] RUN masked", (None, "builder", None, None, 5, "RUN", "RUN masked")),
    ],
)
def test_a_numbered_name_comes_apart(name, expected):
    assert parts(name) == expected


def test_one_word_is_a_target_only_where_the_build_has_that_target():
    assert parts("[web 2/3] RUN x")[:2] == (None, "web")
    assert parts("[web 2/3] RUN x", {"web"})[:2] == ("web", None)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("[internal] load build definition from Dockerfile", StepKind.INTERNAL),
        ("[web internal] load .dockerignore", StepKind.INTERNAL),
        ("[linux/arm64 internal] load metadata for docker.io/library/a", StepKind.INTERNAL),
        ("[auth] library/node:pull token for registry-1.docker.io", StepKind.INTERNAL),
        ("[context base] load metadata for docker.io/library/a", StepKind.INTERNAL),
        ("resolving provenance for metadata file", StepKind.INTERNAL),
        ("resolve image config for docker-image://docker.io/docker/dockerfile:1", StepKind.FRONTEND),
        ("docker-image://docker.io/docker/dockerfile:1@sha256:ab", StepKind.FRONTEND),
        ("importing cache manifest from gha:1234", StepKind.CACHE_IMPORT),
        ("[api] importing cache manifest from local:1", StepKind.CACHE_IMPORT),
        ("exporting cache to registry", StepKind.CACHE_EXPORT),
        ("exporting to image", StepKind.EXPORT),
        ("[api] exporting to image", StepKind.EXPORT),
        ("importing to docker", StepKind.EXPORT),
        ("https://github.com/acme/app.git", StepKind.OTHER),
        ("[1/2] build with another frontend", StepKind.OTHER),
        ("", StepKind.OTHER),
    ],
)
def test_what_the_builder_does_for_itself_has_a_kind(name, kind):
    assert parse_step_name(name).kind is kind


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("[web internal] load build definition from Dockerfile", "web"),
        ("[web linux/arm64 internal] load metadata for a", "web"),
        ("[worker] resolve image config for docker-image://a", "worker"),
        ("[api] exporting to image", "api"),
        ("[internal] load .dockerignore", None),
        ("[linux/arm64 internal] load .dockerignore", None),
        ("[web 2/3] RUN x", None),
        ("[context base] load metadata for a", None),
        ("exporting to image", None),
    ],
)
def test_an_internal_name_proves_its_target(name, target):
    assert target_of(name) == target


def test_a_known_target_is_that_of_an_internal_name_too():
    step = parse_step_name("[api] copy files", {"api"})
    assert (step.target, step.text) == ("api", "[api] copy files")


@pytest.mark.parametrize("keyword", sorted(KEYWORDS))
def test_every_keyword_is_known_in_any_case(keyword):
    assert keyword_of(f"{keyword.lower()} something") == keyword


@pytest.mark.parametrize("text", ["", "   ", "RUNNING x", "make all"])
def test_other_words_are_no_keyword(text):
    assert keyword_of(text) is None


@pytest.mark.parametrize(
    ("builder", "instruction", "expected"),
    [
        ("buildkit", "RUN", True),
        ("buildkit", "ONBUILD", True),
        ("buildkit", "FROM", False),
        ("buildkit", None, False),
        ("docker", "COPY", True),
        ("docker", "WORKDIR", True),
        ("docker", "ENV", False),
        ("buildah", "ONBUILD", False),
        ("kaniko", "LABEL", False),
    ],
)
def test_what_counts_in_the_hit_rate(builder, instruction, expected):
    assert is_cacheable(builder, instruction) is expected
