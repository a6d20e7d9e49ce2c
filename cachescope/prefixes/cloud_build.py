"""Google Cloud Build logs: the step's number and name in front of each line.

    Starting Step #0 - "build"
    Step #0 - "build": Already have image (with digest): gcr.io/cloud-builders/docker
    Step #0 - "build": Step 1/10 : FROM python:3.11-slim AS deps
    Step #1: Pushing gcr.io/project/app

Steps that wait for nothing run side by side, so each is a channel.
"""

import re

from cachescope.prefixes._stamps import share_of
from cachescope.prefixes.base import Line

_LINE = re.compile(rb'(Step #\d{1,4}(?: - "[^"\n]{0,256}")?):(?: |$)')


class _CloudBuild:
    wrapper = "cloud-build"

    def sniff(self, head: bytes) -> float:
        """Return a high score when a third of the lines or more carry a step."""
        return 0.96 if share_of(_LINE, head) > 0.3 else 0.0

    def strip(self, line: bytes) -> Line:
        """Take the step off: it names the channel."""
        line = line.rstrip(b"\r\n")
        match = _LINE.match(line)
        return Line(line) if match is None else Line(line[match.end() :], channel=match[1])


PREFIX = _CloudBuild()
