"""The log formats of the builders, one module each."""

import sys

from cachescope.formats.base import LogFormat
from cachescope.plugins import discover

FORMATS: dict[str, LogFormat] = discover(sys.modules[__name__], "FORMAT")
