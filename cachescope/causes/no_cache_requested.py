"""The build was asked not to use the cache: `--no-cache`, `--no-cache-filter` or `no-cache` of a bake target.

Only the command line proves it. A log fits when every step of the stage missed; BuildKit serves WORKDIR from cache even
then (seen with BuildKit 0.32), so a missed WORKDIR of BuildKit has another cause.
"""

from cachescope.causes.base import Verdict, Weight
from cachescope.pair import Pair


class NoCacheRequested:
    """Reads the command line where it is known, else looks whether the pattern of misses fits."""

    rank = 1

    def explain(self, pair: Pair) -> Verdict | None:
        """Judge one break."""
        if pair.before is None or (pair.is_buildkit and pair.keyword == "WORKDIR"):
            return None
        asked = _asked(pair)
        if asked is not None:
            if not asked:
                return None
            return Verdict(weight=Weight.CERTAIN, evidence=("The command line asks for no cache.",), expected=False)
        if not pair.has_same_text or not pair.has_same_place or not pair.is_first_of_stage:
            return None
        if not pair.is_buildkit and not pair.background.everything_missed:
            return None
        if pair.background.builder_is_empty or pair.stands_on_another_base:
            return None
        return Verdict(
            weight=Weight.POSSIBLE,
            evidence=("Every step of the stage missed: the command line would tell whether --no-cache was given.",),
            expected=False,
        )


def _asked(pair: Pair) -> bool | None:
    """Whether no cache was asked for; None where the command line is not known or leaves it to an unknown file."""
    target, stage = pair.step.target, pair.step.stage
    baked = pair.after.bake.get(target or "")
    if baked is not None and (baked.no_cache or (stage or "").lower() in baked.no_cache_stages):
        return True
    invocation = pair.after.invocation
    if invocation is None:
        return None
    if invocation.asks_for_no_cache(stage, target):
        return True
    if invocation.no_cache_targets and pair.is_hit_elsewhere:
        # What one target takes from cache, one that is built without it runs again, under the name of the first.
        return True
    if invocation.no_cache_stages and stage is None and pair.is_first_of_stage:
        return True
    return None if invocation.is_bake and not pair.after.bake else False


CAUSE = NoCacheRequested()
