"""The image was never built before: there is nothing that could have been cached for it."""

from cachescope.causes.base import Verdict, Weight
from cachescope.pair import Pair


class FirstBuild:
    """Proven when there is no baseline, or when the baseline lacks this target or platform altogether."""

    rank = 0

    def explain(self, pair: Pair) -> Verdict | None:
        """Judge one break."""
        if pair.before is None:
            return Verdict(weight=Weight.CERTAIN, evidence=("There is no earlier build of this image.",), expected=True)
        place = (pair.step.target, pair.step.platform)
        known = pair.before.places
        if known and place not in known and any(place) and all(any(other) for other in known):
            what = " ".join(part for part in place if part)
            return Verdict(weight=Weight.CERTAIN, evidence=(f"The earlier build did not build {what}.",), expected=True)
        return None


CAUSE = FirstBuild()
