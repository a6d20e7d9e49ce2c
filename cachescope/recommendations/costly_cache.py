"""Stop importing and exporting a cache that costs more than it saves.

Import and export take time in every build. Where the steps that hit are short, or hit rarely, the transfers take longer
than the steps would.

Fires when over at least five builds the timed transfers took longer than what the hits avoided, in sum and in most of
the builds. Try `mode=min`, a nearer cache, or none: no file is to be edited, the options belong to the command line.
"""

from collections.abc import Iterable

from cachescope import metrics
from cachescope.history import History, mean_and_interval
from cachescope.recommendations.base import Recommendation, is_worthwhile


class CostlyCache:
    """Holds the overhead against the time avoided."""

    def advise(self, history: History) -> Iterable[Recommendation]:
        """Look through a history."""
        losses = []
        for number in history.later_builds:
            build = history.builds[number].build
            overhead = metrics.cache_overhead(build)
            if not overhead:
                continue
            costs: list[float | None] = [None] * len(build.steps)
            for line in history.layer_instructions:
                for seen in history.observations(line):
                    if seen.build == number:
                        costs[seen.position] = history.cost(line)
            avoided = metrics.time_avoided(build.steps, costs)
            if avoided.hits_unknown:
                return
            losses.append(-metrics.net_saving(avoided.seconds, overhead))
        loss, interval = mean_and_interval(losses)
        if len(losses) < 5 or sum(x > 0 for x in losses) < 0.6 * len(losses) or not is_worthwhile(history, loss):
            return
        yield Recommendation(
            title="The cache costs more than it saves",
            why="Importing and exporting the cache takes longer than the steps that it spares.",
            evidence=(f"In {len(losses)} builds the transfers took {sum(losses):.0f} s more than the hits avoided.",),
            patch=None,
            order_safe=True,
            saving_seconds_per_build=loss,
            interval=interval,
        )


RECOMMENDATION = CostlyCache()
