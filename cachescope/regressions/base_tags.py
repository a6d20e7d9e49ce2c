"""A base image whose tag is moved again and again, so that everything above it is built anew."""

import math
import re
from collections.abc import Iterator

from cachescope.expectations import JudgedBuild
from cachescope.regressions.base import DAY, Finding, Incident, Series

KIND = "base_tags"
ENOUGH = 4.1
ENOUGH_FLOATING = 2.4
NORMAL_PER_DAY = 1 / 14
RESTLESS_PER_DAY = 1 / 1.4
_FLOATING = re.compile(r":(?:[\w.-]*[-.])?(?:nightly|latest|edge|dev|main|master|unstable|rolling|canary|snapshot)\b")


class BaseTags:
    """Watches how often each FROM resolves to a new digest: a Poisson CUSUM in days."""

    def observe(self, series: Series, judged: JudgedBuild) -> Iterator[Finding]:
        """Take in one build and yield a finding when a tag moves more often than bases do."""
        facts = series.facts.setdefault(KIND, {})
        build = judged.build
        changed = {text for text, _ in judged.new_digests}
        for step in judged.plan.steps:
            if not step.is_base or "@sha256:" in step.text:
                continue
            known = facts.get(step.text)
            if known is None:
                introduced = build.commit if series.builds else None
                facts[step.text] = {
                    "score": 0.0,
                    "digests": 0,
                    "at": build.at,
                    "commit": introduced,
                    "since": None,
                    "seconds": 0.0,
                }
                continue
            days = max(0.0, build.at - known["at"]) / DAY
            known["at"] = max(build.at, known["at"])
            known["score"] = max(0.0, known["score"] - (RESTLESS_PER_DAY - NORMAL_PER_DAY) * days)
            if known["score"] == 0.0:
                known["digests"], known["since"] = 0, None
            if step.text not in changed:
                continue
            known["score"] += math.log(RESTLESS_PER_DAY / NORMAL_PER_DAY)
            known["digests"] += 1
            known["since"] = known["since"] or {
                "build": build.id,
                "commit": build.commit,
                "at": build.at,
                "branch": build.branch,
            }
            known["last"] = build.at
            if incident := series.open_incident(KIND, step.text):
                incident.last_event_at = build.at
                continue
            floating = bool(_FLOATING.search(step.text))
            enough, digests = (ENOUGH_FLOATING, 2) if floating else (ENOUGH, 3)
            if known["score"] <= enough or known["digests"] < digests:
                continue
            victims = [layer for layer in judged.layers if layer.root is not None and layer.root.excuse == "base"]
            yield Finding(
                key=step.text,
                cause="base_retag",
                commit=known["commit"],
                instruction=step.text,
                since=known["since"],
                victims=[layer.step.text for layer in victims],
                seconds_per_build=sum(layer.seconds for layer in victims),
                evidence=f"{known['digests']} new digests behind {step.text} within a short time",
                group=f"base {step.text}",
            )

    def is_over(self, series: Series, incident: Incident, judged: JudgedBuild) -> bool:
        """Say whether the tag has rested for four days, or is no longer used."""
        known = series.facts.get(KIND, {}).get(incident.key)
        if judged.build.is_default_branch:
            used = any(step.text == incident.key for step in judged.plan.steps)
            incident.good_main_builds = 0 if used else incident.good_main_builds + 1
        hold = 4 * DAY * (2 if incident.reopened else 1)
        return known is None or incident.good_main_builds >= 2 or judged.build.at - incident.last_event_at >= hold


REGRESSION = BaseTags()
