"""Kinds of regressions, one module each."""

import sys

from cachescope.plugins import discover
from cachescope.regressions.base import RegressionKind

REGRESSIONS: dict[str, RegressionKind] = discover(sys.modules[__name__], "REGRESSION")
