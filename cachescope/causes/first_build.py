"""The image was never built before: there is nothing that could have been cached for it."""

from cachescope.causes.base import Verdict, Weight
from cachescope.pair import Pair


class FirstBuild:
    """Proven when there is no baseline, or when the baseline was not asked for this target or platform."""

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
        return _another_target(pair)


def _another_target(pair: Pair) -> Verdict | None:
    """A stage of a Dockerfile that both builds share was not built before when another target was asked for."""
    if pair.before is None or not pair.is_new_stage or not pair.background.ends_elsewhere:
        return None
    old, new = pair.before.invocation, pair.after.invocation
    if pair.has_both_dockerfiles and pair.instruction_before is None:
        return None
    if not pair.has_both_dockerfiles and pair.background.dockerfile_size_changed is not False:
        return None
    if old is not None and new is not None:
        if old.target == new.target:
            return None
        evidence = ("The earlier build was asked for another target and did not build this stage.",)
        return Verdict(weight=Weight.CERTAIN, evidence=evidence, expected=True)
    evidence = ("The earlier build may have been asked for another target: the command lines would tell.",)
    return Verdict(weight=Weight.POSSIBLE, evidence=evidence, expected=True)


CAUSE = FirstBuild()
