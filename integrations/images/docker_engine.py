"""The local Docker engine, by the Docker SDK: inspect, history, and with `deep` what `docker save` streams.

https://docs.docker.com/reference/api/engine/ (ImageInspect, ImageHistory, ImageGet). DOCKER_HOST, DOCKER_TLS_VERIFY and
DOCKER_CERT_PATH say where the engine is, as for Docker's own command.
"""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from cachescope.errors import TooLargeError
from cachescope.images.engines import measure_engine_image
from cachescope.images.manifests import with_unpacked
from cachescope.images.model import MeasuredImage
from integrations.images.archive import read_archive
from integrations.images.base import ImageNotFoundError, Measurement, MeasuringError, Options

LARGEST_SAVED = 64 << 30
"""What of an image is written to a temporary file at most; `deep` needs its layers in order."""


class EngineImages:
    """Measures images of the local engine."""

    def measure(self, reference: str, options: Options) -> Measurement:
        """Measure by inspect and history; with `deep` the image is saved to a temporary file and read there."""
        # Loading the SDK takes as long as reading an archive, which does not need it.
        import docker  # noqa: PLC0415
        import docker.errors  # noqa: PLC0415
        import requests  # noqa: PLC0415

        try:
            client = docker.from_env(timeout=int(options.seconds))
        except (docker.errors.DockerException, requests.RequestException) as error:
            raise MeasuringError(_unreachable(error), again=True) from error
        try:
            image = client.images.get(reference)
            measured = measure_engine_image(reference, image.attrs, image.history(), options.hints)
            return self._deep(image, measured) if options.deep else Measurement(image=measured)
        except docker.errors.ImageNotFound as error:
            raise ImageNotFoundError(
                f'The engine has no image "{reference[:200]}". Build or pull it first, or measure it with --registry.'
            ) from error
        except (docker.errors.DockerException, requests.RequestException) as error:
            raise MeasuringError(_unreachable(error), again=True) from error
        finally:
            client.close()

    def _deep(self, image: Any, measured: MeasuredImage) -> Measurement:
        with tempfile.TemporaryDirectory(prefix="cachescope-") as folder:
            path = Path(folder, "image.tar")
            written = 0
            with path.open("wb") as file:
                for piece in image.save(chunk_size=1 << 20):
                    written += len(piece)
                    if written > LARGEST_SAVED:
                        raise TooLargeError(f"The image is larger than {LARGEST_SAVED >> 30} GiB.")
                    file.write(piece)
            saved = read_archive(str(path), str(path), deep=True)
        by_layers = {tuple(layer.diff_id for layer in one.layers): one for one in saved.image.platforms}
        platforms, contents = [], {}
        for platform in measured.platforms:
            found = by_layers.get(tuple(layer.diff_id for layer in platform.layers))
            if found is not None and found.platform in saved.contents:
                contents[platform.platform] = saved.contents[found.platform]
                if platform.unpacked_bytes is None:
                    platform = with_unpacked(platform, [layer.unpacked_bytes for layer in found.layers])
            platforms.append(platform)
        return Measurement(image=replace(measured, platforms=tuple(platforms)), contents=contents)


def _unreachable(error: Exception) -> str:
    return f"The Docker engine cannot be asked: {str(error)[:300]} DOCKER_HOST says where it is."


IMAGES = EngineImages()
