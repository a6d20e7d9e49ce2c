"""`cachescope push`: a log goes to a server over real HTTP, redacted, packed, once."""

import gzip
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from cachescope.cli.packing import MAX_LOG_BYTES, make_private_file, pack_log
from cachescope.cli.uploading import explain, find_server, pause_seconds
from cachescope.errors import SettingsError, TooLargeError, UploadError

SECRET = "ghp_" + "aB3" * 12


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "build.log"
    path.write_text(f"#1 [1/1] RUN NPM_TOKEN={SECRET} npm ci\n#1 DONE 1.0s\n")
    return path


def test_a_log_arrives_redacted_packed_and_described(
    cachescope: Callable, receiver, server_settings: dict[str, str], log: Path
) -> None:
    done = cachescope("push", log, "--repository", "acme/api", "--image", "api", environment=server_settings)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == f"{receiver.url}/deliveries/d1\n"
    [request] = receiver.requests
    assert request["path"] == "/api/v1/uploads"
    assert request["headers"]["Authorization"] == "Bearer cs_test_token"
    assert request["headers"]["Content-Encoding"] == "zstd"
    assert request["query"]["repository"] == "acme/api"
    assert request["query"]["image"] == "api"
    assert len(request["query"]["idempotency_key"]) == 40
    assert receiver.logs() == [b"#1 [1/1] RUN NPM_TOKEN=[redacted: GitHub token] npm ci\n#1 DONE 1.0s\n"]
    assert b"1 secret taken out" in done.stderr
    assert SECRET.encode() not in done.stderr


def test_the_same_log_of_the_same_run_has_the_same_key(
    cachescope: Callable, receiver, server_settings: dict[str, str], log: Path
) -> None:
    for job in ("a", "a", "b"):
        assert cachescope("push", log, "--job", job, environment=server_settings).returncode == 0
    log.write_text("other\n")
    assert cachescope("push", log, "--job", "a", environment=server_settings).returncode == 0
    first, again, job, other = (request["query"]["idempotency_key"] for request in receiver.requests)
    assert first == again
    assert len({first, job, other}) == 3


def test_standard_input_and_packed_files_are_read(
    cachescope: Callable, receiver, server_settings: dict[str, str], log: Path, tmp_path: Path
) -> None:
    packed = tmp_path / "build.log.gz"
    packed.write_bytes(gzip.compress(log.read_bytes()))
    assert cachescope("push", "-", stdin=log.read_bytes(), environment=server_settings).returncode == 0
    assert cachescope("push", packed, environment=server_settings).returncode == 0
    first, second = receiver.logs()
    assert first == second


def test_the_environment_of_ci_and_git_describes_the_run_and_options_override(
    *, cachescope: Callable, receiver, server_settings: dict[str, str], log: Path, repository: Callable, tmp_path: Path
) -> None:
    commit = repository("rev-parse", "HEAD")
    assert cachescope("push", log, environment=server_settings, cwd=tmp_path / "code").returncode == 0
    gitlab = server_settings | {"GITLAB_CI": "true", "CI_PROJECT_PATH": "group/api", "CI_JOB_NAME": "image"}
    arguments = ["push", log, "--job", "mine", "--branch=b"]
    assert cachescope(*arguments, environment=gitlab, cwd=tmp_path / "code").returncode == 0
    assert cachescope("push", log, "--no-environment", environment=gitlab).returncode == 0
    alone, from_ci, bare = (request["query"] for request in receiver.requests)
    assert (alone["repository"], alone["commit"], alone["branch"]) == ("acme/api", commit, "feature/x")
    assert (from_ci["repository"], from_ci["job"], from_ci["branch"]) == ("group/api", "mine", "b")
    assert (from_ci["ci"], from_ci["commit"]) == ("gitlab", commit)
    assert set(bare) == {"idempotency_key"}


def test_a_busy_server_is_asked_again(
    cachescope: Callable, receiver, server_settings: dict[str, str], log: Path
) -> None:
    receiver.statuses = [503, 429]
    receiver.headers = {"Retry-After": "0"}
    done = cachescope("push", log, environment=server_settings)
    assert done.returncode == 0
    assert len(receiver.requests) == 3
    assert len({request["query"]["idempotency_key"] for request in receiver.requests}) == 1
    assert len(set(receiver.logs())) == 1
    assert done.stderr.count(b"Trying again") == 2


def test_a_refusal_is_final_and_says_what_the_server_says(
    cachescope: Callable, receiver, server_settings: dict[str, str], log: Path
) -> None:
    receiver.statuses = [422]
    done = cachescope("push", log, environment=server_settings)
    assert done.returncode == 1
    assert len(receiver.requests) == 1
    assert done.stdout == b""
    assert b"refused the log: Say which repository the log belongs to." in done.stderr


