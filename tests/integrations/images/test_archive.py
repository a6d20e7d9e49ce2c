"""Archives of real tools, and archives that mean harm."""

import gzip
import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from cachescope.errors import CachescopeError
from cachescope.images.manifests import digest_of
from integrations.images import IMAGES
from integrations.images.base import MeasuringError, Options

FOLDER = Path(__file__).parent / "archive"


def measure(path: Path | str, **options: bool):
    return IMAGES["archive"].measure(str(path), Options(**options))


@pytest.mark.parametrize("name", ["docker-save.tar", "docker-save.tar.gz"])
def test_what_docker_saved_is_measured_unpacked(name):
    (platform,) = measure(FOLDER / name).image.platforms
    assert [layer.unpacked_bytes for layer in platform.layers] == [0, 1499, 3]  # as docker history says
    assert platform.compressed_bytes is None
    assert [layer.digest for layer in platform.layers] == [None] * 3
    assert [layer.instruction.partition(" ")[0] for layer in platform.layers] == ["WORKDIR", "COPY", "COPY"]


def test_an_oci_archive_is_measured_both_ways():
    image = measure(FOLDER / "buildah-oci.tar").image
    (platform,) = image.platforms
    assert (platform.compressed_bytes, platform.unpacked_bytes) == (1093, 1502)
    assert image.digest == platform.digest


