"""The log formats of the builders, one module each."""

import sys
from collections.abc import Callable

from cachescope.formats.base import LogFormat
from cachescope.model import LogReading
from cachescope.plugins import discover

FORMATS: dict[str, LogFormat] = discover(sys.modules[__name__], "FORMAT")

ARCHIVE_READERS: list[Callable[[bytes], LogReading | None]] = [
    sys.modules[f"{__name__}.{name}"].read_archive
    for name in FORMATS
    if hasattr(sys.modules[f"{__name__}.{name}"], "read_archive")
]
