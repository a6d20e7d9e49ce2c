"""Keep the cache where the next runner finds it.

Runners that begin empty have no cache but what they import. Exported to a registry (or the CI's own cache) and imported
by the next build, it serves every runner:

    --cache-to type=registry,ref=REGISTRY/APP:cache,mode=max
    --cache-from type=registry,ref=REGISTRY/APP:cache

`mode=max` keeps the steps of all stages; the default keeps those of the last stage only.

Fires when at least two builds, and a third of all, missed everything on an empty builder, and no build imported a cache
successfully. No file is to be edited: the options belong to the command line of the CI job. The saving leaves out what
import and export will cost; the interval begins at a third of it.
"""

from collections.abc import Iterable

from cachescope.history import History
from cachescope.recommendations.base import Recommendation, is_worthwhile


class NoCacheExport:
    """Looks for builders that began empty without importing."""

    def advise(self, history: History) -> Iterable[Recommendation]:
        """Look through a history."""
        builds = [history.comparisons[b] for b in history.later_builds]
        if any(t.succeeded for c in builds for t in c.build.cache_imports):
            return
        costs = [sum(b.cost_seconds or 0.0 for b in c.breaks if b.cause == "cache_lost") for c in builds]
        empty = sum(bool(c.breaks) and all(b.cause == "cache_lost" for b in c.breaks) for c in builds)
        if empty < 2 or 3 * empty < len(builds):
            return
        saving = sum(costs) / len(builds)
        if not is_worthwhile(history, saving):
            return
        exports = any(c.build.cache_exports for c in builds)
        yield Recommendation(
            title="Import the cache that is exported" if exports else "Export the cache and import it",
            why="The builder begins empty, so every step runs again although nothing changed.",
            evidence=(f"{empty} of {len(builds)} builds missed everything on an empty builder.",),
            patch=None,
            order_safe=True,
            saving_seconds_per_build=0.7 * saving,
            interval=(saving / 3, saving),
        )


RECOMMENDATION = NoCacheExport()
