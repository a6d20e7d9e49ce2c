"""Where images are measured: each module is one way, known by its name."""

import sys

from cachescope.plugins import discover
from integrations.images.base import ImageSource

IMAGES: dict[str, ImageSource] = discover(sys.modules[__name__], "IMAGES")
