"""The wrappers that CI systems put around the lines of a log, one module each."""

import sys

from cachescope.plugins import discover
from cachescope.prefixes.base import LinePrefix

PREFIXES: dict[str, LinePrefix] = discover(sys.modules[__name__], "PREFIX")
