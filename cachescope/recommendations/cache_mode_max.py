"""Export the steps of all stages with `mode=max`.

By default a cache export keeps the steps of the last stage only. On a builder that begins empty, the stages that
compile and install must then run from their first line as soon as one file changed:

    --cache-to type=registry,ref=REGISTRY/APP:cache,mode=max

Fires when a cache is exported and imported successfully, and in at least two builds and a third of all, steps of other
stages than the last one ran again without a change of their own, while no unchanged step of the last stage did. Silent
when the command is known to say `mode=max`. No file is to be edited: the option belongs to the command line of the CI
job. The interval begins at a third of the saving, for more is exported then.
"""

from collections.abc import Iterable

from cachescope.comparing import Comparison
from cachescope.history import History
from cachescope.invocation import read_invocation
from cachescope.recommendations._caches import cache_words
from cachescope.recommendations.base import Recommendation, is_worthwhile


class CacheModeMax:
    """Looks for stages that an imported cache does not hold."""

    def advise(self, history: History) -> Iterable[Recommendation]:
        """Look through a history."""
        if len(history.dockerfile.stages) < 2 or _says_max(history):
            return
        last = history.dockerfile.stages[-1].printed_name.lower()
        builds = [history.comparisons[b] for b in history.later_builds]
        costs = [_lost_in_other_stages(history, comparison, last) for comparison in builds]
        hit = sum(cost > 0 for cost in costs)
        saving = sum(costs) / len(builds) if builds else 0.0
        if hit < 2 or 3 * hit < len(builds) or not is_worthwhile(history, saving):
            return
        yield Recommendation(
            title="Export the cache with mode=max",
            why="The export keeps the last stage only: on an empty builder all other stages run from their first line.",
            evidence=(
                f"In {hit} of {len(builds)} builds unchanged steps of other stages ran again beside an imported cache.",
                f"Export with: {cache_words(history, 'to')}",
            ),
            patch=None,
            order_safe=True,
            saving_seconds_per_build=0.7 * saving,
            interval=(saving / 3, saving),
        )


def _says_max(history: History) -> bool:
    """Tell whether the command line is known to ask for it."""
    commands = [past.command for past in history.builds if past.command]
    return any("mode=max" in option for words in commands for option in read_invocation(words).cache_to)


def _lost_in_other_stages(history: History, comparison: Comparison, last: str) -> float:
    """Sum what ran again without a change, where an import succeeded and the last stage lost nothing; else 0."""
    build = comparison.build
    if not build.cache_exports or not any(t.succeeded for t in build.cache_imports):
        return 0.0
    lost = [
        b for b in comparison.breaks if b.cause == "cache_lost" or (b.cause == "unknown" and "cache_lost" in b.possible)
    ]
    if not lost or any((build.steps[b.position].stage or "").lower() in ("", last) for b in lost):
        return 0.0
    changed = {p for b in (*comparison.breaks, *comparison.masked) if b not in lost for p in (b.position, *b.cascade)}
    spared = {p for b in lost for p in (b.position, *b.cascade)} - changed
    return sum(build.steps[p].duration_seconds or 0.0 for p in spared)


RECOMMENDATION = CacheModeMax()
