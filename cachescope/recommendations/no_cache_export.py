"""Keep the cache where the next runner finds it.

Runners that begin empty have no cache but what they import. Exported to a registry (or the CI's own cache) and imported
by the next build, it serves every runner:

    --cache-to type=registry,ref=REGISTRY/APP:cache,mode=max
    --cache-from type=registry,ref=REGISTRY/APP:cache

`mode=max` keeps the steps of all stages; the default keeps those of the last stage only.

Fires when at least two builds, and a third of all, missed everything on an empty builder, and no build exported or
imported a cache. No file is to be edited: the options belong to the command line of the CI job. The saving leaves out
what import and export will cost; the interval begins at a third of it.
"""

from collections.abc import Iterable

from cachescope.history import History
from cachescope.recommendations._caches import cache_words, emptied_builds
from cachescope.recommendations.base import Recommendation, is_worthwhile


class NoCacheExport:
    """Looks for builders that began empty and export nothing."""

    def advise(self, history: History) -> Iterable[Recommendation]:
        """Look through a history."""
        found = emptied_builds(history)
        if found.exports or found.imports or not found.is_usual or not is_worthwhile(history, found.saving):
            return
        yield Recommendation(
            title="Export the cache and import it",
            why="The builder begins empty, so every step runs again although nothing changed.",
            evidence=(
                f"{found.empty} of {found.builds} builds missed everything on an empty builder.",
                f"Add to the command: {cache_words(history, 'to')} {cache_words(history, 'from')}",
            ),
            patch=None,
            order_safe=True,
            saving_seconds_per_build=0.7 * found.saving,
            interval=(found.saving / 3, found.saving),
        )


RECOMMENDATION = NoCacheExport()
