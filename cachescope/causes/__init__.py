"""The reasons why a step was not served from cache, one module each."""

import sys

from cachescope.causes.base import Cause
from cachescope.plugins import discover

CAUSES: dict[str, Cause] = discover(sys.modules[__name__], "CAUSE")
