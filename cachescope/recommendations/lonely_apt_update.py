"""Join `apt-get update` with the install that follows.

`RUN apt-get update` on a line of its own hits for weeks, while the install below it runs again with another list of
packages: it then asks the mirror for versions that are long gone, and fails, or installs old ones. In one RUN both are
always of the same day:

    RUN apt-get update && apt-get install -y curl

Fires when a RUN that only updates the package index stands right above a RUN that begins with an install. The image is
the same; the saving is not one of time.
"""

import re
from collections.abc import Iterable
from itertools import pairwise

from cachescope.history import History
from cachescope.recommendations.base import Recommendation, edit_lines, make_patch

_UPDATE = re.compile(r"(?:apt-get|apt)(?: -y| -q{1,2}| --yes){0,3} update(?: -y| -q{1,2}){0,3}")
_INSTALL = re.compile(r"(?:DEBIAN_FRONTEND=\w{1,20} )?(?:apt-get|apt)(?: -[a-z]{1,4}| --[a-z-]{1,30}){0,5} install\b")


class LonelyAptUpdate:
    """Looks at neighbouring RUN lines."""

    def advise(self, history: History) -> Iterable[Recommendation]:
        """Look through a history."""
        for stage in history.dockerfile.stages:
            for update, install in pairwise(stage.instructions):
                if not (update.keyword == install.keyword == "RUN") or update.flags or install.flags:
                    continue
                if not _UPDATE.fullmatch(update.arguments) or not _INSTALL.match(install.arguments):
                    continue
                lines = history.dockerfile.text.split("\n")[install.first_line - 1 : install.last_line]
                command = lines[0].lstrip()[3:].lstrip()
                between = history.dockerfile.text.split("\n")[update.last_line : install.first_line - 1]
                joined = [*between, f"RUN {update.arguments} && {command}", *lines[1:]]
                edit = (update.first_line, install.last_line, joined)
                yield Recommendation(
                    title="Join apt-get update with the install that follows",
                    why="The index hits from cache for weeks while the install below asks for today's versions.",
                    evidence=(f"Lines {update.first_line} and {install.first_line} of the Dockerfile are apart.",),
                    patch=make_patch(history.dockerfile_path, history.dockerfile.text, edit_lines(history, [edit])),
                    order_safe=True,
                    saving_seconds_per_build=None,
                )


RECOMMENDATION = LonelyAptUpdate()
