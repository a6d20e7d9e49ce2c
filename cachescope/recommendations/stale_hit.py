"""Rebuild a step whose cached result is out of date.

A step that asks the outside world for whatever is newest (`apt-get update`, `git clone` of a branch, a download of
`latest`) is served from cache for as long as its text stays the same. Every figure calls that a success, while the
image keeps old packages with known holes.

Fires when such a step hit in every build for at least two weeks and five builds. The ways out: pin what is fetched to
a version, key the step by an ARG that changes when it should (`ARG WEEK` with the week as its value), or rebuild its
stage on a schedule with `--no-cache-filter`. No patch is offered, for only you know which; nothing is saved in time.
"""

import re
from collections.abc import Iterable

from cachescope.dockerfile import Instruction
from cachescope.history import History
from cachescope.recommendations.base import Recommendation

MIN_DAYS = 14
MIN_BUILDS = 5

_MOVING = (
    (re.compile(r"\bapt(?:-get)? (?:-\S{1,20} ){0,3}(?:update|upgrade|dist-upgrade)\b"), "the package index"),
    (re.compile(r"\bapk (?:-\S{1,20} ){0,3}(?:update|upgrade)\b|\bapk add\b(?![^&;|]{0,500}=)"), "the package index"),
    (re.compile(r"\b(?:yum|dnf|microdnf) (?:-\S{1,20} ){0,3}(?:update|upgrade|install)\b"), "the package index"),
    (re.compile(r"\bgit clone\b(?![^&;|]{0,500}(?:--branch|-b) v?\d)"), "a git repository"),
    (re.compile(r"\b(?:curl|wget)\b[^&;|]{0,500}/(?:latest|master|main|HEAD|nightly)\b"), "a moving address"),
)


class StaleHit:
    """Looks at how long a step that fetches what is newest has been a hit."""

    def advise(self, history: History) -> Iterable[Recommendation]:
        """Look through a history."""
        for line in history.layer_instructions:
            what = next((name for pattern, name in _MOVING if pattern.search(line.text)), None)
            streak = _streak(history, line) if line.keyword == "RUN" and what else None
            if streak is None or what is None:
                continue
            builds, days = streak
            if builds < MIN_BUILDS or days < MIN_DAYS:
                continue
            yield Recommendation(
                title=f"Line {line.first_line} has been served from cache for {days:.0f} days",
                why=f"It reads {what}, whose contents change while the cached result stays as it is.",
                evidence=(f"`{line.text[:80]}` hit in {builds} builds in a row.",),
                patch=None,
                order_safe=False,
                saving_seconds_per_build=None,
            )


def _streak(history: History, line: Instruction) -> tuple[int, float] | None:
    """Return the latest run of hits: builds, and the days from its first to its last."""
    times = []
    for seen in reversed(history.observations(line)):
        if seen.missed:
            break
        at = history.builds[seen.build].build.started_at
        if at is not None:
            times.append(at)
    return (len(times), (times[0] - times[-1]) / 86400) if times else None


RECOMMENDATION = StaleHit()
