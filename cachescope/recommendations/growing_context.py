"""Stop the build context from growing.

What the builder must be sent costs time before the first step, and a COPY of the whole context carries it into the
image. Folders that appear beside the sources (downloads, build output, test data) are the usual reason.

Fires when the context of the latest builds is at least half as large again as that of the first ones and larger than
20 MB. With the files of the repository at hand it names the largest folders. Only the classic builder and the first
transfer to a BuildKit builder tell the whole size, so builds on builders that already had a copy are left out.
"""

from collections import Counter
from collections.abc import Iterable
from statistics import median

from cachescope.history import History
from cachescope.recommendations.base import Recommendation, join_words

MIN_BYTES = 20_000_000
GROWTH = 1.5


class GrowingContext:
    """Compares the context of the first and the latest builds."""

    def advise(self, history: History) -> Iterable[Recommendation]:
        """Look through a history."""
        sizes = [
            size for number, past in enumerate(history.builds) if (size := _whole_context(history, number)) and past
        ]
        third = len(sizes) // 3
        if third < 2:
            return
        first, last = median(sizes[:third]), median(sizes[-third:])
        if last < MIN_BYTES or last < GROWTH * first:
            return
        yield Recommendation(
            title=f"The build context grew from {first / 1e6:.0f} to {last / 1e6:.0f} MB",
            why="Every fresh builder must be sent all of it before the first step.",
            evidence=(f"Over {len(sizes)} builds that sent the whole context.{_largest(history)}",),
            patch=None,
            order_safe=False,
            saving_seconds_per_build=None,
        )


def _whole_context(history: History, number: int) -> int | None:
    build = history.builds[number].build
    was_sent_whole = build.builder == "docker" or number == 0 or history.is_reset(number)
    return build.context_bytes if was_sent_whole else None


def _largest(history: History) -> str:
    sizes: Counter[str] = Counter()
    for path, size in (history.context_files or {}).items():
        sizes[path.split("/", 1)[0]] += size
    large = [f"{name} ({size / 1e6:.0f} MB)" for name, size in sizes.most_common(3) if size >= 1_000_000]
    return f" The largest: {join_words(large)}." if large else ""


RECOMMENDATION = GrowingContext()
