"""What a machine knows about a build besides its log: real folders and a real git."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from backports import zstd

from cachescope.cli.gathering import MAX_HASHED_BYTES, MAX_HASHED_FILES, gather, gather_context, list_files
from cachescope.surroundings import MAX_DOCKERFILE_LINES, MAX_MANIFEST, MAX_TEXT, FileMark, Surroundings

DOCKERFILE = "FROM node:22\nCOPY package.json .\nRUN npm ci\n"


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A checkout with a service in a folder of its own."""
    folder = tmp_path / "code"
    write(folder / "api" / "Dockerfile", DOCKERFILE)
    write(folder / "api" / "package.json", '{"name": "api"}')
    write(folder / "api" / "src" / "main.js", "go()")
    write(folder / "api" / ".dockerignore", "node_modules\n")
    write(folder / "README.md", "# Read")
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "Begin"]):
        git(folder, *words)
    return folder


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (["docker", "build", "api"], "."),
        (["docker", "buildx", "build", "-f", "api/Dockerfile", "--build-arg", "A=1", "api"], "."),
        (["docker", "build", "."], "api"),
        (["buildah", "bud", "-f", "Dockerfile", "api"], "."),
    ],
)
def test_a_build_is_found_with_its_files(code: Path, words: list[str], place: str) -> None:
    found = gather(words, code / place)
    assert found.dockerfiles == {"": DOCKERFILE}
    assert (found.dockerfile_path, found.dockerignore, found.context) == ("Dockerfile", "node_modules\n", "api")
    assert sorted(found.files or ()) == ["api/.dockerignore", "api/Dockerfile", "api/package.json", "api/src/main.js"]
    assert found.texts == {"api/package.json": '{"name": "api"}'}
    assert found.command == tuple(words)


def listed(code: Path, dockerignore: str | None = None) -> dict[str, FileMark]:
    """The files of the checkout as the builder sees them."""
    found = list_files(code, code, dockerignore)
    assert found is not None
    return found


def test_a_change_shows_before_and_after_it_was_committed(code: Path) -> None:
    before = listed(code)
    write(code / "README.md", "# Changed")
    (code / "api" / "src" / "main.js").chmod(0o755)
    (code / "api" / "package.json").unlink()
    (code / "link").symlink_to("README.md")
    edited = listed(code)
    git(code, "add", "--all")
    git(code, "commit", "-q", "-m", "Change")
    assert listed(code) == edited
    assert {path for path in before.keys() | edited.keys() if edited.get(path) != before.get(path)} == {
        "README.md",
        "api/src/main.js",
        "api/package.json",
        "link",
    }


def test_files_that_git_does_not_know_count_unless_the_builder_never_sees_them(code: Path) -> None:
    write(code / ".gitignore", "dist\nnode_modules\n")
    git(code, "add", ".")
    git(code, "commit", "-q", "-m", "Ignore")
    for name in ("dist/app.js", "dist/deep/more.js", "node_modules/a/index.js", "notes.txt"):
        write(code / name, "x")
    found = listed(code, "node_modules\n")
    assert {"dist/app.js", "dist/deep/more.js", "notes.txt"} <= found.keys()
    assert "node_modules/a/index.js" not in found
    assert sorted(list_files(code / "api", code, "") or ()) == sorted(path for path in found if path.startswith("api/"))


def test_a_list_that_would_be_incomplete_is_none(code: Path) -> None:
    for number in range(MAX_HASHED_FILES + 1):
        write(code / "dist" / f"{number}.js", "x")
    assert list_files(code, code, None) is None
    assert list_files(code, code, "dist") is not None
    with (code / "large.bin").open("wb") as file:
        file.truncate(MAX_HASHED_BYTES + 1)
    assert list_files(code, code, "dist") is None