def test_a_server_that_is_down_is_one_sentence_in_the_end(cachescope: Callable, log: Path) -> None:
    settings = {"CACHESCOPE_URL": "http://127.0.0.1:9", "CACHESCOPE_TOKEN": "t", "NO_PROXY": "*"}
    done = cachescope("push", log, "--attempts", "2", environment=settings)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines()[-1] == (
        "cachescope: http://127.0.0.1:9 cannot be reached: connection refused."
    )


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (302, b"", "it redirects to /elsewhere. Set the server's own address."),
        (
            404,
            b"<html>nope",
            "it answered with status 404 and nothing that Cachescope says. Is this the right address?",
        ),
        (202, b"[]", "gave an answer that is no receipt. Is this a Cachescope server?"),
        (202, b"x" * 2_000_000, "gave an answer that is no receipt. Is this a Cachescope server?"),
    ],
)
def test_what_is_no_cachescope_is_told(
    *,
    cachescope: Callable,
    receiver,
    server_settings: dict[str, str],
    log: Path,
    status: int,
    body: bytes,
    sentence: str,
) -> None:
    receiver.statuses, receiver.body, receiver.headers = [status], body, {"Location": "/elsewhere"}
    done = cachescope("push", log, environment=server_settings)
    assert done.returncode == 1
    assert sentence in done.stderr.decode()


def test_waiting_prints_the_pages_of_the_builds(
    cachescope: Callable, receiver, server_settings: dict[str, str], log: Path
) -> None:
    done = cachescope("push", log, "--wait", "5", environment=server_settings)
    assert done.stdout.decode() == f"{receiver.url}/builds/7\n"


def test_archives_and_empty_logs_are_refused_here(
    cachescope: Callable, receiver, server_settings: dict[str, str], tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "run.zip", "w") as archive:
        archive.writestr("a.txt", b"x")
    done = cachescope("push", tmp_path / "run.zip", environment=server_settings)
    assert done.returncode == 2
    assert b"it is an archive. Unpack it and send the log of the build." in done.stderr
    done = cachescope("push", "-", environment=server_settings)
    assert done.returncode == 2
    assert b"Cannot send standard input: it is empty." in done.stderr
    assert receiver.requests == []


def test_a_token_that_is_missing_says_where_to_get_one(cachescope: Callable, log: Path) -> None:
    done = cachescope("push", log, environment={"CACHESCOPE_URL": "https://cache.example.com"})
    assert done.returncode == 2
    assert b"No upload token is set. Make one on the team's settings page of https://cache.example.com" in done.stderr


def test_settings_come_from_options_then_environment_then_the_file(tmp_path: Path) -> None:
    path = tmp_path / "cachescope" / "config.toml"
    path.parent.mkdir()
    path.write_text('url = "https://file.example.com/"\ntoken = "from-file"\nother = 1\n')
    here = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert find_server(None, None, here).url == "https://file.example.com"
    assert find_server(None, None, here).token == "from-file"
    named = here | {"CACHESCOPE_URL": "https://env.example.com", "CACHESCOPE_TOKEN": "from-env"}
    assert find_server(None, None, named).url == "https://env.example.com"
    assert find_server("http://option:8000/prefix", "from-option", named).url == "http://option:8000/prefix"
    assert find_server(None, "from-option", named).token == "from-option"
    elsewhere = {"CACHESCOPE_CONFIG": str(path), "HOME": str(tmp_path)}
    assert find_server(None, None, elsewhere).token == "from-file"


@pytest.mark.parametrize(
    ("url", "token"),
    [
        (None, "t"),
        ("ftp://x", "t"),
        ("cache.example.com", "t"),
        ("http://[", "t"),
        ("https://x", None),
        ("https://x", "a b"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path: Path, url: str | None, token: str | None) -> None:
    with pytest.raises(SettingsError):
        find_server(url, token, {"HOME": str(tmp_path)})


def test_a_settings_file_that_is_broken_is_told(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("url = \n")
    with pytest.raises(SettingsError, match="cannot be read"):
        find_server("https://x", "t", {"CACHESCOPE_CONFIG": str(path)})


def test_a_log_that_no_server_takes_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    line = b"x" * 1023 + b"\n"
    with make_private_file(tmp_path, "build") as file, pytest.raises(TooLargeError, match="256 MiB"):
        pack_log((line * 1024 for _ in range(MAX_LOG_BYTES // 1024**2 + 1)), file)


def test_kept_logs_are_private_and_never_overwritten(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        with make_private_file(tmp_path / "logs", "build") as file:
            names.append(Path(file.name).name)
    assert names == ["build.log.zst", "build-1.log.zst", "build-2.log.zst"]
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "logs").iterdir()} == {0o600}


def test_a_folder_full_of_kept_logs_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cachescope.cli.packing.MAX_KEPT", 1)
    make_private_file(tmp_path, "build").close()
    with pytest.raises(UploadError, match="Remove some"):
        make_private_file(tmp_path, "build")


def test_pauses_double_and_obey_the_server_within_reason() -> None:
    assert 0.4 <= pause_seconds(1, None) <= 0.6
    assert 3.2 <= pause_seconds(4, "soon") <= 4.8
    assert pause_seconds(1, "7") == 7
    assert pause_seconds(1, "99999") == 30


def test_failures_of_the_network_are_told_in_words() -> None:
    assert explain(httpx.ConnectTimeout("")) == "nothing answers there"
    assert explain(httpx.ReadTimeout("")) == "it did not answer in time"
    assert explain(httpx.ConnectError("[Errno 111] Connection refused")) == "connection refused"
    assert explain(httpx.ReadError("")) == "readError"


def test_the_receipt_of_a_proxy_that_answers_json_is_no_receipt(
    cachescope: Callable, receiver, server_settings: dict[str, str], log: Path
) -> None:
    receiver.body = json.dumps({"delivery": None}).encode()
    assert cachescope("push", log, environment=server_settings).returncode == 1