def test_an_oci_layout_may_be_a_folder(tmp_path):
    with tarfile.open(FOLDER / "buildah-oci.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    assert measure(tmp_path).image.platforms == measure(FOLDER / "buildah-oci.tar").image.platforms


def test_the_layers_tell_what_was_overwritten_and_what_is_largest():
    contents = measure(FOLDER / "docker-save.tar", deep=True).contents["linux/amd64"]
    assert contents.wasted_bytes == 1492
    assert [(one.path, one.layer, one.hidden_by, one.deleted) for one in contents.wasted] == [
        ("app/t/sub/two", 1, 2, False)
    ]
    assert contents.largest[0].path == "app/t/one"
    assert contents.complete


def layout(folder: Path, *layers: bytes, layer_type: str = "tar+gzip") -> Path:
    """Write an OCI layout with such layers."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)

    def keep(content: bytes, media_type: str) -> dict[str, object]:
        digest = digest_of(content)
        (blobs / digest.removeprefix("sha256:")).write_bytes(content)
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    config = {"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": [digest_of(one) for one in layers]},
              "history": [{"created_by": f"COPY {place} ."} for place in range(len(layers))]}  # fmt: skip
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": keep(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": [keep(layer, f"application/vnd.oci.image.layer.v1.{layer_type}") for layer in layers],
    }
    row = keep(json.dumps(manifest).encode(), manifest["mediaType"])
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [row]}))
    return folder


def tar(
    *members: tuple[str, bytes | int], kind: bytes = tarfile.REGTYPE, link: str = "", form: int = tarfile.GNU_FORMAT
) -> bytes:
    """Make a tar; a number as content is a size that nothing stands behind."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            member.size = len(content) if isinstance(content, bytes) else content
            archive.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
    return file.getvalue()


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_are_read_in_every_form_of_tar(tmp_path, form):
    name = "/".join(["folder" * 5] * 5 if form == tarfile.USTAR_FORMAT else ["ordner ü" * 20] * 20) + "/file"
    contents = measure(layout(tmp_path, tar((name, b"12345"), form=form)), deep=True).contents["linux/amd64"]
    assert [(one.path, one.size_bytes) for one in contents.largest] == [(name, 5)]


def test_a_bomb_is_streamed_and_changes_nothing_on_the_disk(tmp_path):
    bomb = gzip.compress(tar(("zeros", bytes(64 << 20))))
    (platform,) = measure(layout(tmp_path, bomb), deep=True).image.platforms
    assert platform.unpacked_bytes == 64 << 20


def test_names_that_lead_outside_are_only_names(tmp_path):
    layer = tar(("../../../../etc/passwd", b"x" * 10), ("/etc/shadow", b"y" * 5))
    contents = measure(layout(tmp_path / "in", layer), deep=True).contents["linux/amd64"]
    assert {one.path for one in contents.largest} == {"../../../../etc/passwd", "etc/shadow"}
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_are_never_followed(tmp_path, kind):
    (platform,) = measure(layout(tmp_path, tar(("link", b""), kind=kind, link="/etc/passwd"))).image.platforms
    assert platform.unpacked_bytes == (11 if kind == tarfile.SYMTYPE else 0)


def test_a_blob_outside_of_a_folder_is_not_read(tmp_path):
    (tmp_path / "secret").write_bytes(gzip.compress(tar(("secret", b"123"))))
    folder = layout(tmp_path / "layout", tar(("a", b"1")))
    for blob in (folder / "blobs/sha256").iterdir():
        if blob.read_bytes()[257:262] == b"ustar":
            blob.unlink()
            blob.symlink_to(tmp_path / "secret")
    (platform,) = measure(folder).image.platforms
    assert platform.unpacked_bytes is None


@pytest.mark.parametrize(
    "layer",
    [
        b"",
        b"not a tar at all",
        b"\x1f\x8b\x08\x00" + b"\xff" * 2000,
        gzip.compress(tar(("cut", b"x" * 5000)))[:-200],
        tar(("cut", b"x" * 5000))[:2000],
        tar(("size", b""))[:124] + b"77777777777\0" + tar(("size", b""))[136:],
    ],
)
def test_a_damaged_layer_is_one_sentence(tmp_path, layer):
    with pytest.raises(CachescopeError, match=r"(no tar|cut|unpacked|damaged|ends too early).*\.$"):
        measure(layout(tmp_path, layer))


def test_sparse_files_weigh_what_a_container_sees(tmp_path):
    source = tmp_path / "holes"
    with source.open("wb") as file:
        file.truncate(5_000_000)
        file.write(b"begin")
    for form in ("gnu", "posix"):
        subprocess.run(["tar", "-S", f"--format={form}", "-cf", f"{form}.tar", "holes"], cwd=tmp_path, check=True)
    for name in ("gnu.tar", "posix.tar"):
        (platform,) = measure(layout(tmp_path / f"{name}.d", (tmp_path / name).read_bytes())).image.platforms
        assert platform.unpacked_bytes == 5_000_000


def test_a_file_that_is_no_archive_says_so(tmp_path):
    (tmp_path / "file").write_bytes(b"hello")
    with pytest.raises(CachescopeError, match="no image archive"):
        measure(tmp_path / "file")
    with pytest.raises(MeasuringError, match="Cannot read"):
        measure(tmp_path / "nothing")
    (tmp_path / "other.tar").write_bytes(tar(("readme", b"1")))
    with pytest.raises(CachescopeError, match=r"neither index\.json nor manifest\.json"):
        measure(tmp_path / "other.tar")


def test_whiteouts_hide_files_and_whole_folders(tmp_path):
    below = tar(("a/b/one", b"1" * 10), ("a/b/two", b"2" * 20), ("c/three", b"3" * 30), ("keep", b"4" * 40))
    above = tar(("a/.wh.b", b""), ("c/.wh..wh..opq", b""), ("c/new", b"5" * 50), (".wh.missing", b""))
    contents = measure(layout(tmp_path, below, above), deep=True).contents["linux/amd64"]
    assert contents.wasted_bytes == 60
    assert {one.path: one.size_bytes for one in contents.largest} == {"c/new": 50, "keep": 40}


def test_a_file_written_again_with_its_size_is_a_rewrite_and_caches_are_named(tmp_path):
    below = tar(("srv/data", b"1" * 1000), ("var/lib/apt/lists/deb_main", b"2" * 500))
    above = tar(
        ("srv/data", b"1" * 1000),
    )
    contents = measure(layout(tmp_path, below, above), deep=True).contents["linux/amd64"]
    assert contents.rewritten == {(0, 1): 1000}
    assert [(one.name, one.size_bytes, one.layer) for one in contents.caches] == [("apt lists", 500, 0)]


def test_layers_that_docker_saved_unpacked_say_nothing_of_what_a_registry_keeps(tmp_path):
    folder = layout(tmp_path, tar(("a", b"1" * 10)), layer_type="tar")
    (folder / "manifest.json").write_text("[]")  # docker save since version 25 writes both
    (platform,) = measure(folder).image.platforms
    assert (platform.compressed_bytes, platform.unpacked_bytes) == (None, 10)
    assert platform.layers[0].digest is None


def test_an_archive_of_several_images_asks_for_a_name(tmp_path):
    one = layout(tmp_path, tar(("a", b"1" * 10)))
    index = json.loads((one / "index.json").read_text())
    second = layout(tmp_path / "two", tar(("b", b"2" * 30)))
    for blob in (second / "blobs/sha256").iterdir():
        (one / "blobs/sha256" / blob.name).write_bytes(blob.read_bytes())
    rows = index["manifests"] + json.loads((second / "index.json").read_text())["manifests"]
    for name, row in zip(("one", "two"), rows, strict=True):
        row["annotations"] = {"org.opencontainers.image.ref.name": name}
    (one / "index.json").write_text(json.dumps({"manifests": rows}))
    with pytest.raises(MeasuringError, match=r"name one, such as .*#one"):
        measure(one)
    assert measure(f"{one}#two").image.platforms[0].unpacked_bytes == 30
    with pytest.raises(MeasuringError, match="It holds: one, two"):
        measure(f"{one}#three")