def test_a_checkout_without_a_commit_or_whose_git_fails_has_no_list(code: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init", "-q")
    assert list_files(empty, empty, None) is None
    assert list_files(code, code, None, lambda *_: None) is None


def test_of_manifests_only_what_can_be_read_is_told(code: Path) -> None:
    (code / "api" / "Gemfile").symlink_to("package.json")
    write(code / "api" / "requirements.txt", "flask")
    git(code, "add", ".")
    git(code, "commit", "-q", "-m", "More")
    write(code / "api" / "Cargo.toml", "x" * (MAX_MANIFEST + 1))
    found = gather(["docker", "build", "api"], code)
    assert sorted(found.texts) == ["api/package.json", "api/requirements.txt"]


def test_a_folder_without_git_still_has_a_dockerfile(tmp_path: Path) -> None:
    write(tmp_path / "Containerfile", "FROM a\n")
    found = gather(["podman", "build", "."], tmp_path)
    assert found.dockerfiles == {"": "FROM a\n"}
    assert (found.files, found.dockerignore) == (None, "")


def test_a_dockerfile_outside_of_the_context_is_named_by_its_name(code: Path) -> None:
    write(code / "docker" / "api.Dockerfile", "FROM a\n")
    found = gather(["docker", "build", "-f", "docker/api.Dockerfile", "api"], code)
    assert (found.dockerfiles, found.dockerfile_path, found.context) == ({"": "FROM a\n"}, "api.Dockerfile", "api")


def test_the_ignore_file_of_a_dockerfile_comes_before_that_of_the_context(code: Path) -> None:
    write(code / "api" / "Dockerfile.dockerignore", "dist\n")
    assert gather_context(code / "api", code / "api" / "Dockerfile").dockerignore == "dist\n"


@pytest.mark.parametrize(
    "words",
    [["docker", "build", "-"], ["docker", "build", "https://example.org/a.git"], ["docker", "build", "nowhere"]],
)
def test_of_a_context_elsewhere_only_the_command_is_known(code: Path, words: list[str]) -> None:
    assert gather(words, code) == Surroundings(command=tuple(words))


def test_a_script_is_no_build(code: Path) -> None:
    assert gather(["make", "image"], code).is_empty


@pytest.mark.parametrize("text", ["#" * (MAX_TEXT + 1), "#\n" * (MAX_DOCKERFILE_LINES + 1)])
def test_a_dockerfile_that_is_too_long_is_left_out(code: Path, text: str) -> None:
    write(code / "api" / "Dockerfile", text)
    write(code / "docker-bake.hcl", 'target "api" {\n  context = "api"\n}\n')
    assert gather(["docker", "build", "api"], code).dockerfiles == {}
    assert gather(["docker", "buildx", "bake"], code).dockerfiles == {}


def test_secrets_stay_here(code: Path) -> None:
    secret = "ghp_" + "aB3" * 12
    write(code / "api" / "Dockerfile", f"FROM a\nENV GITHUB_TOKEN={secret}\n")
    assert secret not in str(gather(["docker", "build", "--build-arg", f"GITHUB_TOKEN={secret}", "api"], code))


def test_a_bake_file_leads_to_the_dockerfile_of_each_target(code: Path) -> None:
    write(
        code / "docker-bake.hcl",
        'target "api" {\n  context = "api"\n}\ntarget "away" {\n  context = "https://example.org/x.git"\n}\n'
        'target "gone" {\n  context = "nowhere"\n}\n',
    )
    git(code, "add", ".")
    git(code, "commit", "-q", "-m", "Bake")
    for words in (["docker", "buildx", "bake"], ["docker", "buildx", "bake", "--file=docker-bake.hcl", "api"]):
        found = gather(words, code)
        assert found.dockerfiles == {"api": DOCKERFILE}
        assert (found.context, found.dockerignore) == ("api", "node_modules\n")
        assert "README.md" in (found.files or ())
        assert found.bake is not None


def test_bake_without_a_file_tells_its_command_only(code: Path) -> None:
    assert gather(["docker", "buildx", "bake"], code) == Surroundings(command=("docker", "buildx", "bake"))


def sent_evidence(body: bytes) -> dict[str, object]:
    """The part of a form that holds the evidence."""
    packed = body.partition(b'name="evidence"\r\n\r\n')[2].partition(b'\r\nContent-Disposition: form-data; name="log"')[
        0
    ]
    return dict(json.loads(zstd.decompress(packed.rpartition(b"\r\n--")[0])))


def test_exec_sends_what_it_finds(
    cachescope: Callable, receiver, server_settings: dict[str, str], tmp_path: Path
) -> None:
    write(tmp_path / "Dockerfile", DOCKERFILE)
    words = ["sh", "-c", "echo '#1 [1/1] RUN true'", "build", str(tmp_path)]
    done = cachescope("exec", "--", *words, environment=server_settings)
    assert done.returncode == 0
    [request] = receiver.requests
    assert request["headers"]["Content-Type"].startswith("multipart/form-data")
    document = sent_evidence(request["body"])
    assert document["dockerfiles"] == {"": DOCKERFILE}
    assert document["command"] == words
    assert cachescope("exec", "--no-evidence", "--", *words, environment=server_settings).returncode == 0
    assert receiver.requests[1]["headers"]["Content-Encoding"] == "zstd"


def test_push_sends_a_context_that_it_is_pointed_to(
    cachescope: Callable, receiver, server_settings: dict[str, str], code: Path, tmp_path: Path
) -> None:
    log = tmp_path / "build.log"
    log.write_text("#1 [1/1] RUN true\n")
    done = cachescope("push", log, "--context", code / "api", environment=server_settings)
    assert done.returncode == 0, done.stderr
    assert sent_evidence(receiver.requests[0]["body"])["context"] == "api"
    empty = tmp_path / "empty"
    empty.mkdir()
    done = cachescope("push", log, "--context", empty, environment=server_settings)
    assert b"There is no Dockerfile" in done.stderr
    assert receiver.requests[1]["headers"]["Content-Encoding"] == "zstd"
