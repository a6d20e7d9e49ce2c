"""Where builds are told of: one module for each kind of forge that takes comments and statuses."""

import sys

from cachescope.plugins import discover
from integrations.feedback.base import ForgeMaker

FORGES: dict[str, ForgeMaker] = discover(sys.modules[__name__], "FORGE")
