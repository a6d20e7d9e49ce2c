"""What to change so that builds hit more, one module each."""

import sys

from cachescope.plugins import discover
from cachescope.recommendations.base import Adviser

RECOMMENDATIONS: dict[str, Adviser] = discover(sys.modules[__name__], "RECOMMENDATION")
