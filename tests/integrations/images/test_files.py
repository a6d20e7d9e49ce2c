"""Twelve versions made with real builders, measured from the documents that were kept of them."""

import json
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from cachescope.errors import CachescopeError
from cachescope.images.comparing import attribute_growth, compare_images
from integrations.images import IMAGES
from integrations.images.base import MeasuringError, Options

FOLDER = Path(__file__).parent / "files"
SIZES = {row["version"]: row for row in json.loads((FOLDER / "sizes.json").read_text())}
# What each version changed, and so which instruction its growth or shrinkage is blamed on.
BLAMED = {
    2: "RUN pip install",
    3: "COPY . .",
    4: "COPY . .",
    5: "RUN pip install",
    6: "RUN apt-get update",
    7: "COPY . .",
    8: "RUN rm -f dataset.bin",
    9: "COPY . .",
    10: "RUN apt-get update",
    11: "COPY /deps /deps",
    12: None,
}


def measure(path: Path | str):
    return IMAGES["files"].measure(str(path), Options()).image


def version(number: int) -> Path:
    return FOLDER / f"v{number:02d}"


@pytest.mark.parametrize("number", sorted(SIZES))
def test_what_a_registry_keeps_is_measured_to_the_byte(number):
    image = measure(version(number))
    (platform,) = image.platforms
    assert platform.platform == "linux/amd64"
    assert platform.compressed_bytes == SIZES[number]["compressed_size"]
    assert platform.unpacked_bytes is None
    assert len(platform.layers) == SIZES[number]["layers"]
    metadata = json.loads((version(number) / "buildx.metadata.json").read_text())
    assert image.digest == metadata["containerimage.digest"]
    assert [layer.base for layer in platform.layers] == [True] + [False] * (len(platform.layers) - 1)
    assert image.warnings == ()


@pytest.mark.parametrize("number", sorted(SIZES))
@pytest.mark.parametrize("builder", ["classic", "buildkit"])
def test_what_an_engine_keeps_is_measured_to_the_byte(number, builder):
    (platform,) = measure(version(number) / f"{builder}.attrs.json").platforms
    told = json.loads((version(number) / f"{builder}.attrs.json").read_text())
    assert platform.unpacked_bytes == told["Size"] == sum(layer.unpacked_bytes for layer in platform.layers)
    assert [layer.diff_id for layer in platform.layers] == told["RootFS"]["Layers"]
    assert [layer.base for layer in platform.layers] == [True] + [False] * (len(platform.layers) - 1)
    if builder == "classic":
        assert platform.unpacked_bytes == SIZES[number]["uncompressed_size"]


def test_each_layer_is_matched_to_its_instruction():
    assert [layer.instruction for layer in measure(version(8)).platforms[0].layers] == [
        None,
        "RUN apt-get update && apt-get install -y --no-install-recommends procps curl",
        "WORKDIR /app",
        "COPY requirements.txt .",
        "RUN pip install --no-cache-dir -r requirements.txt",
        "COPY . .",
        "RUN rm -f dataset.bin",
    ]


@pytest.mark.parametrize("number", sorted(BLAMED))
def test_growth_is_blamed_on_the_instruction_that_made_it(number):
    (difference,) = compare_images(measure(version(number - 1)), measure(version(number)))
    blamed = difference.blamed
    expected = BLAMED[number]
    assert (blamed is None) if expected is None else blamed.instruction.startswith(expected)
    known = {layer.digest for layer in difference.before.layers}
    new = [layer.compressed_bytes for layer in difference.after.layers if layer.digest not in known]
    assert difference.pull_churn_bytes == sum(new)


@pytest.mark.parametrize("builder", ["oci", "classic", "buildkit"])
def test_the_growth_of_a_range_adds_up_to_what_the_image_grew(builder):
    name = "oci.manifest.json" if builder == "oci" else f"{builder}.attrs.json"
    versions = [measure(version(number) / name).platforms[0] for number in range(1, 10)]
    grown = attribute_growth(versions)
    sizes = [one.compressed_bytes if builder == "oci" else one.unpacked_bytes for one in versions]
    assert sum(one.growth_bytes for one in grown) == sizes[-1] - sizes[0]
    assert grown[0].instruction.startswith("RUN apt-get update")
    assert grown[0].largest_step == 5
    assert sum(one.growth_bytes > 0 for one in grown) >= 3


def test_every_version_changes_what_its_neighbour_does_not():
    for before, after in pairwise(range(1, 13)):
        (difference,) = compare_images(measure(version(before)), measure(version(after)))
        assert difference.compressed_growth == SIZES[after]["compressed_size"] - SIZES[before]["compressed_size"]


def test_a_platform_whose_manifest_is_not_there_is_listed_without_sizes(tmp_path):
    shutil.copytree(version(1), tmp_path / "image")
    index = json.loads((tmp_path / "image/oci.index.json").read_text())
    other = index["manifests"][0] | {
        "digest": f"sha256:{'0' * 64}",
        "platform": {"os": "linux", "architecture": "arm64"},
    }
    index["manifests"].append(other)
    (tmp_path / "image/oci.index.json").write_text(json.dumps(index))
    image = measure(tmp_path / "image")
    assert [(one.platform, one.compressed_bytes) for one in image.platforms] == [
        ("linux/amd64", SIZES[1]["compressed_size"]),
        ("linux/arm64", None),
    ]
    assert "linux/arm64" in image.warnings[0]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("oci.manifest.json", b"{"),
        ("oci.manifest.json", b"[]"),
        ("oci.manifest.json", b'{"layers": 3}'),
        ("oci.manifest.json", b'{"schemaVersion": 1}'),
        ("oci.manifest.json", b'{"mediaType": "application/vnd.cncf.helm.chart", "layers": []}'),
        ("oci.index.json", b'{"manifests": [{"digest": "x"}]}'),
        ("oci.manifest.json", b" " * 9_000_000),
    ],
)
def test_a_document_that_is_none_is_refused_in_a_sentence(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CachescopeError, match=r"\.$"):
        measure(tmp_path)


def test_a_folder_of_nothing_says_what_belongs_there(tmp_path):
    with pytest.raises(MeasuringError, match=r"oci\.manifest\.json"):
        measure(tmp_path)
    with pytest.raises(MeasuringError, match="There is no folder"):
        measure(tmp_path / "nowhere")
