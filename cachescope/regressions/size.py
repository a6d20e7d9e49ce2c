"""An image that has become larger and stays so."""

import math
from collections.abc import Iterator

from cachescope.expectations import JudgedBuild
from cachescope.regressions.base import Finding, Incident, Series, mark

KIND = "size"
STEP = 0.06
"""In logarithms: 6 % above the level, twice in a row."""


class Size:
    """Watches the logarithm of the image's size against a level learned from quiet builds; the main branch decides."""

    def observe(self, series: Series, judged: JudgedBuild) -> Iterator[Finding]:
        """Take in one build and yield a finding when two in a row, one of the default branch, are larger."""
        build = judged.build
        if not build.size_bytes or build.size_bytes <= 0:
            return
        now = math.log(build.size_bytes)
        known = series.facts.setdefault(KIND, {})
        if "level" not in known:
            known.update(level=now, builds=1, high=0, high_on_main=0, low=0, since=None, good=0)
            return
        over = now - known["level"]
        if series.open_incident(KIND, "image"):
            if build.is_default_branch:
                known["good"] = known["good"] + 1 if over < STEP / 2 else 0
            return
        if over > STEP:
            known["high"] += 1
            known["high_on_main"] += build.is_default_branch
            known["since"] = known["since"] or {**mark(judged), "bytes": build.size_bytes}
            if known["high"] >= 2 and known["high_on_main"]:
                grown = build.size_bytes - math.exp(known["level"])
                known["good"] = 0
                yield Finding(
                    key="image",
                    cause="size",
                    commit=known["since"]["commit"],
                    instruction=self._instruction(judged),
                    since=known["since"],
                    victims=[],
                    seconds_per_build=0.0,
                    evidence=f"the image grew by {grown / 1e6:.0f} MB, {100 * (math.exp(over) - 1):.0f} %",
                    metric="size",
                    group="size",
                )
            return
        known["high"], known["high_on_main"], known["since"] = 0, 0, None
        known["builds"] += 1
        known["low"] = known["low"] + 1 if over < -STEP else 0
        if known["low"] >= 3:
            known["level"], known["low"] = now, 0
        elif abs(over) <= STEP:
            known["level"] += max(0.1, 1 / known["builds"]) * over

    def is_over(self, series: Series, incident: Incident, judged: JudgedBuild) -> bool:
        """Say whether two builds in a row were as small again as before."""
        return bool(series.facts.get(KIND, {}).get("good", 0) >= 2)

    @staticmethod
    def _instruction(judged: JudgedBuild) -> str | None:
        """Blame the one instruction whose text is new; without the sizes of layers nothing else is known."""
        edited = [layer.step.text for layer in judged.layers if layer.excuse == "edit"]
        return edited[0] if len(edited) == 1 else None


REGRESSION = Size()
