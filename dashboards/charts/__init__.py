"""The charts, by name."""

import sys

from cachescope.plugins import discover
from dashboards.charts.base import Chart

CHARTS: dict[str, Chart] = discover(sys.modules[__name__], "CHART")
