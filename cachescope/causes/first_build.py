"""The image was never built before: there is nothing that could have been cached for it."""

from cachescope.causes.base import Verdict, Weight
from cachescope.pair import Pair


class FirstBuild:
    """Answers only when there is no baseline, and then beyond doubt."""

    def explain(self, pair: Pair) -> Verdict | None:
        """Judge one break."""
        if pair.before is not None:
            return None
        return Verdict(weight=Weight.CERTAIN, evidence=("There is no earlier build of this image.",), expected=True)


CAUSE = FirstBuild()
