"""Import the cache that is exported.

A cache that is exported and never imported costs time and serves nobody. The next build must name it:

    --cache-from type=registry,ref=REGISTRY/APP:cache
    --cache-to type=registry,ref=REGISTRY/APP:cache,mode=max

Fires when builds export a cache, at least two of them and a third of all missed everything on an empty builder, and no
build imported a cache: they asked for none, or every import failed (another address than that of the export, no right
to read it). No file is to be edited: the option belongs to the command line of the CI job. The interval begins at a
third of the saving, for importing takes time too.
"""

from collections.abc import Iterable

from cachescope.history import History
from cachescope.recommendations._caches import Emptied, cache_words, emptied_builds
from cachescope.recommendations.base import Recommendation, is_worthwhile, join_words


class MissingCacheImport:
    """Looks for builders that began empty although a cache is exported."""

    def advise(self, history: History) -> Iterable[Recommendation]:
        """Look through a history."""
        found = emptied_builds(history)
        if not found.exports or found.imports or not found.is_usual or not is_worthwhile(history, found.saving):
            return
        yield Recommendation(
            title="Import the cache that is exported",
            why="The builder begins empty, and the cache that earlier builds exported is not imported.",
            evidence=(*_sentences(history, found), f"Add to the command: {cache_words(history, 'from')}"),
            patch=None,
            order_safe=True,
            saving_seconds_per_build=0.7 * found.saving,
            interval=(found.saving / 3, found.saving),
        )


def _sentences(history: History, found: Emptied) -> Iterable[str]:
    yield f"{found.empty} of {found.builds} builds missed everything on an empty builder."
    failed = {t.ref for past in history.builds[1:] for t in past.build.cache_imports if t.succeeded is False and t.ref}
    if failed:
        yield f"Every import failed: {join_words(sorted(failed), 3)}."


RECOMMENDATION = MissingCacheImport()
