"""One module for each CI system that can call us or be asked."""

import sys

from cachescope.plugins import discover
from integrations.ci.base import Provider

PROVIDERS: dict[str, Provider] = discover(sys.modules[__name__], "PROVIDER")
