"""Pin a base image that keeps moving.

A tag can be pushed again at any time. When the image behind FROM moves, everything below it runs again, in builds whose
commit changed nothing of the kind. A digest beside the tag moves only when you move it, for instance with Renovate or
Dependabot:

    FROM node:20-slim@sha256:…

Fires when a base image was seen to move in the history and FROM does not name a digest. The patch pins the digest of
the latest build, so the next build is the same image. The saving is what those rebuilds cost; updates that you then
choose yourself cost again. A pinned image gets security fixes only when the pin is moved: that is for you to weigh.
"""

from collections.abc import Iterable
from itertools import pairwise

from cachescope.history import History, mean_and_interval
from cachescope.model import BaseImage
from cachescope.pair import is_same_image
from cachescope.recommendations.base import Recommendation, edit_lines, is_worthwhile, make_patch


class UnpinnedBaseImage:
    """Looks at the digests behind FROM over time."""

    def advise(self, history: History) -> Iterable[Recommendation]:
        """Look through a history."""
        if not history.builds:
            return
        for image in history.builds[-1].build.base_images:
            if image.digest and (found := _advise(history, image)) is not None:
                yield found


def _advise(history: History, image: BaseImage) -> Recommendation | None:
    digests = [
        other.digest
        for past in history.builds
        for other in past.build.base_images
        if other.reference == image.reference and other.platform == image.platform and other.digest
    ]
    moves = sum(a != b for a, b in pairwise(digests))
    stages = [
        stage
        for stage in history.dockerfile.stages
        if "$" not in stage.base and "@" not in stage.base and is_same_image(image.reference, stage.base)
    ]
    if not moves or not stages:
        return None
    costs = [
        sum(b.cost_seconds or 0.0 for b in comparison.breaks if b.cause == "base_image_changed")
        for comparison in history.comparisons[1:]
    ]
    saving, interval = mean_and_interval(costs)
    if not is_worthwhile(history, saving):
        return None
    edits = []
    for stage in stages:
        line = stage.instructions[0]
        text = history.dockerfile.text.split("\n")[line.first_line - 1]
        edits.append((line.first_line, line.first_line, [text.replace(stage.base, f"{stage.base}@{image.digest}", 1)]))
    return Recommendation(
        title=f"Pin {stages[0].base} to a digest",
        why="The tag moves without a commit of yours, and each time everything below FROM runs again.",
        evidence=(f"{image.reference} moved {moves} times in {len(history.builds)} builds.",),
        patch=make_patch(history.dockerfile_path, history.dockerfile.text, edit_lines(history, edits)),
        order_safe=True,
        saving_seconds_per_build=saving,
        interval=(max(0.0, interval[0]), interval[1]),
    )


RECOMMENDATION = UnpinnedBaseImage()
