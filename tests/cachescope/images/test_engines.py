"""What an engine of either store says of an image."""

import json
from pathlib import Path
from typing import Any

import pytest

from cachescope.errors import CachescopeError
from cachescope.images.engines import measure_engine_image

KEPT = Path(__file__).parents[2] / "integrations/images/docker_engine"


def kept() -> tuple[Any, Any]:
    return tuple(json.loads((KEPT / f"classic.{kind}.json").read_text()) for kind in ("attrs", "history"))


def test_a_tag_of_an_earlier_version_is_no_base_image():
    attrs, history = kept()
    (platform,) = measure_engine_image("catalog:classic-12", attrs, history).platforms
    assert [layer.base for layer in platform.layers] == [True, False, False]


def test_the_containerd_store_says_unpacked_sizes_in_its_history_alone():
    attrs, history = kept()
    attrs |= {"Descriptor": {"digest": attrs["Id"], "mediaType": "application/vnd.oci.image.manifest.v1+json"}}
    (platform,) = measure_engine_image("app", attrs | {"GraphDriver": None, "Size": 41_000_000}, history).platforms
    assert platform.unpacked_bytes == 111_496_426
    assert platform.config_digest is None
    assert platform.digest == attrs["Id"]


def test_an_image_of_the_containerd_store_that_was_never_unpacked_has_no_unpacked_size():
    attrs, history = kept()
    empty = [row | {"Size": 0} for row in history]
    (platform,) = measure_engine_image("app", attrs | {"GraphDriver": None, "Size": 41_000_000}, empty).platforms
    assert platform.unpacked_bytes is None
    assert [layer.unpacked_bytes for layer in platform.layers] == [None] * 3


def test_a_history_of_another_image_gives_no_layer_a_size():
    attrs, history = kept()
    longer = [history[0] | {"Size": 7, "CreatedBy": "RUN x"}, *history]
    (platform,) = measure_engine_image("app", attrs, longer).platforms
    assert {layer.unpacked_bytes for layer in platform.layers} == {None}
    assert platform.unpacked_bytes == 111_496_426


@pytest.mark.parametrize(
    ("attrs", "history"),
    [
        ([], []),
        ({}, []),
        ({"RootFS": {"Layers": ["x"]}}, []),
        ({"RootFS": {"Layers": []}}, {}),
        ({"RootFS": {"Layers": []}}, [1]),
        ({"RootFS": {"Layers": []}}, [{}] * 20_000),
    ],
)
def test_what_is_no_answer_of_an_engine_is_one_sentence(attrs, history):
    with pytest.raises(CachescopeError, match=r"\.$"):
        measure_engine_image("app", attrs, history)


def test_an_image_without_layers_weighs_nothing():
    (platform,) = measure_engine_image(
        "app", {"RootFS": {"Layers": None}, "Size": 0, "GraphDriver": {"a": 1}}, []
    ).platforms
    assert (platform.unpacked_bytes, platform.layers, platform.platform) == (0, (), "unknown")
