"""A step that takes longer than it used to whenever it runs, on machines no slower than before."""

import math
from collections.abc import Iterator
from statistics import median
from typing import Any

from cachescope.expectations import JudgedBuild, Layer, trim
from cachescope.regressions.base import DAY, Finding, Incident, Series, mark
from cachescope.regressions.layer_misses import trim_absent

KIND = "duration"
PACES = "paces"
"""Runner → how much slower than usual its last builds were, in logarithms: for a build of which one step ran."""
ENOUGH = 10.0
DRIFT = 1.0
ORDINARY_PACE = 0.2
"""In logarithms: machines that differ by more than a fifth teach the levels no more than this."""


class Duration:
    """Watches the logarithm of each step's seconds, less what the rest of its build was slower."""

    def observe(self, series: Series, judged: JudgedBuild) -> Iterator[Finding]:
        """Take in one build and yield a finding for each step that has become slower."""
        facts = series.facts.setdefault(KIND, {})
        paces: dict[str, float] = series.facts.setdefault(PACES, {})
        runner = judged.build.runner or "-"
        pace = paces.get(runner, 0.0)
        ran = {layer.step.key: layer for layer in judged.layers if not layer.hit and layer.seconds >= 0.2}
        residuals = {key: math.log(layer.seconds) - facts[key]["level"] for key, layer in ran.items() if key in facts}
        for key, layer in ran.items():
            known = facts.get(key)
            if known is None:
                facts[key] = {
                    "level": math.log(layer.seconds),
                    "spread": 0.2,
                    "runs": 1,
                    "score": 0.0,
                    "count": 0,
                    "sum": 0.0,
                }
                continue
            others = [value for name, value in residuals.items() if name != key]
            residual = residuals[key] - (median(others) if others else pace)
            yield from self._step(series, judged, layer, known, residual)
        if len(residuals) > 1:
            paces[runner] = pace + 0.3 * (median(residuals.values()) - pace)
            trim(paces, 200)
        trim_absent(facts, {step.key for step in judged.plan.steps})

    def is_over(self, series: Series, incident: Incident, judged: JudgedBuild) -> bool:
        """Say whether the step is as fast again as it was."""
        known = series.facts.get(KIND, {}).get(incident.key)
        return known is None or (known.get("good", 0) >= 5 and judged.build.at - incident.opened_at >= DAY / 4)

    def _step(
        self, series: Series, judged: JudgedBuild, layer: Layer, known: dict[str, Any], residual: float
    ) -> Iterator[Finding]:
        key, text = layer.step.key, layer.step.text
        if incident := series.open_incident(KIND, key):
            is_slow = residual > known["shift"] / 2
            known["good"] = 0 if is_slow else known.get("good", 0) + 1
            if is_slow:
                incident.last_event_at = judged.build.at
            return
        z = max(-3.0, min(3.0, residual / max(0.08, known["spread"])))
        known["runs"] += 1
        if known["runs"] < 8:
            self._learn(known, layer.seconds, residual)
            return
        known["score"] = max(0.0, known["score"] + z - DRIFT)
        if known["score"] == 0.0:
            known["count"], known["sum"], known["since"] = 0, 0.0, None
            self._learn(known, layer.seconds, residual)
            return
        known["count"] += 1
        known["sum"] += residual
        known["since"] = known.get("since") or mark(judged)
        mean = known["sum"] / known["count"]
        usual = math.exp(known["level"])
        more = usual * (math.exp(mean) - 1)
        if known["score"] > ENOUGH and known["count"] >= 3 and mean > 0.33 and more > 2.0:
            known["shift"] = mean
            known["good"] = 0
            yield Finding(
                key=key,
                cause="duration",
                commit=known["since"]["commit"],
                instruction=text,
                since=known["since"],
                victims=[text],
                seconds_per_build=more,
                evidence=f"{text} takes {usual * math.exp(mean):.0f} s where it took {usual:.0f} s",
                metric="duration",
                group=f"duration {key}",
            )

    @staticmethod
    def _learn(known: dict[str, Any], seconds: float, residual: float) -> None:
        """Learn the level from the seconds as they are, unless the whole build was slow.

        Levels learned from residuals alone would drift together; levels learned through a slow day would make the one
        step that did not run then look slow after it.
        """
        weight = max(0.05, 1 / known["runs"])
        slowness = math.log(seconds) - known["level"] - residual
        usual = max(-ORDINARY_PACE, min(ORDINARY_PACE, slowness))
        known["level"] += weight * (residual + usual)
        known["spread"] += weight * (min(abs(residual), 1.0) * 1.25 - known["spread"])


REGRESSION = Duration()
