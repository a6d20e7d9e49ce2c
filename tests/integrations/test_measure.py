"""The command line of measuring, and sending what was measured."""

import base64
import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest

from cachescope.cli.main import run
from cachescope.cli.uploading import Server
from cachescope.errors import UploadError
from cachescope.images.contents import ContentReader
from integrations import measure
from integrations.images import IMAGES
from integrations.images.base import Options
from integrations.measure import find_credentials
from tests.integrations.images.test_archive import layout, tar
from tests.integrations.images.test_oci_registry import registry, send

FILES = Path(__file__).parent / "images/files"
ARCHIVES = Path(__file__).parent / "images/archive"


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = run(["measure", *arguments])
    captured = capsys.readouterr()
    return status, " ".join((captured.out + captured.err).split())


def test_json_holds_what_the_issue_asks_for(capsys):
    assert run(["measure", "--json", "--files", str(FILES / "v01")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"reference", "digest", "platforms"} <= set(found)
    (platform,) = found["platforms"]
    assert {"platform", "digest", "compressed_bytes", "unpacked_bytes", "layers"} <= set(platform)
    keys = ["digest", "diff_id", "instruction", "compressed_bytes", "unpacked_bytes", "base"]
    assert [list(layer) for layer in platform["layers"]] == [keys] * 5


def test_people_read_sizes_with_their_kind(capsys):
    status, text = printed(capsys, "--files", str(FILES / "v06"))
    assert status == 0
    assert "161 MB compressed" in text
    assert "RUN apt-get update" in text


def test_two_references_print_what_differs(capsys):
    _, text = printed(capsys, "--files", str(FILES / "v06"), str(FILES / "v07"))
    assert "+30 MB compressed" in text
    assert "Most of it: COPY . . (changed)" in text
    assert "Pull churn: 33 MB" in text
    assert run(["measure", "--json", "--files", str(FILES / "v06"), str(FILES / "v07")]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"before", "after", "difference"}


def test_deep_lists_what_is_wasted_and_large(capsys):
    _, text = printed(capsys, "--archive", "--deep", str(ARCHIVES / "docker-save.tar"))
    assert "Wasted: 1.5 kB overwritten or deleted" in text
    assert "app/t/sub/two (layer 2, overwritten by 3)" in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--files", "--archive", "x"), "Name one of"),
        (("--insecure", "x"), "--insecure belongs to --registry"),
        (("--files", "a", "b", "c"), "measure one, or compare two"),
        (("--files", "/nowhere"), "There is no folder"),
        (("--files", "--deep", "x"), "a folder of documents holds none"),
        (("--registry", "a b"), "no reference of an image"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(capsys, arguments, sentence):
    status, text = printed(capsys, *arguments)
    assert status == 2
    assert sentence in text


def test_an_engine_that_is_away_is_one_sentence(capsys, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    status, text = printed(capsys, "app:1")
    assert status == 2
    assert "The Docker engine cannot be asked" in text


def test_names_of_files_cannot_move_the_cursor(capsys, tmp_path):
    folder = layout(tmp_path, tar(("\x1b[2Jevil", b"1" * 2000)))
    run(["measure", "--archive", "--deep", str(folder)])
    assert "\x1b[2J" not in capsys.readouterr().out


def test_credentials_come_from_the_environment_or_dockers_own_file(tmp_path):
    auth = base64.b64encode(b"ada:secret").decode()
    text = json.dumps({"auths": {"ghcr.io": {"auth": auth}, "https://index.docker.io/v1/": {"auth": auth}}})
    (tmp_path / "config.json").write_text(text)
    environment = {"DOCKER_CONFIG": str(tmp_path)}
    for reference in ("ghcr.io/acme/api:1", "acme/api"):
        assert find_credentials(reference, environment).password == "secret"
    assert find_credentials("quay.io/acme/api", environment) is None
    assert (
        find_credentials("ghcr.io/a/b", {"CACHESCOPE_REGISTRY_USER": "u", "CACHESCOPE_REGISTRY_PASSWORD": "p"}).user
        == "u"
    )
    assert find_credentials("ghcr.io/a/b", {"DOCKER_AUTH_CONFIG": text}).user == "ada"
    (tmp_path / "config.json").write_text('{"auths": {"ghcr.io": {}}}')
    assert find_credentials("ghcr.io/a/b", environment) is None


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch):
    """What an engine would say, without one."""

    class Kept:
        def measure(self, reference: str, options: Options):
            return IMAGES["files"].measure(str(FILES / "v01/classic.attrs.json"), options)

    monkeypatch.setitem(IMAGES, "docker_engine", Kept())


def post(*answers: int):
    left = list(answers)

    def answer(handler) -> None:
        handler.rfile.read(int(handler.headers["Content-Length"]))
        send(handler, left.pop(0), b'{"page": "/teams/acme/repositories/1/images/1", "detail": "No."}')

    return answer


def test_sizes_are_sent_again_while_a_server_is_busy(measured):
    with registry(post(503, 201)) as (host, asked):
        page = measure.push_image(
            "app:1", Server(url=f"http://{host}", token="t"), {"commit": "ab"}, sleep=lambda _: None
        )
    assert page == f"http://{host}/teams/acme/repositories/1/images/1"
    assert [path for path, _ in asked] == ["/api/v1/images?commit=ab"] * 2
    assert asked[0][1] == "Bearer t"


def test_a_server_that_refuses_sizes_says_why(measured):
    with registry(post(422)) as (host, asked), pytest.raises(UploadError, match="refused the sizes"):
        measure.push_image("app:1", Server(url=f"http://{host}", token="t"), {})
    assert len(asked) == 1


def test_a_server_that_is_away_is_tried_as_often_as_asked(measured):
    said: list[str] = []
    server = Server(url="http://127.0.0.1:1", token="t")
    with pytest.raises(UploadError, match="cannot be reached"):
        measure.push_image("app:1", server, {}, attempts=3, notify=said.append, sleep=lambda _: None)
    assert len(said) == 2


def test_push_without_a_log_or_an_image_says_what_is_missing(capsys):
    assert run(["push", "--url", "http://127.0.0.1:1", "--token", "t"]) == 2
    assert "Name the log to send" in capsys.readouterr().err


def test_too_many_files_are_a_lower_bound():
    reader = ContentReader(most_files=3)
    size = reader.read_layer(0, [gzip.compress(tar(*((f"f{number}", b"1" * 100) for number in range(9))))])
    found = reader.report()
    assert size == 900
    assert (found.files, found.complete) == (3, False)


def test_a_layer_that_unpacks_beyond_the_cap_is_refused():
    bomb = gzip.compress(tar(("zeros", bytes(1 << 20))))
    with pytest.raises(Exception, match="unpacks to more than"):
        ContentReader().read_layer(0, [bomb], cap_bytes=1000)


def test_a_packed_archive_cannot_fill_the_disk(tmp_path):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("zeros")
        member.size = 300 << 20
        archive.addfile(member, io.BytesIO(bytes(300 << 20)))
    (tmp_path / "bomb.tar.gz").write_bytes(gzip.compress(file.getvalue(), 1))
    with pytest.raises(Exception, match="unpacks to more than"):
        IMAGES["archive"].measure(str(tmp_path / "bomb.tar.gz"), Options())
